package auth

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/tollgatehq/tollgate/internal/jose"
	"github.com/tollgatehq/tollgate/server/internal/changes"
	"github.com/tollgatehq/tollgate/server/internal/fault"
)

const (
	// watcherBuffer is how many batches of revocations may wait for a watcher.
	watcherBuffer = 64
	// tellEvery is how often a watcher hears that nothing was revoked.
	tellEvery = 500 * time.Millisecond
	// tellWithin is how recent our own knowledge must be to say so.
	tellWithin = 900 * time.Millisecond
)

// Revoked is what access tokens not to accept, and, for users who were enabled
// again, what to accept again.
type Revoked struct {
	Sessions    []string
	APIKeys     []string
	Users       []string // disabled or deleted
	Restored    []string // users who may be let in again
	SigningKeys []string // removed, by their "kid"
	Snapshot    bool     // it is everything, and replaces what was told before
	Revision    int64    // everything up to this revision of the change log is told; 0: no news of that
}

func (r Revoked) empty() bool {
	return len(r.Sessions)+len(r.APIKeys)+len(r.Users)+len(r.Restored)+len(r.SigningKeys) == 0
}

// revocations hands what Apply learns to those who watch.
type revocations struct {
	mu       sync.Mutex
	watchers map[chan Revoked]struct{}
}

func (r *revocations) watched() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.watchers) > 0
}

func (r *revocations) join() chan Revoked {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.watchers == nil {
		r.watchers = map[chan Revoked]struct{}{}
	}
	watcher := make(chan Revoked, watcherBuffer)
	r.watchers[watcher] = struct{}{}
	return watcher
}

func (r *revocations) leave(watcher chan Revoked) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, joined := r.watchers[watcher]; joined {
		delete(r.watchers, watcher)
		close(watcher)
	}
}

// tell passes a batch on. A watcher that is too far behind is let go: it
// connects again and gets a snapshot.
func (r *revocations) tell(batch Revoked) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for watcher := range r.watchers {
		select {
		case watcher <- batch:
		default:
			delete(r.watchers, watcher)
			close(watcher)
		}
	}
}

// tellRevocations finds out what changes mean for tokens that are verified
// elsewhere, and tells those who watch. Like Apply, which calls it, it may be
// called again with the same changes.
func (s *Service) tellRevocations(ctx context.Context, list []changes.Change) error {
	if !s.revocations.watched() {
		return nil
	}
	var batch Revoked
	var keys, users, signing []string
	for _, c := range list {
		switch c.Kind {
		case changes.Session:
			batch.Sessions = append(batch.Sessions, c.Subject)
		case changes.APIKey:
			keys = append(keys, c.Subject)
		case changes.User:
			users = append(users, c.Subject)
		case changes.SigningKey:
			signing = append(signing, c.Subject)
		}
	}
	for _, id := range signing {
		live, err := signingKeyLive(ctx, s.db, id, s.clock.Now())
		if err != nil {
			return err
		}
		if !live {
			batch.SigningKeys = append(batch.SigningKeys, id)
		}
	}
	for _, id := range keys {
		revoked, err := apiKeyRevoked(ctx, s.db, id)
		if err != nil {
			return err
		}
		if revoked {
			batch.APIKeys = append(batch.APIKeys, id)
		}
	}
	for _, id := range users {
		enabled, err := userEnabled(ctx, s.db, id)
		switch {
		case err != nil:
			return err
		case enabled:
			batch.Restored = append(batch.Restored, id)
		default:
			batch.Users = append(batch.Users, id)
		}
	}
	if !batch.empty() {
		s.revocations.tell(batch)
	}
	return nil
}

// WatchRevocations sends everything that is revoked and not yet expired, then
// each revocation as this instance learns of it, and, at least every second,
// that there was none. It falls silent while this instance cannot know, and
// returns when ctx ends (with its cause), when send fails, or when the watcher
// is too slow (Unavailable).
func (s *Service) WatchRevocations(ctx context.Context, send func(Revoked) error) error {
	// Join first: what is revoked from here on is told twice rather than never.
	watcher := s.revocations.join()
	defer s.revocations.leave(watcher)
	if err := s.log.Sync(ctx); err != nil {
		return fault.Down("the database", err)
	}
	revision := s.log.Revision()
	snapshot, err := s.revoked(ctx)
	if err != nil {
		return fmt.Errorf("read what is revoked: %w", err)
	}
	snapshot.Snapshot, snapshot.Revision = true, revision
	if err := send(snapshot); err != nil {
		return err
	}

	ticker := time.NewTicker(tellEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case batch, open := <-watcher:
			if !open {
				return fault.New(fault.Unavailable, "WATCHER_TOO_SLOW", "revocations came faster than they were read; connect again").
					After(time.Second)
			}
			if err := send(batch); err != nil {
				return err
			}
		case <-ticker.C:
			// The revision is read before the channel: what is applied by then
			// is in the channel or was sent.
			revision := s.log.Revision()
			if s.log.Lag() > tellWithin || len(watcher) > 0 {
				continue
			}
			if err := send(Revoked{Revision: revision}); err != nil {
				return err
			}
		}
	}
}

// revoked reads everything that is revoked while access tokens of before may
// still live.
func (s *Service) revoked(ctx context.Context) (Revoked, error) {
	since := s.clock.Now().Add(-s.accessTokenTTL - jose.ClockSkew).UnixMicro()
	var all Revoked
	sessions, err := endedSince(ctx, s.db, since)
	if err != nil {
		return Revoked{}, err
	}
	for _, row := range sessions {
		all.Sessions = append(all.Sessions, row.ID)
	}
	if all.APIKeys, err = apiKeysRevokedSince(ctx, s.db, since); err != nil {
		return Revoked{}, err
	}
	if all.Users, err = usersGoneSince(ctx, s.db, since); err != nil {
		return Revoked{}, err
	}
	// For as long as they are listed: who has a leaked key can sign tokens that
	// have just begun.
	if all.SigningKeys, err = signingKeysRemoved(ctx, s.db, s.clock.Now()); err != nil {
		return Revoked{}, err
	}
	return all, nil
}
