package roles

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/tollgatehq/tollgate/internal/condition"
	"github.com/tollgatehq/tollgate/internal/perm"
	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/database"
	"github.com/tollgatehq/tollgate/server/internal/fault"
)

// forever is later than every end, in microseconds.
const forever = math.MaxInt64

// hold is what one membership gives.
type hold struct {
	patterns []string
	set      perm.Set
	grants   []grant // with conditions, and denies
	ends     int64   // microseconds, or forever
}

// gift is one thing that a caller is about to give, to take away, or to put into a
// role.
type gift struct {
	pattern   string
	condition *condition.Condition // where it is given; nil: everywhere
	deny      bool                 // it is not given, but denied, or a deny of it may end
	own       bool                 // to the caller's own key, whose owner's conditions and denies go on to hold
}

func gifts(patterns []string) []gift {
	list := make([]gift, len(patterns))
	for i, p := range patterns {
		list[i] = gift{pattern: p}
	}
	return list
}

// giftsOf is what a role gives, or with denies takes. To give, remove or change a
// deny takes holding all that it denies, without an end: whoever could remove it
// would give what it kept back, for good, and whoever could give it would shut out
// others who hold more.
func giftsOf(patterns []string, grants []grant) []gift {
	list := gifts(patterns)
	for _, g := range grants {
		if g.Effect == Deny {
			list = append(list, gift{pattern: g.Permission, deny: true})
			continue
		}
		list = append(list, gift{pattern: g.Permission, condition: g.condition}) // without one: nothing says what it would allow
	}
	return list
}

// giver is a caller who is about to give something.
type giver struct {
	everything bool // the system
	holds      []hold
	scopes     perm.Set // of the caller's API key; empty: it is narrowed to nothing
	keyEnds    int64    // when the caller's API key ends, or forever
}

// MayGrant is MayGrantIn for the present and from memory: it does no I/O.
func (s *Service) MayGrant(ctx context.Context, patterns []string) error {
	return s.mayGive(ctx, gifts(patterns))
}

// MayKeep is MayGrant for what narrows the caller's own rights and ends with them:
// what the caller holds under a condition counts as well.
func (s *Service) MayKeep(ctx context.Context, patterns []string) error {
	return s.mayGive(ctx, ownGifts(patterns))
}

func ownGifts(patterns []string) []gift {
	list := gifts(patterns)
	for i := range list {
		list[i].own = true
	}
	return list
}

func (s *Service) mayGive(ctx context.Context, list []gift) error {
	g, err := newGiver(ctx, func(p *caller.Principal) ([]hold, error) {
		policy := s.policy.Load()
		var holds []hold
		for _, name := range p.Roles {
			if c := policy.roles[name]; c != nil {
				holds = append(holds, hold{set: c.set, grants: c.grants, ends: forever})
			}
		}
		return holds, nil
	})
	if err != nil {
		return err
	}
	return g.mayGive(list, 0, "")
}

// MayGrantIn returns nil when the context's caller holds every pattern until
// expires, or for good when that is zero: by roles that end no sooner and, with
// an API key, within its scopes and its own end. The system holds all.
// Otherwise it is Denied, GRANT_EXCEEDS_OWN: a caller cannot give what it does
// not hold, or for longer than it holds it. For what only takes something away,
// the present is the end.
//
// What the caller holds under a condition can be given only under one that is true
// nowhere else (condition.Implies) and is not about the principal, who would be
// another. What overlaps with something that the caller is denied, maybe only under a
// condition, cannot be given, but by who holds "*".
//
// It reads the truth through q; call it in the transaction that gives.
func (s *Service) MayGrantIn(ctx context.Context, q database.Queries, patterns []string, expires time.Time) error {
	return s.mayGiveIn(ctx, q, gifts(patterns), endOf(expires), sooner)
}

// MayKeepIn is MayGrantIn for what narrows the caller's own rights, such as the scopes
// of the caller's own key: what the caller holds under a condition counts as well.
func (s *Service) MayKeepIn(ctx context.Context, q database.Queries, patterns []string, expires time.Time) error {
	return s.mayGiveIn(ctx, q, ownGifts(patterns), endOf(expires), sooner)
}

func (s *Service) mayGiveIn(ctx context.Context, q database.Queries, list []gift, until int64, advice string) error {
	g, err := s.giver(ctx, q)
	if err != nil {
		return err
	}
	return g.mayGive(list, until, advice)
}

// mayPutIn is MayGrantIn for what is put into a role, which has no end.
func (s *Service) mayPutIn(ctx context.Context, q database.Queries, list []gift) error {
	if len(list) == 0 {
		return nil
	}
	return s.mayGiveIn(ctx, q, list, forever, "a role has no end, so ask a user who holds it without one")
}

// MayActAs returns nil when the context's caller holds everything that a user
// holds, each thing until the user's own hold of it ends or until expires,
// whichever is sooner; zero is never. Otherwise it is Denied,
// GRANT_EXCEEDS_OWN. Call it in the transaction that acts, with the user's row
// locked, so that the user is given no more meanwhile.
func (s *Service) MayActAs(ctx context.Context, q database.Queries, userID string, expires time.Time) error {
	g, err := s.giver(ctx, q)
	if err != nil || g.everything {
		return err
	}
	theirs, err := s.holds(ctx, q, userID, false)
	if err != nil {
		return err
	}
	for _, h := range theirs {
		allowed := slices.DeleteFunc(slices.Clone(h.grants), func(g grant) bool { return g.Effect == Deny })
		if err := g.mayGive(giftsOf(h.patterns, allowed), min(h.ends, endOf(expires)), "the user holds it for longer, so ask a user who does, too"); err != nil {
			return err
		}
	}
	return nil
}

// giver reads what the context's caller holds; nothing when the caller has been
// disabled, which this instance may not know yet.
func (s *Service) giver(ctx context.Context, q database.Queries) (*giver, error) {
	return newGiver(ctx, func(p *caller.Principal) ([]hold, error) { return s.holds(ctx, q, p.UserID, true) })
}

// newGiver is the context's caller with what holds returns for the principal.
func newGiver(ctx context.Context, holds func(*caller.Principal) ([]hold, error)) (*giver, error) {
	c := caller.From(ctx)
	if c.System {
		return &giver{everything: true}, nil
	}
	p := c.Principal
	if p == nil {
		return nil, fault.New(fault.Denied, "GRANT_EXCEEDS_OWN", "an unknown caller may not grant anything; sign in first")
	}
	list, err := holds(p)
	return &giver{holds: list, scopes: perm.Compile(p.Scopes), keyEnds: endOf(p.KeyExpiresAt)}, err
}

// sooner is what to do about a grant that would last too long.
const sooner = "set expires_at to that time or sooner, or ask a user who holds it for longer"

// mayGive is MayGrantIn for an end in microseconds. The advice is for a caller who
// holds something for too short a time.
func (g *giver) mayGive(list []gift, until int64, advice string) error {
	if g.everything {
		return nil
	}
	if g.keyEnds < until {
		return g.keyTooShort(advice)
	}
	for _, give := range list {
		until, advice := until, advice
		if give.deny {
			until, advice = forever, "it is about a deny, which has no end, so ask a user who holds it without one"
		}
		ends, conditional := g.holdsUntil(give)
		switch {
		case g.keyEnds < until:
			return g.keyTooShort(advice)
		case !give.own && g.denied(give.pattern):
			return fault.New(fault.Denied, "GRANT_EXCEEDS_OWN",
				"this needs %q, of which you are denied some; ask a user who is not", give.pattern)
		case ends == 0 && conditional:
			return fault.New(fault.Denied, "GRANT_EXCEEDS_OWN",
				"this needs %q, which you hold only under a condition; give it under the same one, if that is not about the principal, or ask a user who holds it without", give.pattern)
		case ends == 0:
			return fault.New(fault.Denied, "GRANT_EXCEEDS_OWN",
				"this needs %q, which you do not hold; ask a user who holds it", give.pattern)
		case len(g.scopes) > 0 && !g.scopes.Covers(give.pattern):
			return fault.New(fault.Denied, "GRANT_EXCEEDS_OWN",
				"this needs %q, which your API key's scopes leave out; use a key that has it", give.pattern)
		case ends < until:
			return fault.New(fault.Denied, "GRANT_EXCEEDS_OWN",
				"you hold %q until %s, and this would last longer; %s", give.pattern, micros(ends), advice)
		}
	}
	return nil
}

func (g *giver) keyTooShort(advice string) error {
	return fault.New(fault.Denied, "GRANT_EXCEEDS_OWN",
		"the API key of this call ends at %s, and this would last longer; use another key, or: %s", micros(g.keyEnds), advice)
}

// holdsUntil is until when the giver holds enough to give this, in microseconds; 0:
// not at all. conditional says that there is a condition that does not suffice.
func (g *giver) holdsUntil(give gift) (ends int64, conditional bool) {
	for _, h := range g.holds {
		enough := h.set.Covers(give.pattern)
		for _, mine := range h.grants {
			if enough || mine.Effect == Deny || !perm.Covers(mine.Permission, give.pattern) || mine.condition == nil {
				continue
			}
			conditional = true
			enough = give.own || give.condition != nil && give.condition.Implies(mine.condition) && !mine.condition.ReadsAny("principal")
		}
		if enough && h.ends > ends {
			ends = h.ends
		}
	}
	return ends, conditional
}

// denied says whether something of a pattern may be denied to the giver. Who holds
// "*" without a condition administers everything, denies of their own included:
// nobody else may be left who could take one back.
func (g *giver) denied(pattern string) bool {
	if slices.ContainsFunc(g.holds, func(h hold) bool { return h.set.Covers(everything) }) {
		return false
	}
	for _, h := range g.holds {
		for _, mine := range h.grants {
			// A deny is never about Tollgate's own.
			if mine.Effect == Deny && !(perm.Own(pattern) && pattern != everything) && (perm.Covers(mine.Permission, pattern) || perm.Covers(pattern, mine.Permission)) {
				return true
			}
		}
	}
	return false
}

// everything is the pattern that matches every permission.
const everything = "*"

// holds reads what a user's memberships give now; with enabled, nothing for a
// disabled user.
func (s *Service) holds(ctx context.Context, q database.Queries, userID string, enabled bool) ([]hold, error) {
	rows, err := listHeld(ctx, q, userID, s.clock.Micros(), enabled)
	if err != nil {
		return nil, fmt.Errorf("read what user %q holds: %w", userID, err)
	}
	names := make([]string, len(rows))
	for i, row := range rows {
		names[i] = row.Role
	}
	policy, err := policyIn(ctx, q, names)
	if err != nil {
		return nil, fmt.Errorf("read what user %q holds: %w", userID, err)
	}
	var list []hold
	for _, row := range rows {
		c := policy.roles[row.Role]
		if c == nil {
			continue // removed since
		}
		h := hold{patterns: c.patterns, set: c.set, grants: c.grants, ends: forever}
		if row.Expires != nil {
			h.ends = *row.Expires
		}
		list = append(list, h)
	}
	return list, nil
}

// policyIn compiles these roles and what they inherit, as they are in a transaction.
func policyIn(ctx context.Context, q database.Queries, names []string) (*Policy, error) {
	known := map[string]Role{}
	for todo := names; len(todo) > 0; {
		list, err := rolesNamed(ctx, q, todo)
		if err != nil {
			return nil, err
		}
		todo = nil
		for _, r := range list {
			known[r.Name] = r
		}
		for _, r := range list {
			for _, name := range r.Inherits {
				if _, have := known[name]; !have && !slices.Contains(todo, name) {
					todo = append(todo, name)
				}
			}
		}
	}
	list := make([]Role, 0, len(known))
	for _, r := range known {
		list = append(list, r)
	}
	return NewPolicy(list), nil
}

// endOf is an end in microseconds; the zero Time is never.
func endOf(expires time.Time) int64 {
	if expires.IsZero() {
		return forever
	}
	return expires.UnixMicro()
}

func micros(at int64) string { return time.UnixMicro(at).UTC().Format(time.RFC3339Nano) }
