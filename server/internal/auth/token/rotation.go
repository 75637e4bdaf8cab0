package auth

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/tollgatehq/tollgate/internal/jose"
	"github.com/tollgatehq/tollgate/server/internal/audit"
	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/changes"
	"github.com/tollgatehq/tollgate/server/internal/fault"
	"github.com/tollgatehq/tollgate/server/internal/seal"
)

// keepSigningKeyRows is how long removed keys are listed.
const keepSigningKeyRows = 30 * 24 * time.Hour

// KeyState is where a signing key is in its life. It follows from the key's
// times.
type KeyState string

// The states, in their order.
const (
	KeyPending  KeyState = "pending"  // published and not used yet
	KeyActive   KeyState = "active"   // signs
	KeyRetiring KeyState = "retiring" // signs no more; its tokens are good
	KeyRemoved  KeyState = "removed"  // its tokens are refused
)

// SigningKey is what may be told of a signing key.
type SigningKey struct {
	ID        string // RFC 7638 thumbprint
	Algorithm string
	State     KeyState // now
	CreatedAt time.Time
	ActiveAt  time.Time
	RetiredAt time.Time // zero: not known yet
	RemovedAt time.Time // zero: not known yet
}

func (r signingKeyRow) state(now time.Time) KeyState {
	switch {
	case passed(timeOf(r.RemovedAt), now):
		return KeyRemoved
	case passed(timeOf(r.RetiredAt), now):
		return KeyRetiring
	case now.Before(time.UnixMicro(r.ActiveAt)):
		return KeyPending
	default:
		return KeyActive
	}
}

func (r signingKeyRow) at(now time.Time) SigningKey {
	return SigningKey{
		ID: r.ID, Algorithm: r.Algorithm, State: r.state(now),
		CreatedAt: time.UnixMicro(r.CreatedAt).UTC(), ActiveAt: time.UnixMicro(r.ActiveAt).UTC(),
		RetiredAt: timeOf(r.RetiredAt), RemovedAt: timeOf(r.RemovedAt),
	}
}

// SigningKeys returns all signing keys but those removed more than 30 days
// ago, the newest first.
func (s *Service) SigningKeys(ctx context.Context) ([]SigningKey, error) {
	now := s.clock.Now()
	rows, err := listSigningKeys(ctx, s.db, now.Add(-keepSigningKeyRows))
	if err != nil {
		return nil, err
	}
	keys := make([]SigningKey, len(rows))
	for i, row := range rows {
		keys[i] = row.at(now)
	}
	return keys, nil
}

// errNotDue: another instance has made the next key.
var errNotDue = errors.New("no rotation is due")

// RotateSigningKey makes a key of an algorithm, the configured one when empty.
// It is published at once, signs once others had the time to fetch it, and from
// then on the present keys sign no more and verify what they have signed until
// it has expired. While a key is waiting, no other is made: Precondition
// ROTATION_PENDING.
func (s *Service) RotateSigningKey(ctx context.Context, algorithm string) (SigningKey, int64, error) {
	if algorithm == "" {
		algorithm = s.keys.algorithm
	}
	if !slices.Contains(jose.Algorithms(), algorithm) {
		return SigningKey{}, 0, fault.Field("algorithm", "must be one of %v", jose.Algorithms())
	}
	row, revision, err := s.makeNextKey(ctx, algorithm, 0)
	if err != nil {
		return SigningKey{}, 0, fmt.Errorf("rotate the signing key: %w", err)
	}
	return row.at(s.clock.Now()), revision, nil
}

// RotateIfDue rotates the signing key when the newest one is as old as the
// configured rotation. It asks the database only when a rotation seems due;
// however many instances call it at once, one rotates.
func (s *Service) RotateIfDue(ctx context.Context) error {
	if s.keys.rotation <= 0 {
		return nil
	}
	now := s.clock.Now()
	var newest time.Time
	for _, key := range s.keys.set.Load().newest {
		if now.Before(key.active) {
			return nil // it is the next one
		}
		if key.created.After(newest) {
			newest = key.created
		}
	}
	if newest.IsZero() || now.Before(newest.Add(s.keys.rotation)) {
		return nil
	}
	_, _, err := s.makeNextKey(caller.System(ctx), s.keys.algorithm, s.keys.rotation)
	if err == nil || errors.Is(err, errNotDue) || fault.From(err).Reason == rotationPending {
		return nil
	}
	return fmt.Errorf("rotate the signing key: %w", err)
}

const rotationPending = "ROTATION_PENDING"

// makeNextKey makes the next key, if the newest one is at least so old.
func (s *Service) makeNextKey(ctx context.Context, algorithm string, age time.Duration) (signingKeyRow, int64, error) {
	next, err := s.newSigningKeyRow(algorithm)
	if err != nil {
		return signingKeyRow{}, 0, err
	}
	revision, err := s.log.Write(ctx, func(ctx context.Context, tx *changes.Tx) error {
		if err := lockSigningKeys(ctx, tx); err != nil {
			return err
		}
		now := s.clock.Now()
		rows, err := selectSigningKeys(ctx, tx, now)
		if err != nil {
			return err
		}
		for _, row := range rows {
			if row.state(now) == KeyPending {
				active := time.UnixMicro(row.ActiveAt).UTC()
				return fault.New(fault.Precondition, rotationPending,
					"the key %s is waiting to become active at %s; rotate after that", row.ID, active.Format(time.RFC3339)).
					After(active.Sub(now))
			}
			if now.Before(time.UnixMicro(row.CreatedAt).Add(age)) {
				return errNotDue
			}
			if _, err := s.keys.master.Open(row.PrivateKey, signingKeyName(row.ID)); errors.Is(err, seal.ErrWrongKey) {
				return fault.New(fault.Precondition, "MASTER_KEY_CHANGED",
					"the signing keys were sealed under another master key since this instance was started; start it again with that one")
			}
		}
		active := now.Add(s.keys.ahead)
		next.CreatedAt, next.ActiveAt = now.UnixMicro(), active.UnixMicro()
		if err := retireSigningKeys(ctx, tx, active, active.Add(s.keys.keep)); err != nil {
			return err
		}
		if err := insertSigningKey(ctx, tx, next); err != nil {
			return err
		}
		tx.Record(audit.New(ctx, audit.SigningRotate, audit.Success, signingKeyName(next.ID)).
			With("algorithm", algorithm).With("active_at", active.UTC().Format(time.RFC3339)))
		tx.Changed(changes.SigningKey, next.ID)
		return nil
	})
	return next, revision, err
}

// RemoveSigningKey is for a key that leaked: it signs and verifies no more from
// now on, and its private part is erased. A key that is waiting takes the place
// of the only active one at once, although others may not have fetched it yet.
// The last usable key stays: Precondition LAST_SIGNING_KEY.
func (s *Service) RemoveSigningKey(ctx context.Context, id string) (revision int64, err error) {
	revision, err = s.log.Write(ctx, func(ctx context.Context, tx *changes.Tx) error {
		if err := lockSigningKeys(ctx, tx); err != nil {
			return err
		}
		now := s.clock.Now()
		rows, err := selectSigningKeys(ctx, tx, now)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(rows, func(row signingKeyRow) bool { return row.ID == id })
		if i < 0 {
			return fault.New(fault.NotFound, "SIGNING_KEY_NOT_FOUND", "there is no signing key %q in use; list the keys", id)
		}
		leaked := rows[i]
		others := slices.Delete(slices.Clone(rows), i, i+1)
		event := audit.New(ctx, audit.SigningRemove, audit.Success, signingKeyName(id)).With("state", string(leaked.state(now)))
		if state := leaked.state(now); state == KeyActive || state == KeyPending {
			heir, err := succeed(ctx, tx, leaked, others, now)
			if err != nil {
				return err
			}
			event = event.With("successor", heir)
		}
		if err := endSigningKey(ctx, tx, id, now); err != nil {
			return err
		}
		tx.Record(event)
		tx.Changed(changes.SigningKey, id)
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("remove signing key %s: %w", id, err)
	}
	return revision, nil
}

// succeed sees to it that some other key signs when leaked is gone, and
// returns its id. An active key stays in force when the one that was to follow
// it is gone; a pending one is in force now when the active one is.
func succeed(ctx context.Context, tx *changes.Tx, leaked signingKeyRow, others []signingKeyRow, now time.Time) (string, error) {
	in := func(state KeyState) int {
		return slices.IndexFunc(others, func(row signingKeyRow) bool { return row.state(now) == state })
	}
	if i := in(KeyActive); i >= 0 {
		if leaked.state(now) == KeyActive {
			return others[i].ID, nil
		}
		return others[i].ID, keepSigningKeys(ctx, tx, time.UnixMicro(leaked.ActiveAt), now)
	}
	if i := in(KeyPending); i >= 0 {
		return others[i].ID, activateSigningKey(ctx, tx, others[i].ID, now)
	}
	return "", fault.New(fault.Precondition, "LAST_SIGNING_KEY",
		"this is the only key that can sign; rotate first, then remove it")
}
