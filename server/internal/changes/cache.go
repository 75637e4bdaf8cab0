package changes

import (
	"context"
	"sync"

	"github.com/maypok86/otter/v2"
)

// Cache is a bounded read-through cache whose owner, a Follower, invalidates
// what changed. A value that was read from the database before a change and
// arrives after its invalidation is handed out once and not kept.
type Cache[K comparable, V any] struct {
	kept *otter.Cache[K, V]

	mu     sync.Mutex
	epoch  uint64 // counts invalidations
	flight map[K]*load[V]
}

// load is one read of the database that callers share.
type load[V any] struct {
	done  chan struct{}
	value V
	err   error
}

// NewCache keeps at most size values.
func NewCache[K comparable, V any](size int) *Cache[K, V] {
	return &Cache[K, V]{
		kept:   otter.Must(&otter.Options[K, V]{MaximumSize: size}),
		flight: map[K]*load[V]{},
	}
}

// Get returns the kept value or the one that read returns. Calls for the same
// key share one read, unless the key was invalidated in between. The read goes
// on when the caller that began it hangs up; errors are not kept.
func (c *Cache[K, V]) Get(ctx context.Context, key K, read func(context.Context) (V, error)) (V, error) {
	if value, ok := c.kept.GetIfPresent(key); ok {
		return value, nil
	}
	c.mu.Lock()
	l, running := c.flight[key]
	if !running {
		l = &load[V]{done: make(chan struct{})}
		c.flight[key] = l
		go c.read(context.WithoutCancel(ctx), key, l, c.epoch, read)
	}
	c.mu.Unlock()
	select {
	case <-l.done:
		return l.value, l.err
	case <-ctx.Done():
		var zero V
		return zero, ctx.Err()
	}
}

func (c *Cache[K, V]) read(ctx context.Context, key K, l *load[V], epoch uint64, read func(context.Context) (V, error)) {
	defer close(l.done)
	l.value, l.err = read(ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.flight[key] == l {
		delete(c.flight, key)
	}
	if l.err == nil && c.epoch == epoch {
		c.kept.Set(key, l.value)
	}
}

// Invalidate forgets the value of a key that changed.
func (c *Cache[K, V]) Invalidate(key K) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.epoch++
	delete(c.flight, key)
	c.kept.Invalidate(key)
}

// Clear forgets everything.
func (c *Cache[K, V]) Clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.epoch++
	clear(c.flight)
	c.kept.InvalidateAll()
}
