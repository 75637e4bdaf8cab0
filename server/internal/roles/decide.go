package roles

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tollgatehq/tollgate/internal/condition"
	"github.com/tollgatehq/tollgate/internal/perm"
	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/changes"
	"github.com/tollgatehq/tollgate/server/internal/database"
)

// held is a user's roles, ended ones and ones that are gone included.
type held struct {
	names []string // sorted
	ends  []int64  // of the role at the same place, in microseconds; 0: never
}

// Reset reads all roles again and forgets who holds them.
func (s *Service) Reset(ctx context.Context) error {
	s.held.Clear()
	list, err := allRoles(ctx, s.db)
	if err != nil {
		return fmt.Errorf("read all roles: %w", err)
	}
	s.policy.Store(s.policy.Load().again(list))
	return nil
}

// Apply reads the roles that changed and forgets the memberships that did.
func (s *Service) Apply(ctx context.Context, list []changes.Change) error {
	var names []string
	for _, c := range list {
		switch {
		case c.Kind == changes.Role:
			names = append(names, c.Subject)
		case c.Kind == changes.Membership && c.Subject == "":
			s.held.Clear()
		case c.Kind == changes.Membership:
			s.held.Invalidate(c.Subject)
		case c.Kind == changes.User: // a removed user's memberships go with them
			s.held.Invalidate(c.Subject)
		}
	}
	if len(names) == 0 {
		return nil
	}
	slices.Sort(names)
	names = slices.Compact(names)
	if len(names) >= reloadAll {
		return s.Reset(ctx)
	}
	var changed []Role
	var removed []string
	for _, name := range names {
		r, err := getRole(ctx, s.db, name)
		switch {
		case errors.Is(err, database.ErrNoRows):
			removed = append(removed, name)
		case err != nil:
			return fmt.Errorf("read role %q again: %w", name, err)
		default:
			changed = append(changed, r)
		}
	}
	s.policy.Store(s.policy.Load().With(changed, removed))
	return nil
}

// RolesOf returns the names of the roles that a user holds now, sorted; none
// for a user who does not exist. It asks the database only for users that it
// has not seen lately.
func (s *Service) RolesOf(ctx context.Context, userID string) ([]string, error) {
	names, _, err := s.RolesUntil(ctx, userID)
	return names, err
}

// RolesUntil is RolesOf, and when the first of the roles ends; zero: none does.
func (s *Service) RolesUntil(ctx context.Context, userID string) ([]string, time.Time, error) {
	h, err := s.held.Get(ctx, userID, func(ctx context.Context) (held, error) {
		list, err := listAssignments(ctx, s.db, userID)
		if err != nil {
			return held{}, fmt.Errorf("read the roles of user %q: %w", userID, err)
		}
		slices.SortFunc(list, func(a, b assignment) int { return strings.Compare(a.Role, b.Role) })
		var h held
		for _, a := range list {
			var end int64
			if a.Expires != nil {
				end = *a.Expires
			}
			h.names, h.ends = append(h.names, a.Role), append(h.ends, end)
		}
		return h, nil
	})
	if err != nil {
		return nil, time.Time{}, err
	}
	policy, now := s.policy.Load(), s.clock.Micros()
	names, first := make([]string, 0, len(h.names)), int64(forever)
	for i, name := range h.names {
		if policy.Has(name) && (h.ends[i] == 0 || now < h.ends[i]) {
			names = append(names, name)
			if h.ends[i] != 0 {
				first = min(first, h.ends[i])
			}
		}
	}
	if first == forever {
		return names, time.Time{}, nil
	}
	return names, time.UnixMicro(first), nil
}

// Judge says whether the principal may, by the roles of the present. It takes the
// principal's roles as given and does no I/O but that of input.
func (s *Service) Judge(p *caller.Principal, permission string, input Input) (Verdict, error) {
	return s.policy.Load().Judge(p, permission, input)
}

// Check is Judge without anything that a condition could read: a grant with one
// allows nothing.
func (s *Service) Check(p *caller.Principal, permission string) caller.Reason {
	v, err := s.Judge(p, permission, func(*condition.Condition) (*condition.Input, error) { return nil, errNoInput })
	if err != nil {
		return caller.ReasonConditionFailed
	}
	return v.Reason
}

var errNoInput = errors.New("nothing is known of the call")

// Policy is all roles as they are in force here.
func (s *Service) Policy() *Policy { return s.policy.Load() }

// Patterns returns what the principal's roles grant without a condition, narrowed to
// the scopes of their API key, sorted. What they are denied is not taken out.
func (s *Service) Patterns(p *caller.Principal) []string {
	if p == nil {
		return []string{}
	}
	var granted []string
	policy := s.policy.Load()
	for _, name := range p.Roles {
		if c := policy.roles[name]; c != nil {
			granted = append(granted, c.patterns...)
		}
	}
	granted = perm.Tidy(granted)
	if len(p.Scopes) == 0 {
		return granted
	}
	return perm.Intersect(granted, p.Scopes)
}

// HoldsAll says whether the principal holds "*", by their roles and, with a
// narrowed API key, by its scopes as well. It does no I/O.
func (s *Service) HoldsAll(p *caller.Principal) bool {
	if p == nil || len(p.Scopes) > 0 && !slices.Contains(p.Scopes, "*") {
		return false
	}
	policy := s.policy.Load()
	return slices.ContainsFunc(p.Roles, func(name string) bool {
		c := policy.roles[name]
		return c != nil && c.set.Covers("*")
	})
}
