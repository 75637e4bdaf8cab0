package changes

import (
	"context"
	"sync"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/fault"
)

const (
	// watcherBuffer is how many messages may wait for a watcher.
	watcherBuffer = 64
	// silentFor is how long nothing is sent before a watcher hears that nothing
	// has changed.
	silentFor = 500 * time.Millisecond
	// freshFor is how recent this instance's own knowledge must be to say so.
	freshFor = 900 * time.Millisecond
)

// Feed passes on what a Follower learns to watchers who keep a copy of it
// elsewhere. The zero Feed is ready.
type Feed[T any] struct {
	mu       sync.Mutex
	watchers map[chan T]struct{}
}

// Watched says whether anybody watches.
func (f *Feed[T]) Watched() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.watchers) > 0
}

// Join adds a watcher; it is closed when it is too far behind, and by Drop.
func (f *Feed[T]) Join() chan T {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.watchers == nil {
		f.watchers = map[chan T]struct{}{}
	}
	watcher := make(chan T, watcherBuffer)
	f.watchers[watcher] = struct{}{}
	return watcher
}

// Leave ends what Join began.
func (f *Feed[T]) Leave(watcher chan T) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, joined := f.watchers[watcher]; joined {
		delete(f.watchers, watcher)
		close(watcher)
	}
}

// Send passes a message on. A watcher that is too far behind is dropped: it
// connects again and gets a snapshot.
func (f *Feed[T]) Send(message T) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for watcher := range f.watchers {
		select {
		case watcher <- message:
		default:
			delete(f.watchers, watcher)
			close(watcher)
		}
	}
}

// Drop drops every watcher, for a Reset: what happened before it is not known.
func (f *Feed[T]) Drop() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for watcher := range f.watchers {
		close(watcher)
	}
	clear(f.watchers)
}

// Watch calls snapshot with a revision that is in force here, then send for each
// message, and silent at least every second that there was none, with the revision
// up to which everything was sent. It calls nothing while this instance cannot
// know, and returns when ctx ends (with its cause), when one of them fails, or
// when the watcher was dropped (Unavailable).
func (f *Feed[T]) Watch(ctx context.Context, log *Log, snapshot func(revision int64) error, send func(T) error, silent func(revision int64) error) error {
	// Join first: what changes from here on is sent twice rather than never.
	watcher := f.Join()
	defer f.Leave(watcher)
	revision, err := log.Current(ctx)
	if err != nil {
		return err
	}
	if err := snapshot(revision); err != nil {
		return err
	}
	ticker := time.NewTicker(silentFor)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case message, open := <-watcher:
			if !open {
				return fault.New(fault.Unavailable, "WATCHER_TOO_SLOW", "more has changed than was read of it; connect again").
					After(time.Second)
			}
			if err := send(message); err != nil {
				return err
			}
		case <-ticker.C:
			// The revision is read before the channel: what is applied by then
			// is in the channel or was sent.
			revision := log.Revision()
			if log.Lag() > freshFor || len(watcher) > 0 {
				continue
			}
			if err := silent(revision); err != nil {
				return err
			}
		}
	}
}
