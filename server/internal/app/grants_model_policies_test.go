package app

import (
	"encoding/json"
	"net/netip"
	"slices"
	"time"

	"github.com/tollgatehq/tollgate/internal/condition"
	"github.com/tollgatehq/tollgate/internal/perm"
	"github.com/tollgatehq/tollgate/server/internal/apitest"
	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/decision"
	"github.com/tollgatehq/tollgate/server/internal/roles"
	"pgregory.net/rapid"
)

// when is a condition of the model.
type when struct {
	text string
	// could says where it may be true of somebody; first says whether it is true of
	// who has nothing that it asks for, as the attacker at first.
	could, first func(at place) bool
}

// place is where a call comes from, and for whom.
type place struct{ office, tenant bool }

var places = []place{{}, {office: true}, {tenant: true}, {true, true}}

func (at place) request() decision.Request {
	r := decision.Request{IP: netip.MustParseAddr("192.0.2.1"), Context: map[string]string{"tenant": "other"}, Resource: "docs/1"}
	if at.office {
		r.IP = netip.MustParseAddr("10.1.2.3")
	}
	if at.tenant {
		r.Context["tenant"] = "acme"
	}
	return r
}

func anywhere(place) bool { return true }
func nowhere(place) bool  { return false }

// whens are the conditions of the sequence; the last four are about the principal, by
// what the attacker may try to change of themselves or of others.
func (m *reach) whens() []when {
	office := func(at place) bool { return at.office }
	both := func(at place) bool { return at.office && at.tenant }
	const inOffice, ofTenant = `cidr("10.0.0.0/8").containsIP(ip)`, `context.tenant == "acme"`
	return []when{
		{"", anywhere, anywhere},
		{inOffice, office, office},
		{ofTenant, func(at place) bool { return at.tenant }, func(at place) bool { return at.tenant }},
		{inOffice + ` && ` + ofTenant, both, both},
		{`"` + m.tag + `" in principal.roles`, anywhere, nowhere},
		{`!("` + m.tag + `" in principal.roles)`, anywhere, anywhere},
		{`principal.username == "` + m.boss + `"`, anywhere, nowhere},
		{`principal.attributes.?level.orValue(0) == 3`, anywhere, nowhere},
	}
}

func (m *reach) when(text string) when {
	list := m.whens()
	return list[max(0, slices.IndexFunc(list, func(w when) bool { return w.text == text }))]
}

// grants draws grants for a role.
func (m *reach) grants(label string) (list []roles.Grant) {
	whens := m.whens()
	if rapid.Bool().Draw(m.t, "about no principal") {
		whens = whens[:4]
	}
	for _, p := range m.patterns(label) {
		g := roles.Grant{Permission: p, Effect: roles.Allow, Condition: rapid.SampledFrom(whens).Draw(m.t, "condition").text}
		if !perm.Own(p) && rapid.IntRange(0, 3).Draw(m.t, "denies") == 0 {
			g.Effect = roles.Deny
		}
		list = append(list, g)
	}
	return list
}

func grantsBody(list []roles.Grant) []apitest.Object {
	body := []apitest.Object{}
	for _, g := range list {
		o := apitest.Object{"permission": g.Permission, "condition": g.Condition}
		if g.Effect == roles.Deny {
			o["effect"] = "EFFECT_DENY"
		}
		body = append(body, o)
	}
	return body
}

// grantAlso gives a user grants, and returns them as rights. Denies have no end, so
// that what a user reaches does not grow by itself.
func (m *reach) grantAlso(user string, grants []roles.Grant) (list []right) {
	for _, effect := range []roles.Effect{roles.Allow, roles.Deny} {
		some := slices.DeleteFunc(slices.Clone(grants), func(g roles.Grant) bool { return g.Effect != effect })
		if len(some) == 0 {
			continue
		}
		ends := m.give(user, roles.Role{Grants: some}, effect == roles.Allow)
		for _, g := range some {
			list = append(list, right{pattern: g.Permission, ends: ends, condition: g.Condition, denies: g.Effect == roles.Deny})
		}
	}
	return list
}

// allowed says whether the attacker may, by what was granted, at a place until a time.
func (m *reach) allowed(pattern string, at place, until time.Time) bool {
	return m.allowedBy(m.granted, pattern, at, until)
}

func (m *reach) allowedBy(granted []right, pattern string, at place, until time.Time) bool {
	allows := false
	for _, r := range granted {
		lasts := r.ends.IsZero() || !until.IsZero() && !r.ends.Before(until)
		overlap := perm.Covers(r.pattern, pattern) || r.denies && perm.Covers(pattern, r.pattern)
		switch {
		case !overlap || !m.when(r.condition).first(at):
		case !r.denies:
			allows = allows || lasts
		case !perm.Own(pattern) && (r.ends.IsZero() || r.ends.After(m.clock.Now())):
			return false
		}
	}
	return allows
}

// allowedEverywhere says whether all that a user's right may allow was granted. For who
// is the attacker, conditions are true and denies count as for the attacker.
func (m *reach) allowedEverywhere(user string, r right, until time.Time) bool {
	granted, may := m.granted, m.when(r.condition).could
	if m.own[user] {
		may = m.when(r.condition).first
		granted = slices.DeleteFunc(slices.Clone(granted), func(r right) bool { return r.denies })
	}
	return !slices.ContainsFunc(places, func(at place) bool {
		return may(at) && !m.allowedBy(granted, r.pattern, at, until)
	})
}

// probes are the permissions that are asked for.
var probes = []string{"a:read", "a:write", "a:x", "b:read", "tollgate:users:write", "tollgate:keys:write", "tollgate:roles:write", "tollgate:limits:write"}

type probe struct {
	permission string
	at         place
}

// reaches are the probes that a principal passes.
func (m *reach) reaches(p *caller.Principal) map[probe]bool {
	passed := map[probe]bool{}
	for _, at := range places {
		for _, permission := range probes {
			in := at.request().Input(p, permission, nil, m.clock.Now())
			v, err := m.i.roles.Judge(p, permission, func(*condition.Condition) (*condition.Input, error) { return in, nil })
			m.must(err)
			if v.Reason == caller.ReasonOK {
				passed[probe{permission, at}] = true
			}
		}
	}
	return passed
}

// principal is a user who is there; nil: not any more.
func (m *reach) principal(id string) *caller.Principal {
	u, err := m.i.Auth.GetUser(m.i.draining, id)
	if err != nil {
		return nil
	}
	return &caller.Principal{UserID: id, Username: u.Username, Kind: u.Kind, Roles: u.Roles, Attributes: u.Attributes}
}

// checkReach is the model's claim about conditions and denies: no credential that the
// attacker came by passes where they were not granted it, and nobody else comes to
// pass where they did not at first and the attacker was not granted it either.
func (m *reach) checkReach() {
	soon := m.clock.Now().Add(time.Microsecond)
	for _, l := range m.loot {
		p := m.works(l)
		if p == nil {
			continue
		}
		for passed := range m.reaches(p) {
			if !m.allowed(passed.permission, passed.at, soon) {
				m.t.Fatalf("%+v passes %+v, which was not granted: %+v", p, passed, m.granted)
			}
		}
	}
	for _, v := range m.victims {
		p := m.principal(v.id)
		if p == nil {
			continue
		}
		for passed := range m.reaches(p) {
			if !v.reaches[passed] && !m.allowed(passed.permission, passed.at, soon) {
				m.t.Fatalf("%+v passes %+v, and did not at first; granted to the attacker was %+v", p, passed, m.granted)
			}
		}
	}
}

// roleRow is a role as the database has it.
type roleRow struct {
	Name        string `db:"name"`
	Permissions string `db:"permissions"`
	Grants      string `db:"grants"`
	Inherits    string `db:"inherits"`
}

// closure is what a role of the table has, itself and inherited.
func (m *reach) closure(table []roleRow, name string) (list []right) {
	seen := map[string]bool{}
	for todo := []string{name}; len(todo) > 0; todo = todo[1:] {
		for _, row := range table {
			if row.Name != todo[0] || seen[row.Name] {
				continue
			}
			seen[row.Name] = true
			var patterns, inherits []string
			var grants []roles.Grant
			m.must(json.Unmarshal([]byte(row.Permissions), &patterns))
			m.must(json.Unmarshal([]byte(row.Grants), &grants))
			m.must(json.Unmarshal([]byte(row.Inherits), &inherits))
			todo = append(todo, inherits...)
			for _, p := range patterns {
				list = append(list, right{pattern: p})
			}
			for _, g := range grants {
				list = append(list, right{pattern: g.Permission, condition: g.Condition, denies: g.Effect == roles.Deny})
			}
		}
	}
	return list
}

// policyActions are what the attacker tries with grants, heirs, attributes and routes.
func (m *reach) policyActions(pick func(string, []string) string, user func() string) map[string]func() {
	edit := func(action, list, clear string, value any, empty bool) {
		body := map[string]any{"name": pick("role", m.roles), list: value}
		if empty {
			delete(body, list)
			body[clear] = true
		}
		m.try(action, "RolesService/UpdateRole", body)
	}
	inherited := func() []string {
		return rapid.SliceOfNDistinct(rapid.SampledFrom(m.roles), 0, 2, rapid.ID[string]).Draw(m.t, "inherits")
	}
	return map[string]func(){
		"create a role with grants": func() {
			name := m.name("made")
			body := map[string]any{"name": name, "grants": grantsBody(m.grants("grants")), "inherits": inherited()}
			if m.try("create a role with grants", "RolesService/CreateRole", body) != nil {
				m.roles = append(m.roles, name)
			}
		},
		"change grants": func() {
			grants := grantsBody(m.grants("grants"))
			edit("change grants", "grants", "clearGrants", grants, len(grants) == 0)
		},
		"change what a role inherits": func() {
			from := inherited()
			edit("change what a role inherits", "inherits", "clearInherits", from, len(from) == 0)
		},
		"tag": func() {
			procedure := rapid.SampledFrom([]string{"RolesService/AssignRole", "RolesService/UnassignRole"}).Draw(m.t, "procedure")
			m.try("tag", procedure, map[string]any{"role": m.tag, "userId": user()})
		},
		"rename to what is asked for": func() {
			m.try("rename to what is asked for", "AuthService/UpdateUser", map[string]any{"id": user(), "username": m.boss})
		},
		"describe": func() {
			level := rapid.IntRange(2, 3).Draw(m.t, "level")
			m.try("describe", "AuthService/UpdateUser", map[string]any{"id": user(), "attributes": map[string]any{"level": level}})
		},
		"create a route": func() {
			name := m.name("route")
			body := map[string]any{"name": name, "path": "/" + name, "permission": "a:read"}
			if m.try("create a route", "RoutesService/CreateRoute", body) != nil {
				m.try("create a route", "RoutesService/DeleteRoute", map[string]any{"name": name})
			}
		},
	}
}
