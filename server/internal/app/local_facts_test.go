package app

import (
	"fmt"
	"strings"
	"testing"
)

// localKnown are what random conditions say of what the SDK knows.
var localKnown = []string{
	`true`, `false`,
	`principal.username == "u1"`, `principal.id != ""`, `principal.kind == "person"`, `principal.kind == "service"`,
	`principal.api_key_id == ""`, `"r1" in principal.roles`, `principal.roles.exists(r, r > "r4")`, `size(principal.roles) == 2`,
	`resource.type == "orders"`, `resource.id == "1"`, `resource.id.startsWith("1")`, `size(resource.id) > 10`, `size(resource.id) > 150`,
	`action.name == "a"`, `action.name in ["a", "c"]`,
	`ip == "192.0.2.1"`, `cidr("192.0.2.0/24").containsIP(ip)`, `isIP(ip)`,
	`context.tenant == "acme"`, `has(context.tenant)`, `size(context) == 0`, `context.?tenant.orValue("x") == "x"`, `context.tenant == principal.username`,
	`action.properties.owner == "u1"`, `action.properties.n == 1`, `size(action.properties) > 0`, `has(action.properties.deep.x)`,
}

// localUnknown are what they say of what it may know, and of what it never does.
var localUnknown = []string{
	`resource.attributes.owner == "u1"`, `resource.attributes.owner == principal.username`, `resource.attributes["n"] > 0`,
	`has(resource.attributes.owner)`, `!has(resource.attributes.hold)`, `resource.attributes.?owner.orValue("u1") == "u1"`,
	`size(resource.attributes) < 2`, `resource.attributes.exists(k, k == "owner")`, `resource.attributes == action.properties`,
	`resource.attributes["deep.x"] == "y"`, `has(resource.attributes.deep.x)`, `resource.attributes[context.tenant] == "y"`,

	`principal.attributes.team == "sales"`, `has(principal.attributes.team)`, `size(principal.attributes) == 0`,
	`google.protobuf.BoolValue{value: has(principal.attributes.team)} == true`,
	`["x"].exists(principal, has(.principal.attributes.team))`, `{"a": resource.attributes}.a.owner == "u1"`,
	`now > timestamp("2020-01-01T00:00:00Z")`, `now < timestamp("2020-01-01T00:00:00Z")`, `now.getMilliseconds() < 500`,
	`timestamp("2026-01-01T00:00:00Z").getHours("Europe/Berlin") == 1`,
}

// condition is a random one, of up to three parts.
func (l *localModel) condition() string {
	if l.r.IntN(6) == 0 {
		return ""
	}
	atom := func() string { return pick(l.r, pick(l.r, localKnown, localKnown, localUnknown)...) }
	text := atom()
	for range l.r.IntN(3) {
		next := atom()
		text = fmt.Sprintf(pick(l.r, "%s && %s", "%s || %s", "!(%s) && %s", "(%s ? true : %s)"), text, next)
	}
	return text
}

// attributes are random ones of a request, of a user or of a resource.
func (l *localModel) attributes() map[string]any {
	all := map[string]any{
		"owner": pick[any](l.r, "u1", "u2", nil), "n": pick[any](l.r, 1, 2.5, int64(-1), "1"), "deep": map[string]any{"x": []any{"y"}},
		"deep.x": "y", "acme": "y", "hold": true, "team": pick(l.r, "sales", "other"),
	}
	for name := range all {
		if l.r.IntN(3) > 0 {
			delete(all, name)
		}
	}
	if l.r.IntN(100) == 0 {
		all["large"] = strings.Repeat("x", 9<<10)
	}
	return all
}

// describe gives the users and the resources other attributes.
func (l *localModel) describe(t *testing.T) {
	t.Helper()
	for _, id := range l.ids {
		edit := map[string]any{"attributes": l.attributes()}
		if l.r.IntN(2) == 0 {
			edit = map[string]any{"attributes": map[string]any{}}
		}
		if a := l.call(t, "PATCH", "/v1/users/"+id, l.admin, edit); a.Status != 200 && a.Status != 400 { // too large
			t.Fatal(a.Raw)
		}
	}
	for _, of := range []string{"orders/1", "bills/2"} {
		method, body := "PUT", any(map[string]any{"attributes": l.attributes()})
		if l.r.IntN(3) == 0 {
			method, body = "DELETE", nil
		}
		if a := l.call(t, method, "/v1/resources/"+of, l.admin, body); a.Status != 200 && a.Status != 400 && a.Status != 404 {
			t.Fatal(a.Raw)
		}
	}
}
