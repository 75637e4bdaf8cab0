package decision

import (
	"context"
	"strings"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/audit"
	"github.com/tollgatehq/tollgate/server/internal/auth"
	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/page"
	"github.com/tollgatehq/tollgate/server/internal/roles"
)

// Explanation is a decision and how it came about.
type Explanation struct {
	Decision

	Traces    []Trace
	Truncated bool // there are more traces, all about other calls
}

// Trace is one grant that was looked at.
type Trace struct {
	roles.Trace

	Asked     string    // the permission, where there are several
	ExpiresAt time.Time // when the caller's role ends; zero: never
}

// Explain decides as Decide does, counts nothing, and says how. That it was asked is
// recorded before it answers.
func (s *Service) Explain(ctx context.Context, r Request) (Explanation, error) {
	if err := s.log.Ensure(ctx, r.MinRevision); err != nil {
		return Explanation{}, err
	}
	x := Explanation{Decision: Decision{Revision: s.log.Revision()}}
	verified, err := s.auth.Verify(ctx, r.Credential)
	if err != nil {
		return Explanation{}, err
	}
	x.Reason, x.Principal = verified.Reason, verified.Principal
	peeked, err := s.limits.Peek(ctx, s.counted(r, x.Decision))
	if err != nil {
		return Explanation{}, err
	}
	x.Limits, x.RetryAfter = peeked.Limits, peeked.RetryAfter
	if x.Verdict, err = s.judge(ctx, x.Reason, x.Principal, &r); err != nil {
		return Explanation{}, err
	}
	if x.Reason = x.Verdict.Reason; !peeked.Allowed {
		x.Reason = caller.ReasonLimited
	}
	x.Allowed = x.Reason == caller.ReasonOK
	if err := s.trace(ctx, &x, r); err != nil {
		return Explanation{}, err
	}
	event := audit.New(ctx, audit.AccessExplained, audit.Success, r.Resource).
		With("permission", r.Rule.Named()).With("answer", string(x.Reason))
	if x.Principal != nil {
		event = event.With("user_id", x.Principal.UserID)
	}
	return x, s.audit.Record(ctx, event)
}

// trace looks at the grants of a known caller.
func (s *Service) trace(ctx context.Context, x *Explanation, r Request) error {
	if x.Principal == nil {
		return nil
	}
	ends, err := s.roles.Ends(ctx, x.Principal.UserID)
	if err != nil {
		return err
	}
	asked := r.Rule.each()
	for _, permission := range asked {
		_, traces, truncated, err := s.roles.Policy().Explain(x.Principal, permission, s.input(ctx, x.Principal, &r, permission))
		if err != nil {
			return err
		}
		x.Truncated = x.Truncated || truncated
		for _, t := range traces {
			one := Trace{Trace: t, ExpiresAt: ends[t.Role]}
			if len(asked) > 1 {
				one.Asked = permission
			}
			x.Traces = append(x.Traces, one)
		}
	}
	return nil
}

// Holder is a user who may make a call.
type Holder struct {
	UserID, Username string
	Possible         roles.Possible
}

// maxScanned is how many users one page looks at.
const maxScanned = 1000

// Holders returns a page of the users who may make a call about a resource, whatever
// the request is or under conditions about it.
func (s *Service) Holders(ctx context.Context, pages page.Tokens, permission, resource string, given map[string]any, size int32, token string) ([]Holder, string, error) {
	if err := s.log.Ensure(ctx, 0); err != nil {
		return nil, "", err
	}
	policy := s.roles.Policy()
	list := strings.Join([]string{"holders", permission, resource}, "\x00")
	return scan(ctx, s, pages, list, policy.About(permission), size, token, func(m roles.Member) (Holder, bool, error) {
		h, err := s.holder(ctx, policy, m, permission, Request{Resource: resource, ResourceAttributes: given})
		return h, h.Possible.May, err
	})
}

// scan looks through the enabled users who hold one of the roles, by user id, and
// returns a page of what look makes of those it is about.
func scan[T any](ctx context.Context, s *Service, pages page.Tokens, list string, names []string, size int32, token string, look func(roles.Member) (T, bool, error)) ([]T, string, error) {
	return page.Scan(pages, list, size, token, func(after string, n int) (found []T, at string, more bool, err error) {
		at = after
		for scanned := 0; len(found) < n && scanned < maxScanned; {
			members, err := s.roles.MembersOf(ctx, names, at, min(max(n, scanAtOnce), maxScanned-scanned))
			if err != nil || len(members) == 0 {
				return found, at, false, err
			}
			for _, m := range members {
				if len(found) == n {
					return found, at, true, nil
				}
				at, scanned = m.UserID, scanned+1
				one, about, err := look(m)
				if err != nil {
					return nil, "", false, err
				}
				if about {
					found = append(found, one)
				}
			}
		}
		return found, at, true, nil
	})
}

func (s *Service) holder(ctx context.Context, policy *roles.Policy, m roles.Member, permission string, r Request) (Holder, error) {
	verified, err := s.auth.Verify(ctx, auth.Credential{UserID: m.UserID})
	if err != nil || verified.Reason != caller.ReasonOK {
		return Holder{}, err
	}
	possible, err := policy.Possible(verified.Principal, permission, s.input(ctx, verified.Principal, &r, permission))
	return Holder{UserID: m.UserID, Username: m.Username, Possible: possible}, err
}
