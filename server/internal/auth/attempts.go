package auth

import (
	"context"
	"fmt"

	"github.com/tollgatehq/tollgate/server/internal/audit"
	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/fault"
	"github.com/tollgatehq/tollgate/server/internal/limits"
)

// attempt is a guess at a user's password from the caller's address, as limits
// of the subjects count it.
func attempt(ctx context.Context, name string, subjects ...limits.Subject) limits.Request {
	return limits.Request{
		Permission: loginPermission, UserID: name, IP: caller.From(ctx).IP, Cost: 1, Only: subjects,
	}
}

// reserve counts an attempt to guess a user's password, before it is looked
// at: for the user at this address, and for the user everywhere. When there
// were too many, it records the event as denied.
func (s *Service) reserve(ctx context.Context, name string, event audit.Event) error {
	result, err := s.limits.Take(ctx, attempt(ctx, name, limits.SubjectUserIP, limits.SubjectUser))
	if err == nil && !result.Allowed && !result.Outage {
		result, err = s.reserveKnown(ctx, name, result)
	}
	return s.reserved(ctx, result, err, event)
}

// codeAttempt is a guess at a user's second factor. Only who knows the user's
// password or has a token of theirs gets to make one, so that no stranger can
// keep the user out with it, and the address need not matter: a code has a
// million values, not as many as a password.
func codeAttempt(name string) limits.Request {
	return limits.Request{Permission: limits.SecondFactor, UserID: name, Cost: 1, Only: []limits.Subject{limits.SubjectUser}}
}

// reserveCode counts an attempt to guess a code of a user's second factor,
// beside reserve and in the same way.
func (s *Service) reserveCode(ctx context.Context, name string, event audit.Event) error {
	result, err := s.limits.Take(ctx, codeAttempt(name))
	return s.reserved(ctx, result, err, event)
}

// reserved is the error for an attempt that was counted with this result.
func (s *Service) reserved(ctx context.Context, result limits.Result, err error, event audit.Event) error {
	if err != nil {
		return fmt.Errorf("count the attempt: %w", err)
	}
	switch {
	case result.Allowed:
		return nil
	case result.Outage:
		return fault.Down("the store of the limits' counters", nil)
	}
	event.Outcome = audit.Denied
	event = event.Because(reasonLimited).With("limit", result.Name)
	if err := s.audit.RecordRefusal(ctx, event, "limit "+result.Name, result.Key); err != nil {
		return err
	}
	return fault.New(fault.Limited, "TOO_MANY_ATTEMPTS", "too many attempts with this user name; wait, then try again").
		After(result.RetryAfter)
}

// reserveKnown lets no stranger keep a user out by using up what the user has
// everywhere: an attempt from an address that the user has signed in from
// before is counted for the user at this address alone. It needs a limit that
// does so and has room, or else the refusal stays. The address is looked up for
// whatever name, so that the work tells nothing about who there is.
func (s *Service) reserveKnown(ctx context.Context, name string, refused limits.Result) (limits.Result, error) {
	bounded := false
	for _, l := range refused.Limits {
		if l.Subject != limits.SubjectUserIP || l.Shadow {
			continue
		}
		if l.Exceeded {
			return refused, nil
		}
		bounded = true
	}
	if !bounded {
		return refused, nil
	}
	known, err := signedInFrom(ctx, s.db, name, limits.IPKey(caller.From(ctx).IP))
	if err != nil || !known {
		return refused, err
	}
	return s.limits.Take(ctx, attempt(ctx, name, limits.SubjectUserIP))
}

// forgetAttempts lets those who know the password start afresh, here and
// everywhere; guesses from other addresses stay counted there. When it cannot be
// done now, the counts run out by themselves.
func (s *Service) forgetAttempts(ctx context.Context, name string) {
	_ = s.limits.Forget(ctx, attempt(ctx, name, limits.SubjectUserIP, limits.SubjectUser))
	_ = s.limits.Forget(ctx, codeAttempt(name))
}
