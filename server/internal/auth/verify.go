package auth

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/fault"
)

// Credential is what a caller presents: at most one of the fields.
type Credential struct {
	AccessToken string
	APIKey      string
	UserID      string // taken on trust: the caller has authenticated the user by other means

	// Audience is who the credential is presented to: an access token must be
	// for it. Empty: the server's own, Tollgate's API and services without one.
	Audience string
}

// Verification says whose a credential is, or why it is refused.
type Verification struct {
	Reason    caller.Reason
	Principal *caller.Principal // set for ReasonOK and ReasonPasswordChangeRequired
	Stray     *caller.Principal // set for ReasonWrongAudience: whose token it is, for the record only
}

// Verify looks at a credential. It answers from memory when warm; call
// changes.Log.Ensure before, so that the memory is recent. The error is not
// nil only when it cannot be decided.
func (s *Service) Verify(ctx context.Context, c Credential) (Verification, error) {
	p, reason, err := s.credential(ctx, c)
	switch {
	case err == nil && reason == caller.ReasonWrongAudience:
		return Verification{Reason: reason, Stray: p}, nil
	case err != nil || reason != caller.ReasonOK:
		return Verification{Reason: reason}, err
	}
	who, err := s.identity(ctx, p.UserID)
	if err != nil {
		return Verification{}, fmt.Errorf("read user %s: %w", p.UserID, err)
	}
	switch {
	case who == identity{}:
		return Verification{Reason: caller.ReasonUserUnknown}, nil
	case who.Disabled:
		return Verification{Reason: caller.ReasonUserDisabled}, nil
	}
	p.Username, p.Kind, p.Accepts = who.Username, who.Kind, who.Audience
	p.PasswordChangeRequired = p.PasswordChangeRequired || who.PasswordChangeRequired
	if p.Roles, err = s.roles.RolesOf(ctx, p.UserID); err != nil {
		return Verification{}, fmt.Errorf("read the roles of user %s: %w", p.UserID, err)
	}
	if p.PasswordChangeRequired {
		return Verification{Reason: caller.ReasonPasswordChangeRequired, Principal: p}, nil
	}
	return Verification{Reason: caller.ReasonOK, Principal: p}, nil
}

// credential checks what is presented by itself: what it says of the user is
// not looked up yet.
func (s *Service) credential(ctx context.Context, c Credential) (*caller.Principal, caller.Reason, error) {
	switch {
	case c.AccessToken != "":
		return s.accessToken(ctx, c)
	case c.APIKey != "":
		userID, keyID, scopes, expires, reason, err := s.verifyAPIKey(ctx, c.APIKey)
		if err != nil {
			return nil, "", fmt.Errorf("verify API key: %w", err)
		}
		return &caller.Principal{UserID: userID, APIKeyID: keyID, Scopes: scopes, ExpiresAt: expires, KeyExpiresAt: expires}, reason, nil
	case c.UserID != "":
		return &caller.Principal{UserID: c.UserID}, caller.ReasonOK, nil
	default:
		return nil, caller.ReasonCredentialMissing, nil
	}
}

// accessToken looks at an access token. For one that is meant for others it
// says no more than whose it is.
func (s *Service) accessToken(ctx context.Context, c Credential) (*caller.Principal, caller.Reason, error) {
	now := s.clock.Now()
	claims, reason := s.keys.verify(c.AccessToken, now)
	if reason != caller.ReasonOK {
		return nil, reason, nil
	}
	if claims.Audience != cmp.Or(c.Audience, s.keys.audience) {
		return &caller.Principal{
			UserID: claims.Subject, SessionID: claims.SessionID, APIKeyID: claims.APIKeyID, Audience: claims.Audience,
		}, caller.ReasonWrongAudience, nil
	}
	// Tokens of before the lifetime was lowered: we no longer remember for so
	// long which sessions have ended.
	if now.After(claims.IssuedAt.Add(s.accessTokenTTL + time.Second)) {
		return nil, caller.ReasonCredentialExpired, nil
	}
	if claims.APIKeyID != "" {
		return s.clientToken(ctx, claims, now)
	}
	if s.ended.has(claims.SessionID) {
		return nil, caller.ReasonCredentialRevoked, nil
	}
	return &caller.Principal{
		UserID: claims.Subject, SessionID: claims.SessionID, ExpiresAt: claims.ExpiresAt,
		Audience: claims.Audience, AMR: claims.AMR, AuthTime: claims.AuthTime, PasswordChangeRequired: claims.PasswordChange,
	}, caller.ReasonOK, nil
}

// WhoAmI returns the caller and the permission patterns that the caller holds,
// sorted and narrowed to the key's scopes.
func (s *Service) WhoAmI(ctx context.Context) (*caller.Principal, []string, error) {
	p := caller.From(ctx).Principal
	if p == nil {
		return nil, nil, nobody()
	}
	return p, s.roles.Patterns(p), nil
}

func nobody() error {
	return fault.New(fault.Unauthenticated, "CREDENTIAL_MISSING", "sign in first; this is about the caller")
}
