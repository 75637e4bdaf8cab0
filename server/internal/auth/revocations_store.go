package auth

import (
	"context"

	"github.com/tollgatehq/tollgate/server/internal/changes"
	"github.com/tollgatehq/tollgate/server/internal/database"
)

func apiKeyRevoked(ctx context.Context, q database.Queries, id string) (bool, error) {
	var live int
	err := q.Get(ctx, &live, `SELECT COUNT(*) FROM api_keys WHERE id = $1 AND revoked_at IS NULL`, id)
	return live == 0, wrap("look whether an API key is revoked", err)
}

func userEnabled(ctx context.Context, q database.Queries, id string) (bool, error) {
	var enabled int
	err := q.Get(ctx, &enabled, `SELECT COUNT(*) FROM users WHERE id = $1 AND disabled_at IS NULL`, id)
	return enabled == 1, wrap("look whether a user is enabled", err)
}

func apiKeysRevokedSince(ctx context.Context, q database.Queries, since int64) ([]string, error) {
	var ids []string
	err := q.Select(ctx, &ids, `SELECT id FROM api_keys WHERE revoked_at > $1`, since)
	return ids, wrap("read the revoked API keys", err)
}

// usersGoneSince returns users who were disabled, and those who were deleted as
// far as the change log reaches, which is longer than an access token lives.
func usersGoneSince(ctx context.Context, q database.Queries, since int64) ([]string, error) {
	var ids []string
	err := q.Select(ctx, &ids, `SELECT id FROM users WHERE disabled_at > $1
		UNION SELECT subject FROM changes WHERE kind = $2 AND at > $1 AND subject NOT IN (SELECT id FROM users)`,
		since, string(changes.User))
	return ids, wrap("read the users who are gone", err)
}
