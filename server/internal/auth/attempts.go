package auth

import (
	"context"
	"fmt"
	"time"

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

// countAttempt counts an attempt to guess a user's password, before it is looked
// at: for the user at this address, and for the user everywhere. When there
// were too many, it records the event as denied.
func (s *Service) countAttempt(ctx context.Context, name string, event audit.Event) error {
	result, err := s.limits.Take(ctx, attempt(ctx, name, limits.SubjectUserIP, limits.SubjectUser))
	if err == nil && !result.Allowed && !result.Outage {
		result, err = s.countFromKnown(ctx, name, result)
	}
	return s.checkAttempt(ctx, result, err, event)
}

// codeAttempt is a guess at a user's second factor. Only a caller who knows the
// user's password or has a token of theirs gets to make one, so that no stranger can
// keep the user out with it, and the address need not matter: a code has a
// million values, not as many as a password.
func codeAttempt(name string) limits.Request {
	return limits.Request{Permission: limits.SecondFactor, UserID: name, Cost: 1, Only: []limits.Subject{limits.SubjectUser}}
}

// countCodeAttempt counts an attempt to guess a code of a user's second factor,
// beside countAttempt and in the same way.
func (s *Service) countCodeAttempt(ctx context.Context, name string, event audit.Event) error {
	result, err := s.limits.Take(ctx, codeAttempt(name))
	return s.checkAttempt(ctx, result, err, event)
}

// checkAttempt is the error for an attempt that was counted with this result.
func (s *Service) checkAttempt(ctx context.Context, result limits.Result, err error, event audit.Event) error {
	return s.checkTaken(ctx, result, err, event,
		fault.New(fault.Limited, "TOO_MANY_ATTEMPTS", "too many attempts with this user name; wait, then try again"))
}

// checkTaken is the error for what was counted with this result: the answer when
// a limit is used up, which is recorded.
func (s *Service) checkTaken(ctx context.Context, result limits.Result, err error, event audit.Event, answer *fault.Error) error {
	switch {
	case err != nil:
		return fmt.Errorf("count the attempt: %w", err)
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
	return answer.After(result.RetryAfter)
}

// countFromKnown lets no stranger keep a user out by using up what the user has
// everywhere: an attempt from an address that the user has signed in from
// before is counted for the user at this address alone. It needs a limit that
// does so and is not used up, or else the refusal stays. The address is looked
// up for every name, so that the work reveals no names.
func (s *Service) countFromKnown(ctx context.Context, name string, refused limits.Result) (limits.Result, error) {
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
	n, err := countSessionsFrom(ctx, s.db, name, limits.IPKey(caller.From(ctx).IP))
	if err != nil || n == 0 {
		return refused, err
	}
	return s.limits.Take(ctx, attempt(ctx, name, limits.SubjectUserIP))
}

// resetAttempts lets a user who knows the password start afresh, here and
// everywhere; guesses from other addresses stay counted there. When it cannot be
// done now, the counts run out by themselves.
func (s *Service) resetAttempts(ctx context.Context, name string) {
	_ = s.limits.Forget(ctx, attempt(ctx, name, limits.SubjectUserIP, limits.SubjectUser))
	_ = s.limits.Forget(ctx, codeAttempt(name))
}

// refuseAnonymous counts and records an anonymous call that was refused for its
// token, and returns the answer: the one given, or that there were too many such
// calls from the address. Calls with a good token are not counted, so that they
// are never refused for others behind the same address.
func (s *Service) refuseAnonymous(ctx context.Context, event audit.Event, answer error) error {
	if err := s.countAnonymous(ctx, event); err != nil {
		return err
	}
	if err := s.audit.RecordRefusal(ctx, event, string(event.Action)+" "+event.Reason, event.Origin()); err != nil {
		return err
	}
	return answer
}

// countAnonymous counts a call with a token that is not good. The error says
// that there were too many from the address; that is recorded.
func (s *Service) countAnonymous(ctx context.Context, event audit.Event) error {
	taken, err := s.limits.Take(ctx, limits.Request{Permission: limits.Anonymous, IP: caller.From(ctx).IP, Cost: 1})
	return s.checkTaken(ctx, taken, err, event, fault.New(fault.Limited, "LIMITED",
		"too many bad tokens from this address; try again in %s", max(taken.RetryAfter.Truncate(time.Second), time.Second)))
}
