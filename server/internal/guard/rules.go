package guard

import (
	"errors"
	"fmt"
	"strings"

	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
	"github.com/tollgatehq/tollgate/internal/perm"
	"github.com/tollgatehq/tollgate/server/internal/decision"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// rule is what the guard option of one RPC says.
type rule struct {
	decision.Rule
	self protoreflect.FieldDescriptor // the request's field that holds a user id; nil: none

	cost protoreflect.FieldDescriptor // the request's list whose entries limits count; nil: the call counts once

	proxy bool // for proxies, and nobody else: see AdmitProxy
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
		rules[procedure] = r
	}
	return rules, nil
}

func readRule(method protoreflect.MethodDescriptor) (rule, error) {
	option, _ := proto.GetExtension(method.Options(), tollgatev1.E_Guard).(*tollgatev1.Guard)
	var r rule
	self := option.GetSelf()
	switch set := option.GetRule().(type) {
	case *tollgatev1.Guard_Permission:
		r.Permission = set.Permission
		if err := perm.ValidPermission(r.Permission); err != nil {
			return rule{}, err
		}
	case *tollgatev1.Guard_Authenticated:
		r.AnyUser = set.Authenticated
	case *tollgatev1.Guard_Public:
		r.Public = set.Public
	case *tollgatev1.Guard_SelfOnly:
		r.SelfOnly, self = set.SelfOnly != "", set.SelfOnly
	}
	if r.Permission == "" && !r.AnyUser && !r.Public && !r.SelfOnly {
		return rule{}, errors.New("there is none; add option (tollgate.v1.guard)")
	}
	r.Sensitive, r.Action, r.BeforePassword = option.GetSensitive(), option.GetAction(), option.GetAllowBeforePasswordChange()
	r.ManagesLimits = strings.HasPrefix(r.Permission, "tollgate:limits:")
	if r.Permission == "" {
		if r.Sensitive {
			return rule{}, errors.New("sensitive needs a permission: it is an addition to one")
		}
		if err := perm.ValidPermission(r.Action); err != nil {
			return rule{}, fmt.Errorf("a rule without a permission needs an action: %w", err)
		}
	}
	if r.SelfOnly && (method.IsStreamingClient() || method.IsStreamingServer()) {
		return rule{}, errors.New("self_only: a stream is admitted before its first message; only unary RPCs can have it")
	}
	if self != "" {
		r.self = method.Input().Fields().ByName(protoreflect.Name(self))
		if r.self == nil || r.self.Kind() != protoreflect.StringKind || r.self.IsList() {
			return rule{}, fmt.Errorf("self: %s has no string field %q", method.Input().FullName(), self)
		}
	}
	if list := option.GetCost(); list != "" {
		r.cost = method.Input().Fields().ByName(protoreflect.Name(list))
		if r.cost == nil || !r.cost.IsList() || method.IsStreamingClient() || method.IsStreamingServer() {
			return rule{}, fmt.Errorf("cost: %s has no list %q, or the call is a stream", method.Input().FullName(), list)
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
	if m, ok := message.(proto.Message); ok && r.cost != nil {
		filled.Cost = int64(m.ProtoReflect().Get(r.cost).List().Len())
	}
	return filled
}
