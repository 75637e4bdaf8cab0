package auth

import (
	"cmp"
	"context"
	"time"
	"unicode"

	"github.com/tollgatehq/tollgate/server/internal/attributes"
	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/changes"
	"github.com/tollgatehq/tollgate/server/internal/database"
)

const userColumns = `id, username, display_name, kind, password_hash, password_change_required, disabled_at, created_at, updated_at, audience`

// userFields are the columns, and what comes from elsewhere.
const userFields = userColumns + `, attributes, EXISTS (SELECT 1 FROM second_factors f WHERE f.user_id = users.id AND f.confirmed_at IS NOT NULL) AS second_factor`

type userRow struct {
	ID                     string      `db:"id"`
	Username               string      `db:"username"`
	DisplayName            string      `db:"display_name"`
	Kind                   caller.Kind `db:"kind"`
	PasswordHash           string      `db:"password_hash"`
	PasswordChangeRequired bool        `db:"password_change_required"`
	DisabledAt             *int64      `db:"disabled_at"`
	CreatedAt              int64       `db:"created_at"`
	UpdatedAt              int64       `db:"updated_at"`
	SecondFactor           bool        `db:"second_factor"`
	Audience               string      `db:"audience"`
	Attributes             string      `db:"attributes"`
}

func (r userRow) user() User {
	return User{
		ID: r.ID, Username: r.Username, DisplayName: r.DisplayName, Kind: r.Kind,
		Disabled: r.DisabledAt != nil, PasswordChangeRequired: r.PasswordChangeRequired,
		SecondFactor: r.SecondFactor, Audience: r.Audience, Attributes: r.attributes(),
		CreatedAt: time.UnixMicro(r.CreatedAt), UpdatedAt: time.UnixMicro(r.UpdatedAt),
	}
}

// attributes are the user's; nil also for what only another program can have written,
// which conditions do not read: Service.identity fails.
func (r userRow) attributes() map[string]any {
	values, err := attributes.Decode(cmp.Or(r.Attributes, attributes.None)) // none: a new row
	if err != nil {
		return nil
	}
	return values
}

func getUser(ctx context.Context, q database.Queries, id string) (row userRow, err error) {
	err = q.Get(ctx, &row, `SELECT `+userFields+` FROM users WHERE id = $1`, id)
	return row, err
}

// getUserByName takes a canonical name.
func getUserByName(ctx context.Context, q database.Queries, name string) (row userRow, err error) {
	err = q.Get(ctx, &row, `SELECT `+userFields+` FROM users WHERE username = $1`, name)
	return row, err
}

// listUsers returns at most limit users after a cursor: a name when the filter
// has a prefix, else an id, which are in the order of creation.
func listUsers(ctx context.Context, q database.Queries, f UserFilter, after string, limit int) (rows []userRow, err error) {
	cursor, where, args := "id", "", []any{after, limit}
	switch {
	case f.Prefix != "":
		cursor = "username"
		where = ` AND username >= $3 AND username < $4` // compared as bytes
		args = append(args, f.Prefix, f.Prefix+string(unicode.MaxRune))
	case f.Username != "":
		where, args = ` AND username = $3`, append(args, f.Username)
	}
	switch {
	case f.Disabled != nil && *f.Disabled:
		where += ` AND disabled_at IS NOT NULL`
	case f.Disabled != nil:
		where += ` AND disabled_at IS NULL`
	}
	err = q.Select(ctx, &rows, `SELECT `+userFields+` FROM users
		WHERE `+cursor+` > $1`+where+` ORDER BY `+cursor+` LIMIT $2`, args...)
	return rows, err
}

// listGoneUsers returns users who were disabled after a time, and those who
// were deleted, as far as the change log reaches, which is longer than an access
// token lives.
func listGoneUsers(ctx context.Context, q database.Queries, since int64) (ids []string, err error) {
	err = q.Select(ctx, &ids, `SELECT id FROM users WHERE disabled_at > $1
		UNION SELECT subject FROM changes WHERE kind = $2 AND at > $1 AND subject NOT IN (SELECT id FROM users)`,
		since, string(changes.User))
	return ids, err
}

// insertUser returns ErrExists when the name is taken.
func insertUser(ctx context.Context, q database.Queries, r userRow) error {
	_, err := q.Exec(ctx, `INSERT INTO users (`+userColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`,
		r.ID, r.Username, r.DisplayName, string(r.Kind), r.PasswordHash,
		boolToInt(r.PasswordChangeRequired), r.DisabledAt, r.CreatedAt, r.UpdatedAt, r.Audience)
	return err
}

// updateUser returns the user as changed, with attributes of this text if there is
// one; ErrExists when the new name is taken.
func updateUser(ctx context.Context, q database.Queries, id string, u UserUpdate, described *string, now int64) (row userRow, err error) {
	disabled := -1 // leave it
	if u.Disabled != nil {
		disabled = boolToInt(*u.Disabled)
	}
	err = q.Get(ctx, &row, `UPDATE users SET
			username = COALESCE($2, username),
			display_name = COALESCE($3, display_name),
			disabled_at = CASE WHEN $4 = 1 THEN COALESCE(disabled_at, $5) WHEN $4 = 0 THEN NULL ELSE disabled_at END,
			audience = COALESCE($6, audience),
			attributes = COALESCE($7, attributes),
			updated_at = $5
		WHERE id = $1 RETURNING `+userFields, id, u.Username, u.DisplayName, disabled, now, u.Audience, described)
	return row, err
}

// updatePassword replaces the password if the user still has the one in r, and
// says whether it did.
func updatePassword(ctx context.Context, q database.Queries, r userRow, hash string, mustChange bool, now int64) (bool, error) {
	n, err := q.Exec(ctx, `UPDATE users SET password_hash = $3, password_change_required = $4, updated_at = $5
		WHERE id = $1 AND password_hash = $2`, r.ID, r.PasswordHash, hash, boolToInt(mustChange), now)
	return n == 1, err
}

// lockUserForLogin says whether a user is enabled and has the password that was
// compared, and keeps it so until the commit: everything that revokes a user's
// sessions changes the user's row first, and waits here. It stores the
// password's new hash on the way, at a higher cost perhaps.
func lockUserForLogin(ctx context.Context, q database.Queries, id, compared, hash string) (bool, error) {
	n, err := q.Exec(ctx, `UPDATE users SET password_hash = $3
		WHERE id = $1 AND password_hash = $2 AND disabled_at IS NULL`, id, compared, hash)
	return n == 1, err
}

func deleteUser(ctx context.Context, q database.Queries, id string) error {
	_, err := q.Exec(ctx, `DELETE FROM users WHERE id = $1`, id)
	return err
}

func boolToInt(b bool) int {
	if b {
		return 1
	}
	return 0
}
