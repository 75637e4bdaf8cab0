package routes

import (
	"fmt"
	"maps"
	"testing"

	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/fault"
	"github.com/tollgatehq/tollgate/server/internal/fault/faulttest"
)

// table makes a table of normal routes for a permission; each is named by its number.
func table(t testing.TB, routes ...Route) *Table {
	t.Helper()
	list := make([]Route, len(routes))
	for i, r := range routes {
		if r.Name == "" {
			r.Name = fmt.Sprintf("r%d", i)
		}
		if r.Permission == "" && !r.Public && !r.Authenticated {
			r.Permission = "tests:call"
		}
		var err error
		list[i], err = r.Normal()
		backendtest.Must(t, err)
	}
	made, err := NewTable(list)
	backendtest.Must(t, err)
	return made
}

// name is that of the route that a request has; "-" for none.
func name(t testing.TB, table *Table, method, host, path string) string {
	t.Helper()
	m, ok, err := table.Match(method, host, path)
	backendtest.Must(t, err)
	if !ok {
		return "-"
	}
	return m.Route.Name
}

func TestMatchMostSpecific(t *testing.T) {
	t.Parallel()
	routes := table(t,
		Route{Name: "home", Path: "/"},
		Route{Name: "order", Path: "/orders/{id}"},
		Route{Name: "new", Path: "/orders/new"},
		Route{Name: "items", Path: "/orders/{id}/items"},
		Route{Name: "all", Path: "/orders/{rest...}"},
		Route{Name: "any-b", Path: "/{x}/b"},
		Route{Name: "r-cafe", Path: "/caf%C3%A9", Permission: "cafe:read"},
		Route{Name: "read", Path: "/m", Methods: []string{"GET"}},
		Route{Name: "write", Path: "/m", Methods: []string{"POST", "PUT"}},
		Route{Name: "only", Path: "/only", Methods: []string{"POST"}},
		Route{Name: "every", Path: "/{x}"},
		Route{Name: "head", Path: "/h", Methods: []string{"HEAD"}},
		Route{Name: "get", Path: "/h", Methods: []string{"GET"}},
		Route{Name: "h", Path: "/h"},
		Route{Name: "host", Host: "a.example.com", Path: "/orders/{id}"},
		Route{Name: "below", Host: "*.example.com", Path: "/orders/{rest...}"},
		Route{Name: "deep", Host: "*.b.example.com", Path: "/deep"},
		Route{Name: "six", Host: "[2001:db8::1]", Path: "/six"},
	)
	for _, c := range []struct{ method, host, path, want string }{
		{"GET", "", "/", "home"},
		{"GET", "", "/orders/7", "order"},
		{"GET", "", "/orders/7/", "order"},
		{"GET", "", "/orders/new", "new"},
		{"GET", "", "/orders/%6eew", "new"},
		{"GET", "", "/Orders/new", "-"},
		{"GET", "", "/orders", "all"},
		{"GET", "", "/orders/", "all"},
		{"GET", "", "/orders/7/items", "items"},
		{"GET", "", "/orders/7/notes", "all"},
		{"GET", "", "/orders/b", "order"},
		{"GET", "", "/x/b", "any-b"},
		{"GET", "", "/x/c", "-"},
		{"GET", "", "/caf\u00e9", "r-cafe"},
		{"GET", "", "/m", "read"},
		{"HEAD", "", "/m", "read"},
		{"PUT", "", "/m", "write"},
		{"DELETE", "", "/m", "-"}, // "every" does not step in
		{"GET", "", "/only", "-"},
		{"get", "", "/z", "-"},
		{"HEAD", "", "/h", "head"},
		{"GET", "", "/h", "get"},
		{"PROPFIND", "", "/h", "h"},
		{"GET", "A.Example.COM.:8443", "/orders/7", "host"},
		{"GET", "a.example.com", "/orders/7/8", "below"},
		{"GET", "a.example.com", "/z", "every"},
		{"GET", "example.com", "/orders/7", "order"},
		{"GET", "x.y.example.com", "/orders/7", "below"},
		{"GET", "x.b.example.com", "/deep", "deep"},
		{"GET", "b.example.com", "/deep", "every"},
		{"GET", "[2001:DB8:0::1]:80", "/six", "six"},
	} {
		backendtest.Equal(t, name(t, routes, c.method, c.host, c.path), c.want, "%s %s %s", c.method, c.host, c.path)
	}
	if !routes.HasHosts() || (&Table{}).HasHosts() {
		t.Error("HasHosts does not say which table has hosts")
	}
	_, ok, err := (&Table{}).Match("GET", "a", "/")
	if ok || err != nil {
		t.Errorf("the zero Table has a route, or %v", err)
	}
}

func TestMatchFills(t *testing.T) {
	t.Parallel()
	routes := table(t, Route{
		Path: "/t/{tenant}/files/{rest...}", Resource: "files/{tenant}/{rest}",
		Context: map[string]string{"tenant": "{tenant}", "kind": "file"},
	})
	m, ok, err := routes.Match("GET", "", "/t/a%20b/files/x/y%25")
	backendtest.Must(t, err)
	backendtest.Equal(t, ok, true, "match")
	backendtest.Equal(t, m.Resource, "files/a b/x/y%", "resource")
	backendtest.Equal(t, m.Parameters, map[string]string{"tenant": "a b", "rest": "x/y%"}, "parameters")
	if !maps.Equal(m.Context, map[string]string{"tenant": "a b", "kind": "file"}) {
		t.Errorf("context %q", m.Context)
	}
}

func TestConflicts(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		a, b     Route
		conflict bool
	}{
		{Route{Path: "/a/{x}"}, Route{Path: "/a/{y}/"}, true},
		{Route{Path: "/a/{x}"}, Route{Path: "/a/{y...}"}, false},
		{Route{Path: "/a/{x...}"}, Route{Path: "/a/{y...}"}, true},
		{Route{Path: "/a"}, Route{Path: "/%61"}, true},
		{Route{Path: "/a"}, Route{Path: "/A"}, false},
		{Route{Path: "/a", Methods: []string{"GET"}}, Route{Path: "/a"}, false},
		{Route{Path: "/a", Methods: []string{"GET", "PUT"}}, Route{Path: "/a", Methods: []string{"PUT"}}, true},
		{Route{Path: "/a", Methods: []string{"GET"}}, Route{Path: "/a", Methods: []string{"HEAD"}}, false},
		{Route{Path: "/a", Host: "A.b"}, Route{Path: "/a", Host: "a.b."}, true},
		{Route{Path: "/a", Host: "a.b"}, Route{Path: "/a", Host: "*.a.b"}, false},
		{Route{Path: "/a", Host: "[::1]"}, Route{Path: "/a", Host: "0:0::1"}, true},
	} {
		c.a.Name, c.b.Name, c.a.Public, c.b.Public = "a", "b", true, true
		a, err := c.a.Normal()
		backendtest.Must(t, err)
		b, err := c.b.Normal()
		backendtest.Must(t, err)
		_, err = NewTable([]Route{a, b})
		if !c.conflict {
			backendtest.Must(t, err)
			continue
		}
		faulttest.Want(t, err, fault.Precondition, "ROUTE_CONFLICT")
	}
}
