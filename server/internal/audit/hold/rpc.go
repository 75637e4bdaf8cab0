package hold

import (
	"context"

	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
	"github.com/tollgatehq/tollgate/server/internal/audit"
	"github.com/tollgatehq/tollgate/server/internal/protoconv"
)

// Handler serves the RPCs of AuditService that are about holds.
type Handler struct{ service *Service }

// NewHandler serves s.
func NewHandler(s *Service) *Handler { return &Handler{s} }

// CreateHold implements AuditService.
func (h *Handler) CreateHold(ctx context.Context, r *tollgatev1.CreateHoldRequest) (*tollgatev1.CreateHoldResponse, error) {
	after, err := protoconv.Time("after", r.After)
	if err != nil {
		return nil, err
	}
	before, err := protoconv.Time("before", r.Before)
	if err != nil {
		return nil, err
	}
	made, err := h.service.Create(ctx, audit.Hold{
		Name: r.GetName(), Reason: r.GetReason(),
		Filter: audit.Filter{Actor: r.GetActor(), Action: r.GetAction(), Resource: r.GetResource(), After: after, Before: before},
	})
	if err != nil {
		return nil, err
	}
	return &tollgatev1.CreateHoldResponse{Hold: holdProto(made)}, nil
}

// ListHolds implements AuditService.
func (h *Handler) ListHolds(ctx context.Context, r *tollgatev1.ListHoldsRequest) (*tollgatev1.ListHoldsResponse, error) {
	list, next, err := h.service.List(ctx, r.GetPageSize(), r.GetPageToken())
	if err != nil {
		return nil, err
	}
	return &tollgatev1.ListHoldsResponse{Holds: protoconv.List(list, holdProto), NextPageToken: next}, nil
}

// DeleteHold implements AuditService.
func (h *Handler) DeleteHold(ctx context.Context, r *tollgatev1.DeleteHoldRequest) (*tollgatev1.DeleteHoldResponse, error) {
	if err := h.service.Delete(ctx, r.GetName()); err != nil {
		return nil, err
	}
	return &tollgatev1.DeleteHoldResponse{}, nil
}

func holdProto(h audit.Hold) *tollgatev1.Hold {
	return &tollgatev1.Hold{
		Name: h.Name, Actor: h.Filter.Actor, Action: h.Filter.Action, Resource: h.Filter.Resource,
		After: protoconv.Timestamp(h.Filter.After), Before: protoconv.Timestamp(h.Filter.Before), Reason: h.Reason,
		CreatedBy: h.CreatedBy, CreatedAt: protoconv.Timestamp(h.CreatedAt),
	}
}
