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

// refuseAnonymous counts and records a call of nobody known that was refused
// for its token, and returns what to tell the caller: told, or that there were
// too many such calls from the address. Calls with a good token are not
// counted, so that nobody behind the same address is kept out.
func (s *Service) refuseAnonymous(ctx context.Context, event audit.Event, told error) error {
	if err := s.countAnonymous(ctx, event); err != nil {
		return err
	}
	if err := s.audit.RecordRefusal(ctx, event, string(event.Action)+" "+event.Reason, event.Origin()); err != nil {
		return err
	}
	return told
}

// countAnonymous counts a call with a token that is not good. The error says
// that there were too many from the address; that is recorded.
func (s *Service) countAnonymous(ctx context.Context, event audit.Event) error {
	taken, err := s.limits.Take(ctx, limits.Request{Permission: limits.Anonymous, IP: caller.From(ctx).IP, Cost: 1})
	switch {
	case err != nil:
		return fmt.Errorf("count the refusal: %w", err)
	case taken.Allowed:
		return nil
	case taken.Outage:
		return fault.Down("the store of the limits' counters", nil)
	}
	event.Outcome = audit.Denied
	event = event.Because(reasonLimited).With("limit", taken.Name)
	if err := s.audit.RecordRefusal(ctx, event, "limit "+taken.Name, taken.Key); err != nil {
		return err
	}
	return fault.New(fault.Limited, "LIMITED", "too many bad tokens from this address; try again in %s",
		max(taken.RetryAfter.Truncate(time.Second), time.Second)).After(taken.RetryAfter)
}
