package main_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/tollgatehq/tollgate/server/internal/apitest"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
)

// asJSON is what a command prints with -o json.
func (s *shell) asJSON(t *testing.T, args ...string) (answer object) {
	t.Helper()
	out := s.do(t, append(args, "-o", "json")...)
	if err := json.Unmarshal([]byte(out), &answer); err != nil {
		t.Fatalf("%q: %v: %s", args, err, out)
	}
	return answer
}

// TestCLIUsers checks the commands about users and sessions.
func TestCLIUsers(t *testing.T) {
	t.Parallel()
	s, sh := serveShell(t)
	oneTime := strings.TrimSpace(sh.do(t, "users", "create", "mia", "--generate", "--display-name", "Mia"))
	mia := s.Login(t, "mia", oneTime)
	if mia.At("passwordChangeRequired") != true {
		t.Errorf("the one-time password is one for good: %s", mia.Raw)
	}
	if code, _, stderr := sh.try(t, "a password of tom\n", "users", "create", "tom", "--role", "auditor"); code != 0 {
		t.Fatalf("exit code %d, %s", code, stderr)
	}
	sh.do(t, "users", "create", "robot", "--service", "--audience", "orders")
	contains(t, sh.do(t, "users", "list"), "mia", "must change password", "auditor", "robot", "service")
	if out := sh.do(t, "users", "list", "--prefix", "t"); !strings.Contains(out, "tom") || strings.Contains(out, "mia") {
		t.Errorf("by prefix: %s", out)
	}
	id := apitest.Dig(sh.asJSON(t, "users", "get", "tom"), "user", "id").(string)
	contains(t, sh.do(t, "users", "get", id), "tom", "auditor")
	contains(t, sh.do(t, "users", "permissions", "tom"), "tollgate:audit:read", "auditor")
	sh.do(t, "users", "edit", "tom", "--username", "thomas", "--display-name", "Tom")
	sh.fails(t, 1, "give at least one flag", "users", "edit", "thomas")

	tom := s.SignedIn(t, "thomas", "a password of tom")
	contains(t, sh.do(t, "sessions", "list", "thomas"), "127.0.0.1")
	sh.fails(t, 1, "end 1 session of thomas; repeat it with --yes", "sessions", "end", "thomas")
	sh.do(t, "sessions", "end", "thomas", "--yes")
	tom.Call(t, "GET", "/v1/auth/whoami", nil).Want(t, http.StatusUnauthorized)
	login := s.Login(t, "thomas", "a password of tom")
	sh.do(t, "sessions", "end", "thomas", login.Str("sessionId"))
	s.As(login.Str("accessToken")).Call(t, "GET", "/v1/auth/whoami", nil).Want(t, http.StatusUnauthorized)

	s.SignedIn(t, "thomas", "a password of tom")
	sh.fails(t, 1, "end 1 session, 0 API keys", "users", "reset-password", "thomas")
	oneTime = strings.TrimSpace(sh.do(t, "users", "reset-password", "thomas", "--yes"))
	s.Login(t, "thomas", oneTime)
	sh.fails(t, 1, "disable thomas", "users", "edit", "thomas", "--disabled")
	sh.do(t, "users", "edit", "thomas", "--disabled", "--yes")
	contains(t, sh.do(t, "users", "list", "--disabled"), "thomas")
	sh.fails(t, 1, "second factor", "users", "reset-second-factor", "thomas", "--yes")
	sh.fails(t, 1, "0 sessions, 0 API keys and 1 role", "users", "delete", "thomas")
	sh.do(t, "users", "delete", "thomas", "--yes")
	for _, args := range [][]string{{"users", "get"}, {"users", "edit", "--disabled"}, {"users", "delete"}, {"users", "permissions"}, {"sessions", "list"}, {"users", "reset-password"}} {
		sh.fails(t, 1, `no user "thomas"`, append(args, "thomas")...)
	}
	sh.fails(t, 1, "there is no user", "users", "get", id)

	// All pages are followed, and --limit bounds them.
	for i := range 260 {
		s.Post(t, "/v1/users", object{"username": fmt.Sprintf("many-%d", i), "kind": "USER_KIND_SERVICE"})
	}
	if n := len(sh.asJSON(t, "users", "list", "--prefix", "many-")["users"].([]any)); n != 260 {
		t.Errorf("%d users listed", n)
	}
	if n := len(sh.asJSON(t, "users", "list", "--prefix", "many-", "--limit", "253")["users"].([]any)); n != 253 {
		t.Errorf("%d users listed with a limit", n)
	}
}

// TestCLIRoles checks the commands about roles.
func TestCLIRoles(t *testing.T) {
	t.Parallel()
	s, sh := serveShell(t)
	s.NewUser(t, "mia", "a password of mia")
	sh.do(t, "roles", "create", "clerk", "--permission", "orders:read", "--permission", "orders:write", "--description", "In the shop")
	sh.do(t, "roles", "create", "boss", "--inherit", "clerk")
	sh.do(t, "roles", "assign", "boss", "mia", "--for", "8h")
	contains(t, sh.do(t, "roles", "members", "boss"), "mia")
	contains(t, sh.do(t, "roles", "list"), "clerk", "orders:read,orders:write", "administrator", "In the shop")
	sh.fails(t, 1, "by which 1 user may more (mia), and 1 user may less (mia); repeat it with --yes", "roles", "edit", "clerk", "--add", "orders:print", "--remove", "orders:write")
	sh.do(t, "roles", "edit", "clerk", "--add", "orders:print", "--remove", "orders:write", "--yes")
	sh.do(t, "roles", "edit", "clerk", "--description", "Everybody") // nobody gains or loses: no question
	contains(t, sh.do(t, "roles", "get", "clerk"), "orders:print", "Everybody")
	sh.fails(t, 1, "inherit", "roles", "delete", "clerk", "--yes")
	sh.fails(t, 1, "remove the role boss, and take it from 1 user (mia)", "roles", "delete", "boss")
	sh.do(t, "roles", "revoke", "boss", "mia")
	sh.fails(t, 1, "remove the role boss, which nobody holds", "roles", "delete", "boss")
	sh.do(t, "roles", "delete", "boss", "--yes")
	for _, args := range [][]string{{"get", "boss"}, {"edit", "boss", "--add", "a:b"}, {"delete", "boss", "--yes"}, {"members", "boss"}, {"assign", "boss", "mia"}} {
		sh.fails(t, 1, `no role "boss"`, append([]string{"roles"}, args...)...)
	}
	sh.fails(t, 1, "--for", "roles", "assign", "clerk", "mia", "--for", "soon")

	// Who may not is told which permission it takes.
	mia := newShell(t, s.URL)
	mia.login(t, "mia", "a password of mia")
	mia.fails(t, 1, "tollgate:roles:read", "roles", "list")
}

// TestCLIKeys checks the commands about API keys, and that secrets are alone on
// standard output.
func TestCLIKeys(t *testing.T) {
	t.Parallel()
	s, sh := serveShell(t)
	sh.do(t, "users", "create", "robot", "--service", "--role", "service")
	secret := regexp.MustCompile(`^tg_\S+\n$`)
	first := sh.do(t, "keys", "create", "ci", "--user", "robot", "--scope", "tollgate:verify", "--for", "90d")
	if !secret.MatchString(first) {
		t.Fatalf("it printed %q", first)
	}
	robot := s.As(strings.TrimSpace(first))
	robot.Get(t, "/v1/auth/whoami")
	keys := sh.asJSON(t, "keys", "list", "--user", "robot")["apiKeys"].([]any)
	id := apitest.Dig(keys[0], "id").(string)
	contains(t, sh.do(t, "keys", "list"), id, "ci", "live until", "tollgate:verify")
	contains(t, sh.do(t, "keys", "get", id), "ci")
	second := sh.do(t, "keys", "rotate", id, "--overlap", "0s")
	if !secret.MatchString(second) {
		t.Fatalf("it printed %q", second)
	}
	robot.Call(t, "GET", "/v1/auth/whoami", nil).Want(t, http.StatusUnauthorized)
	s.As(strings.TrimSpace(second)).Get(t, "/v1/auth/whoami")
	keys = sh.asJSON(t, "keys", "list", "--user", "robot")["apiKeys"].([]any)
	id = apitest.Dig(keys[1], "id").(string)
	sh.fails(t, 1, "stop the API key "+id+" (ci), which was", "keys", "revoke", id)
	sh.do(t, "keys", "revoke", id, "--yes")
	s.As(strings.TrimSpace(second)).Call(t, "GET", "/v1/auth/whoami", nil).Want(t, http.StatusUnauthorized)
	contains(t, sh.do(t, "keys", "list"), "revoked")
	sh.fails(t, 1, `no API key "nothing"`, "keys", "get", "nothing")
	sh.fails(t, 1, "no API key", "keys", "revoke", "nothing", "--yes")
	sh.fails(t, 1, "no API key", "keys", "rotate", "nothing")
}

// TestCLILimits checks the commands about limits and routes.
func TestCLILimits(t *testing.T) {
	t.Parallel()
	s, sh := serveShell(t)
	id := s.NewUser(t, "mia", "a password of mia")
	sh.do(t, "limits", "create", "orders", "--subject", "user", "--permission", "orders:*", "--rate", "2", "--period", "1h")
	sh.do(t, "limits", "create", "quota", "--subject", "custom", "--context-key", "tenant", "--permission", "orders:*", "--rate", "1000", "--algorithm", "calendar", "--calendar", "month", "--time-zone", "Europe/Berlin")
	contains(t, sh.do(t, "limits", "list"), "orders:*", "2/1h", "1000/month Europe/Berlin", "context.tenant", "sign-in-per-ip")
	sh.do(t, "limits", "edit", "orders", "--mode", "shadow", "--burst", "3")
	contains(t, sh.do(t, "limits", "get", "orders"), "shadow", "3")
	sh.do(t, "limits", "edit", "orders", "--mode", "enforce", "--burst", "2")
	contains(t, sh.do(t, "limits", "check", "orders", "mia"), "2", "mia")
	for range 2 {
		s.Post(t, "/v1/limits/check", object{"limit": "orders", "key": id})
	}
	if code, out, _ := sh.try(t, "", "limits", "check", "orders", "mia"); code != 1 {
		t.Errorf("with nothing left: exit code %d, %s", code, out)
	}
	sh.do(t, "limits", "reset", "orders", "mia")
	sh.do(t, "limits", "check", "orders", "mia", "--cost", "2")
	sh.fails(t, 1, "remove the limit orders: 2/1h of orders:* for each user", "limits", "delete", "orders")
	sh.do(t, "limits", "delete", "orders", "--yes")
	for _, verb := range []string{"get", "edit", "delete", "check", "reset"} {
		args := []string{"limits", verb, "orders"}
		if verb == "edit" {
			args = append(args, "--rate", "7")
		}
		sh.fails(t, 1, `no limit "orders"`, args...)
	}
	sh.fails(t, 1, "rate", "limits", "create", "wrong", "--subject", "user", "--period", "1s")
	sh.fails(t, 1, "--subject", "limits", "create", "wrong", "--subject", "nobody", "--rate", "1")

	sh.do(t, "routes", "create", "order", "--path", "/orders/{id}", "--method", "GET", "--permission", "orders:read", "--resource", "orders/{id}", "--context", "tenant=acme")
	contains(t, sh.do(t, "routes", "list"), "/orders/{id}", "GET", "orders:read")
	contains(t, sh.do(t, "routes", "match", "GET", "/orders/7"), "order", "orders/7", "id = 7", "tenant = acme")
	sh.fails(t, 1, "route", "routes", "match", "GET", "/other")
	contains(t, sh.do(t, "routes", "get", "order", "-o", "yaml"), "permission: orders:read")
	sh.fails(t, 1, "remove the route order: GET /orders/{id}", "routes", "delete", "order")
	sh.do(t, "routes", "delete", "order", "--yes")
	for _, verb := range []string{"get", "edit", "delete"} {
		sh.fails(t, 1, `no route "order"`, "routes", verb, "order")
	}
	backendtest.Equal(t, len(sh.asJSON(t, "routes", "list")["routes"].([]any)), 0, "the routes that are left")
}
