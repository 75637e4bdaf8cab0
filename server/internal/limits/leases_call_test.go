package limits

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/clock"
)

// lessor is counters on a fake clock, and an instance that holds leases from them.
type lessor struct {
	*Leases
	t        *testing.T
	clock    *clock.Fake
	counters *Memory
	waiting  []func()
	asked    []Count       // the last question
	asks     int           // how many there were
	late     time.Duration // between an answer's making and its coming
	down     error
	during   func() // while the counters are asked
}

func newLessor(t *testing.T) *lessor {
	fake := clock.NewFake(time.UnixMicro(start))
	l := &lessor{t: t, clock: fake, counters: NewMemory(fake.Clock())}
	l.Leases = NewLeases(asking{l, nil}, fake.Clock())
	l.refill = func(fn func()) { l.waiting = append(l.waiting, fn) }
	return l
}

// asking is the way to the counters.
type asking struct {
	*lessor
	Backend // for reservations, which there are none of
}

func (a asking) Take(ctx context.Context, counts []Count, peek bool) ([]Outcome, error) {
	a.asked = counts
	a.asks++
	if a.during != nil {
		a.during()
	}
	if a.down != nil {
		return nil, a.down
	}
	outcomes, err := a.counters.Take(ctx, counts, peek)
	a.clock.Advance(a.late)
	return outcomes, err
}

func (a asking) Forget(ctx context.Context, counts []Count) error {
	return a.counters.Forget(ctx, counts)
}

// leasable is 1,000 calls at once of which nearly none come back, with leases of 100 ms.
func leasable(key string) Count {
	return Count{Counter: "l", Key: key, Algorithm: GCRA, Rate: 1, Burst: 1000, Period: longMicro, Cost: 1, Lease: 100 * time.Millisecond}
}

func (l *lessor) call(list ...Count) []Outcome {
	l.t.Helper()
	outcomes, err := l.Take(l.t.Context(), list, false)
	backendtest.Must(l.t, err)
	return outcomes
}

func (l *lessor) background() {
	for len(l.waiting) > 0 {
		fn := l.waiting[0]
		l.waiting = l.waiting[1:]
		fn()
	}
}

// heat makes calls until the instance holds some for the key, and returns how many.
func (l *lessor) heat(c Count) int64 {
	l.t.Helper()
	for range 40 {
		if o := l.call(c)[0]; o.Leased > 3 {
			return o.Leased
		}
		l.background()
	}
	l.t.Fatal("40 calls in a moment are worth no lease")
	return 0
}

func (l *lessor) held(c Count) int64 {
	l.t.Helper()
	outcomes, err := l.Take(l.t.Context(), []Count{c}, true)
	backendtest.Must(l.t, err)
	return outcomes[0].Leased
}

func (l *lessor) left(c Count) int64 { return peek(l.t, l.counters, c)[0].Remaining }

func TestLeaseSavesQuestions(t *testing.T) {
	t.Parallel()
	l, c := newLessor(t), leasable("k")
	for n := range int64(hotCalls - 1) {
		o := l.call(c)[0]
		backendtest.Equal(t, [2]int64{o.Leased, o.Remaining}, [2]int64{0, 999 - n}, "held and remaining while few calls come")
	}
	held := l.heat(c)
	asks, left := l.asks, l.left(c)
	o := l.call(c)[0]
	backendtest.Equal(t, o.Leased, held-1, "held after another")
	backendtest.Equal(t, o.Remaining, left+held-1, "remaining after another")
	c.Cost = 3
	backendtest.Equal(t, l.call(c)[0].Leased, held-4, "held after one that costs 3")
	backendtest.Equal(t, l.asks, asks, "questions")
	backendtest.Equal(t, l.left(c), left, "left in the counters")
	if s := l.Stats(); s.Answered < 2 || s.Granted < uint64(held) || s.Lost != 0 {
		t.Errorf("%+v", s)
	}
}

// TestLeaseIsMeasuredFromBeforeTheQuestion, of a lease that came with a call and of one
// that was asked for in the background.
func TestLeaseIsMeasuredFromBeforeTheQuestion(t *testing.T) {
	t.Parallel()
	for _, background := range []bool{false, true} {
		t.Run(fmt.Sprint(background), func(t *testing.T) {
			t.Parallel()
			l, c := newLessor(t), leasable("k")
			for range hotCalls - 1 {
				l.call(c)
			}
			l.late = 60 * time.Millisecond
			if background {
				l.late = 0
				l.heat(c)
				c.Cost = l.held(c)
				l.call(c)
				c.Cost, l.late = 1, 60*time.Millisecond
				l.background()
			} else {
				l.call(c)
			}
			l.late = 0
			if l.held(c) == 0 {
				t.Fatal("nothing is held")
			}
			lost := l.Stats().Lost
			l.clock.Advance(38 * time.Millisecond)
			if l.held(c) == 0 {
				t.Error("1 ms before its end nothing is held")
			}
			l.clock.Advance(time.Millisecond)
			backendtest.Equal(t, l.held(c), 0, "held 99 ms after it was asked for")
			if l.Stats().Lost == lost {
				t.Error("what is lost is not counted")
			}
		})
	}
}

func TestLeaseEndsWithSleepAndNotWithASetClock(t *testing.T) {
	t.Parallel()
	l, c := newLessor(t), leasable("k")
	held := l.heat(c)
	l.clock.Set(-time.Hour)
	backendtest.Equal(t, l.held(c), held, "held after the clock was set back")
	l.clock.Advance(99 * time.Millisecond)
	backendtest.Equal(t, l.held(c), 0, "held 99 ms later")
	held = l.heat(c)
	l.clock.Set(98 * time.Millisecond)
	backendtest.Equal(t, l.held(c), held, "held after a short sleep")
	l.clock.Set(time.Millisecond)
	backendtest.Equal(t, l.held(c), 0, "held after a longer one")
}

// TestLeasesAllOrNothing: what is held of one limit goes back when another refuses,
// to the lease that it came from, and only if that still runs.
func TestLeasesAllOrNothing(t *testing.T) {
	t.Parallel()
	l, c := newLessor(t), leasable("k")
	full := slow(GCRA, "full", 1)
	l.call(full)
	held := l.heat(c)
	left := l.left(c)
	for range 3 {
		o := l.call(c, full)
		if o[0].Exceeded || !o[1].Exceeded || o[0].Leased != held || o[0].Remaining != left+held {
			t.Fatalf("held %d: %+v", held, o)
		}
	}
	c.Cost = held + 5
	if o := l.call(c, full); o[0].Exceeded || !o[1].Exceeded || o[0].Leased != held {
		t.Fatalf("more than is held: %+v", o)
	}
	backendtest.Equal(t, l.asked[0].Cost, 5, "asked for beyond what is held")
	backendtest.Equal(t, l.left(c), left, "left in the counters")
	if o := l.call(c); o[0].Exceeded || o[0].Remaining != left-5 {
		t.Errorf("more than is held, alone: %+v", o)
	}

	c.Cost = 1
	l.clock.Advance(time.Second)
	held = l.heat(c)
	watched := c
	watched.Shadow = true
	if o := l.call(watched, full); o[0].Leased != held-1 {
		t.Errorf("a limit in shadow mode counts by itself: %+v", o)
	}
	lost := l.Stats().Lost
	l.late = 100 * time.Millisecond
	c.Cost = held - 1
	if o := l.call(c, full); !o[1].Exceeded {
		t.Errorf("%+v", o)
	}
	backendtest.Equal(t, l.held(c), 0, "held of a lease that ended meanwhile")
	backendtest.Equal(t, l.Stats().Lost-lost, uint64(held-1), "lost")
}

func TestLeasesOfSeveralLimits(t *testing.T) {
	t.Parallel()
	l, a, b := newLessor(t), leasable("a"), leasable("b")
	l.heat(a)
	l.heat(b)
	asks := l.asks
	if o := l.call(a, b); o[0].Leased == 0 || o[1].Leased == 0 {
		t.Errorf("%+v", o)
	}
	backendtest.Equal(t, l.asks, asks, "questions")
	cold := leasable("cold")
	l.call(a, cold, b)
	if len(l.asked) != 1 || l.asked[0].Key != "cold" {
		t.Errorf("asked for what is held, too: %+v", l.asked)
	}
}

func TestLeasesRefuse(t *testing.T) {
	t.Parallel()
	l, c := newLessor(t), leasable("k")
	c.Rate, c.Burst, c.Period = 100, 20, 1_000_000
	passed := 0
	for range 30 {
		if !l.call(c)[0].Exceeded {
			passed++
		}
	}
	backendtest.Equal(t, passed, 20, "passed of a burst of 20")
	asks := l.asks
	o := l.call(c)[0]
	if !o.Exceeded || o.RetryAfter != 10*time.Millisecond || o.Leased != 0 || o.Remaining != 0 {
		t.Errorf("%+v", o)
	}
	watched := c
	watched.Shadow = true
	if o := l.call(watched)[0]; !o.Exceeded {
		t.Errorf("%+v", o)
	}
	l.clock.Advance(10*time.Millisecond - time.Microsecond)
	backendtest.Equal(t, l.call(c)[0].RetryAfter, time.Microsecond, "retry after, a moment before it passes")
	backendtest.Equal(t, l.asks, asks, "questions")
	l.clock.Advance(time.Microsecond)
	backendtest.Equal(t, l.call(c)[0].Exceeded, false, "refused after waiting as told")
	// Another instance's reset is seen a lease time later at most.
	c.Period = longMicro
	for range 30 {
		l.call(c)
	}
	backendtest.Must(t, l.counters.Forget(t.Context(), []Count{c}))
	l.clock.Advance(99 * time.Millisecond)
	backendtest.Equal(t, l.call(c)[0].Exceeded, true, "refused by what it knew")
	l.clock.Advance(time.Millisecond)
	backendtest.Equal(t, l.call(c)[0].Exceeded, false, "refused a lease time later")
	c.Cost = 21
	if o := l.call(c)[0]; !o.Exceeded || o.RetryAfter != 0 {
		t.Errorf("a cost that never passes: %+v", o)
	}
}

func TestLeasesLook(t *testing.T) {
	t.Parallel()
	l, c := newLessor(t), leasable("k")
	held := l.heat(c)
	asks := l.asks
	c.Look, c.Cost = true, held
	backendtest.Equal(t, l.call(c)[0].Exceeded, false, "refused what is held")
	backendtest.Equal(t, l.asks, asks, "questions")
	left := l.left(c)
	c.Cost = held + left
	backendtest.Equal(t, l.call(c)[0].Exceeded, false, "refused what is held and left")
	backendtest.Equal(t, l.held(c), held, "held after looking")
	backendtest.Equal(t, l.left(c), left, "left after looking")
	c.Look, c.Cost = false, held+left
	o, err := l.Take(t.Context(), []Count{c}, true)
	backendtest.Must(t, err)
	if o[0].Exceeded || o[0].Remaining != held+left || o[0].Leased != held {
		t.Errorf("peek: %+v", o)
	}
}

// TestLeasesForget: a reset drops what is held, and what is on its way.
func TestLeasesForget(t *testing.T) {
	t.Parallel()
	l, c := newLessor(t), leasable("k")
	held := l.heat(c)
	backendtest.Must(t, l.Forget(t.Context(), []Count{c}))
	if o, err := l.Take(t.Context(), []Count{c}, true); err != nil || o[0].Leased != 0 || o[0].Remaining != 1000 {
		t.Errorf("%+v, %v", o, err)
	}
	backendtest.Equal(t, l.Stats().Lost, uint64(held), "lost")
	l.during = func() {
		l.during = nil
		backendtest.Must(t, l.Forget(t.Context(), []Count{c}))
	}
	l.call(c)
	backendtest.Equal(t, l.held(c), 0, "held from before the reset")

	l.heat(c)
	c.Burst++
	backendtest.Equal(t, l.held(c), 0, "held after the limit changed")
	held = l.heat(c)
	l.during = func() { l.during = nil; c.Burst--; l.held(c) }
	before := c
	before.Cost = held + 1
	l.call(before)
	backendtest.Equal(t, l.held(c), 0, "held from before the limit changed")
}
