package main_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tollgatehq/tollgate/server/internal/backendtest"
)

// TestCLIHelp checks that the help of a command has the flags that it takes and no
// others, and that the client neither takes the server's flags nor reads its secrets.
func TestCLIHelp(t *testing.T) {
	t.Parallel()
	sh := newShell(t, "http://127.0.0.1:1", "TOLLGATE_MASTER_KEY_FILE=/nowhere", "TOLLGATE_LOG_LEVEL=loud")
	for _, args := range [][]string{{"users", "list", "--help"}, {"help", "users", "list"}, {"--profile", "x", "users", "list", "-h"}} {
		help := sh.do(t, args...)
		contains(t, help, "--url", "--profile", "--output", "--prefix", "--limit")
		for _, flag := range []string{"--listen", "--database-url", "--master-key", "--log-level"} {
			if strings.Contains(help, flag) {
				t.Errorf("%q shows %s", args, flag)
			}
		}
	}
	contains(t, sh.do(t, "limits", "--help"), "limits create", "limits check", "tollgate recover limits")
	sh.fails(t, 1, "--database-url", "users", "list", "--database-url", "sqlite:x")
	sh.fails(t, 1, "unexpected argument", "users", "frobnicate")

	server := newShell(t, "http://127.0.0.1:1")
	for _, args := range [][]string{{"serve", "--help"}, {"recover", "limits", "list", "--help"}, {"--help"}} {
		help := server.do(t, args...)
		contains(t, help, "--listen")
		for _, flag := range []string{"--profile", "--output", "--allow-http"} {
			if strings.Contains(help, flag) {
				t.Errorf("%q shows %s", args, flag)
			}
		}
	}
}

// TestCLIAPIKeyFile checks that a machine calls with the key of a file, and without a
// folder for sign-ins.
func TestCLIAPIKeyFile(t *testing.T) {
	t.Parallel()
	s := serveAdmin(t)
	file := filepath.Join(t.TempDir(), "key")
	backendtest.Must(t, os.WriteFile(file, []byte(s.NewService(t, "robot")+"\n"), 0o600))
	machine := &shell{t.TempDir(), []string{"TOLLGATE_URL=" + s.URL, "TOLLGATE_API_KEY_FILE=" + file}}
	contains(t, machine.do(t, "whoami"), "robot", "API key")
	machine.fails(t, 1, "which needs no sign-in", "login", "admin")
	nobody := &shell{t.TempDir(), []string{"TOLLGATE_URL=" + s.URL}}
	nobody.fails(t, 1, "neither HOME nor XDG_CONFIG_HOME", "whoami")

	sh := newShell(t, s.URL)
	sh.login(t, "admin", adminPassword)
	sh.do(t, "users", "edit", "robot", "--disabled", "--yes")
	if out := sh.do(t, "users", "list", "--no-disabled"); strings.Contains(out, "robot") || !strings.Contains(out, "admin") {
		t.Errorf("those who are not disabled: %s", out)
	}
	machine.fails(t, 1, "TOLLGATE_API_KEY", "whoami")
}
