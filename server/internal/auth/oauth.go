package auth

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tollgatehq/tollgate/internal/perm"
	"github.com/tollgatehq/tollgate/server/internal/audit"
	"github.com/tollgatehq/tollgate/server/internal/auth/apikey"
	"github.com/tollgatehq/tollgate/server/internal/auth/token"
	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/changes"
	"github.com/tollgatehq/tollgate/server/internal/database"
	"github.com/tollgatehq/tollgate/server/internal/fault"
)

const (
	// PublicClient is the OAuth 2.0 client that people sign in with: the
	// "client_id" of their access tokens. It has no secret.
	PublicClient = clientID
	// maxScope bounds a token's scope in bytes, so that the token stays small
	// enough to be verified.
	maxScope = 4 << 10
	// maxRevokedTokens bounds how many revoked tokens of an account's API keys are
	// remembered, so that no client fills every verifier's memory.
	maxRevokedTokens = 10_000
)

// ClientGrant is what an OAuth 2.0 client gets for its credentials.
type ClientGrant struct {
	AccessToken string
	ExpiresIn   time.Duration // whole seconds
	Scope       string        // permission patterns: all that the token lets its bearer do now
}

// ClientToken issues an access token (RFC 9068) to the API key that makes the
// call, the client-credentials grant (RFC 6749 §4.4). The token acts as the
// key's owner, ends with the key, is for one audience, empty for the server's
// own, and is narrowed to scope, permission patterns with one space between; an
// empty scope is all that the key may. The grant is audited. A scope that the
// key does not cover, or that is no pattern, is Invalid, INVALID_SCOPE.
func (s *Service) ClientToken(ctx context.Context, scope, audience string) (ClientGrant, error) {
	p := caller.From(ctx).Principal
	switch {
	case p == nil || p.APIKeyID == "":
		return ClientGrant{}, fault.New(fault.Unauthenticated, "NOT_A_CLIENT", "authenticate as a client: with the id of an API key and the key")
	case p.PasswordChangeRequired:
		return ClientGrant{}, fault.New(fault.Unauthenticated, "PASSWORD_CHANGE_REQUIRED", "the key's owner has to choose a new password first")
	}
	now := s.clock.Now()
	ends := now.Add(s.accessTokenTTL)
	if !p.ExpiresAt.IsZero() && p.ExpiresAt.Before(ends) {
		ends = p.ExpiresAt
	}
	issued, ends := now.Truncate(time.Second), ends.Truncate(time.Second)
	if !ends.After(now) {
		return ClientGrant{}, fault.New(fault.Unauthenticated, "CREDENTIAL_EXPIRED", "the API key expires within a second")
	}
	audience, err := s.audience(audience)
	if err != nil {
		return ClientGrant{}, err
	}
	event := withAudience(audit.New(ctx, audit.TokenIssue, audit.Success, "api_keys/"+p.APIKeyID), audience)
	narrowed, err := s.clientScope(ctx, p, scope)
	if err != nil {
		if !fault.Is(err, fault.Invalid) {
			return ClientGrant{}, err
		}
		event.Outcome = audit.Denied
		if failed := s.audit.Record(ctx, event.Because("invalid_scope")); failed != nil {
			return ClientGrant{}, failed
		}
		return ClientGrant{}, err
	}
	accessToken, err := s.SigningKeys.Sign(token.Claims{
		Subject: p.UserID, APIKeyID: p.APIKeyID, ClientID: p.APIKeyID, ID: s.clock.NewID(),
		Audience: audience, Scope: narrowed, IssuedAt: issued, ExpiresAt: ends,
	})
	if err != nil {
		return ClientGrant{}, err
	}
	if narrowed == "" { // not narrowed: what introspection says of it, too
		narrowed = strings.Join(s.roles.Patterns(p), " ")
	}
	if err := s.audit.Record(ctx, event.With("scope", narrowed)); err != nil {
		return ClientGrant{}, err
	}
	return ClientGrant{AccessToken: accessToken, ExpiresIn: ends.Sub(issued), Scope: narrowed}, nil
}

// clientScope is the scope of a token for the key: what was asked for, or the
// key's own scopes; empty for all that the owner may.
func (s *Service) clientScope(ctx context.Context, p *caller.Principal, scope string) (string, error) {
	patterns := p.Scopes
	if scope != "" {
		patterns = strings.Split(scope, " ")
		for _, pattern := range patterns {
			if err := perm.ValidPattern(pattern); err != nil {
				return "", invalidScope("scope must be permission patterns with one space between: a pattern %v", err)
			}
		}
		err := s.roles.MayKeep(caller.With(ctx, caller.Caller{Principal: p}), patterns)
		if fault.Is(err, fault.Denied) {
			return "", invalidScope("the scope is more than the API key may; leave scope out to get all that it may")
		}
		if err != nil {
			return "", err
		}
	}
	text := strings.Join(slices.Compact(slices.Sorted(slices.Values(patterns))), " ")
	if len(text) > maxScope {
		return "", invalidScope("the scope has over %d bytes, too much for a token; ask for less", maxScope)
	}
	return text, nil
}

func invalidScope(format string, args ...any) error {
	return fault.New(fault.Invalid, "INVALID_SCOPE", format, args...)
}

// clientToken checks what an access token of an API key ends with, the key, and
// narrows the principal to it. An error means that the key could not be looked
// up.
func (s *Service) clientToken(ctx context.Context, claims token.Claims, p *caller.Principal) (caller.Reason, error) {
	key, reason, err := s.APIKeys.VerifyID(ctx, claims.APIKeyID)
	if err != nil || reason != caller.ReasonOK {
		return reason, err
	}
	p.Scopes, p.KeyExpiresAt = key.Scopes, key.ExpiresAt
	if claims.Scope != "" {
		p.Scopes = strings.Fields(claims.Scope)
		if len(key.Scopes) > 0 {
			p.Scopes = perm.Intersect(p.Scopes, key.Scopes)
		}
	}
	// No scopes would be all that the owner may.
	if key.UserID != claims.Subject || claims.Scope != "" && len(p.Scopes) == 0 {
		return caller.ReasonCredentialInvalid, nil
	}
	return caller.ReasonOK, nil
}

// RevokeToken revokes what a token is of (RFC 7009): the session of a refresh or
// access token, and with it all its tokens, or a client-credentials token by
// itself. For a session the token is enough, so a refresh token that was spent
// will do; a client's token takes that client. What is no token, or not good any
// more, is no error. Invalid, UNSUPPORTED_TOKEN_TYPE, for API keys, and for a
// client's token from a caller that is no client. WRONG_CLIENT for the token of
// another client (RFC 7009 §2.1), as an API key's caller is to a session.
func (s *Service) RevokeToken(ctx context.Context, text string) error {
	hash, refresh := parseRefreshToken(text)
	claims, reason := s.SigningKeys.Verify(text, s.clock.Now())
	id := ""
	switch good := reason == caller.ReasonOK; {
	case refresh:
		found, err := getTokenSession(ctx, s.db, hash)
		if err != nil && !errors.Is(err, database.ErrNoRows) {
			return fmt.Errorf("revoke token: %w", err)
		}
		id = found.ID
	case strings.HasPrefix(text, apikey.Prefix):
		return unsupportedToken("an API key is revoked by DELETE /v1/api-keys/ID, which ends its tokens")
	case good && claims.APIKeyID != "":
		return s.revokeClientToken(ctx, claims)
	case good && claims.Audience != s.SigningKeys.Audience:
		return unsupportedToken("the access token is for the audience %q and good for nothing here; send its session's refresh token to revoke both", claims.Audience)
	case good:
		id = claims.SessionID
	}
	event := audit.New(ctx, audit.SessionRevoke, audit.Denied, "")
	switch other := ofAnotherClient(ctx); {
	case other && (refresh || id != ""): // refresh tokens are not looked at: nothing is learned of them
		return s.refuseClient(ctx, event)
	case other:
		return nil
	}
	// Read before any transaction: tokens that are not good cost none.
	n := 0
	if id != "" {
		var err error
		if n, err = countUnrevoked(ctx, s.db, id); err != nil {
			return fmt.Errorf("revoke token: %w", err)
		}
	}
	if n == 0 {
		return s.countAnonymous(ctx, event)
	}
	_, err := s.log.Write(ctx, func(ctx context.Context, tx *changes.Tx) error {
		owner, revoked, err := s.revokeSession(ctx, tx, "", id, revokedByRequest)
		if err != nil || !revoked {
			return err
		}
		event := audit.New(ctx, audit.SessionRevoke, audit.Success, "sessions/"+id).With("user_id", owner).With("by", "token")
		if event.ActorID == "" { // the session's own token says who it is
			event.ActorID, event.SessionID = owner, id
		}
		tx.Record(event)
		return nil
	})
	if err != nil {
		return fmt.Errorf("revoke token: %w", err)
	}
	return nil
}

// revokeClientToken revokes a good client-credentials token, for the client that
// it was issued to.
func (s *Service) revokeClientToken(ctx context.Context, claims token.Claims) error {
	switch p := caller.From(ctx).Principal; {
	case p == nil || p.APIKeyID == "":
		return unsupportedToken("a token that was issued to a client is revoked by that client; authenticate with its API key")
	case p.APIKeyID != claims.APIKeyID:
		return s.refuseClient(ctx, audit.New(ctx, audit.TokenRevoke, audit.Denied, ""))
	case s.revoked.has(claims.ID):
		return nil
	}
	inserted := false
	_, err := s.log.Write(ctx, func(ctx context.Context, tx *changes.Tx) (err error) {
		inserted, err = insertRevokedToken(ctx, tx, claims.ID, claims.APIKeyID, claims.ExpiresAt.UnixMicro())
		if err != nil || !inserted {
			return err
		}
		n, err := countRevokedTokens(ctx, tx, claims.Subject, s.clock.Micros())
		switch {
		case err != nil:
			return err
		case n > maxRevokedTokens:
			return fault.New(fault.Limited, "LIMITED", "the API keys of this account have revoked %d tokens that have not expired yet, the most there may be; wait for their end, or revoke the key",
				maxRevokedTokens).After(time.Minute)
		}
		tx.Changed(changes.Token, claims.ID)
		tx.Record(audit.New(ctx, audit.TokenRevoke, audit.Success, "api_keys/"+claims.APIKeyID).With("token_id", claims.ID))
		return nil
	})
	if err == nil && !inserted { // by another call, perhaps on another instance
		_, err = s.log.Current(ctx)
	}
	if err != nil {
		return fmt.Errorf("revoke a client's token: %w", err)
	}
	return nil
}

func unsupportedToken(format string, args ...any) error {
	return fault.New(fault.Invalid, "UNSUPPORTED_TOKEN_TYPE", format, args...)
}

// ofAnotherClient says whether the caller is an API key, a client of its own:
// sessions and their refresh tokens belong to the public client, so it may
// neither spend nor revoke them (RFC 6749 §6, §10.4).
func ofAnotherClient(ctx context.Context) bool {
	p := caller.From(ctx).Principal
	return p != nil && p.APIKeyID != ""
}

func (s *Service) refuseClient(ctx context.Context, event audit.Event) error {
	event.Outcome = audit.Denied
	if err := s.audit.RecordRefusal(ctx, event.Because("wrong_client"), string(event.Action)+" wrong_client", event.Origin()); err != nil {
		return err
	}
	return fault.New(fault.Denied, "WRONG_CLIENT",
		"the token was issued to another client; a session's token belongs to the public client tollgate: send it without the credentials of an API key")
}
