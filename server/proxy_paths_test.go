package main_test

import (
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/tollgatehq/tollgate/server/internal/routes/routestest"
)

const pathsHost = "paths.example.com"

// hostilePaths checks that a path which servers read in two ways reaches none of
// them under a weaker permission than either reading needs.
func (s *protected) hostilePaths(t *testing.T) {
	for _, r := range routestest.Routes() {
		s.Post(t, "/v1/routes", object{"name": "paths-" + r.Name, "host": pathsHost, "path": r.Path, "public": r.Public, "permission": r.Permission})
	}
	if len(routestest.HostilePaths) < 100 {
		t.Fatalf("only %d", len(routestest.HostilePaths))
	}
	s.NewUser(t, "mallory", "a password of mallory")
	stranger := s.Login(t, "mallory", "a password of mallory").Str("accessToken")
	arrived := 0
	for _, hostile := range routestest.HostilePaths {
		for _, token := range []string{"", stranger} {
			a := send(t, s.proxy, message("GET", hostile.Target, pathsHost, bearer(token)))
			if a.arrived == nil {
				if a.status == http.StatusInternalServerError || a.status == http.StatusServiceUnavailable {
					t.Errorf("%q: %d", hostile.Target, a.status)
				}
				continue
			}
			arrived++
			sent, got := s.routeOf(t, hostile.Target), s.routeOf(t, a.arrived.Target)
			// Caddy's server, Go's, has "#" as a character of the path, and sends it on
			// encoded, to Tollgate as well.
			if sent != got && !strings.Contains(hostile.Target, "#") || got == "" {
				t.Errorf("%q: its route is %q, and that of %q, which the service got, is %q", hostile.Target, sent, a.arrived.Target, got)
			}
			for _, reading := range readings(a.arrived.Target) {
				if reading == "/admin" || strings.HasPrefix(reading, "/admin/") || strings.HasPrefix(reading, "/orders/") {
					t.Errorf("%q: a service reads %q, which needs a permission", hostile.Target, reading)
				}
			}
		}
	}
	// The host of an absolute target goes before that of the header (RFC 9112 §3.2.2):
	// what the service takes for the host must be what was judged.
	for _, hosts := range [][2]string{{pathsHost, ordersHost}, {ordersHost, pathsHost}} {
		a := send(t, s.proxy, message("GET", "http://"+hosts[0]+"/public/x", hosts[1]))
		if a.arrived == nil {
			continue
		}
		host, _, _ := strings.Cut(strings.TrimPrefix(a.arrived.Target, "http://"), "/")
		if strings.HasPrefix(a.arrived.Target, "/") {
			host = strings.Join(a.arrived.all("Host"), ",")
		}
		if host != pathsHost {
			t.Errorf("http://%s/public/x with Host: %s: the service got it for %s", hosts[0], hosts[1], host)
		}
	}
	// What means the same everywhere arrives: otherwise this shows nothing.
	if arrived < 20 {
		t.Errorf("only %d paths arrived", arrived)
	}

	// The same behind a permission that the proxy's configuration fixes for what is
	// below one path: alice may read reports, and nothing else.
	for _, hostile := range routestest.HostilePaths {
		for _, prefix := range []string{"/reports", "/reports/x/.."} {
			target := prefix + hostile.Target
			a := send(t, s.proxy, message("GET", target, ordersHost, bearer(s.reader)))
			if a.arrived == nil {
				continue
			}
			for _, reading := range readings(a.arrived.Target) {
				if reading != "/reports" && !strings.HasPrefix(reading, "/reports/") {
					t.Errorf("%q: a service reads %q under reports:read", target, reading)
				}
			}
		}
	}
}

// routeOf is the name of a target's route, "" when there is none or it is refused.
func (s *protected) routeOf(t *testing.T, target string) string {
	t.Helper()
	if !utf8.ValidString(target) {
		return ""
	}
	a := s.Call(t, "POST", "/v1/routes/match", object{"host": pathsHost, "path": pathOf(target)})
	return a.Str("route", "name")
}

// pathOf is the path of a request target.
func pathOf(target string) string {
	if scheme, rest, ok := strings.Cut(target, "://"); ok && !strings.Contains(scheme, "/") {
		target = rest[max(strings.IndexByte(rest, '/'), 0):]
	}
	target, _, _ = strings.Cut(target, "?")
	return target
}

// readings are the paths that services find in a target: decoded never, once or
// twice, with or without parameters of segments, with backslashes as slashes, with
// dot segments and empty segments removed. Upper case is another path for all of
// them, as the table says.
func readings(target string) []string {
	raw, _, _ := strings.Cut(pathOf(target), "#")
	decoded := []string{raw}
	for range 2 {
		once, err := url.PathUnescape(decoded[len(decoded)-1])
		if err != nil {
			break
		}
		decoded = append(decoded, once)
	}
	var all []string
	for _, p := range decoded {
		p, _, _ = strings.Cut(p, "\x00")
		slashes := strings.ReplaceAll(p, `\`, "/")
		for _, p := range []string{p, slashes, withoutParameters(p), withoutParameters(slashes)} {
			all = append(all, path.Clean("/"+p))
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// withoutParameters cuts off what follows ";" in each segment, as servlet
// containers do.
func withoutParameters(p string) string {
	segments := strings.Split(p, "/")
	for i := range segments {
		segments[i], _, _ = strings.Cut(segments[i], ";")
	}
	return strings.Join(segments, "/")
}
