package auth

import (
	"time"

	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/fault"
	"github.com/tollgatehq/tollgate/server/internal/protoconv"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// tokenScheme is how access tokens are presented (RFC 6750).
const tokenScheme = "Bearer"

var reasons = protoconv.NewEnum[caller.Reason, tollgatev1.Reason](tollgatev1.Reason_name)

// ReasonProto is a reason as the API says it.
func ReasonProto(r caller.Reason) tollgatev1.Reason { return reasons.Proto(r) }

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
