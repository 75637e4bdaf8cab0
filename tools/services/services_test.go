//go:build unix

package main

import (
	"net"
	"slices"
	"strings"
	"testing"
)

func TestNewestFirstComparesNumbers(t *testing.T) {
	got := newestFirst("/usr/lib/postgresql/*/bin", []string{
		"/usr/lib/postgresql/14/bin",
		"/usr/lib/postgresql/9.6/bin",
		"/usr/lib/postgresql/common/bin",
		"/usr/lib/postgresql/17/bin",
	})
	want := []string{
		"/usr/lib/postgresql/17/bin",
		"/usr/lib/postgresql/14/bin",
		"/usr/lib/postgresql/9.6/bin",
		"/usr/lib/postgresql/common/bin",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestGivenURLMustBeReachable(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	if err := reachable("postgres://u:p@" + addr + "/db"); err != nil {
		t.Errorf("listening: %v", err)
	}
	l.Close()
	if err := reachable("postgres://u:p@" + addr + "/db"); err == nil {
		t.Error("nobody listens, but it was found reachable")
	}
	for _, raw := range []string{"mysql://u:secret@" + addr, "postgres://u:secret@host:port/"} {
		if err := reachable(raw); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("reachable(%q) = %v, want an error without the password", raw, err)
		}
	}
}

func TestPgbouncerThatIsGivenMustBeThere(t *testing.T) {
	s := &session{}
	t.Setenv(pgbouncerEnv, "/no/such/program")
	if err := s.findPgbouncer(t.Context()); err == nil || !strings.Contains(err.Error(), pgbouncerEnv) {
		t.Errorf("error %v", err)
	}
	t.Setenv(pgbouncerEnv, "/bin/sh")
	if err := s.findPgbouncer(t.Context()); err != nil || len(s.env) != 0 {
		t.Errorf("given one is not taken: %v, %v", err, s.env)
	}
}
