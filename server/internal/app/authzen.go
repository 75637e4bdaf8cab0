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
		Resources: func(ctx context.Context, kind, after string, n int) ([]decision.Resource, error) {
			list, err := a.resources.After(ctx, kind, after, n)
			found := make([]decision.Resource, len(list))
			for i, r := range list {
				found[i] = decision.Resource{ID: r.ID, Attributes: r.Attributes}
			}
			return found, err
		},
		Issuer: a.config.Issuer, Clock: a.clock, Log: a.out.Log,
	})
}
