package app

import (
	"io/fs"
	"net/http"
	"net/netip"

	"connectrpc.com/connect"
	"github.com/tollgatehq/tollgate/console"
	"github.com/tollgatehq/tollgate/server/internal/audit"
	"github.com/tollgatehq/tollgate/server/internal/audit/export"
	"github.com/tollgatehq/tollgate/server/internal/audit/hold"
	"github.com/tollgatehq/tollgate/server/internal/auth"
	"github.com/tollgatehq/tollgate/server/internal/authzen"
	"github.com/tollgatehq/tollgate/server/internal/decision"
	"github.com/tollgatehq/tollgate/server/internal/enforce"
	"github.com/tollgatehq/tollgate/server/internal/envoy"
	"github.com/tollgatehq/tollgate/server/internal/grpcapi"
	"github.com/tollgatehq/tollgate/server/internal/guard"
	"github.com/tollgatehq/tollgate/server/internal/httpapi"
	"github.com/tollgatehq/tollgate/server/internal/inflight"
	"github.com/tollgatehq/tollgate/server/internal/limits"
	"github.com/tollgatehq/tollgate/server/internal/overview"
	"github.com/tollgatehq/tollgate/server/internal/policyfeed"
	"github.com/tollgatehq/tollgate/server/internal/recordings"
	"github.com/tollgatehq/tollgate/server/internal/resources"
	"github.com/tollgatehq/tollgate/server/internal/roles"
	"github.com/tollgatehq/tollgate/server/internal/routes"
)

// ports is what the ports of the API have in common: the handlers, the guard before
// them, and the bounds of what is under way.
type ports struct {
	auth      *auth.Handler
	roles     rolesHandler
	limits    *limits.Handler
	routes    *routes.Handler
	resources *resources.Handler
	audit     auditHandler
	overview  *overview.Handler
	authzen   *authzen.Handler
	envoy     *envoy.Handler
	enforce   *enforce.Service

	guard        *guard.Guard
	interceptors []connect.Interceptor
	shares       *inflight.Shares
	proxies      []netip.Prefix
}

// rolesHandler has the service's parts: the roles, and the decisions.
type rolesHandler struct {
	*roles.Handler
	*decision.Authorizer
	*policyfeed.Watcher
}

// auditHandler has the service's parts: the log, its exports, what it records of
// allowed calls, and what is kept of it.
type auditHandler struct {
	*audit.Handler
	*export.Exporter
	*recordingsHandler
	*holdHandler
}

type (
	recordingsHandler = recordings.Handler
	holdHandler       = hold.Handler
)

func (a *App) openPorts() (*ports, error) {
	decisions := a.decisions()
	g, err := guard.New(guard.Options{
		Decisions: decisions, Audit: a.audit, Log: a.out.Log, Draining: a.draining,
		MaxInFlight: a.config.MaxInFlight, Refused: a.refused.count,
	})
	if err != nil {
		return nil, err
	}
	proxies, err := a.config.proxies()
	if err != nil {
		return nil, err
	}
	enforcer := a.enforcer(decisions)
	return &ports{
		auth:      auth.NewHandler(a.Auth),
		roles:     rolesHandler{roles.NewHandler(a.roles), decision.NewAuthorizer(decisions, a.pages, g.Each), policyfeed.NewWatcher(a.policy)},
		limits:    limits.NewHandler(a.Limits),
		routes:    routes.NewHandler(a.routes),
		resources: resources.NewHandler(a.resources),
		audit: auditHandler{
			audit.NewHandler(a.audit), export.NewExporter(export.New(a.audit, a.config.Version)),
			recordings.NewHandler(a.recorded), hold.NewHandler(hold.New(a.db, a.log, a.clock, a.pages)),
		},
		overview: overview.NewHandler(a.overview),
		authzen:  a.authzen(decisions, g),
		envoy: envoy.New(envoy.Options{
			Enforce: enforcer, Limits: a.Limits, TrustedProxies: proxies, Clock: a.clock, Log: a.out.Log,
		}),
		enforce: enforcer,
		guard:   g, interceptors: append(a.telemetry.Interceptors(), a.metrics, g),
		shares: inflight.NewShares(a.config.MaxInFlight), proxies: proxies,
	}, nil
}

// Handler is everything that the API's port serves.
func (a *App) Handler() (http.Handler, error) {
	p, err := a.openPorts()
	if err != nil {
		return nil, err
	}
	return a.handler(p)
}

func (a *App) handler(p *ports) (http.Handler, error) {
	var pages fs.FS
	if a.config.console() {
		pages = console.Files()
	}
	return httpapi.New(httpapi.Options{
		Console: pages, ConsoleSeal: a.cookies,
		Auth: p.auth, Roles: p.roles, Limits: p.limits, Routes: p.routes, Resources: p.resources, Audit: p.audit,
		Overview: p.overview, AuthZEN: p.authzen, Enforce: p.enforce, Envoy: p.envoy,
		Guard: p.guard, Interceptors: p.interceptors, Events: a.audit, Exports: p.audit.Exporter, JWKS: a.Auth.SigningKeys.JWKS,
		OAuth: a.Auth, Issuer: a.config.Issuer, Version: a.config.Version,
		Ready: a.readiness, Health: health{a}, Reflection: a.config.Reflection, PublicTools: a.config.local(),
		TrustedProxies: p.proxies, Shares: p.shares, Refused: a.refused.count, Clock: a.clock, Log: a.out.Log,
	})
}

// grpc is the server of the gRPC port.
func (a *App) grpc(p *ports) (*grpcapi.Server, error) {
	return grpcapi.New(grpcapi.Options{
		Handlers: map[string]any{
			"tollgate.v1.AuthService": p.auth, "tollgate.v1.RolesService": p.roles, "tollgate.v1.LimitsService": p.limits,
			"tollgate.v1.RoutesService": p.routes, "tollgate.v1.ResourcesService": p.resources, "tollgate.v1.AuditService": p.audit,
			"tollgate.v1.OverviewService":         p.overview,
			"envoy.service.auth.v3.Authorization": p.envoy, "envoy.service.ratelimit.v3.RateLimitService": p.envoy,
		},
		Streams: map[string]grpcapi.Stream{
			"/tollgate.v1.AuthService/WatchRevocations": grpcapi.StreamOf(p.auth.Revocations),
			"/tollgate.v1.AuditService/WatchEvents":     grpcapi.StreamOf(p.audit.Watch),
			"/tollgate.v1.AuditService/ExportEvents":    grpcapi.StreamOf(p.audit.Export),
			"/tollgate.v1.RolesService/WatchPolicy":     grpcapi.StreamOf(p.roles.Policy),
		},
		Guard: p.guard, Interceptors: p.interceptors,
		Health: health{a}, Reflection: a.config.Reflection, PublicTools: a.config.local(),
		TrustedProxies: p.proxies, Shares: p.shares, Refused: a.refused.count, Clock: a.clock, Log: a.out.Log,
	})
}

// decisions and enforcer are the pipeline, for whatever port asks.
func (a *App) decisions() *decision.Service {
	return decision.New(a.log, a.Auth, a.roles, a.resources.Attributes, a.Limits, a.audit, a.recorded, a.clock, a.stepUp(), decision.Watch{
		Decided: a.overview.Decided, Refused: a.overview.Refused,
	})
}

func (a *App) enforcer(decisions *decision.Service) *enforce.Service {
	return enforce.New(enforce.Options{
		Decisions: decisions, Routes: a.routes.Table, Sign: a.Auth.SigningKeys.SignAssertion, Clock: a.clock, Audience: a.config.Audience,
	})
}
