package apikey

import (
	"context"
	"fmt"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/audit"
	"github.com/tollgatehq/tollgate/server/internal/auth/authority"
	"github.com/tollgatehq/tollgate/server/internal/changes"
	"github.com/tollgatehq/tollgate/server/internal/clock"
	"github.com/tollgatehq/tollgate/server/internal/fault"
)

// maxOverlap is how long a key may work besides the one that replaced it.
const maxOverlap = 7 * 24 * time.Hour

// Rotated is the outcome of a rotation.
type Rotated struct {
	Created
	Replaced Key // with the time when it ends, or ended
}

// Rotate issues a key with the owner, name, scopes and expiry of another and
// ends that one after the overlap, or at once without one: it never lives
// longer than it would have. Both happen or neither. A key is rotated once; its
// successor can be rotated in turn. The caller needs what Create and Revoke of
// these keys need (Denied, GRANT_EXCEEDS_OWN), but that people rotate a key of
// their own though they will not hold all of it until its end. Other errors:
// NotFound for an unknown key; Precondition for one that has ended, was rotated
// before, or whose owner is disabled or has 100 live keys.
func (s *Service) Rotate(ctx context.Context, id string, overlap time.Duration) (out Rotated, err error) {
	if overlap < 0 || overlap > maxOverlap {
		return Rotated{}, fault.Field("overlap", "must be from 0s to %s", maxOverlap)
	}
	revision, err := s.log.Write(ctx, func(ctx context.Context, tx *changes.Tx) (err error) {
		out, err = s.rotate(ctx, tx, id, overlap)
		return err
	})
	if err != nil {
		return Rotated{}, fmt.Errorf("rotate API key %q: %w", id, err)
	}
	out.Revision = revision
	return out, nil
}

// rotate is Rotate in its transaction. The owner is locked, which keeps the
// key's expiry as it is: only a rotation changes that.
func (s *Service) rotate(ctx context.Context, tx *changes.Tx, id string, overlap time.Duration) (Rotated, error) {
	old, owner, err := lockKey(ctx, tx, id)
	if err != nil {
		return Rotated{}, err
	}
	if err := authority.Standing(ctx, tx); err != nil {
		return Rotated{}, err
	}
	now := s.clock.Stored()
	until := old.ExpiresAt
	if authority.IsSelf(ctx, owner.ID) { // the key gives people what they have anyway, while they have it
		until = now
	}
	if err := s.authority.MayCreateKey(ctx, tx, owner, old.Scopes, until); err != nil {
		return Rotated{}, err
	}
	if err := s.authority.MayRevokeKey(ctx, tx, owner.ID, old.Scopes); err != nil {
		return Rotated{}, err
	}
	if owner.DisabledAt != nil {
		return Rotated{}, ownerDisabled()
	}
	if err := rotatable(old, now); err != nil {
		return Rotated{}, err
	}
	key, replaced := old, old
	key.ID, key.CreatedAt, key.LastUsedAt = randomBase62(idSize), now, time.Time{}
	key.setCreator(ctx)
	if ends := now.Add(overlap); overlap == 0 {
		replaced.RevokedAt = now
	} else if !clock.Reached(replaced.ExpiresAt, ends) {
		replaced.ExpiresAt = ends
	}
	replaced.replacedBy = key.ID
	if err := updateReplaced(ctx, tx, replaced); err != nil {
		return Rotated{}, err
	}
	if err := checkCount(ctx, tx, owner.ID, now); err != nil {
		return Rotated{}, err
	}
	secret, hash := newSecret(key.ID)
	if err := insertKey(ctx, tx, key, hash); err != nil {
		return Rotated{}, err
	}
	tx.Record(audit.New(ctx, audit.APIKeyRotate, audit.Success, "api_keys/"+id).
		With("owner", owner.ID).With("name", key.Name).With("new_key", key.ID).With("overlap", overlap.String()))
	tx.Changed(changes.APIKey, id)
	tx.Changed(changes.APIKey, key.ID)
	return Rotated{Created: Created{Key: key, Secret: secret}, Replaced: replaced}, nil
}

// rotatable says why a key cannot be rotated.
func rotatable(key Key, now time.Time) error {
	switch {
	case key.replacedBy != "":
		return fault.New(fault.Precondition, "API_KEY_ROTATED", "the key was rotated before; rotate its successor %s", key.replacedBy)
	case !key.RevokedAt.IsZero():
		return fault.New(fault.Precondition, "API_KEY_REVOKED", "the key is revoked; create a new one")
	case clock.Reached(key.ExpiresAt, now):
		return fault.New(fault.Precondition, "API_KEY_EXPIRED", "the key has expired; create a new one")
	}
	return nil
}
