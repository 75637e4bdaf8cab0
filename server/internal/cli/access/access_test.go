package access

import (
	"strings"
	"testing"

	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// TestWhole checks that an update says every field that an object can have, also those
// that are empty: one that left out what it need not change would mix with another's.
func TestWhole(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ update, spec proto.Message }{
		{&tollgatev1.UpdateRoleRequest{}, &tollgatev1.CreateRoleRequest{Name: "a"}},
		{&tollgatev1.UpdateRouteRequest{}, &tollgatev1.CreateRouteRequest{Name: "a", Path: "/"}},
		{&tollgatev1.UpdateLimitRequest{}, &tollgatev1.CreateLimitRequest{Name: "a"}},
		{&tollgatev1.UpdateRecordingRequest{}, &tollgatev1.CreateRecordingRequest{Name: "a"}},
	} {
		whole(c.update, c.spec)
		m := c.update.ProtoReflect()
		for i := range m.Descriptor().Fields().Len() {
			field := m.Descriptor().Fields().Get(i)
			name := string(field.Name())
			clearing := m.Descriptor().Fields().ByName("clear_" + field.Name())
			switch {
			case name == "name", strings.HasPrefix(name, "clear_"), name == "period" || name == "lease_time": // unset where there is none
			case clearing != nil && m.Get(clearing).Bool(), m.Has(field):
			default:
				t.Errorf("%s: %s is not set", m.Descriptor().Name(), name)
			}
		}
	}
}

// TestFieldsOfUpdates checks that whatever can be given when an object is created can be
// changed, but for the fields that a plan refuses to change.
func TestFieldsOfUpdates(t *testing.T) {
	t.Parallel()
	for kind, c := range map[Kind]struct{ update, spec proto.Message }{
		Roles:  {&tollgatev1.UpdateRoleRequest{}, &tollgatev1.CreateRoleRequest{}},
		Routes: {&tollgatev1.UpdateRouteRequest{}, &tollgatev1.CreateRouteRequest{}},
		Limits: {&tollgatev1.UpdateLimitRequest{}, &tollgatev1.CreateLimitRequest{}},

		Recordings: {&tollgatev1.UpdateRecordingRequest{}, &tollgatev1.CreateRecordingRequest{}},
	} {
		fields := c.spec.ProtoReflect().Descriptor().Fields()
		for i := range fields.Len() {
			field := fields.Get(i)
			known := c.update.ProtoReflect().Descriptor().Fields().ByName(field.Name()) != nil
			if refused := contains(fixed[kind], field); known == refused {
				t.Errorf("%s.%s: can be changed: %t, and a plan refuses to: %t", kind, field.Name(), known, refused)
			}
		}
	}
}

func contains(names []string, field protoreflect.FieldDescriptor) bool {
	return strings.Contains(" "+strings.Join(names, " ")+" ", " "+field.JSONName()+" ")
}

func FuzzRead(f *testing.F) {
	f.Add("roles: [{name: a, grants: [{permission: 'a:b', condition: 'true'}]}]\nassignments: [{user: a, roles: [b, {role: c, expiresAt: 2026-01-01T00:00:00Z}]}]\n")
	f.Add("limits: [{name: a, subject: user, rate: 1, period: 1m, overrides: [{key: a, rate: 1}]}]\nroutes: [{name: a, path: /a, public: true}]\n")
	f.Fuzz(func(t *testing.T, text string) {
		r := NewReader()
		if r.Read("f.yaml", []byte(text)) == nil && r.File() == nil {
			t.Error("neither a file nor an error")
		}
	})
}
