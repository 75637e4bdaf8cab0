package changes

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/clock"
	"github.com/tollgatehq/tollgate/server/internal/database"
	"github.com/tollgatehq/tollgate/server/internal/fault/faulttest"
)

// A tail that cannot know what it missed resets its followers.
func TestSyncAfterAGap(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		what   string
		sql    string
		resets int
		got    []string
	}{
		{"nothing lost", ``, 1, []string{"role b", "role c", "role d"}},
		{"what is behind it is gone", `DELETE FROM changes WHERE revision <= 1`, 1, []string{"role b", "role c", "role d"}},
		{"the next is gone", `DELETE FROM changes WHERE revision <= 2`, 2, nil},
		{"all is gone", `DELETE FROM changes`, 2, nil},
		{"an older backup is back", `UPDATE change_head SET revision = 0`, 2, nil},
	} {
		t.Run(c.what, func(t *testing.T) {
			backendtest.Databases(t, func(t *testing.T, db *database.DB) {
				fake := newClock()
				there, _ := open(t, db, fake)
				mustWrite(t, there, "a")
				here, f := open(t, db, fake)
				for _, subject := range []string{"b", "c", "d"} {
					mustWrite(t, there, subject)
				}
				if c.sql != "" {
					backendtest.Must(t, faulttest.Err(db.Exec(t.Context(), c.sql)))
				}
				backendtest.Must(t, here.Sync(t.Context()))
				if f.wasReset() != c.resets || !slices.Equal(f.seen(), c.got) {
					t.Errorf("%d resets, changes %q; want %d, %q", f.wasReset(), f.seen(), c.resets, c.got)
				}
				backendtest.Equal(t, here.Revision(), count(t, db, `SELECT revision FROM change_head`), "revision, against the head")
			})
		})
	}
}

func TestPrune(t *testing.T) {
	t.Parallel()
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		fake := newClock()
		late := clock.NewFake(fake.Now().Add(-30 * time.Minute)) // another machine's clock
		here, _ := open(t, db, fake)
		there, _ := open(t, db, late)
		mustWrite(t, here, "a")  // 1
		mustWrite(t, there, "b") // 2, which looks older than 1
		behind, f := open(t, db, fake)
		mustWrite(t, here, "c")  // 3
		mustWrite(t, there, "d") // 4
		left := func() []int64 {
			t.Helper()
			var revisions []int64
			backendtest.Must(t, db.Select(t.Context(), &revisions, `SELECT revision FROM changes ORDER BY revision`))
			return revisions
		}
		fake.Advance(keepFor - time.Minute)
		here.prune(t.Context())
		// Only 2 and 4 look old, but a tail would skip them if there were a gap.
		backendtest.Equal(t, left(), []int64{1, 2, 3, 4}, "left")
		backendtest.Must(t, behind.Sync(t.Context()))
		if got := f.seen(); f.wasReset() != 1 || !slices.Equal(got, []string{"role c", "role d"}) {
			t.Errorf("a tail that was behind read %q", got)
		}
		mustWrite(t, here, "e") // 5, young
		fake.Advance(2 * time.Minute)
		here.prune(t.Context())
		backendtest.Equal(t, left(), []int64{5}, "left")
		fake.Advance(keepFor)
		here.prune(t.Context())
		backendtest.Equal(t, left(), nil, "left")
		backendtest.Equal(t, mustWrite(t, here, "f"), 6, "the next revision")
	})
}

// More changes than one read takes arrive all the same.
func TestSyncManyChanges(t *testing.T) {
	t.Parallel()
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		const atOnce = 20
		here, f := open(t, db, newClock())
		here.atOnce = atOnce
		bulk := func(revision int64, n int) {
			t.Helper()
			_, err := db.Exec(t.Context(), `INSERT INTO changes (revision, position, kind, subject, at)
				WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < $2 - 1)
				SELECT CAST($1 AS BIGINT), i, 'role', $1 || '.' || i, 0 FROM n`, revision, n)
			backendtest.Must(t, err)
			backendtest.Must(t, faulttest.Err(db.Exec(t.Context(), `UPDATE change_head SET revision = $1`, revision)))
		}
		var want []string
		for revision := range int64(3) {
			bulk(revision+1, atOnce/2+1)
			for n := range atOnce/2 + 1 {
				want = append(want, fmt.Sprintf("role %d.%d", revision+1, n))
			}
		}
		backendtest.Must(t, here.Sync(t.Context()))
		if got := f.seen(); f.wasReset() != 1 || !slices.Equal(got, want) {
			t.Errorf("%d changes after %d resets, want %d after 1", len(got), f.wasReset(), len(want))
		}
		bulk(4, atOnce+1)
		backendtest.Must(t, here.Sync(t.Context()))
		if f.wasReset() != 2 || here.Revision() != 4 {
			t.Errorf("one revision of too many changes: %d resets, at revision %d", f.wasReset(), here.Revision())
		}
	})
}

// A write of more changes than one statement takes keeps their order.
func TestWriteManyChanges(t *testing.T) {
	t.Parallel()
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		l, f := open(t, db, newClock())
		var want []string
		_, err := l.Write(t.Context(), func(_ context.Context, tx *Tx) error {
			want = nil
			for n := range 501 {
				tx.Changed(Role, fmt.Sprint(n))
				want = append(want, fmt.Sprintf("role %d", n))
			}
			return nil
		})
		backendtest.Must(t, err)
		if got := f.seen(); !slices.Equal(got, want) {
			t.Errorf("%d changes, want %d in order", len(got), len(want))
		}
	})
}

// hub joins the instances of a test.
type hub struct {
	mu    sync.Mutex
	wakes []func()
	ready chan struct{} // gets a token for every listener
}

func (h *hub) Notify() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, wake := range h.wakes {
		wake()
	}
}

func (h *hub) Listen(ctx context.Context, wake func()) {
	h.mu.Lock()
	h.wakes = append(h.wakes, wake)
	h.mu.Unlock()
	h.ready <- struct{}{}
	<-ctx.Done()
}

// A notification wakes the other instance's tail; without any, polling does.
func TestRun(t *testing.T) {
	t.Parallel()
	for _, notified := range []bool{true, false} {
		t.Run(fmt.Sprintf("notified=%v", notified), func(t *testing.T) {
			backendtest.Databases(t, func(t *testing.T, db *database.DB) {
				h := &hub{ready: make(chan struct{}, 1)}
				f := &follower{applied: make(chan struct{}, 1)}
				options := Options{Clock: newClock().Clock()}
				if notified {
					options.Notifier = h
				}
				here, there := New(db, options), New(db, options)
				here.Follow(f)
				for _, l := range []*Log{here, there} {
					backendtest.Must(t, l.Start(t.Context()))
				}
				ctx, stop := context.WithTimeout(t.Context(), 10*time.Second)
				defer stop()
				var running sync.WaitGroup
				running.Go(func() { here.Run(ctx) })
				if notified {
					<-h.ready
				}
				mustWrite(t, there, "a")
				select {
				case <-f.applied:
				case <-ctx.Done():
					t.Error("the change did not arrive")
				}
				stop()
				running.Wait()
			})
		})
	}
}
