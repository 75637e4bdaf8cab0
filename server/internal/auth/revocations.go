package auth

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/tollgatehq/tollgate/internal/jose"
	"github.com/tollgatehq/tollgate/server/internal/changes"
	"github.com/tollgatehq/tollgate/server/internal/database"
)

// Revoked says which access tokens not to accept and, for users who were enabled
// again, which to accept again.
type Revoked struct {
	Sessions    []string
	Tokens      []string // of clients, by their "jti"
	APIKeys     []string
	Users       []string // disabled or deleted
	Restored    []string // users who may be let in again
	SigningKeys []string // removed, by their "kid"
	Snapshot    bool     // it is everything, and replaces what was sent before
	Revision    int64    // everything up to this revision of the change log was sent; 0: unknown
}

func (r Revoked) empty() bool {
	return len(r.Sessions)+len(r.Tokens)+len(r.APIKeys)+len(r.Users)+len(r.Restored)+len(r.SigningKeys) == 0
}

// sendRevocations finds out what changes mean for tokens that are verified
// elsewhere, and sends it to the watchers. Like Apply, which calls it, it may be
// called again with the same changes.
func (s *Service) sendRevocations(ctx context.Context, list []changes.Change) error {
	if !s.feed.Watched() {
		return nil
	}
	changed := map[changes.Kind][]string{}
	for _, c := range list {
		changed[c.Kind] = append(changed[c.Kind], c.Subject)
	}
	batch := Revoked{Sessions: changed[changes.Session], Tokens: changed[changes.Token]}
	var err error
	if ids := changed[changes.SigningKey]; len(ids) > 0 {
		if batch.SigningKeys, err = s.SigningKeys.ListRemoved(ctx); err != nil {
			return err
		}
		batch.SigningKeys = intersect(batch.SigningKeys, ids)
	}
	if ids := changed[changes.APIKey]; len(ids) > 0 {
		if batch.APIKeys, err = s.APIKeys.ListRevoked(ctx, s.horizon()); err != nil {
			return err
		}
		batch.APIKeys = intersect(batch.APIKeys, ids)
	}
	for _, id := range changed[changes.User] {
		// Not from the cache: another instance's change is why this is called.
		user, err := getUser(ctx, s.db, id)
		switch {
		case err == nil && user.DisabledAt == nil:
			batch.Restored = append(batch.Restored, id)
		case err == nil || errors.Is(err, database.ErrNoRows):
			batch.Users = append(batch.Users, id)
		default:
			return err
		}
	}
	if !batch.empty() {
		s.feed.Send(batch)
	}
	return nil
}

func intersect(a, b []string) []string {
	return slices.DeleteFunc(a, func(id string) bool { return !slices.Contains(b, id) })
}

// horizon is how far back a revocation matters: access tokens that were issued
// before have expired.
func (s *Service) horizon() time.Time { return s.clock.Now().Add(-s.accessTokenTTL - jose.ClockSkew) }

// expired is the end, in Unix microseconds, of tokens that have expired on every
// instance, however late its clock.
func (s *Service) expired() int64 { return s.clock.Now().Add(-jose.ClockSkew).UnixMicro() }

// WatchRevocations sends everything that is revoked and not yet expired, then
// each revocation as this instance learns of it, and, at least every second,
// that there was none. It sends nothing while this instance cannot know, and
// returns when ctx ends (with its cause), when send fails, or when the watcher
// is too slow (Unavailable).
func (s *Service) WatchRevocations(ctx context.Context, send func(Revoked) error) error {
	return s.feed.Watch(ctx, s.log, func(revision int64) error {
		snapshot, err := s.listRevoked(ctx)
		if err != nil {
			return fmt.Errorf("read what is revoked: %w", err)
		}
		snapshot.Snapshot, snapshot.Revision = true, revision
		return send(snapshot)
	}, send, func(revision int64) error { return send(Revoked{Revision: revision}) })
}

// listRevoked reads everything that was revoked while access tokens of before
// may still live.
func (s *Service) listRevoked(ctx context.Context) (all Revoked, err error) {
	since := s.horizon()
	sessions, err := listRevokedSessions(ctx, s.db, since.UnixMicro())
	if err != nil {
		return Revoked{}, err
	}
	for _, row := range sessions {
		all.Sessions = append(all.Sessions, row.ID)
	}
	tokens, err := listRevokedTokens(ctx, s.db, s.expired())
	if err != nil {
		return Revoked{}, err
	}
	for _, row := range tokens {
		all.Tokens = append(all.Tokens, row.ID)
	}
	if all.APIKeys, err = s.APIKeys.ListRevoked(ctx, since); err != nil {
		return Revoked{}, err
	}
	if all.Users, err = listGoneUsers(ctx, s.db, since.UnixMicro()); err != nil {
		return Revoked{}, err
	}
	// For as long as they are listed: an attacker with a leaked key can sign
	// tokens that have just begun.
	all.SigningKeys, err = s.SigningKeys.ListRemoved(ctx)
	return all, err
}

// revokedIDs are the sessions, and the client-credentials tokens, whose access
// tokens must be refused: those revoked within the lifetime of an access token.
type revokedIDs struct {
	mu     sync.RWMutex
	until  map[string]time.Time // id -> when its last access token has run out
	pruned time.Time
}

func (r *revokedIDs) has(id string) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	_, ok := r.until[id]
	return ok
}

// add remembers an id and, once a minute, forgets those of long ago.
func (r *revokedIDs) add(id string, until, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.until == nil {
		r.until = map[string]time.Time{}
	}
	r.until[id] = until
	if now.Sub(r.pruned) < time.Minute {
		return
	}
	r.pruned = now
	for id, until := range r.until {
		if until.Before(now) {
			delete(r.until, id)
		}
	}
}

func (r *revokedIDs) replace(until map[string]time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.until = until
}
