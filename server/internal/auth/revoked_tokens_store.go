package auth

import (
	"context"

	"github.com/tollgatehq/tollgate/server/internal/database"
)

// revokedToken is a client-credentials token that was revoked by itself.
type revokedToken struct {
	ID        string `db:"id"` // its "jti"
	ExpiresAt int64  `db:"expires_at"`
}

// insertRevokedToken returns false when the token was revoked before.
func insertRevokedToken(ctx context.Context, q database.Queries, id, apiKeyID string, expires int64) (bool, error) {
	n, err := q.Exec(ctx, `INSERT INTO revoked_tokens (id, api_key_id, expires_at) VALUES ($1, $2, $3) ON CONFLICT (id) DO NOTHING`,
		id, apiKeyID, expires)
	return n > 0, err
}

// countRevokedTokens counts the revoked tokens of a user's API keys that have not
// expired.
func countRevokedTokens(ctx context.Context, q database.Queries, userID string, now int64) (n int, err error) {
	err = q.Get(ctx, &n, `SELECT COUNT(*) FROM revoked_tokens t JOIN api_keys k ON k.id = t.api_key_id
		WHERE k.user_id = $1 AND t.expires_at > $2`, userID, now)
	return n, err
}

func listRevokedTokens(ctx context.Context, q database.Queries, expiresAfter int64) (rows []revokedToken, err error) {
	err = q.Select(ctx, &rows, `SELECT id, expires_at FROM revoked_tokens WHERE expires_at > $1`, expiresAfter)
	return rows, err
}

func deleteRevokedTokens(ctx context.Context, q database.Queries, before int64) error {
	_, err := q.Exec(ctx, `DELETE FROM revoked_tokens WHERE expires_at <= $1`, before)
	return err
}
