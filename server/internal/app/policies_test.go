package app

import (
	"strings"
	"testing"

	"github.com/tollgatehq/tollgate/server/internal/apitest"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
)

type object = apitest.Object

// Conditions, denies and inheritance, as a service and an administrator see them.
func TestPolicies(t *testing.T) {
	t.Parallel()
	onDatabases(t, func(t *testing.T, i *instance) {
		admin := i.As(i.admin)
		service := i.As(admin.NewService(t, "store"))
		alice := admin.NewUser(t, "alice", "a password of alice")
		bob := admin.NewUser(t, "bob", "a password of bob")
		admin.Post(t, "/v1/roles", object{"name": "reader", "permissions": []string{"doc:read"}})
		admin.Post(t, "/v1/roles", object{"name": "author", "inherits": []string{"reader"}, "grants": []object{
			{"permission": "doc:write", "condition": "resource.attributes.owner == principal.id"},
			{"permission": "doc:*", "effect": "EFFECT_DENY", "condition": `context.legal_hold == "true"`, "description": "legal hold"},
		}})
		admin.Assign(t, "author", alice)
		admin.Assign(t, "reader", bob)

		for name, test := range map[string]struct {
			ask     object
			allowed bool
			reason  string
		}{
			"inherited":           {object{"userId": alice, "permission": "doc:read", "context": object{"legal_hold": "false"}}, true, "REASON_OK"},
			"a deny that fails":   {object{"userId": alice, "permission": "doc:read"}, false, "REASON_CONDITION_FAILED"},
			"a deny":              {object{"userId": alice, "permission": "doc:read", "context": object{"legal_hold": "true"}}, false, "REASON_DENIED_BY_GRANT"},
			"the owner":           {object{"userId": alice, "permission": "doc:write", "resource": "doc/1", "resourceAttributes": object{"owner": alice}, "context": object{"legal_hold": "false"}}, true, "REASON_OK"},
			"not the owner":       {object{"userId": alice, "permission": "doc:write", "resource": "doc/1", "resourceAttributes": object{"owner": bob}, "context": object{"legal_hold": "false"}}, false, "REASON_CONDITION_FALSE"},
			"nobody's":            {object{"userId": alice, "permission": "doc:write", "resource": "doc/1", "context": object{"legal_hold": "false"}}, false, "REASON_CONDITION_FAILED"},
			"no such grant":       {object{"userId": bob, "permission": "doc:write"}, false, "REASON_PERMISSION_MISSING"},
			"any of two":          {object{"userId": bob, "anyOf": []string{"doc:write", "doc:read"}}, true, "REASON_OK"},
			"all of two":          {object{"userId": bob, "allOf": []string{"doc:read", "doc:write"}}, false, "REASON_PERMISSION_MISSING"},
			"all of one":          {object{"userId": bob, "allOf": []string{"doc:read"}}, true, "REASON_OK"},
			"any of two, neither": {object{"userId": bob, "anyOf": []string{"doc:write", "doc:list"}}, false, "REASON_PERMISSION_MISSING"},
		} {
			a := service.Post(t, "/v1/authorize", test.ask)
			if a.Body["allowed"] == true != test.allowed || a.Str("reason") != test.reason {
				t.Errorf("%s: %s, want %t %s", name, a.Raw, test.allowed, test.reason)
			}
			x := admin.Post(t, "/v1/authorize/explain", test.ask)
			if x.Body["allowed"] == true != test.allowed || x.Str("reason") != test.reason || len(x.List("grants")) == 0 {
				t.Errorf("%s, explained: %s", name, x.Raw)
			}
		}
		for name, ask := range map[string]object{
			"two rules":      {"userId": bob, "permission": "doc:read", "anyOf": []string{"doc:read"}},
			"both lists":     {"userId": bob, "allOf": []string{"doc:read"}, "anyOf": []string{"doc:read"}},
			"Tollgate's own": {"userId": bob, "anyOf": []string{"tollgate:users:read"}},
			"twice the same": {"userId": bob, "anyOf": []string{"doc:read", "doc:read"}},
			"nothing":        {"userId": bob},
		} {
			if a := service.Call(t, "POST", "/v1/authorize", ask); a.Status != 400 {
				t.Errorf("%s: %d %s", name, a.Status, a.Raw)
			}
		}

		x := admin.Post(t, "/v1/authorize/explain", object{"userId": alice, "permission": "doc:write", "resource": "doc/1", "resourceAttributes": object{"owner": bob}, "context": object{"legal_hold": "false"}})
		verdicts := map[any]any{}
		for _, g := range x.List("grants") {
			verdicts[g["permission"]] = g["verdict"]
			if g["permission"] == "doc:write" {
				read, _ := g["read"].(object)
				backendtest.Equal(t, read, object{"resource.attributes.owner": `"` + bob + `"`, "principal.id": `"` + alice + `"`}, "what the condition read")
			}
		}
		backendtest.Equal(t, verdicts, map[any]any{"doc:write": "VERDICT_CONDITION_FALSE", "doc:*": "VERDICT_CONDITION_FALSE", "doc:read": "VERDICT_NO_MATCH"}, "verdicts")
		if len(admin.Events(t, "action=access.explained")) == 0 {
			t.Error("that it was asked is not recorded")
		}
		denied := admin.Events(t, "action=access.denied&actor=alice")
		if details, _ := denied[len(denied)-1]["details"].(object); details["permission"] == nil || details["revision"] == nil {
			t.Errorf("recorded: %v", denied[len(denied)-1])
		}

		backendtest.Equal(t, len(admin.Get(t, "/v1/users/"+alice+"/roles").List("roles")), 1, "roles of alice")
		i.SignedIn(t, "alice", "a password of alice").Get(t, "/v1/users/"+alice+"/permissions")
		i.SignedIn(t, "alice", "a password of alice").Call(t, "GET", "/v1/users/"+bob+"/permissions", nil).Want(t, 403)
		backendtest.Equal(t, len(admin.All(t, "/v1/users/"+alice+"/permissions?", "permissions")), 3, "what alice may")
		first := admin.Get(t, "/v1/users/"+alice+"/permissions?pageSize=2")
		backendtest.Equal(t, len(first.List("permissions")), 2, "a page of it")
		backendtest.Equal(t, len(admin.Get(t, "/v1/users/"+alice+"/permissions?pageSize=2&pageToken="+first.Str("nextPageToken")).List("permissions")), 1, "the next")

		holders := admin.Post(t, "/v1/authorize/holders", object{"permission": "doc:read"}).List("holders")
		depends := map[any]int{}
		for _, h := range holders {
			list, _ := h["dependsOn"].([]any)
			depends[h["username"]] = len(list)
		}
		backendtest.Equal(t, depends, map[any]int{"admin": 0, "alice": 1, "bob": 0}, "who may read")
		holders = admin.Post(t, "/v1/authorize/holders", object{"permission": "doc:write", "resource": "doc/1", "resourceAttributes": object{"owner": bob}}).List("holders")
		backendtest.Equal(t, len(holders), 1, "who may write what is bob's: %v", holders)

		preview := admin.Post(t, "/v1/roles/author/preview", object{"update": object{"grants": []object{{"permission": "doc:write"}}, "clearInherits": true}, "replay": 100})
		changes := preview.List("changes")
		if len(changes) != 1 || changes[0]["username"] != "alice" {
			t.Fatalf("preview: %s", preview.Raw)
		}
		gains, _ := changes[0]["gains"].([]any)
		losses, _ := changes[0]["losses"].([]any)
		backendtest.Equal(t, [2]int{len(gains), len(losses)}, [2]int{2, 1}, "gains and losses: %s", preview.Raw)
		replayed := map[string]bool{}
		for _, r := range preview.List("replayed") {
			replayed[r["permission"].(string)+" "+r["before"].(string)+" "+r["after"].(string)] = true
		}
		if !replayed["doc:write REASON_CONDITION_FAILED REASON_OK"] {
			t.Errorf("replayed: %v", replayed)
		}
		backendtest.Equal(t, len(admin.Get(t, "/v1/roles/author").List("role", "grants")), 2, "grants after a preview")

		for field, role := range map[string]object{
			"grants[0].condition":  {"name": "x", "grants": []object{{"permission": "a:b", "condition": "principl.id == 1"}}},
			"grants[0].permission": {"name": "x", "grants": []object{{"permission": "tollgate:users:read", "effect": "EFFECT_DENY"}}},
			"permissions[0]":       {"name": "x", "permissions": []string{"tollgate:nothing"}},
		} {
			if a := admin.Call(t, "POST", "/v1/roles", role); a.Status != 400 || !strings.Contains(string(a.Raw), `"field":"`+field+`"`) {
				t.Errorf("%s: %d %s", field, a.Status, a.Raw)
			}
		}
		admin.Call(t, "DELETE", "/v1/roles/reader", nil).Want(t, 400)
		admin.Call(t, "PATCH", "/v1/roles/reader", object{"inherits": []string{"author"}}).Want(t, 400)
	})
}
