package roles

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/tollgatehq/tollgate/internal/condition"
	"github.com/tollgatehq/tollgate/internal/perm"
	"github.com/tollgatehq/tollgate/server/internal/audit"
	"github.com/tollgatehq/tollgate/server/internal/database"
	"github.com/tollgatehq/tollgate/server/internal/fault"
)

const (
	maxGrants      = 100      // of one role
	maxGrantsSize  = 64 << 10 // bytes of the conditions of one role
	maxDeep        = 16       // roles that inherit each other in a line
	maxInherits    = 16       // of one role
	maxDescription = 512      // characters of a grant's
)

// checkGrants checks the grants of a role but for those it has already.
func (s *Service) checkGrants(grants, had []Grant) error {
	if len(grants) > maxGrants {
		return fault.Field("grants", "must be at most %d", maxGrants)
	}
	size := 0
	for i, g := range grants {
		size += len(g.Condition)
		if slices.Contains(had, g) {
			continue
		}
		at := fmt.Sprintf("grants[%d].", i)
		if err := s.CheckPattern(at+"permission", g.Permission); err != nil {
			return err
		}
		switch {
		case g.Effect != Allow && g.Effect != Deny:
			return fault.Field(at+"effect", "must be EFFECT_ALLOW or EFFECT_DENY")
		case g.Effect == Deny && strings.HasPrefix(g.Permission, "tollgate:"):
			return fault.Field(at+"permission", "must not deny Tollgate's own (tollgate:…): nobody is to be kept from mending it; leave the permission out of the roles that allow it")
		case len(g.Description) > 4*maxDescription || strings.Contains(g.Description+g.Condition, "\x00"):
			return fault.Field(at+"description", "must be at most %d characters, without NUL", maxDescription)
		}
		if g.Condition == "" {
			continue
		}
		if _, err := condition.Compile(g.Condition); err != nil {
			return fault.Field(at+"condition", "%v", err)
		}
	}
	if size > maxGrantsSize {
		return fault.Field("grants", "must have conditions of at most %d bytes together; split the role", maxGrantsSize)
	}
	return nil
}

// giftsIn is what a role gives, itself and what it inherits.
func giftsIn(ctx context.Context, q database.Queries, name string) ([]gift, error) {
	policy, err := policyIn(ctx, q, []string{name})
	if err != nil {
		return nil, fmt.Errorf("read what role %q gives: %w", name, err)
	}
	return policy.gifts(name), nil
}

func (p *Policy) gifts(name string) []gift {
	c := p.roles[name]
	if c == nil {
		return nil
	}
	return giftsOf(perm.Tidy(c.patterns), c.grants)
}

// more is what is in one list and neither in the other nor within a pattern of it.
func more(list, others []gift) []gift {
	return slices.DeleteFunc(slices.Clone(list), func(g gift) bool {
		return slices.ContainsFunc(others, func(o gift) bool {
			return o.deny == g.deny && perm.Covers(o.pattern, g.pattern) && (o.condition == nil || g.condition != nil && g.condition.Implies(o.condition))
		})
	})
}

// inheritIn locks the roles that a role is to inherit, refuses those that cannot be,
// and returns what the role then gives. Call it with the administrator's role
// locked, so that no other change makes a circle meanwhile.
func (s *Service) inheritIn(ctx context.Context, q database.Queries, r Role) ([]gift, error) {
	if len(r.Inherits) > maxInherits {
		return nil, fault.Field("inherits", "must be at most %d", maxInherits)
	}
	for _, name := range r.Inherits { // sorted
		if name == r.Name {
			return nil, circle(r.Name)
		}
		if _, err := lockRole(ctx, q, name); err != nil {
			return nil, roleError("inherit", name, err)
		}
	}
	list, err := heirs(ctx, q)
	if err != nil {
		return nil, fmt.Errorf("read the roles that inherit: %w", err)
	}
	inherits := map[string][]string{}
	for _, other := range list {
		inherits[other.Name] = other.Inherits
	}
	inherits[r.Name] = r.Inherits
	if err := checkDepth(r.Name, inherits); err != nil {
		return nil, err
	}
	policy, err := policyIn(ctx, q, r.Inherits)
	if err != nil {
		return nil, fmt.Errorf("read what role %q inherits: %w", r.Name, err)
	}
	return policy.With([]Role{r}, nil).gifts(r.Name), nil
}

// checkDepth follows what inherits what, below and above a role, to find circles and
// lines that are too long.
func checkDepth(name string, inherits map[string][]string) error {
	above := map[string][]string{}
	for heir, list := range inherits {
		for _, from := range list {
			above[from] = append(above[from], heir)
		}
	}
	// longest is the length of the longest line from a role on, counted in roles.
	var longest func(graph map[string][]string, at string, way []string, known map[string]int) (int, error)
	longest = func(graph map[string][]string, at string, way []string, known map[string]int) (int, error) {
		if n, ok := known[at]; ok {
			return n, nil
		}
		if slices.Contains(way, at) {
			return 0, circle(name)
		}
		most := 0
		for _, next := range graph[at] {
			n, err := longest(graph, next, append(way, at), known)
			if err != nil {
				return 0, err
			}
			most = max(most, n)
		}
		known[at] = most + 1
		return most + 1, nil
	}
	below, err := longest(inherits, name, nil, map[string]int{})
	if err != nil {
		return err
	}
	heirs, err := longest(above, name, nil, map[string]int{})
	if err != nil {
		return err
	}
	if below+heirs-1 > maxDeep {
		return fault.New(fault.Precondition, "BAD_INHERITANCE",
			"roles may inherit each other at most %d deep, and %q would make it %d; give its permissions directly", maxDeep, name, below+heirs-1)
	}
	return nil
}

func circle(name string) error {
	return fault.New(fault.Precondition, "BAD_INHERITANCE", "role %q would inherit itself; take one of the roles out of the circle", name)
}

// mayGoIn refuses to remove a role, which is locked, while others inherit it.
func mayGoIn(ctx context.Context, q database.Queries, name string) error {
	list, err := heirs(ctx, q)
	if err != nil {
		return fmt.Errorf("read the roles that inherit: %w", err)
	}
	for _, r := range list {
		if slices.Contains(r.Inherits, name) {
			return fault.New(fault.Precondition, "ROLE_INHERITED",
				"the role %q inherits %q; take it out there first", r.Name, name)
		}
	}
	return nil
}

// described records what a role is, or was.
func described(e audit.Event, r Role) audit.Event {
	e = e.With("permissions", database.JSON(r.Permissions))
	if len(r.Grants) > 0 {
		e = e.With("grants", grantsText(r.Grants))
	}
	if len(r.Inherits) > 0 {
		e = e.With("inherits", database.JSON(r.Inherits))
	}
	return e
}

// changed records what an update changed.
func changed(e audit.Event, before, after Role) audit.Event {
	if before.Description != after.Description {
		e = e.With("description", after.Description)
	}
	if !slices.Equal(before.Permissions, after.Permissions) {
		e = e.With("permissions_before", database.JSON(before.Permissions)).With("permissions", database.JSON(after.Permissions))
	}
	if !slices.Equal(before.Grants, after.Grants) {
		e = e.With("grants_before", grantsText(before.Grants)).With("grants", grantsText(after.Grants))
	}
	if !slices.Equal(before.Inherits, after.Inherits) {
		e = e.With("inherits_before", database.JSON(before.Inherits)).With("inherits", database.JSON(after.Inherits))
	}
	return e
}

// grantsText is grants as they are recorded: without their descriptions.
func grantsText(grants []Grant) string {
	list := slices.Clone(grants)
	for i := range list {
		list[i].Description = ""
	}
	return database.JSON(list)
}
