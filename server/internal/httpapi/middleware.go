package httpapi

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"runtime/debug"
	"strings"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/auth/apikey"
	"github.com/tollgatehq/tollgate/server/internal/authzen"
	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/clock"
	"github.com/tollgatehq/tollgate/server/internal/fault"
	"github.com/tollgatehq/tollgate/server/internal/inflight"
	"github.com/tollgatehq/tollgate/server/internal/metrics"
)

// middleware is the outermost handler. It finds out where a request comes from,
// bounds what it may hold and for how long, and gives every error the one
// shape. In order: the request's memory is acquired; its whole body is read; a
// call's place is acquired, held while the handler runs, and given back; the
// answer is sent. So neither a body that does not arrive nor an answer that
// nobody reads holds a place.
type middleware struct {
	next     http.Handler
	trusted  []netip.Prefix
	clock    clock.Clock
	log      *slog.Logger
	limiters *limiters
	refused  func(reason string, cause error) // counts refusals by reason
}

func (m *middleware) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	began, open, path := time.Now(), r.Context(), r.URL.Path
	origin := caller.Of(r, m.trusted, m.clock.NewID)
	r = r.WithContext(caller.With(open, origin))
	if isForwardAuth(r) {
		// The client's: a refusal in the form of gRPC has the status 200, which lets it pass.
		r.Header.Del("Content-Type")
		r.Header.Del("Content-Encoding")
	}

	h := w.Header()
	h.Set("X-Request-Id", answeredID(r, origin.RequestID))
	h.Set("Cache-Control", "no-store")

	memory := &lease{Lease: m.limiters.Lease(inflight.Address(origin.IP))}
	if !memory.Grow(inflight.RequestMemory) {
		m.refused(metrics.RefusedMemory, nil)
		refuse(w, r, Overloaded(), origin.RequestID)
		return
	}
	defer func() {
		if sentWhole(r) {
			memory.release()
			return
		}
		// The answer may still wait for its reader; the HTTP/2 stream's own context
		// ends with the stream.
		context.AfterFunc(open, memory.release)
	}()

	status := http.StatusOK
	switch k := m.limiters.kind(r); k {
	case unary, probe:
		status = m.serveUnary(w, r, k, memory)
	default:
		m.serveStream(w, r, k, memory)
	}
	if m.log.Enabled(open, slog.LevelDebug) {
		// The transcoder replaces the path by the procedure's.
		m.log.DebugContext(r.Context(), "request", "method", r.Method, "path", Loggable(path), "procedure", Loggable(r.URL.Path), "status", status,
			"took_ms", float64(time.Since(began).Microseconds())/1000, "ip", origin.IPString())
	}
}

// maxEchoed is how long a request id may be that comes back just as it was sent.
const maxEchoed = 1024

// answeredID is the request id of the answer. AuthZEN's comes back as it was sent, if a
// header can hold it; logs and records have the safe one all the same.
func answeredID(r *http.Request, safe string) string {
	sent := r.Header.Get("X-Request-Id")
	if !authzen.OwnsRequestID(r.URL.Path) || sent == "" || len(sent) > maxEchoed ||
		strings.ContainsFunc(sent, func(c rune) bool { return c < ' ' && c != '\t' || c == 0x7f }) {
		return safe
	}
	return sent
}

// serveUnary runs the handler between the whole request and the whole answer.
func (m *middleware) serveUnary(w http.ResponseWriter, r *http.Request, k kind, memory *lease) int {
	places := m.limiters.of(k)
	requestID := caller.From(r.Context()).RequestID
	out := newUnaryWriter(w)
	defer out.free()
	switch err := readBody(r, memory); {
	case err != nil:
		if errors.Is(err, errMemory) {
			m.refused(metrics.RefusedMemory, nil)
		}
		refuseBody(out, r, err, requestID)
	case !places.Acquire(memory.Client(), 1):
		m.refused(metrics.RefusedOverloaded, nil)
		refuse(out, r, Overloaded(), requestID)
	case k == probe:
		memory.place = places // until the answer is read: a probe reads it at once
		m.run(out, r, func() {})
	default:
		m.run(out, r, func() { places.Release(memory.Client(), 1) })
	}
	// Nobody else is kept from what is left when one caller's answers wait to be
	// read: that caller's connection or stream is cut.
	if !memory.Grow(inflight.RequestMemory + int64(out.body.Cap())) {
		m.refused(metrics.RefusedMemory, nil)
		panic(http.ErrAbortHandler)
	}
	return out.send(w, r, requestID)
}

// run calls the handler. When it panics, out holds the error instead.
func (m *middleware) run(out *unaryWriter, r *http.Request, release func()) {
	defer release()
	defer func() {
		if p := recover(); p != nil {
			m.panicked(r, p)
			out.reset()
			refuse(out, r, fault.From(errors.New("panic")), caller.From(r.Context()).RequestID)
		}
	}()
	m.next.ServeHTTP(out, r)
}

// serveStream runs the handler of a stream, whose messages go out as they come,
// each with a deadline of its own.
func (m *middleware) serveStream(w http.ResponseWriter, r *http.Request, k kind, memory *lease) {
	requestID := caller.From(r.Context()).RequestID
	if k == stream {
		if err := readBody(r, memory); err != nil {
			if errors.Is(err, errMemory) {
				m.refused(metrics.RefusedMemory, nil)
			}
			refuseBody(w, r, err, requestID)
			return
		}
	}
	if places := m.limiters.of(k); places != nil {
		if !places.Acquire(memory.Client(), 1) {
			m.refused(metrics.RefusedStreams, nil)
			refuse(w, r, Overloaded(), requestID)
			return
		}
		defer places.Release(memory.Client(), 1)
	}
	out := newStreamWriter(w, k)
	defer out.end()
	defer func() {
		if p := recover(); p != nil {
			m.panicked(r, p)
			if out.sent {
				panic(http.ErrAbortHandler) // the caller must not take it for a whole answer
			}
			refuse(w, r, fault.From(errors.New("panic")), requestID)
		}
	}()
	m.next.ServeHTTP(out, r)
}

// panicked logs a panic, and passes on one that only ends the request.
func (m *middleware) panicked(r *http.Request, p any) {
	if err, ok := p.(error); ok && errors.Is(err, http.ErrAbortHandler) {
		panic(p)
	}
	m.log.ErrorContext(r.Context(), "panic", "path", Loggable(r.URL.Path), "panic", p, "stack", string(debug.Stack()))
}

// Loggable is the path without what may be a credential that a caller put into
// it: ids are shorter and do not begin like an API key. A longer name goes, too.
func Loggable(path string) string {
	parts := strings.Split(path, "/")
	for i, part := range parts {
		if len(part) > 64 || strings.HasPrefix(part, apikey.Prefix) {
			parts[i] = "…"
		}
	}
	return strings.Join(parts, "/")
}

// framed says whether the body is a stream of messages, gRPC's or Connect's,
// whose size and errors are handled message by message.
func framed(r *http.Request) bool {
	t := r.Header.Get("Content-Type")
	return strings.HasPrefix(t, "application/grpc") || strings.HasPrefix(t, "application/connect+")
}
