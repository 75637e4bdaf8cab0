package main_test

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/apitest"
)

// written records what the server acknowledged.
type written struct {
	mu     sync.Mutex
	users  map[string]string // id -> name
	roles  map[string]bool
	chains []*chain
}

// chain is a session that is refreshed again and again.
type chain struct {
	session, access, refresh string
	refreshed                int
}

// TestKill checks that changes acknowledged before a kill are there after it
// and in the audit log, and that every change in the audit log happened. A
// killed process loses nothing that it gave the kernel, so this says nothing
// about power cuts: the test passes with SQLite's journal and syncing off, too.
func TestKill(t *testing.T) {
	t.Parallel()
	s := serveAdmin(t)
	w := &written{users: map[string]string{}, roles: map[string]bool{}}
	for range 2 {
		login := s.Login(t, "admin", adminPassword)
		w.chains = append(w.chains, &chain{
			session: login.Str("sessionId"), access: login.Str("accessToken"), refresh: login.Str("refreshToken"),
		})
	}
	for round := range 3 {
		w.until(t, s, round, 40+round*7)
		s = s.again(t)
		w.check(t, s)
	}
}

// until writes from several goroutines until the server has acknowledged n
// writes, kills it during the next ones, and waits for the writers.
func (w *written) until(t *testing.T, s *tollgate, round, n int) {
	acknowledged := make(chan struct{})
	var writers sync.WaitGroup
	write := func(once func(i int) bool) {
		writers.Go(func() {
			for i := 0; once(i); i++ {
				acknowledged <- struct{}{}
			}
		})
	}
	post := func(path string, body object) (apitest.Answer, bool) {
		a, err := s.Try(context.Background(), "POST", path, body)
		if err == nil && a.Status != http.StatusOK {
			t.Errorf("POST %s: %d %s", path, a.Status, a.Raw)
		}
		return a, err == nil && a.Status == http.StatusOK
	}
	for side := range 2 {
		write(func(i int) bool {
			name := fmt.Sprintf("user-%d-%d-%d", round, side, i)
			a, ok := post("/v1/users", object{"username": name, "password": "a password"})
			w.mu.Lock()
			defer w.mu.Unlock()
			if ok {
				w.users[a.Str("user", "id")] = name
			}
			return ok
		})
		write(func(i int) bool {
			name := fmt.Sprintf("role-%d-%d-%d", round, side, i)
			_, ok := post("/v1/roles", object{"name": name, "permissions": []string{"orders:read"}})
			w.mu.Lock()
			defer w.mu.Unlock()
			if ok {
				w.roles[name] = true
			}
			return ok
		})
	}
	for _, c := range w.chains {
		if c.refresh == "" {
			continue // its end is known
		}
		write(func(int) bool {
			a, ok := post("/v1/auth/refresh", object{"refreshToken": c.refresh})
			if ok {
				c.access, c.refresh, c.refreshed = a.Str("accessToken"), a.Str("refreshToken"), c.refreshed+1
			}
			return ok
		})
	}
	go func() {
		writers.Wait()
		close(acknowledged)
	}()
	for i := 0; ; i++ {
		if i == n {
			s.signal(t, syscall.SIGKILL)
		}
		if _, more := <-acknowledged; !more {
			break
		}
	}
	<-s.exited
}

func (w *written) check(t *testing.T, s *tollgate) {
	t.Helper()
	names := map[string]string{}
	for _, u := range s.All(t, "/v1/users?", "users") {
		names[u["id"].(string)] = u["username"].(string)
	}
	for id, name := range w.users {
		if names[id] != name {
			t.Errorf("user %s was acknowledged and is lost", name)
		}
	}
	roles := map[string]bool{}
	for _, r := range s.All(t, "/v1/roles?", "roles") {
		roles[r["name"].(string)] = true
	}
	for name := range w.roles {
		if !roles[name] {
			t.Errorf("role %s was acknowledged and is lost", name)
		}
	}
	same := func(kind string, things, recorded int) {
		if things != recorded {
			t.Errorf("%d %s and %d events of their making", things, kind, recorded)
		}
	}
	recorded := 0
	for _, e := range s.Events(t, "action=user.create&outcome=OUTCOME_SUCCESS") {
		recorded++
		if id := strings.TrimPrefix(e["resource"].(string), "users/"); names[id] == "" {
			t.Errorf("user %s is recorded as made and is not there", id)
		}
	}
	same("users", len(names), recorded)
	recorded = 0
	for _, e := range s.Events(t, "action=role.create&outcome=OUTCOME_SUCCESS") {
		recorded++
		if name := strings.TrimPrefix(e["resource"].(string), "roles/"); !roles[name] {
			t.Errorf("role %s is recorded as made and is not there", name)
		}
	}
	same("roles", len(roles), recorded)
	for _, c := range w.chains {
		c.check(t, s)
	}
	t.Logf("%d users, %d roles", len(names), len(roles))
}

// check verifies the token from before the kill, and that the refresh in flight
// at the kill happened completely or not at all.
func (c *chain) check(t *testing.T, s *tollgate) {
	t.Helper()
	if c.refresh == "" {
		return
	}
	s.As(c.access).Get(t, "/v1/auth/whoami")
	recorded := len(s.Events(t, "action=auth.refresh&outcome=OUTCOME_SUCCESS&resource=sessions/"+c.session))
	a := s.As("").Call(t, "POST", "/v1/auth/refresh", object{"refreshToken": c.refresh})
	switch {
	case recorded == c.refreshed && a.Status == http.StatusOK:
		c.access, c.refresh, c.refreshed = a.Str("accessToken"), a.Str("refreshToken"), c.refreshed+1
	case recorded == c.refreshed+1 && a.Status == http.StatusUnauthorized:
		c.refresh = "" // the new token never arrived; using the old one again ended the session
	default:
		c.refresh = ""
		t.Errorf("%d refreshes acknowledged, %d recorded, the next one answers %d %s", c.refreshed, recorded, a.Status, a.Raw)
	}
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
	if err != nil {
		t.Fatal(err)
	}
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
	s.signal(t, syscall.SIGTERM)
	s.wait(t)
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

// TestColdStart logs how long a start takes and how much memory it uses.
func TestColdStart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, start := range []string{"first", "second"} {
		began := time.Now()
		s := serve(t, dir)
		s.Get(t, "/readyz")
		t.Logf("%s start: %s from exec to the first answer, %s resident", start, time.Since(began).Round(time.Millisecond), resident(t, s.cmd.Process.Pid))
		s.signal(t, syscall.SIGTERM)
		s.wait(t)
	}
}

func resident(t *testing.T, pid int) string {
	t.Helper()
	status, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		return "an unknown size"
	}
	_, after, _ := strings.Cut(string(status), "VmRSS:")
	line, _, _ := strings.Cut(after, "\n")
	return strings.TrimSpace(line)
}
