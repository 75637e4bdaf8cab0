package condition

import (
	"slices"
	"strings"
	"testing"

	"cel.dev/cel-go/cel"
)

// TestDecides: what is read of what the caller cannot know, in every way to write it.
func TestDecides(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		`principal.id == "u1" && principal.username == "alice" && principal.kind == "person" && "author" in principal.roles`: true,
		`principal.api_key_id == "" && resource.type == "record" && resource.id.startsWith("7") && action.name == "write"`:   true,
		`context.tenant == "acme" && action.properties.soft == true && cidr("10.0.0.0/8").containsIP(ip)`:                    true,
		`resource.attributes.owner == principal.id && resource.attributes["department"] == "sales"`:                          true,
		`has(resource.attributes.owner)`:                                                     true,
		`timestamp("2026-01-01T00:00:00Z").getHours() == 0`:                                  true,
		`duration("1h").getMinutes() == 60`:                                                  true,
		`principal.attributes.department == "sales"`:                                         false,
		`size(principal.attributes) > 0`:                                                     false,
		`context.tenant == "acme" || principal.attributes.department == "sales"`:             false,
		`["a"].exists(principal, .principal.attributes.level == 3)`:                          false,
		`google.protobuf.BoolValue{value: has(principal.attributes.x)} == false`:             false,
		`{"a": [principal.attributes]}.a.size() == 1`:                                        false,
		`has(resource.attributes.status) && resource.attributes.status == "archived"`:        false,
		`resource.attributes.?owner.orValue("x") == "u1"`:                                    false, // it may be given; that is not looked for
		`resource.attributes[context.tenant] == 1`:                                           false,
		`size(resource.attributes) > 0`:                                                      false,
		`resource.attributes.exists(name, name == "owner")`:                                  false,
		`resource.attributes == {"owner": "u1"}`:                                             false,
		`now < timestamp("2030-01-01T00:00:00Z")`:                                            false,
		`timestamp(context.at).getHours("Europe/Berlin") == 0`:                               false,
		`["a"].exists(x, timestamp("2026-01-01T00:00:00Z").getDayOfWeek(context.zone) == 0)`: false,
	} {
		c, in := compile(t, text), testInput()
		if got := c.Decides(in, Known{}); got != want {
			t.Errorf("%s: %t", text, got)
		}
		if !c.Decides(in, Known{Attributes: true, Resource: true, Now: true}) {
			t.Errorf("%s: not with everything known", text)
		}
	}
}

// spy notes which variables a run asks for.
type spy struct {
	*Input
	read []string
}

func (s *spy) ResolveName(name string) (any, bool) {
	s.read = append(s.read, name)
	return s.Input.ResolveName(name)
}

func (s *spy) Parent() cel.Activation { return nil }

// TestRunsReadWhatReadsSays: what a run reads is in what was read off the expression.
func TestRunsReadWhatReadsSays(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		`principal.attributes[?"x"].orValue("alice") == principal.username`,
		`["alice"].exists(principal, principal == .principal.username) && [1].all(context, .context.tenant == "acme")`,
		`[principal.id].map(x, x + resource.id).filter(y, y.startsWith(action.name)).size() == 0`,
		`{principal.id: resource.attributes}[principal.id].owner == "u1" && {?"a": optional.of(ip)}.a != ""`,
		`[?principal.attributes.?level].exists(x, x == 3) || sets.intersects(principal.roles, [context.tenant])`,
		`(context.tenant == "x" ? principal.attributes : resource.attributes).department == "sales"`,
		`google.protobuf.Struct{fields: {"a": principal.username}}.a == "alice"`,
		`google.protobuf.StringValue{value: resource.type} == "record" && now > timestamp("2020-01-01T00:00:00Z")`,
		`cidr("10.0.0.0/8").containsIP(ip) && action.properties.soft == true && principal.kind.matches("^p")`,
	} {
		c := compile(t, text)
		s := &spy{Input: testInput()}
		_, _, _ = c.program.Eval(s)
		if len(s.read) == 0 {
			t.Errorf("%s: the run reads nothing", text)
		}
		for _, name := range s.read {
			if !slices.ContainsFunc(c.paths, func(p path) bool { return p.variable == strings.TrimPrefix(name, ".") }) && slices.Contains(Names(), name) {
				t.Errorf("%s: the run reads %s, and Reads has %q", text, name, c.Reads())
			}
		}
	}
}
