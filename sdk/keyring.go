package tollgate

import (
	"context"
	"errors"
	"io"
	"maps"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tollgatehq/tollgate/internal/jose"
	"golang.org/x/sync/singleflight"
)

const (
	keysInterval = 5 * time.Second // between two fetches, whatever tokens ask for
	maxRemoved   = 1 << 12         // removed keys that are remembered
)

// keyring holds Tollgate's public keys and fetches them again when they are old
// or a token names one that it lacks. Concurrent callers share a fetch.
type keyring struct {
	client *Client
	ctx    context.Context // ends fetches
	stale  time.Duration   // how old the keys may get when they cannot be fetched

	set     atomic.Pointer[keySet]
	fetches singleflight.Group

	mu      sync.Mutex
	fetched time.Time           // when the latest fetch that is over began
	err     error               // why it failed
	removed map[string]struct{} // ids of keys that are never accepted again
}

// keySet never changes.
type keySet struct {
	keys    map[string]*jose.Key
	fetched time.Time
}

func newKeyring(ctx context.Context, client *Client, stale time.Duration) *keyring {
	r := &keyring{client: client, ctx: ctx, stale: stale, removed: map[string]struct{}{}}
	r.set.Store(&keySet{})
	return r
}

// keyOf returns the key that a token of this type names, for the algorithm that
// it names, and nil when there is none. The token is not verified. The error is
// that of find.
func (r *keyring) keyOf(ctx context.Context, t jose.Token, typ string) (*jose.Key, error) {
	header, ok := t.ReadHeader(typ)
	if !ok {
		return nil, nil
	}
	key, err := r.find(ctx, header.KeyID)
	if err != nil || key == nil || key.Algorithm != header.Algorithm {
		return nil, err
	}
	return key, nil
}

// find returns the key with this id, and nil when there is none. The error is an
// *Error: it is not known whether there is one.
func (r *keyring) find(ctx context.Context, id string) (*jose.Key, error) {
	for waited := false; ; waited = true {
		set, now := r.set.Load(), r.client.now()
		key, age := set.keys[id], now.Sub(set.fetched)
		usable := len(set.keys) > 0 && age <= r.stale
		if key != nil && usable && age < jose.KeySetMaxAge {
			return key, nil
		}
		done, err := r.fetch(now)
		if waited || done == nil {
			switch {
			case key != nil && usable:
				return key, nil
			case err != nil || !usable:
				return nil, noAnswer("the public keys cannot be fetched", err)
			default:
				return nil, nil
			}
		}
		if key != nil && usable && age < 2*jose.KeySetMaxAge {
			return key, nil // the fetch goes on
		}
		select {
		case <-done:
		case <-ctx.Done():
			return nil, contextError(ctx)
		}
	}
}

// holds reports whether key is in a set that is fresh.
func (r *keyring) holds(key *jose.Key, now time.Time) bool {
	set := r.set.Load()
	return set.keys[key.ID] == key && now.Sub(set.fetched) < jose.KeySetMaxAge
}

// wait returns when there are keys.
func (r *keyring) wait(ctx context.Context) error {
	for len(r.set.Load().keys) == 0 {
		if done, _ := r.fetch(r.client.now()); done != nil {
			select {
			case <-done:
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

// fetch joins the fetch under way or starts one, and returns what receives when
// it is over. Too soon after the latest it returns nil, and how that failed.
func (r *keyring) fetch(now time.Time) (<-chan singleflight.Result, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.fetched.IsZero() && now.Sub(r.fetched) < keysInterval {
		return nil, r.err
	}
	return r.fetches.DoChan("", func() (any, error) {
		keys, err := r.download()
		r.mu.Lock()
		defer r.mu.Unlock()
		if err == nil {
			r.replace(keys, now)
		}
		r.fetched, r.err = now, err
		return nil, err
	}), nil
}

// replace stores keys. It keeps the values of keys that are there already, so
// that tokens that were verified with them need not be verified again. Removed
// keys are left out: the answer may come from a cache. The lock is held.
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

// remove drops keys for good, and fetches their successors. It returns false when
// they are more than can be remembered.
func (r *keyring) remove(ids []string) bool {
	r.mu.Lock()
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
		_, _ = r.fetch(r.client.now()) // find returns the error
	}
	return ok
}

func (r *keyring) download() (map[string]*jose.Key, error) {
	ctx, cancel := context.WithTimeout(r.ctx, r.client.timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.client.base+"/.well-known/jwks.json", nil)
	if err != nil {
		return nil, err
	}
	res, err := r.client.public.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return nil, errors.New("the answer is " + res.Status)
	}
	text, err := io.ReadAll(http.MaxBytesReader(nil, res.Body, jose.MaxKeySetSize))
	if err != nil {
		return nil, err
	}
	return jose.ParseKeySet(text)
}

// run keeps the keys fresh, so that calls need not wait for them.
func (r *keyring) run() {
	for {
		if done, _ := r.fetch(r.client.now()); done != nil {
			<-done // at the latest when ctx ends
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

// sleep returns false when ctx ended before.
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
