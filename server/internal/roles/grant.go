package roles

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/database"
	"github.com/tollgatehq/tollgate/server/internal/fault"
)

// forever is later than every end, in microseconds.
const forever = math.MaxInt64

// hold is what one membership gives.
type hold struct {
	patterns []string
	set      set
	ends     int64 // microseconds, or forever
}

// giver is a caller who is about to give something.
type giver struct {
	everything bool // the system
	holds      []hold
	scopes     set   // of the caller's API key; empty: it is narrowed to nothing
	keyEnds    int64 // when the caller's API key ends, or forever
}

// MayGrant is MayGrantIn for the present and from memory: it does no I/O.
func (s *Service) MayGrant(ctx context.Context, patterns []string) error {
	g, err := newGiver(ctx, func(p *caller.Principal) ([]hold, error) {
		all := *s.compiled.Load()
		holds := make([]hold, len(p.Roles))
		for i, name := range p.Roles {
			holds[i] = hold{set: all[name].set, ends: forever}
		}
		return holds, nil
	})
	if err != nil {
		return err
	}
	return g.mayGive(patterns, 0, "")
}

// MayGrantIn returns nil when the context's caller holds every pattern until
// expires, or for good when that is zero: by roles that end no sooner and, with
// an API key, within its scopes and its own end. The system holds all.
// Otherwise it is Denied, GRANT_EXCEEDS_OWN: a caller cannot give what it does
// not hold, or for longer than it holds it. For what only takes something away,
// the present is the end.
//
// It reads the truth through q; call it in the transaction that gives.
func (s *Service) MayGrantIn(ctx context.Context, q database.Queries, patterns []string, expires time.Time) error {
	g, err := s.giver(ctx, q)
	if err != nil {
		return err
	}
	return g.mayGive(patterns, endOf(expires), sooner)
}

// mayPut is MayGrantIn for what is put into a role, which has no end.
func (s *Service) mayPut(ctx context.Context, q database.Queries, patterns []string) error {
	g, err := s.giver(ctx, q)
	if err != nil || len(patterns) == 0 {
		return err
	}
	return g.mayGive(patterns, forever, "a role has no end, so ask a user who holds it without one")
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
		if err := g.mayGive(h.patterns, min(h.ends, endOf(expires)), "the user holds it for longer, so ask a user who does, too"); err != nil {
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
	return &giver{holds: list, scopes: compile(p.Scopes), keyEnds: endOf(p.KeyExpiresAt)}, err
}

// sooner is what to do about a grant that would last too long.
const sooner = "set expires_at to that time or sooner, or ask a user who holds it for longer"

// mayGive is MayGrantIn for an end in microseconds. The advice is for a caller who
// holds something for too short a time.
func (g *giver) mayGive(patterns []string, until int64, advice string) error {
	if g.everything {
		return nil
	}
	if g.keyEnds < until {
		return fault.New(fault.Denied, "GRANT_EXCEEDS_OWN",
			"the API key of this call ends at %s, and this would last longer; use another key, or: %s", micros(g.keyEnds), advice)
	}
	for _, pattern := range patterns {
		var ends int64
		for _, h := range g.holds {
			if h.ends > ends && h.set.covers(pattern) {
				ends = h.ends
			}
		}
		switch {
		case ends == 0:
			return fault.New(fault.Denied, "GRANT_EXCEEDS_OWN",
				"this needs %q, which you do not hold; ask a user who holds it", pattern)
		case len(g.scopes) > 0 && !g.scopes.covers(pattern):
			return fault.New(fault.Denied, "GRANT_EXCEEDS_OWN",
				"this needs %q, which your API key's scopes leave out; use a key that has it", pattern)
		case ends < until:
			return fault.New(fault.Denied, "GRANT_EXCEEDS_OWN",
				"you hold %q until %s, and this would last longer; %s", pattern, micros(ends), advice)
		}
	}
	return nil
}

// holds reads what a user's memberships give now; with enabled, nothing for a
// disabled user.
func (s *Service) holds(ctx context.Context, q database.Queries, userID string, enabled bool) ([]hold, error) {
	rows, err := listGrants(ctx, q, userID, s.clock.Micros(), enabled)
	if err != nil {
		return nil, fmt.Errorf("read what user %q holds: %w", userID, err)
	}
	list := make([]hold, len(rows))
	for i, row := range rows {
		patterns, err := decode(row.Permissions)
		if err != nil {
			return nil, fmt.Errorf("read what user %q holds: %w", userID, err)
		}
		list[i] = hold{patterns: patterns, set: compile(patterns), ends: forever}
		if row.ExpiresAt != nil {
			list[i].ends = *row.ExpiresAt
		}
	}
	return list, nil
}

// endOf is an end in microseconds; the zero Time is never.
func endOf(expires time.Time) int64 {
	if expires.IsZero() {
		return forever
	}
	return expires.UnixMicro()
}

func micros(at int64) string { return time.UnixMicro(at).UTC().Format(time.RFC3339Nano) }
