package access

import (
	"context"
	"fmt"

	"connectrpc.com/connect"
	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
	"github.com/tollgatehq/tollgate/gen/tollgate/v1/tollgatev1connect"
	"github.com/tollgatehq/tollgate/server/internal/auth/username"
	"github.com/tollgatehq/tollgate/server/internal/cli/paging"
	"github.com/tollgatehq/tollgate/server/internal/cli/protoyaml"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// Server is a server's API.
type Server struct {
	Auth   tollgatev1connect.AuthServiceClient
	Roles  tollgatev1connect.RolesServiceClient
	Limits tollgatev1connect.LimitsServiceClient
	Routes tollgatev1connect.RoutesServiceClient
	Audit  tollgatev1connect.AuditServiceClient

	users users
}

// users finds users, each once.
type users struct {
	auth  tollgatev1connect.AuthServiceClient
	found map[string]*tollgatev1.User // by what was asked for; nil: there is none
}

func (s *Server) people() *users {
	if s.users.found == nil {
		s.users = users{s.Auth, map[string]*tollgatev1.User{}}
	}
	return &s.users
}

// find is a user by name or id; nil when there is none.
func (u *users) find(ctx context.Context, nameOrID string) (*tollgatev1.User, error) {
	if user, known := u.found[nameOrID]; known {
		return user, nil
	}
	var user *tollgatev1.User
	if username.IsID(nameOrID) {
		res, err := u.auth.GetUser(ctx, &tollgatev1.GetUserRequest{Id: nameOrID})
		if err != nil && connect.CodeOf(err) != connect.CodeNotFound {
			return nil, err
		}
		user = res.GetUser()
	} else {
		res, err := u.auth.ListUsers(ctx, &tollgatev1.ListUsersRequest{Username: nameOrID, PageSize: 1})
		if err != nil {
			return nil, err
		}
		if len(res.GetUsers()) > 0 {
			user = res.GetUsers()[0]
		}
	}
	u.found[nameOrID] = user
	return user, nil
}

// name is a user's name as the server has it; what is no user stays as it is, and so do
// ids for who may not read users.
func (u *users) name(ctx context.Context, nameOrID string) (string, error) {
	user, err := u.find(ctx, nameOrID)
	switch {
	case connect.CodeOf(err) == connect.CodePermissionDenied && err != nil && username.IsID(nameOrID), err == nil && user == nil:
		return nameOrID, nil
	case err != nil:
		return "", fmt.Errorf("find the user %q of an override: %w", nameOrID, err)
	}
	return user.GetUsername(), nil
}

func (s *Server) roles(ctx context.Context) (all []*tollgatev1.Role, err error) {
	res, err := paging.All(0, func(size int32, token string) (*tollgatev1.ListRolesResponse, error) {
		return s.Roles.ListRoles(ctx, &tollgatev1.ListRolesRequest{PageSize: size, PageToken: token})
	})
	return res.GetRoles(), err
}

func (s *Server) limits(ctx context.Context) ([]*tollgatev1.Limit, error) {
	res, err := paging.All(0, func(size int32, token string) (*tollgatev1.ListLimitsResponse, error) {
		return s.Limits.ListLimits(ctx, &tollgatev1.ListLimitsRequest{PageSize: size, PageToken: token})
	})
	return res.GetLimits(), err
}

func (s *Server) routes(ctx context.Context) ([]*tollgatev1.Route, error) {
	res, err := paging.All(0, func(size int32, token string) (*tollgatev1.ListRoutesResponse, error) {
		return s.Routes.ListRoutes(ctx, &tollgatev1.ListRoutesRequest{PageSize: size, PageToken: token})
	})
	return res.GetRoutes(), err
}

func (s *Server) recordings(ctx context.Context) (all []*tollgatev1.Recording, err error) {
	res, err := paging.All(0, func(size int32, token string) (*tollgatev1.ListRecordingsResponse, error) {
		return s.Audit.ListRecordings(ctx, &tollgatev1.ListRecordingsRequest{PageSize: size, PageToken: token})
	})
	return res.GetRecordings(), err
}

func (s *Server) members(ctx context.Context, role string) ([]*tollgatev1.RoleMember, error) {
	res, err := paging.All(0, func(size int32, token string) (*tollgatev1.ListRoleMembersResponse, error) {
		return s.Roles.ListRoleMembers(ctx, &tollgatev1.ListRoleMembersRequest{Role: role, PageSize: size, PageToken: token})
	})
	return res.GetMembers(), err
}

// spec is an object as a request would create it, in normal form.
func (s *Server) spec(ctx context.Context, object proto.Message) (proto.Message, error) {
	switch o := object.(type) {
	case *tollgatev1.Role:
		m := &tollgatev1.CreateRoleRequest{}
		protoyaml.Copy(m, o)
		return normalRole(m), nil
	case *tollgatev1.Limit:
		m := &tollgatev1.CreateLimitRequest{}
		protoyaml.Copy(m, o)
		return normalLimit(ctx, m, s.people())
	case *tollgatev1.Route:
		m := &tollgatev1.CreateRouteRequest{}
		protoyaml.Copy(m, o)
		return normalRoute(m)
	case *tollgatev1.Recording:
		m := &tollgatev1.CreateRecordingRequest{}
		protoyaml.Copy(m, o)
		return normalRecording(m), nil
	case *tollgatev1.RoleMember:
		return hold(o.GetRole(), o.GetUserId(), o.GetExpiresAt()), nil
	}
	return nil, fmt.Errorf("no kind of object: %T", object)
}

func hold(role, userID string, end *timestamppb.Timestamp) *tollgatev1.AssignRoleRequest {
	return &tollgatev1.AssignRoleRequest{Role: role, UserId: userID, ExpiresAt: end}
}

// get is what the server has of an object now; nil: there is none.
func (s *Server) get(ctx context.Context, o Object) (proto.Message, error) {
	var object proto.Message
	var err error
	switch o.Kind {
	case Roles:
		var res *tollgatev1.GetRoleResponse
		res, err = s.Roles.GetRole(ctx, &tollgatev1.GetRoleRequest{Name: o.Name})
		object = res.GetRole()
	case Limits:
		var res *tollgatev1.GetLimitResponse
		res, err = s.Limits.GetLimit(ctx, &tollgatev1.GetLimitRequest{Name: o.Name})
		object = res.GetLimit()
	case Routes:
		var res *tollgatev1.GetRouteResponse
		res, err = s.Routes.GetRoute(ctx, &tollgatev1.GetRouteRequest{Name: o.Name})
		object = res.GetRoute()
	case Recordings:
		var res *tollgatev1.GetRecordingResponse
		res, err = s.Audit.GetRecording(ctx, &tollgatev1.GetRecordingRequest{Name: o.Name})
		object = res.GetRecording()
	case Assignments:
		want := o.Spec.(*tollgatev1.AssignRoleRequest)
		var res *tollgatev1.ListUserRolesResponse
		if res, err = s.Roles.ListUserRoles(ctx, &tollgatev1.ListUserRolesRequest{UserId: want.GetUserId()}); err == nil {
			for _, m := range res.GetRoles() {
				if m.GetRole() == want.GetRole() {
					return s.spec(ctx, m)
				}
			}
			return nil, nil
		}
	}
	if err != nil && connect.CodeOf(err) == connect.CodeNotFound {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	return s.spec(ctx, object)
}

// put creates or changes an object by one call, which is one transaction. An update
// sends every field: of two at once the last one wins, with all that it wants.
func (s *Server) put(ctx context.Context, o Object, create bool) (proto.Message, error) {
	switch m := o.Spec.(type) {
	case *tollgatev1.CreateRoleRequest:
		if create {
			res, err := s.Roles.CreateRole(ctx, m)
			return res.GetRole(), err
		}
		update := &tollgatev1.UpdateRoleRequest{Name: o.Name}
		whole(update, m)
		res, err := s.Roles.UpdateRole(ctx, update)
		return res.GetRole(), err
	case *tollgatev1.CreateLimitRequest:
		if create {
			res, err := s.Limits.CreateLimit(ctx, m)
			return res.GetLimit(), err
		}
		update := &tollgatev1.UpdateLimitRequest{Name: o.Name}
		whole(update, m)
		if m.GetAlgorithm() != tollgatev1.Algorithm_ALGORITHM_CALENDAR {
			update.Calendar, update.TimeZone = nil, nil
		}
		res, err := s.Limits.UpdateLimit(ctx, update)
		return res.GetLimit(), err
	case *tollgatev1.CreateRouteRequest:
		if create {
			res, err := s.Routes.CreateRoute(ctx, m)
			return res.GetRoute(), err
		}
		update := &tollgatev1.UpdateRouteRequest{Name: o.Name}
		whole(update, m)
		res, err := s.Routes.UpdateRoute(ctx, update)
		return res.GetRoute(), err
	case *tollgatev1.CreateRecordingRequest:
		if create {
			res, err := s.Audit.CreateRecording(ctx, m)
			return res.GetRecording(), err
		}
		update := &tollgatev1.UpdateRecordingRequest{Name: o.Name}
		whole(update, m)
		res, err := s.Audit.UpdateRecording(ctx, update)
		return res.GetRecording(), err
	case *tollgatev1.AssignRoleRequest:
		res, err := s.Roles.AssignRole(ctx, m)
		return res.GetMember(), err
	}
	return nil, fmt.Errorf("no kind of object: %T", o.Spec)
}

// whole sets every field of an update that the object has, also those that are empty.
func whole(update, spec proto.Message) {
	fields := spec.ProtoReflect().Descriptor().Fields()
	var all []protoyaml.Change
	for i := range fields.Len() {
		if field := fields.Get(i); field.Name() != "name" {
			all = append(all, protoyaml.Change{Field: field, After: spec.ProtoReflect().Get(field)})
		}
	}
	protoyaml.SetChanges(update, all) // what cannot be changed is the same
}

func (s *Server) remove(ctx context.Context, o Object) (err error) {
	switch o.Kind {
	case Roles:
		_, err = s.Roles.DeleteRole(ctx, &tollgatev1.DeleteRoleRequest{Name: o.Name})
	case Limits:
		_, err = s.Limits.DeleteLimit(ctx, &tollgatev1.DeleteLimitRequest{Name: o.Name})
	case Routes:
		_, err = s.Routes.DeleteRoute(ctx, &tollgatev1.DeleteRouteRequest{Name: o.Name})
	case Recordings:
		_, err = s.Audit.DeleteRecording(ctx, &tollgatev1.DeleteRecordingRequest{Name: o.Name})
	case Assignments:
		m := o.Spec.(*tollgatev1.AssignRoleRequest)
		_, err = s.Roles.UnassignRole(ctx, &tollgatev1.UnassignRoleRequest{Role: m.GetRole(), UserId: m.GetUserId()})
	}
	if err != nil && connect.CodeOf(err) == connect.CodeNotFound {
		return nil // gone already
	}
	return err
}
