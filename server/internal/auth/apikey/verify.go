package apikey

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/clock"
	"github.com/tollgatehq/tollgate/server/internal/database"
)

const (
	knownKeys  = 50_000 // how many keys, and ids of no key, are remembered
	maxUses    = 10_000 // how many uses wait to be written
	usesAtOnce = 250    // how many one transaction writes
	useEvery   = time.Minute
)

// knownKey is a key as read from the database.
type knownKey struct {
	id      string
	userID  string
	hash    []byte
	scopes  []string
	expires time.Time
	revoked time.Time
	used    atomic.Int64 // microseconds: when its use was last recorded
}

// Verify says whether a key is good now, whose it is and what it is narrowed
// to. What is wrong with it is said only to a caller who has the whole key. An
// error means that it could not be looked up. The scopes are shared: do not
// change them. Whether the owner exists and is enabled is not checked.
func (s *Service) Verify(ctx context.Context, key string) (*caller.Principal, caller.Reason, error) {
	id, ok := parse(key)
	if !ok {
		return nil, caller.ReasonCredentialInvalid, nil
	}
	known, err := s.get(ctx, id)
	if err != nil {
		return nil, "", err
	}
	hash := sha256.Sum256([]byte(key))
	if known == nil || subtle.ConstantTimeCompare(hash[:], known.hash) != 1 {
		return nil, caller.ReasonCredentialInvalid, nil
	}
	return s.verify(known)
}

// VerifyID is Verify for a caller who has an access token of the key.
func (s *Service) VerifyID(ctx context.Context, id string) (*caller.Principal, caller.Reason, error) {
	known, err := s.get(ctx, id)
	if err != nil {
		return nil, "", err
	}
	if known == nil { // deleted with its owner
		return nil, caller.ReasonCredentialRevoked, nil
	}
	return s.verify(known)
}

func (s *Service) get(ctx context.Context, id string) (*knownKey, error) {
	known, err := s.known.Get(ctx, id, func(ctx context.Context) (*knownKey, error) { return getKnownKey(ctx, s.db, id) })
	if err != nil {
		return nil, fmt.Errorf("look up API key %q: %w", id, err)
	}
	return known, nil
}

func (s *Service) verify(key *knownKey) (*caller.Principal, caller.Reason, error) {
	now := s.clock.Now()
	switch {
	case !key.revoked.IsZero():
		return nil, caller.ReasonCredentialRevoked, nil
	case clock.Reached(key.expires, now):
		return nil, caller.ReasonCredentialExpired, nil
	}
	s.uses.record(key, now)
	return &caller.Principal{
		UserID: key.userID, APIKeyID: key.id, Scopes: key.scopes, ExpiresAt: key.expires, KeyExpiresAt: key.expires,
	}, caller.ReasonOK, nil
}

// Forget makes the next Verify read a key anew.
func (s *Service) Forget(id string) { s.known.Invalidate(id) }

// ForgetAll makes every Verify read its key anew.
func (s *Service) ForgetAll() { s.known.Clear() }

// uses are the uses of keys that are to be written.
type uses struct {
	mu sync.Mutex
	at map[string]int64 // key id -> microseconds
}

// record keeps a use for the next FlushLastUsed, if the last one is a minute
// ago. When too many uses wait, it is left for a later call.
func (u *uses) record(key *knownKey, now time.Time) {
	at, last := now.UnixMicro(), key.used.Load()
	if at-last < useEvery.Microseconds() || !key.used.CompareAndSwap(last, at) {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if _, waiting := u.at[key.id]; waiting || len(u.at) < maxUses {
		u.at[key.id] = at
		return
	}
	key.used.Store(last)
}

// FlushLastUsed writes when keys were last used. Call it every few seconds and
// at the end. After an error the next call tries again.
func (s *Service) FlushLastUsed(ctx context.Context) error {
	u := &s.uses
	u.mu.Lock()
	used := u.at
	u.at = map[string]int64{}
	u.mu.Unlock()
	// In parts, so that a slow database writes each in time.
	for part := range slices.Chunk(slices.Sorted(maps.Keys(used)), usesAtOnce) {
		err := s.db.Write(ctx, func(ctx context.Context, tx *database.Tx) error {
			return updateLastUsed(ctx, tx, part, used)
		})
		if err != nil {
			u.putBack(used)
			return fmt.Errorf("write when API keys were last used: %w", err)
		}
		for _, id := range part {
			delete(used, id)
		}
	}
	return nil
}

// putBack keeps uses for the next flush, as many as may wait.
func (u *uses) putBack(used map[string]int64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for id, at := range used {
		if len(u.at) >= maxUses {
			return
		}
		u.at[id] = max(at, u.at[id])
	}
}
