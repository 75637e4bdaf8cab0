package routes_test

import (
	"strings"
	"testing"

	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/fault"
	"github.com/tollgatehq/tollgate/server/internal/fault/faulttest"
	"github.com/tollgatehq/tollgate/server/internal/routes"
	"github.com/tollgatehq/tollgate/server/internal/routes/routestest"
)

func TestHostilePaths(t *testing.T) {
	t.Parallel()
	table, err := routes.NewTable(routestest.Routes())
	backendtest.Must(t, err)
	seen, refused := map[string]bool{}, 0
	for _, h := range routestest.HostilePaths {
		if seen[h.Target] {
			t.Errorf("%q is there twice", h.Target)
		}
		seen[h.Target] = true
		m, ok, err := table.Match("GET", "", h.Target)
		checked := routes.CheckPath(h.Target)
		switch {
		case h.Route == "" && err == nil:
			t.Errorf("%q, %s, is not refused, and has the route %v", h.Target, h.About, m.Route)
		case h.Route == "":
			refused++
			for _, err := range []error{err, checked} {
				f := faulttest.Want(t, err, fault.Invalid, "PATH_REFUSED")
				if len(h.Target) > 4 && strings.Contains(f.Message, h.Target) {
					t.Errorf("%q, %s: the message tells the path: %s", h.Target, h.About, f.Message)
				}
			}
		case err != nil || checked != nil:
			t.Errorf("%q, %s: %v, %v", h.Target, h.About, err, checked)
		case ok != (h.Route != routestest.None), ok && m.Route.Name != h.Route:
			t.Errorf("%q, %s: route %v, %v, want %q", h.Target, h.About, m.Route, ok, h.Route)
		}
	}
	if len(seen) < 100 || refused < 100 {
		t.Errorf("%d paths, of which %d are refused", len(seen), refused)
	}
}

func TestCheckPathSize(t *testing.T) {
	t.Parallel()
	backendtest.Must(t, routes.CheckPath("/"+strings.Repeat("a", 4095)))
	faulttest.Want(t, routes.CheckPath("/"+strings.Repeat("a", 4096)), fault.Invalid, "PATH_REFUSED")
	// As many segments as fit.
	backendtest.Must(t, routes.CheckPath(strings.Repeat("/a", 2048)))
}

func TestHosts(t *testing.T) {
	t.Parallel()
	table, err := routes.NewTable([]routes.Route{
		{Name: "four", Host: "192.0.2.1", Path: "/"}, {Name: "six", Host: "2001:db8::1", Path: "/"},
		{Name: "name", Host: "a-b_c.example", Path: "/"}, {Name: "below", Host: "*.example", Path: "/"},
	})
	backendtest.Must(t, err)
	for host, want := range map[string]string{
		"": "-", "a-b_c.example": "name", "A-B_C.EXAMPLE.": "name", "a-b_c.example.:80": "name", "a-b_c.example:": "name",
		"192.0.2.1:1": "four", "192.0.2.1.": "four", "[2001:0db8:0::1]": "six", "[2001:DB8::1]:443": "six",
		"[::ffff:192.0.2.1]": "four", "example": "-", "x.y.example": "below", "xn--bcher-kva.example": "below",
		"other": "-", "192.0.2.2": "-",
	} {
		m, ok, err := table.Match("GET", host, "/")
		backendtest.Must(t, err)
		if got := "-"; ok && m.Route.Name != want || !ok && got != want {
			t.Errorf("host %q: %v, %v, want %s", host, m.Route, ok, want)
		}
	}
	for _, host := range []string{
		".", "..", ".example", "a..example", "a.example..", ":80", "a.example:x", "a.example:0", "a.example:65536",
		"a.example:080000", "a.example:+1", "a b.example", "a.example/x", "a.example\\x", "a@example", "user:pw@a.example", "a,b.example",
		"a.example\x00", "a.example\n", "b\u00fccher.example", "%61.example", "*.example", "2001:db8::1", "[2001:db8::1", "[2001:db8::1]x",
		"[fe80::1%25eth0]", "[fe80::1%eth0]", "[192.0.2.1]", "[]", "192.0.2.1.2", "127.1", "2130706433", "0x7f000001", "0x7f.1", "010.0.0.1", "256.0.0.1",
		"a.1", strings.Repeat("a", 64) + ".example", strings.Repeat("a.", 127) + "example",
	} {
		faulttest.Want(t, faulttest.Err(table.Match("GET", host, "/")), fault.Invalid, "HOST_REFUSED")
	}
}
