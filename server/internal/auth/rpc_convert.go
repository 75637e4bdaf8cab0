package auth

import (
	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
	"github.com/tollgatehq/tollgate/server/internal/auth/apikey"
	"github.com/tollgatehq/tollgate/server/internal/auth/token"
	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/protoconv"
)

// tokenScheme is how access tokens are presented (RFC 6750).
const tokenScheme = "Bearer"

var (
	kinds   = protoconv.NewEnum[caller.Kind, tollgatev1.UserKind](tollgatev1.UserKind_name)
	states  = protoconv.NewEnum[token.State, tollgatev1.SigningKeyState](tollgatev1.SigningKeyState_name)
	reasons = protoconv.NewEnum[caller.Reason, tollgatev1.Reason](tollgatev1.Reason_name)
)

// ReasonProto is a reason as the API says it.
func ReasonProto(r caller.Reason) tollgatev1.Reason { return reasons.Proto(r) }

// PrincipalProto is a principal as the API shows it; nil for nil.
func PrincipalProto(p *caller.Principal) *tollgatev1.Principal {
	if p == nil {
		return nil
	}
	return &tollgatev1.Principal{
		UserId: p.UserID, Username: p.Username, Kind: kinds.Proto(p.Kind), Roles: p.Roles,
		SessionId: p.SessionID, ApiKeyId: p.APIKeyID, Scopes: p.Scopes, ExpiresAt: protoconv.Timestamp(p.ExpiresAt),
		Audience: p.Audience, Amr: p.AMR, AuthTime: protoconv.Timestamp(p.AuthTime),
	}
}

func userProto(u User) *tollgatev1.User {
	return &tollgatev1.User{
		Id: u.ID, Username: u.Username, DisplayName: u.DisplayName, Kind: kinds.Proto(u.Kind),
		Disabled: u.Disabled, PasswordChangeRequired: u.PasswordChangeRequired,
		CreatedAt: protoconv.Timestamp(u.CreatedAt), UpdatedAt: protoconv.Timestamp(u.UpdatedAt), Roles: u.Roles, SecondFactor: u.SecondFactor,
		Audience: u.Audience, Attributes: protoconv.Struct(u.Attributes),
	}
}

func sessionProto(s Session, c caller.Caller) *tollgatev1.Session {
	return &tollgatev1.Session{
		Id: s.ID, UserId: s.UserID, CreatedAt: protoconv.Timestamp(s.CreatedAt), RefreshedAt: protoconv.Timestamp(s.RefreshedAt),
		ExpiresAt: protoconv.Timestamp(s.ExpiresAt), Ip: s.IP, UserAgent: s.UserAgent,
		Current: c.Principal != nil && c.Principal.SessionID == s.ID,
	}
}

func apiKeyProto(k apikey.Key) *tollgatev1.APIKey {
	return &tollgatev1.APIKey{
		Id: k.ID, UserId: k.UserID, Name: k.Name, Scopes: k.Scopes, CreatedAt: protoconv.Timestamp(k.CreatedAt),
		ExpiresAt: protoconv.Timestamp(k.ExpiresAt), LastUsedAt: protoconv.Timestamp(k.LastUsedAt), RevokedAt: protoconv.Timestamp(k.RevokedAt),
		CreatedBy: k.CreatedBy, CreatedByApiKeyId: k.CreatedByKey,
	}
}

func signingKeyProto(k token.Key) *tollgatev1.SigningKey {
	return &tollgatev1.SigningKey{
		Id: k.ID, Algorithm: k.Algorithm, State: states.Proto(k.State), CreatedAt: protoconv.Timestamp(k.CreatedAt),
		ActiveAt: protoconv.Timestamp(k.ActiveAt), RetiredAt: protoconv.Timestamp(k.RetiredAt), RemovedAt: protoconv.Timestamp(k.RemovedAt),
	}
}
