package overview

import (
	"sync"
	"testing"
	"time"

	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/decision"
)

func allowed(list []Bucket) []uint64 {
	counts := make([]uint64, len(list))
	for i, b := range list {
		for _, d := range b.Decisions {
			counts[i] += d.Count
		}
	}
	return counts
}

// TestSeries: what is counted before a bucket's end is in it, and there is a bucket for
// every five seconds.
func TestSeries(t *testing.T) {
	t.Parallel()
	c := NewCounts()
	s := newSeries(c, start.Add(2*time.Second))
	count := func(n int) {
		for range n {
			c.Decided(decision.SourceService, caller.ReasonOK)
		}
	}
	count(3)
	if closes := s.sample(start.Add(3 * time.Second)); !closes.Equal(start.Add(5 * time.Second)) {
		t.Errorf("closes at %s", closes)
	}
	count(2)
	s.sample(start.Add(5 * time.Second))
	count(4)
	s.sample(start.Add(20 * time.Second))
	count(1)
	list := s.since(time.Time{}, start.Add(21*time.Second))
	backendtest.Equal(t, allowed(list), []uint64{5, 4, 0, 0, 1}, "decisions")
	for i, b := range list {
		if want := start.Add(time.Duration(i) * BucketLength); !b.StartsAt.Equal(want) {
			t.Errorf("bucket %d begins at %s", i, b.StartsAt)
		}
	}
	backendtest.Equal(t, allowed(s.since(list[4].StartsAt, start.Add(22*time.Second))), []uint64{1}, "the last one again")

	for i := range 1000 {
		count(1)
		s.sample(start.Add(25*time.Second + time.Duration(i)*BucketLength))
	}
	end := start.Add(25*time.Second + 999*BucketLength)
	if list := s.since(time.Time{}, end); len(list) != buckets || !list[0].StartsAt.Equal(end.Add(BucketLength-Window)) {
		t.Errorf("%d buckets from %s", len(list), list[0].StartsAt)
	}
}

// TestSeriesWithASetClock: a clock that was set, or a machine that slept, begins a new
// series rather than a wrong one.
func TestSeriesWithASetClock(t *testing.T) {
	t.Parallel()
	for _, jump := range []time.Duration{-time.Hour, 24 * time.Hour, -20 * time.Second} {
		c := NewCounts()
		s := newSeries(c, start)
		s.sample(start.Add(30 * time.Second))
		now := start.Add(30 * time.Second).Add(jump)
		c.Decided(decision.SourceAPI, caller.ReasonOK)
		s.sample(now)
		c.Decided(decision.SourceAPI, caller.ReasonLimited)
		list := s.since(time.Time{}, now)
		if len(list) != 1 || !list[0].StartsAt.Equal(now.Truncate(BucketLength)) || len(list[0].Decisions) != 1 {
			t.Errorf("by %s: %v", jump, list)
		}
	}
}

// TestCountsAtOnce: no decision is lost or counted twice while samples are taken.
func TestCountsAtOnce(t *testing.T) {
	t.Parallel()
	c := NewCounts()
	s := newSeries(c, start)
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 10_000 {
				c.Decided(decision.SourceAPI, caller.ReasonOK)
			}
		})
	}
	for i := range 100 {
		s.sample(start.Add(time.Duration(i) * time.Second))
	}
	all.Wait()
	sum := uint64(0)
	for _, n := range allowed(s.since(time.Time{}, start.Add(100*time.Second))) {
		sum += n
	}
	backendtest.Equal(t, sum, 40_000, "decisions")
}

// TestKinds: every source and every reason of a decision is counted, and what is none of
// them is nobody's.
func TestKinds(t *testing.T) {
	t.Parallel()
	for number, name := range tollgatev1.Reason_name {
		if number > 0 && number < 20 {
			if _, known := reasonIndex[reasonEnum.Text(tollgatev1.Reason(number))]; !known {
				t.Errorf("%s is not counted", name)
			}
		}
	}
	for number, name := range tollgatev1.DecisionSource_name {
		if _, known := sourceIndex[sourceEnum.Text(tollgatev1.DecisionSource(number))]; known != (number > 0) {
			t.Errorf("%s: counted is %v", name, known)
		}
	}
	c := NewCounts()
	c.Decided("whatever", "comes")
	c.Each(func(s decision.Source, r caller.Reason, n uint64) { t.Errorf("%s %s: %d", s, r, n) })
}

func BenchmarkDecided(b *testing.B) {
	c := NewCounts()
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			c.Decided(decision.SourceService, caller.ReasonOK)
		}
	})
}
