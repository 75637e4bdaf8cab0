package changes

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/tollgatehq/tollgate/server/internal/backendtest"
)

// get reads value unless the cache has one.
func get(t *testing.T, c *Cache[string, int], key string, value int) int {
	t.Helper()
	got, err := c.Get(t.Context(), key, func(context.Context) (int, error) { return value, nil })
	backendtest.Must(t, err)
	return got
}

// source is a database's value that a slow read returns as it was when the read
// began.
type source struct {
	value atomic.Int64
	reads atomic.Int64
	end   chan struct{} // closed: reads end
}

func newSource(value int64) *source {
	s := &source{end: make(chan struct{})}
	s.value.Store(value)
	return s
}

func (s *source) read(ctx context.Context) (int, error) {
	s.reads.Add(1)
	value := int(s.value.Load())
	<-s.end
	return value, ctx.Err()
}

// begin calls Get and waits until its read is under way.
func (s *source) begin(ctx context.Context, c *Cache[string, int], key string) (got chan int) {
	got = make(chan int, 1)
	go func() {
		v, err := c.Get(ctx, key, s.read)
		if err != nil {
			v = -1
		}
		got <- v
	}()
	synctest.Wait()
	return got
}

func TestCacheKeeps(t *testing.T) {
	t.Parallel()
	c := NewCache[string, int](10)
	for _, step := range []struct {
		key         string
		value, want int
	}{{"a", 1, 1}, {"a", 2, 1}, {"b", 3, 3}, {"a", 4, 1}} {
		backendtest.Equal(t, get(t, c, step.key, step.value), step.want, "%s", step.key)
	}
	c.Invalidate("a")
	backendtest.Equal(t, get(t, c, "a", 5), 5, "after its invalidation a")
	backendtest.Equal(t, get(t, c, "b", 5), 3, "after a's invalidation b")
	c.Clear()
	backendtest.Equal(t, get(t, c, "b", 6), 6, "after Clear b")
}

// What was read before a change is never kept after its invalidation.
func TestCacheInvalidationDuringARead(t *testing.T) {
	t.Parallel()
	for what, invalidate := range map[string]func(*Cache[string, int]){
		"Invalidate": func(c *Cache[string, int]) { c.Invalidate("a") },
		"Clear":      (*Cache[string, int]).Clear,
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				c, s := NewCache[string, int](10), newSource(1)
				got := s.begin(t.Context(), c, "a")
				s.value.Store(2)
				invalidate(c)
				close(s.end)
				<-got
				backendtest.Equal(t, get(t, c, "a", 2), 2, "a after the read, which must not be stale")
			})
			synctest.Test(t, func(t *testing.T) {
				c, s := NewCache[string, int](10), newSource(1)
				got := s.begin(t.Context(), c, "a")
				s.value.Store(2)
				invalidate(c)
				backendtest.Equal(t, get(t, c, "a", 2), 2, "during the old read a")
				close(s.end)
				<-got
				backendtest.Equal(t, get(t, c, "a", 3), 2, "after the old read a")
			})
		})
	}
}

func TestCacheInvalidationOfAnotherKey(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, s := NewCache[string, int](10), newSource(1)
		got := s.begin(t.Context(), c, "a")
		c.Invalidate("b")
		close(s.end)
		backendtest.Equal(t, <-got, 1, "the read")
		backendtest.Equal(t, get(t, c, "a", 2), 1, "a, whose read was not invalidated")
	})
}

func TestCacheSharesReads(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, s := NewCache[string, int](10), newSource(1)
		var all sync.WaitGroup
		for range 50 {
			all.Go(func() {
				if v, err := c.Get(t.Context(), "a", s.read); v != 1 || err != nil {
					t.Errorf("got %d, %v", v, err)
				}
			})
		}
		synctest.Wait() // all of them wait now
		backendtest.Equal(t, s.reads.Load(), 1, "number of reads")
		close(s.end)
		all.Wait()
	})
}

func TestCacheKeepsNoErrors(t *testing.T) {
	t.Parallel()
	c := NewCache[string, int](10)
	failed := errors.New("failed")
	if _, err := c.Get(t.Context(), "a", func(context.Context) (int, error) { return 0, failed }); !errors.Is(err, failed) {
		t.Errorf("error is %v", err)
	}
	backendtest.Equal(t, get(t, c, "a", 1), 1, "after an error a")
}

// A caller that hangs up does not end the read that others wait for.
func TestCacheReadOutlivesItsCaller(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, s := NewCache[string, int](10), newSource(1)
		ctx, cancel := context.WithCancel(t.Context())
		got := s.begin(ctx, c, "a")
		cancel()
		backendtest.Equal(t, <-got, -1, "a caller that hung up")
		next := newSource(2).begin(t.Context(), c, "a")
		close(s.end)
		backendtest.Equal(t, <-next, 1, "the next caller")
	})
}

// A weighed cache keeps what its values weigh, not how many they are, also after
// Clear.
func TestWeighedCache(t *testing.T) {
	t.Parallel()
	c := NewWeighedCache[int](100, func(weight int) int { return weight })
	for _, weight := range []int{1, 20} {
		c.Clear()
		for key := range 1000 {
			_, err := c.Get(t.Context(), key, func(context.Context) (int, error) { return weight, nil })
			backendtest.Must(t, err)
		}
		kept := c.kept.Load()
		kept.CleanUp()
		if total := int(kept.WeightedSize()); total > 100 || total < 50 || kept.EstimatedSize() != total/weight {
			t.Errorf("%d values of %d weigh %d", kept.EstimatedSize(), weight, total)
		}
	}
}
