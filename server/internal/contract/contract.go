// Package contract lists the services of the API, from their protos.
package contract

import (
	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// Services returns the services of the API.
func Services() []protoreflect.ServiceDescriptor {
	var services []protoreflect.ServiceDescriptor
	for _, file := range []protoreflect.FileDescriptor{
		tollgatev1.File_tollgate_v1_auth_proto, tollgatev1.File_tollgate_v1_roles_proto,
		tollgatev1.File_tollgate_v1_limits_proto, tollgatev1.File_tollgate_v1_audit_proto,
	} {
		for i := range file.Services().Len() {
			services = append(services, file.Services().Get(i))
		}
	}
	return services
}

// ServiceNames returns the full names of the services, for reflection and health.
func ServiceNames() []string {
	var names []string
	for _, service := range Services() {
		names = append(names, string(service.FullName()))
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
