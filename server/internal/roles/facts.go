package roles

import (
	"context"
	"fmt"

	"github.com/tollgatehq/tollgate/server/internal/database"
)

// What conditions read of a principal and others may change.
const (
	aboutAttributes = "principal.attributes"
	aboutUsername   = "principal.username"
	aboutRoles      = "principal.roles"
)

// MayDescribeIn returns nil when the caller may change the attributes of a user:
// whoever holds, without a condition, all that the user's conditions about the
// principal's attributes allow or deny, for as long. Others could make them true, or
// false. Call it with the user's row locked.
func (s *Service) MayDescribeIn(ctx context.Context, q database.Queries, userID string) error {
	return s.mayAlterIn(ctx, q, userID, aboutAttributes)
}

// MayRenameIn is MayDescribeIn for the user's name.
func (s *Service) MayRenameIn(ctx context.Context, q database.Queries, userID string) error {
	return s.mayAlterIn(ctx, q, userID, aboutUsername)
}

func (s *Service) mayAlterIn(ctx context.Context, q database.Queries, userID, variable string) error {
	g, err := s.giver(ctx, q)
	if err != nil || g.everything {
		return err
	}
	theirs, err := s.holds(ctx, q, userID, false)
	if err != nil {
		return err
	}
	for _, h := range theirs {
		guards := guarded(h.grants, variable)
		if len(guards) == 0 {
			continue
		}
		if err := g.mayGive(guards, h.ends, "a condition of the user's is about this, so ask a user who holds it for as long"); err != nil {
			return err
		}
	}
	return nil
}

// mayRemoveNameIn returns nil when the caller may remove the name of a role from those
// that users hold, whoever they are: mayAlterIn for the roles that all conditions
// about them are in.
func (s *Service) mayRemoveNameIn(ctx context.Context, q database.Queries) error {
	list, err := withGrants(ctx, q, "roles")
	if err != nil {
		return fmt.Errorf("read the conditions about roles: %w", err)
	}
	var guards []gift
	for _, c := range NewPolicy(list).roles {
		guards = append(guards, guarded(c.own, aboutRoles)...)
	}
	if len(guards) == 0 {
		return nil
	}
	return s.mayGiveIn(ctx, q, guards, forever, "a condition is about the roles of users, so ask a user who holds it without an end")
}

// guarded is what grants allow or deny under conditions about a variable.
func guarded(grants []grant, variable string) (list []gift) {
	for _, g := range grants {
		if g.Condition != "" && (g.condition == nil || g.condition.ReadsAny(variable)) {
			list = append(list, gift{pattern: g.Permission, deny: g.Effect == Deny})
		}
	}
	return list
}
