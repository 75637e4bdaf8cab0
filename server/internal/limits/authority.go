package limits

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/tollgatehq/tollgate/internal/perm"
	"github.com/tollgatehq/tollgate/server/internal/database"
	"github.com/tollgatehq/tollgate/server/internal/fault"
)

// everything is the pattern that administrators hold.
const everything = "*"

// mayManage refuses to let a caller make, change, remove or reset a limit with
// one of the permission patterns that covers a call of Tollgate's own, unless
// the caller holds "*": a limit that refuses sign-ins locks all users out, and
// one that is eased or reset lets passwords be guessed. It is Denied,
// LIMITS_TOLLGATE. It reads the truth through q; call it in the transaction.
func (s *Service) mayManage(ctx context.Context, q database.Queries, patterns ...string) error {
	i := slices.IndexFunc(patterns, perm.Own)
	if i < 0 {
		return nil
	}
	return forAdministrators(patterns[i], s.roles.MayGrantIn(ctx, q, []string{everything}, s.clock.Stored()))
}

// mayCheck is mayManage for a caller who counts a call, which uses up what others
// are allowed. It does no I/O.
func (s *Service) mayCheck(ctx context.Context, pattern string) error {
	if !perm.Own(pattern) {
		return nil
	}
	return forAdministrators(pattern, s.roles.MayGrant(ctx, []string{everything}))
}

// forAdministrators says what a caller without "*" can do instead.
func forAdministrators(pattern string, err error) error {
	if !fault.Is(err, fault.Denied) {
		return err
	}
	return fault.New(fault.Denied, "LIMITS_TOLLGATE",
		"a limit on %q counts calls of Tollgate's own API, so creating, changing, checking or resetting it needs %q; "+
			"give the limit a permission of your own, such as \"orders:*\", or ask an administrator", pattern, everything)
}

const (
	// longestLockout is how long a limit on sign-ins that is used up may take
	// until it lets the next one pass: a period of a window or backoff, or the
	// time that GCRA takes to give one call back.
	longestLockout = 15 * time.Minute
	// sharedGap is the same for each call of a limit that counts all users'
	// sign-ins together: they compete for what comes back.
	sharedGap = time.Second
)

// checkSignIns refuses a limit on sign-ins that locks users out for long, the
// administrator who mistyped it among them.
func (l Limit) checkSignIns() error {
	if l.Mode != Enforce || l.Subject == SubjectAPIKey || !perm.Covers(l.Permission, login) {
		return nil
	}
	because := fmt.Sprintf("because %q covers sign-ins (%s); narrow the permission, or try the limit in shadow mode", l.Permission, login)
	shared := l.Subject == SubjectGlobal || l.Subject == SubjectCustom // sign-ins have no context to tell them apart
	gap := func(rate int64) time.Duration { return l.Period / time.Duration(rate) }
	switch {
	case l.Algorithm == Calendar:
		return fault.Field("algorithm", "must not be calendar, %s", because)
	case shared && l.Algorithm == Backoff:
		return fault.Field("algorithm", "must not be backoff for all users together, %s", because)
	case shared && gap(l.Rate) > sharedGap:
		return fault.Field("rate", "must be at least one call in %s for all users together, %s", sharedGap, because)
	case l.Algorithm != GCRA && l.Period > longestLockout:
		return fault.Field("period", "must be at most %s, %s", longestLockout, because)
	case l.Algorithm == GCRA && gap(l.Rate) > longestLockout:
		return fault.Field("rate", "must be at least one call in %s, %s", longestLockout, because)
	}
	for i, o := range l.Overrides {
		if l.Algorithm == GCRA && !shared && gap(o.Rate) > longestLockout {
			return fault.Field(fmt.Sprintf("overrides[%d].rate", i), "must be at least one call in %s, %s", longestLockout, because)
		}
	}
	return nil
}
