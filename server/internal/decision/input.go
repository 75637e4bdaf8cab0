package decision

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/tollgatehq/tollgate/internal/condition"
	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/roles"
)

// What Named puts before and between the names of several permissions.
const (
	namedAny  = "any of "
	namedAll  = "all of "
	namedNext = ", "
)

// Named is what the rule asks for, in one text for the record.
func (r Rule) Named() string {
	switch {
	case len(r.AnyOf) > 0:
		return namedAny + strings.Join(r.AnyOf, namedNext)
	case len(r.AllOf) > 0:
		return namedAll + strings.Join(r.AllOf, namedNext)
	default:
		return r.Permission
	}
}

// each are the permissions that the rule names.
func (r Rule) each() []string {
	switch {
	case len(r.AnyOf) > 0:
		return r.AnyOf
	case len(r.AllOf) > 0:
		return r.AllOf
	case r.Permission != "":
		return []string{r.Permission}
	}
	return nil
}

// judgeRoles asks the roles about each permission that the rule names.
func (s *Service) judgeRoles(ctx context.Context, p *caller.Principal, r *Request) (roles.Verdict, error) {
	if r.Rule.Permission != "" && len(r.Rule.AnyOf)+len(r.Rule.AllOf) == 0 {
		return s.roles.Judge(p, r.Rule.Permission, s.input(ctx, p, r, r.Rule.Permission))
	}
	return r.Rule.Judge(func(permission string) (roles.Verdict, error) {
		return s.roles.Judge(p, permission, s.input(ctx, p, r, permission))
	})
}

// Judge asks about each permission that the rule names, until one decides: one of
// any that is held, or one of all that is missing. Of several that refuse, the first
// says why.
func (r Rule) Judge(ask func(permission string) (roles.Verdict, error)) (roles.Verdict, error) {
	first := roles.Verdict{Reason: caller.ReasonPermissionMissing}
	for i, permission := range r.each() {
		v, err := ask(permission)
		if err != nil {
			return roles.Verdict{}, err
		}
		if i == 0 {
			first = v
		}
		if (v.Reason == caller.ReasonOK) == (len(r.AnyOf) > 0) {
			return v, nil
		}
	}
	return first, nil
}

// input is what conditions read of a request, made when the first of them does. What
// is stored of the resource is looked up for a condition that reads it and for no
// other: callers may choose what their calls are about.
func (s *Service) input(ctx context.Context, p *caller.Principal, r *Request, permission string) roles.Input {
	var in *condition.Input
	known := r.known != nil
	return func(c *condition.Condition) (*condition.Input, error) {
		if in == nil {
			in = r.Input(p, permission, r.known, s.clock.Now())
		}
		if !known && c.ReadsAny("resource.attributes") {
			stored, err := s.stored(ctx, r.Resource)
			if err != nil {
				return nil, err
			}
			in.ResourceAttributes, known = merged(stored, r.ResourceAttributes), true
		}
		return in, nil
	}
}

// stored are the attributes that are kept of a resource.
func (s *Service) stored(ctx context.Context, resource string) (map[string]any, error) {
	kind, id, _ := strings.Cut(resource, "/")
	if id == "" || s.resource == nil {
		return nil, nil
	}
	attributes, err := s.resource(ctx, kind, id)
	if err != nil {
		return nil, fmt.Errorf("read resource %s/%s: %w", kind, id, err)
	}
	return attributes, nil
}

// Input is what conditions read of the request when the principal asks for one of its
// permissions: of the resource what is stored, with what the request says in its
// place.
func (r Request) Input(p *caller.Principal, permission string, stored map[string]any, now time.Time) *condition.Input {
	kind, id, _ := strings.Cut(r.Resource, "/")
	var facts map[string]any
	if n := len(r.Context) + len(r.Facts); n > 0 {
		facts = make(map[string]any, n)
	}
	for name, value := range r.Context {
		facts[name] = value
	}
	maps.Copy(facts, r.Facts)
	return &condition.Input{
		PrincipalID: p.UserID, Username: p.Username, Kind: string(p.Kind), Roles: p.Roles, APIKeyID: p.APIKeyID,
		Attributes:   merged(p.Attributes, r.PrincipalAttributes),
		ResourceType: kind, ResourceID: id, ResourceAttributes: merged(stored, r.ResourceAttributes),
		Action: permission[strings.LastIndexByte(permission, ':')+1:], ActionProperties: r.ActionProperties,
		Context: facts, IP: r.IP, Now: now,
	}
}

// merged are the stored attributes with the given ones in their place.
func merged(stored, given map[string]any) map[string]any {
	if len(stored) == 0 {
		return given
	}
	if len(given) == 0 {
		return stored
	}
	all := maps.Clone(stored)
	maps.Copy(all, given)
	return all
}
