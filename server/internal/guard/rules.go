package guard

import (
	"fmt"
	"strings"

	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
	"github.com/tollgatehq/tollgate/gen/tollgate/v1/tollgatev1connect"
	"github.com/tollgatehq/tollgate/server/internal/decision"
	"github.com/tollgatehq/tollgate/server/internal/roles"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// rule is what the guard option of one RPC says.
type rule struct {
	decision.Rule
	self protoreflect.FieldDescriptor // the request's field that holds a user id; nil: none
}

// readRules reads the guard option of every RPC. An RPC without one, or with
// one that cannot work, is an error: the server must not start.
func readRules(methods map[string]protoreflect.MethodDescriptor) (map[string]rule, error) {
	rules := map[string]rule{}
	for procedure, method := range methods {
		r, err := readRule(method)
		if err != nil {
			return nil, fmt.Errorf("guard of %s: %w", method.FullName(), err)
		}
		r.BeforePassword = beforePassword(procedure)
		r.ManagesLimits = strings.HasPrefix(r.Permission, "tollgate:limits:")
		rules[procedure] = r
	}
	return rules, nil
}

// beforePassword says whether somebody who must first choose a new password may
// call the RPC: to choose it, to see who they are and to leave.
func beforePassword(procedure string) bool {
	switch procedure {
	case tollgatev1connect.AuthServiceSetPasswordProcedure,
		tollgatev1connect.AuthServiceWhoAmIProcedure,
		tollgatev1connect.AuthServiceLogoutProcedure:
		return true
	}
	return false
}

func readRule(method protoreflect.MethodDescriptor) (rule, error) {
	option, _ := proto.GetExtension(method.Options(), tollgatev1.E_Guard).(*tollgatev1.Guard)
	var r rule
	switch set := option.GetRule().(type) {
	case *tollgatev1.Guard_Permission:
		r.Permission = set.Permission
		if err := roles.ValidPermission(r.Permission); err != nil {
			return rule{}, err
		}
	case *tollgatev1.Guard_Authenticated:
		r.AnyUser = set.Authenticated
	case *tollgatev1.Guard_Public:
		r.Public = set.Public
	}
	if r.Permission == "" && !r.AnyUser && !r.Public {
		return rule{}, fmt.Errorf("there is none; add option (tollgate.v1.guard)")
	}
	r.Sensitive = option.GetSensitive()
	if r.Sensitive && r.Permission == "" {
		return rule{}, fmt.Errorf("sensitive needs a permission: it is an addition to one")
	}
	r.Action = option.GetAction()
	if r.Permission == "" {
		if err := roles.ValidPermission(r.Action); err != nil {
			return rule{}, fmt.Errorf("a rule without a permission needs an action: %w", err)
		}
	}
	if name := option.GetSelf(); name != "" {
		r.self = method.Input().Fields().ByName(protoreflect.Name(name))
		if r.self == nil || r.self.Kind() != protoreflect.StringKind || r.self.IsList() {
			return rule{}, fmt.Errorf("self: %s has no string field %q", method.Input().FullName(), name)
		}
	}
	return r, nil
}

// of fills in what the rule takes from the request.
func (r rule) of(message any) decision.Rule {
	filled := r.Rule
	if m, ok := message.(proto.Message); ok && r.self != nil {
		filled.Self = m.ProtoReflect().Get(r.self).String()
	}
	return filled
}
