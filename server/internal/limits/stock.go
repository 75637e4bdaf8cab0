package limits

import (
	"slices"
	"sync"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/clock"
)

const (
	// hotCalls is how many calls in a lease time make a key worth a lease.
	hotCalls = 8
	// busyCalls in a lease time make refusals hold for an eighth of it: what comes
	// back meanwhile is taken at once, by one call to the backend instead of many.
	busyCalls = 64
	// maxStocks is how many leases of one key are held at once. Two are usual: one
	// that is being used and the next.
	maxStocks = 4
)

// stock is calls that were granted and not used yet.
type stock struct {
	id    uint64
	calls int64
	asked clock.Instant // just before the backend was asked
	valid time.Duration
}

// holding is what this instance holds and knows of one key of a limit.
type holding struct {
	mu     sync.Mutex
	lost   *counters
	terms  terms
	epoch  uint64 // of the terms, and since the last reset: answers to earlier questions are void
	serial uint64
	stocks []stock // oldest first

	// What the backend said last.
	known bool
	state state
	now   int64
	asked clock.Instant

	demand  demand
	seen    clock.Instant
	refills bool          // one is under way
	failed  clock.Instant // when the last one failed
	fails   bool
	leader  chan struct{} // closed when the call under way that asks for all has its answer; nil: none
}

// terms are what a lease was granted under.
type terms struct {
	rate, burst, period int64
	lease               time.Duration
}

func termsOf(c Count) terms { return terms{c.Rate, c.Burst, c.Period, c.Lease} }

// under brings the holding to the terms of a count: leases of other terms are lost.
func (h *holding) under(c Count) {
	if t := termsOf(c); h.terms != t {
		h.drop()
		h.terms = t
	}
}

// drop forgets everything but the demand.
func (h *holding) drop() {
	for _, s := range h.stocks {
		h.lost.lost.Add(uint64(s.calls))
	}
	h.stocks = h.stocks[:0]
	h.epoch++
	h.known = false
}

// available is how many calls may be used now. Leases that have ended are lost.
func (h *holding) available(now clock.Instant) int64 {
	kept, sum := h.stocks[:0], int64(0)
	for _, s := range h.stocks {
		if now.Since(s.asked) >= s.valid {
			h.lost.lost.Add(uint64(s.calls))
			continue
		}
		kept, sum = append(kept, s), sum+s.calls // empty, too: a refused call may put back
	}
	h.stocks = kept
	return sum
}

// taken is what a call took from each stock, to be put back when it is refused.
type taken [maxStocks]struct {
	id    uint64
	calls int64
}

func (t taken) sum() (calls int64) {
	for _, f := range t {
		calls += f.calls
	}
	return calls
}

// take uses calls, the oldest first. They are available.
func (h *holding) take(calls int64) (from taken) {
	for i := 0; calls > 0 && i < len(h.stocks); i++ {
		n := min(calls, h.stocks[i].calls)
		h.stocks[i].calls -= n
		calls -= n
		from[i].id, from[i].calls = h.stocks[i].id, n
	}
	return from
}

// use is take of what is not put back.
func (h *holding) use(calls int64) {
	for i := 0; calls > 0; i++ {
		n := min(calls, h.stocks[i].calls)
		h.stocks[i].calls -= n
		calls -= n
	}
}

// putBack gives what a refused call took to the leases that it came from, with the
// end that they have. What came from a lease that is gone is lost.
func (h *holding) putBack(from taken) {
	for _, f := range from {
		if f.calls == 0 {
			continue
		}
		found := false
		for i := range h.stocks {
			if h.stocks[i].id == f.id {
				h.stocks[i].calls += f.calls
				found = true
			}
		}
		if !found {
			h.lost.lost.Add(uint64(f.calls))
		}
	}
}

// learn takes over an answer of the backend to a question of this epoch, and what it
// granted. The holding is of these terms.
func (h *holding) learn(c Count, o Outcome, asked clock.Instant, epoch uint64) {
	if epoch != h.epoch {
		h.lost.lost.Add(uint64(o.More))
		return
	}
	if !h.known || o.now >= h.now || asked.Since(h.asked) > c.Lease {
		h.known, h.state, h.now, h.asked = true, o.state, o.now, asked
	}
	if o.More == 0 {
		return
	}
	if len(h.stocks) == maxStocks {
		i := max(0, slices.IndexFunc(h.stocks, func(s stock) bool { return s.calls == 0 }))
		h.lost.lost.Add(uint64(h.stocks[i].calls))
		h.stocks = slices.Delete(h.stocks, i, i+1)
	}
	h.serial++
	h.stocks = append(h.stocks, stock{h.serial, o.More, asked, c.validFor(o)})
}

// outcome describes the counter as the backend last said, if nobody has taken from
// it since, together with what is held.
func (h *holding) outcome(c Count, now clock.Instant, exceeded bool, available int64) Outcome {
	s, at := h.reckon(c, now)
	o := c.outcome(s, at, exceeded)
	o.hold(c, available)
	return o
}

// hold adds calls that this instance holds.
func (o *Outcome) hold(c Count, calls int64) {
	o.Leased += calls
	o.Remaining = min(o.Remaining+calls, c.Burst)
}

// reckon is the state and the backend's time now.
func (h *holding) reckon(c Count, now clock.Instant) (state, int64) {
	at := h.now + now.Since(h.asked).Microseconds()
	return c.advance(h.state, at), at
}

// refuses says whether a call that misses so many would be refused, for how the
// counter stood a moment ago: others have only taken from it since. A reset that
// another instance made is seen when that is a lease time old. The wait is how much
// longer than the outcome says.
func (h *holding) refuses(c Count, now clock.Instant, busy bool) (refused bool, wait time.Duration) {
	if !h.known {
		return false, 0
	}
	age := now.Since(h.asked)
	if age >= c.Lease {
		return false, 0
	}
	if pause := c.Lease / 8; busy && age < pause {
		return c.exceeded(c.advance(h.state, h.now), h.now), pause - age
	}
	s, at := h.reckon(c, now)
	return c.exceeded(s, at), 0
}

// demand is how many calls came and what they cost, in the last one to two lease
// times.
type demand struct {
	began                   clock.Instant
	calls, cost             int64
	callsBefore, costBefore int64
	over                    time.Duration // how far the current lease time is
}

func (d *demand) add(now clock.Instant, lease time.Duration, cost int64) {
	switch d.over = now.Since(d.began); {
	case d.over >= 2*lease:
		*d = demand{began: now}
	case d.over >= lease:
		*d = demand{began: now, callsBefore: d.calls, costBefore: d.cost}
	}
	d.calls++
	d.cost += cost
}

// inLease estimates what came in the last lease time.
func (d *demand) inLease(lease time.Duration) (calls, cost int64) {
	left := float64(lease-d.over) / float64(lease)
	return d.calls + int64(left*float64(d.callsBefore)), d.cost + int64(left*float64(d.costBefore))
}

// size is how many calls to hold: what comes in 60 % of a lease time, so that they
// are used before they end also when the next lease comes while 30 % are left.
func size(cost int64) int64 { return min(cost*6/10, maxRate) }

// sure is how many calls to take even if they are over a quarter of what is left for
// all: those that will be used in a tenth of a lease time.
func sure(cost int64) int64 { return min(cost/10, maxRate) }
