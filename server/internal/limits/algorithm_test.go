package limits

import (
	"math/big"
	"testing"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"pgregory.net/rapid"
)

const (
	start     = int64(1_760_000_000_000_000) // 2025-10-09, in microseconds
	day       = 24 * 3600 * int64(1_000_000)
	longMicro = 31 * day
)

var (
	rates         = []Algorithm{GCRA, FixedWindow, SlidingWindow}
	allAlgorithms = append(rates[:3:3], Backoff)
)

// someCount draws a limit, small ones more often: there things happen.
func someCount(t *rapid.T, algorithms []Algorithm) Count {
	c := Count{
		Algorithm: rapid.SampledFrom(algorithms).Draw(t, "algorithm"),
		Rate:      rapid.OneOf(rapid.Int64Range(1, 20), rapid.Int64Range(1, maxRate)).Draw(t, "rate"),
		Period:    rapid.OneOf(rapid.Int64Range(1000, 10_000), rapid.Int64Range(1000, longMicro)).Draw(t, "period"),
	}
	c.Rate = min(c.Rate, c.Period*1000)
	c.Burst = c.Rate
	if c.Algorithm.bursts() {
		c.Burst = rapid.OneOf(rapid.Int64Range(1, 20), rapid.Int64Range(1, maxRate)).Draw(t, "burst")
	}
	return c
}

// someCost draws what a call counts, at most most.
func (c Count) someCost(t *rapid.T, most int64, label string) int64 {
	if c.Algorithm == Backoff {
		return 1
	}
	return rapid.OneOf(rapid.Just(int64(1)), rapid.Int64Range(1, most)).Draw(t, label)
}

// TestTakeNeverExceedsTheLimit takes at random times and compares with the plain
// definition: in a window of length t at most burst + rate*t pass.
func TestTakeNeverExceedsTheLimit(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		c := someCount(t, rates)
		var passed []pass
		var s state
		now := start
		for range rapid.IntRange(1, 60).Draw(t, "calls") {
			now += rapid.OneOf(rapid.Just(int64(0)), rapid.Int64Range(0, c.Period/c.Rate+1),
				rapid.Int64Range(0, 3*c.Period)).Draw(t, "later")
			c.Cost = rapid.OneOf(rapid.Just(int64(1)), rapid.Int64Range(1, c.Burst)).Draw(t, "cost")
			s = c.advance(s, now)
			if c.exceeded(s, now) {
				continue
			}
			s = c.take(s, now)
			passed = append(passed, pass{now, c.Cost})
		}
		wantWithin(t, c, passed)
	})
}

// pass is calls that passed at a time.
type pass struct{ at, cost int64 }

// wantWithin wants that in a window of length t at most burst + rate*t passed.
func wantWithin(t *rapid.T, c Count, passed []pass) {
	t.Helper()
	for i := range passed {
		sum := int64(0)
		for j := i; j < len(passed); j++ {
			if c.Algorithm == FixedWindow && passed[j].at/c.Period != passed[i].at/c.Period {
				break
			}
			sum += passed[j].cost
			// (sum - burst) * period <= rate * t
			over := new(big.Int).Mul(big.NewInt(sum-c.Burst), big.NewInt(c.Period))
			leaked := new(big.Int).Mul(big.NewInt(c.Rate), big.NewInt(passed[j].at-passed[i].at))
			if c.Algorithm == FixedWindow {
				leaked.SetInt64(0)
			}
			if over.Cmp(leaked) > 0 {
				t.Fatalf("%+v: %d passed in %d µs", c, sum, passed[j].at-passed[i].at)
			}
		}
	}
}

// TestGCRAIsExact compares with a bucket of fractions of any precision: not
// one call more, and not one fewer.
func TestGCRAIsExact(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		c := someCount(t, rates)
		c.Algorithm = GCRA
		speed := big.NewRat(c.Rate, c.Period)
		level, burst := new(big.Rat), new(big.Rat).SetInt64(c.Burst)
		var s state
		now := start
		for range rapid.IntRange(1, 60).Draw(t, "calls") {
			later := rapid.OneOf(rapid.Int64Range(0, c.Period/c.Rate+1), rapid.Int64Range(0, 3*c.Period)).Draw(t, "later")
			now += later
			level.Sub(level, new(big.Rat).Mul(speed, new(big.Rat).SetInt64(later)))
			if level.Sign() < 0 {
				level.SetInt64(0)
			}
			c.Cost = rapid.OneOf(rapid.Just(int64(1)), rapid.Int64Range(1, c.Burst)).Draw(t, "cost")
			with := new(big.Rat).Add(level, new(big.Rat).SetInt64(c.Cost))
			s = c.advance(s, now)
			if want := with.Cmp(burst) > 0; c.exceeded(s, now) != want {
				t.Fatalf("%+v at level %s: exceeded is %v", c, level, !want)
			} else if !want {
				level, s = with, c.take(s, now)
			}
		}
	})
}

// TestRetryAndResetAreExact: a refused call passes when it waited as told, and
// not a microsecond earlier; after reset nothing is used.
func TestRetryAndResetAreExact(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		c := someCount(t, allAlgorithms)
		now := start + rapid.Int64Range(0, 3*c.Period).Draw(t, "start")
		var s state
		for range rapid.IntRange(1, 12).Draw(t, "calls") {
			c.Cost = c.someCost(t, c.Burst, "cost")
			s = c.advance(s, now)
			if !c.exceeded(s, now) {
				s = c.take(s, now)
			}
			now += rapid.Int64Range(0, c.Period).Draw(t, "later")
		}
		c.Cost = c.someCost(t, c.Burst, "last cost")
		s = c.advance(s, now)
		if c.exceeded(s, now) {
			retry := c.retry(s)
			if retry > 1<<62 {
				return // longer than clocks count
			}
			if c.exceeded(c.advance(s, retry), retry) {
				t.Fatalf("%+v %+v: refused after waiting %d µs", c, s, retry-now)
			}
			if !c.exceeded(c.advance(s, retry-1), retry-1) {
				t.Fatalf("%+v %+v: passes a microsecond early", c, s)
			}
		}
		end := c.end(s)
		if end > 1<<62 {
			return
		}
		end = max(end, now)
		if used := c.used(c.advance(s, end), end); used != 0 {
			t.Fatalf("%+v %+v: %d used after the reset", c, s, used)
		}
	})
}

// TestExtremes: the greatest and smallest numbers do not overflow.
func TestExtremes(t *testing.T) {
	t.Parallel()
	for _, algorithm := range rates {
		for _, rate := range []int64{1, maxRate} {
			for _, period := range []int64{1_000_000, longMicro} {
				c := Count{Algorithm: algorithm, Rate: rate, Period: period, Burst: rate}
				if algorithm == GCRA {
					c.Burst = maxRate
				}
				c.Cost = c.Burst
				s := c.advance(state{}, start)
				if c.exceeded(s, start) {
					t.Fatalf("%+v: the first call is refused", c)
				}
				s = c.take(s, start)
				c.Cost = 1
				o := c.outcome(s, start, c.exceeded(s, start))
				if !o.Exceeded || o.Remaining != 0 || o.RetryAfter <= 0 || o.Reset <= 0 {
					t.Errorf("%+v: used up, but %+v", c, o)
				}
				c.Cost = maxRate + 1
				if o := c.outcome(s, start, c.exceeded(s, start)); !o.Exceeded || o.RetryAfter != 0 {
					t.Errorf("%+v: a call that never passes: %+v", c, o)
				}
			}
		}
	}
}

func TestOutcomes(t *testing.T) {
	t.Parallel()
	const minute = 60_000_000
	quarter := start - start%minute + minute/4
	for _, c := range []struct {
		what  string
		count Count
		state state
		want  Outcome
	}{
		{"an unused bucket", Count{Algorithm: GCRA, Rate: 10, Burst: 5}, state{}, Outcome{Remaining: 5}},
		{"half a call leaked", Count{Algorithm: GCRA, Rate: 10, Burst: 5}, state{at: quarter - 3_000_000, count: 4, period: minute},
			Outcome{Remaining: 1, Reset: 21 * time.Second}},
		{"a full bucket", Count{Algorithm: GCRA, Rate: 10, Burst: 5}, state{at: quarter, count: 5, period: minute},
			Outcome{Reset: 30 * time.Second, RetryAfter: 6 * time.Second, Exceeded: true}},
		{"a full window", Count{Algorithm: FixedWindow, Rate: 5, Burst: 5}, state{at: quarter - minute/4, count: 5, period: minute},
			Outcome{Reset: 45 * time.Second, RetryAfter: 45 * time.Second, Exceeded: true}},
		{"the next window", Count{Algorithm: FixedWindow, Rate: 5, Burst: 5}, state{at: quarter - 5*minute/4, count: 5, period: minute},
			Outcome{Remaining: 5}},
		{"three quarters of the window before", Count{Algorithm: SlidingWindow, Rate: 8, Burst: 8},
			state{at: quarter - 5*minute/4, count: 8, period: minute}, Outcome{Remaining: 2, Reset: 45 * time.Second}},
		{"nothing passes until less of it is left", Count{Algorithm: SlidingWindow, Rate: 8, Burst: 8},
			state{at: quarter - minute/4, count: 2, rest: 8, period: minute},
			Outcome{Reset: 105 * time.Second, RetryAfter: 7500 * time.Millisecond, Exceeded: true}},
		{"burst lowered below what is used", Count{Algorithm: GCRA, Rate: 10, Burst: 5}, state{at: quarter, count: 9, period: minute},
			Outcome{Reset: 54 * time.Second, RetryAfter: 30 * time.Second, Exceeded: true}},
		{"a changed period keeps the count", Count{Algorithm: GCRA, Rate: 10, Burst: 5}, state{at: quarter, count: 3, rest: 1, period: 2 * minute},
			Outcome{Remaining: 1, Reset: 24 * time.Second}},
		{"a changed period keeps the window's count", Count{Algorithm: FixedWindow, Rate: 5, Burst: 5},
			state{at: quarter - quarter%(60*minute), count: 3, period: 60 * minute}, Outcome{Remaining: 2, Reset: 45 * time.Second}},
		{"a clock a little back", Count{Algorithm: GCRA, Rate: 10, Burst: 5}, state{at: quarter + 6_000_000, count: 5, period: minute},
			Outcome{Reset: 36 * time.Second, RetryAfter: 12 * time.Second, Exceeded: true}},
		{"a clock far back", Count{Algorithm: GCRA, Rate: 10, Burst: 5}, state{at: quarter + 100*minute, count: 5, period: minute},
			Outcome{Reset: 30 * time.Second, RetryAfter: 6 * time.Second, Exceeded: true}},
		{"free calls", Count{Algorithm: Backoff, Burst: 5}, state{at: quarter - 1_000_000, count: 3, period: minute},
			Outcome{Remaining: 2, Reset: 59 * time.Second}},
		{"the first wait", Count{Algorithm: Backoff, Burst: 5}, state{at: quarter - 400_000, count: 5, period: minute},
			Outcome{Reset: 60*time.Second + 600*time.Millisecond, RetryAfter: 600 * time.Millisecond, Exceeded: true}},
		{"the fourth wait", Count{Algorithm: Backoff, Burst: 5}, state{at: quarter - 1_000_000, count: 8, period: minute},
			Outcome{Reset: 67 * time.Second, RetryAfter: 7 * time.Second, Exceeded: true}},
		{"after the wait", Count{Algorithm: Backoff, Burst: 5}, state{at: quarter - 8_000_000, count: 8, period: minute},
			Outcome{Reset: 60 * time.Second}},
		{"the longest wait", Count{Algorithm: Backoff, Burst: 5}, state{at: quarter, count: 1 << 40, period: minute},
			Outcome{Reset: 120 * time.Second, RetryAfter: 60 * time.Second, Exceeded: true}},
		{"nothing for long enough", Count{Algorithm: Backoff, Burst: 5}, state{at: quarter - 68_000_000, count: 8, period: minute},
			Outcome{Remaining: 5}},
		{"a higher burst", Count{Algorithm: Backoff, Burst: 9}, state{at: quarter, count: 8, period: minute},
			Outcome{Remaining: 1, Reset: 60 * time.Second}},
		{"forgotten under the shorter period it had", Count{Algorithm: Backoff, Burst: 5}, state{at: quarter - 2_000_000, count: 3, period: 1_000_000},
			Outcome{Remaining: 5}},
		{"a backoff's clock a little back", Count{Algorithm: Backoff, Burst: 5}, state{at: quarter + 10_000_000, count: 6, period: minute},
			Outcome{Reset: 72 * time.Second, RetryAfter: 12 * time.Second, Exceeded: true}},
		{"a backoff's clock far back", Count{Algorithm: Backoff, Burst: 5}, state{at: quarter + 100*minute, count: 6, period: minute},
			Outcome{Reset: 62 * time.Second, RetryAfter: 2 * time.Second, Exceeded: true}},
	} {
		t.Run(c.what, func(t *testing.T) {
			c.count.Period, c.count.Cost = minute, 1
			s := c.count.advance(c.state, quarter)
			backendtest.Equal(t, c.count.outcome(s, quarter, c.count.exceeded(s, quarter)), c.want, "outcome")
		})
	}
}
