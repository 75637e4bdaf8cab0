package httpapi

import (
	"bufio"
	"net/http"
	"strings"
	"testing"

	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/fault"
	"github.com/tollgatehq/tollgate/server/internal/fault/faulttest"
)

// received is a request as net/http reads it from the wire.
func received(t *testing.T, line string, header ...string) *http.Request {
	t.Helper()
	text := line + " HTTP/1.1\r\nHost: own\r\n" + strings.Join(header, "\r\n")
	if len(header) > 0 {
		text += "\r\n"
	}
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(text + "\r\n")))
	backendtest.Must(t, err)
	return r
}

// What says what the client asks for, and what disagrees.
func TestDescribe(t *testing.T) {
	t.Parallel()
	caddy := []string{"X-Forwarded-Method: POST", "X-Forwarded-Host: a.example", "X-Forwarded-Uri: /orders/1?x=/2"}
	nginx := []string{"X-Original-Method: POST", "X-Original-URL: https://a.example/orders/1?x=http://b/"}
	with := func(list []string, more ...string) []string { return append(append([]string{}, list...), more...) }
	for name, test := range map[string]struct {
		line   string
		header []string
		want   string // method, host and path; empty: refused
	}{
		"Caddy, Traefik":            {"GET /v1/forward-auth", caddy, "POST a.example /orders/1"},
		"nginx":                     {"GET /v1/forward-auth", nginx, "POST a.example /orders/1"},
		"nginx, without a host":     {"GET /v1/forward-auth", []string{"X-Original-Method: GET", "X-Original-URI: /a%2Fb?q"}, "GET  /a%2Fb"},
		"Envoy":                     {"PUT /v1/forward-auth/orders/1?permission=public", nil, "PUT own /orders/1"},
		"Envoy, escapes":            {"GET /v1/forward-auth/%2e%2e/a//b/./c", nil, "GET own /%2e%2e/a//b/./c"},
		"Envoy, the root":           {"GET /v1/forward-auth/", nil, "GET own /"},
		"all, and they agree":       {"GET /v1/forward-auth", with(caddy, nginx...), "POST a.example /orders/1"},
		"a port":                    {"GET /v1/forward-auth", []string{"X-Original-Method: GET", "X-Original-URL: http://a:81/"}, "GET a:81 /"},
		"nothing":                   {"GET /v1/forward-auth", nil, ""},
		"no method":                 {"GET /v1/forward-auth", []string{"X-Original-URL: http://a/"}, ""},
		"no path":                   {"GET /v1/forward-auth", []string{"X-Original-Method: GET"}, ""},
		"another method":            {"GET /v1/forward-auth", with(nginx, "X-Forwarded-Method: GET"), ""},
		"another path":              {"GET /v1/forward-auth", with(nginx, "X-Forwarded-Uri: /public"), ""},
		"another URI":               {"GET /v1/forward-auth", with(nginx, "X-Original-URI: /public"), ""},
		"another host":              {"GET /v1/forward-auth", with(nginx, "X-Forwarded-Uri: /orders/1", "X-Forwarded-Host: b"), ""},
		"a host by itself":          {"GET /v1/forward-auth", with(nginx, "X-Forwarded-Host: b"), "POST a.example /orders/1"},
		"a host without a URI":      {"GET /v1/forward-auth", []string{"X-Original-Method: GET", "X-Original-URI: /", "X-Forwarded-Host: b"}, "GET  /"},
		"Envoy, another path":       {"GET /v1/forward-auth/admin", []string{"X-Forwarded-Uri: /public"}, ""},
		"Envoy, another method":     {"POST /v1/forward-auth/admin", []string{"X-Original-Method: GET"}, ""},
		"Envoy, another URL":        {"GET /v1/forward-auth/admin", []string{"X-Original-URL: http://own/public"}, ""},
		"Envoy, another escape":     {"GET /v1/forward-auth/a%62", []string{"X-Forwarded-Uri: /ab"}, ""},
		"twice":                     {"GET /v1/forward-auth", with(caddy, "X-Forwarded-Uri: /orders/1"), ""},
		"a method twice":            {"GET /v1/forward-auth", with(nginx, "X-Original-Method: POST"), ""},
		"a host twice":              {"GET /v1/forward-auth", with(caddy, "X-Forwarded-Host: a.example"), ""},
		"a URL without a path":      {"GET /v1/forward-auth", []string{"X-Original-Method: GET", "X-Original-URL: http://a"}, ""},
		"a URL without a host":      {"GET /v1/forward-auth", []string{"X-Original-Method: GET", "X-Original-URL: http:///x"}, ""},
		"a URL that is a path":      {"GET /v1/forward-auth", []string{"X-Original-Method: GET", "X-Original-URL: /x"}, ""},
		"our path with an escape":   {"GET /v1/forward%2Dauth/x", nil, ""},
		"our path with another one": {"GET /v1/%66orward-auth/x", nil, ""},
	} {
		d, err := describe(received(t, test.line, test.header...))
		if err == nil {
			err = d.complete()
		}
		if test.want == "" {
			faulttest.Want(t, err, fault.Invalid, "BAD_PROXY_REQUEST")
			continue
		}
		if got := d.method.value + " " + d.host.value + " " + d.path.value; err != nil || got != test.want {
			t.Errorf("%s: %q, %v, want %q", name, got, err, test.want)
		}
	}
}

// Behind the path the query is the client's, who could choose a permission.
func TestQuestionBehindThePathIsTheClients(t *testing.T) {
	t.Parallel()
	for _, line := range []string{
		"GET /v1/forward-auth/admin?permission=public:read", "GET /v1/forward-auth/?authenticated=true&audience=other",
		"GET /v1/forward-auth/admin?deny=403&headers=remote", "GET /v1/forward-auth/admin?permission=a&permission=b",
	} {
		if q, err := readQuestion(received(t, line)); err != nil || q != (question{}) {
			t.Errorf("%s: %+v, %v", line, q, err)
		}
	}
}
