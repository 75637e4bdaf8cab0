package decision

import (
	"slices"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/caller"
)

// StepUp is what calls that change who may do what, or show a secret, take of
// people besides the permission. Service accounts, which do not sign in, are
// exempt; an API key of a person is not, and satisfies neither.
type StepUp struct {
	SecondFactorFor []string      // names of roles: who holds one must have signed in with a second factor
	RecentSignIn    time.Duration // how long ago people may have signed in; 0: as long as they like
}

// judge checks a sensitive call by a caller who has the permission. A token that
// does not say how or when its user signed in satisfies nothing.
func (u StepUp) judge(p *caller.Principal, now time.Time) caller.Reason {
	if p.Kind == caller.Service {
		return caller.ReasonOK
	}
	if !p.SecondFactor() && slices.ContainsFunc(p.Roles, func(role string) bool { return slices.Contains(u.SecondFactorFor, role) }) {
		return caller.ReasonSecondFactorRequired
	}
	if u.RecentSignIn > 0 && (p.AuthTime.IsZero() || now.Sub(p.AuthTime) > u.RecentSignIn) {
		return caller.ReasonSignInRequired
	}
	return caller.ReasonOK
}
