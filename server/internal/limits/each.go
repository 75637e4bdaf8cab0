package limits

import (
	"context"

	"github.com/tollgatehq/tollgate/server/internal/fault"
)

// maxEach is how many counters one TakeEach touches at most.
const maxEach = 256

// Part is one of several things that are counted together.
type Part struct {
	Limit string // the limit, by its name; empty: those that apply to Request
	Key   string // with Limit: whom to count, in any form that Check takes
	Look  bool   // refuses what would be over, and counts nothing

	Request // without Limit; Cost goes for both
}

// TakeEach counts several parts in one round trip, all or nothing over all of
// them: when one is over a limit, nothing but limits in shadow mode is counted. A
// counter that several parts name takes their costs together, and refuses them
// together. The results are in the order of the parts, each with the limits of its
// own; whole is all of them together. A part that no limit applies to, or whose
// limit there is not, is allowed, and its result is empty.
//
// A limit that covers Tollgate's own API is counted by its name only for who holds
// "*", as Check does: it is Denied otherwise, and nothing is counted. The error is
// Precondition when more than 256 counters are named, and Unavailable as for Take.
func (s *Service) TakeEach(ctx context.Context, parts []Part) (results []Result, whole Result, err error) {
	if err := s.log.Ensure(ctx, 0); err != nil {
		return nil, Result{}, err
	}
	all := s.rules.Load()
	if all == nil {
		return nil, Result{}, unknownLimits()
	}
	var matches []match
	places := make([][]int, len(parts)) // of each part's matches
	known := map[[2]string]int{}
	for i, part := range parts {
		own, err := s.ofPart(ctx, all, part)
		if err != nil {
			return nil, Result{}, err
		}
		for _, m := range own {
			m.Look = part.Look
			place, found := known[[2]string{m.Counter, m.Count.Key}]
			if found {
				matches[place].Count = matches[place].and(m.Count)
			} else {
				place = len(matches)
				known[[2]string{m.Counter, m.Count.Key}] = place
				matches = append(matches, m)
			}
			places[i] = append(places[i], place)
		}
	}
	if len(matches) > maxEach {
		return nil, Result{}, fault.New(fault.Precondition, "TOO_MANY_LIMITS_APPLY",
			"more than %d limits and keys would count this call; ask about less at once", maxEach)
	}
	outcomes, outage, err := s.count(ctx, matches, false)
	if err != nil {
		return nil, Result{}, err
	}
	results = make([]Result, len(parts))
	for i, own := range places {
		its, how := make([]match, len(own)), make([]Outcome, len(own))
		for j, place := range own {
			its[j], how[j] = matches[place], outcomes[place]
		}
		results[i] = result(its, how)
		results[i].Outage = outage && !results[i].Allowed
	}
	whole = result(matches, outcomes)
	whole.Outage = outage
	return results, whole, nil
}

// ofPart is what counts a part.
func (s *Service) ofPart(ctx context.Context, all *rules, part Part) ([]match, error) {
	if part.Limit == "" {
		return all.matches(part.Request), nil
	}
	r := all.byName[part.Limit]
	if r == nil {
		return nil, nil
	}
	if err := s.mayCheck(ctx, r.Permission); err != nil {
		return nil, err
	}
	return []match{r.named(part.Key, part.Cost)}, nil
}

// and is two Counts of one counter together.
func (c Count) and(other Count) Count {
	switch {
	case other.Look:
		return c
	case c.Look:
		return other
	case c.Algorithm != Backoff:
		c.Cost = min(c.Cost+other.Cost, maxRate+1)
	}
	return c
}

// Has says whether there is a limit of this name, as far as this instance knows.
func (s *Service) Has(name string) bool {
	all := s.rules.Load()
	return all != nil && all.byName[name] != nil
}
