package console

import (
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/tollgatehq/tollgate/server/internal/caller"
)

// TestCookie: by https the cookie is Secure, and by its name no page of plain http can
// have set it.
func TestCookie(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, host string
		issuer     bool // is https
		tls, proxy bool
		forwarded  string
		want       string
		wantSecure bool
	}{
		{name: "loopback", host: "localhost:8000", want: "tollgate-8000"},
		{name: "no port", host: "localhost", want: "tollgate"},
		{name: "IPv6", host: "[::1]:8000", want: "tollgate-8000"},
		{name: "a port that is none", host: "localhost:80x;a", want: "tollgate"},
		{name: "TLS", host: "auth.example.com", tls: true, want: "__Secure-tollgate", wantSecure: true},
		{name: "TLS at a port", host: "auth.example.com:8443", tls: true, want: "__Secure-tollgate-8443", wantSecure: true},
		{name: "an https issuer", host: "auth.example.com", issuer: true, want: "__Secure-tollgate", wantSecure: true},
		{name: "a proxy with TLS", host: "auth.example.com", proxy: true, forwarded: "https", want: "__Secure-tollgate", wantSecure: true},
		{name: "a proxy without", host: "auth.example.com", proxy: true, forwarded: "http", want: "tollgate"},
		{name: "anybody's header", host: "auth.example.com", forwarded: "https", want: "tollgate"},
	} {
		s := &session{Options{Secure: c.issuer, Seal: []byte("key")}}
		r := httptest.NewRequestWithContext(caller.With(t.Context(), caller.Caller{TrustedPeer: c.proxy}), "POST", "/console/session/refresh", nil)
		r.Host = c.host
		if c.tls {
			r.TLS = &tls.ConnectionState{}
		}
		if c.forwarded != "" {
			r.Header.Set("X-Forwarded-Proto", c.forwarded)
		}
		w := httptest.NewRecorder()
		s.keep(w, r, "tgr_x")
		set := w.Result().Cookies()[0]
		if set.Name != c.want || set.Secure != c.wantSecure || !set.HttpOnly || set.SameSite != http.SameSiteStrictMode ||
			set.Path != "/console/session" || set.Domain != "" || set.MaxAge != 0 || !set.Expires.IsZero() {
			t.Errorf("%s: %s", c.name, w.Header().Get("Set-Cookie"))
		}
		w = httptest.NewRecorder()
		s.forget(w, r)
		if gone := w.Result().Cookies()[0]; gone.Name != c.want || gone.MaxAge >= 0 || gone.Path != set.Path || gone.Secure != c.wantSecure {
			t.Errorf("%s: forgotten by %s", c.name, w.Header().Get("Set-Cookie"))
		}
	}
}

// TestKept: only a cookie that the console gave is the console's own.
func TestKept(t *testing.T) {
	t.Parallel()
	s := &session{Options{Seal: []byte("key")}}
	good := "tgr_x." + s.mark("tgr_x")
	for value, want := range map[string]struct {
		token string
		ours  bool
	}{
		"tollgate=" + good: {"tgr_x", true},
		"tollgate=tgr_x." + (&session{Options{Seal: []byte("other")}}).mark("tgr_x"): {"tgr_x", false},
		"tollgate=tgr_y." + s.mark("tgr_x"):                                          {"tgr_y", false},
		"tollgate=tgr_x":                                                             {"tgr_x", false},
		"tollgate=tgr_x.":                                                            {"tgr_x", false},
		"tollgate=":                                                                  {},
		"":                                                                           {},
		"other=" + good:                                                              {},
		"__Secure-tollgate=" + good:                                                  {},
		"tollgate=" + good + "; tollgate=tgr_y":                                      {},
		"tollgate=" + strings.Repeat("x", 600):                                       {},
	} {
		r := httptest.NewRequestWithContext(t.Context(), "POST", "/console/session/refresh", nil)
		r.Host = "localhost"
		r.Header.Set("Cookie", value)
		if token, ours := s.kept(r); token != want.token || ours != want.ours {
			t.Errorf("%.80s: %q, %v", value, token, ours)
		}
	}
}
