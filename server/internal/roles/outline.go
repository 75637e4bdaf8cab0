package roles

import (
	"iter"
	"slices"
)

// Outline is what a role means for calls that are decided elsewhere.
type Outline struct {
	Name        string
	Allows      []string // patterns, whatever the call is about
	Denies      []string // patterns
	Inherits    []string
	Conditional []Grant // those with a condition
}

// Outline is that of one role; false when there is none.
func (p *Policy) Outline(name string) (Outline, bool) {
	c := p.roles[name]
	if c == nil {
		return Outline{}, false
	}
	o := Outline{Name: name, Allows: slices.Clone(c.role.Permissions), Inherits: c.role.Inherits}
	for _, g := range c.role.Grants {
		switch {
		case g.plain():
			o.Allows = append(o.Allows, g.Permission)
		case g.Condition != "" && (g.Effect == Allow || g.Effect == Deny):
			g.Description = ""
			o.Conditional = append(o.Conditional, g)
		default: // also one that only another version knows
			o.Denies = append(o.Denies, g.Permission)
		}
	}
	return o, true
}

// WithoutConditions is the outline for who may not know them: what it may deny is
// denied, and what it may allow is left out.
func (o Outline) WithoutConditions() Outline {
	if len(o.Conditional) == 0 {
		return o
	}
	o.Denies = slices.Clone(o.Denies)
	for _, g := range o.Conditional {
		if g.Effect == Deny {
			o.Denies = append(o.Denies, g.Permission)
		}
	}
	o.Conditional = nil
	return o
}

// Outlines are those of all roles, in no order.
func (p *Policy) Outlines() iter.Seq[Outline] {
	return func(yield func(Outline) bool) {
		for name := range p.roles {
			if o, _ := p.Outline(name); !yield(o) {
				return
			}
		}
	}
}
