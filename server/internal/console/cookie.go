package console

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"net"
	"net/http"
	"strings"

	"github.com/tollgatehq/tollgate/server/internal/caller"
)

const (
	cookieName = "tollgate"
	// maxCookie bounds, in bytes, what is looked at.
	maxCookie = 512
)

// secure says whether the browser reached this server by https. Without, only a
// loopback address is meant: there a cookie with Secure would not come back in every
// browser, and nobody is on the way.
func (s *session) secure(r *http.Request) bool {
	proxied := caller.From(r.Context()).TrustedPeer && strings.EqualFold(r.Header.Get("X-Forwarded-Proto"), "https")
	return r.TLS != nil || proxied || s.Secure
}

// cookie is the session's cookie with a value. It lives as long as the browser. Servers
// at other ports of the host have names of their own: browsers do not tell ports apart.
func (s *session) cookie(r *http.Request, value string) *http.Cookie {
	name, secure := cookieName, s.secure(r)
	if secure {
		name = "__Secure-" + name
	}
	if _, port, err := net.SplitHostPort(r.Host); err == nil && isPort(port) {
		name += "-" + port
	}
	return &http.Cookie{ //nolint:gosec // not Secure where the browser came by http: see secure
		Name: name, Value: value, Path: sessionPath, Secure: secure, HttpOnly: true, SameSite: http.SameSiteStrictMode,
	}
}

func isPort(text string) bool {
	return text != "" && len(text) <= 5 && strings.Trim(text, "0123456789") == ""
}

// keep has the browser keep a refresh token.
func (s *session) keep(w http.ResponseWriter, r *http.Request, token string) {
	http.SetCookie(w, s.cookie(r, token+"."+s.mark(token)))
}

// forget has the browser drop it.
func (s *session) forget(w http.ResponseWriter, r *http.Request) {
	c := s.cookie(r, "") //nolint:gosec // as above
	c.MaxAge = -1
	http.SetCookie(w, c)
}

// kept is the refresh token that the browser keeps. Ours says that the console gave it,
// and no other client.
func (s *session) kept(r *http.Request) (token string, ours bool) {
	named := r.CookiesNamed(s.cookie(r, "").Name)
	if len(named) != 1 || len(named[0].Value) > maxCookie { // two: another path's or host's, and who knows whose
		return "", false
	}
	token, mark, _ := strings.Cut(named[0].Value, ".")
	return token, hmac.Equal([]byte(mark), []byte(s.mark(token)))
}

func (s *session) mark(token string) string {
	sum := hmac.New(sha256.New, s.Seal)
	sum.Write([]byte(token))
	return base64.RawURLEncoding.EncodeToString(sum.Sum(nil))
}
