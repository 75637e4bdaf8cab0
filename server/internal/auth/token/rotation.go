package token

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
	"github.com/tollgatehq/tollgate/server/internal/clock"
	"github.com/tollgatehq/tollgate/server/internal/database"
	"github.com/tollgatehq/tollgate/server/internal/fault"
	"github.com/tollgatehq/tollgate/server/internal/seal"
)

// keepKeyRows is how long removed keys are listed.
const keepKeyRows = 30 * 24 * time.Hour

// State is where a signing key is in its life. It follows from the key's
// times.
type State string

// The states, in their order.
const (
	Pending  State = "pending"  // published and not used yet
	Active   State = "active"   // signs
	Retiring State = "retiring" // signs no more; its tokens are good
	Removed  State = "removed"  // its tokens are refused
)

// Key describes a signing key.
type Key struct {
	ID        string // RFC 7638 thumbprint
	Algorithm string
	State     State // now
	CreatedAt time.Time
	ActiveAt  time.Time
	RetiredAt time.Time // zero: not known yet
	RemovedAt time.Time // zero: not known yet
}

func (r keyRow) state(now time.Time) State {
	switch {
	case clock.Reached(database.Time(r.RemovedAt), now):
		return Removed
	case clock.Reached(database.Time(r.RetiredAt), now):
		return Retiring
	case now.Before(time.UnixMicro(r.ActiveAt)):
		return Pending
	default:
		return Active
	}
}

func (r keyRow) key(now time.Time) Key {
	return Key{
		ID: r.ID, Algorithm: r.Algorithm, State: r.state(now),
		CreatedAt: time.UnixMicro(r.CreatedAt).UTC(), ActiveAt: time.UnixMicro(r.ActiveAt).UTC(),
		RetiredAt: database.Time(r.RetiredAt), RemovedAt: database.Time(r.RemovedAt),
	}
}

// List returns all signing keys but those removed more than 30 days ago, the
// newest first.
func (k *Keys) List(ctx context.Context) ([]Key, error) {
	now := k.Clock.Now()
	rows, err := listKeys(ctx, k.DB, now.Add(-keepKeyRows))
	if err != nil {
		return nil, fmt.Errorf("list signing keys: %w", err)
	}
	keys := make([]Key, len(rows))
	for i, row := range rows {
		keys[i] = row.key(now)
	}
	return keys, nil
}

// ListRemoved returns the ids of the keys that were removed in the last 30
// days.
func (k *Keys) ListRemoved(ctx context.Context) ([]string, error) {
	return listRemovedKeys(ctx, k.DB, k.Clock.Now())
}

// Prune erases the private parts of removed keys, and forgets those that were
// removed more than 30 days ago.
func (k *Keys) Prune(ctx context.Context) error {
	now := k.Clock.Now()
	if err := deleteRemovedKeys(ctx, k.DB, now.Add(-jose.ClockSkew), now.Add(-keepKeyRows)); err != nil {
		return fmt.Errorf("prune signing keys: %w", err)
	}
	return nil
}

// Rotate makes a key of an algorithm, the configured one when empty. It is
// published at once and signs once others had the time to fetch it; from then
// on the present keys sign no more, and verify what they have signed until it
// has expired. While a key is pending, no other is made: Precondition
// ROTATION_PENDING.
func (k *Keys) Rotate(ctx context.Context, algorithm string) (Key, int64, error) {
	if algorithm == "" {
		algorithm = k.Algorithm
	}
	if !slices.Contains(jose.Algorithms(), algorithm) {
		return Key{}, 0, fault.Field("algorithm", "must be one of %v", jose.Algorithms())
	}
	row, revision, err := k.makeNextKey(ctx, algorithm, 0)
	if err != nil {
		return Key{}, 0, fmt.Errorf("rotate the signing key: %w", err)
	}
	return row.key(k.Clock.Now()), revision, nil
}

// RotateIfDue rotates the signing key when the newest one is as old as the
// configured rotation. It asks the database only when a rotation seems due;
// however many instances call it at once, one rotates.
func (k *Keys) RotateIfDue(ctx context.Context) error {
	if k.Rotation <= 0 {
		return nil
	}
	now := k.Clock.Now()
	var newest time.Time
	for _, key := range k.set.Load().newest {
		if now.Before(key.active) {
			return nil // it is the next one
		}
		if key.created.After(newest) {
			newest = key.created
		}
	}
	if newest.IsZero() || now.Before(newest.Add(k.Rotation)) {
		return nil
	}
	_, _, err := k.makeNextKey(caller.System(ctx), k.Algorithm, k.Rotation)
	if err == nil || errors.Is(err, errNotDue) || fault.From(err).Reason == rotationPending {
		return nil
	}
	return fmt.Errorf("rotate the signing key: %w", err)
}

const rotationPending = "ROTATION_PENDING"

// errNotDue: another instance has made the next key.
var errNotDue = errors.New("no rotation is due")

// makeNextKey makes the next key, if the newest one is at least that old.
func (k *Keys) makeNextKey(ctx context.Context, algorithm string, age time.Duration) (keyRow, int64, error) {
	next, err := k.newKeyRow(algorithm)
	if err != nil {
		return keyRow{}, 0, err
	}
	revision, err := k.Log.Write(ctx, func(ctx context.Context, tx *changes.Tx) error {
		if err := lockKeys(ctx, tx); err != nil {
			return err
		}
		now := k.Clock.Now()
		rows, err := listUsableKeys(ctx, tx, now)
		if err != nil {
			return err
		}
		for _, row := range rows {
			if row.state(now) == Pending {
				active := time.UnixMicro(row.ActiveAt).UTC()
				return fault.New(fault.Precondition, rotationPending,
					"the key %s becomes active at %s; rotate after that", row.ID, active.Format(time.RFC3339)).
					After(active.Sub(now))
			}
			if now.Before(time.UnixMicro(row.CreatedAt).Add(age)) {
				return errNotDue
			}
			if _, err := k.Master.Open(row.PrivateKey, keyName(row.ID)); errors.Is(err, seal.ErrWrongKey) {
				return fault.New(fault.Precondition, "MASTER_KEY_CHANGED",
					"the signing keys were rewrapped under another master key since this instance was started; restart it with that one")
			}
		}
		active := now.Add(k.Ahead)
		next.CreatedAt, next.ActiveAt = now.UnixMicro(), active.UnixMicro()
		if err := updateKeysRetired(ctx, tx, active, active.Add(k.keep)); err != nil {
			return err
		}
		tx.Record(audit.New(ctx, audit.SigningRotate, audit.Success, keyName(next.ID)).
			With("algorithm", algorithm).With("active_at", active.UTC().Format(time.RFC3339)))
		tx.Changed(changes.SigningKey, next.ID)
		return insertKey(ctx, tx, next)
	})
	return next, revision, err
}

// Remove is for a key that leaked: it signs and verifies no more from now on,
// and its private part is erased. A pending key takes the place of the only
// active one at once, although others may not have fetched it yet. The last
// usable key stays: Precondition LAST_SIGNING_KEY.
func (k *Keys) Remove(ctx context.Context, id string) (revision int64, err error) {
	revision, err = k.Log.Write(ctx, func(ctx context.Context, tx *changes.Tx) error {
		if err := lockKeys(ctx, tx); err != nil {
			return err
		}
		now := k.Clock.Now()
		rows, err := listUsableKeys(ctx, tx, now)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(rows, func(row keyRow) bool { return row.ID == id })
		if i < 0 {
			return fault.New(fault.NotFound, "SIGNING_KEY_NOT_FOUND", "there is no signing key %q in use; list the keys", id)
		}
		leaked := rows[i]
		state := leaked.state(now)
		event := audit.New(ctx, audit.SigningRemove, audit.Success, keyName(id)).With("state", string(state))
		if state == Active || state == Pending {
			successor, err := succeed(ctx, tx, leaked, slices.Delete(rows, i, i+1), now)
			if err != nil {
				return err
			}
			event = event.With("successor", successor)
		}
		tx.Record(event)
		tx.Changed(changes.SigningKey, id)
		return updateKeyRemoved(ctx, tx, id, now)
	})
	if err != nil {
		return 0, fmt.Errorf("remove signing key %s: %w", id, err)
	}
	return revision, nil
}

// succeed makes another key sign when leaked is gone, and returns its id. An
// active key stays in force when the one that was to follow it is gone; a
// pending one is in force now when the active one is.
func succeed(ctx context.Context, tx *changes.Tx, leaked keyRow, others []keyRow, now time.Time) (string, error) {
	in := func(state State) int {
		return slices.IndexFunc(others, func(row keyRow) bool { return row.state(now) == state })
	}
	if i := in(Active); i >= 0 {
		if leaked.state(now) == Active {
			return others[i].ID, nil
		}
		return others[i].ID, updateKeysKept(ctx, tx, time.UnixMicro(leaked.ActiveAt), now)
	}
	if i := in(Pending); i >= 0 {
		return others[i].ID, updateKeyActive(ctx, tx, others[i].ID, now)
	}
	return "", fault.New(fault.Precondition, "LAST_SIGNING_KEY",
		"this is the only key that can sign; rotate first, then remove it")
}

// Rewrap passes every sealed private key through rewrap, in a transaction that
// keeps the keys from being changed, and returns how many there are.
func Rewrap(ctx context.Context, q database.Queries, rewrap func(sealed []byte, context string) ([]byte, error)) (int, error) {
	rows, err := lockSealed(ctx, q)
	if err != nil {
		return 0, err
	}
	for _, row := range rows {
		if row.PrivateKey, err = rewrap(row.PrivateKey, keyName(row.ID)); err != nil {
			return 0, err
		}
		if err := updateSealed(ctx, q, row); err != nil {
			return 0, err
		}
	}
	return len(rows), nil
}
