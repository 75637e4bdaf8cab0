package auth

import (
	"time"

	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/fault"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// tokenScheme is how access tokens are presented (RFC 6750).
const tokenScheme = "Bearer"

// ReasonProto is a reason as the API says it.
func ReasonProto(r caller.Reason) tollgatev1.Reason {
	switch r {
	case caller.ReasonOK:
		return tollgatev1.Reason_REASON_OK
	case caller.ReasonCredentialMissing:
		return tollgatev1.Reason_REASON_CREDENTIAL_MISSING
	case caller.ReasonCredentialInvalid:
		return tollgatev1.Reason_REASON_CREDENTIAL_INVALID
	case caller.ReasonCredentialExpired:
		return tollgatev1.Reason_REASON_CREDENTIAL_EXPIRED
	case caller.ReasonCredentialRevoked:
		return tollgatev1.Reason_REASON_CREDENTIAL_REVOKED
	case caller.ReasonUserDisabled:
		return tollgatev1.Reason_REASON_USER_DISABLED
	case caller.ReasonUserUnknown:
		return tollgatev1.Reason_REASON_USER_UNKNOWN
	case caller.ReasonLimited:
		return tollgatev1.Reason_REASON_LIMITED
	case caller.ReasonPasswordChangeRequired:
		return tollgatev1.Reason_REASON_PASSWORD_CHANGE_REQUIRED
	case caller.ReasonPermissionMissing:
		return tollgatev1.Reason_REASON_PERMISSION_MISSING
	case caller.ReasonScopeMissing:
		return tollgatev1.Reason_REASON_SCOPE_MISSING
	case caller.ReasonWrongAudience:
		return tollgatev1.Reason_REASON_WRONG_AUDIENCE
	case caller.ReasonSecondFactorRequired:
		return tollgatev1.Reason_REASON_SECOND_FACTOR_REQUIRED
	case caller.ReasonSignInRequired:
		return tollgatev1.Reason_REASON_SIGN_IN_REQUIRED
	}
	return tollgatev1.Reason_REASON_UNSPECIFIED
}

// PrincipalProto is a principal as the API shows it; nil for nil.
func PrincipalProto(p *caller.Principal) *tollgatev1.Principal {
	if p == nil {
		return nil
	}
	return &tollgatev1.Principal{
		UserId: p.UserID, Username: p.Username, Kind: kindProto(p.Kind), Roles: p.Roles,
		SessionId: p.SessionID, ApiKeyId: p.APIKeyID, Scopes: p.Scopes, ExpiresAt: timeProto(p.ExpiresAt),
		Audience: p.Audience, Amr: p.AMR, AuthTime: timeProto(p.AuthTime),
	}
}

func userProto(u User) *tollgatev1.User {
	return &tollgatev1.User{
		Id: u.ID, Username: u.Username, DisplayName: u.DisplayName, Kind: kindProto(u.Kind),
		Disabled: u.Disabled, PasswordChangeRequired: u.PasswordChangeRequired,
		CreatedAt: timeProto(u.CreatedAt), UpdatedAt: timeProto(u.UpdatedAt), Roles: u.Roles, SecondFactor: u.SecondFactor,
		Audience: u.Audience,
	}
}

func sessionProto(s Session, c caller.Caller) *tollgatev1.Session {
	return &tollgatev1.Session{
		Id: s.ID, UserId: s.UserID, CreatedAt: timeProto(s.CreatedAt), RefreshedAt: timeProto(s.RefreshedAt),
		ExpiresAt: timeProto(s.ExpiresAt), Ip: s.IP, UserAgent: s.UserAgent,
		Current: c.Principal != nil && c.Principal.SessionID == s.ID,
	}
}

func apiKeyProto(k APIKey) *tollgatev1.APIKey {
	return &tollgatev1.APIKey{
		Id: k.ID, UserId: k.UserID, Name: k.Name, Scopes: k.Scopes, CreatedAt: timeProto(k.CreatedAt),
		ExpiresAt: timeProto(k.ExpiresAt), LastUsedAt: timeProto(k.LastUsedAt), RevokedAt: timeProto(k.RevokedAt),
		CreatedBy: k.CreatedBy, CreatedByApiKeyId: k.CreatedByKey,
	}
}

func kindProto(k caller.Kind) tollgatev1.UserKind {
	switch k {
	case caller.Person:
		return tollgatev1.UserKind_USER_KIND_PERSON
	case caller.Service:
		return tollgatev1.UserKind_USER_KIND_SERVICE
	}
	return tollgatev1.UserKind_USER_KIND_UNSPECIFIED
}

func kindFromProto(k tollgatev1.UserKind) caller.Kind {
	if k == tollgatev1.UserKind_USER_KIND_SERVICE {
		return caller.Service
	}
	return caller.Person
}

// timeProto is nil for the zero Time, which is unset.
func timeProto(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

func timeFromProto(field string, t *timestamppb.Timestamp) (time.Time, error) {
	if t == nil {
		return time.Time{}, nil
	}
	if !t.IsValid() {
		return time.Time{}, fault.Field(field, "is not a time between the years 1 and 9999")
	}
	return t.AsTime(), nil
}
