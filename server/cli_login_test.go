package main_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"
	"github.com/tollgatehq/tollgate/server/internal/apitest"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
)

// TestCLILogin checks a sign-in by standard input, what it leaves behind, and its end.
func TestCLILogin(t *testing.T) {
	t.Parallel()
	s := serveAdmin(t)
	sh := newShell(t, s.URL)
	sh.fails(t, 1, "tollgate login NAME --url "+s.URL, "whoami")
	if code, _, stderr := sh.try(t, "not the password\n", "login", "admin"); code != 1 || !strings.Contains(stderr, "wrong") {
		t.Errorf("with a wrong password: exit code %d, %s", code, stderr)
	}
	if code, _, stderr := sh.try(t, "", "login", "admin"); code != 1 || !strings.Contains(stderr, "empty") {
		t.Errorf("with no password: exit code %d, %s", code, stderr)
	}
	sh.login(t, "admin", adminPassword)
	for name, mode := range map[string]os.FileMode{"": 0o700, "default.json": 0o600} {
		if info, err := os.Stat(sh.profiles(name)); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%q: %v, %v; want mode %o", name, info.Mode(), err, mode)
		}
	}
	contains(t, sh.do(t, "whoami"), s.URL, "admin", "administrator", "may", "*")
	var who object
	backendtest.Must(t, json.Unmarshal([]byte(sh.do(t, "whoami", "-o", "json")), &who))
	if apitest.Dig(who, "principal", "username") != "admin" {
		t.Errorf("as JSON: %v", who)
	}
	contains(t, sh.do(t, "whoami", "-o", "yaml"), "\n  username: admin\n")
	contains(t, sh.do(t, "profiles"), "*", "default", s.URL, "admin", "signed in")

	// A second sign-in ends the first one's session.
	token := profileOf(t, sh)["accessToken"].(string)
	sh.login(t, "admin", adminPassword)
	s.As(token).Call(t, "GET", "/v1/auth/whoami", nil).Want(t, http.StatusUnauthorized)
	token = profileOf(t, sh)["accessToken"].(string)
	sh.do(t, "logout")
	s.As(token).Call(t, "GET", "/v1/auth/whoami", nil).Want(t, http.StatusUnauthorized)
	if left, _ := os.ReadDir(sh.profiles()); len(left) != 1 || left[0].Name() != "default.lock" {
		t.Errorf("after the sign-out there are %v", left)
	}
	sh.fails(t, 1, "not signed in", "whoami")
}

// profileOf is what the default profile holds.
func profileOf(t *testing.T, sh *shell) (p object) {
	t.Helper()
	content, err := os.ReadFile(sh.profiles("default.json"))
	backendtest.Must(t, err)
	backendtest.Must(t, json.Unmarshal(content, &p))
	return p
}

// expire has the access token of the default profile be at its end.
func expire(t *testing.T, sh *shell) {
	t.Helper()
	p := profileOf(t, sh)
	p["expiresAt"] = time.Now().Add(-time.Minute).UTC()
	content, err := json.Marshal(p)
	backendtest.Must(t, err)
	backendtest.Must(t, os.WriteFile(sh.profiles("default.json"), content, 0o600))
}

// TestCLISecondFactor checks that the code is asked for where the user has a second
// factor.
func TestCLISecondFactor(t *testing.T) {
	t.Parallel()
	s := serveAdmin(t)
	id := s.NewUser(t, "mia", "a password of mia")
	mia := s.SignedIn(t, "mia", "a password of mia")
	enrolled := mia.Post(t, "/v1/users/"+id+"/second-factor", object{"currentPassword": "a password of mia"})
	code, err := totp.GenerateCode(enrolled.Str("secret"), time.Now())
	backendtest.Must(t, err)
	mia.Post(t, "/v1/users/"+id+"/second-factor/confirm", object{"code": code})
	recovery := enrolled.At("recoveryCodes").([]any)[0].(string)

	sh := newShell(t, s.URL)
	if code, _, stderr := sh.try(t, "a password of mia\n000000\n", "login", "mia"); code != 1 || !strings.Contains(stderr, "wrong") {
		t.Errorf("with a wrong code: exit code %d, %s", code, stderr)
	}
	if code, _, stderr := sh.try(t, "a password of mia\n"+recovery+"\n", "login", "mia"); code != 0 {
		t.Fatalf("exit code %d, %s", code, stderr)
	}
	contains(t, sh.do(t, "whoami"), "mia", "mfa")
}

// TestCLIOneTimePassword checks that who signs in with a one-time password chooses
// another, and that the password can be changed later.
func TestCLIOneTimePassword(t *testing.T) {
	t.Parallel()
	s := serve(t, t.TempDir())
	sh := newShell(t, s.URL)
	if code, _, stderr := sh.try(t, s.password+"\na better password\n", "login", "admin"); code != 0 {
		t.Fatalf("exit code %d, %s", code, stderr)
	}
	contains(t, sh.do(t, "whoami"), "administrator")
	if code, _, stderr := sh.try(t, "a better password\nthe next password\n", "password"); code != 0 {
		t.Fatalf("exit code %d, %s", code, stderr)
	}
	contains(t, sh.do(t, "whoami"), "administrator")
	s.Login(t, "admin", "the next password")
}

// TestCLIProfiles checks that tokens are used only from files that nobody else can read,
// and only for the server that they came from.
func TestCLIProfiles(t *testing.T) {
	t.Parallel()
	s, sh := serveShell(t)
	called := make(chan string, 10)
	other := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { called <- r.Header.Get("Authorization") }))
	defer other.Close()
	sh.fails(t, 1, "not sent to "+other.URL, "whoami", "--url", other.URL)
	sh.fails(t, 1, "choose another name", "login", "admin", "--url", other.URL)
	sh.fails(t, 1, "not https", "login", "admin", "--url", "http://192.0.2.1", "--profile", "far")
	sh.fails(t, 1, `no profile "nothing"`, "whoami", "--profile", "nothing")
	sh.fails(t, 1, "must be up to 64", "whoami", "--profile", "../default")

	sh.login(t, "admin", adminPassword, "--profile", "second")
	sh.do(t, "profiles", "use", "second")
	sh.do(t, "logout", "--profile", "default")
	contains(t, sh.do(t, "whoami"), "admin")
	contains(t, sh.do(t, "profiles"), "* ", "second")
	sh.do(t, "profiles", "remove", "second")
	sh.fails(t, 1, "not signed in", "whoami")

	sh.login(t, "admin", adminPassword, "--profile", "default")
	me := sh.with("TOLLGATE_PROFILE=default")
	for path, mode := range map[string]os.FileMode{"default.json": 0o640, "": 0o750} {
		before, err := os.Stat(sh.profiles(path))
		backendtest.Must(t, err)
		backendtest.Must(t, os.Chmod(sh.profiles(path), mode))
		me.fails(t, 1, "other users can get at", "whoami")
		backendtest.Must(t, os.Chmod(sh.profiles(path), before.Mode().Perm()))
	}
	contains(t, me.do(t, "whoami"), "admin")
	backendtest.Must(t, os.Rename(sh.profiles("default.json"), sh.profiles("elsewhere")))
	backendtest.Must(t, os.Symlink(sh.profiles("elsewhere"), sh.profiles("default.json")))
	me.fails(t, 1, "default.json", "whoami")

	// An API key goes where the flags say, not to whichever server a profile is for.
	key := s.NewService(t, "robot")
	contains(t, sh.with("TOLLGATE_API_KEY="+key).do(t, "whoami"), "robot", "service")
	sh.with("TOLLGATE_API_KEY="+key).fails(t, 1, "no Tollgate answers at http://127.0.0.1:1", "whoami", "--url", "http://127.0.0.1:1")
	select {
	case header := <-called:
		t.Errorf("the other server was called with %q", header)
	default:
	}
}

// TestCLIRefresh checks that of many processes that find the access token at its end
// one refreshes the session, and that none signs the others out.
func TestCLIRefresh(t *testing.T) {
	t.Parallel()
	s, sh := serveShell(t)
	for range 3 {
		expire(t, sh)
		var all []*process
		for range 8 {
			all = append(all, run(t, tollgateBinary, sh.home, sh.env, "", "whoami"))
		}
		for _, p := range all {
			if code := p.wait(t); code != 0 {
				t.Fatalf("exit code %d, %s", code, p.stderr)
			}
		}
	}
	if n := len(s.Events(t, "action=auth.refresh_reuse")); n != 0 {
		t.Errorf("%d times a spent refresh token was presented", n)
	}
	if n := len(s.Events(t, "action=auth.refresh&actor=admin")); n != 3 {
		t.Errorf("%d refreshes, want one each time", n)
	}
	if left, _ := os.ReadDir(sh.profiles()); len(left) != 2 {
		t.Errorf("there are %v", left)
	}

	// A refresh whose answer was lost is not repeated: it would look like a theft.
	p := profileOf(t, sh)
	p["refreshing"], p["expiresAt"] = true, time.Now().Add(-time.Minute).UTC()
	content, err := json.Marshal(p)
	backendtest.Must(t, err)
	backendtest.Must(t, os.WriteFile(sh.profiles("default.json"), content, 0o600))
	sh.fails(t, 1, "sign in again: tollgate login admin", "whoami")
	if n := len(s.Events(t, "action=auth.refresh_reuse")); n != 0 {
		t.Errorf("%d times a spent refresh token was presented", n)
	}
}

// TestCLIRevoked checks what commands say when the session was ended elsewhere, and
// when no server answers.
func TestCLIRevoked(t *testing.T) {
	t.Parallel()
	s, sh := serveShell(t)
	s.Call(t, "DELETE", "/v1/users/"+profileOf(t, sh)["userId"].(string)+"/sessions", nil)
	sh.fails(t, 1, "tollgate login", "whoami")
	expire(t, sh)
	sh.fails(t, 1, "sign in again: tollgate login admin", "whoami")
	s.stop(t)
	if code, _, stderr := sh.try(t, "a password\n", "login", "admin"); code != 1 || !strings.Contains(stderr, "no Tollgate answers at "+s.URL) {
		t.Errorf("exit code %d, %s", code, stderr)
	}
}
