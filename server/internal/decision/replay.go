package decision

import (
	"cmp"
	"context"
	"net/netip"
	"slices"
	"strings"

	"github.com/tollgatehq/tollgate/internal/perm"
	"github.com/tollgatehq/tollgate/server/internal/audit"
	"github.com/tollgatehq/tollgate/server/internal/auth"
	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/roles"
)

// Replayed is a recorded decision that a new policy would make otherwise.
type Replayed struct {
	Event         audit.Event
	Permission    string // or "any of …", "all of …"
	Before, After caller.Reason
}

// Replay is what a new policy says of recorded decisions.
type Replay struct {
	Otherwise []Replayed // the latest first, each question once
	Refusals  int        // that were decided again
	Allows    int        // that were decided again, and are allowed now, too
}

// question is what decides by the roles, as far as it is on record.
type question struct{ userID, permission, resource, ip string }

// judgments are what two policies say of a question; known is false where its user or
// what was asked for is not.
type judgments struct {
	before, after caller.Reason
	known         bool
}

// replay decides the latest n recorded refusals, and as many recorded calls that were
// allowed, again: by the policy of the present and by another.
func (s *Service) replay(ctx context.Context, policy *roles.Policy, n int) (r Replay, err error) {
	var events []audit.Event
	for _, action := range []audit.Action{audit.AccessDenied, audit.AccessAllowed} {
		latest, err := s.audit.Latest(ctx, action, n)
		if err != nil {
			return Replay{}, err
		}
		events = append(events, latest...)
	}
	slices.SortStableFunc(events, func(a, b audit.Event) int { return cmp.Or(b.Time.Compare(a.Time), strings.Compare(b.ID, a.ID)) })
	decided := map[question]judgments{}
	for _, e := range events {
		q := question{e.ActorID, e.Details["permission"], e.Resource, e.IP}
		v, again := decided[q]
		if !again {
			if v, err = s.decideAgain(ctx, policy, q); err != nil {
				return Replay{}, err
			}
			decided[q] = v
		}
		switch {
		case !v.known:
			continue
		case e.Action == audit.AccessDenied:
			r.Refusals++
		case v.before != caller.ReasonOK:
			continue // what allowed it is gone, or not on record
		default:
			r.Allows++
		}
		if !again && v.before != v.after {
			r.Otherwise = append(r.Otherwise, Replayed{Event: e, Permission: q.permission, Before: v.before, After: v.after})
		}
	}
	return r, nil
}

func (s *Service) decideAgain(ctx context.Context, policy *roles.Policy, q question) (v judgments, err error) {
	rule, ok := ruleNamed(q.permission)
	if !ok || q.userID == "" {
		return v, nil
	}
	verified, err := s.auth.Verify(ctx, auth.Credential{UserID: q.userID})
	if err != nil || verified.Reason != caller.ReasonOK {
		return v, err
	}
	ip, _ := netip.ParseAddr(q.ip) // empty when not known
	r := &Request{Rule: rule, Resource: q.resource, IP: ip}
	by := func(policy *roles.Policy) (caller.Reason, error) {
		v, err := rule.Judge(func(permission string) (roles.Verdict, error) {
			return policy.Judge(verified.Principal, permission, s.input(ctx, verified.Principal, r, permission))
		})
		return v.Reason, err
	}
	if v.before, err = by(s.roles.Policy()); err != nil {
		return v, err
	}
	v.after, err = by(policy)
	v.known = true
	return v, err
}

// ruleNamed is the rule that Named has put in one text; false for a text that is none,
// or was cut when it was recorded.
func ruleNamed(text string) (r Rule, ok bool) {
	anyOf, isAny := strings.CutPrefix(text, namedAny)
	allOf, isAll := strings.CutPrefix(text, namedAll)
	switch {
	case isAny:
		r.AnyOf = strings.Split(anyOf, namedNext)
	case isAll:
		r.AllOf = strings.Split(allOf, namedNext)
	default:
		r.Permission = text
	}
	for _, permission := range r.each() {
		if !perm.IsPermission(permission) {
			return Rule{}, false
		}
	}
	return r, len(r.each()) > 0 && len(text) < audit.DetailSize
}
