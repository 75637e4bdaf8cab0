package authority

import (
	"context"

	"github.com/tollgatehq/tollgate/server/internal/database"
)

// lockUser is an update because that locks in both dialects.
func lockUser(ctx context.Context, q database.Queries, id string) (user User, err error) {
	err = q.Get(ctx, &user, `UPDATE users SET updated_at = updated_at WHERE id = $1 RETURNING id, username, kind, disabled_at`, id)
	return user, err
}

// isLiveKey is about an API key and the token that was made with it, "" for none.
func isLiveKey(ctx context.Context, q database.Queries, id, token string) (bool, error) {
	var n int
	err := q.Get(ctx, &n, `SELECT COUNT(*) FROM api_keys WHERE id = $1 AND revoked_at IS NULL
		AND NOT EXISTS (SELECT 1 FROM revoked_tokens WHERE id = $2)`, id, token)
	return n == 1, err
}

func isLiveSession(ctx context.Context, q database.Queries, id string) (bool, error) {
	var n int
	err := q.Get(ctx, &n, `SELECT COUNT(*) FROM sessions WHERE id = $1 AND revoked_at IS NULL`, id)
	return n == 1, err
}
