package changes

import (
	"context"
	"sync/atomic"

	"github.com/maypok86/otter/v2"
)

// Cache is a bounded read-through cache whose owner, a Follower, invalidates
// what changed. A read that began before its key was invalidated is made again.
type Cache[K comparable, V any] struct {
	options otter.Options[K, V]
	kept    atomic.Pointer[otter.Cache[K, V]]
}

// NewCache keeps at most size values.
func NewCache[K comparable, V any](size int) *Cache[K, V] {
	return newCache(otter.Options[K, V]{MaximumSize: size})
}

// NewWeighedCache keeps values that weigh at most total together, for values whose
// sizes differ much. weigh returns at least 1.
func NewWeighedCache[K comparable, V any](total int, weigh func(V) int) *Cache[K, V] {
	return newCache(otter.Options[K, V]{
		MaximumWeight: uint64(total),
		Weigher:       func(_ K, value V) uint32 { return uint32(weigh(value)) },
	})
}

func newCache[K comparable, V any](options otter.Options[K, V]) *Cache[K, V] {
	c := &Cache[K, V]{options: options}
	c.Clear()
	return c
}

// Get returns the kept value or the one that read returns. Calls for the same
// key share one read, which goes on when its callers hang up: with a slow
// database and impatient callers nothing would ever be kept otherwise. Errors
// are not kept.
func (c *Cache[K, V]) Get(ctx context.Context, key K, read func(context.Context) (V, error)) (value V, err error) {
	kept := c.kept.Load()
	if value, ok := kept.GetIfPresent(key); ok {
		return value, nil
	}
	done := make(chan struct{})
	var loaded V
	var failure error
	go func() {
		defer close(done)
		loaded, failure = kept.Get(context.WithoutCancel(ctx), key, otter.LoaderFunc[K, V](func(ctx context.Context, _ K) (V, error) {
			return read(ctx)
		}))
	}()
	select {
	case <-done:
		return loaded, failure
	case <-ctx.Done():
		return value, ctx.Err()
	}
}

// Invalidate forgets the value of a key that changed.
func (c *Cache[K, V]) Invalidate(key K) { c.kept.Load().Invalidate(key) }

// Clear forgets everything. Reads under way end in the cache that was: otter's
// InvalidateAll would keep what they return.
func (c *Cache[K, V]) Clear() {
	options := c.options
	c.kept.Store(otter.Must(&options))
}
