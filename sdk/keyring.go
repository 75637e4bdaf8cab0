package tollgate

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"
	"github.com/tollgatehq/tollgate/internal/jose"
)

const (
	keysInterval = 5 * time.Second // between two fetches, whatever tokens ask for
	maxRemoved   = 1 << 12         // removed keys that are remembered
)

// keyring holds Tollgate's public keys and fetches them again when they are
// old or a token names another one. Of any number of callers one fetches.
type keyring struct {
	client *Client
	ctx    context.Context // ends fetches
	stale  time.Duration   // how old the keys may get when they cannot be fetched

	set atomic.Pointer[keySet]

	mu      sync.Mutex
	flight  chan struct{}       // closed when the fetch under way is over; nil: none is
	tried   time.Time           // when the latest fetch began
	err     error               // why it failed
	removed map[string]struct{} // ids of keys that are never taken again
}

// keySet never changes.
type keySet struct {
	keys    map[string]*jose.Key
	fetched time.Time
}

// find returns the key with this id, and nil when there is none. The error is
// an *Error: it cannot be told.
func (r *keyring) find(ctx context.Context, id string) (*jose.Key, error) {
	for waited := false; ; waited = true {
		set, now := r.set.Load(), r.client.now()
		key, age := set.keys[id], now.Sub(set.fetched)
		usable := len(set.keys) > 0 && age <= r.stale
		if key != nil && usable && age < jose.KeySetMaxAge {
			return key, nil
		}
		flight, err := r.fetch(now)
		if waited || flight == nil {
			switch {
			case key != nil && usable:
				return key, nil
			case err != nil || !usable:
				return nil, unavailable("the public keys cannot be fetched", err)
			default:
				return nil, nil
			}
		}
		if key != nil && usable && age < 2*jose.KeySetMaxAge {
			return key, nil // they are being fetched meanwhile
		}
		select {
		case <-flight:
		case <-ctx.Done():
			return nil, newError(connect.NewError(codeOf(ctx), ctx.Err()))
		}
	}
}

// holds says whether key is in a set that is fresh.
func (r *keyring) holds(key *jose.Key, now time.Time) bool {
	set := r.set.Load()
	return set.keys[key.ID] == key && now.Sub(set.fetched) < jose.KeySetMaxAge
}

// wait returns when there are keys.
func (r *keyring) wait(ctx context.Context) error {
	for len(r.set.Load().keys) == 0 {
		if flight, _ := r.fetch(r.client.now()); flight != nil {
			select {
			case <-flight:
			case <-ctx.Done():
				return ctx.Err()
			}
			continue
		}
		if !sleep(ctx, time.Second) {
			return ctx.Err()
		}
	}
	return nil
}

// fetch begins a fetch, unless one is under way or the latest is too recent,
// and returns what closes when it is over; otherwise how the latest failed.
func (r *keyring) fetch(now time.Time) (<-chan struct{}, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.flight != nil {
		return r.flight, nil
	}
	if !r.tried.IsZero() && now.Sub(r.tried) < keysInterval {
		return nil, r.err
	}
	flight := make(chan struct{})
	r.flight, r.tried = flight, now
	go func() {
		keys, err := r.download()
		r.mu.Lock()
		if err == nil {
			r.replace(keys, now)
		}
		r.flight, r.err = nil, err
		r.mu.Unlock()
		close(flight)
	}()
	return flight, nil
}

// replace keeps keys that are there still as they are, so that tokens that
// were verified with one need not be verified again. Keys that were removed are
// left out: an answer may have been kept on its way. The lock is held.
func (r *keyring) replace(keys map[string]*jose.Key, now time.Time) {
	old := r.set.Load().keys
	for id, key := range keys {
		if _, gone := r.removed[id]; gone {
			delete(keys, id)
		} else if key.Equal(old[id]) {
			keys[id] = old[id]
		}
	}
	r.set.Store(&keySet{keys: keys, fetched: now})
}

// remove drops keys for good, and fetches those that take their place. It says
// false when they are more than can be remembered.
func (r *keyring) remove(ids []string) bool {
	r.mu.Lock()
	if r.removed == nil {
		r.removed = map[string]struct{}{}
	}
	for _, id := range ids {
		r.removed[id] = struct{}{}
	}
	ok, set := len(r.removed) <= maxRemoved, r.set.Load()
	left := maps.Clone(set.keys)
	maps.DeleteFunc(left, func(id string, _ *jose.Key) bool { _, gone := r.removed[id]; return gone })
	dropped := len(left) < len(set.keys)
	if dropped {
		r.set.Store(&keySet{keys: left, fetched: set.fetched})
	}
	r.mu.Unlock()
	if dropped {
		_, _ = r.fetch(r.client.now()) // a failure shows when a key is asked for
	}
	return ok
}

func (r *keyring) download() (map[string]*jose.Key, error) {
	ctx, cancel := context.WithTimeout(r.ctx, r.client.timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.client.base+"/.well-known/jwks.json", nil)
	if err != nil {
		return nil, fmt.Errorf("fetch the key set: %w", err)
	}
	res, err := r.client.public.Do(req)
	if err != nil {
		return nil, fmt.Errorf("fetch the key set: %w", err)
	}
	defer res.Body.Close() //nolint:errcheck // it was only read
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("fetch the key set: the answer is %s", res.Status)
	}
	text, err := io.ReadAll(io.LimitReader(res.Body, jose.MaxKeySetSize+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("fetch the key set: %w", err)
	case len(text) > jose.MaxKeySetSize:
		return nil, fmt.Errorf("the key set has more than %d bytes", jose.MaxKeySetSize)
	}
	return jose.ParseKeySet(text)
}

// run keeps the keys fresh, so that no call has to wait for them.
func (r *keyring) run() {
	for {
		if flight, _ := r.fetch(r.client.now()); flight != nil {
			<-flight // it ends with ctx
		}
		r.mu.Lock()
		wait := jose.KeySetMaxAge
		if r.err != nil {
			wait = keysInterval
		}
		r.mu.Unlock()
		if !sleep(r.ctx, wait) {
			return
		}
	}
}

// sleep says false when ctx ended before.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func codeOf(ctx context.Context) connect.Code {
	if ctx.Err() == context.Canceled {
		return connect.CodeCanceled
	}
	return connect.CodeDeadlineExceeded
}

func unavailable(message string, cause error) *Error {
	if cause != nil {
		message += ": " + cause.Error()
	}
	return &Error{Code: connect.CodeUnavailable, Message: message, cause: cause}
}
