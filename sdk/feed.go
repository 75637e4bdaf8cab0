package tollgate

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
	"github.com/tollgatehq/tollgate/internal/jose"
)

const (
	maxRevoked = 1 << 20 // sessions, keys and users that are remembered

	firstRetry = 100 * time.Millisecond
	lastRetry  = 5 * time.Second
)

// feed follows what Tollgate revokes. It forgets an entry when the tokens of
// that time have expired.
type feed struct {
	client *Client
	bound  time.Duration // how old the latest message may be
	keep   time.Duration // how long an entry is needed at least
	keys   *keyring

	mu       sync.RWMutex
	sessions halves[string, struct{}]
	apiKeys  halves[string, struct{}]
	users    halves[string, struct{}]
	rotated  time.Time
	heard    time.Time // when the latest message came; zero: none counts
	revision int64
	news     chan struct{} // closed at the next message
}

func newFeed(client *Client, keys *keyring, bound, ttl time.Duration) *feed {
	f := &feed{client: client, bound: bound, keep: ttl + jose.ClockSkew, keys: keys, news: make(chan struct{})}
	f.forget(client.now())
	return f
}

func (f *feed) forget(now time.Time) {
	f.sessions, f.apiKeys, f.users = newHalves[string, struct{}](), newHalves[string, struct{}](), newHalves[string, struct{}]()
	f.rotated = now
}

// look says whether what a token names was revoked. It cannot tell, ok is
// false, when the feed was not heard for too long.
func (f *feed) look(c *claims, now time.Time) (reason Reason, revision int64, ok bool) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	switch {
	case f.heard.IsZero() || now.Sub(f.heard) > f.bound:
		return "", 0, false
	case c.sessionID != "" && f.sessions.has(c.sessionID), c.apiKeyID != "" && f.apiKeys.has(c.apiKeyID):
		return ReasonCredentialRevoked, f.revision, true
	case f.users.has(c.userID):
		return ReasonUserDisabled, f.revision, true
	}
	return ReasonOK, f.revision, true
}

// next is closed at the next message.
func (f *feed) next() <-chan struct{} {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.news
}

// wait returns when everything up to revision was told.
func (f *feed) wait(ctx context.Context, revision int64) error {
	for {
		f.mu.RLock()
		done, news := !f.heard.IsZero() && f.revision >= revision, f.news
		f.mu.RUnlock()
		if done {
			return nil
		}
		select {
		case <-news:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// run follows the feed until ctx ends.
func (f *feed) run(ctx context.Context) {
	wait, lost := firstRetry, false
	for {
		told, err := f.follow(ctx)
		if told {
			wait, lost = firstRetry, false
		}
		if ctx.Err() != nil {
			return
		}
		if !lost {
			f.client.log.WarnContext(ctx, "tollgate: the feed of revocations is lost", "error", err)
			lost = true
		}
		// Not all services of a network come back at the same moment.
		if !sleep(ctx, wait/2+rand.N(wait/2)) {
			return
		}
		wait = min(2*wait, lastRetry)
	}
}

var errFeedEnded = errors.New("the stream ended")

// follow takes in one stream until it ends, or is silent for too long; told
// says that it did tell something.
func (f *feed) follow(ctx context.Context) (told bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	watchdog := time.AfterFunc(f.bound, cancel)
	defer watchdog.Stop()
	stream, err := f.client.feed.WatchRevocations(ctx, &tollgatev1.WatchRevocationsRequest{})
	if err != nil {
		return false, err
	}
	defer stream.Close() //nolint:errcheck // it ends with ctx
	for stream.Receive() {
		if !told && !stream.Msg().GetSnapshot() {
			return false, errors.New("the stream does not begin with everything that is revoked")
		}
		if err := f.take(stream.Msg(), f.client.now()); err != nil {
			return told, err
		}
		told = true
		watchdog.Reset(f.bound)
	}
	if err := stream.Err(); err != nil {
		return told, err
	}
	return told, errFeedEnded
}

// take applies one message.
func (f *feed) take(message *tollgatev1.WatchRevocationsResponse, now time.Time) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	// A beginning that is older than what we know is of an instance that lags:
	// what it has not heard yet must not be forgotten.
	if message.GetSnapshot() && message.GetRevision() >= f.revision {
		f.forget(now)
	}
	if now.Sub(f.rotated) > f.keep {
		f.sessions.rotate()
		f.apiKeys.rotate()
		f.users.rotate()
		f.rotated = now
	}
	for _, id := range message.GetSessionIds() {
		f.sessions.set(id, struct{}{})
	}
	for _, id := range message.GetApiKeyIds() {
		f.apiKeys.set(id, struct{}{})
	}
	for _, id := range message.GetRestoredUserIds() {
		f.users.delete(id)
	}
	for _, id := range message.GetUserIds() {
		f.users.set(id, struct{}{})
	}
	remembered := true
	if ids := message.GetSigningKeyIds(); len(ids) > 0 {
		remembered = f.keys.remove(ids)
	}
	if !remembered || f.sessions.len()+f.apiKeys.len()+f.users.len() > maxRevoked {
		f.heard = time.Time{} // we cannot hold what we were told
		return errors.New("more is revoked than can be remembered; tokens are not verified locally")
	}
	f.heard, f.revision = now, max(f.revision, message.GetRevision())
	close(f.news)
	f.news = make(chan struct{})
	return nil
}
