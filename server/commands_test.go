package main_test

import (
	"net"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/tollgatehq/tollgate/server/internal/apitest"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
)

// command runs a command to its end.
func command(t *testing.T, dir, stdin string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	p := run(t, tollgateBinary, dir, nil, stdin, args...)
	code = p.wait(t)
	return code, p.stdout.String(), p.stderr.String()
}

func succeed(t *testing.T, dir, stdin string, args ...string) string {
	t.Helper()
	code, stdout, stderr := command(t, dir, stdin, args...)
	if code != 0 {
		t.Fatalf("%s: exit code %d: %s", args, code, stderr)
	}
	return stdout
}

// fail runs a command that must end with exit code 1 and an error that says
// this.
func fail(t *testing.T, dir, stdin, says string, args ...string) {
	t.Helper()
	if code, _, stderr := command(t, dir, stdin, args...); code != 1 || !strings.Contains(stderr, says) {
		t.Errorf("%q: exit code %d, %s; want %q", args, code, stderr, says)
	}
}

func TestVersion(t *testing.T) {
	t.Parallel()
	version := strings.TrimSpace(succeed(t, t.TempDir(), "", "version"))
	if flag := succeed(t, t.TempDir(), "", "--version"); version == "" || strings.TrimSpace(flag) != version {
		t.Errorf("--version says %q, and version %q", flag, version)
	}
	if health := serve(t, t.TempDir()).Get(t, "/healthz").Body; health["version"] != version || health["status"] != "ok" {
		t.Errorf("/healthz says %v, want version %q", health, version)
	}
}

func TestHelp(t *testing.T) {
	t.Parallel()
	help := succeed(t, t.TempDir(), "", "--help")
	for _, word := range []string{
		"serve", "migrate", "recover", "signing-keys", "health", "login", "whoami", "can",
		"--listen", "--metrics-listen", "--database-url", "--redis-url", "--trusted-proxies", "--access-token-ttl",
		"--issuer", "--audience", "--master-key", "TOLLGATE_ADMIN_PASSWORD",
	} {
		if !strings.Contains(help, word) {
			t.Errorf("--help does not mention %s", word)
		}
	}
	for _, word := range []string{"recover user create", "recover user reset-password", "recover limits list", "recover limits reset"} {
		if all := succeed(t, t.TempDir(), "", "recover", "--help"); !strings.Contains(all, word) {
			t.Errorf("recover --help does not mention %s", word)
		}
	}
	if succeed(t, t.TempDir(), "", "help") != help {
		t.Error("help says something else than --help")
	}
	if create := succeed(t, t.TempDir(), "", "help", "recover", "user", "create"); !strings.Contains(create, "--generate") {
		t.Errorf("help user create: %s", create)
	}
}

// TestMistakes checks that a mistake is reported in one line on standard error
// that names what to change, and that nothing is left behind.
func TestMistakes(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	backendtest.Must(t, err)
	defer taken.Close()
	const goodKey = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
	for _, c := range []struct {
		args []string
		says string
	}{
		{[]string{"--listen", taken.Addr().String()}, "--listen"},
		{[]string{"--listen", "nowhere"}, "--listen"},
		{[]string{"--listen", "127.0.0.1:0", "--metrics-listen", taken.Addr().String()}, "--metrics-listen"},
		{[]string{"--nothing"}, "--nothing"},
		{[]string{"frobnicate"}, "frobnicate"},
		{[]string{"help", "frobnicate"}, "frobnicate"},
		{[]string{"user", "create", "mia"}, "tollgate recover user"},
		{[]string{"--issuer", "https://tollgate.test", "keys", "rewrap"}, "tollgate signing-keys rewrap"},
		{[]string{"limits", "restore", "sign-in-per-ip"}, "tollgate recover limits restore"},
		{[]string{"recover", "user"}, "reset-password"},
		{[]string{"--listen", "127.0.0.1:0", "--access-token-ttl", "5"}, "--access-token-ttl"},
		{[]string{"--listen", "127.0.0.1:0", "--access-token-ttl", "48h"}, "--access-token-ttl"},
		{[]string{"--listen", "127.0.0.1:0", "--audit-retention", "90"}, "--audit-retention"},
		{[]string{"--listen", "127.0.0.1:0", "--audit-retention", "90m"}, "--audit-retention"},
		{[]string{"--listen", "127.0.0.1:0", "--audit-retention=-24h"}, "--audit-retention"},
		{[]string{"--listen", "127.0.0.1:0", "--session-max", "1m"}, "--session-max"},
		{[]string{"--listen", "127.0.0.1:0", "--bcrypt-cost", "99"}, "--bcrypt-cost"},
		{[]string{"--listen", "127.0.0.1:0", "--staleness", "0s"}, "--staleness"},
		{[]string{"--listen", "127.0.0.1:0", "--issuer", ""}, "--issuer"},
		{[]string{"--listen", "127.0.0.1:0", "--issuer", "foo"}, "--issuer"},
		{[]string{"--listen", "127.0.0.1:0", "--issuer", "https://"}, "--issuer"},
		{[]string{"--listen", "127.0.0.1:0", "--issuer", "https://auth.example.com/?a"}, "--issuer"},
		{[]string{"--listen", "127.0.0.1:0", "--max-calls=-1"}, "--max-in-flight"},
		{[]string{"--listen", "127.0.0.1:0", "--trusted-proxies", "10.0.0.0/33"}, "--trusted-proxies"},
		{[]string{"--listen", "127.0.0.1:0", "--master-key", goodKey, "--database-url", "mysql://x"}, "--database-url"},
		{[]string{"--listen", "127.0.0.1:0", "--master-key", goodKey, "--database-url", "postgres://u:hunter2@%zz/"}, "database URL"},
		{[]string{"--listen", "127.0.0.1:0", "--database-url", "sqlite:missing/tollgate.db"}, "folder missing/ does not exist"},
		{[]string{"--listen", "127.0.0.1:0", "--redis-url", "hunter2"}, "--redis-url"},
		{[]string{"--listen", "127.0.0.1:0", "--master-key", "hunter2"}, "master key"},
		{[]string{"--listen", "127.0.0.1:0", "--admin-password", "short"}, "TOLLGATE_ADMIN_PASSWORD"},
		{[]string{"--log-level", "loud"}, "--log-level"},
		{[]string{"migrate", "down"}, "--yes"},
		{[]string{"migrate", "down", "--yes", "--steps", "0"}, "--steps"},
		{[]string{"recover", "user", "reset-password", "nobody", "--generate"}, "nobody"},
		{[]string{"recover", "user", "create", "mia"}, "password"},
		{[]string{"health", "--listen", "127.0.0.1:1"}, "127.0.0.1:1"},
	} {
		t.Run(strings.Join(c.args, " "), func(t *testing.T) {
			code, stdout, stderr := command(t, t.TempDir(), "", c.args...)
			var said []string // the log is on standard error, too
			for line := range strings.Lines(stderr) {
				if !strings.HasPrefix(line, "{") {
					said = append(said, line)
				}
			}
			message := strings.Join(said, "")
			if code == 0 || len(said) != 1 || !strings.HasPrefix(message, "tollgate: ") || !strings.Contains(message, c.says) {
				t.Errorf("exit code %d, and on standard error %q; want one line with %q", code, message, c.says)
			}
			if strings.Contains(stdout+stderr, "hunter2") {
				t.Error("it repeats a secret")
			}
			if strings.Count(stdout, "\n") > 5 {
				t.Errorf("it also says %s", stdout)
			}
		})
	}
}

// TestFailedStartKeepsFirstPassword checks that a start that fails for an
// address in use creates nothing: the next start shows the first
// administrator's password.
func TestFailedStartKeepsFirstPassword(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	backendtest.Must(t, err)
	defer taken.Close()
	dir := t.TempDir()
	for _, flags := range [][]string{
		{"--listen", "127.0.0.1:0", "--metrics-listen", taken.Addr().String()},
		{"--listen", taken.Addr().String(), "--metrics-listen="},
	} {
		fail(t, dir, "", taken.Addr().String(), flags...)
	}
	if s := serve(t, dir); s.password == "" {
		t.Error("the start after two that failed shows no password")
	}
}

func TestMigrate(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if out := succeed(t, dir, "", "migrate", "status"); !strings.Contains(out, "not applied") {
		t.Errorf("status of a new database: %s", out)
	}
	if out := succeed(t, dir, "", "migrate", "up"); !strings.Contains(out, "applied 0001") {
		t.Errorf("up: %s", out)
	}
	if out := succeed(t, dir, "", "migrate", "up"); !strings.Contains(out, "nothing to do") {
		t.Errorf("up again: %s", out)
	}
	all := succeed(t, dir, "", "migrate", "status")
	if strings.Contains(all, "not applied") {
		t.Errorf("status: %s", all)
	}
	// Refused without --yes, and nothing was done.
	fail(t, dir, "", "--yes", "migrate", "down")
	if out := succeed(t, dir, "", "migrate", "status"); out != all {
		t.Errorf("after a refused down: %s", out)
	}
	if out := succeed(t, dir, "", "migrate", "down", "--yes"); strings.Count(out, "undid ") != 1 {
		t.Errorf("down by one: %s", out)
	}
	if out := succeed(t, dir, "", "migrate", "down", "--yes", "--steps", "100"); !strings.Contains(out, "undid 0001") {
		t.Errorf("down: %s", out)
	}
	serve(t, dir).Get(t, "/healthz") // which brings it up again
}

func TestUserCommands(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	// Before a server has ever run.
	if out := succeed(t, dir, "a password of mia\n", "recover", "user", "create", "Mia", "--role", "administrator"); !strings.Contains(out, "created user mia (") {
		t.Errorf("user create: %s", out)
	}
	for _, args := range [][]string{{"recover", "user", "create", "mia"}, {"recover", "user", "create", "tom", "--role", "nothing"}, {"recover", "user", "create", "a\nb"}} {
		fail(t, dir, "a password\n", "tollgate: ", args...)
	}

	s := serve(t, dir)
	if s.password != "" {
		t.Error("there are users, and another administrator was made")
	}
	before := s.Login(t, "mia", "a password of mia")
	mia := s.As(before.Str("accessToken"))
	if users := mia.Get(t, "/v1/users").List("users"); len(users) != 1 {
		t.Errorf("users: %v", users)
	}

	// While a server runs on the same file: the API keys are revoked with the
	// password unless --keep-api-keys is given.
	key := s.As(mia.Post(t, "/v1/api-keys", object{"name": "a key"}).Str("secret"))
	out := succeed(t, dir, "a password of mia, too", "recover", "user", "reset-password", "mia", "--keep-api-keys")
	if !strings.Contains(out, "API keys revoked: 0") {
		t.Errorf("keeping the keys, it says %s", out)
	}
	out = succeed(t, dir, "another password\n", "recover", "user", "reset-password", "MIA")
	if strings.Contains(out, "another password") {
		t.Errorf("the password is repeated: %s", out)
	}
	apitest.Eventually(t, "the running server ends the session", func() bool {
		return mia.Call(t, "GET", "/v1/auth/whoami", nil).Status == http.StatusUnauthorized
	})
	if !strings.Contains(out, "API keys revoked: 1") {
		t.Errorf("it says %s", out)
	}
	apitest.Eventually(t, "the running server ends the key", func() bool {
		return key.Call(t, "GET", "/v1/auth/whoami", nil).Status == http.StatusUnauthorized
	})
	s.As("").Call(t, "POST", "/v1/auth/refresh", object{"refreshToken": before.Str("refreshToken")}).Want(t, http.StatusUnauthorized)
	s.As("").Call(t, "POST", "/v1/auth/login", object{"username": "mia", "password": "a password of mia"}).Want(t, http.StatusUnauthorized)
	mia = s.SignedIn(t, "mia", "another password")
	succeed(t, dir, "a password of tom", "recover", "user", "create", "tom", "--role", "auditor")
	tom := s.SignedIn(t, "tom", "a password of tom")
	tom.Get(t, "/v1/audit/events")
	for _, action := range []string{"user.create", "user.password_reset"} {
		for _, e := range mia.Events(t, "action="+action) {
			if apitest.Dig(e, "actor", "username") != "system" {
				t.Errorf("%s was done by %v", action, e["actor"])
			}
		}
	}

	// A one-time password can only be used to choose another.
	s.stop(t)
	out = succeed(t, dir, "", "recover", "user", "reset-password", "tom", "--generate")
	s.again(t).changesOneTime(t, "tom", out, "/v1/audit/events")
}

// changesOneTime checks that the one-time password that a command printed can
// only be used to choose another, with which the user gets an answer at path.
func (s *tollgate) changesOneTime(t *testing.T, user, printed, path string) {
	t.Helper()
	_, after, _ := strings.Cut(printed, "one-time password: ")
	oneTime, _, _ := strings.Cut(after, "\n")
	login := s.Login(t, user, oneTime)
	if login.At("passwordChangeRequired") != true {
		t.Errorf("login answered %s", login.Raw)
	}
	s.As(login.Str("accessToken")).Call(t, "GET", path, nil).Want(t, http.StatusForbidden)
	s.ChangePassword(t, login, oneTime, "a password of "+user)
	s.SignedIn(t, user, "a password of "+user).Get(t, path)
}

// TestUserCreateGenerate checks that a user created with a one-time password
// can only use it to choose another.
func TestUserCreateGenerate(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	out := succeed(t, dir, "", "recover", "user", "create", "mia", "--generate", "--role", "administrator")
	succeed(t, dir, "a password of tom", "recover", "user", "create", "tom")

	table := strings.Split(succeed(t, dir, "", "recover", "user", "list"), "\n")
	if len(table) != 4 || !strings.HasPrefix(table[1], "mia ") || !strings.Contains(table[1], " must change password ") ||
		!strings.Contains(table[1], " administrator ") || !strings.HasPrefix(table[2], "tom ") || !strings.Contains(table[2], " enabled ") {
		t.Errorf("user list: %q", table)
	}

	serve(t, dir).changesOneTime(t, "mia", out, "/v1/users")
}

func TestHealthCommand(t *testing.T) {
	t.Parallel()
	s := serve(t, t.TempDir())
	listen := strings.TrimPrefix(s.URL, "http://")
	succeed(t, s.dir, "", "health", "--listen", listen)
	s.signal(t, os.Interrupt)
	s.wait(t)
	fail(t, s.dir, "", "not healthy", "health", "--listen", listen)
}
