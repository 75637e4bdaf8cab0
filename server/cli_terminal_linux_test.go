package main_test

import (
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/tollgatehq/tollgate/server/internal/apitest"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
)

// atTerminal starts a command at a terminal of its own, on which type types. The
// command's standard output and error come back apart from it.
func (s *shell) atTerminal(t *testing.T, args ...string) (types func(line string), echo func() bool, p *process) {
	t.Helper()
	path, err := tollgateBinary()
	backendtest.Must(t, err)
	user, terminal := openTerminal(t)
	p = &process{cmd: exec.Command(path, args...), stdout: newOutput(), stderr: newOutput(), exited: make(chan struct{})}
	p.cmd.Dir, p.cmd.Env = s.home, s.env
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = terminal, p.stdout, p.stderr
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 0}
	backendtest.Must(t, p.cmd.Start())
	go func() {
		p.err = p.cmd.Wait()
		close(p.exited)
	}()
	t.Cleanup(func() { p.kill(t) })
	return func(line string) {
		_, err := user.WriteString(line)
		backendtest.Must(t, err)
	}, func() bool { return echoes(t, terminal) }, p
}

// asks waits until standard error has a question in it.
func (p *process) asks(t *testing.T, question string) {
	t.Helper()
	apitest.Eventually(t, "the question "+question, func() bool { return strings.Contains(p.stderr.String(), question) })
}

// TestCLILoginTerminal checks a sign-in at a terminal, which does not show the
// password, and one that is interrupted.
func TestCLILoginTerminal(t *testing.T) {
	t.Parallel()
	s := serveAdmin(t)
	sh := newShell(t, s.URL)
	types, echo, p := sh.atTerminal(t, "login", "admin")
	p.asks(t, "Password for admin at "+s.URL)
	apitest.Eventually(t, "the terminal hides what is typed", func() bool { return !echo() })
	types(adminPassword + "\n")
	if code := p.wait(t); code != 0 || !echo() || strings.Contains(p.stderr.String()+p.stdout.String(), adminPassword) {
		t.Errorf("exit code %d, the terminal echoes: %t; it said %s%s", code, echo(), p.stdout, p.stderr)
	}
	contains(t, sh.do(t, "whoami"), "administrator")

	types, echo, p = sh.atTerminal(t, "login", "admin")
	p.asks(t, "Password")
	apitest.Eventually(t, "the terminal hides what is typed", func() bool { return !echo() })
	types("\x03")
	if code := p.wait(t); code != 130 || !echo() {
		t.Errorf("interrupted: exit code %d, the terminal echoes: %t; it said %s", code, echo(), p.stderr)
	}
	contains(t, sh.do(t, "whoami"), "administrator") // the session before is still there
}

// TestCLIConfirmAndEdit checks that a dangerous command asks at a terminal, and that an
// editor opens where no flag says what to change, again while its file is wrong.
func TestCLIConfirmAndEdit(t *testing.T) {
	t.Parallel()
	s, sh := serveShell(t)
	s.NewUser(t, "mia", "a password of mia")
	s.Post(t, "/v1/roles", object{"name": "clerk", "permissions": []string{"orders:read"}})
	sh.do(t, "roles", "assign", "clerk", "mia")
	for answer, code := range map[string]int{"n\n": 1, "\n": 1} {
		types, _, p := sh.atTerminal(t, "roles", "delete", "clerk")
		p.asks(t, "take it from 1 user (mia)\nDo it? [y/N]")
		types(answer)
		if got := p.wait(t); got != code {
			t.Errorf("%q: exit code %d, %s", answer, got, p.stderr)
		}
	}
	s.Get(t, "/v1/roles/clerk")

	edit := sh.with(`EDITOR=sed -i -e 's/orders:read/orders:*/' -e '$a grants: [{permission: orders:delete, effect: deny}]'`, "PATH="+os.Getenv("PATH"))
	types, _, p := edit.atTerminal(t, "roles", "edit", "clerk")
	p.asks(t, "1 user may more (mia), and 1 user may less (mia)")
	types("y\n")
	if code := p.wait(t); code != 0 {
		t.Fatalf("exit code %d, %s", code, p.stderr)
	}
	contains(t, sh.do(t, "roles", "get", "clerk"), "orders:*", "orders:delete")

	edit = sh.with(`EDITOR=sed -i -e 's/^permissions/permision/'`, "PATH="+os.Getenv("PATH"))
	types, _, p = edit.atTerminal(t, "roles", "edit", "clerk")
	p.asks(t, "edit.yaml:2:1: permision: is not known; known are")
	p.asks(t, "Edit again?")
	types("n\n")
	if code := p.wait(t); code != 1 {
		t.Errorf("exit code %d, %s", code, p.stderr)
	}

	edit = sh.with("EDITOR=true", "PATH="+os.Getenv("PATH"))
	_, _, p = edit.atTerminal(t, "limits", "edit", "sign-in-per-ip")
	if code := p.wait(t); code != 1 || !strings.Contains(p.stderr.String(), "nothing was changed") {
		t.Errorf("exit code %d, %s", code, p.stderr)
	}
}

// TestCLIApplyLastCheck checks that an apply does nothing to an object that somebody
// changed since its plan was made, here while it asks.
func TestCLIApplyLastCheck(t *testing.T) {
	t.Parallel()
	s, sh := serveShell(t)
	s.Post(t, "/v1/roles", object{"name": "clerk", "permissions": []string{"orders:read"}})
	s.Post(t, "/v1/roles", object{"name": "unwanted"})
	sh.file(t, "access.yaml", "roles: [{name: clerk, permissions: ['orders:write']}]\n")
	types, _, p := sh.atTerminal(t, "apply", "-f", "access.yaml", "--prune")
	p.asks(t, "remove 1 of the roles (held 0 times)\nDo it?")
	s.Patch(t, "/v1/roles/clerk", object{"permissions": []string{"orders:print"}})
	types("y\n")
	if code := p.wait(t); code != 1 || !strings.Contains(p.stderr.String(), "role clerk: somebody changed it since") {
		t.Errorf("exit code %d, %s", code, p.stderr)
	}
	contains(t, sh.do(t, "roles", "get", "clerk"), "orders:print")
	s.Get(t, "/v1/roles/unwanted")
}
