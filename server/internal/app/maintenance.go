package app

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/tollgatehq/tollgate/internal/jose"
)

// maintain runs the slow periodic work.
func (a *App) maintain(ctx context.Context) {
	often, seldom := time.NewTicker(10*time.Second), time.NewTicker(time.Hour)
	defer often.Stop()
	defer seldom.Stop()
	_ = a.audit.Measure(ctx) // or in ten seconds
	for {
		var err error
		select {
		case <-ctx.Done():
			return
		case <-often.C:
			a.refused.flush(ctx)
			err = errors.Join(a.Auth.APIKeys.FlushLastUsed(ctx), a.audit.Measure(ctx))
		case <-seldom.C:
			err = errors.Join(a.Auth.Prune(ctx), a.tree.Thin(ctx))
		}
		if err != nil && ctx.Err() == nil {
			a.out.Log.WarnContext(ctx, "maintenance failed; trying again later", "error", err)
		}
	}
}

// signingKeyAhead is how long a signing key is published before it signs: also
// longer than an instance may go on without knowing of it.
func (a *App) signingKeyAhead() time.Duration {
	return max(cmp.Or(a.config.SigningKeyAhead, jose.KeyLeadTime), a.config.Staleness+time.Second)
}

// rotateKeys makes a new signing key whenever it is time for one.
func (a *App) rotateKeys(ctx context.Context) {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	failing := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		err := a.Auth.SigningKeys.RotateIfDue(ctx)
		if err != nil && ctx.Err() == nil && !failing {
			a.out.Log.WarnContext(ctx, "the signing key is due and cannot be rotated; trying again", "error", err)
		}
		failing = err != nil
	}
}
