package audit

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/clock"
	"github.com/tollgatehq/tollgate/server/internal/database"
	"github.com/tollgatehq/tollgate/server/internal/fault"
	"github.com/tollgatehq/tollgate/server/internal/fault/faulttest"
)

// next waits for n events and returns what they are on.
func next(t *testing.T, w *Subscription, n int) []string {
	t.Helper()
	timeout := time.After(20 * time.Second)
	var got []string
	for range n {
		select {
		case e, open := <-w.Events():
			if !open {
				t.Fatalf("the watch ended after %v: %v", got, w.Err())
			}
			got = append(got, e.Resource)
		case <-timeout:
			t.Fatalf("waited in vain after %v", got)
		}
	}
	return got
}

func subscribe(t *testing.T, s *Service, f Filter) *Subscription {
	t.Helper()
	w, err := s.Subscribe(t.Context(), f)
	backendtest.Must(t, err)
	t.Cleanup(w.Close)
	return w
}

// stepped is a tail that reads when the test says so.
func stepped(s *Service) *tail {
	return &tail{Service: s, watchers: map[*Subscription]struct{}{}}
}

// join takes a watcher in that falls behind by as much as it likes.
func joined(t *testing.T, tl *tail, f Filter) *Subscription {
	t.Helper()
	w := &Subscription{filter: f, events: make(chan *Event, 10_000), gone: make(chan struct{})}
	backendtest.Must(t, tl.join(t.Context(), w))
	return w
}

// until polls until the event arrives, and returns what arrived up to it. It
// may take a while: other tests on the same server hold transactions open.
func until(t *testing.T, tl *tail, w *Subscription, resource string) []string {
	t.Helper()
	var got []string
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); {
		tl.poll(t.Context())
		for len(w.events) > 0 {
			got = append(got, (<-w.events).Resource)
		}
		if slices.Contains(got, resource) {
			return got
		}
	}
	t.Fatalf("%s did not arrive after %v", resource, got)
	return nil
}

func want(t *testing.T, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Fatalf("got %v, want %v", got, want)
	}
}

func TestWatchFilters(t *testing.T) {
	onDatabases(t, func(t *testing.T, s *Service, _ *clock.Fake) {
		run(t, s)
		add(t, s, Event{Action: "before.it", Resource: "x"})
		everything := subscribe(t, s, Filter{})
		denied := subscribe(t, s, Filter{Outcome: Denied})
		mine := subscribe(t, s, Filter{Actor: "me", Action: "my.*"})
		add(t, s, Event{Action: "my.a", ActorName: "me", Resource: "1", Outcome: Success}, Event{Action: "other.a", ActorID: "me", Resource: "2", Outcome: Denied})
		backendtest.Must(t, s.Record(t.Context(), Event{Action: "my.b", ActorID: "me", Resource: "3", Outcome: Denied, Details: map[string]string{"k": "v"}}))
		want(t, next(t, everything, 3), "1", "2", "3")
		want(t, next(t, denied, 2), "2", "3")
		want(t, next(t, mine, 2), "1", "3")
	})
}

// A watch that is resumed gives everything after the last event received once:
// what was recorded before it began, and what is recorded after, also where
// another watcher is further on already.
func TestWatchResumes(t *testing.T) {
	onDatabases(t, func(t *testing.T, s *Service, _ *clock.Fake) {
		run(t, s)
		for _, others := range []int{0, 1} {
			for range others {
				subscribe(t, s, Filter{})
			}
			first := Event{ID: s.clock.NewID(), Action: "my.a", Resource: "first"}
			add(t, s, first)
			for n := range 2 * readAtOnce {
				add(t, s, Event{Action: []Action{"my.a", "other.a"}[n%2], Resource: strconv.Itoa(n)})
			}
			w, err := s.Resume(t.Context(), Filter{Action: "my.*"}, first.ID)
			backendtest.Must(t, err)
			defer w.Close()
			add(t, s, Event{Action: "my.a", Resource: "last"})
			var got []string
			backendtest.Must(t, s.Missed(t.Context(), w, func(e *Event) error {
				got = append(got, e.Resource)
				return nil
			}))
			got = append(got, next(t, w, readAtOnce+1-len(got))...)
			for n := range readAtOnce {
				if got[n] != strconv.Itoa(2*n) {
					t.Fatalf("event %d is %s", n, got[n])
				}
			}
			want(t, got[readAtOnce:], "last")
		}
		_, err := s.Resume(t.Context(), Filter{}, "none of ours")
		wantFault(t, err, fault.Precondition, "LAST_EVENT_UNKNOWN")
	})
}

// A transaction that began first and commits last is not passed by.
func TestWatchLateCommit(t *testing.T) {
	t.Parallel()
	onPostgres(t, func(t *testing.T, s *Service, begin func() openTx) {
		tl := stepped(s)
		w := joined(t, tl, Filter{})
		late := begin()
		backendtest.Must(t, Append(t.Context(), late, s.clock, Event{Resource: "late"}))
		add(t, s, Event{Resource: "early"})
		tl.poll(t.Context())
		backendtest.Must(t, late.Commit())
		add(t, s, Event{Resource: "last"})
		want(t, until(t, tl, w, "last"), "late", "early", "last")
		tl.poll(t.Context())
		want(t, next(t, w, len(w.events)))
	})
}

// A watch that begins while transactions are open gives what commits after
// that, whatever its place, and nothing that had committed.
func TestWatchBeginsBetweenCommits(t *testing.T) {
	t.Parallel()
	onPostgres(t, func(t *testing.T, s *Service, begin func() openTx) {
		for name, tl := range map[string]*tail{"the first": stepped(s), "the second": stepped(s)} {
			t.Run(name, func(t *testing.T) {
				if name == "the second" {
					joined(t, tl, Filter{})
				}
				late := begin()
				backendtest.Must(t, Append(t.Context(), late, s.clock, Event{Resource: "late"}))
				add(t, s, Event{Resource: "before"})
				w := joined(t, tl, Filter{})
				add(t, s, Event{Resource: "after"})
				backendtest.Must(t, late.Commit())
				want(t, until(t, tl, w, "after"), "late", "after")
			})
		}
	})
}

func TestWatchersJoinAndLeave(t *testing.T) {
	onDatabases(t, func(t *testing.T, s *Service, _ *clock.Fake) {
		tl := stepped(s)
		add(t, s, Event{Resource: "0"})
		tl.poll(t.Context())
		first := joined(t, tl, Filter{})
		add(t, s, Event{Resource: "1"})
		second := joined(t, tl, Filter{}) // while "1" is unread
		add(t, s, Event{Resource: "2"})
		want(t, until(t, tl, first, "2"), "1", "2")
		want(t, next(t, second, 1), "2")

		first.Close()
		second.Close()
		add(t, s, Event{Resource: "3"})
		tl.poll(t.Context()) // nobody is there
		add(t, s, Event{Resource: "4"})
		third := joined(t, tl, Filter{})
		add(t, s, Event{Resource: "5"})
		want(t, until(t, tl, third, "5"), "5")
		backendtest.Equal(t, len(first.events)+len(second.events), 0, "events for watchers that are gone")
	})
}

// Watchers come and go while writers write: each sees, of every writer, a run
// without gaps or repetitions that begins where the watch does.
func TestWatchersJoinAndLeaveDuringWrites(t *testing.T) {
	t.Parallel()
	const writers = 4
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		s, _ := newService(db)
		run(t, s)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var (
			committed [writers]atomic.Int64
			writing   sync.WaitGroup
		)
		for i := range writers {
			writing.Go(func() {
				for n := int64(1); ctx.Err() == nil; n++ {
					if err := commit(s, Event{ActorID: fmt.Sprint(i), Resource: fmt.Sprint(n)}); err != nil {
						t.Errorf("write: %v", err)
						return
					}
					committed[i].Store(n)
				}
			})
		}
		var watching sync.WaitGroup
		for range 6 {
			watching.Go(func() {
				for range 5 {
					var before, after, last [writers]int64
					for i := range writers {
						before[i] = committed[i].Load()
					}
					w, err := s.Subscribe(ctx, Filter{})
					if err != nil {
						t.Error(err)
						return
					}
					for i := range writers {
						after[i] = committed[i].Load()
					}
					for range 40 {
						var e *Event
						select {
						case e = <-w.Events():
						case <-time.After(20 * time.Second):
						}
						if e == nil {
							t.Errorf("no event: %v", w.Err())
							break
						}
						var i int
						var n int64
						fmt.Sscan(e.ActorID, &i)
						fmt.Sscan(e.Resource, &n)
						switch {
						case last[i] == 0 && (n <= before[i] || n > after[i]+2): // one may be committed and not counted yet
							t.Errorf("writer %d: began with %d, not in (%d, %d]", i, n, before[i], after[i]+2)
						case last[i] != 0 && n != last[i]+1:
							t.Errorf("writer %d: %d after %d", i, n, last[i])
						}
						last[i] = n
					}
					w.Close()
				}
			})
		}
		watching.Wait()
		cancel()
		writing.Wait()
	})
}

func TestWatchTooSlow(t *testing.T) {
	onDatabases(t, func(t *testing.T, s *Service, _ *clock.Fake) {
		run(t, s)
		slow := subscribe(t, s, Filter{})
		quick := subscribe(t, s, Filter{})
		add(t, s, things(600)...)
		backendtest.Equal(t, next(t, quick, 600)[599], "things/599", "the quick one's last")
		var got int
		for e := range slow.Events() {
			backendtest.Equal(t, e.Resource, of(got).Resource, "event %d of the slow one", got)
			got++
		}
		backendtest.Equal(t, got, watcherBuffer, "number of events that the slow one got")
		wantFault(t, slow.Err(), fault.Unavailable, "WATCHER_TOO_SLOW")
	})
}

func TestWatchAfterAnOutage(t *testing.T) {
	onDatabases(t, func(t *testing.T, s *Service, _ *clock.Fake) {
		tl := stepped(s)
		w := joined(t, tl, Filter{})
		add(t, s, Event{Resource: "1"})
		down, cancel := context.WithCancel(t.Context())
		cancel()
		tl.poll(down)
		add(t, s, Event{Resource: "2"})
		want(t, until(t, tl, w, "2"), "1", "2")
	})
}

func TestWatchEndsWithTheService(t *testing.T) {
	onDatabases(t, func(t *testing.T, s *Service, _ *clock.Fake) {
		stop := run(t, s)
		w := subscribe(t, s, Filter{})
		stop()
		if _, open := <-w.Events(); open {
			t.Error("an event out of nowhere")
		}
		wantFault(t, w.Err(), fault.Unavailable, "SHUTTING_DOWN")
		wantFault(t, faulttest.Err(s.Subscribe(t.Context(), Filter{})), fault.Unavailable, "SHUTTING_DOWN")
	})
}

func TestParseSnapshot(t *testing.T) {
	t.Parallel()
	m, err := parseSnapshot("100:105:100,103")
	backendtest.Must(t, err)
	for writer, want := range map[int64]bool{99: true, 100: false, 101: true, 102: true, 103: false, 104: true, 105: false, 106: false} {
		backendtest.Equal(t, m.includes(place{writer, 7}), want, "writer %d", writer)
	}
	if m, err := parseSnapshot("100:100:"); err != nil || m.includes(place{100, 1}) || !m.includes(place{99, 1}) {
		t.Errorf("nothing open: %v %v", m, err)
	}
	if _, err := parseSnapshot(strings.Repeat("9", 30)); err == nil {
		t.Error("not a snapshot")
	}
}
