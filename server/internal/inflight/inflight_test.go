package inflight

import (
	"sync"
	"testing"

	"pgregory.net/rapid"
)

// One caller gets half, and another that comes later still gets in.
func TestAcquireSharesCapacity(t *testing.T) {
	t.Parallel()
	l := New[string](100)
	take := func(caller string) (n int) {
		for l.Acquire(caller, 1) {
			n++
		}
		return n
	}
	if got := take("greedy"); got != 50 {
		t.Errorf("one caller alone gets %d of 100, want 50", got)
	}
	if got := take("second"); got != 25 {
		t.Errorf("a second caller gets %d of the 50 left, want 25", got)
	}
	for caller := range 20 {
		if !l.Acquire(string(rune('a'+caller)), 1) {
			t.Fatalf("caller %d, who holds nothing, finds nothing free", caller)
		}
	}
}

// A caller that gives back what it took leaves nothing behind.
func TestRelease(t *testing.T) {
	t.Parallel()
	l := New[string](10)
	if !l.Acquire("a", 3) || !l.Acquire("a", 2) || l.Acquire("a", 1) {
		t.Fatal("a caller gets more or less than half")
	}
	l.Release("a", 3)
	l.Release("a", 2)
	if l.used != 0 || len(l.held) != 0 {
		t.Errorf("used %d, held %v after everything was given back", l.used, l.held)
	}
}

// TestInvariants: no sequence of calls passes the capacity, lets a caller hold
// more than it left free, or loses count.
func TestInvariants(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		capacity := rapid.Int64Range(1, 200).Draw(t, "capacity")
		l := New[int](capacity)
		held := map[int][]int64{}
		var used int64
		t.Repeat(map[string]func(*rapid.T){
			"acquire": func(t *rapid.T) {
				caller, n := rapid.IntRange(0, 5).Draw(t, "caller"), rapid.Int64Range(1, 50).Draw(t, "n")
				var own int64
				for _, h := range held[caller] {
					own += h
				}
				want := own+n <= capacity-used
				if got := l.Acquire(caller, n); got != want {
					t.Fatalf("acquire %d for one who holds %d of %d used: %v, want %v", n, own, used, got, want)
				}
				if want {
					used += n
					held[caller] = append(held[caller], n)
				}
			},
			"release": func(t *rapid.T) {
				for caller, list := range held {
					if len(list) > 0 {
						l.Release(caller, list[0])
						used -= list[0]
						held[caller] = list[1:]
						return
					}
				}
			},
			"": func(t *rapid.T) {
				if l.used != used || used > capacity {
					t.Fatalf("used %d, counted %d, capacity %d", l.used, used, capacity)
				}
			},
		})
	})
}

// Concurrent callers never hold more than the capacity.
func TestAcquireConcurrently(t *testing.T) {
	t.Parallel()
	l := New[int](8)
	var wait sync.WaitGroup
	for caller := range 16 {
		wait.Go(func() {
			for range 1000 {
				if l.Acquire(caller, 1) {
					l.Release(caller, 1)
				}
			}
		})
	}
	wait.Wait()
	if l.used != 0 || len(l.held) != 0 {
		t.Errorf("used %d, held %v", l.used, l.held)
	}
}

func BenchmarkAcquire(b *testing.B) {
	l := New[string](1024)
	b.ReportAllocs()
	for b.Loop() {
		if l.Acquire("192.0.2.1", 1) {
			l.Release("192.0.2.1", 1)
		}
	}
}
