package roles

import (
	"cmp"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/tollgatehq/tollgate/internal/perm"
	"github.com/tollgatehq/tollgate/server/internal/caller"
)

// The naive model: what roles say, written apart from the engine, from its contract
// alone. It compiles and keeps nothing, and shares no code with what it judges.

// modelRole is a role as it was written.
type modelRole struct {
	permissions []string
	grants      []modelGrant
	inherits    []string
}

type modelGrant struct {
	pattern   string
	deny      bool
	condition expr // nil: none
	broken    bool // its condition cannot be compiled
}

// member is one hold of a role; a zero end is never.
type member struct {
	role string
	ends time.Time
}

type model struct {
	roles   map[string]modelRole
	members map[string][]member // by user
}

// decided is the model's verdict. A role of a plain permission is not told.
type decided struct {
	reason caller.Reason
	role   string
	text   string // of the grant's condition
}

var goodPermission = regexp.MustCompile(`^[a-z0-9._-]+(:[a-z0-9._-]+){0,7}$`)

// covers compares segment by segment.
func covers(pattern, permission string) bool {
	want, have := strings.Split(pattern, ":"), strings.Split(permission, ":")
	for i, segment := range want {
		if segment == "*" {
			return len(have) > i
		}
		if i >= len(have) || have[i] != segment {
			return false
		}
	}
	return len(have) == len(want)
}

// rolesOf are the roles that a user holds at a time, by name.
func (m *model) rolesOf(user string, now time.Time) (names []string) {
	for _, held := range m.members[user] {
		if _, exists := m.roles[held.role]; exists && (held.ends.IsZero() || held.ends.After(now)) {
			names = append(names, held.role)
		}
	}
	slices.Sort(names)
	return names
}

// inherited are a role and those that it inherits, the nearest first.
func (m *model) inherited(name string) (list []string) {
	for level := []string{name}; len(level) > 0; {
		var next []string
		for _, name := range level {
			if role, exists := m.roles[name]; exists && !slices.Contains(list, name) {
				list = append(list, name)
				next = append(next, role.inherits...)
			}
		}
		level = next
	}
	return list
}

// decide says what the roles say about a call.
func (m *model) decide(held, scopes []string, permission string, f *facts) decided {
	if !goodPermission.MatchString(permission) || len(permission) > 128 {
		return decided{reason: caller.ReasonPermissionMissing}
	}
	type placed struct {
		modelGrant
		role string
	}
	var matching []placed
	allowed := false
	for _, name := range held {
		for _, from := range m.inherited(name) {
			for _, pattern := range m.roles[from].permissions {
				allowed = allowed || covers(pattern, permission)
			}
			for _, g := range m.roles[from].grants {
				if covers(g.pattern, permission) {
					matching = append(matching, placed{g, from})
				}
			}
		}
	}
	outcome := func(g placed) answer {
		switch {
		case g.broken:
			return failure
		case g.condition == nil:
			return yes
		}
		return min(g.condition.eval(f), failure)
	}
	told := func(reason caller.Reason, g placed) decided {
		d := decided{reason: reason, role: g.role}
		switch {
		case g.broken:
			d.text = brokenText
		case g.condition != nil:
			d.text = g.condition.cel()
		}
		return d
	}
	for _, g := range matching { // a deny wins over every allow, wherever it stands
		if own := strings.HasPrefix(permission, "tollgate:"); !g.deny || own {
			continue
		}
		switch outcome(g) {
		case yes:
			return told(caller.ReasonDeniedByGrant, g)
		case failure:
			return told(caller.ReasonConditionFailed, g)
		}
	}
	var failed, unmet, by *decided
	for _, g := range matching {
		if g.deny {
			continue
		}
		if g.condition == nil && !g.broken {
			allowed = true
			continue
		}
		switch d := told("", g); outcome(g) {
		case yes:
			by = cmp.Or(by, &d)
		case no:
			unmet = cmp.Or(unmet, &d)
		case failure:
			failed = cmp.Or(failed, &d)
		}
	}
	d := decided{reason: caller.ReasonPermissionMissing}
	switch {
	case allowed:
		d = decided{reason: caller.ReasonOK}
	case by != nil:
		d = decided{caller.ReasonOK, by.role, by.text}
	case failed != nil:
		return decided{caller.ReasonConditionFailed, failed.role, failed.text}
	case unmet != nil:
		return decided{caller.ReasonConditionFalse, unmet.role, unmet.text}
	default:
		return d
	}
	within := len(scopes) == 0
	for _, scope := range scopes {
		valid := scope == "*" || goodPermission.MatchString(strings.TrimSuffix(scope, ":*"))
		within = within || valid && covers(scope, permission)
	}
	if !within {
		d.reason = caller.ReasonScopeMissing
	}
	return d
}

// brokenText is a condition that cannot be compiled.
const brokenText = `no.such == "x"`

// stored is a role of the model as the database has it.
func (r modelRole) stored(name string) Role {
	role := Role{Name: name, Permissions: perm.Tidy(r.permissions), Inherits: perm.Tidy(r.inherits), CreatedAt: time.Unix(0, 0), UpdatedAt: time.Unix(0, 0)}
	for _, g := range r.grants {
		grant := Grant{Permission: g.pattern, Effect: Allow}
		if g.deny {
			grant.Effect = Deny
		}
		switch {
		case g.broken:
			grant.Condition = brokenText
		case g.condition != nil:
			grant.Condition = g.condition.cel()
		}
		role.Grants = append(role.Grants, grant)
	}
	return role
}

func (m *model) stored() (list []Role) {
	for _, name := range slices.Sorted(maps.Keys(m.roles)) {
		list = append(list, m.roles[name].stored(name))
	}
	return list
}
