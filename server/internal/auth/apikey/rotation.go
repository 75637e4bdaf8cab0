package auth

import (
	"context"
	"crypto/sha256"
	"fmt"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/audit"
	"github.com/tollgatehq/tollgate/server/internal/changes"
	"github.com/tollgatehq/tollgate/server/internal/fault"
)

// maxOverlap is how long a key may work besides the one that replaced it.
const maxOverlap = 7 * 24 * time.Hour

// RotatedAPIKey is the outcome of a rotation.
type RotatedAPIKey struct {
	Key      APIKey
	Secret   string // of Key; stored nowhere
	Replaced APIKey // with the time when it ends, or ended
	Revision int64
}

// RotateAPIKey issues a key with the owner, name, scopes and expiry of another
// and ends that one after the overlap, or at once without one: it never lives
// longer than it would have. Both happen or neither. A key is rotated once; its
// successor can be rotated in turn. The caller needs what CreateAPIKey and
// RevokeAPIKey of these keys need (Denied, GRANT_EXCEEDS_OWN), but that people
// rotate a key of their own though they will not hold all of it until its end. Other errors:
// NotFound for an unknown key; Precondition for one that has ended, was rotated
// before, or whose owner is disabled or has 100 live keys.
func (s *Service) RotateAPIKey(ctx context.Context, id string, overlap time.Duration) (RotatedAPIKey, error) {
	if overlap < 0 || overlap > maxOverlap {
		return RotatedAPIKey{}, fault.Field("overlap", "must be from 0s to %s", maxOverlap)
	}
	if !isBase62(id, keyIDSize) {
		return RotatedAPIKey{}, keyUnknown()
	}
	var out RotatedAPIKey
	revision, err := s.log.Write(ctx, func(ctx context.Context, tx *changes.Tx) (err error) {
		out, err = s.rotateKey(ctx, tx, id, overlap)
		return err
	})
	if err != nil {
		return RotatedAPIKey{}, fmt.Errorf("rotate API key %q: %w", id, err)
	}
	out.Revision = revision
	return out, nil
}

// rotateKey is RotateAPIKey in its transaction. The owner is locked, which keeps
// the key's expiry as it is: only a rotation changes that.
func (s *Service) rotateKey(ctx context.Context, tx *changes.Tx, id string, overlap time.Duration) (RotatedAPIKey, error) {
	old, owner, err := lockKey(ctx, tx, id)
	if err != nil {
		return RotatedAPIKey{}, err
	}
	if err := s.stands(ctx, tx); err != nil {
		return RotatedAPIKey{}, err
	}
	until := old.ExpiresAt
	if isSelf(ctx, owner.ID) { // the key gives people what they have anyway, while they have it
		until = s.clock.Now()
	}
	if err := s.mayCreate(ctx, tx, old.APIKey, owner.Kind, until); err != nil {
		return RotatedAPIKey{}, err
	}
	if err := s.mayEnd(ctx, tx, old.APIKey); err != nil {
		return RotatedAPIKey{}, err
	}
	if owner.DisabledAt != nil {
		return RotatedAPIKey{}, ownerDisabled()
	}
	now := s.clock.Now().UTC().Truncate(time.Microsecond)
	if err := rotatable(old, now); err != nil {
		return RotatedAPIKey{}, err
	}
	key := old.APIKey
	key.ID, key.CreatedAt, key.LastUsedAt = randomBase62(keyIDSize), now, time.Time{}
	key.CreatedBy, key.CreatedByKey = creator(ctx)
	replaced := old.APIKey
	if ends := now.Add(overlap); overlap == 0 {
		replaced.RevokedAt = now
	} else if !passed(replaced.ExpiresAt, ends) {
		replaced.ExpiresAt = ends
	}
	did, err := replaceAPIKey(ctx, tx, replaced, key.ID)
	if err != nil {
		return RotatedAPIKey{}, err
	}
	if !did { // revoked just now
		return RotatedAPIKey{}, keyRevoked()
	}
	if err := roomForKey(ctx, tx, owner.ID, now); err != nil {
		return RotatedAPIKey{}, err
	}
	secret := newSecret(key.ID)
	hash := sha256.Sum256([]byte(secret))
	if err := insertAPIKey(ctx, tx, key, hash[:]); err != nil {
		return RotatedAPIKey{}, err
	}
	tx.Record(audit.New(ctx, audit.APIKeyRotate, audit.Success, "api_keys/"+id).
		With("owner", owner.ID).With("name", key.Name).With("new_key", key.ID).With("overlap", overlap.String()))
	tx.Changed(changes.APIKey, id)
	tx.Changed(changes.APIKey, key.ID)
	return RotatedAPIKey{Key: key, Secret: secret, Replaced: replaced}, nil
}

// rotatable says why a key cannot be rotated.
func rotatable(key storedAPIKey, now time.Time) error {
	switch {
	case key.replacedBy != "":
		return fault.New(fault.Precondition, "API_KEY_ROTATED", "the key was rotated before; rotate its successor %s", key.replacedBy)
	case !key.RevokedAt.IsZero():
		return keyRevoked()
	case passed(key.ExpiresAt, now):
		return fault.New(fault.Precondition, "API_KEY_EXPIRED", "the key has expired; create a new one")
	}
	return nil
}

func keyRevoked() error {
	return fault.New(fault.Precondition, "API_KEY_REVOKED", "the key is revoked; create a new one")
}

func keyUnknown() error {
	return fault.New(fault.NotFound, "API_KEY_NOT_FOUND", "there is no API key with this id; ListAPIKeys shows those that exist")
}
