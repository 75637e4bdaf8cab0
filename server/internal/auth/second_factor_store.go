package auth

import (
	"context"

	"github.com/tollgatehq/tollgate/server/internal/database"
)

// secondFactorRow is a person's second factor; it waits for its confirmation
// while ConfirmedAt is nil.
type secondFactorRow struct {
	UserID      string `db:"user_id"`
	Secret      []byte `db:"secret"` // sealed
	ConfirmedAt *int64 `db:"confirmed_at"`
}

func getSecondFactor(ctx context.Context, q database.Queries, userID string) (row secondFactorRow, err error) {
	err = q.Get(ctx, &row, `SELECT user_id, secret, confirmed_at FROM second_factors WHERE user_id = $1`, userID)
	return row, err
}

// insertSecondFactor adds a second factor that is to be confirmed, in place of
// another such one, and says whether it did: not when one is confirmed.
func insertSecondFactor(ctx context.Context, q database.Queries, userID string, sealed []byte, now int64) (bool, error) {
	n, err := q.Exec(ctx, `INSERT INTO second_factors (user_id, secret, created_at, last_step) VALUES ($1, $2, $3, 0)
		ON CONFLICT (user_id) DO UPDATE SET secret = excluded.secret, created_at = excluded.created_at, last_step = 0
		WHERE second_factors.confirmed_at IS NULL`, userID, sealed, now)
	return n == 1, err
}

func updateConfirmed(ctx context.Context, q database.Queries, userID string, now int64) error {
	_, err := q.Exec(ctx, `UPDATE second_factors SET confirmed_at = $2 WHERE user_id = $1 AND confirmed_at IS NULL`, userID, now)
	return err
}

// updateLastStep takes the code of a time step and says whether it did: of
// several calls with one step, or one before it, one finds it unused.
func updateLastStep(ctx context.Context, q database.Queries, userID string, step int64) (bool, error) {
	n, err := q.Exec(ctx, `UPDATE second_factors SET last_step = $2 WHERE user_id = $1 AND last_step < $2`, userID, step)
	return n == 1, err
}

// deleteSecondFactor removes a second factor with its recovery codes, and says
// whether there was one.
func deleteSecondFactor(ctx context.Context, q database.Queries, userID string) (bool, error) {
	if err := deleteRecoveryCodes(ctx, q, userID); err != nil {
		return false, err
	}
	n, err := q.Exec(ctx, `DELETE FROM second_factors WHERE user_id = $1`, userID)
	return n == 1, err
}

// lockSecondFactors returns all second factors and keeps them from being
// changed until the commit. It is an update because that locks in both
// dialects.
func lockSecondFactors(ctx context.Context, q database.Queries) (rows []secondFactorRow, err error) {
	err = q.Select(ctx, &rows, `UPDATE second_factors SET secret = secret RETURNING user_id, secret`)
	return rows, err
}

func updateSecret(ctx context.Context, q database.Queries, row secondFactorRow) error {
	_, err := q.Exec(ctx, `UPDATE second_factors SET secret = $1 WHERE user_id = $2`, row.Secret, row.UserID)
	return err
}

func insertRecoveryCodes(ctx context.Context, q database.Queries, userID string, hashes [][]byte) error {
	args := make([]any, 0, 2*len(hashes))
	for _, hash := range hashes {
		args = append(args, userID, hash)
	}
	return q.Insert(ctx, "recovery_codes", "user_id, hash", args)
}

// updateRecoveryCodeUsed uses a code up and says whether it did: of several
// calls with one code, one finds it unused.
func updateRecoveryCodeUsed(ctx context.Context, q database.Queries, userID string, hash []byte, now int64) (bool, error) {
	n, err := q.Exec(ctx, `UPDATE recovery_codes SET used_at = $3
		WHERE user_id = $1 AND hash = $2 AND used_at IS NULL`, userID, hash, now)
	return n == 1, err
}

func deleteRecoveryCodes(ctx context.Context, q database.Queries, userID string) error {
	_, err := q.Exec(ctx, `DELETE FROM recovery_codes WHERE user_id = $1`, userID)
	return err
}
