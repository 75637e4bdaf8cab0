package roles

import (
	"cmp"
	"context"

	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
	"github.com/tollgatehq/tollgate/server/internal/protoconv"
)

var effects = protoconv.NewEnum[Effect, tollgatev1.Effect](tollgatev1.Effect_name)

// Handler serves the RPCs of RolesService but for those of decision.Authorizer.
type Handler struct{ service *Service }

// NewHandler serves s.
func NewHandler(s *Service) *Handler { return &Handler{s} }

// CreateRole implements RolesService.
func (h *Handler) CreateRole(ctx context.Context, req *tollgatev1.CreateRoleRequest) (*tollgatev1.CreateRoleResponse, error) {
	r, revision, err := h.service.Create(ctx, Role{
		Name: req.GetName(), Description: req.GetDescription(), Permissions: req.GetPermissions(),
		Grants: protoconv.List(req.GetGrants(), grantOf), Inherits: req.GetInherits(),
	})
	if err != nil {
		return nil, err
	}
	return &tollgatev1.CreateRoleResponse{Role: RoleProto(r), Revision: revision}, nil
}

// ListRoles implements RolesService.
func (h *Handler) ListRoles(ctx context.Context, req *tollgatev1.ListRolesRequest) (*tollgatev1.ListRolesResponse, error) {
	list, next, err := h.service.List(ctx, req.GetPageSize(), req.GetPageToken())
	if err != nil {
		return nil, err
	}
	return &tollgatev1.ListRolesResponse{Roles: protoconv.List(list, RoleProto), NextPageToken: next}, nil
}

// GetRole implements RolesService.
func (h *Handler) GetRole(ctx context.Context, req *tollgatev1.GetRoleRequest) (*tollgatev1.GetRoleResponse, error) {
	r, err := h.service.Get(ctx, req.GetName())
	if err != nil {
		return nil, err
	}
	return &tollgatev1.GetRoleResponse{Role: RoleProto(r)}, nil
}

// UpdateRole implements RolesService.
func (h *Handler) UpdateRole(ctx context.Context, req *tollgatev1.UpdateRoleRequest) (*tollgatev1.UpdateRoleResponse, error) {
	r, revision, err := h.service.Update(ctx, req.GetName(), EditOf(req))
	if err != nil {
		return nil, err
	}
	return &tollgatev1.UpdateRoleResponse{Role: RoleProto(r), Revision: revision}, nil
}

// DeleteRole implements RolesService.
func (h *Handler) DeleteRole(ctx context.Context, req *tollgatev1.DeleteRoleRequest) (*tollgatev1.DeleteRoleResponse, error) {
	revision, err := h.service.Delete(ctx, req.GetName())
	if err != nil {
		return nil, err
	}
	return &tollgatev1.DeleteRoleResponse{Revision: revision}, nil
}

// AssignRole implements RolesService.
func (h *Handler) AssignRole(ctx context.Context, req *tollgatev1.AssignRoleRequest) (*tollgatev1.AssignRoleResponse, error) {
	expires, err := protoconv.Time("expiresAt", req.GetExpiresAt())
	if err != nil {
		return nil, err
	}
	m, revision, err := h.service.Assign(ctx, req.GetRole(), req.GetUserId(), expires)
	if err != nil {
		return nil, err
	}
	return &tollgatev1.AssignRoleResponse{Member: memberProto(m), Revision: revision}, nil
}

// UnassignRole implements RolesService.
func (h *Handler) UnassignRole(ctx context.Context, req *tollgatev1.UnassignRoleRequest) (*tollgatev1.UnassignRoleResponse, error) {
	revision, err := h.service.Unassign(ctx, req.GetRole(), req.GetUserId())
	if err != nil {
		return nil, err
	}
	return &tollgatev1.UnassignRoleResponse{Revision: revision}, nil
}

// ListRoleMembers implements RolesService.
func (h *Handler) ListRoleMembers(ctx context.Context, req *tollgatev1.ListRoleMembersRequest) (*tollgatev1.ListRoleMembersResponse, error) {
	list, next, err := h.service.Members(ctx, req.GetRole(), req.GetPageSize(), req.GetPageToken())
	if err != nil {
		return nil, err
	}
	return &tollgatev1.ListRoleMembersResponse{Members: protoconv.List(list, memberProto), NextPageToken: next}, nil
}

// EditOf is what an update changes.
func EditOf(req *tollgatev1.UpdateRoleRequest) Edit {
	return Edit{
		Description: req.Description, Permissions: req.GetPermissions(), ClearPermissions: req.GetClearPermissions(),
		Grants: protoconv.List(req.GetGrants(), grantOf), ClearGrants: req.GetClearGrants(),
		Inherits: req.GetInherits(), ClearInherits: req.GetClearInherits(),
	}
}

// ListUserRoles implements RolesService.
func (h *Handler) ListUserRoles(ctx context.Context, req *tollgatev1.ListUserRolesRequest) (*tollgatev1.ListUserRolesResponse, error) {
	list, err := h.service.UserRoles(ctx, req.GetUserId())
	if err != nil {
		return nil, err
	}
	return &tollgatev1.ListUserRolesResponse{Roles: protoconv.List(list, memberProto)}, nil
}

// ListUserPermissions implements RolesService.
func (h *Handler) ListUserPermissions(ctx context.Context, req *tollgatev1.ListUserPermissionsRequest) (*tollgatev1.ListUserPermissionsResponse, error) {
	list, next, err := h.service.UserPermissions(ctx, req.GetUserId(), req.GetPageSize(), req.GetPageToken())
	if err != nil {
		return nil, err
	}
	return &tollgatev1.ListUserPermissionsResponse{
		Permissions: protoconv.List(list, func(p UserPermission) *tollgatev1.UserPermission {
			return &tollgatev1.UserPermission{Role: p.Role, From: p.From, Grant: GrantProto(p.Grant), ExpiresAt: protoconv.Timestamp(p.ExpiresAt)}
		}),
		NextPageToken: next,
	}, nil
}

// RoleProto is a role as the API shows it.
func RoleProto(r Role) *tollgatev1.Role {
	return &tollgatev1.Role{
		Name: r.Name, Description: r.Description, Permissions: r.Permissions, Builtin: r.Builtin,
		Grants: protoconv.List(r.Grants, GrantProto), Inherits: r.Inherits,
		CreatedAt: protoconv.Timestamp(r.CreatedAt), UpdatedAt: protoconv.Timestamp(r.UpdatedAt),
	}
}

func grantOf(g *tollgatev1.Grant) Grant {
	return Grant{Permission: g.GetPermission(), Condition: g.GetCondition(), Effect: cmp.Or(effects.Text(g.GetEffect()), Allow), Description: g.GetDescription()}
}

// GrantProto is a grant as the API shows it.
func GrantProto(g Grant) *tollgatev1.Grant {
	return &tollgatev1.Grant{Permission: g.Permission, Condition: g.Condition, Effect: effects.Proto(g.Effect), Description: g.Description}
}

func memberProto(m Member) *tollgatev1.RoleMember {
	return &tollgatev1.RoleMember{
		Role: m.Role, UserId: m.UserID, Username: m.Username,
		AssignedAt: protoconv.Timestamp(m.AssignedAt), ExpiresAt: protoconv.Timestamp(m.ExpiresAt),
	}
}
