package limits

import (
	"context"
	"math"
	"math/bits"
	"time"
)

// Backend keeps the counters. It is safe for concurrent use.
type Backend interface {
	// Take counts each Count, all or nothing: when one that is not in shadow is
	// exceeded, only counts in shadow are taken, each by itself. With peek
	// nothing is counted. The outcomes are in the order of the counts. An error
	// means that the counters cannot be reached (or that ctx ended); the calls
	// may have been counted nevertheless.
	Take(ctx context.Context, counts []Count, peek bool) ([]Outcome, error)
	// Forget sets the counters to nothing used, with no open reservations.
	Forget(ctx context.Context, counts []Count) error
	// Reserve is Take of one Count that keeps its name open until Settle, for 24
	// hours, for the caller by. The error may be errTooManyOpen.
	Reserve(ctx context.Context, c Count, open, by string) (Outcome, error)
	// Settle changes what an open reservation counts. The error may be errNotOpen.
	Settle(ctx context.Context, c Count, t settlement) (Outcome, error)
}

// Count is one counter and what to take from it. Counter and Key together name
// it; no two Counts of one Take name the same.
type Count struct {
	Counter   string // of one limit and one algorithm
	Key       string // whom it counts
	Algorithm Algorithm
	Rate      int64  // 1 to 1e9 calls per Period
	Burst     int64  // 1 to 1e9; of windows the rate
	Period    int64  // microseconds, 1e3 to 31 days
	Cost      int64  // at least 1, but see More; of backoff always 1
	Starts    starts // of calendar limits
	Shadow    bool
	Look      bool // refuses as if it took, and takes nothing

	Lease time.Duration // how long a call may be used after it was counted; 0: at once
	More  int64         // take up to so many besides a cost that fits; then the cost may be 0
	Sure  int64         // of More as many even if they are over a quarter of what is left

	// Once is the same in all Counts of a call with an idempotency key: within
	// onceFor, what is equal is taken once, and again passes. Empty: none.
	Once string
}

// Outcome is where a counter stands after a Take.
type Outcome struct {
	Remaining  int64
	Reset      time.Duration // until nothing is used
	RetryAfter time.Duration // when exceeded; 0: a call of this cost never passes
	Exceeded   bool
	More       int64 // calls taken besides the cost
	Reached    int64 // thresholds of a calendar limit that this reached, see threshold.go
	Leased     int64 // of those that remain, the ones that this instance holds

	state state // of counts with Lease: after the Take
	now   int64 // of counts with Lease: the backend's time, in Unix microseconds
}

// state is a counter. The zero state is an unused one. redis.lua computes the
// same on the same numbers: change both or neither.
type state struct {
	// at is the time of the level (GCRA), the start of the current window, or
	// the time of the latest call (backoff), in Unix microseconds.
	at int64
	// count is how many whole calls are in the bucket, in the window, or since
	// the backoff began.
	count int64
	// rest is the fraction of a call in the bucket, in 1/period; of a sliding
	// window the calls in the window before. Backoff has none.
	rest int64
	// period is the limit's when this was written: it may have changed since.
	period int64
}

// advance brings a state to the time now and to the limit as it is. Calls
// counted under another rate, burst or period stay counted.
//
// GCRA is kept as the leaky bucket that ITU-T I.371 shows to be the same: a
// call puts one in, rate/period a microsecond leak out, and a call passes when
// it fits under the burst. Counted in 1/period of a call all of this is whole
// numbers, so that nothing is rounded and nothing drifts.
//
// While a clock that stepped back is behind the counter, nothing decays; when it
// is behind by more than a period, the counter goes by it at once.
func (c Count) advance(s state, now int64) state {
	switch c.Algorithm {
	case GCRA:
		return c.decayGCRA(s, now)
	case Backoff:
		return c.decayBackoff(s, now)
	case Calendar:
		return c.advanceCalendar(s, now)
	}
	start := now - now%c.Period
	if s.period == 0 {
		return state{at: start, period: c.Period}
	}
	if s.period != c.Period {
		old := c
		old.Period = s.period
		s = old.advance(s, now)
		return state{at: start, count: old.used(s, now), period: c.Period}
	}
	switch {
	case s.at > now+c.Period:
		s.at = start
	case start <= s.at:
	case c.Algorithm == SlidingWindow && start == s.at+c.Period:
		s = state{at: start, rest: s.count, period: c.Period}
	default:
		s = state{at: start, period: c.Period}
	}
	return s
}

func (c Count) decayGCRA(s state, now int64) state {
	if s.period == 0 {
		return state{at: now, period: c.Period}
	}
	if s.period != c.Period {
		if s.rest > 0 {
			s.count++
		}
		s.rest, s.period = 0, c.Period
	}
	if s.at > now+c.Period {
		s.at = now
	}
	if now <= s.at {
		return s
	}
	whole, part := muldiv(now-s.at, c.Rate, c.Period)
	s.at = now
	if whole > s.count || whole == s.count && part >= s.rest {
		s.count, s.rest = 0, 0
		return s
	}
	s.count -= whole
	s.rest -= part
	if s.rest < 0 {
		s.rest += c.Period
		s.count--
	}
	return s
}

// decayBackoff forgets the calls when there was none for a period after the wait. A
// state that was written under another period is judged by that one first: the
// result must not depend on whether the counter was already removed.
func (c Count) decayBackoff(s state, now int64) state {
	if s.period == 0 {
		return state{at: now, period: c.Period}
	}
	if s.at > now+c.Period {
		s.at = now
	}
	for _, period := range []int64{s.period, c.Period} {
		s.period = period
		if s.count == 0 || now >= c.end(s) {
			return state{at: now, period: c.Period}
		}
	}
	return s
}

// wait is how long after the latest call the next one may come: none while
// there are free calls, then a second that each call doubles, up to the period.
func (c Count) wait(s state) int64 {
	more := s.count - c.Burst
	switch {
	case more < 0:
		return 0
	case more > 31: // 2^31 seconds are more than any period
		return s.period
	default:
		return min(firstWait<<more, s.period)
	}
}

// firstWait is the wait after the last free call, in microseconds.
const firstWait = int64(1_000_000)

// used is how many calls an advanced state counts, rounded up.
func (c Count) used(s state, now int64) int64 {
	if s.rest == 0 || c.Algorithm == Calendar {
		return s.count
	}
	if c.Algorithm == GCRA {
		return s.count + 1
	}
	weighted, part := muldiv(c.Period-max(0, now-s.at), s.rest, c.Period)
	if part > 0 {
		weighted++
	}
	return s.count + weighted
}

// exceeded says whether the cost does not fit an advanced state.
func (c Count) exceeded(s state, now int64) bool {
	if c.Algorithm == Backoff {
		return s.count >= c.Burst && now < later(s.at, c.wait(s))
	}
	return c.Cost > c.Burst-c.used(s, now)
}

// more is how many calls an advanced state that the cost fits gives beyond it.
func (c Count) more(s state, now int64) int64 {
	left := c.Burst - c.used(s, now) - c.Cost
	return max(0, min(c.More, left, max(c.Sure, left/4)))
}

// outcome describes an advanced state.
func (c Count) outcome(s state, now int64, exceeded bool) Outcome {
	o := Outcome{
		Remaining: max(0, c.Burst-c.used(s, now)),
		Reset:     micros(max(0, c.end(s)-now)),
		Exceeded:  exceeded,
	}
	if exceeded && c.Cost <= c.Burst {
		o.RetryAfter = micros(max(1, c.retry(s)-now))
	}
	return o
}

// end is when an advanced state will be the same as an unused one.
func (c Count) end(s state) int64 {
	switch {
	case s.count == 0 && s.rest == 0:
		return s.at
	case c.Algorithm == GCRA:
		return later(s.at, ceil(s.count, c.Period, s.rest, c.Rate))
	case c.Algorithm == Backoff:
		return s.at + c.wait(s) + s.period
	case c.Algorithm == Calendar:
		return c.Starts.after(s.at, c.Period)
	case c.Algorithm == SlidingWindow && s.count > 0:
		return s.at + 2*c.Period
	default:
		return s.at + c.Period
	}
}

// retry is when the cost will fit an exceeded state, if nothing else is counted.
// The cost fits under the burst.
func (c Count) retry(s state) int64 {
	switch c.Algorithm {
	case GCRA:
		return later(s.at, ceil(s.count+c.Cost-c.Burst, c.Period, s.rest, c.Rate))
	case FixedWindow:
		return s.at + c.Period
	case Calendar:
		return c.Starts.after(s.at, c.Period)
	case Backoff:
		return s.at + c.wait(s)
	}
	// The share of the window before has to shrink to what is left for it.
	start, before, left := s.at, s.rest, c.Burst-s.count-c.Cost
	if left < 0 { // not before the next window, where this one's share has to
		start, before, left = s.at+c.Period, s.count, c.Burst-c.Cost
	}
	if before <= left {
		return start
	}
	share, _ := muldiv(c.Period, left, before)
	return start + c.Period - share
}

// take adds the cost to an advanced state.
func (c Count) take(s state, now int64) state {
	s.count += c.Cost
	if c.Algorithm == Backoff {
		s.at = max(s.at, now)
	}
	return s
}

// muldiv returns x*y/z and the remainder. A quotient beyond int64 is cut to
// its maximum.
func muldiv(x, y, z int64) (quotient, remainder int64) {
	hi, lo := bits.Mul64(uint64(x), uint64(y))
	if hi >= uint64(z) {
		return math.MaxInt64, 0
	}
	q, r := bits.Div64(hi, lo, uint64(z))
	if q > math.MaxInt64 {
		return math.MaxInt64, 0
	}
	return int64(q), int64(r)
}

// ceil returns (x*y+plus)/z, rounded up and cut to int64's maximum.
func ceil(x, y, plus, z int64) int64 {
	hi, lo := bits.Mul64(uint64(x), uint64(y))
	lo, carry := bits.Add64(lo, uint64(plus), 0)
	lo, carry2 := bits.Add64(lo, uint64(z-1), 0)
	hi += carry + carry2
	if hi >= uint64(z) {
		return math.MaxInt64
	}
	q, _ := bits.Div64(hi, lo, uint64(z))
	return int64(min(q, math.MaxInt64))
}

// later is at+wait, cut to int64's maximum.
func later(at, wait int64) int64 {
	if wait > math.MaxInt64-at {
		return math.MaxInt64
	}
	return at + wait
}

// micros is n microseconds, cut to the longest Duration (292 years).
func micros(n int64) time.Duration {
	if n > math.MaxInt64/1000 {
		return math.MaxInt64
	}
	return time.Duration(n) * time.Microsecond
}
