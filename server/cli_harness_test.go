package main_test

import (
	"path/filepath"
	"strings"
	"testing"
)

// shell is somebody's command line: a home folder, and the server that they call.
type shell struct {
	home string
	env  []string
}

// newShell is a shell whose commands call a server.
func newShell(t *testing.T, url string, env ...string) *shell {
	t.Helper()
	home := t.TempDir()
	return &shell{home, append([]string{"HOME=" + home, "XDG_CONFIG_HOME=" + filepath.Join(home, "config"), "TOLLGATE_URL=" + url}, env...)}
}

// profiles is the folder of the sign-ins.
func (s *shell) profiles(names ...string) string {
	return filepath.Join(append([]string{s.home, "config", "tollgate"}, names...)...)
}

// with is the same home folder with more variables.
func (s *shell) with(env ...string) *shell {
	return &shell{s.home, append(append([]string{}, s.env...), env...)}
}

// try runs a command to its end.
func (s *shell) try(t *testing.T, stdin string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	p := run(t, tollgateBinary, s.home, s.env, stdin, args...)
	code = p.wait(t)
	return code, p.stdout.String(), p.stderr.String()
}

// do runs a command that must succeed, and returns its standard output.
func (s *shell) do(t *testing.T, args ...string) string {
	t.Helper()
	code, stdout, stderr := s.try(t, "", args...)
	if code != 0 {
		t.Fatalf("%q: exit code %d: %s", args, code, stderr)
	}
	return stdout
}

// fails runs a command that must end with this exit code and say this on standard
// error.
func (s *shell) fails(t *testing.T, code int, says string, args ...string) {
	t.Helper()
	if got, stdout, stderr := s.try(t, "", args...); got != code || !strings.Contains(stderr, says) {
		t.Errorf("%q: exit code %d, %s%s; want %d and %q", args, got, stdout, stderr, code, says)
	}
}

// login signs in.
func (s *shell) login(t *testing.T, name, password string, args ...string) {
	t.Helper()
	if code, _, stderr := s.try(t, password+"\n", append([]string{"login", name}, args...)...); code != 0 {
		t.Fatalf("login %s: exit code %d: %s", name, code, stderr)
	}
}

// serveShell is a server, and a shell in which its administrator is signed in.
func serveShell(t *testing.T) (*tollgate, *shell) {
	t.Helper()
	s := serveAdmin(t)
	sh := newShell(t, s.URL)
	sh.login(t, "admin", adminPassword)
	return s, sh
}

// contains checks that a text has all of these in it.
func contains(t *testing.T, text string, all ...string) {
	t.Helper()
	for _, part := range all {
		if !strings.Contains(text, part) {
			t.Errorf("%q is not in %s", part, text)
		}
	}
}
