package tollgate

import (
	"net/netip"
	"strings"
	"sync"
	"time"

	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
	"github.com/tollgatehq/tollgate/internal/perm"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
)

// Conditions compiles the conditions of grants, for [LocalConfig]. Package
// [github.com/tollgatehq/tollgate/sdk/conditions] has Tollgate's own; one that decides
// otherwise allows what Tollgate refuses.
type Conditions interface {
	// Compile returns the condition that an expression is. An error has Tollgate asked
	// about each call that the condition has a say in.
	Compile(text string) (Condition, error)
}

// Condition is a condition of a grant. It is safe for concurrent use.
type Condition interface {
	// Holds returns whether it is true. The error says that it cannot be told, also
	// because it reads what is not known here. Neither changes nor keeps the facts.
	Holds(*Facts) (bool, error)
}

// Facts are what conditions read of a call.
type Facts struct {
	Principal          *Principal
	Attributes         map[string]any // the principal's; nil: not known
	Permission         string
	Resource           string         // "orders/42"
	ResourceAttributes map[string]any // those that came with the call win over registered ones
	WholeResource      bool           // ResourceAttributes are all; otherwise more may be registered
	ActionProperties   map[string]any
	Context            map[string]string
	IP                 netip.Addr // zero: there is none, and reading it fails
	Now                time.Time  // zero: not known
}

// maxConditions is how many different conditions are kept. Each that was needed takes
// 5 KiB and more, by its length.
const maxConditions = 10_000

// expression is a condition that is compiled when it is first needed: thousands at
// once would keep the feed waiting.
type expression struct {
	once     sync.Once
	text     string
	engine   Conditions
	compiled Condition // nil: it cannot be
}

// holds reports whether the condition is true; sure is false when Tollgate may say
// otherwise. A nil one is never sure.
func (e *expression) holds(f *Facts) (yes, sure bool) {
	if e == nil {
		return false, false
	}
	e.once.Do(func() {
		if c, err := e.engine.Compile(e.text); err == nil {
			e.compiled = c
		}
	})
	if e.compiled == nil {
		return false, false
	}
	yes, err := e.compiled.Holds(f)
	return yes, err == nil
}

// grant is a grant with a condition.
type grant struct {
	role       string // that it stands in
	permission string // pattern
	deny       bool
	condition  *expression
}

// maxGrant is how much of a grant a decision names, in bytes.
const maxGrant = 512

// String is the grant as [Decision] names it.
func (g *grant) String() string {
	text := g.role + ": allow " + g.permission + " if " + g.condition.text
	if len(text) > maxGrant {
		text = strings.ToValidUTF8(text[:maxGrant], "") + "…"
	}
	return text
}

// expressions are the conditions in roles, those of before as they are.
func expressions(engine Conditions, roles map[string]*role, before map[string]*expression) map[string]*expression {
	next := map[string]*expression{}
	if engine == nil {
		return next
	}
	for _, r := range roles {
		for _, g := range r.own.GetGrants() {
			text := g.GetCondition()
			if next[text] != nil || len(next) >= maxConditions {
				continue
			}
			if next[text] = before[text]; next[text] == nil {
				next[text] = &expression{text: text, engine: engine}
			}
		}
	}
	return next
}

// question is whose call may be decided here. The request goes beside it: what holds
// conditions' facts is on the heap.
type question struct {
	who   *known
	facts *Facts // nil until a condition is looked at

	resource, action map[string]any // as Tollgate would get them
}

// maxAttributes is how large Tollgate takes the attributes of one thing, in bytes.
const maxAttributes = 8 << 10

// describe reads the attributes of the request; false when Tollgate would not take them.
func (q *question) describe(r *AuthorizeRequest) bool {
	for _, list := range [...]struct {
		from map[string]any
		to   *map[string]any
	}{{r.ResourceAttributes, &q.resource}, {r.ActionProperties, &q.action}} {
		if len(list.from) == 0 {
			continue
		}
		s, err := structpb.NewStruct(list.from)
		if err != nil || proto.Size(s) > maxAttributes {
			return false
		}
		*list.to = s.AsMap()
	}
	return true
}

// about are the facts of the call when it asks for this permission.
func (q *question) about(r *AuthorizeRequest, permission string) *Facts {
	if q.facts == nil {
		q.facts = &Facts{
			Principal: &q.who.principal, Resource: clip(r.Resource, maxResource), ResourceAttributes: q.resource,
			ActionProperties: q.action, Context: r.Context, IP: r.IP.Unmap().WithZone(""),
		}
	}
	q.facts.Permission = permission
	return q.facts
}

// answer is what roles say to a permission.
type answer int

const (
	no     answer = iota
	yes           // sure to be allowed
	unsure        // Tollgate may say otherwise, or name another grant
)

// weigh goes on where the roles have grants with conditions that may match: none may
// deny, and unless it is allowed already, the first that is true allows, as Tollgate
// does it.
func (p *policy) weigh(q *question, r *AuthorizeRequest, permission string, allowed bool) (answer, *grant) {
	for _, deny := range [...]bool{true, false} {
		if !deny && allowed {
			return yes, nil
		}
		for _, name := range q.who.principal.Roles {
			role := p.roles[name]
			if role == nil {
				continue
			}
			for i := range role.grants {
				g := &role.grants[i]
				if g.deny != deny || !perm.Covers(g.permission, permission) {
					continue
				}
				switch holds, sure := g.condition.holds(q.about(r, permission)); {
				case !sure, holds && deny:
					return unsure, nil
				case holds:
					return yes, g
				}
			}
		}
	}
	return no, nil
}

// grantsOf reads the grants of a role. What it does not know denies.
func (r *role) grantsOf(own *tollgatev1.PolicyRole, known map[string]*expression) (denies []string) {
	for _, g := range own.GetGrants() {
		switch g.GetEffect() {
		case tollgatev1.Effect_EFFECT_ALLOW, tollgatev1.Effect_EFFECT_UNSPECIFIED, tollgatev1.Effect_EFFECT_DENY:
			r.grants = append(r.grants, grant{
				role: own.GetName(), permission: g.GetPermission(), deny: g.GetEffect() == tollgatev1.Effect_EFFECT_DENY,
				condition: known[g.GetCondition()],
			})
		default:
			denies = append(denies, g.GetPermission())
		}
	}
	return denies
}
