package limits

import (
	"testing"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/clock"
)

// TestLeasesAreCheapAndUsed: what a steady load at three instances gets of a limit,
// and how often they ask for it.
func TestLeasesAreCheapAndUsed(t *testing.T) {
	t.Parallel()
	for what, load := range map[string]struct {
		rate, each int64 // calls a second: of the limit, and that come to each instance
		asks       float64
	}{
		"ten times what is allowed": {20_000, 100_000, 1},
		"all that is allowed":       {300_000, 100_000, 1},
		"some of it":                {1_000_000, 100_000, 1},
		"a small limit":             {500, 100_000, 1},
		"fewer calls":               {1_000, 1_000, 100},
		"as few as allowed":         {3_000, 1_000, 40},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			const seconds = 3
			c := Count{Counter: "l", Key: "k", Algorithm: GCRA, Rate: load.rate, Burst: load.rate, Period: 1_000_000}.leased(Limit{
				Algorithm: GCRA, Period: time.Second, Lease: true, LeaseTime: defaultLease})
			f := newFleet(t, c, 3)
			for _, i := range f.instances {
				i.slow = func() (a, b time.Duration) { return 0, 100 * time.Microsecond }
			}
			calls, passed := int64(0), int64(0)
			for began := f.time; f.time-began < seconds*time.Second; {
				f.pass(time.Second / time.Duration(load.each))
				for _, i := range f.instances {
					calls++
					if i.call(1) {
						passed++
					}
					i.background()
				}
				f.uses = f.uses[:0]
			}
			asks := 0
			for _, i := range f.instances {
				asks += i.asks
			}
			can := min(calls, load.rate*seconds)
			if passed < can*95/100 {
				t.Errorf("%d of %d passed", passed, can)
			}
			if each := float64(asks) * 1000 / float64(calls); each > load.asks {
				t.Errorf("%.2f questions for 1,000 calls", each)
			}
		})
	}
}

// BenchmarkTakeLeased is a call for a key that calls are held of.
func BenchmarkTakeLeased(b *testing.B) {
	counters := NewMemory(clock.Real())
	l := NewLeases(counters, clock.Real())
	list := []Count{{Counter: "l", Key: "user-0190", Algorithm: GCRA, Rate: maxRate, Burst: maxRate / 2, Period: 1_000_000, Cost: 1, Lease: defaultLease}}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := l.Take(b.Context(), list, false); err != nil {
			b.Fatal(err)
		}
	}
	s := l.Stats()
	b.ReportMetric(float64(s.Asked)*1000/float64(s.Answered+s.Asked), "asks/1000")
}
