package main_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/tollgatehq/tollgate/server/internal/backendtest"
)

const goodPolicy = `
roles: [{name: reader, permissions: [documents:read]}]
users: [{name: mia, roles: [reader]}]
tests:
  - {name: mia reads, user: mia, permission: documents:read, expect: allow}
  - {name: mia does not write, user: mia, permission: documents:write, expect: deny, reason: PERMISSION_MISSING}
`

// policies are files for one test: good passes, bad has a case that fails, and wrong
// is no policy.
func policies(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for name, text := range map[string]string{
		"good.yaml":  goodPolicy,
		"bad.yaml":   strings.Replace(goodPolicy, "expect: allow", "expect: deny", 1),
		"wrong.yaml": strings.Replace(goodPolicy, "roles: [{", "roles: [{grant: x, ", 1),
		"timed.yaml": strings.Replace(goodPolicy, "expect: allow", "now: 2026-08-03T09:00:00Z, expect: allow", 1),
	} {
		backendtest.Must(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	return dir
}

// TestPolicyTest checks what the command says and its exit status, which a build
// goes by.
func TestPolicyTest(t *testing.T) {
	t.Parallel()
	dir := policies(t)
	for _, test := range []struct {
		args           []string
		stdin          string
		code           int
		stdout, stderr string // what they say; empty: nothing
	}{
		{[]string{"good.yaml"}, "", 0, "2 cases passed\n", ""},
		{[]string{"good.yaml", "timed.yaml"}, "", 0, "4 cases passed\n", ""},
		{[]string{"-v", "good.yaml"}, "", 0, "ok   good.yaml:5: mia reads: allow; reader allows documents:read\nok   good.yaml:6: ", ""},
		{[]string{"-"}, goodPolicy, 0, "2 cases passed\n", ""},
		{[]string{"good.yaml", "-"}, goodPolicy, 0, "4 cases passed\n", ""},
		{[]string{"bad.yaml"}, "", 1, "FAIL bad.yaml:5: mia reads: expected deny, came allow; reader allows documents:read\n1 case passed, 1 failed\n", "tollgate: 1 case did not come as expected\n"},
		{[]string{"bad.yaml", "good.yaml"}, "", 1, "3 cases passed, 1 failed\n", "tollgate: 1 case "},
		{[]string{"-"}, "tests: []", 2, "0 cases passed\n", "standard input:1: tests: there are none"},
		{[]string{"wrong.yaml"}, "", 2, "0 cases passed\n", "wrong.yaml:2: roles[0].grant: is not known"},
		{[]string{"wrong.yaml", "bad.yaml", "good.yaml"}, "", 2, "3 cases passed, 1 failed\n", "tollgate: 1 file could not be run"},
		{[]string{"missing.yaml"}, "", 2, "0 cases passed\n", "missing.yaml: no such file"},
		{[]string{"."}, "", 2, "0 cases passed\n", "is a directory"},
		{[]string{"-"}, strings.Repeat("a: b\n", 30), 2, "0 cases passed\n", "and 10 more"},
		{[]string{"--url", "tollgate.example.com", "good.yaml"}, "", 2, "", "--url must be http:// or https://"},
		{[]string{"--url", "https://u:p@tollgate.example.com", "good.yaml"}, "", 2, "", "--url must be http:// or https://"},
		{[]string{"--url", "https://tollgate.example.com", "good.yaml"}, "", 2, "", "--url takes --api-key, too"},
		{[]string{"--url", "http://127.0.0.1:1", "--api-key", "k", "good.yaml"}, "", 2, "0 cases passed at http://127.0.0.1:1\n", "good.yaml:5: mia reads: look for user \"mia\": unavailable"},
	} {
		code, stdout, stderr := command(t, dir, test.stdin, append([]string{"policy", "test"}, test.args...)...)
		if code != test.code || !strings.Contains(stdout, test.stdout) || !strings.Contains(stderr, test.stderr) ||
			test.stdout == "" && stdout != "" || test.stderr == "" && stderr != "" {
			t.Errorf("%s: exit code %d, %s%s; want %d, %s%s", test.args, code, stdout, stderr, test.code, test.stdout, test.stderr)
		}
	}
	if code, _, stderr := command(t, dir, "", "policy", "test"); code == 0 || !strings.Contains(stderr, "<file>") {
		t.Errorf("without a file: exit code %d, %s", code, stderr)
	}
	help := succeed(t, dir, "", "policy", "--help")
	if _, err := os.Stat(filepath.Join(dir, "tollgate.db")); err == nil || !strings.Contains(help, "tollgate policy test policy.yaml") {
		t.Errorf("it opened a database, or the help has no example: %s", help)
	}
}

// TestPolicyHelp runs the example in the command's help.
func TestPolicyHelp(t *testing.T) {
	t.Parallel()
	_, example, _ := strings.Cut(succeed(t, t.TempDir(), "", "policy", "--help"), "    # policy.yaml\n")
	example, _, _ = strings.Cut(example, "\n\n")
	var file strings.Builder
	for line := range strings.Lines(example) {
		file.WriteString(strings.TrimPrefix(line, "    "))
	}
	if out := succeed(t, t.TempDir(), file.String(), "policy", "test", "-"); out != "2 cases passed\n" {
		t.Errorf("it says %s", out)
	}
}

// TestPolicyExample runs the example of docs/policies.md, whose output the page
// shows.
func TestPolicyExample(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../docs/policies.md")
	backendtest.Must(t, err)
	example, err := os.ReadFile("../docs/policies-example.yaml")
	backendtest.Must(t, err)
	out := succeed(t, "..", "", "policy", "test", "docs/policies-example.yaml")
	code, failed, _ := command(t, t.TempDir(), strings.Replace(string(example), "10.0.0.0/8", "10.0.0.0/24", 1), "policy", "test", "-")
	if code != 1 || !strings.Contains(string(page), "docs/policies-example.yaml\n"+out+"```") || !strings.Contains(string(page), "policy test -\n"+failed+"```") {
		t.Errorf("docs/policies.md does not show what it says: %s%s", out, failed)
	}
}

// TestPolicyTestServer checks the same file against a running server.
func TestPolicyTestServer(t *testing.T) {
	t.Parallel()
	dir, s := policies(t), serveAdmin(t)
	s.Post(t, "/v1/roles", object{"name": "reader", "permissions": []string{"documents:read"}, "grants": []object{
		{"permission": "documents:share", "condition": `context.team == "sales"`},
	}})
	mia := s.NewUser(t, "mia", "a password of mia", "reader")
	s.Post(t, "/v1/roles", object{"name": "asker", "permissions": []string{"tollgate:explain", "tollgate:users:read"}})
	id := s.Post(t, "/v1/users", object{"username": "ci", "kind": "USER_KIND_SERVICE", "roles": []string{"asker"}}).Str("user", "id")
	key := s.Post(t, "/v1/api-keys", object{"userId": id, "name": "ci"}).Str("secret")
	s.Post(t, "/v1/limits", object{"name": "one-read", "subject": "SUBJECT_USER", "permission": "documents:read", "rate": 1, "period": "900s"})

	test := func(code int, stdout, stderr, stdin string, args ...string) {
		t.Helper()
		p := run(t, tollgateBinary, dir, []string{"TOLLGATE_URL=" + s.URL, "TOLLGATE_API_KEY=" + key}, stdin, append([]string{"policy", "test"}, args...)...)
		if got := p.wait(t); got != code || !strings.Contains(p.stdout.String(), stdout) || !strings.Contains(p.stderr.String(), stderr) || strings.Contains(p.stdout.String()+p.stderr.String(), key) {
			t.Errorf("%s: exit code %d, %s%s; want %d, %s%s", args, got, p.stdout, p.stderr, code, stdout, stderr)
		}
	}
	at := " at " + s.URL + "\n"
	for range 3 { // it counts against no limit
		test(0, "2 cases passed"+at, "", "", "good.yaml")
	}
	test(1, "FAIL bad.yaml:5: mia reads: expected deny, came allow; reader allows documents:read\n1 case passed, 1 failed"+at, "1 case", "", "bad.yaml")
	test(0, "SKIP timed.yaml:5: mia reads: a server goes by its own clock, and this sets now\n1 case passed, 1 skipped"+at, "", "", "timed.yaml")
	test(2, "0 cases passed, 1 skipped"+at, "every case was skipped", "tests: [{name: x, user: mia, scopes: ['*'], permission: a, expect: deny}]", "-")
	test(1, `expected allow, came deny CONDITION_FALSE; reader allows documents:share if context.team == "sales": false; with context.team = "legal"`, "1 case",
		"tests: [{name: x, user: "+mia+", permission: documents:share, context: {team: legal}, expect: allow}]", "-")
	test(1, "it fails (no such key: team)", "1 case", "tests: [{name: x, user: mia, permission: documents:share, expect: allow}]", "-")
	test(0, "1 case passed", "", "users: [{name: anna, id: "+mia+"}]\ntests: [{name: x, user: anna, permission: documents:read, expect: allow}]", "-")
	test(2, "", `standard input:1: x: there is no user "tom" on the server`, "tests: [{name: x, user: tom, permission: a, expect: deny}]", "-")
	test(2, "", "unauthenticated", "", "--api-key", key+"x", "good.yaml")
	blind := s.Post(t, "/v1/api-keys", object{"userId": id, "name": "blind", "scopes": []string{"tollgate:users:read"}}).Str("secret")
	test(2, "", "permission_denied: this needs the permission tollgate:explain", "", "--api-key", blind, "good.yaml")

	// The key goes to the server that was named, and an answer from elsewhere is none.
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the redirect was followed") }))
	defer elsewhere.Close()
	redirects := httptest.NewServer(http.RedirectHandler(elsewhere.URL, http.StatusTemporaryRedirect))
	defer redirects.Close()
	test(2, "", "look for user", "", "--url", redirects.URL, "good.yaml")
}

// TestPolicyExampleServer puts the policy of the example on a server, which decides
// every case that it can be asked as the file does.
func TestPolicyExampleServer(t *testing.T) {
	t.Parallel()
	content, err := os.ReadFile("../docs/policies-example.yaml")
	backendtest.Must(t, err)
	var file struct{ Roles, Users, Resources, Tests []object }
	backendtest.Must(t, yaml.Unmarshal(content, &file))
	s := serveAdmin(t)
	for _, r := range file.Roles {
		grants, _ := r["grants"].([]any)
		for _, g := range grants {
			if grant, _ := g.(object); grant["effect"] == "deny" {
				grant["effect"] = "EFFECT_DENY"
			}
		}
		s.Post(t, "/v1/roles", r)
	}
	ids := map[any]string{}
	for _, u := range file.Users {
		id := s.NewUser(t, u["name"].(string), "a password of them all")
		ids[u["name"]] = id
		assigned, _ := u["roles"].([]any)
		for _, role := range assigned {
			if name, lasts := role.(string); lasts {
				s.Assign(t, name, id)
			}
		}
		if attributes := u["attributes"]; attributes != nil {
			s.Patch(t, "/v1/users/"+id, object{"attributes": attributes})
		}
	}
	for _, r := range file.Resources {
		s.Put(t, fmt.Sprintf("/v1/resources/%s/%s", r["type"], r["id"]), object{"attributes": r["attributes"]})
	}
	skipped := 0
	for _, test := range file.Tests {
		if test["now"] != nil || test["scopes"] != nil {
			skipped++
		}
	}
	out := succeed(t, "..", "", "policy", "test", "--url", s.URL, "--api-key", s.Post(t, "/v1/api-keys", object{"name": "ci"}).Str("secret"), "docs/policies-example.yaml")
	if want := fmt.Sprintf("%d cases passed, %d skipped at %s\n", len(file.Tests)-skipped, skipped, s.URL); !strings.HasSuffix(out, want) || skipped == 0 {
		t.Errorf("it says %s, want %s", out, want)
	}

	// Break-glass as the page has it: with an end, by a reason, and the answer says so.
	s.Put(t, "/v1/roles/break-glass/members/"+ids["oncall"], object{"expiresAt": time.Now().Add(time.Hour).Format(time.RFC3339)})
	ask := object{"userId": ids["oncall"], "permission": "documents:read", "resource": "documents/salaries", "client": object{"ip": "203.0.113.9"}}
	if a := s.Post(t, "/v1/authorize", ask); a.At("allowed") == true {
		t.Errorf("without a reason: %s", a.Raw)
	}
	ask["context"] = object{"reason": "ticket 4711, restore after the outage"}
	if a := s.Post(t, "/v1/authorize", ask); a.At("allowed") != true || !strings.HasPrefix(a.Str("grant"), "break-glass: allow documents:read if ") {
		t.Errorf("with a reason: %s", a.Raw)
	}
	s.Post(t, "/v1/audit/events", object{
		"actor": object{"userId": ids["oncall"], "username": "oncall"}, "action": "documents.break_glass", "outcome": "OUTCOME_SUCCESS",
		"resource": "documents/salaries", "reason": "ticket 4711, restore after the outage",
	})
	if got := len(s.Events(t, "action=documents.break_glass")) + len(s.Events(t, "action=role.assign&resource=roles/break-glass")); got != 2 {
		t.Errorf("%d events of the use and the assignment, want 2", got)
	}
}
