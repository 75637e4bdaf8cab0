package auth

import (
	"context"
	"fmt"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/database"
)

// signingKeyRow is a row of signing_keys. PrivateKey is sealed.
type signingKeyRow struct {
	ID         string `db:"id"`
	Algorithm  string `db:"algorithm"`
	PublicKey  []byte `db:"public_key"`
	PrivateKey []byte `db:"private_key"`
	CreatedAt  int64  `db:"created_at"`
	ActiveAt   int64  `db:"active_at"`
	RetiredAt  *int64 `db:"retired_at"`
	RemovedAt  *int64 `db:"removed_at"`
}

// lockSigningKeys makes transactions that add signing keys wait for each
// other until the commit: an empty table has no row to lock, so they share the
// one that every change takes in the end.
func lockSigningKeys(ctx context.Context, q database.Queries) error {
	if _, err := q.Exec(ctx, `UPDATE change_head SET revision = revision WHERE id = 1`); err != nil {
		return fmt.Errorf("lock signing keys: %w", err)
	}
	return nil
}

// signingKeyExists says whether some key signs now or will.
func signingKeyExists(ctx context.Context, q database.Queries, now time.Time) (bool, error) {
	var n int
	err := q.Get(ctx, &n, `SELECT COUNT(*) FROM signing_keys
		WHERE (retired_at IS NULL OR retired_at > $1) AND (removed_at IS NULL OR removed_at > $1) AND length(private_key) > 0`, now.UnixMicro())
	if err != nil {
		return false, fmt.Errorf("count signing keys: %w", err)
	}
	return n > 0, nil
}

func insertSigningKey(ctx context.Context, q database.Queries, row signingKeyRow) error {
	_, err := q.Exec(ctx, `INSERT INTO signing_keys
		(id, algorithm, public_key, private_key, created_at, active_at, retired_at, removed_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`,
		row.ID, row.Algorithm, row.PublicKey, row.PrivateKey, row.CreatedAt, row.ActiveAt, row.RetiredAt, row.RemovedAt)
	if err != nil {
		return fmt.Errorf("insert signing key: %w", err)
	}
	return nil
}

// selectSigningKeys reads every key that has not been removed. One removed in
// an emergency has lost its private part: it is gone at once also for an
// instance whose clock is behind.
func selectSigningKeys(ctx context.Context, q database.Queries, now time.Time) ([]signingKeyRow, error) {
	var rows []signingKeyRow
	err := q.Select(ctx, &rows, `SELECT id, algorithm, public_key, private_key, created_at, active_at, retired_at, removed_at
		FROM signing_keys WHERE (removed_at IS NULL OR removed_at > $1) AND length(private_key) > 0`, now.UnixMicro())
	if err != nil {
		return nil, fmt.Errorf("select signing keys: %w", err)
	}
	return rows, nil
}

// signingKeyLive says whether a key is one that selectSigningKeys reads.
func signingKeyLive(ctx context.Context, q database.Queries, id string, now time.Time) (bool, error) {
	var n int
	err := q.Get(ctx, &n, `SELECT COUNT(*) FROM signing_keys
		WHERE id = $1 AND (removed_at IS NULL OR removed_at > $2) AND length(private_key) > 0`, id, now.UnixMicro())
	if err != nil {
		return false, fmt.Errorf("look whether a signing key is removed: %w", err)
	}
	return n > 0, nil
}

// signingKeysRemoved reads the ids of the keys that selectSigningKeys leaves
// out, as far as they are not pruned.
func signingKeysRemoved(ctx context.Context, q database.Queries, now time.Time) ([]string, error) {
	var ids []string
	err := q.Select(ctx, &ids, `SELECT id FROM signing_keys
		WHERE removed_at <= $1 OR length(private_key) = 0 ORDER BY id`, now.UnixMicro())
	if err != nil {
		return nil, fmt.Errorf("select removed signing keys: %w", err)
	}
	return ids, nil
}

// listSigningKeys reads all keys but those removed before a time, without
// their key pairs, the newest first.
func listSigningKeys(ctx context.Context, q database.Queries, removedSince time.Time) ([]signingKeyRow, error) {
	var rows []signingKeyRow
	err := q.Select(ctx, &rows, `SELECT id, algorithm, created_at, active_at, retired_at, removed_at FROM signing_keys
		WHERE removed_at IS NULL OR removed_at > $1 ORDER BY created_at DESC, active_at DESC, id`, removedSince.UnixMicro())
	if err != nil {
		return nil, fmt.Errorf("list signing keys: %w", err)
	}
	return rows, nil
}

// retireSigningKeys says when the keys that have no end yet retire and are
// removed.
func retireSigningKeys(ctx context.Context, q database.Queries, retired, removed time.Time) error {
	_, err := q.Exec(ctx, `UPDATE signing_keys SET retired_at = $1, removed_at = $2 WHERE retired_at IS NULL`,
		retired.UnixMicro(), removed.UnixMicro())
	if err != nil {
		return fmt.Errorf("retire signing keys: %w", err)
	}
	return nil
}

// keepSigningKeys takes it back that keys retire at a time to come.
func keepSigningKeys(ctx context.Context, q database.Queries, retired, now time.Time) error {
	_, err := q.Exec(ctx, `UPDATE signing_keys SET retired_at = NULL, removed_at = NULL
		WHERE retired_at = $1 AND removed_at > $2`, retired.UnixMicro(), now.UnixMicro())
	if err != nil {
		return fmt.Errorf("keep signing keys: %w", err)
	}
	return nil
}

// activateSigningKey has a key sign from now on.
func activateSigningKey(ctx context.Context, q database.Queries, id string, now time.Time) error {
	if _, err := q.Exec(ctx, `UPDATE signing_keys SET active_at = $1 WHERE id = $2`, now.UnixMicro(), id); err != nil {
		return fmt.Errorf("activate signing key: %w", err)
	}
	return nil
}

// endSigningKey removes a key now and erases its private part.
func endSigningKey(ctx context.Context, q database.Queries, id string, now time.Time) error {
	_, err := q.Exec(ctx, `UPDATE signing_keys SET private_key = '', removed_at = $1,
		retired_at = CASE WHEN retired_at < $1 THEN retired_at ELSE $1 END WHERE id = $2`, now.UnixMicro(), id)
	if err != nil {
		return fmt.Errorf("remove signing key: %w", err)
	}
	return nil
}

// pruneSigningKeys erases the private parts of keys that were removed before
// erase, and forgets those removed before forget.
func pruneSigningKeys(ctx context.Context, q database.Queries, erase, forget time.Time) error {
	if _, err := q.Exec(ctx, `UPDATE signing_keys SET private_key = ''
		WHERE removed_at < $1 AND length(private_key) > 0`, erase.UnixMicro()); err != nil {
		return fmt.Errorf("erase removed signing keys: %w", err)
	}
	if _, err := q.Exec(ctx, `DELETE FROM signing_keys WHERE removed_at < $1`, forget.UnixMicro()); err != nil {
		return fmt.Errorf("delete removed signing keys: %w", err)
	}
	return nil
}

// lockSealed returns all that is sealed under the master key, by the context
// that it is sealed with, and keeps it from being changed until the commit.
func lockSealed(ctx context.Context, q database.Queries) (keys, factors []sealedRow, err error) {
	if err := lockSigningKeys(ctx, q); err != nil {
		return nil, nil, err
	}
	if err := q.Select(ctx, &keys, `SELECT id, private_key AS sealed FROM signing_keys WHERE length(private_key) > 0`); err != nil {
		return nil, nil, fmt.Errorf("select sealed signing keys: %w", err)
	}
	// An update, because it locks in both dialects.
	if err := q.Select(ctx, &factors, `UPDATE second_factors SET secret = secret RETURNING user_id AS id, secret AS sealed`); err != nil {
		return nil, nil, fmt.Errorf("lock second factors: %w", err)
	}
	return keys, factors, nil
}

// sealedRow is something sealed under the master key.
type sealedRow struct {
	ID     string `db:"id"`
	Sealed []byte `db:"sealed"`
}

func resealSigningKey(ctx context.Context, q database.Queries, row sealedRow) error {
	if _, err := q.Exec(ctx, `UPDATE signing_keys SET private_key = $1 WHERE id = $2`, row.Sealed, row.ID); err != nil {
		return fmt.Errorf("reseal signing key: %w", err)
	}
	return nil
}

func resealSecondFactor(ctx context.Context, q database.Queries, row sealedRow) error {
	if _, err := q.Exec(ctx, `UPDATE second_factors SET secret = $1 WHERE user_id = $2`, row.Sealed, row.ID); err != nil {
		return fmt.Errorf("reseal second factor: %w", err)
	}
	return nil
}

// timeOf is the time that a nullable column holds; the zero Time for NULL.
func timeOf(micros *int64) time.Time {
	if micros == nil {
		return time.Time{}
	}
	return time.UnixMicro(*micros).UTC()
}

// microsOf is what a nullable column holds for a time; NULL for the zero Time.
func microsOf(t time.Time) *int64 {
	if t.IsZero() {
		return nil
	}
	micros := t.UnixMicro()
	return &micros
}
