package changes

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
)

// get reads value unless the cache has one.
func get(t *testing.T, c *Cache[string, int], key string, value int) int {
	t.Helper()
	got, err := c.Get(t.Context(), key, func(context.Context) (int, error) { return value, nil })
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// slow begins a read of key that ends with value when end is closed.
func slow(ctx context.Context, c *Cache[string, int], key string, value int) (end chan struct{}, got chan int) {
	begun, end, got := make(chan struct{}), make(chan struct{}), make(chan int, 1)
	go func() {
		v, err := c.Get(ctx, key, func(ctx context.Context) (int, error) {
			close(begun)
			<-end
			return value, ctx.Err()
		})
		if err != nil {
			v = -1
		}
		got <- v
	}()
	<-begun
	return end, got
}

func TestCacheKeeps(t *testing.T) {
	c := NewCache[string, int](10)
	for _, step := range []struct {
		key         string
		value, want int
	}{{"a", 1, 1}, {"a", 2, 1}, {"b", 3, 3}, {"a", 4, 1}} {
		if got := get(t, c, step.key, step.value); got != step.want {
			t.Errorf("%s is %d, want %d", step.key, got, step.want)
		}
	}
	c.Invalidate("a")
	if got := get(t, c, "a", 5); got != 5 {
		t.Errorf("after its invalidation a is %d", got)
	}
	if got := get(t, c, "b", 5); got != 3 {
		t.Errorf("after a's invalidation b is %d", got)
	}
	c.Clear()
	if got := get(t, c, "b", 6); got != 6 {
		t.Errorf("after Clear b is %d", got)
	}
}

// A read that began before a change hands out what it read, and nobody who
// asks after the change is given that.
func TestALateReadIsNotKept(t *testing.T) {
	for what, invalidate := range map[string]func(*Cache[string, int]){
		"invalidate": func(c *Cache[string, int]) { c.Invalidate("a") },
		"clear":      func(c *Cache[string, int]) { c.Clear() },
	} {
		c := NewCache[string, int](10)
		end, got := slow(t.Context(), c, "a", 1)
		invalidate(c)
		close(end)
		if v := <-got; v != 1 {
			t.Errorf("%s: the read itself is %d", what, v)
		}
		if v := get(t, c, "a", 2); v != 2 {
			t.Errorf("%s: afterwards a is %d, which is stale", what, v)
		}

		c = NewCache[string, int](10)
		end, got = slow(t.Context(), c, "a", 1)
		invalidate(c)
		if v := get(t, c, "a", 2); v != 2 { // does not wait for the old read
			t.Errorf("%s: during the old read a is %d", what, v)
		}
		close(end)
		<-got
		if v := get(t, c, "a", 3); v != 2 {
			t.Errorf("%s: after the old read a is %d, want what was read last", what, v)
		}
	}
}

func TestCallsShareARead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := NewCache[string, int](10)
		var reads atomic.Int32
		end := make(chan struct{})
		var all sync.WaitGroup
		for range 50 {
			all.Go(func() {
				v, err := c.Get(t.Context(), "a", func(context.Context) (int, error) {
					reads.Add(1)
					<-end
					return 1, nil
				})
				if v != 1 || err != nil {
					t.Errorf("got %d, %v", v, err)
				}
			})
		}
		synctest.Wait() // all of them wait now
		if n := reads.Load(); n != 1 {
			t.Errorf("%d reads", n)
		}
		close(end)
		all.Wait()
	})
}

func TestErrorsAreNotKept(t *testing.T) {
	c := NewCache[string, int](10)
	failed := errors.New("failed")
	if _, err := c.Get(t.Context(), "a", func(context.Context) (int, error) { return 0, failed }); !errors.Is(err, failed) {
		t.Errorf("error is %v", err)
	}
	if got := get(t, c, "a", 1); got != 1 {
		t.Errorf("after an error a is %d", got)
	}
}

// Whoever began a read may hang up; the others still get it.
func TestHangingUpDoesNotEndTheRead(t *testing.T) {
	c := NewCache[string, int](10)
	ctx, cancel := context.WithCancel(t.Context())
	end, got := slow(ctx, c, "a", 1)
	cancel()
	if v := <-got; v != -1 {
		t.Errorf("a caller that hung up got %d", v)
	}
	close(end)
	if v, err := c.Get(t.Context(), "a", func(context.Context) (int, error) { return 2, nil }); v != 1 || err != nil {
		t.Errorf("the next caller got %d, %v; want the read that was under way", v, err)
	}
}
