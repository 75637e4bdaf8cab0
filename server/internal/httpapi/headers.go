package httpapi

import (
	"net/http"

	"github.com/tollgatehq/tollgate/server/internal/console"
)

// strictTransport is for a year (RFC 6797 §6.1.1). It does not speak for
// subdomains, which are not ours.
var strictTransport = []string{"max-age=31536000"}

// The values are shared by all answers: a handler that wants another sets its
// own and changes none of these.
var (
	noSniff    = []string{"nosniff"}
	noContent  = []string{"default-src 'none'; frame-ancestors 'none'"}
	noReferrer = []string{"no-referrer"}
)

// withSecurityHeaders sets what browsers should know about every answer that they
// may show: it is no page and belongs in none. The console's are pages.
// Strict-Transport-Security goes out over our own TLS only (RFC 6797 §7.2); a
// proxy that speaks TLS for us decides for itself.
func withSecurityHeaders(pages bool, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h, page := w.Header(), pages && console.Owns(r.URL.Path)
		switch {
		case page:
			console.SetHeaders(h)
		case framed(r): // gRPC and streams: no browser shows these
			next.ServeHTTP(w, r)
			return
		default:
			h["X-Content-Type-Options"] = noSniff
			h["Content-Security-Policy"] = noContent
			h["Referrer-Policy"] = noReferrer
		}
		if r.TLS != nil {
			h["Strict-Transport-Security"] = strictTransport
		}
		next.ServeHTTP(w, r)
	})
}
