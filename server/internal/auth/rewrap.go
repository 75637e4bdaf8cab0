package auth

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/tollgatehq/tollgate/server/internal/audit"
	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/clock"
	"github.com/tollgatehq/tollgate/server/internal/database"
	"github.com/tollgatehq/tollgate/server/internal/seal"
)

// Resealed says how much was sealed under a new master key.
type Resealed struct {
	SigningKeys   int
	SecondFactors int
}

// Reseal opens all that is sealed in the database under one master key and
// seals it under another, all or nothing. It waits for changes of signing keys
// and second factors under way, and they wait for it. Instances that run go on
// with the signing keys that they have in memory; they need the new master key
// at their next start.
func Reseal(ctx context.Context, db *database.DB, clk clock.Clock, from, to *seal.Master) (Resealed, error) {
	var done Resealed
	ctx = caller.System(ctx)
	err := db.Write(ctx, func(ctx context.Context, tx *database.Tx) error {
		keys, factors, err := lockSealed(ctx, tx)
		if err != nil {
			return err
		}
		done = Resealed{SigningKeys: len(keys), SecondFactors: len(factors)}
		for _, row := range keys {
			if row.Sealed, err = reseal(row.Sealed, signingKeyName(row.ID), from, to); err != nil {
				return err
			}
			if err := resealSigningKey(ctx, tx, row); err != nil {
				return err
			}
		}
		for _, row := range factors {
			if row.Sealed, err = reseal(row.Sealed, secondFactorName(row.ID), from, to); err != nil {
				return err
			}
			if err := resealSecondFactor(ctx, tx, row); err != nil {
				return err
			}
		}
		return audit.Append(ctx, tx, clk, audit.New(ctx, audit.SigningReseal, audit.Success, "signing_keys").
			With("signing_keys", strconv.Itoa(done.SigningKeys)).With("second_factors", strconv.Itoa(done.SecondFactors)))
	})
	if err != nil {
		return Resealed{}, fmt.Errorf("seal under the new master key: %w", err)
	}
	return done, nil
}

// Sealed says whether the database has anything that a master key sealed. It
// may have no schema yet.
func Sealed(ctx context.Context, db *database.DB) (bool, error) {
	for _, table := range []string{"signing_keys", "second_factors"} {
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

// AfterLoss is what to do when the master key is gone.
const AfterLoss = "if it is lost for good, delete the rows of the tables signing_keys and second_factors and start again, " +
	"which invalidates the access tokens issued so far and turns every second factor off"

func reseal(sealed []byte, context string, from, to *seal.Master) ([]byte, error) {
	plain, err := from.Open(sealed, context)
	if errors.Is(err, seal.ErrWrongKey) {
		return nil, fmt.Errorf("%s: %w: nothing was changed; give the present master key (TOLLGATE_MASTER_KEY)", context, err)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", context, err)
	}
	return to.Seal(plain, context), nil
}

// secondFactorName is what a user's second factor is sealed with.
func secondFactorName(userID string) string { return "second_factors/" + userID }
