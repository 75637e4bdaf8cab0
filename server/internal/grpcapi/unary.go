package grpcapi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"reflect"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/fault"
	"github.com/tollgatehq/tollgate/server/internal/guard"
	"github.com/tollgatehq/tollgate/server/internal/httpapi"
	"github.com/tollgatehq/tollgate/server/internal/inflight"
	"github.com/tollgatehq/tollgate/server/internal/metrics"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// contained serves a call, contains its panics, and holds its memory until its answer
// has left.
func (s *Server) contained(serve func(*call) error) grpc.StreamHandler {
	return func(_ any, stream grpc.ServerStream) (err error) {
		began := time.Now()
		c, ok := stream.Context().Value(callKey{}).(*call)
		if !ok {
			return errors.New("gRPC: the call did not begin") // begin makes one of every stream
		}
		defer c.leave()
		defer func() {
			if p := recover(); p != nil {
				s.options.Log.ErrorContext(stream.Context(), "panic", "panic", p, "stack", string(debug.Stack()))
				err = s.refuse(c, fault.From(errors.New("panic")))
			}
			if s.options.Log.Enabled(c, slog.LevelDebug) {
				procedure, _ := grpc.Method(stream.Context())
				s.options.Log.DebugContext(c, "request", "method", "gRPC", "procedure", httpapi.Loggable(procedure), "failed", err != nil,
					"took_ms", float64(time.Since(began).Microseconds())/1000, "ip", c.origin.IPString())
			}
		}()
		if !s.enter(c, stream) {
			return s.refuse(c, errMemory)
		}
		return serve(c)
	}
}

// unary serves an RPC with one message each way: the whole message is there before the
// call's place is acquired, and the place is given back before the answer is sent.
func (s *Server) unary(spec connect.Spec, m method) func(*call) error {
	chain := connect.UnaryFunc(func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
		message, err := m.call(ctx, req.Any())
		if err != nil {
			return nil, err
		}
		return &response{message: message}, nil
	})
	for _, i := range slices.Backward(s.options.Interceptors) {
		chain = i.WrapUnary(chain)
	}
	return func(c *call) error {
		message := m.make()
		if err := s.read(c, message); err != nil {
			return s.refuse(c, err)
		}
		c.wait(running, s.waits.answer)
		res, err := s.place(c, s.options.Shares.Calls, func(ctx context.Context) (connect.AnyResponse, error) {
			return chain(ctx, &request{call: c, spec: spec, message: message})
		})
		if err != nil {
			return s.refuse(c, err)
		}
		return s.answer(c, res.Header(), res.Any())
	}
}

// read receives the call's one message.
func (s *Server) read(c *call, message proto.Message) error {
	data, err := c.receive()
	if err != nil {
		return err
	}
	defer data.Free()
	if err := decode(data, message); err != nil {
		return fault.New(fault.Invalid, "BAD_REQUEST", "the message is no %s in protobuf's encoding", message.ProtoReflect().Descriptor().FullName()).Because(err)
	}
	return nil
}

// place runs a handler in a place of the client's.
func (s *Server) place(c *call, places *inflight.Limiter[client], run func(context.Context) (connect.AnyResponse, error)) (connect.AnyResponse, error) {
	if !places.Acquire(c.client, 1) {
		s.options.Refused(metrics.RefusedOverloaded, nil)
		return nil, httpapi.Overloaded()
	}
	defer places.Release(c.client, 1)
	return run(caller.With(c, c.origin))
}

// answer sends the headers and the one message.
func (s *Server) answer(c *call, header http.Header, message any) error {
	if err := c.sendHeader(header); err != nil {
		return err
	}
	if err := c.send(message); err != nil {
		return s.refuse(c, err)
	}
	return nil
}

// request is a call for the interceptors. It embeds the interface for the methods
// that only connect's own types have, which interceptors do not call.
type request struct {
	connect.AnyRequest
	call    *call
	spec    connect.Spec
	message any
	header  http.Header
}

func (r *request) Any() any           { return r.message }
func (r *request) Spec() connect.Spec { return r.spec }
func (r *request) Peer() connect.Peer { return r.call.peer() }
func (r *request) HTTPMethod() string { return http.MethodPost }

func (r *request) Header() http.Header {
	if r.header == nil {
		r.header = r.call.requestHeader()
	}
	return r.header
}

// read are the headers that interceptors read: the credentials, and the trace that the
// call is a part of.
var read = []struct{ field, name string }{
	{"authorization", "Authorization"},
	{strings.ToLower(guard.ProxyKey), guard.ProxyKey},
	{"traceparent", "Traceparent"}, {"tracestate", "Tracestate"},
}

// requestHeader has no more of the metadata than somebody reads.
func (c *call) requestHeader() http.Header {
	header := http.Header{}
	for _, h := range read {
		if values := c.header[h.field]; values != nil {
			header[h.name] = values
		}
	}
	return header
}

// response is an answer for the interceptors.
type response struct {
	connect.AnyResponse
	message         any
	header, trailer http.Header
}

func (r *response) Any() any { return r.message }

func (r *response) Header() http.Header {
	if r.header == nil {
		r.header = http.Header{}
	}
	return r.header
}

func (r *response) Trailer() http.Header {
	if r.trailer == nil {
		r.trailer = http.Header{}
	}
	return r.trailer
}

// method is a handler's method for a unary RPC.
type method struct {
	request reflect.Type
	handler reflect.Value
}

// methodOf finds it by name: Handlers of "simple" Connect services have
// Method(ctx, *Request) (*Response, error). A call by reflection costs 0.3 µs, which
// is less than a second list of all RPCs would.
func methodOf(handlers map[string]any, procedure string) (method, error) {
	service, name := split(procedure)
	handler := handlers[service]
	if handler == nil {
		return method{}, fmt.Errorf("gRPC: nothing serves %s", service)
	}
	f := reflect.ValueOf(handler).MethodByName(name)
	if !f.IsValid() {
		return method{}, fmt.Errorf("gRPC: %T has no method %s", handler, name)
	}
	t := f.Type()
	if t.NumIn() != 2 || t.NumOut() != 2 || t.In(0) != reflect.TypeFor[context.Context]() || t.Out(1) != reflect.TypeFor[error]() ||
		!t.In(1).Implements(reflect.TypeFor[proto.Message]()) || !t.Out(0).Implements(reflect.TypeFor[proto.Message]()) {
		return method{}, fmt.Errorf("gRPC: %T.%s %w", handler, name, errWrongHandler)
	}
	return method{request: t.In(1).Elem(), handler: f}, nil
}

func (m method) make() proto.Message {
	return reflect.New(m.request).Interface().(proto.Message)
}

func (m method) call(ctx context.Context, message any) (any, error) {
	out := m.handler.Call([]reflect.Value{reflect.ValueOf(ctx), reflect.ValueOf(message)})
	if err, failed := reflect.TypeAssert[error](out[1]); failed {
		return nil, err
	}
	return out[0].Interface(), nil
}

// split is the service and the name of "/package.Service/Method".
func split(procedure string) (service, name string) {
	service, name, _ = strings.Cut(strings.TrimPrefix(procedure, "/"), "/")
	return service, name
}

// specOf is what connect tells interceptors about an RPC.
func specOf(procedure string, m protoreflect.MethodDescriptor) connect.Spec {
	spec := connect.Spec{Procedure: procedure, Schema: m, StreamType: connect.StreamTypeUnary}
	if m.IsStreamingServer() {
		spec.StreamType = connect.StreamTypeServer
	}
	return spec
}
