package auth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/database"
	"github.com/tollgatehq/tollgate/server/internal/fault"
)

// apiKeyRow is a row of api_keys without the hash.
type apiKeyRow struct {
	ID         string `db:"id"`
	UserID     string `db:"user_id"`
	Name       string `db:"name"`
	Scopes     string `db:"scopes"`
	CreatedAt  int64  `db:"created_at"`
	ExpiresAt  *int64 `db:"expires_at"`
	LastUsedAt *int64 `db:"last_used_at"`
	RevokedAt  *int64 `db:"revoked_at"`

	CreatedBy    string `db:"created_by"`
	CreatedByKey string `db:"created_by_key"`
}

// keyColumns are what an apiKeyRow is read from.
const keyColumns = `id, user_id, name, scopes, created_at, expires_at, last_used_at, revoked_at, created_by, created_by_key`

func (row apiKeyRow) key() (APIKey, error) {
	scopes, err := scopesOf(row.ID, row.Scopes)
	if err != nil {
		return APIKey{}, err
	}
	return APIKey{
		ID: row.ID, UserID: row.UserID, Name: row.Name, Scopes: scopes,
		CreatedAt: time.UnixMicro(row.CreatedAt).UTC(), ExpiresAt: timeOf(row.ExpiresAt),
		LastUsedAt: timeOf(row.LastUsedAt), RevokedAt: timeOf(row.RevokedAt),
		CreatedBy: row.CreatedBy, CreatedByKey: row.CreatedByKey,
	}, nil
}

// storedAPIKey is a key with what only rotation needs to know.
type storedAPIKey struct {
	APIKey
	replacedBy string // id of the key that it was rotated to
}

// keyPlace is a place in a list of keys.
type keyPlace struct {
	CreatedAt int64  `json:"c"`
	ID        string `json:"i"`
}

// lockKey reads a key and its owner, whose row is locked until the commit;
// keyUnknown when there is no such key.
func lockKey(ctx context.Context, q database.Queries, id string) (storedAPIKey, userRow, error) {
	key, err := selectAPIKey(ctx, q, id)
	if errors.Is(err, database.ErrNoRows) {
		return storedAPIKey{}, userRow{}, keyUnknown()
	}
	if err != nil {
		return storedAPIKey{}, userRow{}, err
	}
	owner, err := lockUser(ctx, q, key.UserID)
	if fault.Is(err, fault.NotFound) { // deleted just now, with the key
		return storedAPIKey{}, userRow{}, keyUnknown()
	}
	if err != nil {
		return storedAPIKey{}, userRow{}, err
	}
	// Again, now that nobody else changes the owner's keys.
	key, err = selectAPIKey(ctx, q, id)
	return key, owner, err
}

func countLiveKeys(ctx context.Context, q database.Queries, userID string, now time.Time) (int, error) {
	var n int
	err := q.Get(ctx, &n, `SELECT COUNT(*) FROM api_keys
		WHERE user_id = $1 AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > $2)`, userID, now.UnixMicro())
	if err != nil {
		return 0, fmt.Errorf("count API keys: %w", err)
	}
	return n, nil
}

func insertAPIKey(ctx context.Context, q database.Queries, key APIKey, hash []byte) error {
	scopes := key.Scopes
	if scopes == nil {
		scopes = []string{}
	}
	text, err := json.Marshal(scopes)
	if err != nil {
		return fmt.Errorf("encode scopes: %w", err)
	}
	_, err = q.Exec(ctx, `INSERT INTO api_keys (id, user_id, name, hash, scopes, created_at, expires_at, created_by, created_by_key)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`,
		key.ID, key.UserID, key.Name, hash, string(text), key.CreatedAt.UnixMicro(), microsOf(key.ExpiresAt),
		key.CreatedBy, key.CreatedByKey)
	if err != nil {
		return fmt.Errorf("insert API key: %w", err)
	}
	return nil
}

// selectAPIKeys reads up to limit keys after a place, of one user or, when
// userID is empty, of all.
func selectAPIKeys(ctx context.Context, q database.Queries, userID string, after keyPlace, limit int) ([]APIKey, error) {
	where, args := "", []any{after.CreatedAt, after.ID, limit}
	if userID != "" {
		where, args = "user_id = $4 AND", append(args, userID)
	}
	var rows []apiKeyRow
	err := q.Select(ctx, &rows, `SELECT `+keyColumns+`
		FROM api_keys WHERE `+where+` (created_at, id) > ($1, $2) ORDER BY created_at, id LIMIT $3`, args...)
	if err != nil {
		return nil, fmt.Errorf("select API keys: %w", err)
	}
	keys := make([]APIKey, len(rows))
	for i, row := range rows {
		if keys[i], err = row.key(); err != nil {
			return nil, err
		}
	}
	return keys, nil
}

// selectAPIKey reads one key; ErrNoRows when there is none.
func selectAPIKey(ctx context.Context, q database.Queries, id string) (storedAPIKey, error) {
	var row struct {
		apiKeyRow
		ReplacedBy string `db:"replaced_by"`
	}
	err := q.Get(ctx, &row, `SELECT `+keyColumns+`, replaced_by
		FROM api_keys WHERE id = $1`, id)
	if err != nil {
		return storedAPIKey{}, fmt.Errorf("select API key: %w", err)
	}
	key, err := row.key()
	return storedAPIKey{APIKey: key, replacedBy: row.ReplacedBy}, err
}

// replaceAPIKey gives a key that is not revoked and was not replaced before the
// end that it has now, and says whether it did.
func replaceAPIKey(ctx context.Context, q database.Queries, key APIKey, by string) (bool, error) {
	n, err := q.Exec(ctx, `UPDATE api_keys SET replaced_by = $2, expires_at = $3, revoked_at = $4
		WHERE id = $1 AND revoked_at IS NULL AND replaced_by = ''`,
		key.ID, by, microsOf(key.ExpiresAt), microsOf(key.RevokedAt))
	if err != nil {
		return false, fmt.Errorf("replace API key: %w", err)
	}
	return n == 1, nil
}

// revokeAPIKey says whether it was this call that revoked the key.
func revokeAPIKey(ctx context.Context, q database.Queries, id string, now time.Time) (bool, error) {
	n, err := q.Exec(ctx, `UPDATE api_keys SET revoked_at = $2 WHERE id = $1 AND revoked_at IS NULL`, id, now.UnixMicro())
	if err != nil {
		return false, fmt.Errorf("update API key: %w", err)
	}
	return n == 1, nil
}

// revokeKeysOf revokes a user's keys that have not ended, and returns their ids.
func revokeKeysOf(ctx context.Context, q database.Queries, userID string, now time.Time) ([]string, error) {
	var ids []string
	err := q.Select(ctx, &ids, `UPDATE api_keys SET revoked_at = $2
		WHERE user_id = $1 AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > $2) RETURNING id`, userID, now.UnixMicro())
	return ids, wrap("revoke a user's API keys", err)
}

// selectKnownKey reads what verifying a key needs; nil when there is no such
// key.
func selectKnownKey(ctx context.Context, q database.Queries, id string) (*knownKey, error) {
	var row struct {
		apiKeyRow
		Hash []byte `db:"hash"`
	}
	err := q.Get(ctx, &row, `SELECT id, user_id, hash, scopes, expires_at, last_used_at, revoked_at FROM api_keys WHERE id = $1`, id)
	if errors.Is(err, database.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("select API key: %w", err)
	}
	scopes, err := scopesOf(id, row.Scopes)
	if err != nil {
		return nil, err
	}
	known := &knownKey{
		id: row.ID, userID: row.UserID, hash: row.Hash, scopes: scopes,
		expires: timeOf(row.ExpiresAt), revoked: timeOf(row.RevokedAt),
	}
	if row.LastUsedAt != nil {
		known.used.Store(*row.LastUsedAt)
	}
	return known, nil
}

// updateLastUsed writes when keys were used, in microseconds, unless the time
// that is written is newer than every before it.
func updateLastUsed(ctx context.Context, q database.Queries, ids []string, used map[string]int64, every time.Duration) error {
	var rows strings.Builder
	args := []any{every.Microseconds()}
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
	if err != nil {
		return fmt.Errorf("update %d API keys: %w", len(ids), err)
	}
	return nil
}

func scopesOf(id, text string) (scopes []string, err error) {
	if err := json.Unmarshal([]byte(text), &scopes); err != nil {
		return nil, fmt.Errorf("decode scopes of API key %q: %w", id, err)
	}
	return scopes, nil
}
