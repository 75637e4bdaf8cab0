package app

import (
	"net/http"
	"strings"
	"testing"

	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/clock"
)

// TestAdministratorsMendLimits: limits that refuse everything, as they may be in
// the database of a version before, refuse an administrator nothing that mends
// them.
func TestAdministratorsMendLimits(t *testing.T) {
	t.Parallel()
	backendtest.DatabaseURLs(t, func(t *testing.T, address string) {
		insertTypos(t, address)
		i := start(t, testConfig(address), clock.Real()) // whose sign-in uses them up
		i.call(t, "GET", "/v1/roles", i.admin, nil).Want(t, http.StatusTooManyRequests)
		i.call(t, "POST", "/v1/auth/login", "", map[string]any{"username": FirstAdmin, "password": adminPassword}).
			Want(t, http.StatusTooManyRequests)
		for range 3 {
			i.call(t, "GET", "/v1/limits", i.admin, nil).Want(t, 200)
			i.call(t, "GET", "/v1/limits/typo-ip", i.admin, nil).Want(t, 200)
		}
		i.call(t, "POST", "/v1/limits/check", i.admin, map[string]any{"limit": "typo-ip", "key": "192.0.2.1"}).Want(t, 200)
		i.call(t, "POST", "/v1/limits/typo-ip/reset", i.admin, map[string]any{"key": "127.0.0.1"}).Want(t, 200)
		i.call(t, "PATCH", "/v1/limits/typo-global", i.admin, map[string]any{"mode": "MODE_SHADOW"}).Want(t, 200)
		for _, name := range []string{"typo-global", "typo-user", "typo-ip"} {
			i.call(t, "DELETE", "/v1/limits/"+name, i.admin, nil).Want(t, 200)
		}
		i.call(t, "GET", "/v1/roles", i.admin, nil).Want(t, 200)

		// One on just those calls is for others, and counts the administrator.
		_, clerk := i.newUser(t, "clerk", "tollgate:limits:*")
		i.call(t, "POST", "/v1/limits", i.admin, map[string]any{
			"name": "few", "subject": "SUBJECT_GLOBAL", "permission": "tollgate:limits:*", "rate": 2, "period": "2678400s",
		}).Want(t, 200)
		i.call(t, "GET", "/v1/limits", i.admin, nil).Want(t, 200)
		i.call(t, "GET", "/v1/limits", clerk, nil).Want(t, 200)
		i.call(t, "GET", "/v1/limits", clerk, nil).Want(t, http.StatusTooManyRequests)
		i.call(t, "GET", "/v1/limits", i.admin+"x", nil).Want(t, http.StatusTooManyRequests)
		i.call(t, "GET", "/v1/limits", i.admin, nil).Want(t, 200)
		scoped := i.call(t, "POST", "/v1/api-keys", i.admin, map[string]any{"name": "k", "scopes": []string{"tollgate:limits:*"}}).Want(t, 200)
		i.call(t, "GET", "/v1/limits", scoped.Str("secret"), nil).Want(t, http.StatusTooManyRequests)
		whole := i.call(t, "POST", "/v1/api-keys", i.admin, map[string]any{"name": "all"}).Want(t, 200)
		i.call(t, "GET", "/v1/limits", whole.Str("secret"), nil).Want(t, 200)
	})
}

// insertTypos makes limits that this version would refuse to save.
func insertTypos(t *testing.T, address string) {
	t.Helper()
	db := backendtest.Open(t, address)
	for _, subject := range []string{"global", "user", "ip"} {
		_, err := db.Exec(t.Context(), `INSERT INTO limits (name, description, subject, permission, rate, period, burst, algorithm,
			mode, outage, context_key, overrides, builtin, created_at, updated_at)
			VALUES ($1, '', $2, '*', 1, 2678400000000, 0, 'gcra', 'enforce', 'local', '', '[]', 0, 1, 1)`, "typo-"+subject, subject)
		backendtest.Must(t, err)
	}
}

// TestLimitsAreNoWeapon: who may manage limits, but does not hold "*", can lock
// nobody out with one, ease none on sign-ins, and use up none.
func TestLimitsAreNoWeapon(t *testing.T) {
	t.Parallel()
	onDatabases(t, func(t *testing.T, i *instance) {
		_, mallory := i.newUser(t, "mallory", "tollgate:limits:*", "tollgate:authorize")
		for _, c := range []struct {
			method, path string
			body         any
		}{
			{"POST", "/v1/limits", map[string]any{"name": "all", "subject": "SUBJECT_GLOBAL", "permission": "*", "rate": 1000, "period": "1s"}},
			{"POST", "/v1/limits", map[string]any{"name": "one", "subject": "SUBJECT_USER", "rate": 1000, "period": "1s",
				"overrides": []any{map[string]any{"key": i.user, "rate": 1}}}},
			{"PATCH", "/v1/limits/sign-in-per-user", map[string]any{"mode": "MODE_SHADOW"}},
			{"PATCH", "/v1/limits/sign-in-per-ip", map[string]any{"mode": "MODE_SHADOW"}},
			{"DELETE", "/v1/limits/sign-in-per-ip", nil},
			{"POST", "/v1/limits/check", map[string]any{"limit": "sign-in-per-user", "key": "admin", "cost": 100}},
			{"POST", "/v1/limits/sign-in-per-user/reset", map[string]any{"key": "admin"}},
		} {
			a := i.call(t, c.method, c.path, mallory, c.body)
			if a.Status != http.StatusForbidden || a.Reason() != "LIMITS_TOLLGATE" {
				t.Errorf("%s %s: %d %s", c.method, c.path, a.Status, a.Raw)
			}
		}
		if n := i.refusals(t, "action=tollgate.refused&actor=mallory"); n != 7 {
			t.Errorf("%d refusals on record, want 7", n)
		}

		// Nor may a service that asks for decisions look at Tollgate's own, or
		// use up what counts sign-ins.
		for _, body := range []map[string]any{
			{"userId": i.user, "permission": "tollgate:users:write"},
			{"permission": "tollgate:login", "client": map[string]any{"ip": "192.0.2.1"}, "cost": 30},
			{"permission": "tollgate:login", "authenticated": true, "client": map[string]any{"ip": "192.0.2.1"}, "cost": 30},
		} {
			a := i.call(t, "POST", "/v1/authorize", mallory, body).Want(t, http.StatusBadRequest)
			if !strings.Contains(string(a.Raw), `"permission"`) {
				t.Errorf("the refusal names no field: %s", a.Raw)
			}
			a = i.call(t, "POST", "/v1/authorize/batch", mallory, map[string]any{"requests": []any{
				map[string]any{"userId": i.user, "permission": "orders:read"}, body,
			}}).Want(t, http.StatusBadRequest)
			if !strings.Contains(string(a.Raw), `"requests[1].permission"`) {
				t.Errorf("the refusal names no field: %s", a.Raw)
			}
		}
		a := i.call(t, "POST", "/v1/limits/check", i.admin, map[string]any{"limit": "sign-in-per-ip", "key": "192.0.2.1", "peek": true}).Want(t, 200)
		if a.At("status", "remaining") != "30" {
			t.Errorf("somebody used up what counts sign-ins: %s", a.Raw)
		}
	})
}
