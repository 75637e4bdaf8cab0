package audit

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/clock"
	"github.com/tollgatehq/tollgate/server/internal/database"
	"github.com/tollgatehq/tollgate/server/internal/fault"
	"github.com/tollgatehq/tollgate/server/internal/fault/faulttest"
	"github.com/tollgatehq/tollgate/server/internal/page"
)

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// newService makes a service that does not run, with a clock that stands.
func newService(db *database.DB) (*Service, *clock.Fake) {
	fake := clock.NewFake(start)
	clk := fake.Clock()
	return NewService(db, clk, page.NewTokens([]byte("a secret of at least 32 bytes....")), nil), fake
}

// onDatabases runs test in parallel with others, once on each database, with a
// service that does not run.
func onDatabases(t *testing.T, test func(t *testing.T, s *Service, fake *clock.Fake)) {
	t.Helper()
	t.Parallel()
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		s, fake := newService(db)
		test(t, s, fake)
	})
}

// run runs the service until the test ends or stop is called, which waits.
func run(t *testing.T, s *Service) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { s.Run(ctx) })
	stop = func() {
		cancel()
		running.Wait()
	}
	t.Cleanup(stop)
	return stop
}

// add commits events in one transaction.
func add(t *testing.T, s *Service, events ...Event) {
	t.Helper()
	backendtest.Must(t, commit(s, events...))
}

func commit(s *Service, events ...Event) error {
	err := s.db.Write(context.Background(), func(ctx context.Context, tx *database.Tx) error {
		return Append(ctx, tx, s.clock, events...)
	})
	s.Wake()
	return err
}

// all lists everything that the filter lets through, a page at a time.
func all(t *testing.T, s *Service, f Filter, size int32) []Event {
	t.Helper()
	return slices.Concat(backendtest.Pages(t, func(token string) ([]Event, string, error) {
		return s.List(t.Context(), f, size, token)
	})...)
}

func resources(events []Event) []string {
	names := []string{}
	for _, e := range events {
		names = append(names, e.Resource)
	}
	return names
}

// of is an event on the n-th thing.
func of(n int) Event {
	return Event{Action: "test.event", Outcome: Success, Resource: fmt.Sprint("things/", n)}
}

// things are n such events.
func things(n int) (events []Event) {
	for i := range n {
		events = append(events, of(i))
	}
	return events
}

func wantFault(t *testing.T, err error, kind fault.Kind, reason string) {
	t.Helper()
	f := faulttest.Want(t, err, kind, reason)
	if kind == fault.Unavailable && reason != "WATCHER_TOO_SLOW" && f.RetryAfter == 0 {
		t.Errorf("%s does not say when to try again", reason)
	}
}

// openTx is a transaction that a test keeps open for as long as it likes.
type openTx struct {
	database.Queries // not there: only Exec and Insert are
	*sql.Tx
}

func (tx openTx) Exec(ctx context.Context, query string, args ...any) (int64, error) {
	result, err := tx.Tx.ExecContext(ctx, query, args...)
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

func (tx openTx) Insert(ctx context.Context, table, columns string, args []any) error {
	var values string
	for i := range args {
		values += fmt.Sprintf(", $%d", i+1)
	}
	_, err := tx.Exec(ctx, `INSERT INTO `+table+` (`+columns+`) VALUES (`+values[2:]+`)`, args...)
	return err
}

// onPostgres runs test with a service and a way to open transactions.
func onPostgres(t *testing.T, test func(t *testing.T, s *Service, begin func() openTx)) {
	t.Helper()
	address := backendtest.PostgreSQLURL(t)
	db := backendtest.Open(t, address)
	raw, err := sql.Open("postgres", address)
	backendtest.Must(t, err)
	t.Cleanup(func() { raw.Close() })
	s, _ := newService(db)
	test(t, s, func() openTx {
		tx, err := raw.Begin()
		backendtest.Must(t, err)
		t.Cleanup(func() { tx.Rollback() })
		return openTx{Tx: tx}
	})
}
