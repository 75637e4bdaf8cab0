package app

import (
	"net/http"
	"strconv"
	"testing"

	"github.com/tollgatehq/tollgate/server/internal/apitest"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
)

const someIP = "192.0.2.7"

// authorize asks about a call from someIP and returns whether it may go ahead
// and why.
func (i *instance) authorize(t *testing.T, request map[string]any) (allowed bool, reason string) {
	t.Helper()
	request["client"] = map[string]any{"ip": someIP}
	res := i.call(t, "POST", "/v1/authorize", i.admin, request).Want(t, http.StatusOK)
	allowed, _ = res.Body["allowed"].(bool)
	return allowed, res.Str("reason")
}

// wantDecision checks an answer of authorize.
func (i *instance) wantDecision(t *testing.T, what string, request map[string]any, reason string) {
	t.Helper()
	allowed, got := i.authorize(t, request)
	if got != "REASON_"+reason || allowed != (reason == "OK") {
		t.Errorf("%s: allowed %v, %s; want %s", what, allowed, got, reason)
	}
}

// denied counts the refusals of others' calls that are on record.
func (i *instance) denied(t *testing.T) int {
	t.Helper()
	return i.refusals(t, "action=access.denied")
}

// refusals counts what the log's events stand for, with what is
// counted and not written yet.
func (i *instance) refusals(t *testing.T, query string) int {
	t.Helper()
	backendtest.Must(t, i.audit.Flush(t.Context()))
	denied := 0
	for _, e := range i.As(i.admin).Events(t, query) {
		counted, _ := apitest.Dig(e, "details", "refused").(string)
		n, err := strconv.Atoi(counted)
		if err != nil {
			n = 1
		}
		denied += n
	}
	return denied
}

func (i *instance) limitPerIP(t *testing.T, permission string, rate int) {
	t.Helper()
	i.call(t, "POST", "/v1/limits", i.admin, map[string]any{
		"name": "per-ip", "subject": "SUBJECT_IP", "permission": permission, "rate": rate, "period": "3600s",
	}).Want(t, 200)
}

// TestAuthorizeAuthenticated: bad credentials that a service is shown where any
// good one will do count against their address and are on record.
func TestAuthorizeAuthenticated(t *testing.T) {
	t.Parallel()
	onDatabases(t, func(t *testing.T, i *instance) {
		_, token := i.newUser(t, "alice", "tollgate:keys:write")
		key := i.call(t, "POST", "/v1/api-keys", token, map[string]any{"name": "mine"}).Want(t, 200).Str("secret")
		anybody := func(field, credential string) map[string]any {
			return map[string]any{field: credential, "authenticated": true, "permission": "orders:any"}
		}
		i.wantDecision(t, "a token", anybody("accessToken", token), "OK")
		i.wantDecision(t, "a key", anybody("apiKey", key), "OK")
		i.wantDecision(t, "a name is not needed", map[string]any{"accessToken": token, "authenticated": true}, "OK")
		if n := i.denied(t); n != 0 {
			t.Errorf("%d refusals of good credentials on record", n)
		}

		i.limitPerIP(t, "orders:*", 3)
		i.wantDecision(t, "a bad token", anybody("accessToken", token+"x"), "CREDENTIAL_INVALID")
		i.wantDecision(t, "a bad key", anybody("apiKey", key+"x"), "CREDENTIAL_INVALID")
		i.wantDecision(t, "none", map[string]any{"authenticated": true, "permission": "orders:any"}, "CREDENTIAL_MISSING")
		i.wantDecision(t, "one more", anybody("accessToken", token+"y"), "LIMITED")
		if n := i.denied(t); n != 4 {
			t.Errorf("%d refusals on record, want 4", n)
		}
		i.call(t, "POST", "/v1/authorize", i.admin, map[string]any{"accessToken": token}).Want(t, http.StatusBadRequest)
		i.call(t, "POST", "/v1/authorize", i.admin, map[string]any{"accessToken": token, "authenticated": true, "permission": "no such:form"}).
			Want(t, http.StatusBadRequest)
	})
}

// TestAuthorizeSelf: a person passes without the permission where the call is
// about themselves; others and API keys do not.
func TestAuthorizeSelf(t *testing.T) {
	t.Parallel()
	onDatabases(t, func(t *testing.T, i *instance) {
		id, token := i.newUser(t, "alice", "tollgate:keys:write")
		other, _ := i.newUser(t, "bob")
		key := i.call(t, "POST", "/v1/api-keys", token, map[string]any{"name": "mine"}).Want(t, 200).Str("secret")
		about := func(field, credential, self string) map[string]any {
			return map[string]any{field: credential, "permission": "orders:read", "self": self}
		}
		i.wantDecision(t, "about oneself", about("accessToken", token, id), "OK")
		i.wantDecision(t, "about another", about("accessToken", token, other), "PERMISSION_MISSING")
		i.wantDecision(t, "about nobody", about("accessToken", token, ""), "PERMISSION_MISSING")
		i.wantDecision(t, "a key of oneself", about("apiKey", key, id), "PERMISSION_MISSING")
		i.limitPerIP(t, "orders:*", 1)
		i.wantDecision(t, "a bad token", about("accessToken", token+"x", id), "CREDENTIAL_INVALID")
		i.wantDecision(t, "one more", about("accessToken", token+"x", id), "LIMITED")
		if n := i.denied(t); n != 5 {
			t.Errorf("%d refusals on record, want 5", n)
		}
	})
}

// TestAuthorizeRecheck: a call that goes on is looked at again without being
// counted, and what ended it is on record.
func TestAuthorizeRecheck(t *testing.T) {
	t.Parallel()
	onDatabases(t, func(t *testing.T, i *instance) {
		id, token := i.newUser(t, "alice", "orders:read")
		i.call(t, "POST", "/v1/limits", i.admin, map[string]any{
			"name": "per-user", "subject": "SUBJECT_USER", "permission": "orders:*", "rate": 1, "period": "3600s",
		}).Want(t, 200)
		call := func(again bool) map[string]any {
			return map[string]any{"accessToken": token, "permission": "orders:read", "recheck": again}
		}
		i.wantDecision(t, "the call", call(false), "OK")
		for range 3 {
			i.wantDecision(t, "it goes on", call(true), "OK")
		}
		i.wantDecision(t, "another call", call(false), "LIMITED")
		i.call(t, "DELETE", "/v1/roles/role-of-alice/members/"+id, i.admin, nil).Want(t, 200)
		i.wantDecision(t, "its permission is gone", call(true), "PERMISSION_MISSING")
		i.call(t, "DELETE", "/v1/users/"+id+"/sessions", i.admin, nil).Want(t, 200)
		i.wantDecision(t, "its session is gone", call(true), "CREDENTIAL_REVOKED")
		if n := i.denied(t); n != 3 {
			t.Errorf("%d refusals on record, want 3", n)
		}
	})
}

// TestAuthorizeSelfOnly: only a signed-in person is "self"; a service account that
// is asked about by its id is not.
func TestAuthorizeSelfOnly(t *testing.T) {
	i := startEmbedded(t)
	admin := i.As(i.admin)
	ann := admin.NewUser(t, "ann", "a password of ann")
	robot := admin.Post(t, "/v1/users", apitest.Object{"username": "robot", "kind": "USER_KIND_SERVICE"}).Str("user", "id")
	for _, c := range []struct {
		user, self, reason string
	}{
		{ann, ann, "OK"}, {ann, robot, "SELF_ONLY"}, {ann, "", "SELF_ONLY"}, {robot, robot, "SELF_ONLY"},
	} {
		i.wantDecision(t, c.user+" as "+c.self, map[string]any{"userId": c.user, "selfOnly": true, "self": c.self}, c.reason)
	}
}
