package auth

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

	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/fault"
	"golang.org/x/crypto/bcrypt"
)

func TestPasswordMatches(t *testing.T) {
	ctx, p := t.Context(), newPasswords(4, 1, 0)
	var hashes []string
	real := p.compare
	p.compare = func(hash, password []byte) error {
		hashes = append(hashes, string(hash))
		return real(hash, password)
	}
	long := strings.Repeat("x", maxPassword)
	hash, err := p.hash(ctx, long)
	if err != nil {
		t.Fatal(err)
	}
	once, err := p.hash(ctx, "password")
	if err != nil {
		t.Fatal(err)
	}
	twice, err := p.hash(ctx, "password\x00password") // as it was possible before
	if err != nil {
		t.Fatal(err)
	}
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
		got, err := p.matches(ctx, test.hash, test.password)
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
	for _, cost := range []int{4, 10} {
		p := newPasswords(cost, 1, 0)
		if got, err := bcrypt.Cost([]byte(p.dummy)); err != nil || got != cost {
			t.Errorf("the dummy's cost is %d, %v, want %d", got, err, cost)
		}
		if err := bcrypt.CompareHashAndPassword([]byte(p.dummy), []byte("any")); !errors.Is(err, bcrypt.ErrMismatchedHashAndPassword) {
			t.Errorf("comparing with the dummy: %v, want a mismatch", err)
		}
	}
	if p := newPasswords(0, 0, 0); p.cost != defaultCost || cap(p.running) < 1 {
		t.Errorf("defaults: cost %d, %d workers", p.cost, cap(p.running))
	}
}

func TestCheckPassword(t *testing.T) {
	for password, good := range map[string]bool{
		"":                      false,
		"1234567":               false,
		"12345678":              false, // common
		"12345679!":             true,
		"Password1":             false, // common, but for the case
		"iloveyou":              false,
		"hunter2hunter2":        true,
		"correct horse battery": true,
		"ann-the-first":         false, // the name
		" ANN-the-ﬁrst":         false,
		"ann-the-first!":        true,
		"ééééééé":               false, // 14 bytes, but 7 characters
		"éééééééé":              true,
		strings.Repeat("a", 72): true,
		strings.Repeat("a", 73): false,
		strings.Repeat("é", 36): true,
		strings.Repeat("é", 37): false,
		"       8":              true,
		"with \x00 zero in it":  false,
		"hunter2hunter2\x00":    false,
		"hunter2\x00hunter2":    false,
		strings.Repeat("🦊", 18): true,
		strings.Repeat("🦊", 19): false,
	} {
		if err := checkPassword("password", "ann-the-first", password); good && err != nil {
			t.Errorf("%q: %v", password, err)
		} else if !good {
			wantField(t, err, "password")
		}
	}
}

// TestPool: however many sign in, no more than the workers run, no more than
// the queue wait, and the rest are told to come back.
func TestPool(t *testing.T) {
	const workers, calls = 2, 100
	p := newPasswords(4, workers, 0)
	p.wait, p.delay = time.Minute, 0
	gate := make(chan struct{})
	var running, most atomic.Int64
	p.compare = func(_, _ []byte) error {
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
			if _, err := p.matches(t.Context(), "hash", "password"); err != nil {
				refused <- err
			}
		})
	}
	room := workers * (1 + queuePerWorker) / 2 // one address gets half
	for range calls - room {                   // those refused return while the others wait
		err := <-refused
		wantRefusal(t, err, fault.Unavailable, "BUSY")
		if fault.From(err).RetryAfter <= 0 {
			t.Error("a refusal does not say when to try again")
		}
	}
	close(gate)
	all.Wait()
	if len(refused) != 0 || most.Load() > workers {
		t.Errorf("%d more refused, %d ran at once; want none and at most %d", len(refused), most.Load(), workers)
	}
	if _, err := p.matches(t.Context(), "hash", "password"); err != nil {
		t.Errorf("after the flood: %v", err)
	}
}

// TestPoolWait: a wait ends with its time and with its caller.
func TestPoolWait(t *testing.T) {
	p := newPasswords(4, 1, 0)
	p.running <- struct{}{}
	p.wait = time.Nanosecond
	_, err := p.matches(t.Context(), "hash", "password")
	wantRefusal(t, err, fault.Unavailable, "BUSY")

	p.wait = time.Minute
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := p.hash(ctx, "password"); !errors.Is(err, context.Canceled) {
		t.Errorf("a canceled wait ends with %v", err)
	}
	if n := p.waiting.Used(); n != 0 {
		t.Errorf("%d still hold a place in the queue", n)
	}
}

// A refusal is held back, so that who tries again at once cannot take the
// processors from others; but only so many are, and never beyond the caller.
func TestBusyIsHeldBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPasswords(4, 1, 1)
		for p.waiting.Fits(netip.Addr{}) {
			if err := p.ready(t.Context()); err != nil {
				t.Fatalf("with a place in the queue: %v", err)
			}
			p.waiting.Acquire(netip.Addr{}, 1)
		}
		for name, ask := range map[string]func(context.Context) error{
			"ready": p.ready,
			"run":   func(ctx context.Context) error { _, err := p.matches(ctx, "hash", "password"); return err },
		} {
			began := time.Now()
			wantRefusal(t, ask(t.Context()), fault.Unavailable, "BUSY")
			if took := time.Since(began); took != busyDelay {
				t.Errorf("%s: refused after %s, want %s", name, took, busyDelay)
			}

			p.held <- struct{}{} // as many as may be
			began = time.Now()
			wantRefusal(t, ask(t.Context()), fault.Unavailable, "BUSY")
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
	p := newPasswords(4, 1, 1)
	p.delay = 0
	greedy, other := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	at := func(ip netip.Addr) context.Context { return caller.With(t.Context(), caller.Caller{IP: ip}) }
	n := 0
	for ; p.waiting.Acquire(greedy, 1); n++ {
	}
	if want := (1 + 1 + queuePerWorker) / 2; n != want {
		t.Errorf("one address gets %d places, want %d", n, want)
	}
	wantRefusal(t, p.ready(at(greedy)), fault.Unavailable, "BUSY")
	if err := p.ready(at(other)); err != nil {
		t.Errorf("another address: %v", err)
	}
	if _, err := p.hash(at(other), "password"); err != nil {
		t.Errorf("another address: %v", err)
	}
}

func TestOneTimePassword(t *testing.T) {
	a, b := newOneTimePassword(), newOneTimePassword()
	if len(a) != 20 || a == b || strings.ContainsAny(a, "ilou") || checkPassword("", "", a) != nil {
		t.Errorf("one-time passwords %q and %q", a, b)
	}
}
