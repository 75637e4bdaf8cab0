package main_test

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/apitest"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
)

// signedWith returns the id of the key that signed an access token.
func signedWith(t *testing.T, token string) string {
	t.Helper()
	head, _, _ := strings.Cut(token, ".")
	text, err := base64.RawURLEncoding.DecodeString(head)
	var header struct {
		ID string `json:"kid"`
	}
	if err == nil {
		err = json.Unmarshal(text, &header)
	}
	backendtest.Must(t, err)
	return header.ID
}

// TestKeyRotation checks that two servers that rotate the signing key every
// five seconds refuse none of each other's tokens. It runs for ten seconds, or
// for two minutes with TOLLGATE_CHAOS=1.
func TestKeyRotation(t *testing.T) {
	t.Parallel()
	lasts, least := 10*time.Second, 2
	if os.Getenv("TOLLGATE_CHAOS") != "" {
		lasts, least = 2*time.Minute, 15
	}
	env := []string{
		"TOLLGATE_DATABASE_URL=" + backendtest.PostgreSQLURL(t), "TOLLGATE_ADMIN_PASSWORD=" + adminPassword,
		"TOLLGATE_MASTER_KEY=MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=", "TOLLGATE_STALENESS=1s",
		"TOLLGATE_SIGNING_KEY_ROTATION=5s", "TOLLGATE_SIGNING_KEY_AHEAD=3s",
	}
	servers := []*tollgate{serve(t, t.TempDir(), env...), serve(t, t.TempDir(), env...)}
	admin := servers[0].Login(t, "admin", adminPassword).Str("accessToken")

	var (
		mu               sync.Mutex
		tokens           = []string{admin}
		keys             = map[string]bool{}
		verified, failed int
		load             sync.WaitGroup
	)
	began := time.Now()
	over := func() bool {
		mu.Lock()
		defer mu.Unlock()
		passed := time.Since(began)
		return t.Failed() || passed > lasts && (len(keys) >= least || passed > lasts+apitest.Timeout)
	}
	// accepted reads an answer: yes, no, or none because the server is too
	// busy.
	accepted := func(a apitest.Answer, err error) (yes bool) {
		mu.Lock()
		defer mu.Unlock()
		switch {
		case err != nil || a.Status >= 500:
			failed++
		case a.Status == http.StatusOK:
			verified++
			return true
		default:
			t.Errorf("%s after the start: %d %s", time.Since(began), a.Status, a.Raw)
		}
		return false
	}
	for n, s := range servers {
		other := servers[1-n]
		load.Go(func() { // new tokens, which the other server sees first
			for refresh := ""; !over(); {
				// A user has few sessions, so one is refreshed until an answer is lost.
				path, body := "/v1/auth/refresh", object{"refreshToken": refresh}
				if refresh == "" {
					path, body = "/v1/auth/login", object{"username": "admin", "password": adminPassword}
				}
				a, err := s.As("").Try(t.Context(), "POST", path, body)
				if refresh = a.Str("refreshToken"); !accepted(a, err) {
					continue
				}
				token := a.Str("accessToken")
				accepted(other.As(token).Try(t.Context(), "GET", "/v1/auth/whoami", nil))
				mu.Lock()
				tokens, keys[signedWith(t, token)] = append(tokens, token), true
				mu.Unlock()
			}
		})
		load.Go(func() { // old tokens, over and over
			for i := 0; !over(); i++ {
				mu.Lock()
				token := tokens[i*7919%len(tokens)]
				mu.Unlock()
				accepted(s.As(token).Try(t.Context(), "GET", "/v1/auth/whoami", nil))
			}
		})
	}
	load.Wait()
	t.Logf("%s: %d tokens by %d keys, accepted %d times; no answer %d times", time.Since(began).Round(time.Second), len(tokens), len(keys), verified, failed)
	if len(keys) < least || verified < 10*failed {
		t.Error("that is no proof")
	}
}

// TestKeysCommands checks the keys commands without a running server, and that
// a rewrap changes which master key opens the database.
func TestKeysCommands(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	rows := func(args ...string) (list [][]string) {
		t.Helper()
		for _, line := range strings.Split(strings.TrimSpace(succeed(t, dir, "", append([]string{"signing-keys", "list"}, args...)...)), "\n")[1:] {
			list = append(list, strings.Fields(line))
		}
		return list
	}
	first := rows()
	if len(first) != 1 || first[0][1] != "EdDSA" || first[0][2] != "active" {
		t.Fatal(first)
	}
	fail(t, dir, "", "rotate first", "signing-keys", "remove", first[0][0])
	succeed(t, dir, "", "signing-keys", "rotate", "--algorithm", "ES256")
	fail(t, dir, "", "rotate after that", "signing-keys", "rotate")
	both := rows()
	if len(both) != 2 || both[0][1] != "ES256" || both[0][2] != "pending" || both[1][2] != "active" || both[1][5] != both[0][4] {
		t.Fatal(both)
	}
	succeed(t, dir, "", "signing-keys", "remove", first[0][0])
	if now := rows(); now[0][2] != "active" || now[1][2] != "removed" {
		t.Fatal(now)
	}

	if code, _, stderr := command(t, dir, "", "signing-keys", "rewrap", "--new-master-key", "too short"); code != 1 || strings.Contains(stderr, "too short") {
		t.Errorf("a bad key: %d %s", code, stderr)
	}
	fail(t, dir, "", "present one", "signing-keys", "rewrap", "--new-master-key", "file:tollgate.db.key")
	said := succeed(t, dir, "", "signing-keys", "rewrap", "--new-master-key", "file:new.key")
	if !strings.Contains(said, "sealed 1 signing keys") || !strings.Contains(said, "TOLLGATE_MASTER_KEY to file:new.key") {
		t.Error(said)
	}
	if info, err := os.Stat(filepath.Join(dir, "new.key")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the new key's file: %v, %v", info, err)
	}
	fail(t, dir, "", "TOLLGATE_MASTER_KEY", "signing-keys", "list")
	if now := rows("--master-key", "file:new.key"); now[0][2] != "active" {
		t.Error(now)
	}
}
