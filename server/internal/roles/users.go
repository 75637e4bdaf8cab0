package roles

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/database"
	"github.com/tollgatehq/tollgate/server/internal/fault"
	"github.com/tollgatehq/tollgate/server/internal/page"
)

// UserPermission is one thing that a role of a user allows or denies.
type UserPermission struct {
	Role      string // that the user holds
	From      string // that the grant stands in
	Grant     Grant
	ExpiresAt time.Time // of the user's role; zero: never
}

// UserRoles returns the roles that a user holds now, by name.
func (s *Service) UserRoles(ctx context.Context, userID string) ([]Member, error) {
	if err := s.userExists(ctx, userID); err != nil {
		return nil, err
	}
	list, err := rolesOfUser(ctx, s.db, userID, s.clock.Micros())
	if err != nil {
		return nil, fmt.Errorf("read the roles of user %q: %w", userID, err)
	}
	return list, nil
}

// UserPermissions returns a page of what the roles of a user allow and deny.
func (s *Service) UserPermissions(ctx context.Context, userID string, size int32, token string) ([]UserPermission, string, error) {
	held, err := s.UserRoles(ctx, userID)
	if err != nil {
		return nil, "", err
	}
	type cursor struct {
		Role string
		N    int // how many of the role's are over
	}
	policy := s.policy.Load()
	type numbered struct {
		UserPermission
		n int
	}
	list, next, err := page.List(s.pages, "permissions of "+userID, size, token, func(after cursor, n int) ([]numbered, error) {
		var list []numbered
		for _, m := range held {
			if m.Role < after.Role || len(list) == n {
				continue
			}
			i := 0
			err := policy.each(m.Role, func(from string, g *grant) error {
				i++
				if (m.Role > after.Role || i > after.N) && len(list) < n {
					list = append(list, numbered{UserPermission{Role: m.Role, From: from, Grant: g.Grant, ExpiresAt: m.ExpiresAt}, i})
				}
				return nil
			})
			if err != nil {
				return nil, err
			}
		}
		return list, nil
	}, func(p numbered) cursor { return cursor{p.Role, p.n} })
	found := make([]UserPermission, len(list))
	for i, p := range list {
		found[i] = p.UserPermission
	}
	return found, next, err
}

// Ends are when the roles of a user end, by name, as far as they do.
func (s *Service) Ends(ctx context.Context, userID string) (map[string]time.Time, error) {
	list, err := rolesOfUser(ctx, s.db, userID, s.clock.Micros())
	ends := map[string]time.Time{}
	for _, m := range list {
		if !m.ExpiresAt.IsZero() {
			ends[m.Role] = m.ExpiresAt
		}
	}
	return ends, err
}

// MembersOf returns up to n enabled users after a user id who hold one of the roles
// now, by user id.
func (s *Service) MembersOf(ctx context.Context, names []string, after string, n int) ([]Member, error) {
	if len(names) == 0 {
		return nil, nil
	}
	return membersOfAny(ctx, s.db, names, after, s.clock.Micros(), n)
}

// Change is what an update would change for one user.
type Change struct {
	UserID, Username string
	Gains, Losses    []Grant
}

// Preview is the policy as an update of a role would make it, and the role. The
// update must be one that Update takes, but for what the caller holds.
func (s *Service) Preview(ctx context.Context, name string, edit Edit) (*Policy, Role, error) {
	if err := edit.check(); err != nil {
		return nil, Role{}, err
	}
	r, err := s.Get(ctx, name)
	if err != nil {
		return nil, Role{}, err
	}
	if r.Builtin {
		return nil, Role{}, builtin(name)
	}
	if err := s.checkPatterns(edit.Permissions, r.Permissions); err != nil {
		return nil, Role{}, err
	}
	if err := s.checkGrants(edit.Grants, r.Grants); err != nil {
		return nil, Role{}, err
	}
	policy, after := s.policy.Load(), edit.apply(r)
	for _, from := range after.Inherits {
		if !policy.Has(from) {
			return nil, Role{}, roleError("inherit", from, database.ErrNoRows)
		}
	}
	next := policy.With([]Role{after}, nil)
	inherits := map[string][]string{}
	for other, c := range next.roles {
		inherits[other] = c.role.Inherits
	}
	if err := checkDepth(name, inherits); err != nil {
		return nil, Role{}, err
	}
	return next, after, nil
}

// ChangeOf is what a new policy would change for a user of these roles.
func (s *Service) ChangeOf(next *Policy, m Member, held []string) Change {
	present := s.policy.Load()
	return Change{UserID: m.UserID, Username: m.Username, Gains: difference(next, present, held), Losses: difference(present, next, held)}
}

func (s *Service) userExists(ctx context.Context, userID string) error {
	err := findUser(ctx, s.db, userID)
	if errors.Is(err, database.ErrNoRows) {
		return fault.New(fault.NotFound, "USER_NOT_FOUND", "there is no user with the id %q", userID)
	}
	return err
}
