package routes

import (
	"fmt"
	"strings"
	"testing"

	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/fault/faulttest"
)

func TestNormalRefuses(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("a", 300)
	for _, c := range []struct {
		field  string
		change func(*Route)
	}{
		{"name", func(r *Route) { r.Name = "Bad" }},
		{"name", func(r *Route) { r.Name = "" }},
		{"name", func(r *Route) { r.Name = "match" }},
		{"description", func(r *Route) { r.Description = "\x00" }},
		{"description", func(r *Route) { r.Description = strings.Repeat("a", 513) }},
		{"host", func(r *Route) { r.Host = "a.example:80" }},
		{"host", func(r *Route) { r.Host = "*" }},
		{"host", func(r *Route) { r.Host = "*." }},
		{"host", func(r *Route) { r.Host = "a.*.example" }},
		{"host", func(r *Route) { r.Host = "*.192.0.2.1" }},
		{"host", func(r *Route) { r.Host = "*.a.example:80" }},
		{"host", func(r *Route) { r.Host = "*.[::1]" }},
		{"host", func(r *Route) { r.Host = "[::1]:80" }},
		{"host", func(r *Route) { r.Host = "fe80::1%eth0" }},
		{"host", func(r *Route) { r.Host = "127.1" }},
		{"host", func(r *Route) { r.Host = "http://a.example" }},
		{"host", func(r *Route) { r.Host = long }},
		{"methods[1]", func(r *Route) { r.Methods = []string{"GET", "get"} }},
		{"methods[0]", func(r *Route) { r.Methods = []string{""} }},
		{"methods[0]", func(r *Route) { r.Methods = []string{"A B"} }},
		{"methods[0]", func(r *Route) { r.Methods = []string{"\u00c4"} }},
		{"methods[0]", func(r *Route) { r.Methods = []string{"*@"} }},
		{"methods", func(r *Route) { r.Methods = make([]string, 17) }},
		{"path", func(r *Route) { r.Path = "" }},
		{"path", func(r *Route) { r.Path = "orders" }},
		{"path", func(r *Route) { r.Path = "//" }},
		{"path", func(r *Route) { r.Path = "/a//b" }},
		{"path", func(r *Route) { r.Path = "/a//" }},
		{"path", func(r *Route) { r.Path = "/a/../b" }},
		{"path", func(r *Route) { r.Path = "/a/%2e" }},
		{"path", func(r *Route) { r.Path = "/a%2fb" }},
		{"path", func(r *Route) { r.Path = "/a%zz" }},
		{"path", func(r *Route) { r.Path = "/a%2561" }},
		{"path", func(r *Route) { r.Path = "/a;b" }},
		{"path", func(r *Route) { r.Path = "/a?b" }},
		{"path", func(r *Route) { r.Path = "/a#b" }},
		{"path", func(r *Route) { r.Path = "/a b" }},
		{"path", func(r *Route) { r.Path = "/*" }},
		{"path", func(r *Route) { r.Path = "/a/**" }},
		{"path", func(r *Route) { r.Path = "/:id" }},
		{"path", func(r *Route) { r.Path = "/{}" }},
		{"path", func(r *Route) { r.Path = "/{...}" }},
		{"path", func(r *Route) { r.Path = "/{Id}" }},
		{"path", func(r *Route) { r.Path = "/{a-b}" }},
		{"path", func(r *Route) { r.Path = "/{a" }},
		{"path", func(r *Route) { r.Path = "/a}" }},
		{"path", func(r *Route) { r.Path = "/x{a}" }},
		{"path", func(r *Route) { r.Path = "/{a}{b}" }},
		{"path", func(r *Route) { r.Path = "/{a}.html" }},
		{"path", func(r *Route) { r.Path = "/{a...}/b" }},
		{"path", func(r *Route) { r.Path = "/{a....}" }},
		{"path", func(r *Route) { r.Path = "/{a}/b/{a}" }},
		{"path", func(r *Route) { r.Path = "/{a}/{a...}" }},
		{"path", func(r *Route) { r.Path = strings.Repeat("/a", 33) }},
		{"path", func(r *Route) { r.Path = "/" + strings.Repeat("a", 1024) }},
		{"permission", func(r *Route) { r.Permission = "" }},
		{"permission", func(r *Route) { r.Permission = "orders:*" }},
		{"permission", func(r *Route) { r.Permission = "tollgate:users:read" }},
		{"permission", func(r *Route) { r.Permission, r.Public = "tollgate:users:read", true }},
		{"public", func(r *Route) { r.Public, r.Authenticated = true, true }},
		{"resource", func(r *Route) { r.Resource = "orders/{other}" }},
		{"resource", func(r *Route) { r.Resource = "orders/{id" }},
		{"resource", func(r *Route) { r.Resource = "orders/id}" }},
		{"resource", func(r *Route) { r.Resource = "orders/{{id}}" }},
		{"resource", func(r *Route) { r.Resource = "orders/{id...}" }},
		{"resource", func(r *Route) { r.Resource = "\xff" }},
		{"resource", func(r *Route) { r.Resource = long }},
		{"cost", func(r *Route) { r.Cost = -1 }},
		{"cost", func(r *Route) { r.Cost = 1_000_001 }},
		{"context", func(r *Route) { r.Context = map[string]string{"": "a"} }},
		{"context", func(r *Route) { r.Context = map[string]string{"a": "{other}"} }},
		{"context", func(r *Route) { r.Context = map[string]string{"a": long} }},
		{"context", func(r *Route) { r.Context = map[string]string{long: "a"} }},
		{"context", func(r *Route) {
			r.Context = map[string]string{}
			for n := range 33 {
				r.Context[fmt.Sprint(n)] = "a"
			}
		}},
	} {
		r := Route{Name: "good", Path: "/orders/{id}", Permission: "orders:read"}
		c.change(&r)
		_, err := r.Normal()
		faulttest.WantField(t, err, c.field)
		if t.Failed() {
			t.Fatalf("%+v", r)
		}
	}
}

func TestUpstreams(t *testing.T) {
	t.Parallel()
	normal := func(upstream string) (string, error) {
		r, err := Route{Name: "good", Path: "/", Public: true, Upstream: upstream}.Normal()
		return r.Upstream, err
	}
	for upstream, want := range map[string]string{
		"": "", "http://orders": "http://orders", "HTTPS://Orders.example:8443/": "https://orders.example:8443", "http://10.0.0.1:80": "http://10.0.0.1:80",
		"http://127.0.0.1": "http://127.0.0.1", "http://[2001:db8::1]:80": "http://[2001:db8::1]:80", "http://orders:": "http://orders",
	} {
		got, err := normal(upstream)
		backendtest.Must(t, err)
		backendtest.Equal(t, got, want, "%s", upstream)
	}
	for _, upstream := range []string{
		"orders", "orders:80", "//orders", "http:orders", "http://", "ftp://orders", "unix:///run/x", "http://orders/path", "http://orders/%2f", "http://orders?", "http://orders?a=b",
		"http://orders#", "http://u:p@orders", "http://@orders", "http://a b", "http://orders:99999", "http://169.254.169.254", "http://169.254.169.254:80", "http://[fe80::1]", "http://[fe80::1%25eth0]",
		"http://[::ffff:169.254.169.254]", "http://0.0.0.0:80", "http://[::]", "http://224.0.0.1", "http://[ff02::1]", "http://2852039166", "http://0xa9fea9fe", "http://0251.254.169.254",
		"http://169.254.43518", "http://\u0661\u0666\u0669.254.169.254", "http://*.example", "http://" + strings.Repeat("a.", 300) + "b",
	} {
		_, err := normal(upstream)
		faulttest.WantField(t, err, "upstream")
		if t.Failed() {
			t.Fatal(upstream)
		}
	}
}

// What is filled in is cut to 256 bytes, between two characters.
func TestFilledIsBounded(t *testing.T) {
	t.Parallel()
	routes := table(t, Route{Path: "/x/{rest...}", Resource: "r/{rest}", Context: map[string]string{"k": "c{rest}{rest}"}})
	m, ok, err := routes.Match("GET", "", "/x/"+strings.Repeat("%C3%A9", 600))
	backendtest.Must(t, err)
	backendtest.Equal(t, ok, true, "match")
	backendtest.Equal(t, m.Resource, "r/"+strings.Repeat("\u00e9", 127), "resource")
	backendtest.Equal(t, m.Context["k"], "c"+strings.Repeat("\u00e9", 127), "context")
	backendtest.Equal(t, len(m.Parameters["rest"]), 1200, "bytes of the parameter")
}
