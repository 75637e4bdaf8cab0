package auth

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/auth/apikey"
	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/database"
)

// Introspection is what a token stands for at this moment (RFC 7662 §2.2).
// Every field but Active is unset for a token that is not active, which hides
// why it is not.
type Introspection struct {
	Active    bool
	TokenType string // "Bearer"; "refresh_token" for what must not be taken for a bearer's
	Scope     string // permission patterns: all that it lets its bearer do now
	ClientID  string
	Username  string
	Subject   string // the user's id
	Issuer    string
	Audience  string
	ID        string // jti
	SessionID string
	IssuedAt  time.Time // zero: unknown
	ExpiresAt time.Time // zero: never
	AMR       []string  // how the user signed in (RFC 8176); empty: not by a sign-in, or unknown
	AuthTime  time.Time // when (RFC 9470 §6.2); zero: not by a sign-in, or unknown
}

// Introspect describes an access token, a refresh token or an API key; the form
// tells which it is. A refresh token is active when Refresh would take it as the
// newest of its session; it is not spent. An access token that is for another
// audience than the caller's is not active, as in Verify. The error is not nil
// only when it cannot be decided.
func (s *Service) Introspect(ctx context.Context, token string) (Introspection, error) {
	if hash, ok := parseRefreshToken(token); ok {
		return s.introspectRefresh(ctx, hash)
	}
	credential := Credential{AccessToken: token, Audience: caller.From(ctx).Accepts()}
	if strings.HasPrefix(token, apikey.Prefix) {
		credential = Credential{APIKey: token}
	}
	v, err := s.Verify(ctx, credential)
	if v.Stray != nil {
		return Introspection{}, s.recordStray(ctx, v.Stray)
	}
	if err != nil || v.Reason != caller.ReasonOK {
		return Introspection{}, err
	}
	p := v.Principal
	i := Introspection{
		Active: true, TokenType: tokenScheme, Issuer: s.SigningKeys.Issuer, ClientID: p.APIKeyID,
		Subject: p.UserID, Username: p.Username, SessionID: p.SessionID, ExpiresAt: p.ExpiresAt,
		AMR: p.AMR, AuthTime: p.AuthTime, Scope: strings.Join(s.roles.Patterns(p), " "),
	}
	if c := v.Claims; c != nil {
		i.ClientID, i.Audience, i.ID, i.IssuedAt = c.ClientID, c.Audience, c.ID, c.IssuedAt
	}
	return i, nil
}

// introspectRefresh gives a refresh token neither a scope nor an audience: a
// service that is handed one as a bearer's token must not take it.
func (s *Service) introspectRefresh(ctx context.Context, hash []byte) (Introspection, error) {
	now := s.clock.Now()
	session, err := getSessionByToken(ctx, s.db, hash, now.UnixMicro(), now.Add(time.Second).UnixMicro())
	if errors.Is(err, database.ErrNoRows) {
		return Introspection{}, nil
	}
	if err != nil {
		return Introspection{}, fmt.Errorf("introspect a refresh token: %w", err)
	}
	who, err := s.identity(ctx, session.UserID)
	if err != nil {
		return Introspection{}, fmt.Errorf("read user %s: %w", session.UserID, err)
	}
	if who == (identity{}) || who.Disabled {
		return Introspection{}, nil
	}
	return Introspection{
		Active: true, TokenType: "refresh_token", ClientID: PublicClient, Issuer: s.SigningKeys.Issuer,
		Subject: session.UserID, Username: who.Username, SessionID: session.ID,
		IssuedAt: time.UnixMicro(session.RefreshedAt), ExpiresAt: time.UnixMicro(session.IdleExpiresAt),
	}, nil
}
