package main_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/tollgatehq/tollgate/server/internal/apitest"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
)

// TestLimitsCommands checks that an operator with access to the database can
// undo a lockout while the server runs, whether it counts in memory or in
// Redis.
func TestLimitsCommands(t *testing.T) {
	t.Parallel()
	for name, env := range map[string]func() []string{
		"sqlite":   func() []string { return []string{"TOLLGATE_ADMIN_PASSWORD=" + adminPassword} },
		"postgres": func() []string { return settings(backendtest.PostgreSQLURL(t), backendtest.EmptyRedisURL(t)) },
	} {
		t.Run(name, func(t *testing.T) {
			dir, env := t.TempDir(), env()
			s := serve(t, dir, env...)
			limits := func(code int, says string, args ...string) {
				t.Helper()
				p := run(t, tollgateBinary, dir, env, "", append([]string{"recover", "limits"}, args...)...)
				if got := p.wait(t); got != code || !strings.Contains(p.stdout.String()+p.stderr.String(), says) {
					t.Fatalf("%s: exit code %d, %s%s; want %d and %q", args, got, p.stdout, p.stderr, code, says)
				}
			}
			signIn := func(password string) int {
				return s.As("").Call(t, "POST", "/v1/auth/login", object{"username": "admin", "password": password}).Status
			}
			getsIn := func(after string) {
				t.Helper()
				apitest.Eventually(t, "the administrator signs in after "+after, func() bool { return signIn(adminPassword) == http.StatusOK })
			}
			locked := func(by string) {
				t.Helper()
				if status := signIn(adminPassword); status != http.StatusTooManyRequests {
					t.Fatalf("locked out by %s: status %d", by, status)
				}
			}
			admin := s.SignedIn(t, "admin", adminPassword)

			admin.Post(t, "/v1/limits", object{"name": "typo", "subject": "SUBJECT_IP", "permission": "tollgate:*", "rate": 1, "period": "900s"})
			signIn("a wrong password")
			locked("a limit")
			for _, says := range []string{"typo", "1/15m0s", "user_ip"} {
				limits(0, says, "list")
			}
			limits(0, "", "delete", "typo")
			admin.Post(t, "/v1/limits", object{"name": "leased", "subject": "SUBJECT_GLOBAL", "permission": "orders:*", "rate": 1000, "period": "1s", "lease": true, "leaseTime": "0.050s"})
			limits(0, "50ms", "list")
			getsIn("limits delete")

			admin.Patch(t, "/v1/limits/sign-in-per-ip", object{"rate": 1, "burst": 1})
			signIn("a wrong password")
			locked("a built-in limit")
			limits(1, "tollgate recover limits restore sign-in-per-ip", "delete", "sign-in-per-ip")
			limits(0, "", "restore", "sign-in-per-ip")
			getsIn("limits restore")

			for signIn("a wrong password") != http.StatusTooManyRequests { // the longer they take, the longer is the wait
			}
			locked("guesses")
			limits(0, "", "reset", "sign-in-per-user-and-ip")
			getsIn("limits reset")

			for _, verb := range []string{"delete", "restore", "reset"} {
				limits(1, `there is no limit "nothing"`, verb, "nothing")
			}
			for _, action := range []string{"limit.delete", "limit.update", "limit.reset"} {
				if events := admin.Events(t, "action="+action+"&actor=system"); len(events) != 1 {
					t.Errorf("%d events %s by the system, want 1", len(events), action)
				}
			}
		})
	}
}
