package app

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/auth"
	"github.com/tollgatehq/tollgate/server/internal/clock"
	"github.com/tollgatehq/tollgate/server/internal/database"
)

// Rewrap seals everything in the database under a new master key, which is
// given as Config.MasterKey is, in one transaction. Servers may run meanwhile;
// see the help of "tollgate signing-keys rewrap".
func Rewrap(ctx context.Context, config Config, next string, clk clock.Clock) (done auth.Rewrapped, err error) {
	if err := config.check(); err != nil {
		return auth.Rewrapped{}, err
	}
	from, err := openMaster(ctx, config)
	if err != nil {
		return auth.Rewrapped{}, fmt.Errorf("the present master key: %w", err)
	}
	to, err := readMaster(next)
	if err != nil {
		return auth.Rewrapped{}, fmt.Errorf("the new master key: %w", err)
	}
	if bytes.Equal(from.Derive("same"), to.Derive("same")) {
		return auth.Rewrapped{}, errors.New("the new master key is the present one; make another with: openssl rand -base64 32")
	}
	// Patient: there may be many second factors.
	db, err := database.OpenWithin(config.DatabaseURL, 5*time.Minute)
	if err != nil {
		return auth.Rewrapped{}, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if _, err := db.MigrateUp(ctx); err != nil {
		return auth.Rewrapped{}, fmt.Errorf("database %s: %w", redactURL(config.DatabaseURL), err)
	}
	return auth.Rewrap(ctx, db, clk, from, to)
}
