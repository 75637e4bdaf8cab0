package auth

import (
	"context"

	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
)

// RotateAPIKey implements AuthService.
func (h *Handler) RotateAPIKey(ctx context.Context, req *tollgatev1.RotateAPIKeyRequest) (*tollgatev1.RotateAPIKeyResponse, error) {
	r, err := h.service.RotateAPIKey(ctx, req.GetId(), req.GetOverlap().AsDuration())
	if err != nil {
		return nil, err
	}
	return &tollgatev1.RotateAPIKeyResponse{
		Secret: r.Secret, ApiKey: apiKeyProto(r.Key), Replaced: apiKeyProto(r.Replaced), Revision: r.Revision,
	}, nil
}
