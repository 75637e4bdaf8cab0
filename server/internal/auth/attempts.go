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
	if err := s.audit.Record(ctx, event.Because(reasonLimited)); err != nil {
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
}
