package audit

import (
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/clock"
	"github.com/tollgatehq/tollgate/server/internal/fault/faulttest"
)

// pruned is how many events the log says were deleted, and in how many steps.
func pruned(t *testing.T, s *Service) (deleted, steps int) {
	t.Helper()
	for _, e := range all(t, s, Filter{Action: string(Retention)}, 250) {
		n, err := strconv.Atoi(e.Details["deleted"])
		if err != nil || n < 1 || n > pruneAtOnce || e.ActorName != SystemActor || e.Details["before"] == "" {
			t.Errorf("recorded %+v", e)
		}
		deleted, steps = deleted+n, steps+1
	}
	return deleted, steps
}

// pruneBefore prunes what happened before a time.
func pruneBefore(t *testing.T, s *Service, at time.Time) (int64, error) {
	t.Helper()
	return s.Prune(t.Context(), Retentions{Default: s.clock.Now().Sub(at)})
}

// Old events go in steps, each with its record; newer ones stay, watches see
// what is new, and a list that was begun goes on.
func TestPrune(t *testing.T) {
	onDatabases(t, func(t *testing.T, s *Service, fake *clock.Fake) {
		s.prunePause = 0
		run(t, s)
		const old, young = 2*pruneAtOnce + 300, 51 // many statements, the last one short
		events := things(old + young)
		for i := range events {
			events[i].Time = start.Add(time.Duration(i) * time.Second)
		}
		add(t, s, events...)
		first, token, err := s.List(t.Context(), Filter{Action: "test.event"}, 20, "")
		backendtest.Must(t, err)
		w := subscribe(t, s, Filter{Action: "test.*"})

		fake.Advance(100 * 24 * time.Hour)
		border := events[old].Time
		deleted, err := pruneBefore(t, s, border)
		if err != nil || deleted != old {
			t.Fatalf("deleted %d, %v; want %d", deleted, err, old)
		}
		if n, steps := pruned(t, s); n != old || steps != 3 {
			t.Errorf("%d deleted in %d steps are on record, want %d in 3", n, steps, old)
		}
		rest, _, err := s.List(t.Context(), Filter{Action: "test.event"}, 250, token)
		if err != nil || len(first)+len(rest) != young || rest[len(rest)-1].Resource != events[old].Resource {
			t.Errorf("the list goes on with %d events, %v; want the other %d", len(rest), err, young-len(first))
		}
		if deleted, err := pruneBefore(t, s, border); deleted != 0 || err != nil {
			t.Errorf("again: %d, %v", deleted, err)
		}
		if _, steps := pruned(t, s); steps != 3 {
			t.Errorf("deleting nothing was recorded")
		}
		add(t, s, Event{Action: "test.event", Resource: "new"})
		want(t, next(t, w, 1), "new")

		// Also when nothing is left, places are not given twice.
		fake.Advance(time.Hour)
		backendtest.Must(t, faulttest.Err(pruneBefore(t, s, fake.Now().Add(-time.Second))))
		add(t, s, Event{Action: "test.event", Resource: "newer"})
		want(t, next(t, w, 1), "newer")
	})
}

// Instances that prune at the same time delete each event once.
func TestPruneConcurrently(t *testing.T) {
	onDatabases(t, func(t *testing.T, s *Service, fake *clock.Fake) {
		s.prunePause = 0
		add(t, s, things(2500)...)
		fake.Advance(time.Hour)
		border := fake.Now()
		fake.Advance(time.Hour)
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() {
				for range 5 { // who loses a race tries again, as an hour later
					if _, err := pruneBefore(t, s, border); err == nil {
						return
					}
				}
				t.Error("never went through")
			})
		}
		all.Wait()
		backendtest.Must(t, faulttest.Err(pruneBefore(t, s, border)))
		if n, _ := pruned(t, s); n != 2500 {
			t.Errorf("%d deleted are on record, want 2500", n)
		}
	})
}

func TestMeasure(t *testing.T) {
	onDatabases(t, func(t *testing.T, s *Service, _ *clock.Fake) {
		measure := func() int64 {
			t.Helper()
			backendtest.Must(t, s.Measure(t.Context()))
			return s.Stats().Bytes
		}
		before := measure()
		events := things(2000)
		for i := range events {
			events[i].UserAgent = fmt.Sprintf("%0500d", i)
		}
		add(t, s, events...)
		if after := measure(); before <= 0 || after < before+1_000_000 {
			t.Errorf("%d bytes before a megabyte of events, %d after", before, after)
		}
	})
}
