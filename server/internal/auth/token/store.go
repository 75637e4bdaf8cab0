package token

import (
	"context"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/database"
)

// keyRow is a row of signing_keys. PrivateKey is sealed.
type keyRow struct {
	ID         string `db:"id"`
	Algorithm  string `db:"algorithm"`
	PublicKey  []byte `db:"public_key"`
	PrivateKey []byte `db:"private_key"`
	CreatedAt  int64  `db:"created_at"`
	ActiveAt   int64  `db:"active_at"`
	RetiredAt  *int64 `db:"retired_at"`
	RemovedAt  *int64 `db:"removed_at"`
}

const keyColumns = `id, algorithm, public_key, private_key, created_at, active_at, retired_at, removed_at`

// usable are the keys that have not been removed at $1. One removed in an
// emergency has lost its private part: it is gone at once also for an instance
// whose clock is behind.
const usable = `(removed_at IS NULL OR removed_at > $1) AND length(private_key) > 0`

// lockKeys makes transactions that add signing keys wait for each other until
// the commit: an empty table has no row to lock, so they share the one that
// every change takes in the end.
func lockKeys(ctx context.Context, q database.Queries) error {
	_, err := q.Exec(ctx, `UPDATE change_head SET revision = revision WHERE id = 1`)
	return err
}

// countSigners counts the keys that sign now or will.
func countSigners(ctx context.Context, q database.Queries, now time.Time) (n int, err error) {
	err = q.Get(ctx, &n, `SELECT COUNT(*) FROM signing_keys
		WHERE (retired_at IS NULL OR retired_at > $1) AND `+usable, now.UnixMicro())
	return n, err
}

func insertKey(ctx context.Context, q database.Queries, row keyRow) error {
	_, err := q.Exec(ctx, `INSERT INTO signing_keys (`+keyColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`,
		row.ID, row.Algorithm, row.PublicKey, row.PrivateKey, row.CreatedAt, row.ActiveAt, row.RetiredAt, row.RemovedAt)
	return err
}

func listUsableKeys(ctx context.Context, q database.Queries, now time.Time) (rows []keyRow, err error) {
	err = q.Select(ctx, &rows, `SELECT `+keyColumns+` FROM signing_keys WHERE `+usable, now.UnixMicro())
	return rows, err
}

// listRemovedKeys returns the ids of the keys that listUsableKeys leaves out,
// as far as they are not pruned.
func listRemovedKeys(ctx context.Context, q database.Queries, now time.Time) (ids []string, err error) {
	err = q.Select(ctx, &ids, `SELECT id FROM signing_keys WHERE NOT (`+usable+`) ORDER BY id`, now.UnixMicro())
	return ids, err
}

// listKeys returns all keys but those removed before a time, without their key
// pairs, the newest first.
func listKeys(ctx context.Context, q database.Queries, removedSince time.Time) (rows []keyRow, err error) {
	err = q.Select(ctx, &rows, `SELECT id, algorithm, created_at, active_at, retired_at, removed_at FROM signing_keys
		WHERE removed_at IS NULL OR removed_at > $1 ORDER BY created_at DESC, active_at DESC, id`, removedSince.UnixMicro())
	return rows, err
}

// updateKeysRetired sets when the keys that have no end yet retire and are
// removed.
func updateKeysRetired(ctx context.Context, q database.Queries, retired, removed time.Time) error {
	_, err := q.Exec(ctx, `UPDATE signing_keys SET retired_at = $1, removed_at = $2 WHERE retired_at IS NULL`,
		retired.UnixMicro(), removed.UnixMicro())
	return err
}

// updateKeysKept takes back that keys retire at a time to come.
func updateKeysKept(ctx context.Context, q database.Queries, retired, now time.Time) error {
	_, err := q.Exec(ctx, `UPDATE signing_keys SET retired_at = NULL, removed_at = NULL
		WHERE retired_at = $1 AND removed_at > $2`, retired.UnixMicro(), now.UnixMicro())
	return err
}

// updateKeyActive makes a key sign from now on.
func updateKeyActive(ctx context.Context, q database.Queries, id string, now time.Time) error {
	_, err := q.Exec(ctx, `UPDATE signing_keys SET active_at = $1 WHERE id = $2`, now.UnixMicro(), id)
	return err
}

// updateKeyRemoved removes a key now and erases its private part.
func updateKeyRemoved(ctx context.Context, q database.Queries, id string, now time.Time) error {
	_, err := q.Exec(ctx, `UPDATE signing_keys SET private_key = '', removed_at = $1,
		retired_at = CASE WHEN retired_at < $1 THEN retired_at ELSE $1 END WHERE id = $2`, now.UnixMicro(), id)
	return err
}

// deleteRemovedKeys erases the private parts of keys that were removed before
// erase, and forgets those removed before forget.
func deleteRemovedKeys(ctx context.Context, q database.Queries, erase, forget time.Time) error {
	if _, err := q.Exec(ctx, `UPDATE signing_keys SET private_key = ''
		WHERE removed_at < $1 AND length(private_key) > 0`, erase.UnixMicro()); err != nil {
		return err
	}
	_, err := q.Exec(ctx, `DELETE FROM signing_keys WHERE removed_at < $1`, forget.UnixMicro())
	return err
}

// lockSealed returns the private keys and keeps all signing keys from being
// changed until the commit.
func lockSealed(ctx context.Context, q database.Queries) (rows []keyRow, err error) {
	if err := lockKeys(ctx, q); err != nil {
		return nil, err
	}
	err = q.Select(ctx, &rows, `SELECT id, private_key FROM signing_keys WHERE length(private_key) > 0`)
	return rows, err
}

func updateSealed(ctx context.Context, q database.Queries, row keyRow) error {
	_, err := q.Exec(ctx, `UPDATE signing_keys SET private_key = $1 WHERE id = $2`, row.PrivateKey, row.ID)
	return err
}
