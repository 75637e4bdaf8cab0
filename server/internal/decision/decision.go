// Package decision is the one pipeline behind every way in: who is calling, how
// often, may they, and a record of refusals and of what else is to be recorded. Authorize decides for downstream
// services, the guard decides about calls of Tollgate's own API; both ask here.
package decision

import (
	"context"
	"net/netip"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/audit"
	"github.com/tollgatehq/tollgate/server/internal/auth"
	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/changes"
	"github.com/tollgatehq/tollgate/server/internal/clock"
	"github.com/tollgatehq/tollgate/server/internal/limits"
	"github.com/tollgatehq/tollgate/server/internal/recordings"
	"github.com/tollgatehq/tollgate/server/internal/roles"
)

// Rule is what a call asks of its caller. The zero Rule lets no caller pass.
type Rule struct {
	Permission string   // the permission needed
	AnyOf      []string // or one of these
	AllOf      []string // or all of these
	AnyUser    bool     // any good credential will do
	Public     bool     // none is needed, and none is looked at
	Self       string   // a person with this user id may pass without Permission
	SelfOnly   bool     // only the person with the user id Self may pass

	// BeforePassword: also who must first choose a new password may pass, if the
	// rest of the rule lets them. No other rule does.
	BeforePassword bool

	// ManagesLimits: limits count who holds "*", and never refuse them, so that no
	// limit keeps out those who can mend it.
	ManagesLimits bool

	// Sensitive: who passes by Permission also needs what StepUp says. Who
	// passes by Self does not, so that no user is locked out.
	Sensitive bool

	// NoRoute: nothing says what the call needs, so nobody may pass.
	NoRoute bool

	// Action is what limits match when there is no Permission.
	Action string

	// Cost is how much a call of Tollgate's own API counts; 0 means 1.
	Cost int64
}

// Request is a call to decide about.
type Request struct {
	Credential auth.Credential
	Rule       Rule
	Resource   string            // for the record and for conditions: "orders/42"
	Context    map[string]string // what custom limits count by, and conditions read
	IP         netip.Addr        // the zero Addr leaves limits per IP out
	UserAgent  string
	RequestID  string
	Cost       int64 // 0 means 1

	// Once is who asks, and the call's idempotency key: limits count it once. Empty:
	// it has none.
	Once string

	// Recheck is for a call that was let through before and goes on: limits do
	// not count it again.
	Recheck bool

	// What conditions read besides. These win over what is stored of the resource.
	ResourceAttributes map[string]any
	ActionProperties   map[string]any

	// AuthZEN's: these win over what is stored of the principal, and are added to
	// Context, of any type, for conditions only.
	PrincipalAttributes map[string]any
	Facts               map[string]any

	known map[string]any // what is stored of the resource, when it was read before; nil: not yet

	// MinRevision has the decision wait for a write that was answered elsewhere.
	MinRevision int64

	Source Source
}

// Source says whose call is decided about. It is a metric's label.
type Source string

// The sources.
const (
	SourceAPI     Source = "api"     // a call of Tollgate's own API
	SourceService Source = "service" // a call of a service, which asked by Authorize
	SourceAuthZEN Source = "authzen" // the same, asked by OpenID AuthZEN

	SourceForwardAuth Source = "forward_auth" // a proxy, by forward auth
	SourceExtAuthz    Source = "ext_authz"    // Envoy, by its external authorization
	SourceGateway     Source = "gateway"      // the gateway
)

// Decision is the outcome.
type Decision struct {
	Allowed    bool
	Reason     caller.Reason
	Principal  *caller.Principal // set when the credential is good
	Limits     []limits.Status   // the most restrictive first
	RetryAfter time.Duration     // set with ReasonLimited, unless waiting never helps
	Revision   int64             // the decision is at least as new as this
	MaxAge     time.Duration     // set with ReasonSignInRequired: how old a sign-in may be
	Verdict    roles.Verdict     // what the roles say, when they were asked
	GoodFor    time.Duration     // how long the principal stays as it is: see auth.GoodFor; 0: not good
}

// FindResource returns what is stored of a resource, nil when nothing is.
type FindResource func(ctx context.Context, kind, id string) (map[string]any, error)

// Service decides.
type Service struct {
	resource FindResource
	log      *changes.Log
	auth     *auth.Service
	roles    *roles.Service
	limits   *limits.Service
	audit    *audit.Service
	record   *recordings.Service
	clock    clock.Clock
	stepUp   StepUp
	watch    Watch
}

// Watch is told of decisions. It must not block.
type Watch struct {
	Decided func(source Source, reason caller.Reason)
	Refused func(context.Context, Request, Decision) // of those, one that refuses; may be nil
}

// New joins the four questions.
func New(log *changes.Log, a *auth.Service, r *roles.Service, resource FindResource, l *limits.Service, e *audit.Service, rec *recordings.Service, clk clock.Clock, stepUp StepUp, watch Watch) *Service {
	return &Service{resource: resource, log: log, auth: a, roles: r, limits: l, audit: e, record: rec, clock: clk, stepUp: stepUp, watch: watch}
}

// Decide verifies the credential, counts the call against every limit that
// applies, and checks the permission, in this order: a bad credential still
// counts against its IP address, a missing permission still counts against its
// user, and a caller over a limit learns nothing else. When everything is warm
// it does no I/O but for the limits' one round trip.
//
// A refusal is recorded before it is returned, and so is an allowed call that a
// recording matches. The error is Unavailable, when no decision could be made or
// recorded: then the call must not go ahead.
func (s *Service) Decide(ctx context.Context, r Request) (Decision, error) {
	d, written, err := s.decide(ctx, r)
	if err == nil && written != nil {
		err = written(ctx)
	}
	if err != nil && d.Allowed {
		return Decision{}, err
	}
	return d, err
}

// decide is Decide that may be ahead of the record: unless written is nil, the call must
// not go ahead before it returns nil.
func (s *Service) decide(ctx context.Context, r Request) (d Decision, written func(context.Context) error, err error) {
	if err := s.log.Ensure(ctx, r.MinRevision); err != nil {
		return Decision{}, nil, err
	}
	d = Decision{Revision: s.log.Revision(), Reason: caller.ReasonOK}
	var stray *caller.Principal // whose a token is that is meant for others

	if !r.Rule.Public {
		verified, err := s.auth.Verify(ctx, r.Credential)
		if err != nil {
			return Decision{}, nil, err
		}
		d.Reason, d.Principal, stray = verified.Reason, verified.Principal, verified.Stray
		if d.Reason == caller.ReasonOK {
			d.GoodFor = s.auth.GoodFor(d.Principal)
		}
	}

	counted := s.counted(r, d)
	taken := limits.Result{Allowed: true}
	if !r.Recheck {
		if taken, err = s.limits.Take(ctx, counted); err != nil {
			return Decision{}, nil, err
		}
	}
	d.Limits = taken.Limits

	switch {
	case !taken.Allowed:
		d.Reason, d.RetryAfter = caller.ReasonLimited, taken.RetryAfter
	case r.Rule.Public:
	default:
		if d.Verdict, err = s.judge(ctx, d.Reason, d.Principal, &r); err != nil {
			return Decision{}, nil, err
		}
		d.Reason = d.Verdict.Reason
	}
	d.Allowed = d.Reason == caller.ReasonOK
	if d.Reason == caller.ReasonSignInRequired {
		d.MaxAge = s.stepUp.RecentSignIn
	}
	s.watch.Decided(r.Source, d.Reason)
	if d.Allowed {
		written, err = s.recordAllowed(ctx, &r, d)
		return d, written, err
	}
	if s.watch.Refused != nil {
		s.watch.Refused(ctx, r, d)
	}
	return d, nil, s.recordRefusal(ctx, r, d, stray, taken)
}

// counted is the call as limits count it.
func (s *Service) counted(r Request, d Decision) limits.Request {
	counted := limits.Request{
		Permission: r.Rule.Permission, IP: r.IP, Context: r.Context, Cost: max(r.Cost, 1), Once: r.Once,
	}
	if len(r.Rule.AnyOf)+len(r.Rule.AllOf) > 0 {
		list := r.Rule.each()
		counted.Permission, counted.Also = list[0], list[1:]
	}
	if counted.Permission == "" {
		counted.Permission = r.Rule.Action
	}
	counted.NeverDeny = r.Rule.ManagesLimits && d.Reason == caller.ReasonOK && s.roles.HoldsAll(d.Principal)
	switch {
	case d.Principal != nil:
		counted.UserID, counted.APIKeyID = d.Principal.UserID, d.Principal.APIKeyID
	case !r.Rule.Public && r.Source == SourceAPI:
		counted.Also = []string{limits.Anonymous}
	}
	return counted
}

// Ensure has what others have changed in force here, as Decide does, for a caller
// that reads what a decision is about before it asks for one.
func (s *Service) Ensure(ctx context.Context) error { return s.log.Ensure(ctx, 0) }

// Recheck decides again about a caller who was let through before, a stream's.
// It counts and records nothing.
func (s *Service) Recheck(ctx context.Context, r Request) (Decision, error) {
	if err := s.log.Ensure(ctx, 0); err != nil {
		return Decision{}, err
	}
	verified, err := s.auth.Verify(ctx, r.Credential)
	if err != nil {
		return Decision{}, err
	}
	v, err := s.judge(ctx, verified.Reason, verified.Principal, &r)
	if err != nil {
		return Decision{}, err
	}
	return Decision{Allowed: v.Reason == caller.ReasonOK, Reason: v.Reason, Principal: verified.Principal, Verdict: v}, nil
}

// judge checks the rule for a caller whose credential was verified as reason.
func (s *Service) judge(ctx context.Context, reason caller.Reason, p *caller.Principal, r *Request) (roles.Verdict, error) {
	rule := &r.Rule
	own := p != nil && rule.Self != "" && rule.Self == p.UserID && p.APIKeyID == "" &&
		(!rule.SelfOnly || p.Kind == caller.Person) // a service account may be asked about by its id
	if reason == caller.ReasonPasswordChangeRequired && rule.BeforePassword && (own || rule.AnyUser) {
		return roles.Verdict{Reason: caller.ReasonOK}, nil
	}
	switch {
	case rule.NoRoute:
		return roles.Verdict{Reason: caller.ReasonRouteMissing}, nil
	case reason != caller.ReasonOK:
		return roles.Verdict{Reason: reason}, nil
	case rule.AnyUser, own:
		return roles.Verdict{Reason: caller.ReasonOK}, nil
	case rule.SelfOnly:
		return roles.Verdict{Reason: caller.ReasonSelfOnly}, nil
	}
	v, err := s.judgeRoles(ctx, p, r)
	if err == nil && v.Reason == caller.ReasonOK && rule.Sensitive {
		v.Reason = s.stepUp.judge(p, s.clock.Now())
	}
	return v, err
}
