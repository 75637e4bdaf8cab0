package auth

import (
	"context"

	"github.com/tollgatehq/tollgate/gen/tollgate/v1"
	"github.com/tollgatehq/tollgate/server/internal/auth/apikey"
	"github.com/tollgatehq/tollgate/server/internal/protoconv"
)

// CreateAPIKey implements AuthService.
func (h *Handler) CreateAPIKey(ctx context.Context, req *tollgatev1.CreateAPIKeyRequest) (*tollgatev1.CreateAPIKeyResponse, error) {
	expires, err := protoconv.Time("expiresAt", req.GetExpiresAt())
	if err != nil {
		return nil, err
	}
	made, err := h.service.APIKeys.Create(ctx, apikey.New{
		UserID: req.GetUserId(), Name: req.GetName(), Scopes: req.GetScopes(), ExpiresAt: expires,
	})
	if err != nil {
		return nil, err
	}
	return &tollgatev1.CreateAPIKeyResponse{Secret: made.Secret, ApiKey: apiKeyProto(made.Key), Revision: made.Revision}, nil
}

// ListAPIKeys implements AuthService.
func (h *Handler) ListAPIKeys(ctx context.Context, req *tollgatev1.ListAPIKeysRequest) (*tollgatev1.ListAPIKeysResponse, error) {
	keys, next, err := h.service.APIKeys.List(ctx, req.GetUserId(), req.GetPageSize(), req.GetPageToken())
	if err != nil {
		return nil, err
	}
	return &tollgatev1.ListAPIKeysResponse{ApiKeys: protoconv.List(keys, apiKeyProto), NextPageToken: next}, nil
}

// RevokeAPIKey implements AuthService.
func (h *Handler) RevokeAPIKey(ctx context.Context, req *tollgatev1.RevokeAPIKeyRequest) (*tollgatev1.RevokeAPIKeyResponse, error) {
	revision, err := h.service.APIKeys.Revoke(ctx, req.GetId())
	if err != nil {
		return nil, err
	}
	return &tollgatev1.RevokeAPIKeyResponse{Revision: revision}, nil
}

// RotateAPIKey implements AuthService.
func (h *Handler) RotateAPIKey(ctx context.Context, req *tollgatev1.RotateAPIKeyRequest) (*tollgatev1.RotateAPIKeyResponse, error) {
	r, err := h.service.APIKeys.Rotate(ctx, req.GetId(), req.GetOverlap().AsDuration())
	if err != nil {
		return nil, err
	}
	return &tollgatev1.RotateAPIKeyResponse{
		Secret: r.Secret, ApiKey: apiKeyProto(r.Key), Replaced: apiKeyProto(r.Replaced), Revision: r.Revision,
	}, nil
}

// ListSigningKeys implements AuthService.
func (h *Handler) ListSigningKeys(ctx context.Context, _ *tollgatev1.ListSigningKeysRequest) (*tollgatev1.ListSigningKeysResponse, error) {
	keys, err := h.service.SigningKeys.List(ctx)
	if err != nil {
		return nil, err
	}
	return &tollgatev1.ListSigningKeysResponse{SigningKeys: protoconv.List(keys, signingKeyProto)}, nil
}

// RotateSigningKey implements AuthService.
func (h *Handler) RotateSigningKey(ctx context.Context, req *tollgatev1.RotateSigningKeyRequest) (*tollgatev1.RotateSigningKeyResponse, error) {
	key, revision, err := h.service.SigningKeys.Rotate(ctx, req.GetAlgorithm())
	if err != nil {
		return nil, err
	}
	return &tollgatev1.RotateSigningKeyResponse{SigningKey: signingKeyProto(key), Revision: revision}, nil
}

// RemoveSigningKey implements AuthService.
func (h *Handler) RemoveSigningKey(ctx context.Context, req *tollgatev1.RemoveSigningKeyRequest) (*tollgatev1.RemoveSigningKeyResponse, error) {
	revision, err := h.service.SigningKeys.Remove(ctx, req.GetId())
	if err != nil {
		return nil, err
	}
	return &tollgatev1.RemoveSigningKeyResponse{Revision: revision}, nil
}
