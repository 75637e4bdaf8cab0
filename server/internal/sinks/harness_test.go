package sinks

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/audit"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/clock"
	"github.com/tollgatehq/tollgate/server/internal/database"
	"github.com/tollgatehq/tollgate/server/internal/page"
)

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// fixture is a log whose events are in the tree as soon as add returns.
type fixture struct {
	db      *database.DB
	log     *audit.Service
	fake    *clock.Fake
	logged  bytes.Buffer // one line of JSON for each line of the log
	written int
}

func newFixture(db *database.DB) *fixture {
	fake := clock.NewFake(start)
	return &fixture{db: db, fake: fake, log: audit.NewService(db, fake.Clock(), page.NewTokens([]byte("a secret of at least 32 bytes....")), nil)}
}

func onDatabases(t *testing.T, test func(t *testing.T, f *fixture)) {
	t.Helper()
	t.Parallel()
	backendtest.Databases(t, func(t *testing.T, db *database.DB) { test(t, newFixture(db)) })
}

// add commits n events and gives each a leaf, as the sequencer does.
func (f *fixture) add(t testing.TB, n int) {
	t.Helper()
	for part := range slices.Chunk(make([]audit.Event, n), 500) {
		for i := range part {
			part[i] = audit.Event{Action: "test.event", Outcome: audit.Success, Resource: fmt.Sprint("things/", f.written+i), Time: start}
		}
		backendtest.Must(t, f.db.Write(t.Context(), func(ctx context.Context, tx *database.Tx) error {
			if err := audit.Append(ctx, tx, f.fake.Clock(), part...); err != nil {
				return err
			}
			for i := range part {
				if _, err := tx.Exec(ctx, `INSERT INTO audit_leaves (leaf, event_id, time, salt) VALUES ($1, $2, $3, $4)`,
					f.written+i, part[i].ID, start.UnixMicro(), []byte("0123456789abcdef")); err != nil {
					return err
				}
			}
			_, err := tx.Exec(ctx, `UPDATE audit_head SET size = $1`, f.written+len(part))
			return err
		}))
		f.written += len(part)
	}
}

// remove does what retention does.
func (f *fixture) remove(t testing.TB, from, until int) {
	t.Helper()
	for _, statement := range []string{
		`DELETE FROM audit_events WHERE id IN (SELECT event_id FROM audit_leaves WHERE leaf >= $1 AND leaf < $2)`,
		`DELETE FROM audit_leaves WHERE leaf >= $1 AND leaf < $2`,
	} {
		_, err := f.db.Exec(t.Context(), statement, from, until)
		backendtest.Must(t, err)
	}
}

// instance is a new process's runner of a sink.
func (f *fixture) instance(target Target) *runner {
	return newRunner(Options{DB: f.db, Log: f.log, Clock: f.fake.Clock(), Logger: slog.New(slog.NewJSONHandler(&f.logged, nil))}, target)
}

// target is a sink's, with batches of 100.
func target(sink Sink) Target {
	return Target{Name: "test", Size: Size{Events: 100, Bytes: 1 << 20}, Open: func() (Sink, error) { return sink, nil }}
}

// drain steps until the sink has everything.
func drain(t testing.TB, r *runner) {
	t.Helper()
	for range 1000 {
		wait, err := r.step(t.Context())
		backendtest.Must(t, err)
		if wait != 0 {
			return
		}
	}
	t.Fatal("it has no end")
}

// lag is how many events are not confirmed.
func (f *fixture) lag(t testing.TB) int {
	t.Helper()
	return f.written - backendtest.Count(t, f.db, `SELECT next_leaf FROM audit_sinks WHERE name = 'test'`)
}

// killed is what a test panics with where a process would be killed.
var killed = errors.New("killed") //nolint:staticcheck // no error of a function

// kill runs what ends in a kill.
func kill(t testing.TB, doomed func()) {
	t.Helper()
	defer func() {
		if p := recover(); p != killed { //nolint:errorlint // it is that very value
			t.Fatalf("it was not killed: %v", p)
		}
	}()
	doomed()
}

// receiver is a sink in memory, which says when it is asked.
type receiver struct {
	batches []Batch
	deliver func(b Batch) error // nil: takes everything
	closed  int
}

func (r *receiver) Deliver(_ context.Context, b Batch) error {
	if r.deliver != nil {
		if err := r.deliver(b); err != nil {
			return err
		}
	}
	r.batches = append(r.batches, b)
	return nil
}

func (r *receiver) Close() error {
	r.closed++
	return nil
}

// times is how often each leaf arrived, and whether they came in order, but for batches
// that are repeated.
func (r *receiver) times(t testing.TB) map[int64]int {
	t.Helper()
	times, next := map[int64]int{}, int64(0)
	for _, b := range r.batches {
		if b.From > next || b.From < next && !b.Repeated {
			t.Errorf("a batch from %d after %d, repeated: %t", b.From, next, b.Repeated)
		}
		next = b.Until
		for _, e := range b.Entries {
			times[e.Leaf]++
			if want := fmt.Sprint("things/", e.Leaf); e.Resource != want {
				t.Errorf("leaf %d is %s", e.Leaf, e.Resource)
			}
		}
	}
	return times
}

// wantOnce checks that all leaves arrived, and only those from until again.
func wantOnce(t testing.TB, times map[int64]int, n int, again ...int64) {
	t.Helper()
	for leaf := range int64(n) {
		switch most := 1 + len(again)/2; {
		case times[leaf] == 0:
			t.Fatalf("leaf %d is lost", leaf)
		case times[leaf] > 1 && (len(again) == 0 || leaf < again[0] || leaf >= again[1]), times[leaf] > most:
			t.Fatalf("leaf %d arrived %d times", leaf, times[leaf])
		}
	}
	if len(times) != n {
		t.Errorf("%d leaves arrived, want %d", len(times), n)
	}
}

// env is what a server gives its sinks, with a checkpoint of 42 events.
func env(clk clock.Clock) Env {
	return Env{Version: "1.2.3", Clock: clk, Checkpoint: func(context.Context) (int64, string, error) { return 42, "tollgate.test/audit\n42\n", nil }}
}
