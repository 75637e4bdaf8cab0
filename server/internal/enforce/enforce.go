// Package enforce decides about a request on its way to a protected service, for
// whatever stands in front of it: forward auth, Envoy's ext_authz and the gateway.
// What the request needs, the route table or the proxy's own configuration says;
// whether its caller may make it, the decision pipeline.
package enforce

import (
	"cmp"
	"context"
	"net/http"
	"net/netip"
	"strings"
	"unicode/utf8"

	"github.com/tollgatehq/tollgate/server/internal/auth"
	"github.com/tollgatehq/tollgate/server/internal/auth/apikey"
	"github.com/tollgatehq/tollgate/server/internal/auth/token"
	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/clock"
	"github.com/tollgatehq/tollgate/server/internal/contract"
	"github.com/tollgatehq/tollgate/server/internal/decision"
	"github.com/tollgatehq/tollgate/server/internal/fault"
	"github.com/tollgatehq/tollgate/server/internal/guard"
	"github.com/tollgatehq/tollgate/server/internal/limits"
	"github.com/tollgatehq/tollgate/server/internal/routes"
)

// Options are what a Service needs.
type Options struct {
	Decisions *decision.Service
	Routes    func() (*routes.Table, error)
	Sign      func(token.Assertion) (string, error)
	Clock     clock.Clock
	Audience  string // of assertions whose request asks for none
}

// Service decides. It is safe for concurrent use.
type Service struct{ Options }

// New makes a Service.
func New(o Options) *Service { return &Service{o} }

// Needs is what a proxy's own configuration says that a request needs.
type Needs struct {
	Permission    string
	Authenticated bool // any good credential will do; Permission is what limits match
	Resource      string
	Cost          int64 // 0: 1
	Context       map[string]string
}

// Request is a request as its caller sent it.
type Request struct {
	Source     decision.Source
	Credential auth.Credential
	Needs      *Needs // nil: what its route says

	Method string
	Host   string // maybe with a port; empty: not known
	Path   string // as it was sent, escapes and all, without the query; empty, with Needs: not known

	IP        netip.Addr
	UserAgent string
	RequestID string

	// Audience is the assertion's; empty: the one of the proxy's account, or
	// Options.Audience. Access tokens must be for the latter two, whatever it is.
	Audience string
}

// Answer is who may make the request, and where its limits stand.
type Answer struct {
	Principal *caller.Principal // nil: not known, or of no matter
	Route     *routes.Route     // nil: none was looked for or found
	Limits    []limits.Status
	RequestID string

	permission, resource, audience string
}

// Decide says whether the request may go on. A refusal is an error, Unauthenticated,
// Denied or Limited, and is on record; the answer still has the limits. An
// Invalid error is about the request's host or path. With any other error nothing
// is known, and the request must not go on.
func (s *Service) Decide(ctx context.Context, r Request) (Answer, error) {
	accepts := caller.From(ctx).Accepts()
	a := Answer{RequestID: r.RequestID, audience: cmp.Or(r.Audience, accepts, s.Audience)}
	asked, route, err := s.needs(ctx, r)
	if a.Route = route; err != nil {
		return a, err
	}
	asked.Credential = r.Credential
	asked.Credential.Audience = accepts
	asked.IP, asked.UserAgent, asked.RequestID, asked.Source = r.IP, r.UserAgent, r.RequestID, r.Source
	a.permission, a.resource = asked.Rule.Permission, asked.Resource
	d, err := s.Decisions.Decide(ctx, asked)
	if err != nil {
		return a, err
	}
	a.Limits, a.Principal = d.Limits, d.Principal
	if !d.Allowed {
		return a, guard.Refusal(d, asked.Rule)
	}
	return a, nil
}

// Recheck says whether a request that Decide let through may still go on, by what
// holds now: nil, or an error as of Decide. It counts and records nothing.
func (s *Service) Recheck(ctx context.Context, r Request) error {
	asked, _, err := s.needs(ctx, r)
	if err != nil || asked.Rule.Public {
		return err
	}
	asked.Credential, asked.IP = r.Credential, r.IP
	asked.Credential.Audience = caller.From(ctx).Accepts()
	d, err := s.Decisions.Recheck(ctx, asked)
	if err == nil && !d.Allowed {
		err = guard.Refusal(d, asked.Rule)
	}
	return err
}

// needs is what a request needs: what its proxy's configuration says or, without
// that, its route.
func (s *Service) needs(ctx context.Context, r Request) (asked decision.Request, route *routes.Route, err error) {
	if n := r.Needs; n != nil {
		// The proxy has found its configuration by the path: what a service may read in
		// another way would get there under a permission that is for something else.
		if r.Path != "" {
			if err := routes.CheckPath(r.Path); err != nil {
				return asked, nil, err
			}
		}
		return decision.Request{Rule: n.rule(), Resource: n.Resource, Cost: n.Cost, Context: n.Context}, nil, nil
	}
	if err := s.Decisions.Ensure(ctx); err != nil { // before the table is read, which may be an old one
		return asked, nil, err
	}
	table, err := s.Routes()
	if err != nil {
		return asked, nil, err
	}
	if r.Host == "" && table.HasHosts() {
		return asked, nil, BadRequest("the request's host is not known, and routes are for certain hosts: send X-Original-URL, or X-Forwarded-Host")
	}
	match, found, err := table.Match(r.Method, r.Host, r.Path)
	if err != nil {
		return asked, nil, err
	}
	asked.Rule = decision.Rule{NoRoute: true, Action: contract.ActionNoRoute}
	if found {
		route = match.Route
		asked = decision.Request{Rule: ruleOf(route), Resource: match.Resource, Cost: route.Cost, Context: match.Context}
	}
	asked.Resource = cmp.Or(asked.Resource, described(r))
	return asked, route, nil
}

func (n *Needs) rule() decision.Rule {
	if n.Authenticated {
		return decision.Rule{AnyUser: true, Action: cmp.Or(n.Permission, contract.ActionAuthenticated)}
	}
	return decision.Rule{Permission: n.Permission}
}

func ruleOf(r *routes.Route) decision.Rule {
	switch {
	case r.Public:
		return decision.Rule{Public: true, Action: r.Counted()}
	case r.Authenticated:
		return decision.Rule{AnyUser: true, Action: r.Counted()}
	default:
		return decision.Rule{Permission: r.Permission}
	}
}

// described is what a request without a resource is recorded under. Its path was
// found to be one before.
func described(r Request) string {
	text := r.Method + " " + r.Host + r.Path
	for len(text) > maxResource || !utf8.ValidString(text) {
		text = text[:min(len(text)-1, maxResource)]
	}
	return text
}

// CredentialOf reads the credential of a request to a service: one bearer
// credential in Authorization (RFC 6750 §2.1), or an API key in X-Api-Key. What is
// neither, or both, is a credential that is never good.
func CredentialOf(authorization, apiKey []string) auth.Credential {
	header := http.Header{"Authorization": authorization}
	credential, err := guard.Bearer(header)
	if len(apiKey) > 0 {
		if len(authorization) > 0 || len(apiKey) > 1 || !strings.HasPrefix(apiKey[0], apikey.Prefix) {
			return auth.Credential{APIKey: apikey.Prefix}
		}
		return auth.Credential{APIKey: apiKey[0]}
	}
	if err != nil {
		return auth.Credential{APIKey: apikey.Prefix}
	}
	return credential
}

// BadRequest is the error for a question that says too little, or different things.
func BadRequest(format string, args ...any) *fault.Error {
	return fault.New(fault.Invalid, "BAD_PROXY_REQUEST", format, args...)
}
