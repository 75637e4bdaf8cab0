package tollgate

import (
	"maps"
	"slices"
	"strings"

	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
	"github.com/tollgatehq/tollgate/internal/perm"
	"google.golang.org/protobuf/proto"
)

// policy is what Tollgate's feed has told. It never changes.
type policy struct {
	revision int64
	heard    instant
	size     int // bytes of what was told
	roles    map[string]*role
	limits   map[string]*tollgatev1.PolicyLimit
	counting map[string][]*tollgatev1.PolicyLimit // by pattern, without its "*"
}

// role is a role with what it inherits.
type role struct {
	own            *tollgatev1.PolicyRole
	allows, denies perm.Set
}

// size is what the role adds to that of a policy.
func (r *role) size() int {
	if r == nil {
		return 0
	}
	return proto.Size(r.own)
}

// with returns the policy after a message.
func (p *policy) with(m *tollgatev1.WatchPolicyResponse) *policy {
	next := *p
	if len(m.GetRoles())+len(m.GetRemovedRoles()) > 0 {
		next.roles = changedRoles(p.roles, m.GetRoles(), m.GetRemovedRoles())
		for _, name := range m.GetRemovedRoles() {
			next.size -= p.roles[name].size()
		}
		for _, r := range m.GetRoles() {
			next.size += proto.Size(r) - p.roles[r.GetName()].size()
		}
	}
	if len(m.GetLimits())+len(m.GetRemovedLimits()) > 0 {
		next.limits = maps.Clone(p.limits)
		if next.limits == nil {
			next.limits = map[string]*tollgatev1.PolicyLimit{}
		}
		for _, name := range m.GetRemovedLimits() {
			delete(next.limits, name)
		}
		for _, l := range m.GetLimits() {
			next.limits[l.GetName()] = l
		}
		next.counting = map[string][]*tollgatev1.PolicyLimit{}
		for _, l := range next.limits {
			if l.GetPermission() == "" {
				continue // only CheckLimit counts it
			}
			pattern := strings.TrimSuffix(l.GetPermission(), "*")
			next.counting[pattern] = append(next.counting[pattern], l)
		}
	}
	return &next
}

// changedRoles compiles what changed, and what inherits something.
func changedRoles(roles map[string]*role, changed []*tollgatev1.PolicyRole, removed []string) map[string]*role {
	next := make(map[string]*role, len(roles)+len(changed))
	maps.Copy(next, roles)
	touched := make(map[string]bool, len(changed))
	for _, name := range removed {
		delete(next, name)
	}
	for _, own := range changed {
		next[own.GetName()], touched[own.GetName()] = &role{own: own}, true
	}
	for name, r := range next {
		if touched[name] || len(r.own.GetInherits()) > 0 {
			next[name] = compileRole(next, r.own)
		}
	}
	return next
}

// compileRole follows what a role inherits, each once, as far as it exists.
func compileRole(roles map[string]*role, own *tollgatev1.PolicyRole) *role {
	var allows, denies, seen []string
	for todo := []string{own.GetName()}; len(todo) > 0; todo = todo[1:] {
		r := roles[todo[0]]
		if r == nil || slices.Contains(seen, todo[0]) {
			continue
		}
		seen = append(seen, todo[0])
		allows, denies = append(allows, r.own.GetAllows()...), append(denies, r.own.GetDenies()...)
		todo = append(todo, r.own.GetInherits()...)
	}
	return &role{own: own, allows: perm.Compile(allows), denies: perm.Compile(denies)}
}

// may reports whether the call is sure to be allowed, but for limits.
func (p *policy) may(who *known, r *AuthorizeRequest) bool {
	own := r.Self != "" && r.Self == who.principal.UserID && who.principal.APIKeyID == "" && (!r.SelfOnly || !who.principal.Service)
	switch {
	case own:
		return true
	case r.SelfOnly:
		return false
	case r.Authenticated:
		return true
	case len(r.AnyOf) > 0:
		for _, permission := range r.AnyOf {
			if p.holds(who, permission) {
				return true
			}
		}
		return false
	case len(r.AllOf) > 0:
		for _, permission := range r.AllOf {
			if !p.holds(who, permission) {
				return false
			}
		}
		return true
	}
	return p.holds(who, r.Permission)
}

// holds reports whether a role allows the permission, none may deny it, and the API
// key is not narrowed to less.
func (p *policy) holds(who *known, permission string) bool {
	allowed := false
	for _, name := range who.principal.Roles {
		r := p.roles[name]
		if r == nil {
			continue
		}
		if len(r.denies) > 0 && r.denies.Covers(permission) {
			return false
		}
		allowed = allowed || r.allows.Covers(permission)
	}
	if !allowed || len(who.principal.Scopes) == 0 {
		return allowed
	}
	for _, scope := range who.principal.Scopes {
		if perm.Match(scope, permission) {
			return true
		}
	}
	return false
}

// countingOf returns which limits count the call.
func (p *policy) countingOf(who *known, r *AuthorizeRequest) (c counting) {
	switch {
	case len(p.counting) == 0:
	case len(r.AnyOf) > 0:
		p.countEach(&c, who, r, r.AnyOf)
	case len(r.AllOf) > 0:
		p.countEach(&c, who, r, r.AllOf)
	case r.Permission == "":
		p.countOne(&c, who, r, anyAction)
	default:
		p.countOne(&c, who, r, r.Permission)
	}
	return c
}

func (p *policy) countEach(c *counting, who *known, r *AuthorizeRequest, permissions []string) {
	for _, permission := range permissions {
		p.countOne(c, who, r, permission)
	}
}

// countOne looks where perm.Set does: at the permission and at each prefix of it
// that a wildcard may stand behind.
func (p *policy) countOne(c *counting, who *known, r *AuthorizeRequest, permission string) {
	c.addAll(p.counting[permission], who, r)
	c.addAll(p.counting[""], who, r)
	for i := range len(permission) {
		if permission[i] == ':' {
			c.addAll(p.counting[permission[:i+1]], who, r)
		}
	}
}

// addAll adds those of the limits, which are about the permission, that count this
// caller.
func (c *counting) addAll(limits []*tollgatev1.PolicyLimit, who *known, r *AuthorizeRequest) {
	for _, l := range limits {
		switch l.GetSubject() {
		case tollgatev1.Subject_SUBJECT_API_KEY:
			if who.principal.APIKeyID != "" {
				c.add(l)
			}
		case tollgatev1.Subject_SUBJECT_IP, tollgatev1.Subject_SUBJECT_USER_IP:
			if r.IP.IsValid() {
				c.add(l)
			}
		default: // one by the context counts calls without its entry, too
			c.add(l)
		}
	}
}
