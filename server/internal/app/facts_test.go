package app

import (
	"net/http"
	"testing"

	"github.com/tollgatehq/tollgate/server/internal/apitest"
)

// TestNobodyNamesThemselfIntoARight: a limited administrator makes no condition true by
// a user's name, or by a role whose name a condition asks for, whoever's it is.
func TestNobodyNamesThemselfIntoARight(t *testing.T) {
	t.Parallel()
	onDatabases(t, func(t *testing.T, i *instance) {
		admin := i.As(i.admin)
		clerk, token := i.newUser(t, "clerk", "tollgate:users:write", "tollgate:roles:write")
		other, _ := i.newUser(t, "other")
		admin.Post(t, "/v1/roles", apitest.Object{"name": "cleared"})
		admin.Post(t, "/v1/roles", apitest.Object{"name": "by-name", "grants": []apitest.Object{
			{"permission": "payroll:read", "condition": `principal.username == "boss"`},
			{"permission": "secrets:read", "condition": `"cleared" in principal.roles`},
		}})
		admin.Assign(t, "by-name", clerk)
		admin.Assign(t, "by-name", other)
		for _, user := range []string{clerk, other} {
			for what, a := range map[string]apitest.Answer{
				"rename": i.call(t, "PATCH", "/v1/users/"+user, token, apitest.Object{"username": "boss"}),
				"assign": i.call(t, "PUT", "/v1/roles/cleared/members/"+user, token, nil),
			} {
				if a.Status != http.StatusForbidden || a.Reason() != "GRANT_EXCEEDS_OWN" {
					t.Errorf("%s: %d %s", what, a.Status, a.Raw)
				}
			}
			i.wantDecision(t, "payroll", apitest.Object{"userId": user, "permission": "payroll:read"}, "CONDITION_FALSE")
			i.wantDecision(t, "secrets", apitest.Object{"userId": user, "permission": "secrets:read"}, "CONDITION_FALSE")
		}
		admin.Patch(t, "/v1/users/"+clerk, apitest.Object{"username": "boss"})
		admin.Assign(t, "cleared", other)
		i.wantDecision(t, "payroll", apitest.Object{"userId": clerk, "permission": "payroll:read"}, "OK")
		i.wantDecision(t, "secrets", apitest.Object{"userId": other, "permission": "secrets:read"}, "OK")
	})
}
