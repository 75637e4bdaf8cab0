package guard

import (
	"context"
	"net/http"

	"github.com/tollgatehq/tollgate/server/internal/audit"
	"github.com/tollgatehq/tollgate/server/internal/auth"
	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/decision"
)

// AdmitPlain is Admit for a door that is no RPC, whose credential may come from
// elsewhere than a bearer header: it limits, authorizes and records the same.
// The name is recorded as what was called.
func (g *Guard) AdmitPlain(ctx context.Context, name string, r decision.Rule, credential auth.Credential, response http.Header) (context.Context, error) {
	origin := caller.From(ctx)
	d, err := g.decisions.Decide(ctx, decision.Request{
		Credential: credential, Rule: r, Resource: name,
		IP: origin.IP, UserAgent: origin.UserAgent, RequestID: origin.RequestID,
		Event: audit.TollgateRefused,
	})
	if err != nil {
		return ctx, err
	}
	writeLimits(response, d.Limits)
	if !d.Allowed {
		return ctx, refusal(d, rule{Rule: r})
	}
	origin.Principal = d.Principal
	return caller.With(ctx, origin), nil
}
