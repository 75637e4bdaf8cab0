package decision

import (
	"context"
	"slices"

	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/page"
	"github.com/tollgatehq/tollgate/server/internal/roles"
)

// scanAtOnce is how many candidates are read at once, however few are asked for.
const scanAtOnce = 100

// Subjects returns a page of the users of whom Decide would allow the request, by user
// id. list is what the page token is bound to. It counts and records nothing.
func (s *Service) Subjects(ctx context.Context, pages page.Tokens, list string, r Request, size int32, token string) ([]roles.Member, string, error) {
	if err := s.log.Ensure(ctx, 0); err != nil {
		return nil, "", err
	}
	about := s.roles.Policy().About(r.Rule.Permission)
	return scan(ctx, s, pages, list, about, size, token, func(m roles.Member) (roles.Member, bool, error) {
		one := r
		one.Credential.UserID = m.UserID
		d, err := s.Recheck(ctx, one)
		return m, d.Allowed, err
	})
}

// Resource is a resource as it is registered.
type Resource struct {
	ID         string
	Attributes map[string]any
}

// ListResources returns up to n registered resources of a type after an id, by id.
type ListResources func(ctx context.Context, kind, after string, n int) ([]Resource, error)

// Resources returns a page of the ids of the registered resources of a type about which
// Decide would allow the request. It counts and records nothing.
func (s *Service) Resources(ctx context.Context, pages page.Tokens, list string, r Request, kind string, size int32, token string, read ListResources) ([]string, string, error) {
	p, err := s.candidate(ctx, r)
	if err != nil || p == nil {
		return nil, "", err
	}
	if about := s.roles.Policy().About(r.Rule.Permission); !slices.ContainsFunc(p.Roles, func(role string) bool { return slices.Contains(about, role) }) {
		return nil, "", nil
	}
	return page.Scan(pages, list, size, token, func(after string, n int) (found []string, at string, more bool, err error) {
		at = after
		for scanned := 0; len(found) < n && scanned < maxScanned; {
			batch, err := read(ctx, kind, at, scanAtOnce)
			if err != nil || len(batch) == 0 {
				return found, at, false, err
			}
			for _, resource := range batch {
				if len(found) == n {
					return found, at, true, nil
				}
				at, scanned = resource.ID, scanned+1
				one := r
				one.Resource, one.known = kind+"/"+resource.ID, resource.Attributes
				if one.known == nil {
					one.known = map[string]any{}
				}
				v, err := s.judge(ctx, caller.ReasonOK, p, &one)
				if err != nil {
					return nil, "", false, err
				}
				if v.Reason == caller.ReasonOK {
					found = append(found, resource.ID)
				}
			}
		}
		return found, at, true, nil
	})
}

// Actions returns a page of the names of the actions on resources of a type that Decide
// would allow, as far as a role names them. It counts and records nothing.
func (s *Service) Actions(ctx context.Context, pages page.Tokens, list string, r Request, kind string, size int32, token string) ([]string, string, error) {
	p, err := s.candidate(ctx, r)
	if err != nil || p == nil {
		return nil, "", err
	}
	names := s.roles.Policy().Actions(kind)
	return page.Scan(pages, list, size, token, func(after string, n int) (found []string, at string, more bool, err error) {
		at = after
		first, seen := slices.BinarySearch(names, after)
		if seen {
			first++
		}
		for i, name := range names[first:] {
			if len(found) == n || i == maxScanned {
				return found, at, true, nil
			}
			at = name
			one := r
			one.Rule.Permission = kind + ":" + name
			v, err := s.judge(ctx, caller.ReasonOK, p, &one)
			if err != nil {
				return nil, "", false, err
			}
			if v.Reason == caller.ReasonOK {
				found = append(found, name)
			}
		}
		return found, at, false, nil
	})
}

// candidate is the principal of a request whose credential is good; nil when it is not.
func (s *Service) candidate(ctx context.Context, r Request) (*caller.Principal, error) {
	if err := s.log.Ensure(ctx, 0); err != nil {
		return nil, err
	}
	verified, err := s.auth.Verify(ctx, r.Credential)
	if err != nil || verified.Reason != caller.ReasonOK {
		return nil, err
	}
	return verified.Principal, nil
}
