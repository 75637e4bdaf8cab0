// Package apikey makes, rotates, revokes and verifies API keys.
package apikey

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/tollgatehq/tollgate/server/internal/audit"
	"github.com/tollgatehq/tollgate/server/internal/auth/authority"
	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/changes"
	"github.com/tollgatehq/tollgate/server/internal/clock"
	"github.com/tollgatehq/tollgate/server/internal/database"
	"github.com/tollgatehq/tollgate/server/internal/fault"
	"github.com/tollgatehq/tollgate/server/internal/page"
	"github.com/tollgatehq/tollgate/server/internal/roles"
)

// maxLive is how many live keys a user may have.
const maxLive = 100

// Key describes a key. Times that are zero are unset.
type Key struct {
	ID         string // the key's public part
	UserID     string // the user it acts as
	Name       string
	Scopes     []string // what it is narrowed to, sorted; empty: all its owner's permissions
	CreatedAt  time.Time
	ExpiresAt  time.Time
	LastUsedAt time.Time // within a minute or so
	RevokedAt  time.Time

	CreatedBy    string // user id; empty: unknown, or the system
	CreatedByKey string // id of the API key that it was created with; empty: none

	replacedBy string // id of the key that it was rotated to
}

// New describes a key to make.
type New struct {
	UserID    string // empty: the caller
	Name      string
	Scopes    []string  // permission patterns; empty: all that the owner holds at the time of use
	ExpiresAt time.Time // zero: never
}

// Created is a new key. Its secret is stored nowhere.
type Created struct {
	Key      Key
	Secret   string
	Revision int64
}

// Service is safe for concurrent use.
type Service struct {
	db        *database.DB
	log       *changes.Log
	roles     *roles.Service
	authority *authority.Authority
	clock     clock.Clock
	pages     page.Tokens
	known     *changes.Cache[string, *knownKey] // by id; nil: there is no such key
	uses      uses
}

// NewService makes a Service.
func NewService(db *database.DB, log *changes.Log, r *roles.Service, a *authority.Authority, clk clock.Clock, pages page.Tokens) *Service {
	return &Service{
		db: db, log: log, roles: r, authority: a, clock: clk, pages: pages,
		known: changes.NewCache[string, *knownKey](knownKeys), uses: uses{at: map[string]int64{}},
	}
}

// Create issues a key. The caller must hold everything that the key may do
// until it expires, and a caller whose own key has scopes must give the new one
// scopes. A key for another person takes a caller who may manage users and
// holds all that the person holds. Each otherwise is Denied,
// GRANT_EXCEEDS_OWN. Other errors: NotFound for an unknown owner; Precondition
// for a disabled one, or one who has 100 live keys.
func (s *Service) Create(ctx context.Context, in New) (Created, error) {
	key, err := s.newKey(ctx, in)
	if err != nil {
		return Created{}, err
	}
	secret, hash := newSecret(key.ID)
	revision, err := s.log.Write(ctx, func(ctx context.Context, tx *changes.Tx) error {
		owner, err := authority.Lock(ctx, tx, key.UserID)
		if fault.Is(err, fault.NotFound) {
			return fault.New(fault.NotFound, "USER_NOT_FOUND", "there is no user %q to own the key", key.UserID)
		}
		if err != nil {
			return err
		}
		if err := authority.Standing(ctx, tx); err != nil {
			return err
		}
		if err := s.authority.MayCreateKey(ctx, tx, owner, key.Scopes, key.ExpiresAt); err != nil {
			return err
		}
		if owner.DisabledAt != nil {
			return ownerDisabled()
		}
		if err := checkCount(ctx, tx, key.UserID, key.CreatedAt); err != nil {
			return err
		}
		event := audit.New(ctx, audit.APIKeyCreate, audit.Success, "api_keys/"+key.ID).
			With("owner", key.UserID).With("name", key.Name).With("scopes", strings.Join(key.Scopes, " "))
		if !key.ExpiresAt.IsZero() {
			event = event.With("expires_at", key.ExpiresAt.Format(time.RFC3339))
		}
		tx.Record(event)
		tx.Changed(changes.APIKey, key.ID)
		return insertKey(ctx, tx, key, hash)
	})
	if err != nil {
		return Created{}, fmt.Errorf("create API key of user %q: %w", key.UserID, err)
	}
	return Created{Key: key, Secret: secret, Revision: revision}, nil
}

func ownerDisabled() error {
	return fault.New(fault.Precondition, "USER_DISABLED", "the owner is disabled; enable the user first")
}

// checkCount refuses another key for a locked owner who has as many as allowed.
func checkCount(ctx context.Context, q database.Queries, userID string, now time.Time) error {
	live, err := countLiveKeys(ctx, q, userID, now)
	if err != nil {
		return err
	}
	if live >= maxLive {
		return fault.New(fault.Precondition, "TOO_MANY_API_KEYS",
			"the user has %d live keys and may have no more; revoke one that is no longer used", live)
	}
	return nil
}

// setCreator names who makes a key; empty for the system.
func (k *Key) setCreator(ctx context.Context) {
	k.CreatedBy, k.CreatedByKey = "", ""
	if p := caller.From(ctx).Principal; p != nil {
		k.CreatedBy, k.CreatedByKey = p.UserID, p.APIKeyID
	}
}

// newKey checks what was asked for.
func (s *Service) newKey(ctx context.Context, in New) (Key, error) {
	now := s.clock.Stored()
	key := Key{
		ID: randomBase62(idSize), UserID: in.UserID, Name: strings.TrimSpace(in.Name),
		CreatedAt: now,
	}
	key.setCreator(ctx)
	if key.UserID == "" {
		key.UserID = caller.From(ctx).UserID()
	}
	if key.UserID == "" {
		return Key{}, fault.Field("userId", "is required: the user that the key acts as")
	}
	if key.Name == "" || len(key.Name) > 512 || !utf8.ValidString(key.Name) || strings.ContainsFunc(key.Name, unicode.IsControl) {
		return Key{}, fault.Field("name", "must be 1 to 128 characters, none of them a control character")
	}
	for i, scope := range in.Scopes {
		if err := s.roles.CheckPattern(fmt.Sprintf("scopes[%d]", i), scope); err != nil {
			return Key{}, err
		}
	}
	key.Scopes = slices.Compact(slices.Sorted(slices.Values(in.Scopes)))
	if !in.ExpiresAt.IsZero() {
		if !in.ExpiresAt.After(now) {
			return Key{}, fault.Field("expiresAt", "must be in the future")
		}
		key.ExpiresAt = in.ExpiresAt.UTC().Truncate(time.Microsecond)
	}
	return key, nil
}

// List returns a page of the keys of one user, or of all users when userID is
// empty, in the order of their creation, revoked ones too.
func (s *Service) List(ctx context.Context, userID string, size int32, token string) ([]Key, string, error) {
	return page.List(s.pages, "api_keys/"+userID, size, token, func(after cursor, n int) ([]Key, error) {
		return listKeys(ctx, s.db, userID, after, n)
	}, func(key Key) cursor { return cursor{CreatedAt: key.CreatedAt.UnixMicro(), ID: key.ID} })
}

// Revoke stops a key for good; the revision is one at which it is stopped.
// Revoking a revoked key is no error. Another user's key takes a caller who
// holds all that its owner holds, and a key revokes only those of its owner
// that may do no more than it (Denied, GRANT_EXCEEDS_OWN).
func (s *Service) Revoke(ctx context.Context, id string) (revision int64, err error) {
	var revoked bool
	revision, err = s.log.Write(ctx, func(ctx context.Context, tx *changes.Tx) error {
		key, owner, err := lockKey(ctx, tx, id)
		if err != nil {
			return err
		}
		if err := s.authority.MayRevokeKey(ctx, tx, owner.ID, key.Scopes); err != nil {
			return err
		}
		if revoked, err = updateRevoked(ctx, tx, id, s.clock.Now()); err != nil || !revoked {
			return err
		}
		tx.Record(audit.New(ctx, audit.APIKeyRevoke, audit.Success, "api_keys/"+id).With("owner", owner.ID))
		tx.Changed(changes.APIKey, id)
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("revoke API key %q: %w", id, err)
	}
	if !revoked {
		return s.log.Current(ctx)
	}
	return revision, nil
}

// RevokeAll revokes a locked user's keys in a transaction, with an event for
// each, and returns how many were live.
func (s *Service) RevokeAll(ctx context.Context, tx *changes.Tx, userID string) (int, error) {
	ids, err := updateAllRevoked(ctx, tx, userID, s.clock.Now())
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

// ListRevoked returns the ids of the keys that were revoked after a time.
func (s *Service) ListRevoked(ctx context.Context, since time.Time) ([]string, error) {
	return listRevokedKeys(ctx, s.db, since)
}

func keyUnknown() error {
	return fault.New(fault.NotFound, "API_KEY_NOT_FOUND", "there is no API key with this id; list the keys to find it")
}
