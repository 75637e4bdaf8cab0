package app

import (
	"context"

	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/decision"
	"github.com/tollgatehq/tollgate/server/internal/fault"
)

// stepUp is what sensitive calls take. A role that is not there may be made
// later, or its name is misspelled, and then no sign-in is asked for a second factor.
func (a *App) stepUp() decision.StepUp {
	for _, role := range a.config.RequireSecondFactorFor {
		_, err := a.roles.Get(caller.System(context.Background()), role)
		if fault.Is(err, fault.NotFound) {
			a.out.Log.Warn("--require-second-factor-for names a role that there is not; is it misspelled?", "role", role)
		}
	}
	return decision.StepUp{SecondFactorFor: a.config.RequireSecondFactorFor, RecentSignIn: a.config.RequireRecentSignIn}
}
