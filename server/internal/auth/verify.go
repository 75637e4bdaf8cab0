package auth

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/auth/token"
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
	Claims    *token.Claims     // of a good access token
}

// Verify checks a credential. It answers from memory when warm; call
// changes.Log.Ensure before, so that the memory is recent. The error is not
// nil only when it cannot be decided.
func (s *Service) Verify(ctx context.Context, c Credential) (Verification, error) {
	v, err := s.credential(ctx, c)
	if err != nil || v.Reason != caller.ReasonOK {
		return v, err
	}
	p := v.Principal
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
	p.Username, p.Kind, p.Accepts, p.Attributes = who.Username, who.Kind, who.Audience, who.attributes.Values()
	p.PasswordChangeRequired = p.PasswordChangeRequired || who.PasswordChangeRequired
	var rolesEnd time.Time
	if p.Roles, rolesEnd, err = s.roles.RolesUntil(ctx, p.UserID); err != nil {
		return Verification{}, fmt.Errorf("read the roles of user %s: %w", p.UserID, err)
	}
	p.GoodUntil = first(p.GoodUntil, p.ExpiresAt, p.KeyExpiresAt, rolesEnd)
	if p.PasswordChangeRequired {
		v.Reason = caller.ReasonPasswordChangeRequired
	}
	return v, nil
}

// credential checks what is presented by itself: what it says of the user is
// not looked up yet.
func (s *Service) credential(ctx context.Context, c Credential) (Verification, error) {
	switch {
	case c.AccessToken != "":
		return s.accessToken(ctx, c)
	case c.APIKey != "":
		p, reason, err := s.APIKeys.Verify(ctx, c.APIKey)
		return Verification{Reason: reason, Principal: p}, err
	case c.UserID != "":
		return Verification{Reason: caller.ReasonOK, Principal: &caller.Principal{UserID: c.UserID}}, nil
	default:
		return Verification{Reason: caller.ReasonCredentialMissing}, nil
	}
}

// accessToken checks an access token. For one that is meant for others it says
// no more than whose it is.
func (s *Service) accessToken(ctx context.Context, c Credential) (Verification, error) {
	now := s.clock.Now()
	claims, reason := s.SigningKeys.Verify(c.AccessToken, now)
	if reason != caller.ReasonOK {
		return Verification{Reason: reason}, nil
	}
	p := &caller.Principal{
		UserID: claims.Subject, SessionID: claims.SessionID, APIKeyID: claims.APIKeyID, Audience: claims.Audience,
	}
	if claims.Audience != cmp.Or(c.Audience, s.SigningKeys.Audience) {
		return Verification{Reason: caller.ReasonWrongAudience, Stray: p}, nil
	}
	// A token of before the lifetime was lowered: revoked sessions are no longer
	// remembered for that long.
	p.GoodUntil = claims.IssuedAt.Add(s.accessTokenTTL + time.Second)
	if now.After(p.GoodUntil) {
		return Verification{Reason: caller.ReasonCredentialExpired}, nil
	}
	switch {
	case s.revoked.has(cmp.Or(claims.SessionID, claims.ID)): // a client's token by itself
		return Verification{Reason: caller.ReasonCredentialRevoked}, nil
	case claims.APIKeyID != "":
		if reason, err := s.clientToken(ctx, claims, p); err != nil || reason != caller.ReasonOK {
			return Verification{Reason: reason}, err
		}
		p.TokenID = claims.ID
	}
	p.ExpiresAt, p.AMR, p.AuthTime, p.PasswordChangeRequired = claims.ExpiresAt, claims.AMR, claims.AuthTime, claims.PasswordChange
	return Verification{Reason: caller.ReasonOK, Principal: p, Claims: &claims}, nil
}

// first is the earliest of the times that are not zero.
func first(times ...time.Time) (earliest time.Time) {
	for _, t := range times {
		if !t.IsZero() && (earliest.IsZero() || t.Before(earliest)) {
			earliest = t
		}
	}
	return earliest
}

// keepFor is how long a principal may be kept elsewhere before it is asked about
// again: what nobody thought of ends by then.
const keepFor = 5 * time.Minute

// GoodFor is how long a principal, whose credential is good now, stays as it is
// unless something changes that the policy feed tells of.
func (s *Service) GoodFor(p *caller.Principal) time.Duration {
	if p.GoodUntil.IsZero() {
		return keepFor
	}
	return max(0, min(keepFor, p.GoodUntil.Sub(s.clock.Now())))
}

// WhoAmI returns the caller and the permission patterns that the caller holds,
// sorted and narrowed to the key's scopes.
func (s *Service) WhoAmI(ctx context.Context) (*caller.Principal, []string, error) {
	p := caller.From(ctx).Principal
	if p == nil {
		return nil, nil, notSignedIn()
	}
	return p, s.roles.Patterns(p), nil
}

func notSignedIn() error {
	return fault.New(fault.Unauthenticated, "CREDENTIAL_MISSING", "sign in first: the call is about its caller")
}
