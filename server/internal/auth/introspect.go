package auth

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/database"
)

// Introspection is what a token stands for at this moment (RFC 7662 §2.2).
// Every field but Active is unset for a token that is not active: why it is not
// is for nobody to know.
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

// Introspect looks at an access token, a refresh token or an API key, whose
// form tells which it is. A refresh token is active when Refresh would take it
// as the newest of its session; looking does not spend it. An access token that
// is for another audience than the caller's is not active, as in Verify. The error is not nil
// only when it cannot be decided.
func (s *Service) Introspect(ctx context.Context, token string) (Introspection, error) {
	switch {
	case isRefreshToken(token):
		return s.introspectRefresh(ctx, token)
	case strings.HasPrefix(token, APIKeyPrefix):
		v, err := s.Verify(ctx, Credential{APIKey: token})
		if err != nil || v.Reason != caller.ReasonOK {
			return Introspection{}, err
		}
		return s.introspected(v.Principal, Introspection{ClientID: v.Principal.APIKeyID}), nil
	default:
		v, err := s.Verify(ctx, Credential{AccessToken: token, Audience: caller.From(ctx).Accepts()})
		if v.Stray != nil {
			return Introspection{}, s.recordStray(ctx, v.Stray)
		}
		if err != nil || v.Reason != caller.ReasonOK {
			return Introspection{}, err
		}
		claims, reason := s.keys.verify(token, s.clock.Now())
		if reason != caller.ReasonOK { // it ended in between
			return Introspection{}, nil
		}
		return s.introspected(v.Principal, Introspection{
			ClientID: claims.ClientID, Audience: claims.Audience, ID: claims.ID, IssuedAt: claims.IssuedAt,
		}), nil
	}
}

// introspected adds what every bearer credential has.
func (s *Service) introspected(p *caller.Principal, i Introspection) Introspection {
	i.Active, i.TokenType, i.Issuer = true, tokenScheme, s.keys.issuer
	i.Subject, i.Username, i.SessionID, i.ExpiresAt = p.UserID, p.Username, p.SessionID, p.ExpiresAt
	i.AMR, i.AuthTime = p.AMR, p.AuthTime
	i.Scope = strings.Join(s.roles.Patterns(p), " ")
	return i
}

// introspectRefresh gives a refresh token neither a scope nor an audience: a
// service that is handed one as a bearer's token must not take it.
func (s *Service) introspectRefresh(ctx context.Context, token string) (Introspection, error) {
	now := s.clock.Now()
	session, err := sessionByToken(ctx, s.db, hashToken(token), now.UnixMicro(), now.Add(time.Second).UnixMicro())
	if errors.Is(err, database.ErrNoRows) {
		return Introspection{}, nil
	}
	if err != nil {
		return Introspection{}, err
	}
	who, err := s.identity(ctx, session.UserID)
	if err != nil {
		return Introspection{}, fmt.Errorf("read user %s: %w", session.UserID, err)
	}
	if who == (identity{}) || who.Disabled {
		return Introspection{}, nil
	}
	return Introspection{
		Active: true, TokenType: "refresh_token", ClientID: PublicClient, Issuer: s.keys.issuer,
		Subject: session.UserID, Username: who.Username, SessionID: session.ID,
		IssuedAt: time.UnixMicro(session.RefreshedAt), ExpiresAt: time.UnixMicro(session.IdleExpiresAt),
	}, nil
}
