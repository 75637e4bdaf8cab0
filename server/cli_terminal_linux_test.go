package main_test

import (
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

// TestCLICompletion runs the script of bash in a bash, where there is one, and asks the
// program what the other scripts ask it.
func TestCLICompletion(t *testing.T) {
	t.Parallel()
	sh := newShell(t, "http://127.0.0.1:1")
	path, err := tollgateBinary()
	backendtest.Must(t, err)
	for line, want := range map[string]string{
		"whoa": "whoami", "recover user reset-p": "reset-password", "signing-keys rew": "rewrap",
		"-o y": "yaml", "--profile x comp": "completion", "completion z": "zsh", "can --con": "--context", "login --lis": "", "serve --lis": "--listen",
	} {
		if got := strings.TrimSpace(sh.do(t, append([]string{"__complete", "--"}, strings.Split(line, " ")...)...)); got != want {
			t.Errorf("%q is completed with %q, want %q", line, got, want)
		}
		bash, err := exec.LookPath("bash")
		if err != nil {
			continue
		}
		script := sh.do(t, "completion", "bash") + `
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _tollgate; echo "${COMPREPLY[*]}"`
		out, err := exec.Command(bash, append([]string{"-c", script, "bash", path}, strings.Split(line, " ")...)...).Output()
		if err != nil || strings.TrimSpace(string(out)) != want {
			t.Errorf("%q is completed in bash with %q, %v, want %q", line, out, err, want)
		}
	}
	for _, shell := range []string{"zsh", "fish"} {
		contains(t, sh.do(t, "completion", shell), "__complete")
	}
	sh.fails(t, 1, "bash", "completion", "tcsh")
}

