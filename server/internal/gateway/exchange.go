package gateway

import (
	"bufio"
	"cmp"
	"context"
	"maps"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"
	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/enforce"
	"github.com/tollgatehq/tollgate/server/internal/fault"
	"github.com/tollgatehq/tollgate/server/internal/guard"
)

// recheckEvery is how often a request that goes on is looked at again.
const recheckEvery = time.Second

// exchange is one request and its response, and the http.ResponseWriter of the
// latter.
type exchange struct {
	http.ResponseWriter
	gateway *Gateway
	client  *http.Request // as it came
	request *http.Request // the same with the body and the context of the exchange
	from    caller.Caller
	grpc    bool
	began   time.Time

	asked    enforce.Request
	answer   enforce.Answer
	identity []enforce.Header
	upstream string

	body   clientBody
	status int // that went out; 0: none yet
	result int // what is counted: the same, but for a refusal in the form of gRPC
	cancel context.CancelCauseFunc

	writing   wait        // for the client to take what was written
	answering wait        // for the next bytes of a response whose length is known
	streaming atomic.Bool // the response of gRPC has begun: one that lasts is a stream

	mu      sync.Mutex // held while control is used other than by the handler
	control *http.ResponseController
	conn    net.Conn // after an upgrade, when there is no control
	timer   *time.Timer
	undrain func() bool
	ended   bool
}

type exchangeKey struct{}

// exchangeOf is the exchange that a request, or the one made of it, belongs to.
func exchangeOf(r *http.Request) *exchange { return r.Context().Value(exchangeKey{}).(*exchange) }

func newExchange(g *Gateway, w http.ResponseWriter, r *http.Request) *exchange {
	x := &exchange{
		ResponseWriter: w, gateway: g, client: r, grpc: isGRPC(r), began: time.Now(),
		from: caller.Of(r, g.TrustedProxies, g.Clock.NewID), control: http.NewResponseController(w),
	}
	ctx, cancel := context.WithCancelCause(context.WithValue(r.Context(), exchangeKey{}, x))
	x.cancel = cancel
	x.request = r.WithContext(ctx)
	x.body.exchange = x
	if x.body.ReadCloser = r.Body; r.Body == nil || r.Body == http.NoBody {
		x.body.done.Store(true)
	} else {
		x.request.Body = &x.body
	}
	if r.ProtoMajor < 2 {
		x.control.SetWriteDeadline(time.Time{}) //nolint:errcheck // that of the connection's last response
		if !x.body.done.Load() {
			// An upstream may answer before it has read everything.
			x.control.EnableFullDuplex() //nolint:errcheck // a writer of a test cannot
		}
	}
	return x
}

// watch looks at the exchange every second from now on.
func (x *exchange) watch() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.timer = time.AfterFunc(recheckEvery, x.look)
}

// look ends the exchange when its client or upstream stands still, when it is a
// stream and the server drains, and when its caller may no longer make the request.
func (x *exchange) look() {
	g := x.gateway
	if f := x.over(); f != nil {
		x.cut(f)
		return
	}
	ctx := x.request.Context()
	if err := g.Enforce.Recheck(ctx, x.asked); err != nil && ctx.Err() == nil {
		x.cut(fault.From(err))
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.ended {
		x.timer.Reset(recheckEvery)
	}
}

// over is why an exchange ends, whatever its caller may do; nil for one that goes on.
func (x *exchange) over() *fault.Error {
	client, upstream := x.gateway.ClientTime, x.gateway.Timeout
	switch {
	case x.writing.longer(client):
		return fault.New(fault.Timeout, "DEADLINE_EXCEEDED", "the response was not read within %s", client)
	case !x.grpc && x.body.reading.longer(client): // a stream of messages may rest
		return fault.New(fault.Timeout, "BODY_TIMEOUT", "nothing of the body arrived within %s; send it faster", client)
	case x.streaming.Load() && x.gateway.Draining.Err() != nil:
		return draining()
	case x.answering.longer(upstream), x.body.sending.longer(upstream):
		return upstreamTimeout(upstream)
	}
	return nil
}

// cut ends an exchange, also where it waits for its client.
func (x *exchange) cut(f *fault.Error) {
	x.cancel(f)
	x.mu.Lock()
	defer x.mu.Unlock()
	switch {
	case x.ended: // the connection has other requests now
		return
	case x.conn != nil:
		x.conn.SetDeadline(time.Now()) //nolint:errcheck // the connection is gone
		return
	}
	if x.writing.longer(x.gateway.ClientTime) {
		x.control.SetWriteDeadline(time.Now()) //nolint:errcheck // the connection is gone
	}
	x.unblock()
}

// unblock ends a read of the client's body, which nobody wants any more.
func (x *exchange) unblock() {
	if !x.body.done.Load() {
		x.control.SetReadDeadline(time.Now()) //nolint:errcheck // the connection is gone
	}
}

// endWithServer ends the exchange, which has no end of its own, when the server
// drains.
func (x *exchange) endWithServer() {
	x.undrain = context.AfterFunc(x.gateway.Draining, func() {
		x.cut(draining())
	})
}

func draining() *fault.Error {
	return fault.New(fault.Unavailable, "DRAINING", "this server is stopping; connect again").After(time.Second)
}

// end is the exchange's last step.
func (x *exchange) end() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.ended = true
	x.cancel(nil)
	if x.timer != nil {
		x.timer.Stop()
	}
	if x.undrain != nil {
		x.undrain()
	}
	route := ""
	if x.answer.Route != nil {
		route = x.answer.Route.Name
	}
	x.gateway.Metrics.Ended(route, cmp.Or(x.result, x.status))
	if x.conn != nil {
		return
	}
	x.unblock()
	x.control.SetWriteDeadline(time.Now().Add(lastTime)) //nolint:errcheck // a writer of a test has none
}

// refuse answers in the place of the upstream, in the client's own protocol.
func (x *exchange) refuse(f *fault.Error) {
	x.gateway.count(x.request.Context(), f)
	h := x.Header()
	h["X-Request-Id"] = []string{x.from.RequestID}
	h["Cache-Control"] = []string{"no-store"}
	h["X-Content-Type-Options"] = []string{"nosniff"}
	guard.WriteLimits(h, x.answer.Limits)
	out := fault.Connect(f, x.from.RequestID)
	if x.result = statuses[f.Reason]; x.result == 0 {
		x.result = f.Kind.Status()
	}
	if x.grpc {
		connect.NewErrorWriter().Write(x, x.client, out) //nolint:errcheck // the client hung up
		return
	}
	maps.Copy(h, out.Meta())
	h.Set("Content-Type", "application/json")
	x.WriteHeader(x.result)
	x.Write(fault.NewWire(out).JSON()) //nolint:errcheck // the client hung up
}

// WriteHeader begins the response.
func (x *exchange) WriteHeader(status int) {
	h := x.Header()
	if status < 200 { // there is more to come
		cleanAnswer(h)
	} else if x.begin(status); x.gateway.Stopping() || x.client.ProtoMajor < 2 && !x.body.done.Load() {
		h["Connection"] = []string{"close"} // HTTP/2 sends GOAWAY for it
	}
	x.ResponseWriter.WriteHeader(status)
}

func (x *exchange) begin(status int) {
	if x.status == 0 {
		x.status = status
		x.gateway.Metrics.Began(time.Since(x.began))
	}
}

// Hijack gives the connection to an upgraded protocol.
func (x *exchange) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, buffered, err := x.control.Hijack()
	if err != nil {
		return nil, nil, err
	}
	x.begin(http.StatusSwitchingProtocols)
	x.mu.Lock()
	defer x.mu.Unlock()
	x.conn = &upgradedConn{Conn: conn, read: buffered.Reader, writing: &x.writing}
	return x.conn, buffered, nil
}

// Write writes a part of the response.
func (x *exchange) Write(p []byte) (int, error) {
	x.writing.begin()
	defer x.writing.end()
	if x.status == 0 {
		x.WriteHeader(http.StatusOK)
	}
	return x.ResponseWriter.Write(p) //nolint:gosec // a proxy passes on what services send
}

// FlushError is Flush for http.ResponseController.
func (x *exchange) FlushError() error {
	x.writing.begin()
	defer x.writing.end()
	return x.control.Flush()
}

// Flush sends what was written.
func (x *exchange) Flush() { _ = x.FlushError() }

// Unwrap is for http.ResponseController.
func (x *exchange) Unwrap() http.ResponseWriter { return x.ResponseWriter }
