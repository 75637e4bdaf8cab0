package auth

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/database"
)

const userColumns = `id, username, display_name, kind, password_hash, password_change_required, disabled_at, created_at, updated_at, audience`

// userFields are what is read of a user: the columns, and what comes from
// elsewhere.
const userFields = userColumns + `, EXISTS (SELECT 1 FROM second_factors f WHERE f.user_id = users.id AND f.confirmed_at IS NOT NULL) AS second_factor`

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
}

func (r userRow) user() User {
	return User{
		ID: r.ID, Username: r.Username, DisplayName: r.DisplayName, Kind: r.Kind,
		Disabled: r.DisabledAt != nil, PasswordChangeRequired: r.PasswordChangeRequired,
		SecondFactor: r.SecondFactor, Audience: r.Audience,
		CreatedAt: time.UnixMicro(r.CreatedAt), UpdatedAt: time.UnixMicro(r.UpdatedAt),
	}
}

// userByID returns ErrNoRows when there is none.
func userByID(ctx context.Context, q database.Queries, id string) (userRow, error) {
	var row userRow
	err := q.Get(ctx, &row, `SELECT `+userFields+` FROM users WHERE id = $1`, id)
	return row, wrap("read user", err)
}

// userByName takes a canonical name; ErrNoRows when there is none.
func userByName(ctx context.Context, q database.Queries, name string) (userRow, error) {
	var row userRow
	err := q.Get(ctx, &row, `SELECT `+userFields+` FROM users WHERE username = $1`, name)
	return row, wrap("read user by name", err)
}

// listUsers returns at most limit users after an id, in the order of ids,
// which is that of their creation.
func listUsers(ctx context.Context, q database.Queries, name, after string, limit int) ([]userRow, error) {
	var rows []userRow
	err := q.Select(ctx, &rows, `SELECT `+userFields+` FROM users
		WHERE id > $1 AND ($2 = '' OR username = $2) ORDER BY id LIMIT $3`, after, name, limit)
	return rows, wrap("list users", err)
}

// insertUser returns ErrExists when the name is taken.
func insertUser(ctx context.Context, q database.Queries, row userRow) error {
	_, err := q.Exec(ctx, `INSERT INTO users (`+userColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`,
		row.ID, row.Username, row.DisplayName, string(row.Kind), row.PasswordHash,
		number(row.PasswordChangeRequired), row.DisabledAt, row.CreatedAt, row.UpdatedAt, row.Audience)
	return wrap("insert user", err)
}

// updateUser returns the user as changed; ErrNoRows when there is none,
// ErrExists when the new name is taken.
func updateUser(ctx context.Context, q database.Queries, id string, u UserUpdate, now int64) (userRow, error) {
	disabled := -1 // leave it
	if u.Disabled != nil {
		disabled = number(*u.Disabled)
	}
	var row userRow
	err := q.Get(ctx, &row, `UPDATE users SET
			username = COALESCE($2, username),
			display_name = COALESCE($3, display_name),
			disabled_at = CASE WHEN $4 = 1 THEN COALESCE(disabled_at, $5) WHEN $4 = 0 THEN NULL ELSE disabled_at END,
			audience = COALESCE($6, audience),
			updated_at = $5
		WHERE id = $1 RETURNING `+userFields, id, u.Username, u.DisplayName, disabled, now, u.Audience)
	return row, wrap("update user", err)
}

// updatePassword replaces the password if the user still has the one in row,
// and says whether it did.
func updatePassword(ctx context.Context, q database.Queries, row userRow, hash string, mustChange bool, now int64) (bool, error) {
	n, err := q.Exec(ctx, `UPDATE users SET password_hash = $3, password_change_required = $4, updated_at = $5
		WHERE id = $1 AND password_hash = $2`, row.ID, row.PasswordHash, hash, number(mustChange), now)
	return n == 1, wrap("update password", err)
}

// lockForLogin says whether a user is enabled and has this password, and keeps
// it so until the commit: everything that takes a user's sessions away changes
// the user's row first, and waits here. It stores the hash anew on the way,
// at a higher cost perhaps.
func lockForLogin(ctx context.Context, q database.Queries, id, compared, hash string) (bool, error) {
	n, err := q.Exec(ctx, `UPDATE users SET password_hash = $3
		WHERE id = $1 AND password_hash = $2 AND disabled_at IS NULL`, id, compared, hash)
	return n == 1, wrap("lock user", err)
}

// lockUser keeps a user as they are until the commit; userUnknown when there
// is none.
func lockUser(ctx context.Context, q database.Queries, id string) (userRow, error) {
	var row userRow
	err := q.Get(ctx, &row, `UPDATE users SET updated_at = updated_at WHERE id = $1 RETURNING `+userFields, id)
	if errors.Is(err, database.ErrNoRows) {
		return row, userUnknown()
	}
	return row, wrap("lock user", err)
}

func deleteUser(ctx context.Context, q database.Queries, id string) error {
	_, err := q.Exec(ctx, `DELETE FROM users WHERE id = $1`, id)
	return wrap("delete user", err)
}

func wrap(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}

// number is a boolean as it is stored.
func number(b bool) int {
	if b {
		return 1
	}
	return 0
}
