package auth

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/tollgatehq/tollgate/server/internal/audit"
	"github.com/tollgatehq/tollgate/server/internal/audit/tree"
	"github.com/tollgatehq/tollgate/server/internal/auth/token"
	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/clock"
	"github.com/tollgatehq/tollgate/server/internal/database"
	"github.com/tollgatehq/tollgate/server/internal/seal"
)

// Rewrapped counts what was sealed under a new master key.
type Rewrapped struct {
	SigningKeys   int
	SecondFactors int
	AuditKeys     int
}

// Rewrap opens everything in the database that is sealed under one master key
// and seals it under another, all or nothing. It waits for changes of signing
// keys and second factors under way, and they wait for it. Running instances
// go on with the signing keys that they have in memory; they need the new
// master key at their next start.
func Rewrap(ctx context.Context, db *database.DB, clk clock.Clock, from, to *seal.Master) (done Rewrapped, err error) {
	ctx = caller.System(ctx)
	rewrap := func(sealed []byte, context string) ([]byte, error) {
		plain, err := from.Open(sealed, context)
		if errors.Is(err, seal.ErrWrongKey) {
			return nil, fmt.Errorf("%s: %w: nothing was changed; give the present master key (TOLLGATE_MASTER_KEY)", context, err)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", context, err)
		}
		return to.Seal(plain, context), nil
	}
	err = db.Write(ctx, func(ctx context.Context, tx *database.Tx) (err error) {
		if done.SigningKeys, err = token.Rewrap(ctx, tx, rewrap); err != nil {
			return err
		}
		if done.AuditKeys, err = tree.Rewrap(ctx, tx, rewrap); err != nil {
			return err
		}
		factors, err := lockSecondFactors(ctx, tx)
		if err != nil {
			return err
		}
		done.SecondFactors = len(factors)
		for _, row := range factors {
			if row.Secret, err = rewrap(row.Secret, secondFactorName(row.UserID)); err != nil {
				return err
			}
			if err := updateSecret(ctx, tx, row); err != nil {
				return err
			}
		}
		return audit.Append(ctx, tx, clk, audit.New(ctx, audit.SigningRewrap, audit.Success, "signing_keys").
			With("signing_keys", strconv.Itoa(done.SigningKeys)).With("second_factors", strconv.Itoa(done.SecondFactors)).
			With("audit_keys", strconv.Itoa(done.AuditKeys)))
	})
	if err != nil {
		return Rewrapped{}, fmt.Errorf("seal under the new master key: %w", err)
	}
	return done, nil
}

// Sealed says whether the database has anything that a master key sealed. It
// may have no schema yet.
func Sealed(ctx context.Context, db *database.DB) (bool, error) {
	for _, table := range []string{"signing_keys", "second_factors", "audit_keys"} {
		exists, err := db.Exists(ctx, table)
		if err != nil {
			return false, err
		}
		if !exists {
			continue
		}
		var rows int
		if err := db.Get(ctx, &rows, "SELECT count(*) FROM "+table); err != nil || rows > 0 {
			return err == nil, err
		}
	}
	return false, nil
}
