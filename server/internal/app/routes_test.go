package app

import (
	"net/http"
	"strings"
	"testing"

	"github.com/tollgatehq/tollgate/server/internal/apitest"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/routes/routestest"
)

// TestRoutes: the route table over REST, from creation to removal.
func TestRoutes(t *testing.T) {
	t.Parallel()
	i := startEmbedded(t)
	admin := i.As(i.admin)
	made := admin.Post(t, "/v1/routes", apitest.Object{
		"name": "order", "host": "*.Shop.example", "methods": []string{"PUT", "GET"}, "path": "/orders/{id}", "permission": "orders:read",
		"resource": "orders/{id}", "cost": "3", "upstream": "http://orders:8080", "context": apitest.Object{"order": "{id}"},
	})
	if made.Str("route", "host") != "*.shop.example" || made.Str("revision") == "" || made.Str("route", "createdAt") == "" {
		t.Errorf("made %v", made.Body)
	}
	match := func(body apitest.Object) apitest.Answer { return admin.Call(t, "POST", "/v1/routes/match", body) }
	got := match(apitest.Object{"host": "eu.shop.example:443", "path": "/orders/a%20b"}).Want(t, http.StatusOK)
	for want, at := range map[string][]string{
		"order": {"route", "name"}, "orders:read": {"permission"}, "orders/a b": {"resource"}, "a b": {"parameters", "id"},
	} {
		backendtest.Equal(t, got.Str(at...), want, "match: %s", at)
	}
	backendtest.Equal(t, got.Str("context", "order"), "a b", "match: context")

	admin.Post(t, "/v1/routes", apitest.Object{"name": "open", "path": "/open", "public": true})
	backendtest.Equal(t, match(apitest.Object{"path": "/open"}).Str("permission"), "public", "name that limits match")
	for _, c := range []struct {
		what   string
		answer apitest.Answer
		status int
		reason string
		says   string
	}{
		{"no route", match(apitest.Object{"path": "/orders/7"}), http.StatusNotFound, "ROUTE_MISSING", "no route"},
		{"no route for the method", match(apitest.Object{"path": "/orders/7", "host": "eu.shop.example", "method": "POST"}), http.StatusNotFound, "ROUTE_MISSING", "no route"},
		{"lower case", match(apitest.Object{"path": "/open", "method": "get"}), http.StatusBadRequest, "INVALID_FIELD", "upper case"},
		{"dots", match(apitest.Object{"path": "/orders/../open"}), http.StatusBadRequest, "PATH_REFUSED", "segment"},
		{"a query", match(apitest.Object{"path": "/open?a=b"}), http.StatusBadRequest, "PATH_REFUSED", "query"},
		{"no host", match(apitest.Object{"path": "/open", "host": "a b"}), http.StatusBadRequest, "HOST_REFUSED", "host"},
		{"a conflict", admin.Call(t, "POST", "/v1/routes", apitest.Object{
			"name": "two", "host": "*.shop.example", "path": "/orders/{n}", "methods": []string{"GET"}, "authenticated": true,
		}), http.StatusBadRequest, "ROUTE_CONFLICT", `"order"`},
		{"a name taken", admin.Call(t, "POST", "/v1/routes", apitest.Object{"name": "order", "path": "/x", "public": true}), http.StatusConflict, "ROUTE_EXISTS", "order"},
		{"no rule", admin.Call(t, "POST", "/v1/routes", apitest.Object{"name": "two", "path": "/x"}), http.StatusBadRequest, "INVALID_FIELD", "permission"},
		{"two rules", admin.Call(t, "POST", "/v1/routes", apitest.Object{"name": "two", "path": "/x", "public": true, "authenticated": true}), http.StatusBadRequest, "INVALID_FIELD", "public"},
		{"our own permission", admin.Call(t, "POST", "/v1/routes", apitest.Object{"name": "two", "path": "/x", "permission": "tollgate:users:read"}), http.StatusBadRequest, "INVALID_FIELD", "your own"},
		{"update nothing", admin.Call(t, "PATCH", "/v1/routes/order", apitest.Object{}), http.StatusBadRequest, "NOTHING_TO_UPDATE", "nothing"},
		{"update to a bad permission", admin.Call(t, "PATCH", "/v1/routes/order", apitest.Object{"permission": "A"}), http.StatusBadRequest, "INVALID_FIELD", "or empty"},
		{"get nothing", admin.Call(t, "GET", "/v1/routes/gone", nil), http.StatusNotFound, "ROUTE_NOT_FOUND", "gone"},
		{"delete nothing", admin.Call(t, "DELETE", "/v1/routes/gone", nil), http.StatusNotFound, "ROUTE_NOT_FOUND", "gone"},
	} {
		c.answer.Want(t, c.status)
		if c.answer.Reason() != c.reason || !strings.Contains(c.answer.Str("message"), c.says) {
			t.Errorf("%s: %v, want %s with %q", c.what, c.answer.Body, c.reason, c.says)
		}
	}

	changed := admin.Patch(t, "/v1/routes/order", apitest.Object{
		"host": "", "clearMethods": true, "permission": "", "authenticated": true, "clearContext": true, "cost": "0",
	})
	if changed.Str("route", "host") != "" || changed.At("route", "authenticated") != true || len(changed.At("route", "methods").([]any)) != 0 {
		t.Errorf("changed %v", changed.Body)
	}
	backendtest.Equal(t, match(apitest.Object{"path": "/orders/7", "method": "PURGE"}).Str("permission"), "authenticated", "name that limits match")
	if list := admin.All(t, "/v1/routes?", "routes"); len(list) != 2 || list[0]["name"] != "open" {
		t.Errorf("list %v", list)
	}

	// Auditors read; nobody else reads or writes.
	_, auditor := i.newUser(t, "reader", "tollgate:routes:read")
	_, nobody := i.newUser(t, "nobody", "orders:*")
	i.As(auditor).Get(t, "/v1/routes/open")
	i.As(auditor).Post(t, "/v1/routes/match", apitest.Object{"path": "/open"})
	i.As(auditor).Call(t, "DELETE", "/v1/routes/open", nil).Want(t, http.StatusForbidden)
	i.As(auditor).Call(t, "PATCH", "/v1/routes/open", apitest.Object{"public": true}).Want(t, http.StatusForbidden)
	i.As(nobody).Call(t, "GET", "/v1/routes", nil).Want(t, http.StatusForbidden)
	i.As(nobody).Call(t, "POST", "/v1/routes/match", apitest.Object{"path": "/open"}).Want(t, http.StatusForbidden)

	admin.Call(t, "DELETE", "/v1/routes/open", nil).Want(t, http.StatusOK)
	match(apitest.Object{"path": "/open"}).Want(t, http.StatusNotFound)
	if events := admin.Events(t, "resource=routes/open"); len(events) != 2 {
		t.Errorf("events %v", events)
	}
}

// TestRoutesHostilePaths: the dry run says of each path what the table does.
func TestRoutesHostilePaths(t *testing.T) {
	t.Parallel()
	i := startEmbedded(t)
	admin := i.As(i.admin)
	for _, r := range routestest.Routes() {
		admin.Post(t, "/v1/routes", apitest.Object{"name": r.Name, "path": r.Path, "public": r.Public, "permission": r.Permission})
	}
	for _, h := range routestest.HostilePaths {
		if strings.ToValidUTF8(h.Target, "") != h.Target {
			continue // JSON cannot hold it
		}
		a := admin.Call(t, "POST", "/v1/routes/match", apitest.Object{"path": h.Target})
		switch h.Route {
		case "":
			backendtest.Equal(t, a.Reason(), "PATH_REFUSED", "%q", h.Target)
		case routestest.None:
			backendtest.Equal(t, a.Reason(), "ROUTE_MISSING", "%q", h.Target)
		default:
			backendtest.Equal(t, a.Str("route", "name"), h.Route, "%q", h.Target)
		}
	}
}
