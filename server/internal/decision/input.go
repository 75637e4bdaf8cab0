package decision

import (
	"context"
	"fmt"
	"maps"
	"strings"

	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/condition"
	"github.com/tollgatehq/tollgate/server/internal/roles"
)

// Named is what the rule asks for, in one text for the record.
func (r Rule) Named() string {
	switch {
	case len(r.AnyOf) > 0:
		return "any of " + strings.Join(r.AnyOf, ", ")
	case len(r.AllOf) > 0:
		return "all of " + strings.Join(r.AllOf, ", ")
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

// judgeRoles asks the roles about each permission that the rule names. Of several
// that refuse, the first says why.
func (s *Service) judgeRoles(ctx context.Context, p *caller.Principal, r Request) (roles.Verdict, error) {
	if r.Rule.Permission != "" && len(r.Rule.AnyOf)+len(r.Rule.AllOf) == 0 {
		return s.roles.Judge(p, r.Rule.Permission, s.input(ctx, p, r, r.Rule.Permission))
	}
	first := roles.Verdict{Reason: caller.ReasonPermissionMissing}
	for i, permission := range r.Rule.each() {
		v, err := s.roles.Judge(p, permission, s.input(ctx, p, r, permission))
		if err != nil {
			return roles.Verdict{}, err
		}
		if i == 0 {
			first = v
		}
		if (v.Reason == caller.ReasonOK) == (len(r.Rule.AnyOf) > 0) {
			return v, nil // it decides: one that is held, or one that is missing
		}
	}
	return first, nil
}

// input is what conditions read of a request, made when the first of them does.
func (s *Service) input(ctx context.Context, p *caller.Principal, r Request, permission string) roles.Input {
	var in *condition.Input
	return func() (*condition.Input, error) {
		if in != nil {
			return in, nil
		}
		kind, id, _ := strings.Cut(r.Resource, "/")
		attributes, err := s.attributes(ctx, kind, id, r.ResourceAttributes)
		if err != nil {
			return nil, err
		}
		facts := make(map[string]any, len(r.Context))
		for name, value := range r.Context {
			facts[name] = value
		}
		in = &condition.Input{
			PrincipalID: p.UserID, Username: p.Username, Kind: string(p.Kind), Roles: p.Roles, APIKeyID: p.APIKeyID, Attributes: p.Attributes,
			ResourceType: kind, ResourceID: id, ResourceAttributes: attributes,
			Action: permission[strings.LastIndexByte(permission, ':')+1:], ActionProperties: r.ActionProperties,
			Context: facts, IP: r.IP, Now: s.clock.Now(),
		}
		return in, nil
	}
}

// attributes are the stored ones of a resource, with the given ones in their place.
func (s *Service) attributes(ctx context.Context, kind, id string, given map[string]any) (map[string]any, error) {
	if id == "" || s.resource == nil {
		return given, nil
	}
	stored, err := s.resource(ctx, kind, id)
	if err != nil {
		return nil, fmt.Errorf("read resource %s/%s: %w", kind, id, err)
	}
	if len(given) == 0 {
		return stored, nil
	}
	all := maps.Clone(stored)
	if all == nil {
		all = map[string]any{}
	}
	maps.Copy(all, given)
	return all, nil
}
