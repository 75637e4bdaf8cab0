package routes_test

import (
	"net/url"
	"path"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/fault"
	"github.com/tollgatehq/tollgate/server/internal/routes"
	"github.com/tollgatehq/tollgate/server/internal/routes/routestest"
)

// FuzzMatch: what is not refused means the same to net/url, decoded once or twice,
// and cleaned or not.
func FuzzMatch(f *testing.F) {
	for _, h := range routestest.HostilePaths {
		f.Add("GET", "a.example:80", h.Target)
	}
	f.Add("get", "[2001:db8::1]:443", "/orders/7")
	table, err := routes.NewTable(append(routestest.Routes(),
		routes.Route{Name: "host", Host: "*.example", Path: "/{all...}", Methods: []string{"GET"}, Resource: "x/{all}"}))
	backendtest.Must(f, err)
	f.Fuzz(func(t *testing.T, method, host, target string) {
		m, ok, err := table.Match(method, host, target)
		if err != nil {
			if reason := fault.From(err).Reason; ok || reason != "PATH_REFUSED" && reason != "HOST_REFUSED" {
				t.Fatalf("%v, %v", ok, err)
			}
			return
		}
		u, err := url.ParseRequestURI(target)
		if err != nil || u.Host != "" || u.RawQuery != "" {
			t.Fatalf("%q is no path to net/url: %+v, %v", target, u, err)
		}
		if clean := path.Clean(u.Path); clean != u.Path && clean+"/" != u.Path || strings.Count(u.Path, "/") != strings.Count(target, "/") {
			t.Errorf("%q decodes to %q, which is %q when cleaned", target, u.Path, clean)
		}
		// In a text without an escape a "%" means itself, whatever follows.
		if twice, err := url.PathUnescape(u.Path); strings.Contains(target, "%") && err == nil && twice != u.Path {
			t.Errorf("%q decodes to %q, and that to %q", target, u.Path, twice)
		}
		if strings.ContainsAny(u.Path, "\\;\x00\r\n") || !utf8.ValidString(u.Path) {
			t.Errorf("%q decodes to %q", target, u.Path)
		}
		if len(m.Resource) > 256 || !utf8.ValidString(m.Resource) {
			t.Errorf("resource %q", m.Resource)
		}
	})
}
