package roles

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/tollgatehq/tollgate/internal/condition"
	"github.com/tollgatehq/tollgate/internal/perm"
	"github.com/tollgatehq/tollgate/server/internal/caller"
)

// Policy is all roles, compiled. It does not change, and does no I/O.
type Policy struct {
	roles      map[string]*compiled
	conditions map[string]*condition.Condition // by text, for the next Policy
	denies     bool                            // a role has a grant that denies
}

// compiled is a role as decisions need it, with what it inherits.
type compiled struct {
	role     Role
	own      []grant  // its own, but for plain permissions
	closure  []string // the roles that it has, itself first
	patterns []string // allowed without a condition; may hold one twice
	set      perm.Set // the same
	grants   []grant  // the others of the closure
}

// grant is a grant that is more than a permission.
type grant struct {
	Grant
	role      string               // the role that it stands in
	condition *condition.Condition // nil: none
	broken    error                // why its condition cannot be compiled
}

// NewPolicy compiles roles. A condition that cannot be compiled, which only another
// version or program can have written, is one that always fails.
func NewPolicy(list []Role) *Policy { return new(Policy).again(list) }

// again is a policy of these roles alone. It takes the conditions that p knows.
func (p *Policy) again(list []Role) *Policy {
	next := &Policy{roles: make(map[string]*compiled, len(list)), conditions: map[string]*condition.Condition{}}
	for _, r := range list {
		next.roles[r.Name] = next.compileOwn(r, p.conditions)
	}
	for _, c := range next.roles {
		next.flatten(c)
	}
	return next
}

// With is the policy with these roles changed or added and those removed.
func (p *Policy) With(changed []Role, removed []string) *Policy {
	next := &Policy{roles: maps.Clone(p.roles), conditions: map[string]*condition.Condition{}}
	touched := map[string]bool{}
	for _, name := range removed {
		delete(next.roles, name)
		touched[name] = true
	}
	for _, r := range changed {
		next.roles[r.Name] = next.compileOwn(r, p.conditions)
		touched[r.Name] = true
	}
	for name, c := range next.roles {
		switch {
		case touched[name]:
			next.flatten(c)
		case len(c.role.Inherits) > 0: // one of them may be touched
			again := *c
			next.flatten(&again)
			next.roles[name] = &again
		}
		for _, g := range c.own {
			next.denies = next.denies || g.Effect == Deny
			if g.condition != nil {
				next.conditions[g.condition.Text()] = g.condition
			}
		}
	}
	return next
}

// compileOwn compiles what stands in a role itself. Conditions that are known
// already are taken as they are.
func (p *Policy) compileOwn(r Role, known map[string]*condition.Condition) *compiled {
	c := &compiled{role: r}
	for _, g := range r.Grants {
		compiled := grant{Grant: g, role: r.Name}
		if g.Condition != "" {
			text := g.Condition
			if compiled.condition = cmp.Or(p.conditions[text], known[text]); compiled.condition == nil {
				compiled.condition, compiled.broken = condition.Compile(text)
			}
			if compiled.condition != nil {
				p.conditions[text] = compiled.condition
			}
		}
		c.own = append(c.own, compiled)
		p.denies = p.denies || g.Effect == Deny
	}
	return c
}

// flatten fills in what the role has, itself and what it inherits.
func (p *Policy) flatten(c *compiled) {
	c.closure, c.patterns, c.grants = p.closureOf(c.role.Name), nil, nil
	for _, name := range c.closure {
		from := p.roles[name]
		c.patterns = append(c.patterns, from.role.Permissions...)
		for _, g := range from.own {
			if g.plain() {
				c.patterns = append(c.patterns, g.Permission)
			} else {
				c.grants = append(c.grants, g)
			}
		}
	}
	c.set = perm.Compile(c.patterns)
}

// plain says whether the grant is as good as a permission of the role.
func (g Grant) plain() bool { return g.Effect != Deny && g.Condition == "" }

// closureOf are the roles that a role has, itself first, each once, as far as they
// exist. A circle, which no save lets pass, ends where it began.
func (p *Policy) closureOf(name string) []string {
	list := []string{}
	for todo := []string{name}; len(todo) > 0; todo = todo[1:] {
		if c := p.roles[todo[0]]; c != nil && !slices.Contains(list, todo[0]) {
			list = append(list, todo[0])
			todo = append(todo, c.role.Inherits...)
		}
	}
	return list
}

// Has says whether there is such a role.
func (p *Policy) Has(name string) bool { return p.roles[name] != nil }

// Input is what a condition reads; it is made only when there is one.
type Input func(*condition.Condition) (*condition.Input, error)

// Verdict is what the roles say about a call.
type Verdict struct {
	Reason caller.Reason
	Role   string // of the grant that decided; empty when none did
	Grant  *Grant // nil when none did; for a permission, with nothing but the pattern
}

// String is the grant that decided, for the record.
func (v Verdict) String() string {
	if v.Grant == nil {
		return ""
	}
	text := v.Role + ": " + string(v.Grant.Effect) + " " + v.Grant.Permission
	if v.Grant.Condition != "" {
		text += " if " + v.Grant.Condition
	}
	if len(text) > maxVerdict {
		text = strings.ToValidUTF8(text[:maxVerdict], "") + "…"
	}
	return text
}

// maxVerdict is how much of a grant is recorded, in bytes.
const maxVerdict = 512

// Judge says whether the principal may, by the roles that it is said to hold and the
// scopes of its API key. A deny that matches wins over every allow. What is not a
// valid permission is never allowed. The error is that of input.
func (p *Policy) Judge(who *caller.Principal, permission string, input Input) (Verdict, error) {
	if who == nil || !perm.IsPermission(permission) {
		return Verdict{Reason: caller.ReasonPermissionMissing}, nil
	}
	allowed, special, by := false, false, ""
	for _, name := range who.Roles {
		c := p.roles[name]
		if c == nil {
			continue
		}
		if !allowed && c.set.Covers(permission) {
			allowed, by = true, name
			if !p.denies { // nothing can take it back
				special = false
				break
			}
		}
		special = special || len(c.grants) > 0
	}
	v := Verdict{Reason: caller.ReasonPermissionMissing}
	if allowed {
		v = Verdict{Reason: caller.ReasonOK, Role: by}
	}
	if special {
		var err error
		if v, err = p.judgeGrants(who, permission, input, v); err != nil {
			return Verdict{}, err
		}
	}
	if v.Reason == caller.ReasonOK && !inScopes(who, permission) {
		v.Reason = caller.ReasonScopeMissing
	}
	return v, nil
}

func inScopes(who *caller.Principal, permission string) bool {
	for _, scope := range who.Scopes {
		if perm.Covers(scope, permission) && perm.IsPattern(scope) {
			return true
		}
	}
	return len(who.Scopes) == 0
}

// judgeGrants goes on where the permissions have allowed or not: denies first, then,
// unless it is allowed already, conditional allows.
func (p *Policy) judgeGrants(who *caller.Principal, permission string, input Input, v Verdict) (Verdict, error) {
	missing := v
	for _, effect := range []Effect{Deny, Allow} {
		if effect == Allow && v.Reason == caller.ReasonOK {
			break
		}
		for _, name := range who.Roles {
			c := p.roles[name]
			if c == nil {
				continue
			}
			for i := range c.grants {
				g := &c.grants[i]
				if g.Effect != effect || !g.matches(permission) {
					continue
				}
				state, _, err := g.state(input)
				if err != nil {
					return Verdict{}, err
				}
				decided := Verdict{Role: g.role, Grant: &g.Grant}
				switch {
				case effect == Deny && state == holds:
					decided.Reason = caller.ReasonDeniedByGrant
					return decided, nil
				case effect == Deny && state == failed:
					decided.Reason = caller.ReasonConditionFailed
					return decided, nil
				case effect == Allow && state == holds:
					decided.Reason = caller.ReasonOK
					return decided, nil
				case state == failed && missing.Reason != caller.ReasonConditionFailed:
					decided.Reason = caller.ReasonConditionFailed
					missing = decided
				case effect == Allow && missing.Reason == caller.ReasonPermissionMissing:
					decided.Reason = caller.ReasonConditionFalse
					missing = decided
				}
			}
		}
	}
	return missing, nil
}

// matches says whether the grant is about a permission. A deny is never about
// Tollgate's own: who can take it back must be able to.
func (g *grant) matches(permission string) bool {
	return perm.Covers(g.Permission, permission) && (g.Effect != Deny || !perm.Own(permission))
}

// state is what a grant's condition says.
type state int

const (
	holds state = iota
	holdsNot
	failed
)

// state runs the condition; why says how it failed. The error is that of input.
func (g *grant) state(input Input) (s state, why error, err error) {
	switch {
	case g.Condition == "":
		return holds, nil, nil
	case g.condition == nil:
		return failed, g.broken, nil
	}
	in, err := input(g.condition)
	if err != nil {
		return failed, nil, err
	}
	switch yes, why := g.condition.Holds(in); {
	case why != nil:
		return failed, why, nil
	case yes:
		return holds, nil, nil
	default:
		return holdsNot, nil, nil
	}
}
