package guard

import (
	"cmp"
	"context"
	"net/http"

	"github.com/tollgatehq/tollgate/server/internal/auth"
	"github.com/tollgatehq/tollgate/server/internal/auth/apikey"
	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/decision"
	"github.com/tollgatehq/tollgate/server/internal/fault"
)

// ProxyKey is the header with the API key of a proxy. Authorization is its
// client's.
const ProxyKey = "X-Tollgate-Key"

// proxyRule is what a proxy's own key needs: what a service's does.
var proxyRule = decision.Rule{Permission: "tollgate:authorize"}

// AdmitProxy admits a proxy, which says what its clients ask for and from where:
// by the API key in X-Tollgate-Key or, without one, by the address of its
// connection, one of the trusted proxies'. Whoever else asks is Denied,
// UNTRUSTED_PROXY. The refusal is recorded under name.
func (g *Guard) AdmitProxy(ctx context.Context, name string, header, response http.Header) (context.Context, error) {
	keys := header.Values(ProxyKey)
	switch {
	case len(keys) == 0 && caller.From(ctx).TrustedPeer:
		return ctx, nil
	case len(keys) > 1:
		return ctx, fault.New(fault.Denied, "UNTRUSTED_PROXY",
			"%s is there %d times: have the proxy overwrite what its client sent", ProxyKey, len(keys))
	}
	var credential auth.Credential
	if len(keys) > 0 { // an access token is nobody's proof of being a proxy
		credential.APIKey = cmp.Or(keys[0], apikey.Prefix) // given, but empty: a bad one
	}
	admitted, err := g.AdmitCredential(ctx, name, proxyRule, credential, response)
	if fault.Is(err, fault.Unauthenticated) || fault.Is(err, fault.Denied) {
		// Not a 401: the proxy would pass it on, and its client would sign in again.
		return ctx, fault.New(fault.Denied, "UNTRUSTED_PROXY",
			"only a proxy may ask this: give it the API key of a service account with the role service, as %s, or add its address to --trusted-proxies", ProxyKey).Because(err)
	}
	return admitted, err
}
