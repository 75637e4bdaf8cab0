package protoyaml

import (
	"strings"
	"testing"
	"time"

	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"
	"pgregory.net/rapid"
)

func read(t rapid.TB, text string, into proto.Message) error {
	t.Helper()
	var r Reader
	if root := r.Document([]byte(text)); root != nil {
		r.Message(root, "", into.ProtoReflect())
	}
	return r.Err("x.yaml")
}

// TestRoundTrip checks that what is written is read as the same, whatever texts are in
// it.
func TestRoundTrip(t *testing.T) {
	t.Parallel()
	valid := rapid.Map(rapid.String(), func(s string) string { return strings.ToValidUTF8(s, "\ufffd") })
	text := rapid.OneOf(valid, rapid.SampledFrom([]string{
		"true", "no", "null", "~", "0x1F", "1e3", "2026-01-01", "- a", "a: b", "a #b", "'", `"`, "|", "", " lead", "trail ", "a\nb", "a\n\n b\n", "\n", "*x", "&x", "!!int",
		"\u202e\u009b\U000e0041", "resource.attributes.owner == principal.username &&\n  ip != ''",
	}))
	texts := rapid.SliceOfN(text, 0, 4)
	rapid.Check(t, func(t *rapid.T) {
		role := &tollgatev1.CreateRoleRequest{Name: text.Draw(t, "name"), Description: text.Draw(t, "description"), Permissions: texts.Draw(t, "permissions")}
		for range rapid.IntRange(0, 3).Draw(t, "grants") {
			role.Grants = append(role.Grants, &tollgatev1.Grant{
				Permission: text.Draw(t, "permission"), Condition: text.Draw(t, "condition"), Effect: tollgatev1.Effect(rapid.IntRange(0, 2).Draw(t, "effect")),
			})
		}
		limit := &tollgatev1.CreateLimitRequest{
			Name: "x", Rate: rapid.Int64().Draw(t, "rate"), Lease: rapid.Bool().Draw(t, "lease"), Subject: tollgatev1.Subject_SUBJECT_USER_IP,
			Period: durationpb.New(time.Duration(rapid.Int64Range(0, 1e18).Draw(t, "period"))),
		}
		route := &tollgatev1.CreateRouteRequest{Name: "x", Context: rapid.MapOfN(text, text, 0, 3).Draw(t, "context")}
		values := map[string]any{}
		for key, value := range rapid.MapOfN(text, text, 0, 3).Draw(t, "attributes") {
			values[key] = []any{value, map[string]any{key: 1.5}, true, nil}
		}
		attributes, err := structpb.NewStruct(values)
		if err != nil {
			t.Fatal(err)
		}
		user := &tollgatev1.UpdateUserRequest{Attributes: attributes, DisplayName: new("")}
		assign := &tollgatev1.AssignRoleRequest{ExpiresAt: timestamppb.New(time.Unix(rapid.Int64Range(0, 1e10).Draw(t, "end"), 5000).UTC())}
		for _, m := range []proto.Message{role, limit, route, user, assign} {
			out, err := Encode(Node(m.ProtoReflect()))
			if err != nil {
				t.Fatal(err)
			}
			back := m.ProtoReflect().New().Interface()
			if err := read(t, string(out), back); err != nil || !proto.Equal(m, back) {
				t.Fatalf("%v is written as\n%s\nand read as %v, %v", m, out, back, err)
			}
		}
	})
}

// TestStrict checks that everything that is not right is an error with its place.
func TestStrict(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"name: a\nperissions: [a]\n":             "x.yaml:2:1: perissions: is not known; known are",
		"name: a\nname: b\n":                     "x.yaml:2:1: name: is there twice",
		"name: a\ngrants:\n  - effect: forbid\n": "x.yaml:3:13: grants[0].effect: must be one of allow, deny",
		"name: 7\n":                              "x.yaml:1:7: name: must be text; put it in quotes",
		"permissions: orders:read\n":             "x.yaml:1:14: permissions: must be a list",
		"grants: [a]\n":                          "x.yaml:1:10: grants[0]: must be an object",
		"name: [a\n":                             "x.yaml:1:1: did not find expected",
		"name: &a b\ndescription: *a\n":          "x.yaml:2:14: description: aliases (*a) are not taken",
		"name: a\n---\nname: b\n":                "second document",
		"":                                       "is empty",
		"- a\n":                                  "must be an object",
		"1: a\n":                                 "has a key that is not text",
		"name:\n":                                "must be text",
		strings.Repeat("a: 1\n", 1) + "b: 2\nc: 3\n": "x.yaml:3:1: c: is not known",
	} {
		if err := read(t, text, &tollgatev1.CreateRoleRequest{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
	for text, want := range map[string]string{
		"rate: 1.5\n": "must be a whole number", "rate: 1e30\n": "must be a whole number", "rate: '7'\n": "must be a whole number", "period: 60\n": "must be a duration",
		"lease: 'yes'\n": "must be true or false", "period: [1]\n": "must be a duration", "subject: userip\n": "must be one of user, ip, api_key",
	} {
		if err := read(t, text, &tollgatev1.CreateLimitRequest{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
	for _, text := range []string{"sample: 3000000000\n", "sample: 0.5\n", "sample: 1%\n"} {
		if err := read(t, text, &tollgatev1.CreateRecordingRequest{}); err == nil || !strings.Contains(err.Error(), "must be a whole number") {
			t.Errorf("%q: %v", text, err)
		}
	}
	limit := &tollgatev1.CreateLimitRequest{}
	if err := read(t, "subject: SUBJECT_USER_IP\nperiod: 7d\nlease_time: 50ms\n", limit); err != nil || limit.GetSubject() != tollgatev1.Subject_SUBJECT_USER_IP ||
		limit.GetPeriod().AsDuration() != 168*time.Hour || limit.GetLeaseTime().AsDuration() != 50*time.Millisecond {
		t.Errorf("%v, %v", limit, err)
	}
}

// TestSetChanges checks that an update has exactly what differs, and says what it cannot
// change.
func TestSetChanges(t *testing.T) {
	t.Parallel()
	before := &tollgatev1.CreateRoleRequest{Name: "a", Description: "x", Permissions: []string{"p"}, Inherits: []string{"i"}}
	after := &tollgatev1.CreateRoleRequest{Name: "b", Description: "", Permissions: []string{"p", "q"}}
	update := &tollgatev1.UpdateRoleRequest{}
	fixed := SetChanges(update, Changes(before, after))
	if want := (&tollgatev1.UpdateRoleRequest{Name: "b", Description: new(""), Permissions: []string{"p", "q"}, ClearInherits: true}); !proto.Equal(update, want) || fixed != nil {
		t.Errorf("%v, %v", update, fixed)
	}
	if fixed := SetChanges(&tollgatev1.UpdateLimitRequest{}, Changes(
		&tollgatev1.CreateLimitRequest{Subject: tollgatev1.Subject_SUBJECT_IP}, &tollgatev1.CreateLimitRequest{Subject: tollgatev1.Subject_SUBJECT_USER},
	)); len(fixed) != 1 || fixed[0] != "subject" {
		t.Errorf("fixed: %v", fixed)
	}
}

func FuzzRead(f *testing.F) {
	f.Add("name: a\ngrants: [{permission: 'a:b', effect: deny}]\n")
	f.Fuzz(func(t *testing.T, text string) {
		m := &tollgatev1.CreateRoleRequest{}
		if read(t, text, m) == nil {
			if _, err := Encode(Node(m.ProtoReflect())); err != nil {
				t.Error(err)
			}
		}
	})
}
