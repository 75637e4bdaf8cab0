package routes

import (
	"cmp"
	"context"

	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
	"github.com/tollgatehq/tollgate/server/internal/fault"
	"github.com/tollgatehq/tollgate/server/internal/protoconv"
)

// Handler serves RoutesService.
type Handler struct{ service *Service }

// NewHandler serves the service's routes.
func NewHandler(s *Service) *Handler { return &Handler{s} }

// CreateRoute adds a route.
func (h *Handler) CreateRoute(ctx context.Context, r *tollgatev1.CreateRouteRequest) (*tollgatev1.CreateRouteResponse, error) {
	route, revision, err := h.service.Create(ctx, Route{
		Name: r.GetName(), Description: r.GetDescription(), Host: r.GetHost(), Methods: r.GetMethods(), Path: r.GetPath(),
		Permission: r.GetPermission(), Authenticated: r.GetAuthenticated(), Public: r.GetPublic(), Resource: r.GetResource(),
		Cost: r.GetCost(), Upstream: r.GetUpstream(), Context: r.GetContext(),
	})
	if err != nil {
		return nil, err
	}
	return &tollgatev1.CreateRouteResponse{Route: routeProto(route), Revision: revision}, nil
}

// ListRoutes returns a page of routes.
func (h *Handler) ListRoutes(ctx context.Context, r *tollgatev1.ListRoutesRequest) (*tollgatev1.ListRoutesResponse, error) {
	list, next, err := h.service.List(ctx, r.GetPageSize(), r.GetPageToken())
	if err != nil {
		return nil, err
	}
	return &tollgatev1.ListRoutesResponse{Routes: protoconv.List(list, routeProto), NextPageToken: next}, nil
}

// GetRoute returns one route.
func (h *Handler) GetRoute(ctx context.Context, r *tollgatev1.GetRouteRequest) (*tollgatev1.GetRouteResponse, error) {
	route, err := h.service.Get(ctx, r.GetName())
	if err != nil {
		return nil, err
	}
	return &tollgatev1.GetRouteResponse{Route: routeProto(route)}, nil
}

// UpdateRoute changes a route.
func (h *Handler) UpdateRoute(ctx context.Context, r *tollgatev1.UpdateRouteRequest) (*tollgatev1.UpdateRouteResponse, error) {
	route, revision, err := h.service.Update(ctx, r.GetName(), Edit{
		Description: r.Description, Host: r.Host, Methods: r.GetMethods(), ClearMethods: r.GetClearMethods(), Path: r.Path,
		Permission: r.Permission, Authenticated: r.Authenticated, Public: r.Public, Resource: r.Resource, Cost: r.Cost,
		Upstream: r.Upstream, Context: r.GetContext(), ClearContext: r.GetClearContext(),
	})
	if err != nil {
		return nil, err
	}
	return &tollgatev1.UpdateRouteResponse{Route: routeProto(route), Revision: revision}, nil
}

// DeleteRoute removes a route.
func (h *Handler) DeleteRoute(ctx context.Context, r *tollgatev1.DeleteRouteRequest) (*tollgatev1.DeleteRouteResponse, error) {
	revision, err := h.service.Delete(ctx, r.GetName())
	if err != nil {
		return nil, err
	}
	return &tollgatev1.DeleteRouteResponse{Revision: revision}, nil
}

// MatchRoute says which route a request would be.
func (h *Handler) MatchRoute(_ context.Context, r *tollgatev1.MatchRouteRequest) (*tollgatev1.MatchRouteResponse, error) {
	method := cmp.Or(r.GetMethod(), "GET")
	if !validMethod(method) {
		return nil, fault.Field("method", "must be a method in upper case, such as GET; a request with another has no route")
	}
	table, err := h.service.Table()
	if err != nil {
		return nil, err
	}
	m, ok, err := table.Match(method, r.GetHost(), r.GetPath())
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, fault.New(fault.NotFound, "ROUTE_MISSING",
			"no route matches the request, so it would be refused; create one for its host, path and method")
	}
	return &tollgatev1.MatchRouteResponse{
		Route: routeProto(*m.Route), Permission: m.Route.Counted(), Resource: m.Resource,
		Parameters: m.Parameters, Context: m.Context,
	}, nil
}

func routeProto(r Route) *tollgatev1.Route {
	return &tollgatev1.Route{
		Name: r.Name, Description: r.Description, Host: r.Host, Methods: r.Methods, Path: r.Path, Permission: r.Permission,
		Authenticated: r.Authenticated, Public: r.Public, Resource: r.Resource, Cost: r.Cost, Upstream: r.Upstream,
		Context: r.Context, CreatedAt: protoconv.Timestamp(r.CreatedAt), UpdatedAt: protoconv.Timestamp(r.UpdatedAt),
	}
}
