package main_test

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/apitest"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
)

// TestKill checks on SQLite that a killed server loses no acknowledged change
// and records none that did not happen. A killed process loses nothing that it
// gave the kernel, so this says nothing about power cuts: the test passes with
// SQLite's journal and syncing off, too.
func TestKill(t *testing.T) {
	t.Parallel()
	s := serveAdmin(t)
	r := &roster{servers: []*tollgate{s}, admin: s.Token}
	l, w := newLedger(t, s.Client), newWorkers(t)
	began := time.Now()
	l.workers(t, r, w)
	for range 3 {
		before := l.acted.Load()
		apitest.Eventually(t, "work goes on", func() bool { return l.acted.Load() > before+40 })
		s.kill(t)
		s = s.again(t)
		r.replace(0, s)
	}
	w.end()
	l.judge(t, "kill -9 of a server on SQLite, 3 times", s.Client, time.Since(began))
}

// TestStop checks that either signal stops the server soon with exit status 0,
// and that the next start finds all data.
func TestStop(t *testing.T) {
	t.Parallel()
	for _, signal := range []os.Signal{syscall.SIGTERM, os.Interrupt} {
		t.Run(signal.String(), func(t *testing.T) {
			s := serveAdmin(t)
			s.NewUser(t, "mia", "a password of mia", "auditor")
			mia := s.Login(t, "mia", "a password of mia")
			began := time.Now()
			s.signal(t, signal)
			if code := s.wait(t); code != 0 {
				t.Errorf("exit code %d", code)
			}
			t.Logf("stopped in %s", time.Since(began))
			if left, _ := filepath.Glob(filepath.Join(s.dir, "*-wal")); left != nil {
				t.Errorf("the database was not closed: %s", left)
			}

			s = s.again(t)
			if s.password != "" {
				t.Error("a password was shown at the second start")
			}
			who := s.As(mia.Str("accessToken")).Get(t, "/v1/auth/whoami")
			if who.Str("principal", "username") != "mia" {
				t.Errorf("whoami answered %s", who.Raw)
			}
			s.As("").Post(t, "/v1/auth/refresh", object{"refreshToken": mia.Str("refreshToken")})
			if n := len(s.Events(t, "action=auth.login&actor=mia")); n != 1 {
				t.Errorf("%d events of mia's sign-in", n)
			}
		})
	}
}

// TestStopFinishesCalls checks that a call in flight gets its answer when the
// server is stopped.
func TestStopFinishesCalls(t *testing.T) {
	t.Parallel()
	s := serveAdmin(t)
	address := strings.TrimPrefix(s.URL, "http://")
	conn, err := net.Dial("tcp", address)
	backendtest.Must(t, err)
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(apitest.Timeout))
	body := `{"username":"mia","password":"a password of mia"}`
	fmt.Fprintf(conn, "POST /v1/users HTTP/1.1\r\nHost: tollgate\r\nContent-Type: application/json\r\nAuthorization: Bearer %s\r\n"+
		"Content-Length: %d\r\nExpect: 100-continue\r\n\r\n", s.Token, len(body))
	answers := bufio.NewReader(conn)
	if res, err := http.ReadResponse(answers, nil); err != nil || res.StatusCode != http.StatusContinue {
		t.Fatalf("the call did not begin: %v, %v", res, err)
	}
	s.signal(t, syscall.SIGTERM)
	apitest.Eventually(t, "new connections are refused", func() bool {
		extra, err := net.Dial("tcp", address)
		if err == nil {
			extra.Close()
		}
		return err != nil
	})
	if _, err := conn.Write([]byte(body)); err != nil {
		t.Fatal(err)
	}
	res, err := http.ReadResponse(answers, nil)
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("the call under way got %v, %v", res, err)
	}
	res.Body.Close()
	if code := s.wait(t); code != 0 {
		t.Errorf("exit code %d", code)
	}
	s = s.again(t)
	if users := s.Get(t, "/v1/users?username=mia").List("users"); len(users) != 1 {
		t.Errorf("users: %v", users)
	}
}

// TestFirstPassword checks that the generated password is printed once.
// Standard output is no terminal here, so it must be changed at the first
// sign-in.
func TestFirstPassword(t *testing.T) {
	t.Parallel()
	s := serve(t, t.TempDir())
	if len(s.password) < 20 || strings.Count(s.stdout.String(), s.password) != 2 { // and in the curl to try
		t.Errorf("password %q in %s", s.password, s.stdout)
	}
	first := s.Login(t, "admin", s.password)
	if first.At("passwordChangeRequired") != true {
		t.Errorf("a password in a log may stay: %s", first.Raw)
	}
	s.As(first.Str("accessToken")).Call(t, "GET", "/v1/roles", nil).Want(t, http.StatusForbidden)
	s.ChangePassword(t, first, s.password, adminPassword)
	s.stop(t)
	second := s.again(t)
	if second.password != "" || strings.Contains(second.stdout.String(), s.password) {
		t.Errorf("the second start said %s", second.stdout)
	}
	if strings.Contains(s.stderr.String()+second.stderr.String(), s.password) {
		t.Error("the password is in the log")
	}
	if second.Login(t, "admin", adminPassword).At("passwordChangeRequired") != false {
		t.Error("the password has to be changed again")
	}
	for _, name := range []string{"tollgate.db", "tollgate.db.key"} {
		file, err := os.Stat(filepath.Join(s.dir, name))
		if err != nil || file.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: %v, %v; want it to be for its owner alone", name, file.Mode(), err)
		}
	}
}
