package roles

import (
	"iter"
	"slices"
)

// Outline is what a role means for calls that are decided elsewhere: what it allows
// whatever the call is about, and what it denies or may deny. Allows that depend on
// a condition are not in it.
type Outline struct {
	Name     string
	Allows   []string // patterns
	Denies   []string // patterns
	Inherits []string
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
		case g.Effect != Allow: // also one that only another version knows
			o.Denies = append(o.Denies, g.Permission)
		}
	}
	return o, true
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
