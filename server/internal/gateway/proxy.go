// Package gateway is a reverse proxy in front of services that cannot ask Tollgate
// themselves. It decides about each request by its route and forwards what may go
// on, with the caller's identity in place of the credential.
package gateway

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/clock"
	"github.com/tollgatehq/tollgate/server/internal/decision"
	"github.com/tollgatehq/tollgate/server/internal/enforce"
	"github.com/tollgatehq/tollgate/server/internal/fault"
	"github.com/tollgatehq/tollgate/server/internal/guard"
	"github.com/tollgatehq/tollgate/server/internal/inflight"
	"github.com/tollgatehq/tollgate/server/internal/metrics"
)

// Options are what a Gateway needs.
type Options struct {
	Enforce        *enforce.Service
	Upstream       string        // of routes that name none, as routes.Upstream has it; empty: none
	Audience       string        // of assertions; empty: the server's own
	Timeout        time.Duration // until an upstream's response begins; 0: 60 s
	ClientTime     time.Duration // for a client to send or take anything; 0: 30 s
	MaxRequests    int           // under way at once; 0: 1024
	TrustedProxies []netip.Prefix

	Stopping func() bool     // connections are to move elsewhere
	Draining context.Context // streams end when it does

	Metrics *metrics.Gateway
	Refused func(reason string, cause error) // counts what was turned away
	Clock   clock.Clock
	Log     *slog.Logger
}

const (
	defaultTime     = time.Minute
	defaultClient   = 30 * time.Second
	defaultRequests = 1024
)

// Gateway is an http.Handler.
type Gateway struct {
	Options
	places     *inflight.Limiter[netip.Addr]
	transports *transports
	proxy      *httputil.ReverseProxy
	pseudonym  string // in Via (RFC 9110 §7.6.3), made anew for each Gateway
}

// New makes a Gateway.
func New(o Options) *Gateway {
	o.Timeout = cmp.Or(o.Timeout, defaultTime)
	o.ClientTime = cmp.Or(o.ClientTime, defaultClient)
	g := &Gateway{
		Options:    o,
		places:     inflight.New[netip.Addr](int64(cmp.Or(o.MaxRequests, defaultRequests))),
		transports: newTransports(o.Timeout),
		pseudonym:  newPseudonym(),
	}
	g.proxy = &httputil.ReverseProxy{
		Rewrite: g.rewrite, Transport: g.transports, ModifyResponse: g.modifyResponse,
		ErrorHandler: g.failed, BufferPool: buffers{},
		// What ends a copy is the client's or the upstream's doing, and counted.
		ErrorLog: slog.NewLogLogger(o.Log.Handler(), slog.LevelDebug),
	}
	return g
}

// InFlight is how many requests are under way.
func (g *Gateway) InFlight() int64 { return g.places.Used() }

// ServeHTTP decides about a request and forwards it.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := newExchange(g, w, r)
	client := inflight.Address(x.from.IP)
	if !g.places.Acquire(client, 1) {
		x.refuse(fault.New(fault.Unavailable, "OVERLOADED",
			"this gateway has as much under way as it takes, from your address or in all; try again").After(time.Second))
		x.end()
		return
	}
	defer g.places.Release(client, 1)
	defer x.end()
	defer x.recover()
	if err := g.admit(x); err != nil {
		x.refuse(fault.Of(r.Context(), err))
		return
	}
	x.watch()
	g.proxy.ServeHTTP(x, x.request)
}

// admit decides whether a request may go on, and where to. Nothing is forwarded
// after an error.
func (g *Gateway) admit(x *exchange) error {
	r := x.client
	path, err := target(r)
	if err != nil {
		return err
	}
	for _, via := range r.Header.Values("Via") {
		if strings.Contains(via, g.pseudonym) {
			return fault.New(fault.Precondition, "GATEWAY_LOOP",
				"the request has been here before: the upstream of its route sends it back; change the route or the upstream")
		}
	}
	x.asked = enforce.Request{
		Source:     decision.SourceGateway,
		Credential: enforce.CredentialOf(r.Header.Values("Authorization"), r.Header.Values("X-Api-Key")),
		Method:     r.Method, Host: r.Host, Path: path,
		IP: x.from.IP, UserAgent: x.from.UserAgent, RequestID: x.from.RequestID, Audience: g.Audience,
	}
	ctx := caller.With(r.Context(), x.from)
	if x.answer, err = g.Enforce.Decide(ctx, x.asked); err != nil {
		return err
	}
	if x.identity, err = g.Enforce.Identity(x.answer, enforce.NoFlavor); err != nil {
		return err
	}
	if x.upstream = g.Upstream; x.answer.Route.Upstream != "" {
		x.upstream = x.answer.Route.Upstream
	}
	if x.upstream == "" {
		return fault.New(fault.Unavailable, "NO_UPSTREAM",
			"nothing says where requests of this route go: give the route an upstream, or the gateway one with --gateway-upstream")
	}
	return nil
}

// target is the path of a request as it was sent, without the query. The error is
// Invalid for a target that is not forwarded, whatever its route.
func target(r *http.Request) (path string, err error) {
	if r.Method == http.MethodConnect || r.Method == http.MethodTrace {
		// A tunnel would pass what nobody decides about; a trace would show the
		// client what only the service should see.
		return "", fault.New(fault.Unimplemented, "METHOD_NOT_ALLOWED", "the gateway forwards neither CONNECT nor TRACE")
	}
	raw := r.RequestURI
	for i := range len(raw) {
		// HTTP/2 lets more through, which would be another request in HTTP/1.1.
		if c := raw[i]; c <= ' ' || c == 0x7f || c == '#' {
			return "", badTarget("the request's target has a space, a control character or \"#\" in it")
		}
	}
	if !strings.HasPrefix(raw, "/") { // absolute-form (RFC 9112 §3.2.2), whose host net/http has put into r.Host
		scheme, rest, ok := strings.Cut(raw, "://")
		at := strings.IndexByte(rest, '/')
		if !ok || at <= 0 || !strings.EqualFold(scheme, "http") && !strings.EqualFold(scheme, "https") || !strings.EqualFold(rest[:at], r.Host) {
			return "", badTarget("the request's target must be a path, or http:// or https://, a host and a path")
		}
		raw = rest[at:]
	}
	if r.Host == "" {
		return "", badTarget("the request has no host; send it in the Host header")
	}
	path, _, _ = strings.Cut(raw, "?")
	return path, nil
}

func badTarget(message string) *fault.Error {
	return fault.New(fault.Invalid, "BAD_TARGET", "%s", message)
}

// failed answers for a request that has no response: its client or its upstream
// has failed, or it was ended.
func (g *Gateway) failed(_ http.ResponseWriter, r *http.Request, err error) {
	x := exchangeOf(r)
	x.refuse(x.fault(r.Context(), err))
}

// fault says who ended an exchange and how.
func (x *exchange) fault(ctx context.Context, err error) *fault.Error {
	var timeout interface{ Timeout() bool }
	if ended, ok := errors.AsType[*fault.Error](context.Cause(ctx)); ok {
		return ended
	}
	switch {
	case ctx.Err() != nil:
		return fault.From(ctx.Err())
	case x.body.failed.Load():
		return fault.New(fault.Invalid, "BAD_REQUEST", "the body ended early").Because(err)
	case errors.Is(err, errRefusedAddress):
		return fault.New(fault.Unavailable, "UPSTREAM_DOWN", "the upstream's address is one that the gateway does not connect to").Because(err)
	case errors.As(err, &timeout) && timeout.Timeout() && !dialing(err):
		return upstreamTimeout(x.gateway.Timeout).Because(err)
	}
	return fault.New(fault.Unavailable, "UPSTREAM_DOWN", "the service behind the gateway does not answer; try again").After(time.Second).Because(err)
}

func upstreamTimeout(after time.Duration) *fault.Error {
	return fault.New(fault.Timeout, "UPSTREAM_TIMEOUT", "the service behind the gateway has not answered within %s", after)
}

// statuses are those of the gateway's own faults that say more than their kinds.
var statuses = map[string]int{
	"UPSTREAM_DOWN": http.StatusBadGateway,
	"NO_UPSTREAM":   http.StatusBadGateway,
	"GATEWAY_LOOP":  http.StatusLoopDetected,
	"BODY_TIMEOUT":  http.StatusRequestTimeout,
}

// count counts a refusal that is no decision, and logs what is our own mistake.
func (g *Gateway) count(ctx context.Context, f *fault.Error) {
	switch {
	case f.Reason == "UPSTREAM_DOWN", f.Reason == "UPSTREAM_TIMEOUT", f.Reason == "NO_UPSTREAM":
		g.Refused(metrics.RefusedUpstream, f)
	case f.Reason == "BODY_TIMEOUT":
		g.Refused(metrics.RefusedSlow, nil)
	case f.Kind == fault.Internal:
		g.Log.ErrorContext(ctx, "gateway", "reason", f.Reason, "error", f.Cause)
	default:
		guard.Count(g.Refused, f)
	}
}

// recover ends a request whose handler panicked. That of a gRPC call which was
// ended for a reason gets the reason in its trailers.
func (x *exchange) recover() {
	p := recover()
	if p == nil {
		return
	}
	if err, ok := p.(error); !ok || !errors.Is(err, http.ErrAbortHandler) {
		x.gateway.Log.ErrorContext(x.request.Context(), "panic", "panic", p, "stack", string(debug.Stack()))
		if x.status == 0 {
			x.refuse(fault.From(errors.New("panic")))
			return
		}
	}
	ended, ok := errors.AsType[*fault.Error](context.Cause(x.request.Context()))
	if !ok || !x.grpc || x.status == 0 {
		panic(http.ErrAbortHandler) // the client must not take it for a whole response
	}
	writeGRPCTrailers(x.Header(), ended)
}

// buffers keeps what responses are copied with.
type buffers struct{}

const bufferSize = 32 << 10

var bufferPool = sync.Pool{New: func() any { return new([bufferSize]byte) }}

func (buffers) Get() []byte  { return bufferPool.Get().(*[bufferSize]byte)[:] }
func (buffers) Put(b []byte) { bufferPool.Put((*[bufferSize]byte)(b)) }
