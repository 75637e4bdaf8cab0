package database

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jmoiron/sqlx"
	migrate "github.com/rubenv/sql-migrate"
	"github.com/tollgatehq/tollgate/migrations"
)

// migrationLock is the PostgreSQL advisory lock that one migrating instance
// holds; the number is arbitrary and must never change.
const migrationLock = 7_655_283_400_001

// Migration is one step of the schema.
type Migration struct {
	ID        string
	AppliedAt time.Time // zero: not applied
}

// MigrateUp brings the schema to this binary's version and returns the ids of
// the steps it took. Any number of instances may start at once: one migrates,
// the others wait. A schema that is newer than the binary is refused.
func (db *DB) MigrateUp(ctx context.Context) ([]string, error) {
	return db.migrate(ctx, migrate.Up, 0)
}

// MigrateDown undoes the newest steps, as many as given.
func (db *DB) MigrateDown(ctx context.Context, steps int) ([]string, error) {
	return db.migrate(ctx, migrate.Down, steps)
}

// MigrationStatus lists every step this binary or the database knows.
func (db *DB) MigrationStatus(ctx context.Context) ([]Migration, error) {
	var status []Migration
	err := db.forMigration(ctx, func(conn *sql.DB) error {
		known, err := source(db.Dialect).FindMigrations()
		if err != nil {
			return err
		}
		applied, err := (migrate.MigrationSet{IgnoreUnknown: true}).GetMigrationRecords(conn, gorpDialect(db.Dialect))
		if err != nil {
			return err
		}
		times := map[string]time.Time{}
		for _, record := range applied {
			times[record.Id] = record.AppliedAt
		}
		for _, m := range known {
			status = append(status, Migration{ID: m.Id, AppliedAt: times[m.Id]})
			delete(times, m.Id)
		}
		for id, at := range times {
			status = append(status, Migration{ID: id + " (newer than this binary)", AppliedAt: at})
		}
		return nil
	})
	return status, err
}

// Exists says whether the database has a table; its name must be one of ours.
func (db *DB) Exists(ctx context.Context, table string) (bool, error) {
	query := "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = $1"
	if db.Dialect == PostgreSQL {
		query = "SELECT count(*) FROM pg_class WHERE oid = to_regclass($1)"
	}
	var n int
	err := db.Get(ctx, &n, query, table)
	return n > 0, err
}

func (db *DB) migrate(ctx context.Context, direction migrate.MigrationDirection, steps int) ([]string, error) {
	var done []string
	err := db.forMigration(ctx, func(conn *sql.DB) error {
		set, dialect, known := migrate.MigrationSet{}, gorpDialect(db.Dialect), source(db.Dialect)
		next := func() (string, error) {
			planned, _, err := set.PlanMigration(conn, dialect, known, direction, 1)
			if err != nil || len(planned) == 0 {
				return "", err
			}
			return planned[0].Id, nil
		}
		for tries := 0; steps == 0 || len(done) < steps; {
			step, err := next()
			if err == nil && step == "" {
				return nil
			}
			if err == nil {
				var taken bool
				if taken, err = db.take(ctx, conn, known, direction, step); taken {
					done = append(done, step)
				}
			}
			if err == nil {
				continue
			}
			// On SQLite no lock spans all this: another process may have the
			// database for a moment, or have taken the step in between.
			if tries++; isSerializationFailure(err) && tries < maxBusyTries {
				if err := pause(ctx, busyPause); err != nil {
					return err
				}
				continue
			}
			if IsLockTimeout(err) && tries < maxLockTries {
				if err := pause(ctx, lockPause); err != nil {
					return err
				}
				continue
			}
			if now, planErr := next(); planErr == nil && now != step {
				continue
			}
			return err
		}
		return nil
	})
	return done, err
}

// take takes one step, and says whether it was this process that took it.
func (db *DB) take(ctx context.Context, conn *sql.DB, known migrate.MigrationSource, direction migrate.MigrationDirection, step string) (bool, error) {
	if direction == migrate.Up {
		// Not the step after, if another process takes this one meanwhile: it
		// would be reported under the wrong name.
		list, err := known.FindMigrations()
		if err != nil {
			return false, err
		}
		i := slices.IndexFunc(list, func(m *migrate.Migration) bool { return m.Id == step })
		known = &migrate.MemoryMigrationSource{Migrations: list[:i+1]}
	}
	n, err := migrate.MigrationSet{}.ExecMaxContext(ctx, conn, gorpDialect(db.Dialect), known, direction, 1)
	if tx, ok := errors.AsType[*migrate.TxError](err); ok {
		err = fmt.Errorf("%s: %w", tx.Migration.Id, tx.Err)
	}
	return n > 0, err
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// forMigration calls fn with a connection of its own, without the pool's time
// bounds, while no other instance migrates.
func (db *DB) forMigration(ctx context.Context, fn func(*sql.DB) error) error {
	if db.Dialect == SQLite {
		if err := fn(db.pool.DB); err != nil {
			return migrationError(err)
		}
		return nil
	}
	connector, err := newConnector(db.url)
	if err != nil {
		return err
	}
	conn := sqlx.NewDb(sql.OpenDB(connector), "postgres")
	defer conn.Close()
	// The lock belongs to a transaction, not to a session, so that it works
	// through a pooler too.
	lock, err := conn.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("connect to migrate: %w", advised(err))
	}
	defer lock.Rollback() //nolint:errcheck // ends the lock
	if _, err := lock.ExecContext(ctx, "SELECT pg_advisory_xact_lock($1)", int64(migrationLock)); err != nil {
		return fmt.Errorf("wait for other migrations: %w", err)
	}
	if err := fn(conn.DB); err != nil {
		return migrationError(err)
	}
	return nil
}

func migrationError(err error) error {
	if _, unknown := errors.AsType[*migrate.PlanError](err); unknown {
		return fmt.Errorf("the database's schema is newer than this binary (%w); start the newer binary, or run its 'migrate down'", err)
	}
	return fmt.Errorf("migrate: %w", advised(err))
}

func source(d Dialect) migrate.MigrationSource {
	return &migrate.EmbedFileSystemMigrationSource{FileSystem: migrations.Files, Root: string(d)}
}

// gorpDialect is sql-migrate's name for the dialect.
func gorpDialect(d Dialect) string {
	if d == SQLite {
		return "sqlite3"
	}
	return "postgres"
}
