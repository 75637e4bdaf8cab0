package password

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/backendtest"

	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/fault"
	"github.com/tollgatehq/tollgate/server/internal/fault/faulttest"
	"golang.org/x/crypto/bcrypt"
)

func TestMatches(t *testing.T) {
	t.Parallel()
	ctx, p := t.Context(), NewPool(Options{Cost: 4, Workers: 1})
	var hashes []string
	real := p.Compare
	p.Compare = func(hash, password []byte) error {
		hashes = append(hashes, string(hash))
		return real(hash, password)
	}
	long := strings.Repeat("x", maxLength)
	hash, err := p.Hash(ctx, long)
	backendtest.Must(t, err)
	once, err := p.Hash(ctx, "password")
	backendtest.Must(t, err)
	twice, err := p.Hash(ctx, "password\x00password") // as it was possible before
	backendtest.Must(t, err)
	for _, test := range []struct {
		what, hash, password string
		want                 bool
	}{
		{"the password", hash, long, true},
		{"another", hash, long[1:] + "y", false},
		{"one with the same first 72 bytes", hash, long + "y", false},
		{"an empty one", hash, "", false},
		{"no hash", "", long, false},
		{"no hash and no password", "", "", false},
		{"a broken hash", "broken", long, false},
		{"a hash of the password, a NUL, and it again", twice, "password\x00password", false},
		{"its password, which is half of it", once, "password\x00password", false},
		{"the half", once, "password", true},
	} {
		hashes = nil
		got, err := p.Matches(ctx, test.hash, test.password)
		if err != nil || got != test.want {
			t.Errorf("%s: %v, %v, want %v", test.what, got, err, test.want)
		}
		if len(hashes) != 1 {
			t.Errorf("%s: %d comparisons, want 1", test.what, len(hashes))
		}
	}
}

// TestDummyCosts: the hash compared with when there is none is a real one as
// far as bcrypt is concerned, of the cost of today's.
func TestDummyCosts(t *testing.T) {
	t.Parallel()
	for _, cost := range []int{4, 10} {
		p := NewPool(Options{Cost: cost, Workers: 1})
		if got, err := bcrypt.Cost([]byte(p.dummy)); err != nil || got != cost {
			t.Errorf("the dummy's cost is %d, %v, want %d", got, err, cost)
		}
		if err := bcrypt.CompareHashAndPassword([]byte(p.dummy), []byte("any")); !errors.Is(err, bcrypt.ErrMismatchedHashAndPassword) {
			t.Errorf("comparing with the dummy: %v, want a mismatch", err)
		}
	}
	if p := NewPool(Options{}); p.Cost != defaultCost || cap(p.running) < 1 {
		t.Errorf("defaults: cost %d, %d workers", p.Cost, cap(p.running))
	}
}

// TestPool: however many sign in, no more than the workers run, no more than
// the queue wait, and the rest are refused.
func TestPool(t *testing.T) {
	t.Parallel()
	const workers, calls = 2, 100
	p := NewPool(Options{Cost: 4, Workers: workers})
	p.MaxWait, p.BusyDelay = time.Minute, 0
	gate := make(chan struct{})
	var running, most atomic.Int64
	p.Compare = func(_, _ []byte) error {
		n := running.Add(1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		<-gate
		running.Add(-1)
		return nil
	}
	var all sync.WaitGroup
	refused := make(chan error, calls)
	for range calls {
		all.Go(func() {
			if _, err := p.Matches(t.Context(), "hash", "password"); err != nil {
				refused <- err
			}
		})
	}
	places := workers * (1 + queuePerWorker) / 2 // one address gets half
	for range calls - places {                   // those refused return while the others wait
		err := <-refused
		faulttest.Want(t, err, fault.Unavailable, "BUSY")
		if fault.From(err).RetryAfter <= 0 {
			t.Error("a refusal does not say when to try again")
		}
	}
	close(gate)
	all.Wait()
	if len(refused) != 0 || most.Load() > workers {
		t.Errorf("%d more refused, %d ran at once; want none and at most %d", len(refused), most.Load(), workers)
	}
	backendtest.Must(t, faulttest.Err(p.Matches(t.Context(), "hash", "password"))) // after the flood
}

// TestPoolWait: a wait ends with its time and with its caller.
func TestPoolWait(t *testing.T) {
	t.Parallel()
	p := NewPool(Options{Cost: 4, Workers: 1})
	p.running <- struct{}{}
	p.MaxWait = time.Nanosecond
	faulttest.Want(t, faulttest.Err(p.Matches(t.Context(), "hash", "password")), fault.Unavailable, "BUSY")

	p.MaxWait = time.Minute
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := p.Hash(ctx, "password"); !errors.Is(err, context.Canceled) {
		t.Errorf("a canceled wait ends with %v", err)
	}
	if n := p.waiting.Used(); n != 0 {
		t.Errorf("%d still hold a place in the queue", n)
	}
}

// A refusal is held back, so that who tries again at once cannot take the
// processors from others; but only so many are, and never beyond the caller.
func TestBusyIsHeldBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := NewPool(Options{Cost: 4, Workers: 1, MaxHeld: 1})
		for p.waiting.Fits(netip.Addr{}) {
			backendtest.Must(t, p.Ready(t.Context())) // with a place in the queue
			p.waiting.Acquire(netip.Addr{}, 1)
		}
		for name, ask := range map[string]func(context.Context) error{
			"ready": p.Ready,
			"run":   func(ctx context.Context) error { _, err := p.Matches(ctx, "hash", "password"); return err },
		} {
			began := time.Now()
			faulttest.Want(t, ask(t.Context()), fault.Unavailable, "BUSY")
			if took := time.Since(began); took != busyDelay {
				t.Errorf("%s: refused after %s, want %s", name, took, busyDelay)
			}

			p.held <- struct{}{} // as many as may be
			began = time.Now()
			faulttest.Want(t, ask(t.Context()), fault.Unavailable, "BUSY")
			if took := time.Since(began); took != 0 {
				t.Errorf("%s: one more than are held back: refused after %s, want at once", name, took)
			}
			<-p.held

			ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
			if err := ask(ctx); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%s: the caller left: %v", name, err)
			}
			cancel()
		}
		if len(p.held) != 0 {
			t.Errorf("%d are still held back", len(p.held))
		}
	})
}

// The queue is shared among addresses: one that fills its part keeps no other
// out.
func TestTheQueueIsShared(t *testing.T) {
	t.Parallel()
	p := NewPool(Options{Cost: 4, Workers: 1, MaxHeld: 1})
	p.BusyDelay = 0
	greedy, other := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	at := func(ip netip.Addr) context.Context { return caller.With(t.Context(), caller.Caller{IP: ip}) }
	n := 0
	for ; p.waiting.Acquire(greedy, 1); n++ {
	}
	if want := (1 + 1 + queuePerWorker) / 2; n != want {
		t.Errorf("one address gets %d places, want %d", n, want)
	}
	faulttest.Want(t, p.Ready(at(greedy)), fault.Unavailable, "BUSY")
	backendtest.Must(t, p.Ready(at(other)))                           // another address
	backendtest.Must(t, faulttest.Err(p.Hash(at(other), "password"))) // another address
}

func TestStats(t *testing.T) {
	t.Parallel()
	p := NewPool(Options{Cost: 4, Workers: 1})
	if got := p.Stats(); got != (Stats{Workers: 1}) {
		t.Errorf("idle: %+v", got)
	}
	p.Compare = func(_, _ []byte) error {
		if got := p.Stats(); got != (Stats{Workers: 1, Running: 1}) {
			t.Errorf("at work: %+v", got)
		}
		p.MaxWait = time.Nanosecond
		if _, err := p.Matches(t.Context(), "hash", "password"); err == nil { // no worker is free
			t.Error("a second check ran beside the one worker")
		}
		return nil
	}
	backendtest.Must(t, faulttest.Err(p.Matches(t.Context(), "hash", "password")))
	if got := p.Stats(); got != (Stats{Workers: 1, Refused: 1}) {
		t.Errorf("after a refusal: %+v", got)
	}
}

// TestMatchesOldHash: a wrong guess takes the work of today's cost, however
// old the hash it is compared with.
func TestMatchesOldHash(t *testing.T) {
	t.Parallel()
	const today, right = 8, "correct horse battery"
	p := NewPool(Options{Cost: today, Workers: 1})
	work, real := 0, p.Compare
	p.Compare = func(hash, password []byte) error {
		cost, err := bcrypt.Cost(hash)
		backendtest.Must(t, err)
		work += 1 << cost
		return real(hash, password)
	}
	for cost := bcrypt.MinCost; cost <= today; cost++ {
		hash, err := bcrypt.GenerateFromPassword([]byte(right), cost)
		backendtest.Must(t, err)
		for given, want := range map[string]int{right: 1 << cost, "a wrong guess": 1 << today, "": 1 << today} {
			work = 0
			if ok, err := p.Matches(t.Context(), string(hash), given); err != nil || ok != (given == right) {
				t.Errorf("cost %d, %q: %v, %v", cost, given, ok, err)
			}
			if work != want {
				t.Errorf("cost %d, %q: %d rounds, want %d", cost, given, work, want)
			}
		}
	}
}
