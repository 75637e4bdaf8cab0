package main_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tollgatehq/tollgate/server/internal/apitest"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
)

// TestStartSays checks that a start logs its settings and that the password of
// the first administrator is no longer used, and that no command it suggests
// contains the password.
func TestStartSays(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	serve(t, dir).kill(t)
	s := serve(t, dir, "TOLLGATE_ADMIN_PASSWORD=hunter2 hunter2", "TOLLGATE_ISSUER=https://auth.example.com")
	line := ""
	apitest.Eventually(t, "the line of the start", func() bool {
		for l := range strings.Lines(s.stderr.String()) {
			if strings.Contains(l, `"msg":"serving"`) {
				line = l
			}
		}
		return line != ""
	})
	for _, word := range []string{`"version":"`, `"database":"sqlite:tollgate.db"`, `"redis":"in this process"`, `"issuer":"https://auth.example.com"`} {
		if !strings.Contains(line, word) {
			t.Errorf("the start says %s, not %s", line, word)
		}
	}
	if !strings.Contains(s.stderr.String(), "TOLLGATE_ADMIN_PASSWORD is ignored") {
		t.Error("it does not say that the password is ignored")
	}
	if said := s.stdout.String() + s.stderr.String(); strings.Contains(said, "hunter2") || strings.Contains(said, "$TOLLGATE_ADMIN_PASSWORD") {
		t.Errorf("it says %s", said)
	}
}

// TestLostKeyFile checks that a missing key file is not replaced by a new key,
// which could not open the secrets.
func TestLostKeyFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	succeed(t, dir, "", "migrate", "up") // no key is needed yet, and none made
	key := filepath.Join(dir, "tollgate.db.key")
	if _, err := os.Stat(key); !os.IsNotExist(err) {
		t.Errorf("migrate made a key file (%v)", err)
	}
	succeed(t, dir, "", "signing-keys", "list")
	backendtest.Must(t, os.Rename(key, key+".lost"))
	for _, args := range [][]string{{"signing-keys", "list"}, {"--listen", "127.0.0.1:0", "--metrics-listen="}, {"signing-keys", "rewrap", "--new-master-key", "file:new.key"}} {
		fail(t, dir, "", "tollgate.db.key is missing", args...)
	}
	if _, err := os.Stat(key); !os.IsNotExist(err) {
		t.Errorf("a new key file was made (%v)", err)
	}
	backendtest.Must(t, os.Rename(key+".lost", key))
	serve(t, dir).Get(t, "/healthz")
}

// TestDamagedFile checks that the error for a damaged database says what to do.
func TestDamagedFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	backendtest.Must(t, os.WriteFile(filepath.Join(dir, "tollgate.db"), []byte(strings.Repeat("this is no database ", 500)), 0o600))
	for _, args := range [][]string{{"migrate", "status"}, {"--listen", "127.0.0.1:0", "--metrics-listen="}} {
		fail(t, dir, "", "restore the file from a backup", args...)
	}
}

// A second server on a SQLite file warns, because both count limits by themselves;
// the lock of a server that was killed is gone with it.
func TestSecondServerOnSQLiteWarns(t *testing.T) {
	t.Parallel()
	const warning = "another server has this database"
	dir := t.TempDir()
	first := serve(t, dir)
	if strings.Contains(first.stderr.String(), warning) {
		t.Errorf("the only server says %s", first.stderr.String())
	}
	second := serve(t, dir)
	apitest.Eventually(t, "the warning", func() bool { return strings.Contains(second.stderr.String(), warning) })
	first.kill(t)
	second.kill(t)
	third := serve(t, dir)
	third.Get(t, "/healthz").Want(t, 200)
	if strings.Contains(third.stderr.String(), warning) {
		t.Errorf("after both were killed: %s", third.stderr.String())
	}
}
