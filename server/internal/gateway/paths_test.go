package gateway_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/apitest"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/routes"
	"github.com/tollgatehq/tollgate/server/internal/routes/routestest"
)

// startHostile has the routes of routestest, of which alice may call no more than
// the public ones and those of orders.
func startHostile(t *testing.T) (*gate, *routes.Table) {
	t.Helper()
	g := start(t, hello)
	g.api.Call(t, "DELETE", "/v1/routes/public", nil).Want(t, 200)
	g.api.Call(t, "DELETE", "/v1/routes/orders", nil).Want(t, 200)
	table, err := routes.NewTable(routestest.Routes())
	backendtest.Must(t, err)
	for _, r := range routestest.Routes() {
		g.route(t, r.Name, r.Path, apitest.Object{"permission": r.Permission, "public": r.Public})
	}
	return g, table
}

// expect is what must have come of a hostile target: exactly what was sent, for a
// route that its caller may use, or nothing.
func expect(t *testing.T, table *routes.Table, h routestest.Hostile, status int, seen []*http.Request) {
	t.Helper()
	allowed := h.Route != "" && h.Route != routestest.None && !strings.HasPrefix(h.Route, "admin")
	if (status == 200) != allowed || len(seen) > 1 || (len(seen) == 1) != allowed {
		t.Errorf("%q (%s): status %d, and the upstream saw %d requests, for the route %q", h.Target, h.About, status, len(seen), h.Route)
	}
	for _, r := range seen {
		if r.RequestURI != h.Target {
			t.Errorf("%q (%s) arrived as %q", h.Target, h.About, r.RequestURI)
		}
		m, found, err := table.Match(r.Method, "", r.RequestURI)
		if err != nil || !found || m.Route.Name != h.Route {
			t.Errorf("%q (%s) arrived at the route %+v, not %q: %v", h.Target, h.About, m.Route, h.Route, err)
		}
	}
}

// Each hostile path reaches the upstream as it was decided about, or not at all.
func TestHostilePaths(t *testing.T) {
	t.Parallel()
	g, table := startHostile(t)
	for _, h := range routestest.HostilePaths {
		before := len(g.upstream.requests())
		res, _ := g.raw(t, "GET "+h.Target+" HTTP/1.1\r\nHost: a.example\r\nAuthorization: Bearer "+g.Token+"\r\n\r\n")
		expect(t, table, h, res.StatusCode, g.upstream.requests()[before:])
	}
}

// HTTP/2 lets through what HTTP/1.1 could not say.
func TestHostilePathsOverHTTP2(t *testing.T) {
	t.Parallel()
	g, table := startHostile(t)
	h2c := &http.Transport{Protocols: new(http.Protocols)}
	h2c.Protocols.SetUnencryptedHTTP2(true)
	t.Cleanup(h2c.CloseIdleConnections)
	send := func(method, target, query string) int {
		t.Helper()
		req := &http.Request{
			Method: method, Host: "a.example", Header: http.Header{"Authorization": {"Bearer " + g.Token}},
			URL: &url.URL{Scheme: "http", Host: g.addr, Opaque: target, RawQuery: query},
		}
		wait := apitest.Timeout
		if _, err := url.ParseRequestURI(target + "?" + query); err != nil {
			wait = 100 * time.Millisecond // the server resets the stream, and the client tries again
		}
		ctx, cancel := context.WithTimeout(t.Context(), wait)
		defer cancel()
		res, err := h2c.RoundTrip(req.WithContext(ctx))
		if err != nil {
			return 0 // the client refuses to send it, or the server to read it
		}
		defer res.Body.Close()
		return res.StatusCode
	}
	for _, h := range routestest.HostilePaths {
		before := len(g.upstream.requests())
		expect(t, table, h, send("GET", h.Target, ""), g.upstream.requests()[before:])
	}
	before := len(g.upstream.requests())
	for _, query := range []string{"x HTTP/1.1", "x HTTP/1.0\r\nHost: b", "x\x00", "x#/../admin", " "} {
		if status := send("GET", "/public/x", query); status == 200 {
			t.Errorf("the query %q has status %d", query, status)
		}
	}
	backendtest.Equal(t, len(g.upstream.requests()), before, "requests that the upstream saw of hostile queries")
	if send("GET", "/public/x", "a;b=%zz&c") != 200 || g.upstream.last(t).RequestURI != "/public/x?a;b=%zz&c" {
		t.Errorf("an odd query arrives as %s", g.upstream.last(t).RequestURI)
	}
}

// Forms of requests, as the bytes that a client sends and the status that it gets; a
// path is what the upstream must have seen.
func TestFormsOfRequests(t *testing.T) {
	t.Parallel()
	g := start(t, func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		hello(w, r)
	})
	g.route(t, "for-a-host", "/hosted", apitest.Object{"public": true, "host": "a.example"})
	const rest = " HTTP/1.1\r\nHost: a.example\r\n\r\n"
	for name, test := range map[string]struct{ sent, status, seen, host string }{
		"origin form":                 {"GET /public/x?y" + rest, "200", "/public/x?y", "a.example"},
		"an empty query":              {"GET /public/x?" + rest, "200", "/public/x?", "a.example"},
		"absolute form":               {"GET http://a.example/hosted?y" + rest, "200", "/hosted?y", "a.example"},
		"the host of an absolute one": {"GET http://a.example/hosted HTTP/1.1\r\nHost: b.example\r\nConnection: close\r\n\r\n", "200", "/hosted", "a.example"},
		"not that of the header":      {"GET http://b.example/hosted" + rest, "403", "", ""},
		"another scheme":              {"GET ftp://a.example/public/x" + rest, "400", "", ""},
		"a user in it":                {"GET http://u:p@a.example/public/x" + rest, "400", "", ""},
		"no path in it":               {"GET http://a.example" + rest, "400", "", ""},
		"a query for a path":          {"GET http://a.example?/public/x" + rest, "400", "", ""},
		"no host in it":               {"GET http:///public/x" + rest, "400", "", ""},
		"opaque":                      {"GET http:public/x" + rest, "400", "", ""},
		"asterisk":                    {"OPTIONS *" + rest, "400", "", ""},
		"CONNECT":                     {"CONNECT a.example:443" + rest, "501", "", ""},
		"CONNECT with a path":         {"CONNECT /public/x" + rest, "501", "", ""},
		"TRACE":                       {"TRACE /public/x" + rest, "501", "", ""},
		"a method in lower case":      {"get /public/x" + rest, "403", "", ""},
		"a method of its own":         {"PURGE /public/x" + rest, "200", "/public/x", "a.example"},
		"a fragment":                  {"GET /public/x#y" + rest, "400", "", ""},
		"a fragment in the query":     {"GET /public/x?y#z" + rest, "400", "", ""},
		"HTTP/1.0":                    {"GET /public/x HTTP/1.0\r\nHost: a.example\r\n\r\n", "200", "/public/x", "a.example"},
		"HTTP/1.0 without a host":     {"GET /public/x HTTP/1.0\r\n\r\n", "400", "", ""},
		"HTTP/1.1 without a host":     {"GET /public/x HTTP/1.1\r\n\r\n", "400", "", ""},
		"two hosts":                   {"GET /public/x HTTP/1.1\r\nHost: a.example\r\nHost: b.example\r\n\r\n", "400", "", ""},
		"a bad host":                  {"GET /public/x HTTP/1.1\r\nHost: a.example/b\r\nConnection: close\r\n\r\n", "400", "", ""},
		"a number for a host":         {"GET /public/x HTTP/1.1\r\nHost: 0x7f.1\r\nConnection: close\r\n\r\n", "400", "", ""},
		"lengths that disagree":       {"POST /public/x HTTP/1.1\r\nHost: a.example\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", "400", "", ""},
		"an unknown coding":           {"POST /public/x HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: xchunked\r\n\r\n", "501", "", ""},
		"two codings":                 {"POST /public/x HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked, identity\r\n\r\n", "501", "", ""},
		"a space before the colon":    {"GET /public/x HTTP/1.1\r\nHost: a.example\r\nContent-Length : 3\r\n\r\nabc", "400", "", ""},
		"a long header":               {"GET /public/x HTTP/1.1\r\nHost: a.example\r\nA: " + strings.Repeat("a", 64<<10) + "\r\n\r\n", "431", "", ""},
		"a long path":                 {"GET /public/" + strings.Repeat("a", 5000) + rest, "400", "", ""},
	} {
		before := len(g.upstream.requests())
		res, answer := g.raw(t, test.sent)
		if !strings.HasPrefix(res.Status, test.status) {
			t.Errorf("%s: %s %s, want %s", name, res.Status, answer, test.status)
		}
		seen := g.upstream.requests()[before:]
		switch {
		case test.seen == "" && len(seen) > 0:
			t.Errorf("%s: the upstream saw %s", name, seen[0].RequestURI)
		case test.seen != "" && (len(seen) != 1 || seen[0].RequestURI != test.seen || seen[0].Host != test.host):
			t.Errorf("%s: the upstream saw %d requests, want %s", name, len(seen), test.seen)
		}
	}
}

// A body with two lengths (RFC 9112 §6.3) is one request to the upstream, too.
func TestNoSmuggledRequests(t *testing.T) {
	t.Parallel()
	g := start(t, func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		hello(w, r)
	})
	const smuggled = "GET /orders/7 HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n"
	for name, head := range map[string]string{
		"CL.TE":           "Content-Length: 60\r\nTransfer-Encoding: chunked\r\n",
		"TE.CL":           "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n",
		"an odd spelling": "Transfer-Encoding: Chunked\r\nContent-Length: 4\r\n",
	} {
		before := len(g.upstream.requests())
		conn, err := net.Dial("tcp", g.addr)
		backendtest.Must(t, err)
		_, err = io.WriteString(conn, "POST /public/x HTTP/1.1\r\nHost: a.example\r\n"+head+"\r\n0\r\n\r\n"+smuggled)
		backendtest.Must(t, err)
		answers, err := io.ReadAll(conn)
		backendtest.Must(t, err)
		conn.Close()
		// What follows the body is a request of its own, and decided about.
		for _, r := range g.upstream.requests()[before:] {
			if r.RequestURI != "/public/x" {
				t.Errorf("%s: the upstream saw %s", name, r.RequestURI)
			}
		}
		if strings.Count(string(answers), "HTTP/1.1 200") != 1 {
			t.Errorf("%s: %s", name, answers)
		}
	}
}
