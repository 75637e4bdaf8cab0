package guard

import (
	"reflect"
	"strings"
	"testing"

	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/contract"
	"github.com/tollgatehq/tollgate/server/internal/decision"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
)

// newMethod makes an RPC that takes a GetUserRequest and has the option.
func newMethod(t *testing.T, option *tollgatev1.Guard, streaming bool) protoreflect.MethodDescriptor {
	t.Helper()
	options := &descriptorpb.MethodOptions{}
	if option != nil {
		proto.SetExtension(options, tollgatev1.E_Guard, option)
	}
	file, err := protodesc.NewFile(&descriptorpb.FileDescriptorProto{
		Name: new("test.proto"), Package: new("test"), Dependency: []string{"tollgate/v1/auth.proto"},
		Service: []*descriptorpb.ServiceDescriptorProto{{
			Name: new("Service"),
			Method: []*descriptorpb.MethodDescriptorProto{{
				Name: new("Call"), Options: options, ServerStreaming: &streaming,
				InputType: new(".tollgate.v1.GetUserRequest"), OutputType: new(".tollgate.v1.GetUserResponse"),
			}},
		}},
	}, protoregistry.GlobalFiles)
	backendtest.Must(t, err)
	return file.Services().Get(0).Methods().Get(0)
}

func TestReadRule(t *testing.T) {
	t.Parallel()
	permission := func(p string) *tollgatev1.Guard {
		return &tollgatev1.Guard{Rule: &tollgatev1.Guard_Permission{Permission: p}}
	}
	with := func(g *tollgatev1.Guard, change func(*tollgatev1.Guard)) *tollgatev1.Guard {
		change(g)
		return g
	}
	authenticated := &tollgatev1.Guard{Rule: &tollgatev1.Guard_Authenticated{Authenticated: true}, Action: "a:b"}
	selfOnly := &tollgatev1.Guard{Rule: &tollgatev1.Guard_SelfOnly{SelfOnly: "id"}, Action: "a:b"}
	for _, test := range []struct {
		name   string
		option *tollgatev1.Guard
		stream bool
		want   decision.Rule // for a request about u1
		err    string
	}{
		{name: "none", err: "there is none"},
		{name: "empty", option: &tollgatev1.Guard{Self: "id", Action: "a:b"}, err: "there is none"},
		{name: "false", option: &tollgatev1.Guard{Rule: &tollgatev1.Guard_Public{}, Action: "a:b"}, err: "there is none"},
		{name: "permission", option: permission("orders:read"), want: decision.Rule{Permission: "orders:read"}},
		{name: "bad permission", option: permission("orders:*"), err: "must name one permission"},
		{name: "limits", option: permission("tollgate:limits:write"), want: decision.Rule{Permission: "tollgate:limits:write", ManagesLimits: true}},
		{name: "self", option: with(permission("a:b"), func(g *tollgatev1.Guard) { g.Self = "id" }), want: decision.Rule{Permission: "a:b", Self: "u1"}},
		{name: "self names no field", option: with(permission("a:b"), func(g *tollgatev1.Guard) { g.Self = "name" }), err: `no string field "name"`},
		{name: "sensitive", option: with(permission("a:b"), func(g *tollgatev1.Guard) { g.Sensitive = true }), want: decision.Rule{Permission: "a:b", Sensitive: true}},
		{
			name: "before password change", option: with(permission("a:b"), func(g *tollgatev1.Guard) { g.AllowBeforePasswordChange = true }),
			want: decision.Rule{Permission: "a:b", BeforePassword: true},
		},
		{name: "authenticated", option: authenticated, want: decision.Rule{AnyUser: true, Action: "a:b"}},
		{name: "no action", option: &tollgatev1.Guard{Rule: authenticated.GetRule()}, err: "needs an action"},
		{name: "sensitive without permission", option: &tollgatev1.Guard{Rule: authenticated.GetRule(), Action: "a:b", Sensitive: true}, err: "sensitive needs a permission"},
		{name: "public", option: &tollgatev1.Guard{Rule: &tollgatev1.Guard_Public{Public: true}, Action: "a:b"}, want: decision.Rule{Public: true, Action: "a:b"}},
		{name: "self only", option: selfOnly, want: decision.Rule{SelfOnly: true, Self: "u1", Action: "a:b"}},
		{name: "self only, no field", option: &tollgatev1.Guard{Rule: &tollgatev1.Guard_SelfOnly{}, Action: "a:b"}, err: "there is none"},
		{name: "self only of a stream", option: selfOnly, stream: true, err: "only unary RPCs"},
	} {
		r, err := readRule(newMethod(t, test.option, test.stream))
		if test.err != "" {
			if err == nil || !strings.Contains(err.Error(), test.err) {
				t.Errorf("%s: %v, want %s", test.name, err, test.err)
			}
			continue
		}
		if got := r.of(&tollgatev1.GetUserRequest{Id: "u1"}); err != nil || !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s: %+v, %v, want %+v", test.name, got, err, test.want)
		}
		if got := r.of(nil); got.Self != "" {
			t.Errorf("%s: without a message its user is %q", test.name, got.Self)
		}
	}
}

// Every RPC has a rule, and what may be called before a password change is what
// choosing one takes.
func TestReadRulesOfContract(t *testing.T) {
	t.Parallel()
	rules, err := readRules(contract.Methods())
	if err != nil || len(rules) < 35 {
		t.Fatalf("%d rules, %v", len(rules), err)
	}
	for procedure, r := range rules {
		method := procedure[strings.LastIndex(procedure, "/")+1:]
		if allowed := method == "SetPassword" || method == "WhoAmI" || method == "Logout"; r.BeforePassword != allowed {
			t.Errorf("%s: before a password change %t", procedure, r.BeforePassword)
		}
		if only := method == "EnrollSecondFactor" || method == "ConfirmSecondFactor"; r.SelfOnly != only {
			t.Errorf("%s: self only %t", procedure, r.SelfOnly)
		}
	}
}
