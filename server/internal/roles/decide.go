package roles

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/changes"
	"github.com/tollgatehq/tollgate/server/internal/database"
)

// compiled is a role as decisions need it.
type compiled struct {
	patterns []string // sorted
	set      set
}

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
	next := make(map[string]compiled, len(list))
	for _, r := range list {
		next[r.Name] = compiled{r.Permissions, compile(r.Permissions)}
	}
	s.compiled.Store(&next)
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
	old := *s.compiled.Load()
	next := make(map[string]compiled, len(old)+len(names))
	maps.Copy(next, old)
	for _, name := range names {
		r, err := getRole(ctx, s.db, name)
		switch {
		case errors.Is(err, database.ErrNoRows):
			delete(next, name)
		case err != nil:
			return fmt.Errorf("read role %q again: %w", name, err)
		default:
			next[name] = compiled{r.Permissions, compile(r.Permissions)}
		}
	}
	s.compiled.Store(&next)
	return nil
}

// RolesOf returns the names of the roles that a user holds now, sorted; none
// for a user who does not exist. It asks the database only for users that it
// has not seen lately.
func (s *Service) RolesOf(ctx context.Context, userID string) ([]string, error) {
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
		return nil, err
	}
	roles, now := *s.compiled.Load(), s.clock.Micros()
	names := make([]string, 0, len(h.names))
	for i, name := range h.names {
		if _, exists := roles[name]; exists && (h.ends[i] == 0 || now < h.ends[i]) {
			names = append(names, name)
		}
	}
	return names, nil
}

// Check decides whether the principal may: ReasonOK, ReasonPermissionMissing
// when none of their roles grants it, or ReasonScopeMissing when only their API
// key's scopes do not. What is not a valid permission is never granted. It
// takes the principal's roles as given, and does no I/O.
func (s *Service) Check(p *caller.Principal, permission string) caller.Reason {
	if p == nil || problem(permission, false) != "" || !s.grants(p.Roles, permission) {
		return caller.ReasonPermissionMissing
	}
	if len(p.Scopes) == 0 {
		return caller.ReasonOK
	}
	for _, scope := range p.Scopes {
		if Covers(scope, permission) && problem(scope, true) == "" {
			return caller.ReasonOK
		}
	}
	return caller.ReasonScopeMissing
}

// grants says whether one of the roles covers the pattern.
func (s *Service) grants(roles []string, pattern string) bool {
	all := *s.compiled.Load()
	for _, name := range roles {
		if all[name].set.covers(pattern) {
			return true
		}
	}
	return false
}

// Patterns returns what the principal's roles grant, narrowed to the scopes of
// their API key, sorted.
func (s *Service) Patterns(p *caller.Principal) []string {
	if p == nil {
		return []string{}
	}
	granted := s.patternsOf(p.Roles)
	if len(p.Scopes) == 0 {
		return granted
	}
	return Intersect(granted, p.Scopes)
}

func (s *Service) patternsOf(roles []string) []string {
	all := *s.compiled.Load()
	var patterns []string
	for _, name := range roles {
		patterns = append(patterns, all[name].patterns...)
	}
	return tidy(patterns)
}

// HoldsAll says whether the principal holds "*", by their roles and, with a
// narrowed API key, by its scopes as well. It does no I/O.
func (s *Service) HoldsAll(p *caller.Principal) bool {
	return p != nil && s.grants(p.Roles, "*") && (len(p.Scopes) == 0 || slices.Contains(p.Scopes, "*"))
}
