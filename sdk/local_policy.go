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
	revision   int64
	heard      instant
	size       int // bytes of what was told
	roles      map[string]*role
	limits     map[string]*tollgatev1.PolicyLimit
	engine     Conditions                           // nil: Tollgate decides by conditions
	conditions map[string]*expression               // by text
	counting   map[string][]*tollgatev1.PolicyLimit // by pattern, without its "*"
}

// role is a role with what it inherits.
type role struct {
	own            *tollgatev1.PolicyRole
	allows, denies perm.Set
	grants         []grant // those with a condition
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
		next.roles, next.conditions = p.changedRoles(m.GetRoles(), m.GetRemovedRoles())
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
func (p *policy) changedRoles(changed []*tollgatev1.PolicyRole, removed []string) (map[string]*role, map[string]*expression) {
	next := make(map[string]*role, len(p.roles)+len(changed))
	maps.Copy(next, p.roles)
	touched := make(map[string]bool, len(changed))
	for _, name := range removed {
		delete(next, name)
	}
	for _, own := range changed {
		next[own.GetName()], touched[own.GetName()] = &role{own: own}, true
	}
	conditions := expressions(p.engine, next, p.conditions)
	for name, r := range next {
		if touched[name] || len(r.own.GetInherits()) > 0 {
			next[name] = compileRole(next, r.own, conditions)
		}
	}
	return next, conditions
}

// compileRole follows what a role inherits, each once, as far as it exists.
func compileRole(roles map[string]*role, own *tollgatev1.PolicyRole, conditions map[string]*expression) *role {
	all := &role{own: own}
	var allows, denies, seen []string
	for todo := []string{own.GetName()}; len(todo) > 0; todo = todo[1:] {
		r := roles[todo[0]]
		if r == nil || slices.Contains(seen, todo[0]) {
			continue
		}
		seen = append(seen, todo[0])
		allows, denies = append(allows, r.own.GetAllows()...), append(denies, r.own.GetDenies()...)
		denies = append(denies, all.grantsOf(r.own, conditions)...)
		todo = append(todo, r.own.GetInherits()...)
	}
	all.allows, all.denies = perm.Compile(allows), perm.Compile(denies)
	return all
}

// may reports whether the call is sure to be allowed, but for limits, and by which
// grant with a condition; nil when by none.
func (p *policy) may(q *question, r *AuthorizeRequest) (by *grant, sure bool) {
	who := q.who
	own := r.Self != "" && r.Self == who.principal.UserID && who.principal.APIKeyID == "" && (!r.SelfOnly || !who.principal.Service)
	switch {
	case own:
		return nil, true
	case r.SelfOnly:
		return nil, false
	case r.Authenticated:
		return nil, true
	case len(r.AnyOf) > 0:
		for _, permission := range r.AnyOf {
			if says, by := p.holds(q, r, permission); says != no {
				return by, says == yes
			}
		}
		return nil, false
	case len(r.AllOf) > 0:
		for i, permission := range r.AllOf {
			says, first := p.holds(q, r, permission)
			if says != yes {
				return nil, false
			}
			if i == 0 {
				by = first
			}
		}
		return by, true
	}
	says, by := p.holds(q, r, r.Permission)
	return by, says == yes
}

// holds reports whether a role allows the permission, none may deny it, and the API
// key is not narrowed to less.
func (p *policy) holds(q *question, r *AuthorizeRequest, permission string) (answer, *grant) {
	who := &q.who.principal
	allowed, conditional := false, false
	for _, name := range who.Roles {
		role := p.roles[name]
		if role == nil {
			continue
		}
		if len(role.denies) > 0 && role.denies.Covers(permission) {
			return no, nil
		}
		allowed = allowed || role.allows.Covers(permission)
		conditional = conditional || len(role.grants) > 0
	}
	if !allowed && !conditional || !inScopes(who, permission) {
		return no, nil
	}
	if conditional {
		return p.weigh(q, r, permission, allowed)
	}
	return yes, nil
}

func inScopes(who *Principal, permission string) bool {
	for _, scope := range who.Scopes {
		if perm.Match(scope, permission) {
			return true
		}
	}
	return len(who.Scopes) == 0
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
