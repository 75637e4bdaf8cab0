package changes

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/audit"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/clock"
	"github.com/tollgatehq/tollgate/server/internal/database"
	"github.com/tollgatehq/tollgate/server/internal/fault"
)

// follower collects the changes that it gets.
type follower struct {
	mu      sync.Mutex
	resets  int
	got     []string
	fail    error         // what Apply and Reset answer instead of taking anything in
	applied chan struct{} // when set, gets a token after every Apply
}

func (f *follower) Reset(context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fail != nil {
		return f.fail
	}
	f.resets++
	return nil
}

func (f *follower) Apply(_ context.Context, list []Change) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fail != nil {
		return f.fail
	}
	for _, c := range list {
		f.got = append(f.got, string(c.Kind)+" "+c.Subject)
	}
	if f.applied != nil {
		f.applied <- struct{}{}
	}
	return nil
}

func (f *follower) failing(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fail = err
}

func (f *follower) seen() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.got)
}

func (f *follower) wasReset() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.resets
}

func newClock() *clock.Fake {
	return clock.NewFake(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))
}

// open starts an instance's log.
func open(t testing.TB, db *database.DB, fake *clock.Fake) (*Log, *follower) {
	t.Helper()
	f := &follower{}
	l := New(db, Options{Clock: fake.Clock()})
	l.Follow(f)
	backendtest.Must(t, l.Start(t.Context()))
	return l, f
}

// write commits changes of kind Role.
func write(ctx context.Context, l *Log, subjects ...string) (int64, error) {
	return l.Write(ctx, func(ctx context.Context, tx *Tx) error {
		for _, s := range subjects {
			tx.Changed(Role, s)
			tx.Record(audit.New(ctx, audit.RoleUpdate, audit.Success, "roles/"+s))
		}
		return nil
	})
}

func mustWrite(t testing.TB, l *Log, subjects ...string) int64 {
	t.Helper()
	revision, err := write(t.Context(), l, subjects...)
	backendtest.Must(t, err)
	return revision
}

func count(t testing.TB, db *database.DB, query string) (n int64) {
	t.Helper()
	backendtest.Must(t, db.Get(t.Context(), &n, query))
	return n
}

var errNo = errors.New("no")

// Twenty writers at once: what is committed is numbered without gaps, every instance
// gets all of it once and in order, and a write is in force where it was made as soon
// as it returns.
func TestWriteConcurrently(t *testing.T) {
	t.Parallel()
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		const writers, writes = 20, 4
		fake := newClock()
		here, atHere := open(t, db, fake)
		there, atThere := open(t, db, fake)
		var late warnings
		here.log = slog.New(slog.NewTextHandler(&late, nil))

		written := make(chan struct{}, 1)
		var tail, all sync.WaitGroup
		tail.Go(func() { // meanwhile
			for range written {
				if err := there.Sync(t.Context()); err != nil {
					t.Logf("the other instance reads again: %v", err)
				}
			}
		})
		var returned sync.Map
		for w := range writers {
			all.Go(func() {
				for n := range writes {
					subject := fmt.Sprintf("%d.%d", w, n)
					revision, err := write(t.Context(), here, subject+"a", subject+"b")
					for fault.Is(err, fault.Unavailable) { // a machine too busy for the database's time bound
						revision, err = write(t.Context(), here, subject+"a", subject+"b")
					}
					if err != nil {
						t.Error(err)
						return
					}
					if late.n.Load() == 0 && !slices.Contains(atHere.seen(), "role "+subject+"a") {
						t.Errorf("%s, revision %d, returned at revision %d, before it was in force", subject, revision, here.Revision())
					}
					if _, twice := returned.LoadOrStore(revision, subject); twice {
						t.Errorf("revision %d was given twice", revision)
					}
					select {
					case written <- struct{}{}:
					default:
					}
				}
			})
		}
		all.Wait()
		close(written)
		tail.Wait()
		for _, l := range []*Log{here, there} {
			backendtest.Must(t, l.Sync(t.Context()))
		}

		var rows []struct {
			Revision int64  `db:"revision"`
			Change   string `db:"change"`
		}
		err := db.Select(t.Context(), &rows, `SELECT revision, 'role ' || subject AS change FROM changes ORDER BY revision, position`)
		backendtest.Must(t, err)
		var want []string
		for i, row := range rows { // two a revision
			if row.Revision != int64(i/2+1) {
				t.Fatalf("change %d has revision %d: there is a gap", i, row.Revision)
			}
			want = append(want, row.Change)
		}
		if least := writers * writes * 2; len(rows) < least {
			t.Errorf("%d changes, want %d", len(rows), least)
		}
		for where, f := range map[string]*follower{"here": atHere, "there": atThere} {
			backendtest.Equal(t, f.seen(), want, "changes seen %s, against the log", where)
			backendtest.Equal(t, f.wasReset(), 1, "resets %s", where)
		}
	})
}

// warnings counts lines of a log.
type warnings struct{ n atomic.Int32 }

func (w *warnings) Write(line []byte) (int, error) {
	w.n.Add(1)
	return len(line), nil
}

func TestWriteRollsBackEverything(t *testing.T) {
	t.Parallel()
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		l, f := open(t, db, newClock())
		insert := func(ctx context.Context, tx *Tx) error {
			_, err := tx.Exec(ctx, `INSERT INTO roles (name, permissions, created_at, updated_at) VALUES ('x','[]',0,0)`)
			tx.Changed(Role, "x")
			tx.Record(audit.New(ctx, audit.RoleCreate, audit.Success, "roles/x"))
			return err
		}
		for what, fn := range map[string]func(context.Context, *Tx) error{
			"fn fails": func(ctx context.Context, tx *Tx) error {
				return errors.Join(insert(ctx, tx), errNo)
			},
			"the audit event cannot be stored": func(ctx context.Context, tx *Tx) error {
				tx.Record(audit.Event{ID: "same"})
				tx.Record(audit.Event{ID: "same"})
				return insert(ctx, tx)
			},
		} {
			if revision, err := l.Write(t.Context(), fn); err == nil || revision != 0 {
				t.Errorf("%s: revision %d, error %v", what, revision, err)
			}
			for _, table := range []string{"roles", "audit_events", "changes"} {
				backendtest.Equal(t, count(t, db, `SELECT COUNT(*) FROM `+table), 0, "%s: rows left in %s", what, table)
			}
			backendtest.Equal(t, count(t, db, `SELECT revision FROM change_head`), 0, "%s: the revision", what)
		}
		backendtest.Equal(t, f.seen(), nil, "what the follower got")
	})
}

func TestWriteWithoutChanges(t *testing.T) {
	t.Parallel()
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		l, _ := open(t, db, newClock())
		want := mustWrite(t, l, "a")
		got, err := l.Write(t.Context(), func(ctx context.Context, tx *Tx) error {
			tx.Record(audit.New(ctx, audit.Login, audit.Failure, "users/x"))
			return nil
		})
		if err != nil || got != want {
			t.Errorf("revision %d, %v; want that of the last write, %d", got, err, want)
		}
		backendtest.Equal(t, count(t, db, `SELECT COUNT(*) FROM audit_events`), 2, "number of events")
	})
}

func TestEnsure(t *testing.T) {
	t.Parallel()
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		fake := newClock()
		here, f := open(t, db, fake)
		there, _ := open(t, db, fake)
		ensure := func(revision int64) {
			t.Helper()
			backendtest.Must(t, here.Ensure(t.Context(), revision))
		}
		mustWrite(t, there, "a")
		fake.Advance(4 * time.Second)
		ensure(0)
		backendtest.Equal(t, f.seen(), nil, "what the follower got")
		fake.Advance(time.Second)
		ensure(0)
		backendtest.Equal(t, f.seen(), []string{"role a"}, "what followers know at the bound")
		revision := mustWrite(t, there, "b")
		ensure(revision)
		backendtest.Equal(t, f.seen(), []string{"role a", "role b"}, "what followers know at revision %d", revision)
		var e *fault.Error
		err := here.Ensure(t.Context(), revision+1)
		if !errors.As(err, &e) || e.Kind != fault.Unavailable || e.Reason != "REVISION_NOT_REACHED" {
			t.Errorf("a revision that does not exist: %v", err)
		}
		backendtest.Must(t, db.Close())
		ensure(revision)
		fake.Advance(5 * time.Second)
		if err := here.Ensure(t.Context(), 0); !fault.Is(err, fault.Unavailable) {
			t.Errorf("stale, with the database gone: %v", err)
		}
		backendtest.Equal(t, here.Lag(), 5*time.Second, "the lag")
	})
}

func TestSyncRetriesAFailedFollower(t *testing.T) {
	t.Parallel()
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		fake := newClock()
		here, f := open(t, db, fake)
		there, _ := open(t, db, fake)
		f.failing(errNo)
		revision := mustWrite(t, there, "a")
		if err := here.Sync(t.Context()); !errors.Is(err, errNo) {
			t.Errorf("Sync: %v", err)
		}
		if err := here.Ensure(t.Context(), revision); !fault.Is(err, fault.Unavailable) || here.Revision() == revision {
			t.Errorf("revision %d counts as in force, %v", here.Revision(), err)
		}
		f.failing(nil)
		if err := here.Ensure(t.Context(), revision); err != nil {
			t.Error(err)
		}
		backendtest.Equal(t, f.seen(), []string{"role a"}, "what the follower knows")
	})
}
