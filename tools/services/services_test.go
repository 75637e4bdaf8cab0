//go:build unix

package main

import (
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestReachable(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := "postgres://user:secret@" + l.Addr().String() + "/db"
	if err := reachable(address, "5432"); err != nil {
		t.Errorf("with a listener: %v", err)
	}
	l.Close()
	for _, raw := range []string{address, "user:secret@host", "postgres://user:secret@host:port/"} {
		if err := reachable(raw, "5432"); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("reachable(%q) = %v, want an error without the password", raw, err)
		}
	}
}

func TestExec(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	t.Setenv(postgresEnv, "postgres://"+l.Addr().String()+"/db")
	t.Setenv(redisEnv, "redis://"+l.Addr().String())
	for name, test := range map[string]struct {
		args []string
		want int
	}{
		"the command's exit status":   {[]string{"exec", "--", "sh", "-c", "exit 7"}, 7},
		"the directory":               {[]string{"exec", "--dir", "/", "--", "sh", "-c", `[ "$PWD" = / ]`}, 0},
		"given programs":              {[]string{"exec", "--pgbouncer", "--", "sh", "-c", `[ "$TOLLGATE_TEST_PGBOUNCER$TOLLGATE_TEST_NGINX" = /bin/sh/bin/sh ]`}, 0},
		"the load generators":         {[]string{"exec", "--load", "--", "sh", "-c", `[ "$TOLLGATE_TEST_H2LOAD$TOLLGATE_TEST_WRK" = /bin/sh/bin/sh ]`}, 0},
		"no such command":             {[]string{"exec", "--", "/no/such/program"}, 127},
		"no command":                  {[]string{"exec"}, 2},
		"arguments where none belong": {[]string{"up", "x"}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			for _, p := range programs {
				t.Setenv(p.variable, "/bin/sh")
			}
			if got := run(test.args); got != test.want {
				t.Errorf("exit status %d, want %d", got, test.want)
			}
		})
	}
}

func TestFindProgram(t *testing.T) {
	const variable, name = "TOLLGATE_TEST_A_PROGRAM", "a-program-of-this-test"
	dir := t.TempDir()
	for what, test := range map[string]struct {
		given string
		there bool
		env   []string
		err   string
	}{
		"given":               {given: "/bin/sh", there: true},
		"given, but not true": {given: "/no/such/program", there: true, err: variable + "=/no/such/program is no program"},
		"on PATH":             {there: true, env: []string{variable + "=" + filepath.Join(dir, name)}},
		"missing":             {err: "--no-install keeps it from being installed: install its-package; or set " + variable},
	} {
		t.Run(what, func(t *testing.T) {
			t.Setenv(variable, test.given)
			t.Setenv("PATH", dir)
			os.Remove(filepath.Join(dir, name))
			if test.there {
				if err := os.WriteFile(filepath.Join(dir, name), nil, 0o700); err != nil {
					t.Fatal(err)
				}
			}
			s := &session{install: false}
			err := s.findProgram(program{variable: variable, name: name, pkg: "its-package"})
			if test.err == "" && err != nil || test.err != "" && (err == nil || !strings.Contains(err.Error(), test.err)) {
				t.Errorf("error %v, want %q", err, test.err)
			}
			if !slices.Equal(s.env, test.env) {
				t.Errorf("variables %v, want %v", s.env, test.env)
			}
		})
	}
}

func TestExec_unreachableServer(t *testing.T) {
	t.Setenv(postgresEnv, "postgres://127.0.0.1:1/db")
	if got := run([]string{"exec", "--", "true"}); got != 1 {
		t.Errorf("exit status %d, want 1", got)
	}
}
