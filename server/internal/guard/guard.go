// Package guard is the layer that every RPC passes before its handler runs:
// authenticate, limit, authorize, validate; and after it: map errors, record
// refusals, contain panics.
package guard

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"maps"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"buf.build/go/protovalidate"
	"connectrpc.com/connect"
	"github.com/tollgatehq/tollgate/server/internal/audit"
	"github.com/tollgatehq/tollgate/server/internal/auth"
	"github.com/tollgatehq/tollgate/server/internal/auth/apikey"
	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/contract"
	"github.com/tollgatehq/tollgate/server/internal/decision"
	"github.com/tollgatehq/tollgate/server/internal/fault"
	"github.com/tollgatehq/tollgate/server/internal/inflight"
	"github.com/tollgatehq/tollgate/server/internal/metrics"
	"google.golang.org/protobuf/proto"
)

// recheckEvery is how often a stream's caller is looked at again.
const recheckEvery = time.Second

// Guard is a connect.Interceptor.
type Guard struct {
	decisions *decision.Service
	audit     *audit.Service
	validator protovalidate.Validator
	rules     map[string]rule
	log       *slog.Logger
	draining  context.Context // streams end with it

	// Bounds in all and per principal, by user id: callers at many addresses.
	calls   *inflight.Limiter[string]
	streams *inflight.Limiter[string]
	refused func(reason string, cause error)
}

// Options are what a Guard needs.
type Options struct {
	Decisions *decision.Service
	Audit     *audit.Service
	Log       *slog.Logger
	Draining  context.Context // streams end when it does

	MaxInFlight int // calls that run at once; 0: 1024
	// Refused counts calls that are turned away without being served, by a
	// reason of metrics' closed set and what is known of the cause.
	Refused func(reason string, cause error)
}

const (
	defaultCalls = 1024
	// maxStreams is how many streams may be open at once.
	maxStreams = 1000
)

// New reads the rules of all RPCs; it fails when one has none.
func New(o Options) (*Guard, error) {
	rules, err := readRules(contract.Methods())
	if err != nil {
		return nil, err
	}
	for _, procedure := range contract.ProxyProcedures() {
		rules[procedure] = rule{proxy: true}
	}
	validator, err := protovalidate.New()
	if err != nil {
		return nil, err
	}
	return &Guard{
		decisions: o.Decisions, audit: o.Audit, validator: validator, rules: rules, log: o.Log, draining: o.Draining,
		calls: inflight.New[string](int64(cmp.Or(o.MaxInFlight, defaultCalls))), streams: inflight.New[string](maxStreams),
		refused: o.Refused,
	}, nil
}

// Admit decides about a call and returns the context that its handler runs in.
// The response's header gets the state of the limits that counted the call.
func (g *Guard) Admit(ctx context.Context, procedure string, header, response http.Header, message any) (context.Context, error) {
	r, known := g.rules[procedure]
	if !known {
		return ctx, fault.New(fault.Denied, "NO_GUARD", "%s cannot be called: its RPC has no option (tollgate.v1.guard)", procedure)
	}
	if r.proxy {
		return g.AdmitProxy(ctx, procedure, header, response)
	}
	credential, err := Bearer(header)
	if err != nil && !r.Public {
		return ctx, err
	}
	if ctx, err = g.AdmitCredential(ctx, procedure, r.of(message), credential, response); err != nil {
		return ctx, err
	}
	if m, ok := message.(proto.Message); ok {
		if err := Check(g.validator, m); err != nil {
			return ctx, err
		}
	}
	return ctx, nil
}

// AdmitCredential is Admit for what is no RPC, such as the OAuth endpoints, whose
// credential may come from elsewhere than a bearer header. The refusal is
// recorded under name.
func (g *Guard) AdmitCredential(ctx context.Context, name string, rule decision.Rule, credential auth.Credential, response http.Header) (context.Context, error) {
	origin := caller.From(ctx)
	d, err := g.decisions.Decide(ctx, decision.Request{
		Credential: credential, Rule: rule, Resource: name,
		IP: origin.IP, UserAgent: origin.UserAgent, RequestID: origin.RequestID,
		Source: decision.SourceAPI, Cost: rule.Cost,
	})
	if err != nil {
		return ctx, err
	}
	WriteLimits(response, d.Limits)
	if !d.Allowed {
		return ctx, Refusal(d, rule)
	}
	origin.Principal = d.Principal
	return caller.With(ctx, origin), nil
}

// StillAllowed looks again at the caller of a stream: a token that has ended
// meanwhile, or a permission that was taken away, ends the stream.
func (g *Guard) StillAllowed(ctx context.Context, procedure string, header http.Header) error {
	r, known := g.rules[procedure]
	if !known {
		return fault.New(fault.Denied, "NO_GUARD", "%s cannot be called: its RPC has no option (tollgate.v1.guard)", procedure)
	}
	credential, err := Bearer(header)
	if err != nil {
		return err
	}
	d, err := g.decisions.Recheck(ctx, decision.Request{Credential: credential, Rule: r.Rule, Resource: procedure, IP: caller.From(ctx).IP})
	if err != nil {
		return err
	}
	if !d.Allowed {
		return Refusal(d, r.Rule)
	}
	return nil
}

// WrapUnary guards a unary RPC.
func (g *Guard) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, req connect.AnyRequest) (res connect.AnyResponse, err error) {
		if req.Spec().IsClient {
			return next(ctx, req)
		}
		limits := http.Header{}
		defer func() {
			if p := recover(); p != nil {
				err = g.panicked(ctx, req.Spec().Procedure, p)
			}
			if err != nil {
				res, err = nil, g.callerError(ctx, req.Spec().Procedure, err, limits)
			}
		}()
		ctx, err = g.Admit(ctx, req.Spec().Procedure, req.Header(), limits, req.Any())
		if err != nil {
			return nil, err
		}
		if user := caller.From(ctx).UserID(); user != "" {
			if !g.calls.Acquire(user, 1) {
				return nil, fault.New(fault.Unavailable, "OVERLOADED", "this server has as many calls of yours under way as it takes; try again").
					After(time.Second)
			}
			defer g.calls.Release(user, 1)
		}
		if res, err = next(ctx, req); err != nil {
			return nil, g.recordRefusal(ctx, req.Spec().Procedure, err)
		}
		maps.Copy(res.Header(), limits)
		return res, nil
	}
}

// WrapStreamingHandler guards a stream: its caller is looked at again every
// second, and it ends when the server drains.
func (g *Guard) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return func(ctx context.Context, conn connect.StreamingHandlerConn) (err error) {
		procedure, call := conn.Spec().Procedure, ctx
		limits := http.Header{}
		defer func() {
			if p := recover(); p != nil {
				err = g.panicked(ctx, procedure, p)
			}
			if err != nil {
				err = g.callerError(call, procedure, err, limits)
			}
		}()
		// The rule of a stream cannot depend on a message, which is yet to come.
		ctx, err = g.Admit(ctx, procedure, conn.RequestHeader(), limits, nil)
		if err != nil {
			return err
		}
		maps.Copy(conn.ResponseHeader(), limits)
		ctx, done, err := g.Watch(ctx, procedure, conn.RequestHeader())
		if err != nil {
			return err
		}
		defer done()
		err = next(ctx, validatedConn{conn, g.validator})
		if ended, ok := errors.AsType[*fault.Error](context.Cause(ctx)); ok {
			return ended
		}
		return g.recordRefusal(ctx, procedure, err)
	}
}

// WrapStreamingClient does nothing: the guard is for servers.
func (g *Guard) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return next
}

// Watch returns a context for a stream that ends, with a fault as its cause,
// when the caller may no longer have the stream or the server drains. It is
// Limited, TOO_MANY_STREAMS, when the caller, or all together, have as many
// streams as they may. Call done at the stream's end.
func (g *Guard) Watch(ctx context.Context, procedure string, header http.Header) (watched context.Context, done func(), err error) {
	user := caller.From(ctx).UserID()
	if !g.streams.Acquire(user, 1) {
		return nil, nil, fault.New(fault.Limited, "TOO_MANY_STREAMS",
			"this instance has as many streams of yours open as it takes; close some, or connect to another instance").After(time.Second)
	}
	watched, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(g.draining, func() {
		cancel(fault.New(fault.Unavailable, "DRAINING", "this server is stopping; connect again").After(time.Second))
	})
	go func() {
		ticker := time.NewTicker(recheckEvery)
		defer ticker.Stop()
		for {
			select {
			case <-watched.Done():
				return
			case <-ticker.C:
				if err := g.StillAllowed(watched, procedure, header); err != nil {
					cancel(err)
					return
				}
			}
		}
	}()
	return watched, func() {
		stop()
		cancel(context.Canceled)
		g.streams.Release(user, 1)
	}, nil
}

// validatedConn checks the messages that a stream's caller sends.
type validatedConn struct {
	connect.StreamingHandlerConn
	validator protovalidate.Validator
}

func (c validatedConn) Receive(message any) error {
	if err := c.StreamingHandlerConn.Receive(message); err != nil {
		return unreadable(err)
	}
	if m, ok := message.(proto.Message); ok {
		return Check(c.validator, m)
	}
	return nil
}

// unreadable is the error for a stream's message that is not one, which is its
// sender's fault.
func unreadable(err error) error {
	var wire *connect.Error
	switch {
	case !errors.As(err, &wire):
		return err
	case wire.Code() == connect.CodeInvalidArgument:
		return fault.New(fault.Invalid, "BAD_REQUEST", "%s", strings.TrimPrefix(wire.Message(), "unmarshal message: "))
	case wire.Code() == connect.CodeResourceExhausted:
		return fault.New(fault.TooLarge, "TOO_LARGE", "the message is too large")
	case fault.KindOf(wire.Code()) == fault.Internal: // cut short, or compressed without an encoding
		return fault.New(fault.Invalid, "BAD_REQUEST", "the message is cut short or not in the encoding that the headers say").Because(err)
	default:
		return fault.New(fault.KindOf(wire.Code()), strings.ToUpper(wire.Code().String()), "the message cannot be read").Because(err)
	}
}

// recordRefusal records a refusal that a service decided, such as a grant of
// more than the caller holds. When it cannot be recorded, that is the error.
func (g *Guard) recordRefusal(ctx context.Context, procedure string, err error) error {
	if !fault.Is(err, fault.Denied) {
		return err
	}
	event := audit.New(ctx, audit.TollgateRefused, audit.Denied, procedure).Because(strings.ToLower(fault.From(err).Reason))
	if failed := g.audit.RecordRefusal(ctx, event, event.Reason+" "+procedure, event.Origin()); failed != nil {
		return failed
	}
	return err
}

func (g *Guard) panicked(ctx context.Context, procedure string, p any) error {
	g.log.ErrorContext(ctx, "panic", "procedure", procedure, "panic", p, "stack", string(debug.Stack()))
	return fault.New(fault.Internal, "INTERNAL", "something went wrong here; the request id finds it in our log")
}

// Count counts an error that turned a call away without its having been
// served: under load, for a limit, for an outage, or because the caller left.
// Such a call is no line of the log by itself: a flood of them would be one of
// lines.
func (g *Guard) Count(f *fault.Error) { Count(g.refused, f) }

// Count is the same for what has no Guard; refused counts by a reason of metrics.
func Count(refused func(reason string, cause error), f *fault.Error) {
	switch {
	case f.Reason == "OVERLOADED":
		refused(metrics.RefusedOverloaded, nil)
	case f.Reason == "TOO_MANY_STREAMS":
		refused(metrics.RefusedStreams, nil)
	case f.Kind == fault.Limited:
		refused(metrics.RefusedLimited, nil)
	case f.Kind == fault.Canceled:
		refused(metrics.RefusedHungUp, nil)
	case f.Kind == fault.Timeout:
		refused(metrics.RefusedTimeout, f.Cause)
	case f.Kind == fault.Unavailable && f.Reason == "BUSY":
		refused(metrics.RefusedBusy, nil)
	case f.Kind == fault.Unavailable:
		refused(metrics.RefusedUnavailable, f)
	}
}

// callerError turns an error into the one that the caller gets, and logs its cause. The
// context is the call's own, which ends only when its caller leaves.
func (g *Guard) callerError(ctx context.Context, procedure string, err error, header http.Header) error {
	out := fault.Connect(g.failed(ctx, procedure, err), caller.From(ctx).RequestID)
	maps.Copy(out.Meta(), header)
	return out
}

// failed counts an error, and logs its cause.
func (g *Guard) failed(ctx context.Context, procedure string, err error) *fault.Error {
	f := fault.Of(ctx, err)
	g.Count(f)
	if f.Kind == fault.Internal {
		g.log.ErrorContext(ctx, "call failed", "procedure", procedure, "reason", f.Reason, "error", f.Cause)
	} else if f.Kind.Status() >= 500 {
		g.log.DebugContext(ctx, "call failed", "procedure", procedure, "reason", f.Reason, "error", f.Cause)
	}
	return f
}

// Each implements decision.Each: an error or a panic is that of one thing alone.
func (g *Guard) Each(ctx context.Context, procedure string, do func() error) (f *fault.Error) {
	defer func() {
		if p := recover(); p != nil {
			f = g.failed(ctx, procedure, g.panicked(ctx, procedure, p))
		}
	}()
	if err := do(); err != nil {
		return g.failed(ctx, procedure, err)
	}
	return nil
}

// Bearer reads the credential of an Authorization header (RFC 6750 §2.1). No
// header is no credential; anything else than one bearer credential is refused.
func Bearer(header http.Header) (auth.Credential, error) {
	values := header.Values("Authorization")
	if len(values) == 0 {
		return auth.Credential{}, nil
	}
	scheme, token, _ := strings.Cut(values[0], " ")
	if len(values) > 1 || !strings.EqualFold(scheme, "Bearer") || token == "" || strings.ContainsAny(token, " \t,") {
		return auth.Credential{}, fault.New(fault.Unauthenticated, "BAD_AUTHORIZATION",
			"the Authorization header must be: Bearer, a space, and an access token or API key")
	}
	if strings.HasPrefix(token, apikey.Prefix) {
		return auth.Credential{APIKey: token}, nil
	}
	return auth.Credential{AccessToken: token}, nil
}
