package main_test

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/tollgatehq/tollgate/server/internal/apitest"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
)

// TestCLIAudit checks the audit log's filters, and what a limit says.
func TestCLIAudit(t *testing.T) {
	t.Parallel()
	s, sh := serveShell(t)
	for _, name := range []string{"one", "two", "three"} {
		s.Post(t, "/v1/roles", object{"name": name})
	}
	contains(t, sh.do(t, "audit", "list", "--action", "role.*", "--actor", "admin", "--after", "1h"), "role.create", "roles/two", "success")
	contains(t, sh.do(t, "audit", "list", "--action", "role.*", "--limit", "2"), "roles/three", "there are more")
	for query, want := range map[string]int{
		"--resource roles/one": 1, "--action role.create --resource roles/one --outcome success": 1, "--resource roles/one --outcome denied": 0,
		"--resource roles/one --before 2020-01-01T00:00:00Z": 0, "--resource roles/* --action role.create --actor admin": 3, "--resource roles --action role.create": 0,
		"--action role.create --reason permission_missing": 0, "--action role.create --session none": 0, "--key none": 0, "--request none": 0, "--recorded-by none": 0,
	} {
		if n := len(sh.asJSON(t, append([]string{"audit", "list"}, strings.Fields(query)...)...)["events"].([]any)); n != want {
			t.Errorf("%s: %d events, want %d", query, n, want)
		}
	}
	event := sh.asJSON(t, "audit", "list", "--resource", "roles/two")["events"].([]any)[0].(object)
	for flag, value := range map[string]any{"--session": event["actor"].(object)["sessionId"], "--request": event["requestId"]} {
		contains(t, sh.do(t, "audit", "list", flag, value.(string)), "roles/two")
	}
	apitest.Eventually(t, "the event is found by its network", func() bool {
		return strings.Contains(sh.do(t, "audit", "list", "--address", "127.0.0.0/8"), "roles/two")
	})
	contains(t, sh.do(t, "audit", "show", event["id"].(string)), "roles/two", "role.create", event["requestId"].(string))
	sh.fails(t, 1, "no event of the id", "audit", "show", "none")
	contains(t, sh.do(t, "audit", "summary", "--action", "role.create", "--actor", "admin", "--by", "action"), "role.create  3        0       0        3      ████")
	hours := sh.do(t, "audit", "summary", "--resource", "roles/*", "--after", "5h")
	if n := strings.Count(hours, "\n"); n < 6 || n > 7 { // each hour has a line
		t.Errorf("5 hours:\n%s", hours)
	}
	contains(t, sh.do(t, "audit", "summary", "--by", "day"), "DAY ", "████")
	sh.fails(t, 1, "for a shorter time or for days", "audit", "summary", "--after", "40d")
	sh.fails(t, 1, "must be an address or a network", "audit", "list", "--address", "localhost")
	sh.fails(t, 1, "--after", "audit", "list", "--after", "yesterday")
	s.Post(t, "/v1/limits", object{"name": "reads", "subject": "SUBJECT_USER", "permission": "tollgate:audit:read", "rate": 1, "period": "3600s"})
	sh.do(t, "audit", "list")
	sh.fails(t, 1, "too many calls; try again in", "audit", "list")
	contains(t, sh.do(t, "limits", "list"), "reads") // other calls go on
}

// TestCLIHolds checks holds from their creation to their end.
func TestCLIHolds(t *testing.T) {
	t.Parallel()
	_, sh := serveShell(t)
	sh.do(t, "audit", "hold", "create", "case-17", "--actor", "ann", "--resource", "orders/*", "--after", "30d", "--reason", "a court said so")
	contains(t, sh.do(t, "audit", "hold", "list"), "case-17", "ann", "orders/*", "a court said so")
	sh.fails(t, 1, "exists already", "audit", "hold", "create", "case-17")
	sh.do(t, "audit", "hold", "delete", "case-17", "--yes")
	sh.fails(t, 1, "no hold", "audit", "hold", "delete", "case-17", "--yes")
}

// TestCLITail checks that a tail shows each event once, also those of an outage of its
// connection, and ends well at Ctrl-C.
func TestCLITail(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := serve(t, dir, "TOLLGATE_ADMIN_PASSWORD="+adminPassword)
	sh := newShell(t, s.URL)
	sh.login(t, "admin", adminPassword)
	admin := s.SignedIn(t, "admin", adminPassword)
	tail := run(t, tollgateBinary, sh.home, sh.env, "", "audit", "tail", "--action", "role.create", "-o", "json")
	seen := func(name string) {
		t.Helper()
		apitest.Eventually(t, "the event of "+name, func() bool { return strings.Contains(tail.stdout.String(), "roles/"+name) })
	}
	n := 0
	apitest.Eventually(t, "the tail begins", func() bool {
		n++
		admin.Post(t, "/v1/roles", object{"name": fmt.Sprint("begun-", n)})
		return strings.Contains(tail.stdout.String(), "roles/begun")
	})
	admin.Post(t, "/v1/roles", object{"name": "before"})
	seen("before")

	s.stop(t)
	apitest.Eventually(t, "the tail notices", func() bool { return strings.Contains(tail.stderr.String(), "trying again") })
	next := run(t, tollgateBinary, dir, []string{"TOLLGATE_ADMIN_PASSWORD=" + adminPassword}, "", "--listen", strings.TrimPrefix(s.URL, "http://"), "--metrics-listen=")
	next.says(t, greeting)
	admin.Post(t, "/v1/roles", object{"name": "while"})
	seen("while")
	admin.Post(t, "/v1/roles", object{"name": "after"})
	seen("after")
	tail.signal(t, os.Interrupt)
	if code := tail.wait(t); code != 0 {
		t.Errorf("exit code %d, %s", code, tail.stderr)
	}
	times := map[string]int{}
	for line := range strings.Lines(tail.stdout.String()) {
		var event object
		backendtest.Must(t, json.Unmarshal([]byte(line), &event))
		times[event["resource"].(string)]++
	}
	for _, name := range []string{"before", "while", "after"} {
		if times["roles/"+name] != 1 {
			t.Errorf("the event of %s was shown %d times", name, times["roles/"+name])
		}
	}
	sh.fails(t, 1, "tollgate login", "audit", "tail", "--profile", "default", "--api-key", "nonsense")
}

// TestCLIHostileText checks that what callers choose cannot drive the terminal of who
// lists it, in any format.
func TestCLIHostileText(t *testing.T) {
	t.Parallel()
	s, sh := serveShell(t)
	const evil = "\u001b[2J\u001b]0;owned\u0007\u009b31m\u202eEVIL"
	s.Post(t, "/v1/roles", object{"name": "evil", "description": evil + "\nfake  row"})
	s.Post(t, "/v1/audit/events", object{"action": "order.cancel", "outcome": "OUTCOME_SUCCESS", "userAgent": evil, "resource": evil, "actor": object{"username": evil}})
	s.As("").Call(t, "POST", "/v1/auth/login", object{"username": "admin", "password": adminPassword}, "User-Agent", "Mozilla \x9b31m\xc2\x9b31m")
	for _, args := range [][]string{
		{"roles", "list"}, {"roles", "get", "evil"}, {"audit", "list"}, {"sessions", "list", "admin"}, {"users", "get", "admin"}, {"users", "list"},
	} {
		for _, format := range []string{"table", "json", "yaml"} {
			out := sh.do(t, append(args, "-o", format)...)
			for _, r := range out {
				if r < ' ' && r != '\n' || r >= 0x7f && r < 0xa0 || r == '\u202e' {
					t.Errorf("%q as %s has %q: %q", args, format, r, out)
					break
				}
			}
			if format == "table" && strings.Contains(out, "\nfake") {
				t.Errorf("%q has a row of the attacker's: %s", args, out)
			}
		}
	}
	if code, _, stderr := sh.try(t, "x\n", "login", evil, "--profile", "other"); code != 1 || strings.ContainsAny(stderr, "\x1b\u009b\u202e") {
		t.Errorf("exit code %d, %q", code, stderr)
	}
}
