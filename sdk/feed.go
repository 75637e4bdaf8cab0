package tollgate

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
	"github.com/tollgatehq/tollgate/internal/jose"
)

const (
	maxRevoked = 1 << 20 // sessions, tokens, keys and users that are remembered

	firstRetry = 100 * time.Millisecond
	lastRetry  = 5 * time.Second
)

// feed follows what Tollgate revokes. It forgets an entry when every token of that
// time has expired.
type feed struct {
	client *Client
	bound  time.Duration // how old the latest message may be
	keep   time.Duration // how long an entry is needed at least
	keys   *keyring

	mu       sync.RWMutex
	revoked  generations[revocation, struct{}]
	rotated  time.Time
	heard    time.Time // when the latest message came; zero: what is known is incomplete
	revision int64
	changed  chan struct{} // closed by the next message
}

type revocation struct {
	kind byte
	id   string
}

const (
	ofSession = 's'
	ofAPIKey  = 'k'
	ofUser    = 'u'
	ofToken   = 't'
)

func newFeed(client *Client, keys *keyring, bound, ttl time.Duration) *feed {
	f := &feed{client: client, bound: bound, keep: ttl + jose.ClockSkew, keys: keys, changed: make(chan struct{})}
	f.forget(client.now())
	return f
}

func (f *feed) forget(now time.Time) {
	f.revoked, f.rotated = newGenerations[revocation, struct{}](), now
}

// look returns whether what a token names was revoked; ok is false when that is
// not known, because the feed is lost.
func (f *feed) look(c *claims, now time.Time) (reason Reason, revision int64, ok bool) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	switch {
	case f.heard.IsZero() || now.Sub(f.heard) > f.bound:
		return "", 0, false
	case f.revoked.has(revocation{ofSession, c.sessionID}), f.revoked.has(revocation{ofToken, c.tokenID}), f.revoked.has(revocation{ofAPIKey, c.apiKeyID}):
		return ReasonCredentialRevoked, f.revision, true
	case f.revoked.has(revocation{ofUser, c.userID}):
		return ReasonUserDisabled, f.revision, true
	}
	return ReasonOK, f.revision, true
}

// next returns what the next message closes.
func (f *feed) next() <-chan struct{} {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.changed
}

// wait returns when everything up to revision is known.
func (f *feed) wait(ctx context.Context, revision int64) error {
	for {
		f.mu.RLock()
		done, changed := !f.heard.IsZero() && f.revision >= revision, f.changed
		f.mu.RUnlock()
		if done {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// run follows the feed until ctx ends.
func (f *feed) run(ctx context.Context) {
	keepFollowing(ctx, f.client.log, "the feed of revocations", f.follow)
}

// keepFollowing calls follow again and again until ctx ends. It reports whether there
// was a message.
func keepFollowing(ctx context.Context, log *slog.Logger, what string, follow func(context.Context) (received bool, err error)) {
	wait, lost := firstRetry, false
	for {
		received, err := follow(ctx)
		if received {
			wait, lost = firstRetry, false
		}
		if ctx.Err() != nil {
			return
		}
		if !lost {
			log.WarnContext(ctx, "tollgate: "+what+" is lost", "error", err)
			lost = true
		}
		// The jitter keeps the services of a network from coming back all at once.
		if !sleep(ctx, wait/2+rand.N(wait/2)) {
			return
		}
		wait = min(2*wait, lastRetry)
	}
}

var errFeedEnded = errors.New("the stream ended")

// follow applies the messages of one stream until it ends or is silent for too
// long. It reports whether there were any.
func (f *feed) follow(ctx context.Context) (received bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	watchdog := time.AfterFunc(f.bound, cancel)
	defer watchdog.Stop()
	stream, err := f.client.feed.WatchRevocations(ctx, &tollgatev1.WatchRevocationsRequest{})
	if err != nil {
		return false, err
	}
	defer stream.Close()
	for stream.Receive() {
		if !received && !stream.Msg().GetSnapshot() {
			return false, errors.New("the stream does not begin with a snapshot")
		}
		if err := f.take(stream.Msg(), f.client.now()); err != nil {
			return received, err
		}
		received = true
		watchdog.Reset(f.bound)
	}
	if err := stream.Err(); err != nil {
		return received, err
	}
	return received, errFeedEnded
}

// take applies one message.
func (f *feed) take(message *tollgatev1.WatchRevocationsResponse, now time.Time) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	// A snapshot that is older than what is known comes from an instance that
	// lags, and replaces nothing.
	if message.GetSnapshot() && message.GetRevision() >= f.revision {
		f.forget(now)
	}
	if now.Sub(f.rotated) > f.keep {
		f.revoked.rotate()
		f.rotated = now
	}
	for _, id := range message.GetRestoredUserIds() {
		f.revoked.delete(revocation{ofUser, id})
	}
	for kind, ids := range map[byte][]string{
		ofSession: message.GetSessionIds(), ofAPIKey: message.GetApiKeyIds(), ofUser: message.GetUserIds(),
		ofToken: message.GetTokenIds(),
	} {
		for _, id := range ids {
			f.revoked.set(revocation{kind, id}, struct{}{})
		}
	}
	remembered := true
	if ids := message.GetSigningKeyIds(); len(ids) > 0 {
		remembered = f.keys.remove(ids)
	}
	if !remembered || f.revoked.len() > maxRevoked {
		f.heard = time.Time{} // what is known is incomplete
		return errors.New("more is revoked than can be remembered; tokens are not verified locally")
	}
	f.heard, f.revision = now, max(f.revision, message.GetRevision())
	close(f.changed)
	f.changed = make(chan struct{})
	return nil
}
