package audit

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/clock"
	"github.com/tollgatehq/tollgate/server/internal/database"
)

// onMonths runs test in parallel with a service on PostgreSQL whose log has a tree, a month
// of its own with n events that are in the tree, and the time three months later.
func onMonths(t *testing.T, n int, test func(t *testing.T, s *Service, fake *clock.Fake, name string)) {
	t.Helper()
	t.Parallel()
	s, fake := newService(backendtest.Open(t, backendtest.PostgreSQLURL(t)))
	s.prunePause = 0
	newTree(t, s)
	month := ahead(t, s)
	fake.Advance(month.Sub(fake.Now()))
	backendtest.Must(t, s.MakeMonths(t.Context()))
	events := things(n)
	for i := range events {
		events[i].Time = month.Add(time.Duration(i) * time.Second)
	}
	add(t, s, events...)
	grow(t, s, fake)
	fake.Advance(90 * 24 * time.Hour)
	test(t, s, fake, month.Format("2006_01"))
}

var thirtyDays = Retentions{Default: 30 * 24 * time.Hour}

func wantPruned(t *testing.T, s *Service, want int64) {
	t.Helper()
	if deleted, err := s.Prune(t.Context(), thirtyDays); err != nil || deleted != want {
		t.Errorf("deleted %d, %v; want %d", deleted, err, want)
	}
}

// drop drops the months that are older than thirty days.
func drop(s *Service) (deleted int64, busy bool, err error) {
	err = s.db.Alone(context.Background(), pruneWork, true, func(ctx context.Context, slow *database.DB) error {
		deleted, busy, err = s.dropMonths(ctx, slow, ago(s.clock.Now(), thirtyDays.Default))
		return err
	})
	return deleted, busy, err
}

// A month in which nothing is kept goes with its table, in one event of the log; what tells
// of earlier deletions stays, and the rest verifies.
func TestDropMonth(t *testing.T) {
	onMonths(t, 12_000, func(t *testing.T, s *Service, fake *clock.Fake, name string) {
		saved, err := s.tree.Latest(t.Context())
		backendtest.Must(t, err)
		told := Event{Action: Retention, Outcome: Success, Resource: "earlier", Time: ahead(t, s).Add(time.Hour)}
		add(t, s, told, Event{Action: "test.event", Resource: "new"})
		grow(t, s, fake)
		before := len(monthsOf(t, s))
		wantPruned(t, s, 12_000)
		backendtest.Equal(t, len(monthsOf(t, s)), before-3, "partitions: the old table and two months go")
		backendtest.WantCount(t, s.db, 0, `SELECT COUNT(*) FROM pg_class WHERE oid = to_regclass($1)`, "audit_events_"+name)
		backendtest.WantCount(t, s.db, 3, `SELECT COUNT(*) FROM audit_events`)
		backendtest.WantCount(t, s.db, 2, `SELECT COUNT(*) FROM audit_leaves`)
		backendtest.WantCount(t, s.db, 0, `SELECT COUNT(*) FROM audit_dropped_leaves`)
		backendtest.Equal(t, inPartition(t, s, "default"), 3, "events without a month")
		grow(t, s, fake)
		report := verify(t, s, saved.Note)
		if len(report.Findings) != 0 || report.Removed != 12_000 {
			t.Errorf("found %v, removed %d", report.Findings, report.Removed)
		}
		wantPruned(t, s, 0)
		add(t, s, of(1)) // positions go on without the old table
	})
}

// A month with something on hold stays with it; everything else goes in steps.
func TestDropMonthOnHold(t *testing.T) {
	onMonths(t, 1500, func(t *testing.T, s *Service, fake *clock.Fake, name string) {
		hold(t, s, Filter{Resource: "things/1234"}, func() {})
		hold(t, s, Filter{Actor: "nobody", Action: "never.*"}, func() {})
		wantPruned(t, s, 1499)
		backendtest.Equal(t, inPartition(t, s, name), 1, "events of the month")
		exec(t, s, `DELETE FROM audit_holds`)
		wantPruned(t, s, 1)
		backendtest.WantCount(t, s.db, 0, `SELECT COUNT(*) FROM pg_class WHERE oid = to_regclass($1)`, "audit_events_"+name)
		grow(t, s, fake)
		if report := verify(t, s, nil); len(report.Findings) != 0 || report.Removed != 1500 {
			t.Errorf("found %v, removed %d", report.Findings, report.Removed)
		}
	})
}

// A month with an event that is not in the tree stays with it.
func TestDropMonthNotInTree(t *testing.T) {
	onMonths(t, 20, func(t *testing.T, s *Service, _ *clock.Fake, name string) {
		add(t, s, Event{Action: "test.event", Resource: "late", Time: ahead(t, s).Add(time.Minute)})
		wantPruned(t, s, 20)
		backendtest.Equal(t, inPartition(t, s, name), 1, "events of the month")
	})
}

// A hold that is made while a month is being dropped counts when its making returns.
func TestDropMonthHoldMeanwhile(t *testing.T) {
	onMonths(t, 20, func(t *testing.T, s *Service, _ *clock.Fake, name string) {
		pruned := make(chan int64, 1)
		hold(t, s, Filter{Resource: "things/*"}, func() {
			go func() {
				n, _, err := drop(s)
				if err != nil {
					t.Error(err)
				}
				pruned <- n
			}()
			select {
			case n := <-pruned:
				pruned <- n
			case <-time.After(560 * time.Millisecond):
			}
		})
		backendtest.Equal(t, <-pruned, 0, "number of deleted events on hold")
		backendtest.Equal(t, inPartition(t, s, name), 20, "events of the month")
	})
}

// An event that comes late into a month is not lost with it.
func TestDropMonthLateEvent(t *testing.T) {
	onMonths(t, 20, func(t *testing.T, s *Service, _ *clock.Fake, name string) {
		at := ahead(t, s).Add(time.Minute)
		pruned := make(chan error, 1)
		backendtest.Must(t, s.db.Write(t.Context(), func(ctx context.Context, tx *database.Tx) error {
			if err := Append(ctx, tx, s.clock, Event{Action: "test.event", Resource: "late", Time: at}); err != nil {
				return err
			}
			go func() {
				_, _, err := drop(s)
				pruned <- err
			}()
			select {
			case err := <-pruned:
				pruned <- err
			case <-time.After(560 * time.Millisecond):
			}
			return nil
		}))
		backendtest.Must(t, <-pruned)
		backendtest.WantCount(t, s.db, 1, `SELECT COUNT(*) FROM audit_events WHERE resource = 'late'`)
	})
}

// While one instance drops a month, others delete its events one by one: each leaf is said
// to have gone once.
func TestDropMonthConcurrently(t *testing.T) {
	onMonths(t, 2500, func(t *testing.T, s *Service, fake *clock.Fake, _ string) {
		var all sync.WaitGroup
		var deleted atomic.Int64
		for work := range int64(4) { // as if one had lost its lock
			all.Go(func() {
				err := s.db.Alone(t.Context(), work, true, func(ctx context.Context, slow *database.DB) error {
					n, err := s.prune(ctx, slow, thirtyDays)
					deleted.Add(n)
					return err
				})
				if err != nil {
					t.Log(err) // the month was dropped before it was read
				}
			})
		}
		all.Wait()
		n, err := s.Prune(t.Context(), thirtyDays)
		backendtest.Must(t, err)
		deleted.Add(n)
		backendtest.Equal(t, deleted.Load(), 2500, "number of deleted events")
		wantEachOnce(t, s, 2500)
		grow(t, s, fake)
		if report := verify(t, s, nil); len(report.Findings) != 0 || report.Removed != 2500 {
			t.Errorf("found %v, removed %d", report.Findings, report.Removed)
		}
	})
}

// A month that is in use stays as it is, rather than that its events go one by one, and
// another instance has nothing to do meanwhile.
func TestDropMonthInUse(t *testing.T) {
	onMonths(t, 20, func(t *testing.T, s *Service, _ *clock.Fake, name string) {
		backendtest.Must(t, s.db.Alone(t.Context(), pruneWork, true, func(ctx context.Context, slow *database.DB) error {
			wantPruned(t, s, 0) // another instance
			return slow.Write(ctx, func(ctx context.Context, tx *database.Tx) error {
				if _, err := tx.Exec(ctx, `SELECT COUNT(*) FROM audit_events`); err != nil {
					return err
				}
				n, err := s.prune(ctx, slow, thirtyDays)
				backendtest.Equal(t, n, 0, "number of deleted events of a month that is in use")
				return err
			})
		}))
		backendtest.Equal(t, inPartition(t, s, name), 20, "events of the month")
		wantPruned(t, s, 20)
	})
}
