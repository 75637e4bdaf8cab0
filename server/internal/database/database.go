// Package database opens PostgreSQL or SQLite and hides what differs between
// them, so that every other package writes one SQL text: PostgreSQL's style, $1
// arguments, times in Unix microseconds.
package database

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/tollgatehq/tollgate/server/internal/fault"
)

// Dialect is which database it is.
type Dialect string

// The dialects, named as their folders in migrations.
const (
	PostgreSQL Dialect = "postgres"
	SQLite     Dialect = "sqlite"
)

// What a statement may fail with, by the drivers' codes.
var (
	ErrNoRows = sql.ErrNoRows
	ErrExists = errors.New("a row with this key exists") // UNIQUE, PRIMARY KEY
)

// Queries is what a store may ask for, in and outside of a transaction.
type Queries interface {
	// Get scans one row into dest; ErrNoRows when there is none.
	Get(ctx context.Context, dest any, query string, args ...any) error
	// Select scans all rows into the slice that dest points to.
	Select(ctx context.Context, dest any, query string, args ...any) error
	// Exec returns how many rows it changed.
	Exec(ctx context.Context, query string, args ...any) (int64, error)
	// Insert writes rows into a table; args are their values in the order of columns, row
	// by row.
	Insert(ctx context.Context, table, columns string, args []any) error
}

// Time is the time that a nullable column holds; the zero Time for NULL.
func Time(micros *int64) time.Time {
	if micros == nil {
		return time.Time{}
	}
	return time.UnixMicro(*micros).UTC()
}

// Micros is what a nullable column holds for a time; NULL for the zero Time.
func Micros(t time.Time) *int64 {
	if t.IsZero() {
		return nil
	}
	micros := t.UnixMicro()
	return &micros
}

// JSON is a list as a column holds it.
func JSON[T any](list []T) string {
	text, err := json.Marshal(append([]T{}, list...)) // [] rather than null
	if err != nil {
		panic("database: " + err.Error()) // lists of strings and numbers always encode
	}
	return string(text)
}

// DB is an open database. It is safe for concurrent use.
type DB struct {
	queries
	pool    *sqlx.DB
	url     string
	writing chan struct{} // SQLite: holds a token during a write
}

// Tx is a transaction.
type Tx struct {
	queries
}

type queries struct {
	Dialect Dialect
	on      sqlx.ExtContext
	timeout time.Duration
}

func (q queries) Get(ctx context.Context, dest any, query string, args ...any) error {
	ctx, cancel := context.WithTimeout(ctx, q.timeout)
	defer cancel()
	return classify(ctx, sqlx.GetContext(ctx, q.on, dest, query, args...))
}

func (q queries) Select(ctx context.Context, dest any, query string, args ...any) error {
	ctx, cancel := context.WithTimeout(ctx, q.timeout)
	defer cancel()
	return classify(ctx, sqlx.SelectContext(ctx, q.on, dest, query, args...))
}

func (q queries) Exec(ctx context.Context, query string, args ...any) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, q.timeout)
	defer cancel()
	result, err := q.on.ExecContext(ctx, query, args...)
	if err != nil {
		return 0, classify(ctx, err)
	}
	n, err := result.RowsAffected()
	return n, classify(ctx, err)
}

// Get is Queries.Get of a Row, converted.
func Get[Row, T any](ctx context.Context, q Queries, convert func(Row) (T, error), query string, args ...any) (T, error) {
	var row Row
	if err := q.Get(ctx, &row, query, args...); err != nil {
		var none T
		return none, err
	}
	return convert(row)
}

// Select is Queries.Select of Rows, each converted.
func Select[Row, T any](ctx context.Context, q Queries, convert func(Row) (T, error), query string, args ...any) ([]T, error) {
	var rows []Row
	if err := q.Select(ctx, &rows, query, args...); err != nil {
		return nil, err
	}
	list := make([]T, len(rows))
	for i, row := range rows {
		var err error
		if list[i], err = convert(row); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// tries is how often a write is tried while it loses to others.
const tries = 4

// Write runs fn in a transaction and commits it. It tries again when the
// database says that the transaction lost to another, so fn may run more than
// once and keeps its effects inside tx. Nothing is committed when fn or the
// commit fails.
//
// On PostgreSQL the transaction is READ COMMITTED: fn decides by what its own
// statements changed, not by what it read before.
func (db *DB) Write(ctx context.Context, fn func(ctx context.Context, tx *Tx) error) error {
	for try := 1; ; try++ {
		err := db.write(ctx, fn)
		if err == nil || try == tries || !isSerializationFailure(err) {
			return err
		}
	}
}

// WriteOne is Write of one statement, which is a transaction of its own: on
// PostgreSQL one round trip instead of three.
func (db *DB) WriteOne(ctx context.Context, query string, args ...any) error {
	if db.Dialect == SQLite {
		return db.Write(ctx, func(ctx context.Context, tx *Tx) error {
			_, err := tx.Exec(ctx, query, args...)
			return err
		})
	}
	for try := 1; ; try++ {
		_, err := db.Exec(ctx, query, args...)
		if err == nil || try == tries || !isSerializationFailure(err) {
			return err
		}
	}
}

func (db *DB) write(ctx context.Context, fn func(ctx context.Context, tx *Tx) error) error {
	ctx, cancel := context.WithTimeout(ctx, db.timeout)
	defer cancel()
	if db.writing != nil {
		// SQLite has one writer. Waiting here is fair and ends with ctx;
		// waiting inside SQLite polls.
		select {
		case db.writing <- struct{}{}:
			defer func() { <-db.writing }()
		case <-ctx.Done():
			return classify(ctx, ctx.Err())
		}
	}
	tx, err := db.pool.BeginTxx(ctx, nil)
	if err != nil {
		return classify(ctx, fmt.Errorf("begin: %w", err))
	}
	defer tx.Rollback() //nolint:errcheck // after a commit it does nothing
	if err := fn(ctx, &Tx{queries{db.Dialect, tx, db.timeout}}); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return classify(ctx, fmt.Errorf("commit: %w", err))
	}
	return nil
}

// Ping says whether the database answers.
func (db *DB) Ping(ctx context.Context) error {
	var one int
	return db.Get(ctx, &one, "SELECT 1")
}

// Stats are the pool's figures.
func (db *DB) Stats() sql.DBStats { return db.pool.Stats() }

// Close waits for running statements and closes the pool.
func (db *DB) Close() error { return db.pool.Close() }

// classify returns what a store decides by, or Unavailable when the database was
// not reached, for a driver's error. Others, mistakes in statements, stay as they
// are.
func classify(ctx context.Context, err error) error {
	switch {
	case err == nil, errors.Is(err, sql.ErrNoRows):
		return err
	case isUnique(err):
		return fmt.Errorf("%w: %w", ErrExists, err)
	case isSerializationFailure(err):
		return err
	case errors.Is(err, context.Canceled):
		return err
	case errors.Is(err, context.DeadlineExceeded), ctx.Err() != nil, isConnection(err):
		return fault.Down("the database", err)
	default:
		return advised(err)
	}
}
