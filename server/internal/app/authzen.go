package app

import (
	"context"

	"github.com/tollgatehq/tollgate/server/internal/authzen"
	"github.com/tollgatehq/tollgate/server/internal/decision"
	"github.com/tollgatehq/tollgate/server/internal/guard"
)

// authzen is the handler of OpenID AuthZEN's API.
func (a *App) authzen(decisions *decision.Service, g *guard.Guard) *authzen.Handler {
	return authzen.New(authzen.Options{
		Guard: g, Decisions: decisions, Sign: a.Auth.SigningKeys.SignMetadata,
		FindUser: func(ctx context.Context, idOrName string) (string, bool, error) {
			id, _, found, err := a.Auth.ResolveUser(ctx, a.db, idOrName)
			return id, found, err
		},
		Pages: a.pages,
		Resources: func(context.Context, string, string, int) ([]decision.Resource, error) { return nil, nil },
		Issuer: a.config.Issuer, Clock: a.clock, Log: a.out.Log,
	})
}
