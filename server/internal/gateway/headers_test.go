package gateway_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/tollgatehq/tollgate/server/internal/app"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
)

// forged are headers that a client sends to look like somebody else, to come from
// elsewhere, or to have the service do something else. Each value has "forged" in it.
var forged = []string{
	"Tollgate-Principal: forged", "tollgate-principal: forged", "TOLLGATE-PRINCIPAL: forged", "Tollgate_Principal: forged",
	"tollgate_principal: forged", "Tollgate.Principal: forged", "Tollgate-Principal_: forged", "Tollgate-Assertion: forged",
	"Tollgate_Assertion: forged", "TOLLGATE_ASSERTION: forged", "Tollgate-Status: forged", "Tollgate-Anything: forged",
	"X-Tollgate-Key: forged", "X_Tollgate_Key: forged", "x-tollgate-user: forged",
	"Remote-User: forged", "remote-user: forged", "REMOTE_USER: forged", "Remote_Groups: forged", "Remote-Email: forged", "Remote-Name: forged",
	"X-Auth-Request-User: forged", "X_Auth_Request_Email: forged", "x-auth-request-groups: forged", "X-Auth-Request-Access-Token: forged",
	"X-Forwarded-User: forged", "X-Forwarded-Groups: forged", "X_Forwarded_Email: forged", "X-Forwarded-Preferred-Username: forged",
	"X-Forwarded-For: forged", "X_Forwarded_For: forged", "X-Forwarded-Host: forged", "X-Forwarded-Proto: forged", "X-Forwarded-Port: forged",
	"X-Forwarded-Prefix: /forged", "X-Forwarded-Method: forged", "X-Forwarded-Uri: /forged", "X-Forwarded-Server: forged", "Forwarded: for=forged",
	"X-Real-Ip: forged", "X_Real_IP: forged", "True-Client-Ip: forged", "X-Client-Ip: forged", "X-Cluster-Client-Ip: forged", "CF-Connecting-IP: forged",
	"X-Original-Url: /forged", "X-Original-Uri: /forged", "X_Original_URL: /forged", "X-Original-Method: forged", "X-Original-Host: forged", "X-Rewrite-Url: /forged",
	"X-HTTP-Method-Override: forged", "X_HTTP_Method_Override: forged", "X-HTTP-Method: forged", "X-Method-Override: forged",
	"Proxy: http://forged", "HTTP2-Settings: forged", "X_Request_Id: forged", "X-Request-Id: forged!",
	"Proxy-Authorization: forged", "Keep-Alive: forged", "Te: forged", "Upgrade: forged", "Authorization: Bearer forged",
	"Tollgate-Principal: " + strings.Repeat("forged", 2000),
	"Connection: close, Tollgate-Principal, Tollgate-Assertion, X-Forwarded-For, X-Request-Id\r\nTollgate-Principal: forged",
	"Connection: tollgate-assertion\r\nConnection: Via\r\nTollgate-Assertion: forged",
	"Tollgate-Principal: forged\r\nTollgate-Principal: forged\r\ntollgate_principal: forged",
	"Remote-User: forged,\r\n forged",
	"Trailer: Tollgate-Principal",
}

// wantOwn checks that a request has the gateway's own headers, each once, and
// nothing forged.
func wantOwn(t *testing.T, name string, r *http.Request) {
	t.Helper()
	for key, values := range r.Header {
		if strings.Contains(strings.Join(values, " "), "forged") {
			t.Errorf("%s: %s: %.60q arrives", name, key, values)
		}
	}
	for _, key := range []string{"Tollgate-Principal", "Tollgate-Assertion", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Request-Id", "Via"} {
		if len(r.Header[key]) != 1 || r.Header[key][0] == "" {
			t.Errorf("%s: %s is %q", name, key, r.Header[key])
		}
	}
	if len(r.Trailer) > 0 || r.Header.Get("Trailer") != "" {
		t.Errorf("%s: trailers %v arrive", name, r.Trailer)
	}
}

func TestForgedHeaders(t *testing.T) {
	t.Parallel()
	g := start(t, hello)
	for _, header := range forged {
		for _, path := range []string{"/orders/7", "/public/x"} {
			credential := "\r\nAuthorization: Bearer " + g.Token
			if strings.HasPrefix(header, "Authorization") {
				if path == "/public/x" {
					continue // there it is the service's
				}
				credential = ""
			}
			before := len(g.upstream.requests())
			res, answer := g.raw(t, "GET "+path+" HTTP/1.1\r\nHost: a.example\r\n"+header+credential+"\r\n\r\n")
			seen := g.upstream.requests()[before:]
			switch {
			case len(seen) == 1:
				wantOwn(t, header, seen[0])
			case credential != "" || res.StatusCode != 401:
				t.Errorf("%s: %s %s", header, res.Status, answer)
			}
		}
	}
	// All at once, and in a trailer.
	all := slices.DeleteFunc(slices.Clone(forged), func(h string) bool { return strings.HasPrefix(h, "Authorization") || len(h) > 1000 })
	g.raw(t, "POST /orders/7 HTTP/1.1\r\nHost: a.example\r\nAuthorization: Bearer "+g.Token+"\r\nTransfer-Encoding: chunked\r\nTrailer: Remote-User\r\n"+
		strings.Join(all, "\r\n")+"\r\n\r\n1\r\nx\r\n0\r\nRemote-User: forged\r\n\r\n")
	wantOwn(t, "all", g.upstream.last(t))
	t.Logf("%d forged headers, none arrived", len(forged))
}

// A trusted proxy's word about the client is passed on, but not about the host,
// which the decision was about.
func TestTrustedProxy(t *testing.T) {
	t.Parallel()
	g := start(t, hello, func(c *app.Config) { c.TrustedProxies = []string{"127.0.0.1"} })
	g.Call(t, "GET", "/orders/7", nil, "X-Forwarded-For", "192.0.2.7, 198.51.100.9", "X-Forwarded-Proto", "https", "X-Forwarded-Host", "forged", "Via", "1.1 edge", "Remote-User", "forged").Want(t, 200)
	seen := g.upstream.last(t)
	backendtest.Equal(t, seen.Header.Get("X-Forwarded-For"), "192.0.2.7, 198.51.100.9, 127.0.0.1", "X-Forwarded-For")
	backendtest.Equal(t, seen.Header.Get("X-Forwarded-Proto"), "https", "X-Forwarded-Proto")
	backendtest.Equal(t, seen.Header.Get("X-Forwarded-Host"), g.addr, "X-Forwarded-Host")
	backendtest.Equal(t, seen.Header.Get("Remote-User"), "", "Remote-User")
	backendtest.Equal(t, len(seen.Header["Via"]), 2, "values of Via")
	g.As("").Call(t, "GET", "/orders/7", nil, "X-Forwarded-For", "192.0.2.7, 198.51.100.9").Want(t, 401)
	events := g.api.Call(t, "GET", "/v1/audit/events?action=access.denied", nil).Want(t, 200).List("events")
	backendtest.Equal(t, fmt.Sprint(events[0]["ip"]), "198.51.100.9", "the address on record")
}
