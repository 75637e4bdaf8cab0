package auth

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/tollgatehq/tollgate/server/internal/audit"
	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/changes"
	"github.com/tollgatehq/tollgate/server/internal/database"
	"github.com/tollgatehq/tollgate/server/internal/fault"
	"github.com/tollgatehq/tollgate/server/internal/page"
)

const (
	maxLiveKeys = 100    // of one user
	knownKeys   = 50_000 // how many keys, and ids of no key, are remembered
	usedKeys    = 10_000 // how many uses wait to be written
	usedAtOnce  = 250    // how many one transaction writes
	usedEvery   = time.Minute
)

// APIKey is what is known about a key. Times that are zero are unset.
type APIKey struct {
	ID         string // the key's public part
	UserID     string // whom it acts as
	Name       string
	Scopes     []string // what it is narrowed to, sorted; empty: all its owner's permissions
	CreatedAt  time.Time
	ExpiresAt  time.Time
	LastUsedAt time.Time // within a minute or so
	RevokedAt  time.Time

	CreatedBy    string // user id; empty: not known, or the system
	CreatedByKey string // id of the API key that it was created with; empty: none
}

// NewAPIKey describes a key to make.
type NewAPIKey struct {
	UserID    string // empty: the caller
	Name      string
	Scopes    []string  // permission patterns; empty: all that the owner holds at the time of use
	ExpiresAt time.Time // zero: never
}

// apiKeys is what an instance remembers about keys.
type apiKeys struct {
	known *changes.Cache[string, *knownKey] // by id; nil: there is no such key

	mu   sync.Mutex
	used map[string]int64 // key id -> microseconds, to be written
}

// knownKey is a key as read from the database.
type knownKey struct {
	id      string
	userID  string
	hash    []byte
	scopes  []string
	expires time.Time
	revoked time.Time
	used    atomic.Int64 // microseconds: when its use was last noted
}

func newAPIKeys() *apiKeys {
	return &apiKeys{known: changes.NewCache[string, *knownKey](knownKeys), used: map[string]int64{}}
}

// CreateAPIKey issues a key. The secret is returned here and stored nowhere.
// The caller must hold everything that the key may do until it expires, and a
// caller whose own key has scopes must give the new one scopes. A key for
// another person takes somebody who may manage users and holds all that the
// person holds. Each otherwise is Denied, GRANT_EXCEEDS_OWN. Other errors:
// NotFound for an unknown owner; Precondition for a disabled one, or one who has
// 100 live keys.
func (s *Service) CreateAPIKey(ctx context.Context, in NewAPIKey) (key APIKey, secret string, revision int64, err error) {
	key, err = s.newAPIKey(ctx, in)
	if err != nil {
		return APIKey{}, "", 0, err
	}
	secret = newSecret(key.ID)
	hash := sha256.Sum256([]byte(secret))
	revision, err = s.log.Write(ctx, func(ctx context.Context, tx *changes.Tx) error {
		owner, err := lockOwner(ctx, tx, key.UserID)
		if err != nil {
			return err
		}
		if err := s.stands(ctx, tx); err != nil {
			return err
		}
		if err := s.mayCreate(ctx, tx, key, owner.Kind, key.ExpiresAt); err != nil {
			return err
		}
		if owner.DisabledAt != nil {
			return ownerDisabled()
		}
		if err := roomForKey(ctx, tx, key.UserID, key.CreatedAt); err != nil {
			return err
		}
		if err := insertAPIKey(ctx, tx, key, hash[:]); err != nil {
			return err
		}
		event := audit.New(ctx, audit.APIKeyCreate, audit.Success, "api_keys/"+key.ID).
			With("owner", key.UserID).With("name", key.Name).With("scopes", strings.Join(key.Scopes, " "))
		if !key.ExpiresAt.IsZero() {
			event = event.With("expires_at", key.ExpiresAt.Format(time.RFC3339))
		}
		tx.Record(event)
		tx.Changed(changes.APIKey, key.ID)
		return nil
	})
	if err != nil {
		return APIKey{}, "", 0, fmt.Errorf("create API key of user %q: %w", key.UserID, err)
	}
	return key, secret, revision, nil
}

// lockOwner makes keys of one owner wait for each other until the commit, so
// that counts of them are right, and has the owner stay and hold no more.
func lockOwner(ctx context.Context, q database.Queries, userID string) (userRow, error) {
	owner, err := lockUser(ctx, q, userID)
	if fault.Is(err, fault.NotFound) {
		return userRow{}, fault.New(fault.NotFound, "USER_NOT_FOUND", "there is no user %q to own the key", userID)
	}
	return owner, err
}

func ownerDisabled() error {
	return fault.New(fault.Precondition, "USER_DISABLED", "the owner is disabled; enable the user first")
}

// roomForKey refuses a key for a locked owner who has as many as there may be.
func roomForKey(ctx context.Context, q database.Queries, userID string, now time.Time) error {
	live, err := countLiveKeys(ctx, q, userID, now)
	if err != nil {
		return err
	}
	if live >= maxLiveKeys {
		return fault.New(fault.Precondition, "TOO_MANY_API_KEYS",
			"the user has %d live keys, which is the most; revoke one that is no longer used", live)
	}
	return nil
}

// creator is who makes a key: a user id, and the id of the API key that makes
// the call; empty for the system and for a person's access token.
func creator(ctx context.Context) (userID, keyID string) {
	if p := caller.From(ctx).Principal; p != nil {
		return p.UserID, p.APIKeyID
	}
	return "", ""
}

// newAPIKey checks what was asked for.
func (s *Service) newAPIKey(ctx context.Context, in NewAPIKey) (APIKey, error) {
	now := s.clock.Now()
	key := APIKey{
		ID: randomBase62(keyIDSize), UserID: in.UserID, Name: strings.TrimSpace(in.Name),
		CreatedAt: now.UTC().Truncate(time.Microsecond),
	}
	key.CreatedBy, key.CreatedByKey = creator(ctx)
	if key.UserID == "" {
		key.UserID = caller.From(ctx).UserID()
	}
	if key.UserID == "" {
		return APIKey{}, fault.Field("userId", "say whom the key acts as")
	}
	if key.Name == "" || len(key.Name) > 512 || !utf8.ValidString(key.Name) || strings.ContainsFunc(key.Name, unicode.IsControl) {
		return APIKey{}, fault.Field("name", "must be 1 to 128 characters, none of them a control character")
	}
	for i, scope := range in.Scopes {
		if err := s.roles.CheckPattern(fmt.Sprintf("scopes[%d]", i), scope); err != nil {
			return APIKey{}, err
		}
	}
	key.Scopes = slices.Compact(slices.Sorted(slices.Values(in.Scopes)))
	if !in.ExpiresAt.IsZero() {
		if !in.ExpiresAt.After(now) {
			return APIKey{}, fault.Field("expiresAt", "must be in the future")
		}
		key.ExpiresAt = in.ExpiresAt.UTC().Truncate(time.Microsecond)
	}
	return key, nil
}

// ListAPIKeys returns a page of the keys of one user, or of everybody when
// userID is empty, in the order of their creation, revoked ones too.
func (s *Service) ListAPIKeys(ctx context.Context, userID string, pageSize int32, pageToken string) ([]APIKey, string, error) {
	list, size := "api_keys/"+userID, page.Size(pageSize)
	var after keyPlace
	if _, err := s.pages.Read(pageToken, list, &after); err != nil {
		return nil, "", err
	}
	keys, err := selectAPIKeys(ctx, s.db, userID, after, size+1)
	if err != nil {
		return nil, "", fmt.Errorf("list API keys: %w", err)
	}
	if len(keys) <= size {
		return keys, "", nil
	}
	keys = keys[:size]
	last := keys[size-1]
	return keys, s.pages.Make(list, keyPlace{CreatedAt: last.CreatedAt.UnixMicro(), ID: last.ID}), nil
}

// RevokeAPIKey stops a key for good; the revision is one at which it is
// stopped. Revoking a revoked key is no error. Another user's key needs that
// the caller holds all that its owner holds, and a key ends only those of its
// owner that may do no more than it (Denied, GRANT_EXCEEDS_OWN).
func (s *Service) RevokeAPIKey(ctx context.Context, id string) (revision int64, err error) {
	if !isBase62(id, keyIDSize) {
		return 0, keyUnknown()
	}
	var revoked bool
	revision, err = s.log.Write(ctx, func(ctx context.Context, tx *changes.Tx) error {
		key, _, err := lockKey(ctx, tx, id)
		if err != nil {
			return err
		}
		if err := s.mayEnd(ctx, tx, key.APIKey); err != nil {
			return err
		}
		if revoked, err = revokeAPIKey(ctx, tx, id, s.clock.Now()); err != nil || !revoked {
			return err
		}
		tx.Record(audit.New(ctx, audit.APIKeyRevoke, audit.Success, "api_keys/"+id).With("owner", key.UserID))
		tx.Changed(changes.APIKey, id)
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("revoke API key %q: %w", id, err)
	}
	if !revoked {
		// Somebody did before, perhaps on an instance that we lag behind.
		if err := s.log.Sync(ctx); err != nil {
			return 0, fault.Down("the database", err)
		}
		revision = s.log.Revision()
	}
	return revision, nil
}

// revokeAllKeys revokes a locked user's keys in a transaction, with an event
// for each, and returns how many had not ended.
func (s *Service) revokeAllKeys(ctx context.Context, tx *changes.Tx, userID string) (int, error) {
	ids, err := revokeKeysOf(ctx, tx, userID, s.clock.Now())
	if err != nil {
		return 0, err
	}
	for _, id := range ids {
		tx.Record(audit.New(ctx, audit.APIKeyRevoke, audit.Success, "api_keys/"+id).
			With("owner", userID).With("because", "password"))
		tx.Changed(changes.APIKey, id)
	}
	return len(ids), nil
}

// verifyAPIKey says whether a key is good now, whose it is and what it is
// narrowed to. What is wrong with it is told only to who has the whole key. An
// error means that it could not be looked up. The scopes are shared: do not
// change them. Whether the owner is there and enabled is not looked at.
func (s *Service) verifyAPIKey(ctx context.Context, key string) (userID, keyID string, scopes []string, expires time.Time, reason caller.Reason, err error) {
	refuse := func(reason caller.Reason, err error) (string, string, []string, time.Time, caller.Reason, error) {
		return "", "", nil, time.Time{}, reason, err
	}
	id, ok := parseAPIKey(key)
	if !ok {
		return refuse(caller.ReasonCredentialInvalid, nil)
	}
	known, err := s.apiKeys.known.Get(ctx, id, func(ctx context.Context) (*knownKey, error) {
		return selectKnownKey(ctx, s.db, id)
	})
	if err != nil {
		return refuse("", fmt.Errorf("look up API key %q: %w", id, err))
	}
	hash, now := sha256.Sum256([]byte(key)), s.clock.Now()
	switch {
	case known == nil, subtle.ConstantTimeCompare(hash[:], known.hash) != 1:
		return refuse(caller.ReasonCredentialInvalid, nil)
	case !known.revoked.IsZero():
		return refuse(caller.ReasonCredentialRevoked, nil)
	case passed(known.expires, now):
		return refuse(caller.ReasonCredentialExpired, nil)
	}
	s.apiKeys.note(known, now)
	return known.userID, id, known.scopes, known.expires, caller.ReasonOK, nil
}

// note has a use written by the next FlushLastUsed, if the last one is a
// minute ago. When too many uses wait, it is left for a later call.
func (a *apiKeys) note(key *knownKey, now time.Time) {
	at, last := now.UnixMicro(), key.used.Load()
	if at-last < usedEvery.Microseconds() || !key.used.CompareAndSwap(last, at) {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, waiting := a.used[key.id]; waiting || len(a.used) < usedKeys {
		a.used[key.id] = at
		return
	}
	key.used.Store(last)
}

// FlushLastUsed writes when keys were last used. Call it every few seconds and
// at the end; nobody waits for it. After an error the next call tries again.
func (s *Service) FlushLastUsed(ctx context.Context) error {
	a := s.apiKeys
	a.mu.Lock()
	used := a.used
	a.used = map[string]int64{}
	a.mu.Unlock()
	// In parts, so that a slow database writes each in time.
	for part := range slices.Chunk(slices.Sorted(maps.Keys(used)), usedAtOnce) {
		err := s.db.Write(ctx, func(ctx context.Context, tx *database.Tx) error {
			return updateLastUsed(ctx, tx, part, used, usedEvery)
		})
		if err != nil {
			a.putBack(used)
			return fmt.Errorf("write when API keys were last used: %w", err)
		}
		for _, id := range part {
			delete(used, id)
		}
	}
	return nil
}

// putBack has uses wait for the next flush, as far as there is room.
func (a *apiKeys) putBack(used map[string]int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for id, at := range used {
		if len(a.used) >= usedKeys {
			return
		}
		a.used[id] = max(at, a.used[id])
	}
}
