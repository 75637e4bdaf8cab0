package auth

import (
	"context"

	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
)

// EnrollSecondFactor implements AuthService.
func (h *Handler) EnrollSecondFactor(ctx context.Context, req *tollgatev1.EnrollSecondFactorRequest) (*tollgatev1.EnrollSecondFactorResponse, error) {
	made, err := h.service.EnrollSecondFactor(ctx, req.GetId(), req.GetCurrentPassword())
	if err != nil {
		return nil, err
	}
	return &tollgatev1.EnrollSecondFactorResponse{Secret: made.Secret, Uri: made.URI, RecoveryCodes: made.RecoveryCodes}, nil
}

// ConfirmSecondFactor implements AuthService.
func (h *Handler) ConfirmSecondFactor(ctx context.Context, req *tollgatev1.ConfirmSecondFactorRequest) (*tollgatev1.ConfirmSecondFactorResponse, error) {
	ended, revision, err := h.service.ConfirmSecondFactor(ctx, req.GetId(), req.GetCode())
	if err != nil {
		return nil, err
	}
	return &tollgatev1.ConfirmSecondFactorResponse{Revision: revision, RevokedSessions: int32(ended)}, nil
}

// RemoveSecondFactor implements AuthService.
func (h *Handler) RemoveSecondFactor(ctx context.Context, req *tollgatev1.RemoveSecondFactorRequest) (*tollgatev1.RemoveSecondFactorResponse, error) {
	revision, err := h.service.RemoveSecondFactor(ctx, req.GetId(), req.GetCode())
	if err != nil {
		return nil, err
	}
	return &tollgatev1.RemoveSecondFactorResponse{Revision: revision}, nil
}
