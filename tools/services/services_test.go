//go:build unix

package main

import (
	"net"
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
		"a given program":             {[]string{"exec", "--pgbouncer", "--", "sh", "-c", `[ "$TOLLGATE_TEST_PGBOUNCER" = /given ]`}, 0},
		"no such command":             {[]string{"exec", "--", "/no/such/program"}, 127},
		"no command":                  {[]string{"exec"}, 2},
		"arguments where none belong": {[]string{"up", "x"}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv(pgbouncerEnv, "/given")
			if got := run(test.args); got != test.want {
				t.Errorf("exit status %d, want %d", got, test.want)
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
