// Package contract lists the services of the API, from their protos.
package contract

import (
	"slices"
	"strings"

	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// What limits count calls under that are no RPCs.
const (
	ActionToken      = "tollgate:token"      // the OAuth 2.0 token endpoint's client credentials
	ActionRevoke     = "tollgate:revoke"     // the OAuth 2.0 revocation endpoint
	ActionReflection = "tollgate:reflection" // gRPC server reflection

	ActionAuthenticated = "authenticated" // a service's call that any good credential may make
	ActionPublic        = "public"        // a request to a service that needs none
	ActionNoRoute       = "no-route"      // a request to a service of which nothing says what it needs
)

// Services returns the services of the API.
func Services() []protoreflect.ServiceDescriptor {
	var services []protoreflect.ServiceDescriptor
	for _, file := range []protoreflect.FileDescriptor{
		tollgatev1.File_tollgate_v1_auth_proto, tollgatev1.File_tollgate_v1_roles_proto,
		tollgatev1.File_tollgate_v1_limits_proto, tollgatev1.File_tollgate_v1_routes_proto,
		tollgatev1.File_tollgate_v1_resources_proto, tollgatev1.File_tollgate_v1_audit_proto,
		tollgatev1.File_tollgate_v1_overview_proto,
	} {
		for i := range file.Services().Len() {
			services = append(services, file.Services().Get(i))
		}
	}
	return services
}

// The RPCs of Envoy's services, which only proxies call.
const (
	ExtAuthzCheck   = "/envoy.service.auth.v3.Authorization/Check"
	ShouldRateLimit = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit"
)

// ProxyProcedures returns the RPCs whose contract is Envoy's.
func ProxyProcedures() []string { return []string{ExtAuthzCheck, ShouldRateLimit} }

// ServiceNames returns the full names of the services, Envoy's too, for reflection
// and health.
func ServiceNames() []string {
	var names []string
	for _, service := range Services() {
		names = append(names, string(service.FullName()))
	}
	for _, procedure := range ProxyProcedures() {
		service, _, _ := strings.Cut(strings.TrimPrefix(procedure, "/"), "/")
		names = append(names, service)
	}
	return names
}

// Methods returns the RPCs of the services, by procedure: "/package.Service/Method".
func Methods() map[string]protoreflect.MethodDescriptor {
	methods := map[string]protoreflect.MethodDescriptor{}
	for _, service := range Services() {
		for i := range service.Methods().Len() {
			method := service.Methods().Get(i)
			methods["/"+string(service.FullName())+"/"+string(method.Name())] = method
		}
	}
	return methods
}

// PermissionConditions is the permission that WatchPolicy takes besides its own, to
// tell conditions.
const PermissionConditions = "tollgate:policy:conditions"

// Permissions returns the permissions that RPCs need, sorted.
func Permissions() []string {
	return fromGuards((*tollgatev1.Guard).GetPermission, PermissionConditions)
}

// Actions returns the names, sorted, that calls are counted under which need no
// permission.
func Actions() []string {
	return fromGuards((*tollgatev1.Guard).GetAction, ActionToken, ActionRevoke, ActionReflection)
}

func fromGuards(read func(*tollgatev1.Guard) string, names ...string) []string {
	for _, method := range Methods() {
		guard, _ := proto.GetExtension(method.Options(), tollgatev1.E_Guard).(*tollgatev1.Guard)
		if name := read(guard); name != "" {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}
