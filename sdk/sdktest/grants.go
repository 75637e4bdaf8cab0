package sdktest

import (
	"net/netip"

	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
	tollgate "github.com/tollgatehq/tollgate/sdk"
	"google.golang.org/protobuf/proto"
)

// Grant is what a role allows only under a condition, or denies.
type Grant struct {
	Permission string // pattern
	Condition  string // in CEL; empty: always
	Deny       bool
}

// grant is a Grant that is compiled; one that cannot be fails, as Tollgate's do.
type grant struct {
	Grant
	condition tollgate.Condition
}

// WithConditions gives the server what evaluates conditions: conditions.Evaluator()
// of package [github.com/tollgatehq/tollgate/sdk/conditions]. Without it each fails:
// it allows nothing, and denies.
func WithConditions(c tollgate.Conditions) Option { return func(s *Server) { s.conditions = c } }

// SetGrants gives a role grants besides the permissions of [Server.SetRole], which
// removes them, in place of those that it had.
func (s *Server) SetGrants(role string, grants ...Grant) {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]grant, len(grants))
	for i, g := range grants {
		list[i].Grant = g
		if g.Condition != "" && s.conditions != nil {
			if c, err := s.conditions.Compile(g.Condition); err == nil {
				list[i].condition = c
			}
		}
	}
	s.grants[role] = list
	s.sendPolicy(&tollgatev1.WatchPolicyResponse{Roles: []*tollgatev1.PolicyRole{s.policyRole(role)}})
}

// policyRole is a role as it is told to who asked for conditions.
func (s *Server) policyRole(name string) *tollgatev1.PolicyRole {
	r := &tollgatev1.PolicyRole{Name: name, Allows: s.roles[name]}
	for _, g := range s.grants[name] {
		switch {
		case g.Condition != "":
			effect := tollgatev1.Effect_EFFECT_ALLOW
			if g.Deny {
				effect = tollgatev1.Effect_EFFECT_DENY
			}
			r.Grants = append(r.Grants, &tollgatev1.Grant{Permission: g.Permission, Condition: g.Condition, Effect: effect})
		case g.Deny:
			r.Denies = append(r.Denies, g.Permission)
		default:
			r.Allows = append(r.Allows[:len(r.Allows):len(r.Allows)], g.Permission)
		}
	}
	return r
}

// withoutConditions is the message for who has not asked for them.
func withoutConditions(m *tollgatev1.WatchPolicyResponse) *tollgatev1.WatchPolicyResponse {
	m, _ = proto.Clone(m).(*tollgatev1.WatchPolicyResponse)
	for _, r := range m.GetRoles() {
		for _, g := range r.GetGrants() {
			if g.GetEffect() == tollgatev1.Effect_EFFECT_DENY {
				r.Denies = append(r.Denies, g.GetPermission())
			}
		}
		r.Grants = nil
	}
	return m
}

// judge says whether the user's roles allow a permission, and by which grant. A deny
// wins, and what fails denies.
func (s *Server) judge(who *tollgatev1.Principal, req *tollgatev1.AuthorizeRequest, permission string) (reason tollgatev1.Reason, by string) {
	user := s.users[who.GetUsername()]
	reason = tollgatev1.Reason_REASON_PERMISSION_MISSING
	if s.holds(user, permission) {
		reason = tollgatev1.Reason_REASON_OK
	}
	for _, deny := range [...]bool{true, false} {
		for _, role := range user.Roles {
			for _, g := range s.grants[role] {
				if g.Deny != deny || !deny && reason == tollgatev1.Reason_REASON_OK || !anyMatch([]string{g.Permission}, permission) {
					continue
				}
				holds, failed := g.run(s.facts(user, who, req, permission))
				name := g.name(role)
				switch {
				case deny && failed:
					return tollgatev1.Reason_REASON_CONDITION_FAILED, name
				case deny && holds:
					return tollgatev1.Reason_REASON_DENIED_BY_GRANT, name
				case deny:
				case holds:
					reason, by = tollgatev1.Reason_REASON_OK, name
				case failed && reason != tollgatev1.Reason_REASON_CONDITION_FAILED:
					reason, by = tollgatev1.Reason_REASON_CONDITION_FAILED, name
				case reason == tollgatev1.Reason_REASON_PERMISSION_MISSING:
					reason, by = tollgatev1.Reason_REASON_CONDITION_FALSE, name
				}
			}
		}
	}
	return reason, by
}

// run says whether the grant's condition is true, or fails.
func (g grant) run(f *tollgate.Facts) (holds, failed bool) {
	switch {
	case g.Condition == "":
		return true, false
	case g.condition == nil:
		return false, true
	}
	holds, err := g.condition.Holds(f)
	return holds, err != nil
}

// name is the grant as a decision names it.
func (g grant) name(role string) string {
	text := role + ": allow "
	if g.Deny {
		text = role + ": deny "
	}
	if text += g.Permission; g.Condition != "" {
		text += " if " + g.Condition
	}
	return text
}

// facts are what conditions read of a call. No resource is registered here.
func (s *Server) facts(u User, who *tollgatev1.Principal, req *tollgatev1.AuthorizeRequest, permission string) *tollgate.Facts {
	ip, _ := netip.ParseAddr(req.GetClient().GetIp()) // the zero Addr of what is none
	f := &tollgate.Facts{
		Principal:  &tollgate.Principal{UserID: u.ID, Username: u.Name, Service: u.Service, Roles: u.Roles, APIKeyID: who.GetApiKeyId()},
		Attributes: u.Attributes, Permission: permission, Resource: req.GetResource(), WholeResource: true,
		ResourceAttributes: req.GetResourceAttributes().AsMap(), ActionProperties: req.GetActionProperties().AsMap(),
		Context: req.GetContext(), IP: ip, Now: s.now(),
	}
	if f.Attributes == nil {
		f.Attributes = map[string]any{}
	}
	return f
}
