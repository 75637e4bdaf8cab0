package limits

import (
	"testing"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"pgregory.net/rapid"
)

// someLease draws a GCRA limit with a lease, as count and as whole burst.
func someLease(t *rapid.T) (c Count, whole int64) {
	l := Limit{
		Algorithm: GCRA, Period: time.Second, Lease: true,
		Rate:      rapid.SampledFrom([]int64{10, 50, 200}).Draw(t, "rate"),
		LeaseTime: rapid.SampledFrom([]time.Duration{10 * time.Millisecond, 100 * time.Millisecond, time.Second}).Draw(t, "lease"),
	}
	least := 2 * setAside(GCRA, l.Rate, l.Period, l.LeaseTime)
	l.Burst = least + rapid.SampledFrom([]int64{0, 0, 1, least, 5 * l.Rate}).Draw(t, "burst beyond the least")
	return Count{Counter: "l", Key: "k", Algorithm: GCRA, Rate: l.Rate, Burst: l.Burst, Period: l.Period.Microseconds()}.leased(l), l.Burst
}

// TestLeasesStayWithinTheLimit lets instances and callers with leases do what they do,
// while answers are late, instances are killed and stopped, wall clocks are set, keys
// are reset and limits changed.
func TestLeasesStayWithinTheLimit(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		c, _ := someLease(t)
		wholes := map[terms]int64{}
		whole := func(c Count) int64 { return wholes[termsOf(c)] }
		wholes[termsOf(c)] = c.Burst + setAside(GCRA, c.Rate, micros(c.Period), c.Lease)
		f := newFleet(t, c, 3)
		delay := rapid.SampledFrom([]time.Duration{0, 200 * time.Microsecond, c.Lease / 4, c.Lease / 2, c.Lease * 98 / 100, c.Lease, 3 * time.Second})
		for _, i := range f.instances {
			i.slow = func() (before, after time.Duration) {
				if rapid.IntRange(0, 3).Draw(t, "slow") > 0 {
					return 0, 0
				}
				return delay.Draw(t, "before"), delay.Draw(t, "after")
			}
		}
		anyone := func() *lessee { return f.instances[rapid.IntRange(0, 2).Draw(t, "instance")] }
		calls := func(t *rapid.T) {
			i := anyone()
			cost := min(c.Burst, rapid.SampledFrom([]int64{1, 1, 1, 2, 7}).Draw(t, "cost"))
			gap := rapid.SampledFrom([]time.Duration{0, 10 * time.Microsecond, c.Lease / 40}).Draw(t, "gap")
			for range rapid.IntRange(1, 60).Draw(t, "calls") {
				i.call(cost)
				f.pass(gap)
				if rapid.IntRange(0, 7).Draw(t, "background") == 0 {
					i.background()
				}
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"calls": calls, "more calls": calls, "even more calls": calls, "calls again": calls,
			"drain": func(t *rapid.T) {
				for i := anyone(); i.call(1); {
					i.background()
				}
			},
			"hoard":     func(t *rapid.T) { anyone().grant(c.Burst) },
			"spend all": func(t *rapid.T) { f.spend(c.Burst) },
			"time":      func(t *rapid.T) { f.pass(delay.Draw(t, "time")) },
			"stopped":   func(t *rapid.T) { f.pass(3 * time.Second) },
			"background": func(t *rapid.T) {
				anyone().background()
			},
			"kill": func(t *rapid.T) { anyone().start() },
			"set": func(t *rapid.T) {
				anyone().clock.Set(rapid.SampledFrom([]time.Duration{-time.Hour, time.Hour}).Draw(t, "by"))
			},
			"grant": func(t *rapid.T) { anyone().grant(rapid.Int64Range(1, c.Burst+1).Draw(t, "want")) },
			"spend": func(t *rapid.T) { f.spend(rapid.Int64Range(1, c.Burst).Draw(t, "spent")) },
			"reset": func(t *rapid.T) { backendtest.Must(t, anyone().leases.Forget(t.Context(), []Count{f.count})) },
			"changed": func(t *rapid.T) {
				rate := rapid.SampledFrom([]int64{1, c.Rate, 2 * c.Rate}).Draw(t, "new rate")
				burst := rapid.SampledFrom([]int64{2, 3, 10}).Draw(t, "times") * setAside(GCRA, rate, time.Second, c.Lease)
				n := Count{Counter: "l", Key: "k", Algorithm: GCRA, Rate: rate, Burst: burst, Period: c.Period}.leased(Limit{
					Algorithm: GCRA, Period: time.Second, Lease: true, LeaseTime: c.Lease})
				wholes[termsOf(n)] = burst
				f.count = n
				f.changes = append(f.changes, change{f.time, n})
			},
		})
		f.judge(whole)
	})
}
