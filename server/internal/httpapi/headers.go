package httpapi

import "net/http"

// strictTransport is for a year (RFC 6797 §6.1.1). It does not speak for
// subdomains, which are not ours.
const strictTransport = "max-age=31536000"

// withSecurityHeaders sets what browsers should know about every answer: it is
// no page and belongs in none. A handler that serves a page replaces them.
// Strict-Transport-Security goes out over our own TLS only (RFC 6797 §7.2); a
// proxy that speaks TLS for us decides for itself.
func withSecurityHeaders(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
		h.Set("Referrer-Policy", "no-referrer")
		if r.TLS != nil {
			h.Set("Strict-Transport-Security", strictTransport)
		}
		next.ServeHTTP(w, r)
	})
}
