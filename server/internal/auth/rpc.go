package auth

import (
	"context"

	"connectrpc.com/connect"
	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
	"github.com/tollgatehq/tollgate/gen/tollgate/v1/tollgatev1connect"
	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/protoconv"
)

// Handler serves the RPCs of AuthService.
type Handler struct {
	service *Service
}

var _ tollgatev1connect.AuthServiceHandler = (*Handler)(nil)

// NewHandler serves s.
func NewHandler(s *Service) *Handler { return &Handler{service: s} }

// Login implements AuthService.
func (h *Handler) Login(ctx context.Context, req *tollgatev1.LoginRequest) (*tollgatev1.LoginResponse, error) {
	g, err := h.service.Login(ctx, SignIn{
		Username: req.GetUsername(), Password: req.GetPassword(),
		SecondFactor: req.GetSecondFactor(), Audience: req.GetAudience(),
	})
	if err != nil {
		return nil, err
	}
	return &tollgatev1.LoginResponse{
		AccessToken: g.AccessToken, RefreshToken: g.RefreshToken, TokenType: tokenScheme,
		ExpiresIn: int32(g.ExpiresIn.Seconds()), SessionId: g.SessionID, UserId: g.UserID,
		PasswordChangeRequired: g.PasswordChangeRequired,
	}, nil
}

// Refresh implements AuthService.
func (h *Handler) Refresh(ctx context.Context, req *tollgatev1.RefreshRequest) (*tollgatev1.RefreshResponse, error) {
	g, err := h.service.Refresh(ctx, req.GetRefreshToken(), req.GetAudience())
	if err != nil {
		return nil, err
	}
	return &tollgatev1.RefreshResponse{
		AccessToken: g.AccessToken, RefreshToken: g.RefreshToken, TokenType: tokenScheme,
		ExpiresIn: int32(g.ExpiresIn.Seconds()), SessionId: g.SessionID,
	}, nil
}

// Logout implements AuthService.
func (h *Handler) Logout(ctx context.Context, req *tollgatev1.LogoutRequest) (*tollgatev1.LogoutResponse, error) {
	count, revision, err := h.service.Logout(ctx, req.GetEverywhere())
	if err != nil {
		return nil, err
	}
	return &tollgatev1.LogoutResponse{RevokedSessions: int32(count), Revision: revision}, nil
}

// Verify implements AuthService.
func (h *Handler) Verify(ctx context.Context, req *tollgatev1.VerifyRequest) (*tollgatev1.VerifyResponse, error) {
	if err := h.service.log.Ensure(ctx, req.GetMinRevision()); err != nil {
		return nil, err
	}
	revision := h.service.log.Revision() // before looking, so that the answer is at least as new
	v, err := h.service.Verify(ctx, Credential{
		AccessToken: req.GetAccessToken(), APIKey: req.GetApiKey(), Audience: caller.From(ctx).Accepts(),
	})
	if err != nil {
		return nil, err
	}
	if v.Stray != nil {
		if err := h.service.recordStray(ctx, v.Stray); err != nil {
			return nil, err
		}
	}
	res := &tollgatev1.VerifyResponse{Reason: ReasonProto(v.Reason), Revision: revision}
	if v.Reason == caller.ReasonOK {
		res.Active, res.Principal = true, PrincipalProto(v.Principal)
		res.GoodFor = protoconv.Duration(h.service.GoodFor(v.Principal))
	}
	return res, nil
}

// WhoAmI implements AuthService.
func (h *Handler) WhoAmI(ctx context.Context, _ *tollgatev1.WhoAmIRequest) (*tollgatev1.WhoAmIResponse, error) {
	p, permissions, err := h.service.WhoAmI(ctx)
	if err != nil {
		return nil, err
	}
	return &tollgatev1.WhoAmIResponse{Principal: PrincipalProto(p), Permissions: permissions}, nil
}

// CreateUser implements AuthService.
func (h *Handler) CreateUser(ctx context.Context, req *tollgatev1.CreateUserRequest) (*tollgatev1.CreateUserResponse, error) {
	u, revision, err := h.service.CreateUser(ctx, NewUser{
		Username: req.GetUsername(), Password: req.GetPassword(), DisplayName: req.GetDisplayName(),
		Kind: kinds.Text(req.GetKind()), Audience: req.GetAudience(),
		Roles: req.GetRoles(), PasswordChangeRequired: req.GetPasswordChangeRequired(),
	})
	if err != nil {
		return nil, err
	}
	return &tollgatev1.CreateUserResponse{User: userProto(u), Revision: revision}, nil
}

// ListUsers implements AuthService.
func (h *Handler) ListUsers(ctx context.Context, req *tollgatev1.ListUsersRequest) (*tollgatev1.ListUsersResponse, error) {
	users, next, err := h.service.ListUsers(ctx, UserFilter{
		Username: req.GetUsername(), Prefix: req.GetUsernamePrefix(), Disabled: req.Disabled,
	}, req.GetPageSize(), req.GetPageToken())
	if err != nil {
		return nil, err
	}
	return &tollgatev1.ListUsersResponse{Users: protoconv.List(users, userProto), NextPageToken: next}, nil
}

// GetUser implements AuthService.
func (h *Handler) GetUser(ctx context.Context, req *tollgatev1.GetUserRequest) (*tollgatev1.GetUserResponse, error) {
	u, err := h.service.GetUser(ctx, req.GetId())
	if err != nil {
		return nil, err
	}
	return &tollgatev1.GetUserResponse{User: userProto(u)}, nil
}

// UpdateUser implements AuthService.
func (h *Handler) UpdateUser(ctx context.Context, req *tollgatev1.UpdateUserRequest) (*tollgatev1.UpdateUserResponse, error) {
	change := UserUpdate{Username: req.Username, DisplayName: req.DisplayName, Disabled: req.Disabled, Audience: req.Audience}
	if req.GetAttributes() != nil {
		change.Attributes = new(req.GetAttributes().AsMap())
	}
	u, revision, err := h.service.UpdateUser(ctx, req.GetId(), change)
	if err != nil {
		return nil, err
	}
	return &tollgatev1.UpdateUserResponse{User: userProto(u), Revision: revision}, nil
}

// DeleteUser implements AuthService.
func (h *Handler) DeleteUser(ctx context.Context, req *tollgatev1.DeleteUserRequest) (*tollgatev1.DeleteUserResponse, error) {
	revision, err := h.service.DeleteUser(ctx, req.GetId())
	if err != nil {
		return nil, err
	}
	return &tollgatev1.DeleteUserResponse{Revision: revision}, nil
}

// SetPassword implements AuthService.
func (h *Handler) SetPassword(ctx context.Context, req *tollgatev1.SetPasswordRequest) (*tollgatev1.SetPasswordResponse, error) {
	done, err := h.service.SetPassword(ctx, PasswordChange{
		UserID: req.GetId(), Current: req.GetCurrentPassword(), New: req.GetNewPassword(), RevokeAPIKeys: req.RevokeApiKeys,
	})
	if err != nil {
		return nil, err
	}
	return &tollgatev1.SetPasswordResponse{
		Revision: done.Revision, OneTimePassword: done.OneTime, RevokedApiKeys: int32(done.RevokedAPIKeys),
	}, nil
}

// ListSessions implements AuthService.
func (h *Handler) ListSessions(ctx context.Context, req *tollgatev1.ListSessionsRequest) (*tollgatev1.ListSessionsResponse, error) {
	sessions, next, err := h.service.ListSessions(ctx, req.GetId(), req.GetPageSize(), req.GetPageToken())
	if err != nil {
		return nil, err
	}
	res := &tollgatev1.ListSessionsResponse{NextPageToken: next}
	for _, s := range sessions {
		res.Sessions = append(res.Sessions, sessionProto(s, caller.From(ctx)))
	}
	return res, nil
}

// RevokeSession implements AuthService.
func (h *Handler) RevokeSession(ctx context.Context, req *tollgatev1.RevokeSessionRequest) (*tollgatev1.RevokeSessionResponse, error) {
	revision, err := h.service.RevokeSession(ctx, req.GetId(), req.GetSessionId())
	if err != nil {
		return nil, err
	}
	return &tollgatev1.RevokeSessionResponse{Revision: revision}, nil
}

// RevokeSessions implements AuthService.
func (h *Handler) RevokeSessions(ctx context.Context, req *tollgatev1.RevokeSessionsRequest) (*tollgatev1.RevokeSessionsResponse, error) {
	count, revision, err := h.service.RevokeSessions(ctx, req.GetId())
	if err != nil {
		return nil, err
	}
	return &tollgatev1.RevokeSessionsResponse{RevokedSessions: int32(count), Revision: revision}, nil
}

// WatchRevocations implements AuthService.
func (h *Handler) WatchRevocations(ctx context.Context, r *tollgatev1.WatchRevocationsRequest, stream *connect.ServerStream[tollgatev1.WatchRevocationsResponse]) error {
	return h.Revocations(ctx, r, stream.Send)
}

// Revocations is WatchRevocations for any stream.
func (h *Handler) Revocations(ctx context.Context, _ *tollgatev1.WatchRevocationsRequest, send func(*tollgatev1.WatchRevocationsResponse) error) error {
	return h.service.WatchRevocations(ctx, func(r Revoked) error {
		return send(&tollgatev1.WatchRevocationsResponse{
			SessionIds: r.Sessions, ApiKeyIds: r.APIKeys, UserIds: r.Users, RestoredUserIds: r.Restored,
			SigningKeyIds: r.SigningKeys, TokenIds: r.Tokens, Snapshot: r.Snapshot, Revision: r.Revision,
		})
	})
}

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
	revoked, revision, err := h.service.ConfirmSecondFactor(ctx, req.GetId(), req.GetCode())
	if err != nil {
		return nil, err
	}
	return &tollgatev1.ConfirmSecondFactorResponse{Revision: revision, RevokedSessions: int32(revoked)}, nil
}

// RemoveSecondFactor implements AuthService.
func (h *Handler) RemoveSecondFactor(ctx context.Context, req *tollgatev1.RemoveSecondFactorRequest) (*tollgatev1.RemoveSecondFactorResponse, error) {
	revision, err := h.service.RemoveSecondFactor(ctx, req.GetId(), req.GetCode())
	if err != nil {
		return nil, err
	}
	return &tollgatev1.RemoveSecondFactorResponse{Revision: revision}, nil
}
