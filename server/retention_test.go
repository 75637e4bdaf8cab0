package main_test

import (
	"database/sql"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/apitest"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	_ "modernc.org/sqlite"
)

// TestAuditRetention checks that --audit-retention deletes older events and
// logs it, and that without it all are kept.
func TestAuditRetention(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := serve(t, dir, "TOLLGATE_ADMIN_PASSWORD="+adminPassword)
	s.Call(t, "GET", "/v1/users", nil).Want(t, http.StatusUnauthorized)
	s.stop(t)
	db, err := sql.Open("sqlite", filepath.Join(dir, "tollgate.db"))
	backendtest.Must(t, err)
	defer db.Close()
	// Make every event so far three days old.
	result, err := db.ExecContext(t.Context(), `UPDATE audit_events SET time = time - $1`, (72 * time.Hour).Microseconds())
	backendtest.Must(t, err)
	old, err := result.RowsAffected()
	if err != nil || old < 3 {
		t.Fatalf("%d events, %v", old, err)
	}

	s = serve(t, dir)
	s.Token = s.Login(t, "admin", adminPassword).Str("accessToken")
	if n := len(s.Events(t, "action=tollgate.refused")); n != 1 {
		t.Errorf("%d old refusals without a retention, want 1", n)
	}
	apitest.Eventually(t, "the old events are in the tree", func() bool {
		var n int64
		return db.QueryRowContext(t.Context(), `SELECT COUNT(*) FROM audit_leaves`).Scan(&n) == nil && n >= old
	})
	s.stop(t)
	next := serve(t, dir, "TOLLGATE_AUDIT_RETENTION=48h")
	next.Token = s.Token
	apitest.Eventually(t, "old events are deleted", func() bool {
		return len(next.Events(t, "action=tollgate.audit_retention")) == 1
	})
	if n := len(next.Events(t, "action=tollgate.refused")); n != 0 {
		t.Errorf("%d old refusals are left", n)
	}
	if n := len(next.Events(t, "action=auth.login")); n != 1 {
		t.Errorf("%d sign-ins of today, want 1", n)
	}
	next.stop(t)
}
