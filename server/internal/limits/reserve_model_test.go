package limits

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"pgregory.net/rapid"
)

// TestSettleNeverExceedsTheLimit: what calls did cost keeps to the limit as if it had
// been counted at once, however reservations, settlements and other calls mix: in a
// window of length t at most burst + rate*t.
func TestSettleNeverExceedsTheLimit(t *testing.T) {
	t.Parallel()
	keeps := func(t *rapid.T) {
		c := someCount(t, []Algorithm{GCRA, FixedWindow})
		c.Burst = min(c.Burst, 50*c.Rate)
		type reserved struct {
			pass
			settlement
			open bool
		}
		var passed []*reserved
		var s state
		now := start
		for range rapid.IntRange(1, 80).Draw(t, "steps") {
			now += rapid.OneOf(rapid.Just(int64(0)), rapid.Int64Range(0, c.Period/c.Rate+1), rapid.Int64Range(0, 2*c.Period)).Draw(t, "later")
			s = c.advance(s, now)
			if len(passed) > 0 && rapid.Bool().Draw(t, "settle") {
				p := passed[rapid.IntRange(0, len(passed)-1).Draw(t, "which")]
				if p.open {
					p.open = false
					p.settlement.cost = rapid.Int64Range(0, p.charged).Draw(t, "actual")
					p.pass.cost = p.settlement.cost
					s = c.settle(s, now, p.settlement)
				}
				continue
			}
			c.Cost = rapid.OneOf(rapid.Just(int64(1)), rapid.Int64Range(1, c.Burst), rapid.Just(c.Burst)).Draw(t, "cost")
			if c.exceeded(s, now) {
				continue
			}
			s = c.take(s, now)
			p := &reserved{pass: pass{now, c.Cost}, open: rapid.Bool().Draw(t, "reserved"), settlement: settlement{charged: c.Cost, at: now}}
			if c.Algorithm != GCRA {
				p.settlement.at = s.at
			}
			passed = append(passed, p)
		}
		costs := make([]pass, len(passed))
		for i, p := range passed {
			costs[i] = p.pass
		}
		wantWithin(t, c, costs)
	}
	for range 20 { // of a hundred sequences each: the breach is rare
		rapid.Check(t, keeps)
	}
}

// TestSettleIsAsIfCountedAtOnce: in the windows where all of it counts still, the
// counter is the same as one that counted the actual cost.
func TestSettleIsAsIfCountedAtOnce(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		c := someCount(t, []Algorithm{FixedWindow, SlidingWindow})
		charged := rapid.Int64Range(1, c.Burst).Draw(t, "charged")
		actual := rapid.Int64Range(0, charged).Draw(t, "actual")
		now := start
		reserved, direct := c.advance(state{}, now), c.advance(state{}, now)
		at := reserved.at
		reserved.count += charged
		direct.count += actual
		now += rapid.Int64Range(0, 3*c.Period).Draw(t, "later")
		reserved = c.settle(c.advance(reserved, now), now, settlement{charged: charged, cost: actual, at: at})
		if direct = c.advance(direct, now); reserved != direct {
			t.Fatalf("%+v: %+v after the settlement, %+v when counted at once", c, reserved, direct)
		}
	})
}

// TestRedisSettlesTheSame runs the script on counters of any age and compares it with
// reserve.go at Redis's own time.
func TestRedisSettlesTheSame(t *testing.T) {
	t.Parallel()
	r := testRedis(t)
	for n := range 300 {
		c := Count{
			Counter: fmt.Sprint("c", n), Key: "k", Algorithm: rates[rand.IntN(3)], Rate: 1 + rand.Int64N(1000), Burst: 1 + rand.Int64N(1000), Cost: 1,
			Period: []int64{60_000_000, 3_600_000_000, longMicro}[rand.IntN(3)],
		}
		if !c.Algorithm.bursts() {
			c.Burst = c.Rate
		}
		key := r.keys([]Count{c})[0]
		now := time.Now().UnixMicro()
		before := state{at: now - rand.Int64N(2*c.Period), count: rand.Int64N(2 * c.Burst), period: c.Period}
		if c.Algorithm == GCRA {
			before.rest = rand.Int64N(c.Period)
		} else {
			before.at -= before.at % c.Period
			if c.Algorithm == SlidingWindow {
				before.rest = rand.Int64N(c.Rate)
			}
		}
		backendtest.Must(t, r.client.Set(t.Context(), key, fmt.Sprintf("%d %d %d %d", before.at, before.count, before.rest, before.period), time.Hour).Err())
		c.Cost = 1 + rand.Int64N(c.Burst)
		o, err := r.Reserve(t.Context(), c, "x", "a")
		backendtest.Must(t, err)
		want := c.advance(before, o.now)
		backendtest.Equal(t, o.Exceeded, c.exceeded(want, o.now), "%+v exceeded", c)
		if o.Exceeded {
			continue
		}
		want = c.take(want, o.now)
		backendtest.Equal(t, o.state, want, "%+v reserved", c)

		change := settlement{open: "x", charged: c.Cost, cost: rand.Int64N(2 * c.Cost), at: want.at, keep: rand.IntN(8) == 0}
		if rand.IntN(3) == 0 {
			change.at -= rand.Int64N(c.Period) // as if it was older
		}
		o, err = r.Settle(t.Context(), c, change)
		backendtest.Must(t, err)
		backendtest.Equal(t, o.state, c.settle(c.advance(want, o.now), o.now, change), "%+v settled by %+v", c, change)
	}
}
