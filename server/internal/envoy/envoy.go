// Package envoy answers Envoy in its own protocols: whether a request may go on
// (external authorization, ext_authz v3), and whether its limits allow it (the rate
// limit service, v3). It only translates; enforce and limits decide.
//
// Envoy tells "denied" from "error": what to do about an error its operator says,
// failure_mode_allow and failure_mode_deny. So whatever a client can bring about is
// an answer, and only what it cannot is an error: a configuration that says nothing,
// or something inside that fails.
package envoy

import (
	"context"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/clock"
	"github.com/tollgatehq/tollgate/server/internal/enforce"
	"github.com/tollgatehq/tollgate/server/internal/guard"
	"github.com/tollgatehq/tollgate/server/internal/limits"
	"github.com/tollgatehq/tollgate/server/internal/roles"
)

// Options are what a Handler needs.
type Options struct {
	Enforce        *enforce.Service
	Limits         *limits.Service
	TrustedProxies []netip.Prefix
	Clock          clock.Clock
	Log            *slog.Logger
}

// Handler serves both services. It is safe for concurrent use. The guard has
// admitted the proxy that calls.
type Handler struct {
	Options

	warned atomic.Int64 // when a limit was last missed, in Unix seconds
}

// New makes a Handler.
func New(o Options) *Handler { return &Handler{Options: o} }

// warnEvery is how often a mistake in Envoy's configuration is a line of the log.
const warnEvery = time.Minute

// missing tells the operator that a limit is named that there is not: its calls
// pass, as the contract of the service has it.
func (h *Handler) missing(ctx context.Context, name string) {
	now, last := h.Clock.Now().Unix(), h.warned.Load()
	if now-last < int64(warnEvery.Seconds()) || !h.warned.CompareAndSwap(last, now) {
		return
	}
	if !roles.ValidName(name) {
		name = "(not a name)" // it may be a client's
	}
	h.Log.WarnContext(ctx, "Envoy names a limit that there is not, so that nothing limits its calls", "limit", name)
}

// jsonType is the type of an error's body.
const jsonType = "application/json"

// field is a header with its name in lower case, as Envoy has them.
type field struct{ name, value string }

// fields are the headers of an answer: those with these names, in their order, and
// where the limits stand.
func fields(header http.Header, all []limits.Status, names ...string) []field {
	guard.WriteLimits(header, all)
	var list []field
	for _, name := range append(names, "RateLimit", "RateLimit-Policy") {
		if value := header.Get(name); value != "" {
			list = append(list, field{strings.ToLower(name), value})
		}
	}
	return list
}
