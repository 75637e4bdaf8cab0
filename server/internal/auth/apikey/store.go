package apikey

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/auth/authority"
	"github.com/tollgatehq/tollgate/server/internal/database"
	"github.com/tollgatehq/tollgate/server/internal/fault"
)

// keyRow is a row of api_keys. No statement reads all of its columns.
type keyRow struct {
	ID         string `db:"id"`
	UserID     string `db:"user_id"`
	Name       string `db:"name"`
	Hash       []byte `db:"hash"`
	Scopes     string `db:"scopes"`
	CreatedAt  int64  `db:"created_at"`
	ExpiresAt  *int64 `db:"expires_at"`
	LastUsedAt *int64 `db:"last_used_at"`
	RevokedAt  *int64 `db:"revoked_at"`
	ReplacedBy string `db:"replaced_by"`

	CreatedBy    string `db:"created_by"`
	CreatedByKey string `db:"created_by_key"`
}

const keyColumns = `id, user_id, name, scopes, created_at, expires_at, last_used_at, revoked_at, created_by, created_by_key, replaced_by`

func (r keyRow) key() (Key, error) {
	scopes, err := r.scopes()
	if err != nil {
		return Key{}, err
	}
	return Key{
		ID: r.ID, UserID: r.UserID, Name: r.Name, Scopes: scopes,
		CreatedAt: time.UnixMicro(r.CreatedAt).UTC(), ExpiresAt: database.Time(r.ExpiresAt),
		LastUsedAt: database.Time(r.LastUsedAt), RevokedAt: database.Time(r.RevokedAt),
		CreatedBy: r.CreatedBy, CreatedByKey: r.CreatedByKey, replacedBy: r.ReplacedBy,
	}, nil
}

func (r keyRow) scopes() (scopes []string, err error) {
	if err := json.Unmarshal([]byte(r.Scopes), &scopes); err != nil {
		return nil, fmt.Errorf("decode scopes of API key %q: %w", r.ID, err)
	}
	return scopes, nil
}

// cursor is a position in a list of keys.
type cursor struct {
	CreatedAt int64  `json:"c"`
	ID        string `json:"i"`
}

// lockKey reads a key and its owner, who is locked until the commit; keyUnknown
// when there is no such key.
func lockKey(ctx context.Context, q database.Queries, id string) (Key, authority.User, error) {
	if !isBase62(id, idSize) {
		return Key{}, authority.User{}, keyUnknown()
	}
	key, err := getKey(ctx, q, id)
	if err != nil {
		return Key{}, authority.User{}, err
	}
	owner, err := authority.Lock(ctx, q, key.UserID)
	if fault.Is(err, fault.NotFound) { // deleted just now, with the key
		return Key{}, authority.User{}, keyUnknown()
	}
	if err != nil {
		return Key{}, authority.User{}, err
	}
	// Again, now that no other caller changes the owner's keys.
	key, err = getKey(ctx, q, id)
	return key, owner, err
}

func getKey(ctx context.Context, q database.Queries, id string) (Key, error) {
	var row keyRow
	err := q.Get(ctx, &row, `SELECT `+keyColumns+` FROM api_keys WHERE id = $1`, id)
	if errors.Is(err, database.ErrNoRows) {
		return Key{}, keyUnknown()
	}
	if err != nil {
		return Key{}, err
	}
	return row.key()
}

// getKnownKey reads what verifying a key needs; nil when there is no such key.
func getKnownKey(ctx context.Context, q database.Queries, id string) (*knownKey, error) {
	var row keyRow
	err := q.Get(ctx, &row, `SELECT id, user_id, hash, scopes, expires_at, last_used_at, revoked_at FROM api_keys WHERE id = $1`, id)
	if errors.Is(err, database.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	scopes, err := row.scopes()
	if err != nil {
		return nil, err
	}
	known := &knownKey{
		id: row.ID, userID: row.UserID, hash: row.Hash, scopes: scopes,
		expires: database.Time(row.ExpiresAt), revoked: database.Time(row.RevokedAt),
	}
	if row.LastUsedAt != nil {
		known.used.Store(*row.LastUsedAt)
	}
	return known, nil
}

func countLiveKeys(ctx context.Context, q database.Queries, userID string, now time.Time) (n int, err error) {
	err = q.Get(ctx, &n, `SELECT COUNT(*) FROM api_keys
		WHERE user_id = $1 AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > $2)`, userID, now.UnixMicro())
	return n, err
}

// listKeys reads up to limit keys after a cursor, of one user or, when userID is
// empty, of all.
func listKeys(ctx context.Context, q database.Queries, userID string, after cursor, limit int) ([]Key, error) {
	where, args := "", []any{after.CreatedAt, after.ID, limit}
	if userID != "" {
		where, args = "user_id = $4 AND", append(args, userID)
	}
	var rows []keyRow
	err := q.Select(ctx, &rows, `SELECT `+keyColumns+`
		FROM api_keys WHERE `+where+` (created_at, id) > ($1, $2) ORDER BY created_at, id LIMIT $3`, args...)
	if err != nil {
		return nil, err
	}
	keys := make([]Key, len(rows))
	for i, row := range rows {
		if keys[i], err = row.key(); err != nil {
			return nil, err
		}
	}
	return keys, nil
}

func listRevokedKeys(ctx context.Context, q database.Queries, since time.Time) (ids []string, err error) {
	err = q.Select(ctx, &ids, `SELECT id FROM api_keys WHERE revoked_at > $1`, since.UnixMicro())
	return ids, err
}

func insertKey(ctx context.Context, q database.Queries, key Key, hash []byte) error {
	scopes, err := json.Marshal(append([]string{}, key.Scopes...)) // [] rather than null
	if err != nil {
		return fmt.Errorf("encode scopes: %w", err)
	}
	_, err = q.Exec(ctx, `INSERT INTO api_keys (id, user_id, name, hash, scopes, created_at, expires_at, created_by, created_by_key)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`,
		key.ID, key.UserID, key.Name, hash, string(scopes), key.CreatedAt.UnixMicro(), database.Micros(key.ExpiresAt),
		key.CreatedBy, key.CreatedByKey)
	return err
}

// updateReplaced stores the end of a key whose owner is locked, and its
// successor.
func updateReplaced(ctx context.Context, q database.Queries, key Key) error {
	_, err := q.Exec(ctx, `UPDATE api_keys SET replaced_by = $2, expires_at = $3, revoked_at = $4 WHERE id = $1`,
		key.ID, key.replacedBy, database.Micros(key.ExpiresAt), database.Micros(key.RevokedAt))
	return err
}

// updateRevoked says whether it was this call that revoked the key.
func updateRevoked(ctx context.Context, q database.Queries, id string, now time.Time) (bool, error) {
	n, err := q.Exec(ctx, `UPDATE api_keys SET revoked_at = $2 WHERE id = $1 AND revoked_at IS NULL`, id, now.UnixMicro())
	return n == 1, err
}

// updateAllRevoked revokes a user's live keys and returns their ids.
func updateAllRevoked(ctx context.Context, q database.Queries, userID string, now time.Time) (ids []string, err error) {
	err = q.Select(ctx, &ids, `UPDATE api_keys SET revoked_at = $2
		WHERE user_id = $1 AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > $2) RETURNING id`, userID, now.UnixMicro())
	return ids, err
}

// updateLastUsed writes when keys were used, in microseconds, unless the stored
// time is less than useEvery before.
func updateLastUsed(ctx context.Context, q database.Queries, ids []string, used map[string]int64) error {
	var rows strings.Builder
	args := []any{useEvery.Microseconds()}
	for i, id := range ids {
		if i > 0 {
			rows.WriteByte(',')
		}
		args = append(args, id, used[id])
		fmt.Fprintf(&rows, "($%d,CAST($%d AS BIGINT))", len(args)-1, len(args))
	}
	// Both databases call the columns of VALUES column1, column2.
	_, err := q.Exec(ctx, `UPDATE api_keys SET last_used_at = used.column2 FROM (VALUES `+rows.String()+`) AS used
		WHERE id = used.column1 AND (last_used_at IS NULL OR last_used_at <= used.column2 - $1)`, args...)
	return err
}
