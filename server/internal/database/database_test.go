package database_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/database"
	"github.com/tollgatehq/tollgate/server/internal/fault"
	"github.com/tollgatehq/tollgate/server/internal/fault/faulttest"
)

const addRole = `INSERT INTO roles (name, permissions, created_at, updated_at) VALUES ($1,'[]',0,0)`

func TestClassify(t *testing.T) {
	t.Parallel()
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		const addUser = `INSERT INTO users (id, username, kind, created_at, updated_at) VALUES ($1,$2,'person',0,0)`
		for _, err := range []error{faulttest.Err(db.Exec(t.Context(), addRole, "a")), faulttest.Err(db.Exec(t.Context(), addUser, "1", "ann"))} {
			backendtest.Must(t, err)
		}
		var text string
		canceled, cancel := context.WithCancel(t.Context())
		cancel()
		for _, c := range []struct {
			what string
			err  error
			want error
		}{
			{"no row", db.Get(t.Context(), &text, `SELECT name FROM roles WHERE name = 'x'`), database.ErrNoRows},
			{"the same primary key", faulttest.Err(db.Exec(t.Context(), addRole, "a")), database.ErrExists},
			{"the same unique key", faulttest.Err(db.Exec(t.Context(), addUser, "2", "ann")), database.ErrExists},
			{"in a transaction", db.Write(t.Context(), func(ctx context.Context, tx *database.Tx) error {
				return faulttest.Err(tx.Exec(ctx, addRole, "a"))
			}), database.ErrExists},
			{"canceled", db.Get(canceled, &text, `SELECT name FROM roles`), context.Canceled},
		} {
			if !errors.Is(c.err, c.want) || fault.From(c.err).Kind == fault.Unavailable {
				t.Errorf("%s: %v, want %v", c.what, c.err, c.want)
			}
		}
		for what, err := range map[string]error{
			"a mistake":          faulttest.Err(db.Exec(t.Context(), `SELEKT`)),
			"a broken check":     faulttest.Err(db.Exec(t.Context(), `INSERT INTO users (id, username, kind, created_at, updated_at) VALUES ('3','x','cat',0,0)`)),
			"a broken reference": faulttest.Err(db.Exec(t.Context(), `INSERT INTO memberships (role, user_id, assigned_at) VALUES ('x','1',0)`)),
			"a missing value":    faulttest.Err(db.Exec(t.Context(), `INSERT INTO roles (name) VALUES ('x')`)),
			"an unknown column":  db.Get(t.Context(), &text, `SELECT nothing FROM roles`),
		} {
			if f := fault.From(err); f == nil || f.Kind != fault.Internal || strings.Contains(f.Message, "SELEKT") {
				t.Errorf("%s: %v", what, err)
			}
		}
		late, cancel := context.WithDeadline(t.Context(), time.Unix(0, 0))
		defer cancel()
		if err := db.Get(late, &text, `SELECT name FROM roles`); !fault.Is(err, fault.Unavailable) {
			t.Errorf("no time left: %v", err)
		}
	})
}

func TestUnavailable(t *testing.T) {
	t.Parallel()
	db, err := database.Open("postgres://someone:s3cr3t@127.0.0.1:1/tollgate?sslmode=disable")
	backendtest.Must(t, err)
	defer db.Close()
	err = db.Ping(t.Context())
	if !fault.Is(err, fault.Unavailable) || strings.Contains(err.Error(), "s3cr3t") {
		t.Errorf("nobody listens: %v", err)
	}
	err = db.Write(t.Context(), func(context.Context, *database.Tx) error { t.Error("fn ran"); return nil })
	if !fault.Is(err, fault.Unavailable) {
		t.Errorf("nobody listens, on a write: %v", err)
	}

	db, err = database.Open(backendtest.PostgreSQLURL(t))
	backendtest.Must(t, err)
	defer db.Close()
	var void string
	if err := db.Get(t.Context(), &void, `SELECT pg_sleep(30)::text`); !fault.Is(err, fault.Unavailable) {
		t.Errorf("a statement without end: %v", err)
	}
	err = db.Get(t.Context(), &void, `SELECT pg_terminate_backend(pg_backend_pid())::text`)
	if !fault.Is(err, fault.Unavailable) {
		t.Errorf("the connection was ended: %v", err)
	}
}

func TestOpenInvalid(t *testing.T) {
	t.Parallel()
	for _, address := range []string{"", "mysql://x", "sqlite:", "tollgate.db", "postgres://u:s3cr3t@host:port/x", "postgres://u:s3cr3t@h/%zz"} {
		db, err := database.Open(address)
		if err == nil {
			db.Close()
			t.Errorf("%q opens", address)
			continue
		}
		if strings.Contains(err.Error(), "s3cr3t") {
			t.Errorf("%q: the error tells the password: %v", address, err)
		}
	}
}

func TestWriteIsAllOrNothing(t *testing.T) {
	t.Parallel()
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		no := errors.New("no")
		err := db.Write(t.Context(), func(ctx context.Context, tx *database.Tx) error {
			return errors.Join(faulttest.Err(tx.Exec(ctx, addRole, "a")), no)
		})
		if !errors.Is(err, no) || len(roles(t, db)) != 0 {
			t.Errorf("after %v there are roles %q", err, roles(t, db))
		}
		func() {
			defer func() {
				if recover() == nil {
					t.Error("the panic was swallowed")
				}
			}()
			_ = db.Write(t.Context(), func(ctx context.Context, tx *database.Tx) error {
				_, _ = tx.Exec(ctx, addRole, "b")
				panic("no")
			})
		}()
		backendtest.Equal(t, roles(t, db), nil, "roles after a panic")
		err = db.Write(t.Context(), func(ctx context.Context, tx *database.Tx) error { return faulttest.Err(tx.Exec(ctx, addRole, "c")) })
		if got := roles(t, db); err != nil || !slices.Equal(got, []string{"c"}) {
			t.Errorf("after a good write, %v, there are roles %q", err, got)
		}
	})
}

func roles(t *testing.T, db *database.DB) (names []string) {
	t.Helper()
	backendtest.Must(t, db.Select(t.Context(), &names, `SELECT name FROM roles ORDER BY name`))
	return names
}

// Changing a new file to WAL fails at once while another connection does the same.
func TestOpen_newSQLiteTogether(t *testing.T) {
	t.Parallel()
	for range 50 {
		path := filepath.Join(t.TempDir(), "new.db")
		var opened sync.WaitGroup
		for range 4 {
			opened.Go(func() {
				db, err := database.Open("sqlite:" + path)
				if err != nil {
					t.Error(err)
					return
				}
				defer db.Close()
				if err := db.Ping(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		opened.Wait()
	}
}

// lost has the database refuse a statement in favor of another transaction:
// on SQLite one that stands in the way, which is a Write that is under way.
func lost(t *testing.T, db *database.DB, address string) func(ctx context.Context, tx *database.Tx) error {
	if db.Dialect == database.PostgreSQL {
		return func(ctx context.Context, tx *database.Tx) error {
			return faulttest.Err(tx.Exec(ctx, `DO $$ BEGIN RAISE 'lost' USING ERRCODE = '40001'; END $$`))
		}
	}
	impatient, err := sql.Open("sqlite", "file:"+strings.TrimPrefix(address, "sqlite:")+"?_pragma=busy_timeout(0)")
	backendtest.Must(t, err)
	t.Cleanup(func() { impatient.Close() })
	return func(ctx context.Context, _ *database.Tx) error {
		return faulttest.Err(impatient.ExecContext(ctx, `UPDATE change_head SET revision = 0`))
	}
}

func TestWriteRetries(t *testing.T) {
	t.Parallel()
	backendtest.DatabaseURLs(t, func(t *testing.T, address string) {
		db := open(t, address)
		backendtest.Must(t, faulttest.Err(db.MigrateUp(t.Context())))
		lose := lost(t, db, address)
		for _, c := range []struct{ losses, runs int }{{0, 1}, {1, 2}, {3, 4}, {4, 4}} {
			name, runs := fmt.Sprintf("r%d", c.losses), 0
			err := db.Write(t.Context(), func(ctx context.Context, tx *database.Tx) error {
				if _, err := tx.Exec(ctx, addRole, name); err != nil {
					return err
				}
				if runs++; runs <= c.losses {
					if err := lose(ctx, tx); err != nil {
						return fmt.Errorf("wrapped: %w", err)
					}
					t.Error("nothing was lost")
				}
				return nil
			})
			backendtest.Equal(t, runs, c.runs, "runs of a write that loses %d times", c.losses)
			if done := slices.Contains(roles(t, db), name); done != (err == nil) || done != (c.losses < c.runs) {
				t.Errorf("lost %d times: %v, and done: %v", c.losses, err, done)
			}
		}
	})
}

// Writes wait for each other instead of failing.
func TestWriteConcurrently(t *testing.T) {
	t.Parallel()
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		const writers = 10
		var all sync.WaitGroup
		for range writers {
			all.Go(func() {
				err := db.Write(t.Context(), func(ctx context.Context, tx *database.Tx) error {
					return faulttest.Err(tx.Exec(ctx, `UPDATE change_head SET revision = revision + 1`))
				})
				if err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		var n int
		if err := db.Get(t.Context(), &n, `SELECT revision FROM change_head`); err != nil || n != writers {
			t.Errorf("%d writes counted, %v", n, err)
		}
	})
}

func open(t *testing.T, address string) *database.DB {
	t.Helper()
	db, err := database.Open(address)
	backendtest.Must(t, err)
	t.Cleanup(func() { db.Close() })
	return db
}

func TestValues(t *testing.T) {
	t.Parallel()
	backendtest.Equal(t, database.JSON([]string{"a"}), `["a"]`, "a list")
	backendtest.Equal(t, database.JSON[string](nil), `[]`, "an empty list")
	for _, at := range []time.Time{{}, time.UnixMicro(1).UTC()} {
		backendtest.Equal(t, database.Time(database.Micros(at)), at, "what is read after %v was stored", at)
	}
}
