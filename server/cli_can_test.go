package main_test

import (
	"encoding/json"
	"testing"

	"github.com/tollgatehq/tollgate/server/internal/backendtest"
)

// TestCLICan checks the answers of can and its exit statuses.
func TestCLICan(t *testing.T) {
	t.Parallel()
	s, sh := serveShell(t)
	id := s.NewUser(t, "mia", "a password of mia")
	s.Post(t, "/v1/roles", object{"name": "clerk", "permissions": []string{"orders:read"}, "grants": []object{
		{"permission": "orders:write", "condition": "context.tenant == 'acme' && ip.startsWith('127.')"},
		{"permission": "orders:delete", "effect": "EFFECT_DENY"},
	}})
	s.Assign(t, "clerk", id)
	s.Post(t, "/v1/limits", object{"name": "orders", "subject": "SUBJECT_USER", "permission": "orders:*", "rate": 7, "period": "60s"})

	contains(t, sh.do(t, "can", "mia", "orders:read", "orders/7"), "yes: mia may orders:read on orders/7", "roles: clerk", "matched", "limit orders: 7 of 7 left")
	contains(t, sh.do(t, "can", id, "orders:read"), "yes: mia may")
	for _, c := range []struct {
		code int
		out  []string
		err  string
		args []string
	}{
		{1, []string{"no: mia may not orders:print: no role of theirs grants it (PERMISSION_MISSING)", "none of 3 grants"}, "", []string{"orders:print"}},
		{1, []string{"denies it", "deny orders:delete"}, "", []string{"orders:delete"}},
		{1, []string{"condition", "context.tenant = \"other\""}, "", []string{"orders:write", "--context", "tenant=other", "--ip", "127.0.0.1"}},
		{0, []string{"yes"}, "", []string{"orders:write", "--context", "tenant=acme", "--ip", "127.0.0.1"}},
		{2, nil, "must be one permission", []string{"orders:*"}},
		{2, nil, "see tollgate can --help", []string{"orders:read", "--nothing"}},
	} {
		code, stdout, stderr := sh.try(t, "", append([]string{"can", "mia"}, c.args...)...)
		if code != c.code {
			t.Errorf("%q: exit code %d, want %d: %s%s", c.args, code, c.code, stdout, stderr)
		}
		contains(t, stdout, c.out...)
		contains(t, stderr, c.err)
	}
	sh.fails(t, 2, `no user "tom"`, "can", "tom", "orders:read")
	sh.with("TOLLGATE_API_KEY=nonsense").fails(t, 2, "TOLLGATE_API_KEY", "can", "mia", "orders:read")
	newShell(t, s.URL).fails(t, 2, "not signed in", "can", "mia", "orders:read")
	mia := newShell(t, s.URL)
	mia.login(t, "mia", "a password of mia")
	mia.fails(t, 2, "tollgate:explain", "can", id, "orders:read")

	var answer object
	code, stdout, _ := sh.try(t, "", "can", "mia", "orders:delete", "-o", "json")
	backendtest.Must(t, json.Unmarshal([]byte(stdout), &answer))
	if code != 1 || answer["allowed"] != false || answer["reason"] != "REASON_DENIED_BY_GRANT" {
		t.Errorf("exit code %d, %v", code, answer)
	}
}
