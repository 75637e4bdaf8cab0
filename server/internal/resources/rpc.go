package resources

import (
	"context"

	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
	"github.com/tollgatehq/tollgate/server/internal/protoconv"
)

// Handler serves ResourcesService.
type Handler struct{ service *Service }

// NewHandler serves the service's resources.
func NewHandler(s *Service) *Handler { return &Handler{s} }

// PutResource registers a resource or replaces its attributes.
func (h *Handler) PutResource(ctx context.Context, r *tollgatev1.PutResourceRequest) (*tollgatev1.PutResourceResponse, error) {
	put, created, revision, err := h.service.Put(ctx, r.GetType(), r.GetId(), r.GetAttributes().AsMap())
	if err != nil {
		return nil, err
	}
	return &tollgatev1.PutResourceResponse{Resource: resourceProto(put), Created: created, Revision: revision}, nil
}

// ListResources returns a page of resources.
func (h *Handler) ListResources(ctx context.Context, r *tollgatev1.ListResourcesRequest) (*tollgatev1.ListResourcesResponse, error) {
	list, next, err := h.service.List(ctx, r.GetType(), r.GetPageSize(), r.GetPageToken())
	if err != nil {
		return nil, err
	}
	return &tollgatev1.ListResourcesResponse{Resources: protoconv.List(list, resourceProto), NextPageToken: next}, nil
}

// GetResource returns one resource.
func (h *Handler) GetResource(ctx context.Context, r *tollgatev1.GetResourceRequest) (*tollgatev1.GetResourceResponse, error) {
	found, err := h.service.Get(ctx, r.GetType(), r.GetId())
	if err != nil {
		return nil, err
	}
	return &tollgatev1.GetResourceResponse{Resource: resourceProto(found)}, nil
}

// DeleteResource removes a resource.
func (h *Handler) DeleteResource(ctx context.Context, r *tollgatev1.DeleteResourceRequest) (*tollgatev1.DeleteResourceResponse, error) {
	revision, err := h.service.Delete(ctx, r.GetType(), r.GetId())
	if err != nil {
		return nil, err
	}
	return &tollgatev1.DeleteResourceResponse{Revision: revision}, nil
}

func resourceProto(r Resource) *tollgatev1.Resource {
	return &tollgatev1.Resource{
		Type: r.Type, Id: r.ID, Attributes: protoconv.Struct(r.Attributes),
		CreatedAt: protoconv.Timestamp(r.CreatedAt), UpdatedAt: protoconv.Timestamp(r.UpdatedAt),
	}
}
