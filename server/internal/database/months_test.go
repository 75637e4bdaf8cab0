package database_test

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/tollgatehq/tollgate/migrations"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/database"
	"github.com/tollgatehq/tollgate/server/internal/fault/faulttest"
)

const months = "0011_audit_months.sql"

// downTo undoes every step from the one on.
func downTo(t *testing.T, db *database.DB, id string) {
	t.Helper()
	status, err := db.MigrationStatus(t.Context())
	backendtest.Must(t, err)
	var steps int
	for _, m := range status {
		if m.ID >= id {
			steps++
		}
	}
	done, err := db.MigrateDown(t.Context(), steps)
	if err != nil || len(done) != steps {
		t.Fatalf("undid %q of %d steps, %v", done, steps, err)
	}
}

// parts are the statements of a migration's way up.
func parts(t *testing.T, name string) (list []string) {
	t.Helper()
	file, err := migrations.Files.ReadFile("postgres/" + name)
	backendtest.Must(t, err)
	up, _, _ := strings.Cut(string(file), "-- +migrate Down")
	for i, part := range strings.Split(up, "-- +migrate StatementBegin") {
		if i > 0 {
			part, _, _ = strings.Cut(part, "-- +migrate StatementEnd")
			list = append(list, part)
		}
	}
	return list
}

func recordAt(t *testing.T, db *database.DB, id string, at time.Time) {
	t.Helper()
	backendtest.Must(t, faulttest.Err(db.Exec(t.Context(),
		`INSERT INTO audit_events (id, time, action, outcome) VALUES ($1, $2, 'test.event', 'success')`, id, at.UnixMicro())))
}

// The log is partitioned with everything that is in it, wherever the migration was
// interrupted before; an event of any time finds a partition, and the way down keeps all.
func TestMonths(t *testing.T) {
	t.Parallel()
	for interrupted := range len(parts(t, months)) {
		t.Run(fmt.Sprintf("after %d statements", interrupted), func(t *testing.T) {
			t.Parallel()
			db := backendtest.Open(t, backendtest.PostgreSQLURL(t))
			downTo(t, db, months)
			now := time.Now()
			var ids []string
			record := func(id string, at time.Time) {
				recordAt(t, db, id, at)
				ids = append(ids, id)
			}
			record("old", now.AddDate(-3, 0, 0))
			record("wrong clock", now.AddDate(0, 7, 0))
			for _, statement := range parts(t, months)[:interrupted] {
				backendtest.Must(t, faulttest.Err(db.Exec(t.Context(), statement)))
			}
			record("in between", now)
			backendtest.Must(t, faulttest.Err(db.MigrateUp(t.Context())))
			record("now", now)
			record("past", time.UnixMicro(-1))
			record("future", now.AddDate(100, 0, 0))
			check := func(when string) {
				t.Helper()
				var found []string
				backendtest.Must(t, db.Select(t.Context(), &found, `SELECT id FROM audit_events ORDER BY position`))
				backendtest.Equal(t, found, ids, "events %s", when)
			}
			check("in months")
			backendtest.WantCount(t, db, 5, `SELECT COUNT(*) FROM audit_events_start`)
			backendtest.WantCount(t, db, 0, `SELECT COUNT(*) FROM pg_index JOIN pg_class c ON c.oid = indexrelid
				WHERE NOT indisvalid AND relnamespace = current_schema()::regnamespace`)

			downTo(t, db, months)
			check("on the way down")
			backendtest.Must(t, faulttest.Err(db.MigrateUp(t.Context())))
			check("up again")
			// Retention drops the old table, and positions go on.
			backendtest.Must(t, faulttest.Err(db.Exec(t.Context(), `DROP TABLE audit_events_start`)))
			ids = nil
			record("later", now.AddDate(50, 0, 0))
			check("without the old table")
			downTo(t, db, months)
			record("last", now)
			check("down without the old table")
		})
	}
}

// A transaction that has read the log and stays open, such as a backup's, holds the
// migration up, but not those who record events.
func TestMonthsBehindALock(t *testing.T) {
	t.Parallel()
	address := backendtest.PostgreSQLURL(t)
	db := backendtest.Open(t, address)
	downTo(t, db, months)
	raw, err := sql.Open("postgres", address)
	backendtest.Must(t, err)
	defer raw.Close()
	backup, err := raw.Begin()
	backendtest.Must(t, err)
	defer backup.Rollback()
	backendtest.Must(t, faulttest.Err(backup.Exec(`SELECT count(*) FROM audit_events`)))
	migrated := make(chan error, 1)
	go func() { migrated <- faulttest.Err(db.MigrateUp(context.Background())) }()
	var longest time.Duration
	for n, began := 0, time.Now(); time.Since(began) < 1200*time.Millisecond; n++ {
		at := time.Now()
		recordAt(t, db, fmt.Sprint("event ", n), at)
		longest = max(longest, time.Since(at))
	}
	if longest > 700*time.Millisecond {
		t.Errorf("an event waited %s", longest)
	}
	select {
	case err := <-migrated:
		t.Fatal("migrated past the lock:", err)
	default:
	}
	backendtest.Must(t, backup.Rollback())
	backendtest.Must(t, <-migrated)
	backendtest.WantCount(t, db, 1, `SELECT COUNT(*) FROM pg_partitioned_table WHERE partrelid = to_regclass('audit_events')`)
}
