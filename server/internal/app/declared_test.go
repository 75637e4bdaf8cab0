package app

import (
	"net/http"
	"strings"
	"testing"

	"github.com/tollgatehq/tollgate/server/internal/apitest"
	"github.com/tollgatehq/tollgate/server/internal/contract"
)

// TestDeclaredPermissions: what is new under "tollgate:" must match something
// that Tollgate has, in roles, in scopes and in limits.
func TestDeclaredPermissions(t *testing.T) {
	i := startEmbedded(t)
	admin := i.As(i.admin)
	role := func(p string) (string, apitest.Object) {
		return "/v1/roles", apitest.Object{"name": "clerk", "permissions": []string{"orders:read", p}}
	}
	key := func(p string) (string, apitest.Object) {
		return "/v1/api-keys", apitest.Object{"name": "key", "scopes": []string{p}}
	}
	limit := func(p string) (string, apitest.Object) {
		return "/v1/limits", apitest.Object{"name": "few", "subject": "SUBJECT_USER", "permission": p, "rate": 100, "period": "60s"}
	}
	for _, c := range []struct {
		write   func(permission string) (path string, body apitest.Object)
		given   string
		field   string
		nearest string
	}{
		{role, "tollgate:users:wrtie", "permissions[1]", `"tollgate:users:write"`},
		{role, "tollgate:user:*", "permissions[1]", `"tollgate:users:*"`},
		{role, "tollgate:login", "permissions[1]", `"tollgate:`}, // no call needs it
		{key, "tollgate:user:read", "scopes[0]", `"tollgate:users:read"`},
		{key, "tollgate:verify:*", "scopes[0]", `"tollgate:verify"`},
		{limit, "tollgate:rolls:read", "permission", `"tollgate:roles:read"`},
		{limit, "tollgate:logn", "permission", `"tollgate:login"`},
	} {
		path, body := c.write(c.given)
		a := admin.Call(t, "POST", path, body).Want(t, http.StatusBadRequest)
		if said := a.Str("message"); !strings.HasPrefix(said, c.field+": ") || !strings.Contains(said, "did you mean "+c.nearest) {
			t.Errorf("%s: %s", c.given, said)
		}
	}
	for _, good := range []string{"tollgate:users:*", "tollgate:verify", "tollgate:*"} {
		path, body := key(good)
		admin.Post(t, path, body)
	}
	for _, good := range append(contract.Actions(), "tollgate:anonymous", "tollgate:second-factor", "tollgate:keys:*") {
		path, body := limit(good)
		admin.Post(t, path, body)
		admin.Call(t, "DELETE", "/v1/limits/few", nil).Want(t, http.StatusOK)
	}

	// What a database holds already stays as it is.
	if _, err := i.db.Exec(t.Context(), `INSERT INTO roles (name, description, permissions, builtin, created_at, updated_at)
		VALUES ('old', '', '["tollgate:rolls:read"]', 0, 1, 1)`); err != nil {
		t.Fatal(err)
	}
	admin.Patch(t, "/v1/roles/old", apitest.Object{"description": "from before"})
	admin.Patch(t, "/v1/roles/old", apitest.Object{"permissions": []string{"orders:read", "tollgate:rolls:read"}})
	admin.Call(t, "PATCH", "/v1/roles/old", apitest.Object{"permissions": []string{"tollgate:rolls:read", "tollgate:rolls:write"}}).
		Want(t, http.StatusBadRequest)
}
