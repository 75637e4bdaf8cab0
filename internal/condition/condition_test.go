package condition

import (
	"errors"
	"maps"
	"net/netip"
	"strings"
	"testing"
	"time"
)

func testInput() *Input {
	return &Input{
		PrincipalID: "u1", Username: "alice", Kind: "person", Roles: []string{"author", "clerk"}, APIKeyID: "",
		Attributes:   map[string]any{"department": "sales", "level": float64(3), "groups": []any{"a", "b"}, "api_token": "hidden", "nested": map[string]any{"pin": "1", "x": "y"}},
		ResourceType: "record", ResourceID: "7",
		ResourceAttributes: map[string]any{"owner": "u1", "department": "sales", "size": float64(10)},
		Action:             "write", ActionProperties: map[string]any{"soft": true},
		Context: map[string]any{"tenant": "acme"},
		IP:      netip.MustParseAddr("10.1.2.3"), Now: time.Date(2026, 11, 30, 10, 30, 0, 0, time.UTC), // a Monday
	}
}

func compile(t testing.TB, text string) *Condition {
	t.Helper()
	c, err := Compile(text)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return c
}

func TestHolds(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		`true`: "yes",
		`principal.id == "u1" && principal.username == "alice" && principal.kind == "person"`: "yes",
		`"author" in principal.roles`:                                                  "yes",
		`principal.api_key_id != ""`:                                                   "no",
		`resource.attributes.owner == principal.id`:                                    "yes",
		`resource.attributes["owner"] == principal.id`:                                 "yes",
		`resource.attributes.department == principal.attributes.department`:            "yes",
		`principal.attributes.level >= 3`:                                              "yes",
		`principal.attributes.level == 3`:                                              "yes",
		`resource.attributes.size > 10`:                                                "no",
		`principal.attributes.groups.exists(g, g == "b")`:                              "yes",
		`sets.contains(principal.roles, ["author", "clerk"])`:                          "yes",
		`action.name == "write" && action.properties.soft == true`:                     "yes",
		`context.tenant == "acme"`:                                                     "yes",
		`cidr("10.0.0.0/8").containsIP(ip)`:                                            "yes",
		`now.getDayOfWeek() in [1, 2, 3, 4, 5] && now.getHours("Europe/Berlin") == 11`: "yes",
		`now < timestamp("2026-12-01T00:00:00Z")`:                                      "yes",
		`resource.id == "7" && resource.type == "record"`:                              "yes",
		`resource.attributes.status != "archived"`:                                     "error", // there is no status
		`has(resource.attributes.status) && resource.attributes.status == "x"`:         "no",
		`resource.attributes.?status.orValue("active") != "archived"`:                  "yes",
		`principal.attributes.nested.x == "y"`:                                         "yes",
		`principal.attributes.department > 3`:                                          "error",
		`now.getHours("No/Where") == 1`:                                                "error",
		`principal.username.matches("^[a-z]+$")`:                                       "yes",
	} {
		got := "no"
		if yes, err := compile(t, text).Holds(testInput()); err != nil {
			got = "error"
		} else if yes {
			got = "yes"
		}
		if got != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
	if _, err := compile(t, `ip != "10.0.0.1"`).Holds(&Input{}); err == nil {
		t.Error("an address that is not known can be compared")
	}
	if yes, err := compile(t, `size(context) + size(principal.attributes) == 0`).Holds(&Input{}); err != nil || !yes {
		t.Errorf("of nothing: %t, %v", yes, err)
	}
}

func TestCompileRefuses(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		``:                                "line 1",
		`principal.id ==`:                 "line 1, column 16",
		"true &&\n  principl.id == \"x\"": "line 2, column 3: undeclared reference to 'principl'; known are principal.id",
		`principal.name == "x"`:           "undeclared reference to 'principal'",
		`principal == "x"`:                "undeclared",
		`subject.id == "x"`:               "known are",
		`principal.id == 3`:               "no matching overload",
		`principal.id.foo == "x"`:         "line 1, column 13",
		`principal.id`:                    "must say true or false, and is of the type string",
		`1`:                               "must say true or false",
		`resource.attributes`:             "must say true or false",
		`resource.attributes.flag`:        "must say true or false, and is of the type dyn",
		`["a", 1] == []`:                  "expected type",
		`principal.roles.exists(a, principal.roles.exists(b, principal.roles.exists(c, a + b == c)))`: "may cost",
		strings.Repeat("(", 40) + "true" + strings.Repeat(")", 40):                                    "",
		`"` + strings.Repeat("x", MaxSize) + `" == "x"`:                                               "longer than",
		`true` + strings.Repeat(` || false`, 500):                                                     "",
	} {
		_, err := Compile(text)
		if e, ok := errors.AsType[*Error](err); !ok || !strings.Contains(e.Error(), want) {
			t.Errorf("%.60s: %v, want %q", text, err, want)
		}
	}
}

// Whatever attributes hold, a run ends: what costs too much fails.
func TestCostIsLimited(t *testing.T) {
	t.Parallel()
	in := testInput()
	var long []any
	for range 4000 {
		long = append(long, "x")
	}
	in.Attributes["groups"] = long
	if _, err := compile(t, `principal.attributes.groups.exists(g, g == "no")`).Holds(in); err == nil || !strings.Contains(err.Error(), "cost") {
		t.Errorf("4,000 comparisons: %v", err)
	}
}

func TestImplies(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		a, b string
		want bool
	}{
		{`true`, `true`, true},
		{`principal.id == "a"`, `principal.id   ==  'a'`, true},
		{`principal.id == "a" && ip == "b"`, `ip == "b"`, true},
		{`ip == "b"`, `principal.id == "a" && ip == "b"`, false},
		{`(ip == "b" && principal.id == "a") && context.x == 1`, `context.x == 1 && principal.id == "a"`, true},
		{`principal.id == "a" || ip == "b"`, `principal.id == "a"`, false},
		{`principal.id == "a"`, `principal.id == "a" || ip == "b"`, false}, // true, but not seen
		{`principal.id == "a"`, `principal.id == "b"`, false},
		{`!(principal.id == "a" && ip == "b")`, `ip == "b"`, false},
	} {
		if got := compile(t, test.a).Implies(compile(t, test.b)); got != test.want {
			t.Errorf("%s implies %s: %t", test.a, test.b, got)
		}
	}
}

func TestReadsAndValues(t *testing.T) {
	t.Parallel()
	c := compile(t, `resource.attributes.owner == principal.id && (principal.attributes.api_token == "x" || principal.attributes["department"] == "sales")
		&& principal.attributes.groups.exists(g, g == context.tenant) && has(resource.attributes.gone)`)
	if got := strings.Join(c.Reads(), " "); got != "resource.attributes.owner principal.id principal.attributes.api_token principal.attributes.department principal.attributes.groups context.tenant resource.attributes.gone" {
		t.Errorf("it reads %s", got)
	}
	if got := c.Values(testInput()); !maps.Equal(got, map[string]string{
		"resource.attributes.owner": `"u1"`, "principal.id": `"u1"`, "principal.attributes.api_token": "(not shown)",
		"principal.attributes.department": `"sales"`, "principal.attributes.groups": `["a","b"]`, "context.tenant": `"acme"`,
	}) {
		t.Errorf("the values %v", got)
	}
	whole := compile(t, `size(principal.attributes) > 0`).Values(testInput())["principal.attributes"]
	if strings.Contains(whole, "hidden") || strings.Contains(whole, "pin") {
		t.Errorf("a secret is shown in %s", whole)
	}
	for text, want := range map[string]bool{
		`principal.id == "a"`: false, `resource.attributes.owner == "a"`: false, `ip == "a"`: true, `context.a == 1`: true,
		`now.getHours() == 1`: true, `action.properties.soft`: true, `principal.roles.exists(r, r == context.role)`: true,
	} {
		if text == `action.properties.soft` {
			text += ` == true`
		}
		if got := compile(t, text).DependsOnRequest(); got != want {
			t.Errorf("%s depends on the request: %t", text, got)
		}
	}
}

func BenchmarkHolds(b *testing.B) {
	for name, text := range map[string]string{
		"owner":      `resource.attributes.owner == principal.id`,
		"department": `resource.attributes.department == principal.attributes.department && principal.attributes.level >= 2`,
		"hours":      `now.getHours() >= 8 && now.getHours() < 18`,
	} {
		c, in := compile(b, text), testInput()
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if yes, err := c.Holds(in); err != nil || !yes {
					b.Fatal(yes, err)
				}
			}
		})
	}
}

// A variable is seen where a name of exists() hides it, too.
func TestReadsWhatIsHidden(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		`["alice"].exists(principal, principal == .principal.username)`,
		`["alice"].exists(x, .principal.username == x)`,
		`.principal.username == "alice"`,
		`principal.attributes[?"x"].orValue("alice") == "alice"`,
		`optional.of(principal.username).value() == "alice"`,
		`google.protobuf.StringValue{value: principal.username} == "alice"`,
		`google.protobuf.Struct{fields: {"a": principal.username}}.a == "alice"`,
	} {
		c := compile(t, text)
		yes, err := c.Holds(testInput())
		if err != nil || !yes || !c.ReadsAny("principal") {
			t.Errorf("%s: %t, %v, reads %q", text, yes, err, c.Reads())
		}
	}
}
