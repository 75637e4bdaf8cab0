package auth

import (
	"context"

	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
)

// ListSigningKeys implements AuthService.
func (h *Handler) ListSigningKeys(ctx context.Context, _ *tollgatev1.ListSigningKeysRequest) (*tollgatev1.ListSigningKeysResponse, error) {
	keys, err := h.service.SigningKeys(ctx)
	if err != nil {
		return nil, err
	}
	res := &tollgatev1.ListSigningKeysResponse{SigningKeys: make([]*tollgatev1.SigningKey, len(keys))}
	for i, key := range keys {
		res.SigningKeys[i] = signingKeyProto(key)
	}
	return res, nil
}

// RotateSigningKey implements AuthService.
func (h *Handler) RotateSigningKey(ctx context.Context, req *tollgatev1.RotateSigningKeyRequest) (*tollgatev1.RotateSigningKeyResponse, error) {
	key, revision, err := h.service.RotateSigningKey(ctx, req.GetAlgorithm())
	if err != nil {
		return nil, err
	}
	return &tollgatev1.RotateSigningKeyResponse{SigningKey: signingKeyProto(key), Revision: revision}, nil
}

// RemoveSigningKey implements AuthService.
func (h *Handler) RemoveSigningKey(ctx context.Context, req *tollgatev1.RemoveSigningKeyRequest) (*tollgatev1.RemoveSigningKeyResponse, error) {
	revision, err := h.service.RemoveSigningKey(ctx, req.GetId())
	if err != nil {
		return nil, err
	}
	return &tollgatev1.RemoveSigningKeyResponse{Revision: revision}, nil
}

func signingKeyProto(k SigningKey) *tollgatev1.SigningKey {
	return &tollgatev1.SigningKey{
		Id: k.ID, Algorithm: k.Algorithm, State: keyStateProto(k.State), CreatedAt: timeProto(k.CreatedAt),
		ActiveAt: timeProto(k.ActiveAt), RetiredAt: timeProto(k.RetiredAt), RemovedAt: timeProto(k.RemovedAt),
	}
}

func keyStateProto(s KeyState) tollgatev1.SigningKeyState {
	switch s {
	case KeyPending:
		return tollgatev1.SigningKeyState_SIGNING_KEY_STATE_PENDING
	case KeyActive:
		return tollgatev1.SigningKeyState_SIGNING_KEY_STATE_ACTIVE
	case KeyRetiring:
		return tollgatev1.SigningKeyState_SIGNING_KEY_STATE_RETIRING
	case KeyRemoved:
		return tollgatev1.SigningKeyState_SIGNING_KEY_STATE_REMOVED
	}
	return tollgatev1.SigningKeyState_SIGNING_KEY_STATE_UNSPECIFIED
}
