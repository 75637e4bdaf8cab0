package roles

import (
	"cmp"
	"slices"
	"strings"

	"github.com/tollgatehq/tollgate/internal/perm"
	"github.com/tollgatehq/tollgate/server/internal/caller"
)

// TraceVerdict is what came of looking at a grant.
type TraceVerdict string

// The verdicts, by the names of the contract.
const (
	Matched        TraceVerdict = "matched"
	NoMatch        TraceVerdict = "no_match"
	ConditionFalse TraceVerdict = "condition_false"
	ConditionError TraceVerdict = "condition_error"
	Denies         TraceVerdict = "deny"
)

// Trace is one grant that was looked at.
type Trace struct {
	Role    string // that the caller holds
	From    string // that the grant stands in
	Grant   Grant
	Verdict TraceVerdict
	Detail  string            // how its condition failed
	Read    map[string]string // what its condition read
}

// maxTraces is how many grants Explain shows.
const maxTraces = 1000

// Explain is Judge with every grant that it looked at, those about the call first.
// truncated says that there are more, all about other calls.
func (p *Policy) Explain(who *caller.Principal, permission string, input Input) (v Verdict, traces []Trace, truncated bool, err error) {
	if v, err = p.Judge(who, permission, input); err != nil || who == nil {
		return v, nil, false, err
	}
	var others []Trace
	for _, name := range who.Roles {
		err := p.each(name, func(from string, g *grant) error {
			t := Trace{Role: name, From: from, Grant: g.Grant, Verdict: NoMatch}
			if g.matches(permission) {
				if err := g.trace(&t, input); err != nil {
					return err
				}
				traces = append(traces, t)
			} else if len(others) <= maxTraces {
				others = append(others, t)
			}
			return nil
		})
		if err != nil {
			return Verdict{}, nil, false, err
		}
	}
	traces = append(traces, others...)
	if len(traces) > maxTraces {
		return v, traces[:maxTraces], true, nil
	}
	return v, traces, false, nil
}

// each calls fn for everything that a role has: permissions as grants, then its
// grants, its own before those that it inherits.
func (p *Policy) each(name string, fn func(from string, g *grant) error) error {
	c := p.roles[name]
	if c == nil {
		return nil
	}
	for _, from := range c.closure {
		source := p.roles[from]
		for _, pattern := range source.role.Permissions {
			if err := fn(from, &grant{Grant: Grant{Permission: pattern, Effect: Allow}, role: from}); err != nil {
				return err
			}
		}
		for i := range source.own {
			if err := fn(from, &source.own[i]); err != nil {
				return err
			}
		}
	}
	return nil
}

// trace fills in what the grant, which is about the call, says.
func (g *grant) trace(t *Trace, input Input) error {
	s, why, err := g.state(input)
	if err != nil {
		return err
	}
	switch {
	case s == failed:
		t.Verdict = ConditionError
	case s == holdsNot:
		t.Verdict = ConditionFalse
	case g.Effect == Deny:
		t.Verdict = Denies
	default:
		t.Verdict = Matched
	}
	if why != nil {
		t.Detail = why.Error()
	}
	if g.condition != nil {
		in, err := input(g.condition)
		if err != nil {
			return err
		}
		t.Read = g.condition.Values(in)
	}
	return nil
}

// Allowing is what a role has that allows one of the permissions without a condition,
// as Verdict names a grant. The policy may have changed since: then it is the role.
func (p *Policy) Allowing(role string, permissions []string) string {
	v := Verdict{Role: role}
	_ = p.each(role, func(from string, g *grant) error { // fn returns none
		if v.Grant == nil && g.plain() && slices.ContainsFunc(permissions, g.matches) {
			v = Verdict{Role: from, Grant: &Grant{Permission: g.Permission, Effect: Allow}}
		}
		return nil
	})
	return cmp.Or(v.String(), role)
}

// Possible is what can be said without knowing the request.
type Possible struct {
	May       bool
	DependsOn []string // conditions that have to be true, or, of denies, not to be; empty: May holds for every request
	Role      string   // of the grant that allows
	Grant     Grant
}

// Possible says whether the principal may where nothing is known of the request but
// what it is about: a condition that reads more may turn out either way.
func (p *Policy) Possible(who *caller.Principal, permission string, input Input) (Possible, error) {
	var sure, maybe *Possible
	var unless []string
	denied := false
	for _, name := range who.Roles {
		err := p.each(name, func(from string, g *grant) error {
			if denied || !g.matches(permission) {
				return nil
			}
			found := &Possible{May: true, Role: from, Grant: g.Grant}
			if g.condition != nil && g.condition.DependsOnRequest() {
				switch {
				case g.Effect == Deny:
					unless = append(unless, "not ("+g.Condition+")")
				case maybe == nil:
					found.DependsOn, maybe = []string{g.Condition}, found
				default:
					maybe.DependsOn[0] += " || " + g.Condition
				}
				return nil
			}
			s, _, err := g.state(input)
			switch {
			case err != nil:
				return err
			case g.Effect == Deny:
				denied = s != holdsNot
			case s == holds && sure == nil:
				sure = found
			}
			return nil
		})
		if err != nil {
			return Possible{}, err
		}
	}
	best := sure
	if best == nil {
		best = maybe
	}
	if denied || best == nil || !inScopes(who, permission) {
		return Possible{}, nil
	}
	slices.Sort(unless)
	best.DependsOn = append(best.DependsOn, slices.Compact(unless)...)
	return *best, nil
}

// About are the names of the roles of which a grant may allow a call.
func (p *Policy) About(permission string) []string {
	var names []string
	for name, c := range p.roles {
		if c.set.Covers(permission) || slices.ContainsFunc(c.grants, func(g grant) bool { return g.Effect != Deny && g.matches(permission) }) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// Actions are the last segments of the permissions "kind:action" that any role names,
// sorted. A wildcard names none.
func (p *Policy) Actions(kind string) []string {
	names := []string{}
	add := func(pattern string) {
		if name, ok := strings.CutPrefix(pattern, kind+":"); ok && name != "*" && !strings.Contains(name, ":") {
			names = append(names, name)
		}
	}
	for _, c := range p.roles {
		for _, pattern := range c.role.Permissions {
			add(pattern)
		}
		for _, g := range c.role.Grants {
			add(g.Permission)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// Heirs are the roles that have a role: itself and those that inherit it.
func (p *Policy) Heirs(name string) []string {
	var names []string
	for heir, c := range p.roles {
		if heir == name || slices.Contains(c.closure, name) {
			names = append(names, heir)
		}
	}
	slices.Sort(names)
	return names
}

// difference is what a principal of these roles has by one policy and not by another:
// allows that the other neither has nor covers, and denies that only the other has.
func difference(has, had *Policy, names []string) []Grant {
	allows, denies := has.effects(names)
	otherAllows, otherDenies := had.effects(names)
	var list []Grant
	for _, g := range allows {
		if !slices.ContainsFunc(otherAllows, func(o grant) bool {
			return perm.Covers(o.Permission, g.Permission) && (o.Condition == "" || o.Condition == g.Condition)
		}) {
			list = append(list, g.Grant)
		}
	}
	for _, d := range otherDenies {
		if !slices.ContainsFunc(denies, func(o grant) bool {
			return perm.Covers(o.Permission, d.Permission) && (o.Condition == "" || o.Condition == d.Condition)
		}) {
			list = append(list, d.Grant)
		}
	}
	return list
}

// effects are the allows and the denies of roles, each once.
func (p *Policy) effects(names []string) (allows, denies []grant) {
	type key struct{ permission, condition string }
	seen := map[Effect]map[key]bool{Allow: {}, Deny: {}}
	for _, name := range names {
		_ = p.each(name, func(_ string, g *grant) error { // fn returns none
			k := key{g.Permission, g.Condition}
			switch {
			case seen[g.Effect][k]:
			case g.Effect == Deny:
				denies = append(denies, *g)
			default:
				allows = append(allows, *g)
			}
			seen[g.Effect][k] = true
			return nil
		})
	}
	return allows, denies
}
