package auth

import (
	"context"
	"fmt"
	"strings"

	"github.com/tollgatehq/tollgate/server/internal/database"
)

// secondFactorRow is a person's second factor; it waits for its confirmation
// while ConfirmedAt is nil.
type secondFactorRow struct {
	UserID      string `db:"user_id"`
	Secret      []byte `db:"secret"` // sealed
	ConfirmedAt *int64 `db:"confirmed_at"`
}

// secondFactor returns ErrNoRows when there is none.
func secondFactor(ctx context.Context, q database.Queries, userID string) (secondFactorRow, error) {
	var row secondFactorRow
	err := q.Get(ctx, &row, `SELECT user_id, secret, confirmed_at FROM second_factors WHERE user_id = $1`, userID)
	return row, wrap("read second factor", err)
}

// insertSecondFactor adds a second factor that is to be confirmed, in place of
// another such one, and says whether it did: not when one is confirmed.
func insertSecondFactor(ctx context.Context, q database.Queries, userID string, sealed []byte, now int64) (bool, error) {
	n, err := q.Exec(ctx, `INSERT INTO second_factors (user_id, secret, created_at, last_step) VALUES ($1, $2, $3, 0)
		ON CONFLICT (user_id) DO UPDATE SET secret = excluded.secret, created_at = excluded.created_at, last_step = 0
		WHERE second_factors.confirmed_at IS NULL`, userID, sealed, now)
	return n == 1, wrap("insert second factor", err)
}

func confirmSecondFactor(ctx context.Context, q database.Queries, userID string, now int64) error {
	_, err := q.Exec(ctx, `UPDATE second_factors SET confirmed_at = $2 WHERE user_id = $1 AND confirmed_at IS NULL`, userID, now)
	return wrap("confirm second factor", err)
}

// deleteSecondFactor removes a second factor with its recovery codes, and says
// whether there was one.
func deleteSecondFactor(ctx context.Context, q database.Queries, userID string) (bool, error) {
	if _, err := q.Exec(ctx, `DELETE FROM recovery_codes WHERE user_id = $1`, userID); err != nil {
		return false, wrap("delete recovery codes", err)
	}
	n, err := q.Exec(ctx, `DELETE FROM second_factors WHERE user_id = $1`, userID)
	return n == 1, wrap("delete second factor", err)
}

// useStep accepts the code of a time step and says whether it did: of several
// calls with one step, or one before it, one finds it unused.
func useStep(ctx context.Context, q database.Queries, userID string, step int64) (bool, error) {
	n, err := q.Exec(ctx, `UPDATE second_factors SET last_step = $2 WHERE user_id = $1 AND last_step < $2`, userID, step)
	return n == 1, wrap("use a code", err)
}

func replaceRecoveryCodes(ctx context.Context, q database.Queries, userID string, hashes [][]byte) error {
	if _, err := q.Exec(ctx, `DELETE FROM recovery_codes WHERE user_id = $1`, userID); err != nil {
		return wrap("delete recovery codes", err)
	}
	var rows strings.Builder
	args := []any{userID}
	for i, hash := range hashes {
		if i > 0 {
			rows.WriteByte(',')
		}
		args = append(args, hash)
		fmt.Fprintf(&rows, "($1, $%d)", len(args))
	}
	_, err := q.Exec(ctx, `INSERT INTO recovery_codes (user_id, hash) VALUES `+rows.String(), args...)
	return wrap("insert recovery codes", err)
}

// useRecoveryCode uses a code up and says whether it did: of several calls with
// one code, one finds it unused.
func useRecoveryCode(ctx context.Context, q database.Queries, userID string, hash []byte, now int64) (bool, error) {
	n, err := q.Exec(ctx, `UPDATE recovery_codes SET used_at = $3
		WHERE user_id = $1 AND hash = $2 AND used_at IS NULL`, userID, hash, now)
	return n == 1, wrap("use a recovery code", err)
}
