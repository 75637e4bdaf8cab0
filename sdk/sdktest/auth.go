package sdktest

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"connectrpc.com/connect"
	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

func (h handler) Login(_ context.Context, req *tollgatev1.LoginRequest) (*tollgatev1.LoginResponse, error) {
	s := h.server
	s.mu.Lock()
	defer s.mu.Unlock()
	u, known := s.users[req.GetUsername()]
	if !known || u.Disabled || u.Service || u.Password == "" || u.Password != req.GetPassword() {
		return nil, badCredentials()
	}
	amr := []string{"pwd"}
	switch code := req.GetSecondFactor(); {
	case u.SecondFactor == "":
	case code == "":
		return nil, refuse(connect.CodeUnauthenticated, "SECOND_FACTOR_REQUIRED",
			"the password is right; sign in with it and a code from the authenticator or a recovery code")
	case code != u.SecondFactor:
		return nil, badCredentials()
	default:
		amr = []string{"pwd", "otp", "mfa"}
	}
	id, next := s.newID("session"), s.newID("refresh")
	s.sessions[id], s.refresh[next] = &session{user: u.Name, refresh: next, audience: req.GetAudience(), amr: amr, began: s.now()}, id
	return &tollgatev1.LoginResponse{
		AccessToken: s.sign(u, id, s.sessions[id].claims(req.GetAudience())), RefreshToken: next, TokenType: "Bearer",
		ExpiresIn: int32(s.tokenTTL / time.Second), SessionId: id, UserId: u.ID, PasswordChangeRequired: u.PasswordChange,
	}, nil
}

func badCredentials() error {
	return refuse(connect.CodeUnauthenticated, "BAD_CREDENTIALS", "wrong user name, password or second factor")
}

// Refresh revokes the session when a refresh token is used again.
func (h handler) Refresh(_ context.Context, req *tollgatev1.RefreshRequest) (*tollgatev1.RefreshResponse, error) {
	s := h.server
	s.mu.Lock()
	defer s.mu.Unlock()
	id, known := s.refresh[req.GetRefreshToken()]
	if !known || s.sessions[id].revoked {
		return nil, refuse(connect.CodeUnauthenticated, "BAD_REFRESH_TOKEN", "the refresh token is unknown or its session has ended")
	}
	session := s.sessions[id]
	if session.refresh != req.GetRefreshToken() {
		session.revoked = true
		s.send(&tollgatev1.WatchRevocationsResponse{SessionIds: []string{id}})
		return nil, refuse(connect.CodeUnauthenticated, "REFRESH_TOKEN_REUSED", "the refresh token was used before")
	}
	if session.audience != "" && req.GetAudience() != "" && req.GetAudience() != session.audience {
		return nil, refuse(connect.CodeInvalidArgument, "INVALID_FIELD", "audience: the session is for "+session.audience)
	}
	session.refresh = s.newID("refresh")
	s.refresh[session.refresh] = id
	return &tollgatev1.RefreshResponse{
		AccessToken: s.sign(s.users[session.user], id, session.claims(req.GetAudience())), RefreshToken: session.refresh, TokenType: "Bearer",
		ExpiresIn: int32(s.tokenTTL / time.Second), SessionId: id,
	}, nil
}

func (h handler) Logout(ctx context.Context, req *tollgatev1.LogoutRequest) (*tollgatev1.LogoutResponse, error) {
	s := h.server
	call, _ := connect.CallInfoForHandlerContext(ctx)
	credential := strings.TrimPrefix(call.RequestHeader().Get("Authorization"), "Bearer ")
	s.mu.Lock()
	defer s.mu.Unlock()
	who, reason := s.verify(credential, "", Audience)
	if reason != tollgatev1.Reason_REASON_OK && reason != tollgatev1.Reason_REASON_PASSWORD_CHANGE_REQUIRED {
		return nil, refuse(connect.CodeUnauthenticated, strings.TrimPrefix(reason.String(), "REASON_"), "sign in first")
	}
	ids := []string{who.GetSessionId()}
	s.revokeSession(who.GetSessionId())
	if req.GetEverywhere() {
		ids = append(ids, s.revokeSessions(who.GetUsername())...)
	}
	revision := s.send(&tollgatev1.WatchRevocationsResponse{SessionIds: ids})
	return &tollgatev1.LogoutResponse{RevokedSessions: int32(len(ids)), Revision: revision}, nil
}

// serveRevoke revokes the session of a refresh token (RFC 7009).
func (s *Server) serveRevoke(w http.ResponseWriter, r *http.Request) {
	token := r.PostFormValue("token")
	s.mu.Lock()
	defer s.mu.Unlock()
	id, known := s.refresh[token]
	switch {
	case token == "":
		w.WriteHeader(http.StatusBadRequest)
	case known && !s.sessions[id].revoked:
		s.revokeSession(id)
		s.send(&tollgatev1.WatchRevocationsResponse{SessionIds: []string{id}})
	}
}

func (h handler) Verify(_ context.Context, req *tollgatev1.VerifyRequest) (*tollgatev1.VerifyResponse, error) {
	s := h.server
	s.mu.Lock()
	defer s.mu.Unlock()
	who, reason := s.verify(req.GetAccessToken()+req.GetApiKey(), "", s.audience)
	res := &tollgatev1.VerifyResponse{Reason: reason, Revision: s.revision}
	if reason == tollgatev1.Reason_REASON_OK {
		res.Active, res.Principal, res.GoodFor = true, who, s.goodFor(who)
	}
	return res, nil
}

// goodFor is how long a principal stays as it is.
func (s *Server) goodFor(who *tollgatev1.Principal) *durationpb.Duration {
	d := 5 * time.Minute
	if ends := who.GetExpiresAt(); ends != nil {
		d = min(d, ends.AsTime().Sub(s.now()))
	}
	return durationpb.New(d)
}

// verify returns whose a credential is when it is good; an access token must be
// for this audience. The lock is held.
func (s *Server) verify(credential, userID, audience string) (*tollgatev1.Principal, tollgatev1.Reason) {
	who := &tollgatev1.Principal{UserId: userID}
	switch {
	case userID != "":
	case credential == "":
		return nil, tollgatev1.Reason_REASON_CREDENTIAL_MISSING
	case strings.HasPrefix(credential, "tg_"):
		key, known := s.apiKeys[credential]
		switch {
		case !known:
			return nil, tollgatev1.Reason_REASON_CREDENTIAL_INVALID
		case key.revoked:
			return nil, tollgatev1.Reason_REASON_CREDENTIAL_REVOKED
		}
		who.UserId, who.ApiKeyId, who.Scopes = s.users[key.user].ID, key.id, key.scopes
	default:
		t, ok := s.open(credential)
		if !ok {
			return nil, tollgatev1.Reason_REASON_CREDENTIAL_INVALID
		}
		if t.Audience != audience {
			return nil, tollgatev1.Reason_REASON_WRONG_AUDIENCE
		}
		ends := time.Unix(t.Expires, 0)
		if !s.now().Before(ends) {
			return nil, tollgatev1.Reason_REASON_CREDENTIAL_EXPIRED
		}
		if session := s.sessions[t.Session]; session != nil && session.revoked || s.keyRevoked(t.APIKey) || s.tokens[t.ID] {
			return nil, tollgatev1.Reason_REASON_CREDENTIAL_REVOKED
		}
		who.UserId, who.SessionId, who.ApiKeyId, who.ExpiresAt = t.UserID, t.Session, t.APIKey, timestamppb.New(ends)
		who.Audience, who.Amr = t.Audience, t.Amr
		if t.AuthTime != 0 {
			who.AuthTime = timestamppb.New(time.Unix(t.AuthTime, 0))
		}
	}
	u, known := s.userByID(who.UserId)
	switch {
	case !known:
		return nil, tollgatev1.Reason_REASON_USER_UNKNOWN
	case u.Disabled:
		return nil, tollgatev1.Reason_REASON_USER_DISABLED
	}
	who.Username, who.Kind, who.Roles = u.Name, tollgatev1.UserKind_USER_KIND_PERSON, u.Roles
	if u.Service {
		who.Kind = tollgatev1.UserKind_USER_KIND_SERVICE
	}
	if u.PasswordChange {
		return who, tollgatev1.Reason_REASON_PASSWORD_CHANGE_REQUIRED
	}
	return who, tollgatev1.Reason_REASON_OK
}

func (s *Server) keyRevoked(id string) bool {
	for _, key := range s.apiKeys {
		if key.id == id && key.revoked {
			return true
		}
	}
	return false
}

// refuse returns an error as Tollgate's server does.
func refuse(code connect.Code, reason, message string) error {
	err := connect.NewError(code, errors.New(message))
	if detail, failed := connect.NewErrorDetail(&errdetails.ErrorInfo{Reason: reason, Domain: "tollgate.dev"}); failed == nil {
		err.AddDetail(detail)
	}
	return err
}
