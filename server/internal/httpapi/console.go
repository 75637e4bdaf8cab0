package httpapi

import (
	"context"
	"net/http"
	"strings"

	"github.com/tollgatehq/tollgate/server/internal/auth"
	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/console"
	"github.com/tollgatehq/tollgate/server/internal/contract"
	"github.com/tollgatehq/tollgate/server/internal/decision"
	"github.com/tollgatehq/tollgate/server/internal/fault"
)

// newConsole makes the console's handler. Its session goes through the same guard as the
// RPCs and the OAuth endpoints.
func newConsole(o Options, authRPC http.Handler) (http.Handler, error) {
	return console.New(console.Options{
		Files: o.Console, RPC: authRPC, Seal: o.ConsoleSeal, Secure: strings.HasPrefix(o.Issuer, "https:"),
		Revoke: func(ctx context.Context, response http.Header, token string) error {
			rule := decision.Rule{Public: true, Action: contract.ActionRevoke}
			ctx, err := o.Guard.AdmitCredential(ctx, console.Root+"/session/logout", rule, auth.Credential{}, response)
			if err != nil {
				return err
			}
			return o.OAuth.RevokeToken(ctx, token)
		},
		Refuse: func(w http.ResponseWriter, r *http.Request, err error) {
			f := fault.Of(r.Context(), err)
			o.Guard.Count(f)
			if f.Kind == fault.Internal {
				o.Log.ErrorContext(r.Context(), "call failed", "path", r.URL.Path, "error", f.Cause)
			}
			writeFault(w, f, caller.From(r.Context()).RequestID)
		},
		Keep: keepErrors,
	})
}
