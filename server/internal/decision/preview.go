package decision

import (
	"context"
	"net/netip"
	"slices"

	"github.com/tollgatehq/tollgate/internal/perm"
	"github.com/tollgatehq/tollgate/server/internal/audit"
	"github.com/tollgatehq/tollgate/server/internal/auth"
	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/page"
	"github.com/tollgatehq/tollgate/server/internal/roles"
)

// Replayed is a recorded refusal that a new policy would decide otherwise.
type Replayed struct {
	Event         audit.Event
	Permission    string
	Before, After caller.Reason
}

// Preview is what an update of a role would change.
type Preview struct {
	Role     roles.Role // as it would be
	Changes  []roles.Change
	Next     string // page token of Changes
	Replayed []Replayed
}

// Preview looks at an update of a role: a page of the users for whom it would change
// something, and which of the latest n recorded refusals would be decided otherwise.
func (s *Service) Preview(ctx context.Context, pages page.Tokens, name string, edit roles.Edit, size int32, token string, n int) (p Preview, err error) {
	if err := s.log.Ensure(ctx, 0); err != nil {
		return Preview{}, err
	}
	next, after, err := s.roles.Preview(ctx, name, edit)
	if err != nil {
		return Preview{}, err
	}
	p.Role = after
	heirs := append(next.Heirs(name), s.roles.Policy().Heirs(name)...)
	slices.Sort(heirs)
	p.Changes, p.Next, err = scan(ctx, s, pages, "preview of "+name, slices.Compact(heirs), size, token, func(m roles.Member) (roles.Change, bool, error) {
		held, err := s.roles.RolesOf(ctx, m.UserID)
		c := s.roles.ChangeOf(next, m, held)
		return c, len(c.Gains)+len(c.Losses) > 0, err
	})
	if err == nil && n > 0 {
		p.Replayed, err = s.replay(ctx, next, n)
	}
	return p, err
}

// replay decides the latest n recorded refusals again, by the policy of the present
// and by another.
func (s *Service) replay(ctx context.Context, policy *roles.Policy, n int) ([]Replayed, error) {
	events, err := s.audit.Latest(ctx, audit.AccessDenied, n)
	if err != nil {
		return nil, err
	}
	var list []Replayed
	for _, e := range events {
		permission := e.Details["permission"]
		if e.ActorID == "" || perm.ValidPermission(permission) != nil {
			continue
		}
		verified, err := s.auth.Verify(ctx, auth.Credential{UserID: e.ActorID})
		if err != nil {
			return nil, err
		}
		if verified.Reason != caller.ReasonOK {
			continue
		}
		input := s.input(ctx, verified.Principal, &Request{Resource: e.Resource, IP: addressOf(e)}, permission)
		before, err := s.roles.Judge(verified.Principal, permission, input)
		if err != nil {
			return nil, err
		}
		after, err := policy.Judge(verified.Principal, permission, input)
		if err != nil {
			return nil, err
		}
		if before.Reason != after.Reason {
			list = append(list, Replayed{Event: e, Permission: permission, Before: before.Reason, After: after.Reason})
		}
	}
	return list, nil
}

// addressOf is the address that an event was from; the zero Addr when it is not known.
func addressOf(e audit.Event) netip.Addr {
	ip, _ := netip.ParseAddr(e.IP) // empty when not known
	return ip
}
