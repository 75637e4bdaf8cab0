package limits

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/clock"
)

func TestLeasesWhileTheCountersAreDown(t *testing.T) {
	t.Parallel()
	l, c := newLessor(t), leasable("k")
	held := l.heat(c)
	l.down = errors.New("down")
	backendtest.Equal(t, l.call(c)[0].Leased, held-1, "held while down")
	if _, err := l.Take(t.Context(), []Count{c, leasable("cold")}, false); !errors.Is(err, l.down) {
		t.Errorf("with another: %v", err)
	}
	backendtest.Equal(t, l.call(c)[0].Leased, held-2, "held after a failure, which put back")
	for range held - 2 {
		l.call(c)
		l.background()
	}
	asks := l.asks
	if _, err := l.Take(t.Context(), []Count{c}, false); !errors.Is(err, l.down) {
		t.Errorf("with nothing held: %v", err)
	}
	backendtest.Equal(t, l.asks, asks+1, "questions")
	l.down = nil
	l.heat(c)
	l.down = errors.New("down again")
	l.clock.Advance(99 * time.Millisecond)
	if _, err := l.Take(t.Context(), []Count{c}, false); !errors.Is(err, l.down) {
		t.Errorf("after the lease's end: %v", err)
	}
}

// TestLeasesAskOnce: calls for a hot key that find nothing wait for the one that asks.
func TestLeasesAskOnce(t *testing.T) {
	t.Parallel()
	l, c := newLessor(t), leasable("k")
	for range hotCalls - 1 {
		l.call(c)
	}
	asks := l.asks
	begun, answer := make(chan struct{}), make(chan struct{})
	l.during = func() { close(begun); <-answer }
	var calls sync.WaitGroup
	call := func() {
		if o, err := l.Take(t.Context(), []Count{c}, false); err != nil || o[0].Exceeded {
			t.Errorf("%+v, %v", o, err)
		}
	}
	calls.Go(call)
	<-begun
	l.during = nil
	for range 4 {
		calls.Go(call)
	}
	ended, end := context.WithCancel(t.Context())
	end()
	if _, err := l.Take(ended, []Count{c}, false); !errors.Is(err, context.Canceled) {
		t.Errorf("of a caller who hung up: %v", err)
	}
	close(answer)
	calls.Wait()
	backendtest.Equal(t, l.asks, asks+1, "questions")
}

// TestLeasesOnce: a call with an idempotency key is not counted again, wherever it was
// counted, and what is held is no way to have one key count for two calls.
func TestLeasesOnce(t *testing.T) {
	t.Parallel()
	l, c := newLessor(t), leasable("k")
	held := l.heat(c)
	c.Once = "svc\nk1"
	total := l.call(c)[0].Remaining
	for range 3 {
		backendtest.Equal(t, l.call(c)[0].Remaining, total, "remaining after the same call again")
	}
	backendtest.Equal(t, l.held(c), held-1, "held")
	for n := range held + 20 {
		c.Once = fmt.Sprint("svc\nof many ", n)
		if o := l.call(c)[0]; o.Exceeded || o.Remaining != total-1-n {
			t.Fatalf("after %d more: %+v", n, o)
		}
		l.background()
	}
	c.Once, c.Cost = "svc\nk2", 1000
	backendtest.Equal(t, l.call(c)[0].Exceeded, true, "1000 of what is left")
	c.Cost = l.held(c) + 1
	backendtest.Equal(t, l.call(c)[0].Exceeded, false, "refused before")
	c.Cost = l.held(c) + 1
	left := l.left(c)
	backendtest.Equal(t, l.call(c)[0].Exceeded, false, "the key for another cost")
	if l.left(c) >= left {
		t.Error("a key that was used passes for another call uncounted")
	}
}

// TestLeasesAreBounded: keys beyond the bound are counted call by call, until others
// have not been used for a while.
func TestLeasesAreBounded(t *testing.T) {
	t.Parallel()
	l := newLessor(t)
	count := func() (n int) {
		for i := range l.shards {
			n += len(l.shards[i].held)
		}
		return n
	}
	for n := range 2 * maxHoldings {
		l.call(leasable(fmt.Sprint(n)))
	}
	if n := count(); n > maxHoldings || n < maxHoldings/2 {
		t.Errorf("%d", n)
	}
	l.clock.Advance(time.Second)
	for n := range maxHoldings / 8 {
		l.call(leasable(fmt.Sprint("later", n)))
	}
	if n := count(); n > maxHoldings/2 {
		t.Errorf("%d a second later", n)
	}
	l.heat(leasable("k"))
}

// TestPutBackKnowsItsLease: what came from a lease that has ended is not put into the
// one that followed.
func TestPutBackKnowsItsLease(t *testing.T) {
	t.Parallel()
	fake := clock.NewFake(time.UnixMicro(start))
	c, lost := leasable("k"), counters{}
	h := holding{lost: &lost, terms: termsOf(c)}
	lease := func(calls int64) { h.learn(c, Outcome{More: calls}, fake.Clock().Instant(), h.epoch) }
	lease(10)
	first := h.take(3)
	fake.Advance(60 * time.Millisecond)
	lease(20)
	both := h.take(9)
	backendtest.Equal(t, both.sum(), 9, "taken of two")
	h.putBack(both)
	backendtest.Equal(t, h.available(fake.Clock().Instant()), 27, "held of both, with what was put back")
	both = h.take(9)
	fake.Advance(60 * time.Millisecond)
	backendtest.Equal(t, h.available(fake.Clock().Instant()), 18, "held of the second")
	h.putBack(first)
	h.putBack(both)
	backendtest.Equal(t, h.available(fake.Clock().Instant()), 20, "held of the second, with what was put back")
	backendtest.Equal(t, lost.lost.Load(), 10, "lost")
}
