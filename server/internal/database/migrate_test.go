package database_test

import (
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/database"
	"github.com/tollgatehq/tollgate/server/internal/fault/faulttest"
)

// Ten instances with connections of their own start at once: one migrates.
func TestMigrateConcurrently(t *testing.T) {
	t.Parallel()
	backendtest.DatabaseURLs(t, func(t *testing.T, address string) {
		var steps [10][]string
		var errs [10]error
		var all sync.WaitGroup
		for n := range steps {
			db := open(t, address)
			all.Go(func() { steps[n], errs[n] = db.MigrateUp(t.Context()) })
		}
		all.Wait()
		for _, err := range errs {
			if err != nil {
				t.Error(err)
			}
		}
		done := slices.Concat(steps[:]...)
		slices.Sort(done)
		status, err := open(t, address).MigrationStatus(t.Context())
		backendtest.Must(t, err)
		var want []string
		for _, m := range status {
			want = append(want, m.ID)
			if m.AppliedAt.IsZero() {
				t.Errorf("%s is not applied", m.ID)
			}
		}
		backendtest.Equal(t, done, want, "steps taken, each once")
	})
}

func TestMigrateUpAndDown(t *testing.T) {
	t.Parallel()
	backendtest.DatabaseURLs(t, func(t *testing.T, address string) {
		db := open(t, address)
		applied := func() (n int) {
			t.Helper()
			status, err := db.MigrationStatus(t.Context())
			backendtest.Must(t, err)
			for _, m := range status {
				if !m.AppliedAt.IsZero() {
					n++
				}
			}
			return n
		}
		backendtest.Equal(t, applied(), 0, "steps of an empty database")
		up, err := db.MigrateUp(t.Context())
		if err != nil || len(up) == 0 || applied() != len(up) {
			t.Fatalf("up took %q, %v; %d are applied", up, err, applied())
		}
		if again, err := db.MigrateUp(t.Context()); err != nil || len(again) != 0 {
			t.Errorf("up again took %q, %v", again, err)
		}
		down, err := db.MigrateDown(t.Context(), 1)
		if err != nil || !slices.Equal(down, up[len(up)-1:]) || applied() != len(up)-1 {
			t.Errorf("down took %q, %v; %d are applied", down, err, applied())
		}
		if _, err := db.MigrateDown(t.Context(), len(up)); err != nil || applied() != 0 {
			t.Errorf("down to the start: %v; %d are applied", err, applied())
		}
		backendtest.Equal(t, columns(t, db), nil, "columns after the way down to the start")
		if again, err := db.MigrateUp(t.Context()); err != nil || !slices.Equal(again, up) {
			t.Errorf("up after down took %q, %v", again, err)
		}
	})
}

func TestMigrateNewerSchema(t *testing.T) {
	t.Parallel()
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		backendtest.Must(t, faulttest.Err(db.Exec(t.Context(), `INSERT INTO gorp_migrations (id, applied_at) VALUES ('9999_future.sql', $1)`, time.Now())))
		if _, err := db.MigrateUp(t.Context()); err == nil || !strings.Contains(err.Error(), "newer than this binary") {
			t.Errorf("up: %v", err)
		}
		status, err := db.MigrationStatus(t.Context())
		if err != nil || !strings.Contains(status[len(status)-1].ID, "9999_future.sql (newer") {
			t.Errorf("status: %v, %v", status, err)
		}
	})
}

// One SQL text serves both databases because they have the same columns.
func TestSchemasAreTheSame(t *testing.T) {
	t.Parallel()
	schemas := map[database.Dialect][]string{}
	backendtest.Databases(t, func(t *testing.T, db *database.DB) { schemas[db.Dialect] = columns(t, db) })
	lite, postgres := schemas[database.SQLite], schemas[database.PostgreSQL]
	for _, c := range lite {
		if !slices.Contains(postgres, c) {
			t.Errorf("only SQLite has %s", c)
		}
	}
	for _, c := range postgres {
		if !slices.Contains(lite, c) {
			t.Errorf("only PostgreSQL has %s", c)
		}
	}
	if len(lite) < 50 {
		t.Errorf("only %d columns were found", len(lite))
	}
}

// columns lists the schema as "table.column", and whether it may be NULL. Partitions,
// which only PostgreSQL has, are their table.
func columns(t *testing.T, db *database.DB) (list []string) {
	t.Helper()
	query := `SELECT table_name || '.' || column_name || CASE is_nullable WHEN 'YES' THEN ' null' ELSE '' END
		FROM information_schema.columns WHERE table_schema = current_schema() AND table_name <> 'gorp_migrations'
		AND NOT (SELECT relispartition FROM pg_class WHERE oid = to_regclass(table_name)) ORDER BY 1`
	if db.Dialect == database.SQLite {
		query = `SELECT t.name || '.' || c.name || CASE WHEN c."notnull" = 0 AND c.pk = 0 THEN ' null' ELSE '' END
			FROM sqlite_master t JOIN pragma_table_info(t.name) c
			WHERE t.type = 'table' AND t.name NOT LIKE 'sqlite_%' AND t.name <> 'gorp_migrations' ORDER BY 1`
	}
	backendtest.Must(t, db.Select(t.Context(), &list, query))
	return list
}
