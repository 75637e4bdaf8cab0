// Package httpapi serves the API's port: Connect, gRPC and gRPC-Web;
// REST under /v1; Server-Sent Events; the key set; health.
package httpapi

import (
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"net/netip"

	"connectrpc.com/connect"
	"connectrpc.com/grpchealth"
	"connectrpc.com/grpcreflect"
	"connectrpc.com/vanguard"
	"github.com/tollgatehq/tollgate/gen/tollgate/v1/tollgatev1connect"
	"github.com/tollgatehq/tollgate/server/internal/audit"
	"github.com/tollgatehq/tollgate/server/internal/audit/export"
	"github.com/tollgatehq/tollgate/server/internal/auth"
	"github.com/tollgatehq/tollgate/server/internal/authzen"
	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/clock"
	"github.com/tollgatehq/tollgate/server/internal/console"
	"github.com/tollgatehq/tollgate/server/internal/contract"
	"github.com/tollgatehq/tollgate/server/internal/decision"
	"github.com/tollgatehq/tollgate/server/internal/enforce"
	"github.com/tollgatehq/tollgate/server/internal/envoy"
	"github.com/tollgatehq/tollgate/server/internal/fault"
	"github.com/tollgatehq/tollgate/server/internal/guard"
	"github.com/tollgatehq/tollgate/server/internal/inflight"
)

// Options are the handlers and what they need.
type Options struct {
	Auth      tollgatev1connect.AuthServiceHandler
	Roles     tollgatev1connect.RolesServiceHandler
	Limits    tollgatev1connect.LimitsServiceHandler
	Routes    tollgatev1connect.RoutesServiceHandler
	Resources tollgatev1connect.ResourcesServiceHandler
	Audit     tollgatev1connect.AuditServiceHandler
	Overview  tollgatev1connect.OverviewServiceHandler

	AuthZEN *authzen.Handler
	Enforce *enforce.Service
	Envoy   *envoy.Handler

	Guard          *guard.Guard
	Interceptors   []connect.Interceptor // the outermost first; the guard is the last
	Events         *audit.Service
	Exports        *export.Exporter
	JWKS           func() []byte
	OAuth          *auth.Service
	Issuer         string // of access tokens
	Version        string // of the program
	Ready          func(context.Context) []Dependency
	Health         grpchealth.Checker
	Console        fs.FS  // the console's files; nil: there is no console
	ConsoleSeal    []byte // the key that marks the console's cookies
	Reflection     bool
	PublicTools    bool // reflection takes no credential
	TrustedProxies []netip.Prefix
	Shares         *inflight.Shares                 // of all ports of the API
	Refused        func(reason string, cause error) // counts refusals for want of places or memory
	Clock          clock.Clock
	Log            *slog.Logger
}

// New makes the handler of the port.
func New(o Options) (http.Handler, error) {
	codec := newStrictJSON()
	with := connect.WithHandlerOptions(
		connect.WithInterceptors(o.Interceptors...),
		connect.WithCodec(codec),
		connect.WithReadMaxBytes(MaxBody),
		withBoundedGzip(),
		connect.WithCompressMinBytes(compressFrom),
	)
	mux := http.NewServeMux()
	var rest []*vanguard.Service
	add := func(path string, handler http.Handler) {
		mux.Handle(path, handler)
		rest = append(rest, vanguard.NewService(path, handler,
			vanguard.WithTargetProtocols(vanguard.ProtocolConnect),
			vanguard.WithTargetCodecs(vanguard.CodecProto),
			vanguard.WithNoTargetCompression(),
			vanguard.WithMaxMessageBufferBytes(MaxBody),
		))
	}
	_, authRPC := tollgatev1connect.NewAuthServiceHandler(o.Auth, with)
	add(tollgatev1connect.NewAuthServiceHandler(o.Auth, with))
	add(tollgatev1connect.NewRolesServiceHandler(o.Roles, with))
	add(tollgatev1connect.NewLimitsServiceHandler(o.Limits, with))
	add(tollgatev1connect.NewRoutesServiceHandler(o.Routes, with))
	add(tollgatev1connect.NewResourcesServiceHandler(o.Resources, with))
	add(tollgatev1connect.NewAuditServiceHandler(o.Audit, with))
	add(tollgatev1connect.NewOverviewServiceHandler(o.Overview, with))

	// Not under /v1: only proxies call them, over gRPC.
	mux.Handle(contract.ExtAuthzCheck, connect.NewUnaryHandlerSimple(contract.ExtAuthzCheck, o.Envoy.Check, with))
	mux.Handle(contract.ShouldRateLimit, connect.NewUnaryHandlerSimple(contract.ShouldRateLimit, o.Envoy.ShouldRateLimit, with))

	transcoder, err := vanguard.NewTranscoder(rest, vanguard.WithCodec(func(vanguard.TypeResolver) vanguard.Codec {
		return restJSON{codec}
	}))
	if err != nil {
		return nil, fmt.Errorf("make the REST transcoder: %w", err)
	}
	rests, err := newRESTQueries(transcoder)
	if err != nil {
		return nil, fmt.Errorf("make the REST transcoder: %w", err)
	}
	mux.Handle("/v1/", rests)
	mux.Handle(watchPath, &events{guard: o.Guard, service: o.Events, codec: codec})
	mux.Handle(exportPath, &exports{guard: o.Guard, exporter: o.Exports})
	mux.Handle(tlogPath, &tlog{guard: o.Guard, audit: o.Audit})
	mux.Handle("GET /.well-known/jwks.json", jwks(o.JWKS))
	(&oauth{guard: o.Guard, service: o.OAuth, log: o.Log}).register(mux, o.Issuer)
	o.AuthZEN.Register(mux, keepErrors)
	if o.Console != nil {
		pages, err := newConsole(o, authRPC)
		if err != nil {
			return nil, err
		}
		mux.Handle(console.Root, pages)
		mux.Handle(console.Root+"/", pages)
	}
	mux.Handle("GET "+healthPath, healthz(o.Version))
	mux.Handle("GET "+readyPath, readyz(o.Ready))
	mux.Handle(grpchealth.NewHandler(o.Health))
	if o.Reflection {
		reflector := grpcreflect.NewStaticReflector(contract.ServiceNames()...)
		for _, add := range []func(*grpcreflect.Reflector, ...connect.HandlerOption) (string, http.Handler){
			grpcreflect.NewHandlerV1, grpcreflect.NewHandlerV1Alpha,
		} {
			path, handler := add(reflector)
			if !o.PublicTools {
				handler = signedIn(o.Guard, handler)
			}
			mux.Handle(path, handler)
		}
	}
	forward := &forwardAuth{guard: o.Guard, enforce: o.Enforce, trusted: o.TrustedProxies}
	all := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if isForwardAuth(r) { // not by the mux, which redirects paths that it would spell otherwise
			forward.ServeHTTP(w, r)
			return
		}
		if refused := misusedAuthorize(r); refused != nil {
			writeFault(w, refused, caller.From(r.Context()).RequestID)
			return
		}
		mux.ServeHTTP(w, r)
	})
	return withSecurityHeaders(o.Console != nil, &middleware{
		next: all, trusted: o.TrustedProxies, clock: o.Clock, log: o.Log,
		limiters: newLimiters(o.Shares), refused: o.Refused,
	}), nil
}

// signedIn lets only callers with a good credential pass.
func signedIn(g *guard.Guard, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		credential, err := guard.Bearer(r.Header)
		if err == nil {
			_, err = g.AdmitCredential(r.Context(), r.URL.Path,
				decision.Rule{AnyUser: true, Action: contract.ActionReflection}, credential, w.Header())
		}
		if err != nil {
			refuse(w, r, fault.Of(r.Context(), err), caller.From(r.Context()).RequestID)
			return
		}
		next.ServeHTTP(w, r)
	})
}
