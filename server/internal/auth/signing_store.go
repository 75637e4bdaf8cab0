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
		WHERE (retired_at IS NULL OR retired_at > $1) AND (removed_at IS NULL OR removed_at > $1)`, now.UnixMicro())
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

// selectSigningKeys reads every key that has not been removed.
func selectSigningKeys(ctx context.Context, q database.Queries, now time.Time) ([]signingKeyRow, error) {
	var rows []signingKeyRow
	err := q.Select(ctx, &rows, `SELECT id, algorithm, public_key, private_key, created_at, active_at, retired_at, removed_at
		FROM signing_keys WHERE removed_at IS NULL OR removed_at > $1`, now.UnixMicro())
	if err != nil {
		return nil, fmt.Errorf("select signing keys: %w", err)
	}
	return rows, nil
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
