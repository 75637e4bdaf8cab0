// Package grpcapi serves the API on a port of its own with grpc-go's server, which
// spends a third of what net/http's HTTP/2 does on a call. Handlers, guard, bounds and
// errors are the API's own: this package receives a message, passes it through the
// same interceptors to the same handler, and sends the answer.
package grpcapi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"connectrpc.com/connect"
	"connectrpc.com/grpchealth"
	"github.com/tollgatehq/tollgate/server/internal/clock"
	"github.com/tollgatehq/tollgate/server/internal/contract"
	"github.com/tollgatehq/tollgate/server/internal/guard"
	"github.com/tollgatehq/tollgate/server/internal/httpapi"
	"github.com/tollgatehq/tollgate/server/internal/inflight"
	"google.golang.org/grpc"
	_ "google.golang.org/grpc/encoding/gzip" // without it grpc-go refuses messages that are packed
	"google.golang.org/grpc/keepalive"
)

// Options are the handlers and what they need.
type Options struct {
	Handlers map[string]any    // by the service's full name; each has a method for every unary RPC
	Streams  map[string]Stream // by procedure: what answers with many messages

	Guard          *guard.Guard
	Interceptors   []connect.Interceptor // the outermost first; the guard is the last
	Health         grpchealth.Checker
	Reflection     bool
	PublicTools    bool // reflection takes no credential
	TrustedProxies []netip.Prefix
	Shares         *inflight.Shares                 // of all ports of the API
	Refused        func(reason string, cause error) // counts refusals for want of places or memory
	Clock          clock.Clock
	Log            *slog.Logger
}

// Every wait for a caller ends.
const (
	greetingTime = 5 * time.Second // for the TLS handshake and HTTP/2's first frames

	idleTime  = 2 * time.Minute  // of a connection without calls
	pingAfter = 30 * time.Second // without a frame of a connection
	pingTime  = 10 * time.Second // for its answer
	pingEvery = 10 * time.Second // a client that pings more often is cut
)

// waits are for one call each.
type waits struct {
	body       time.Duration // for the message, from its headers on
	answer     time.Duration // for the handler of a unary call
	message    time.Duration // for an answer to leave
	write      time.Duration // for any byte to leave a connection
	reflection time.Duration // for a reflection stream
}

var defaultWaits = waits{
	body: 10 * time.Second, answer: 20 * time.Second, message: 10 * time.Second, write: 10 * time.Second, reflection: time.Minute,
}

const (
	maxStreams    = 100       // of one connection
	streamWindow  = 64 << 10  // bytes that a stream may send before its handler reads
	connWindow    = 512 << 10 // bytes on their way to all streams of a connection
	maxHeaders    = 32 << 10
	readBuffer    = 16 << 10
	writeBuffer   = 32 << 10
	streamWorkers = 64 // goroutines that keep their stacks from call to call
)

// Server serves the port. It is like http.Server: Serve returns when Shutdown or Close
// is called.
type Server struct {
	options Options
	waits   waits
	server  *grpc.Server
}

// New makes the server. It fails when a handler lacks a method for an RPC.
func New(o Options) (*Server, error) {
	s := newServer(o, defaultWaits)
	if err := s.register(); err != nil {
		return nil, err
	}
	return s, nil
}

func newServer(o Options, w waits) *Server {
	s := &Server{options: o, waits: w}
	s.server = grpc.NewServer(
		grpc.InTapHandle(s.begin),
		grpc.ForceServerCodecV2(codec{}),
		grpc.UnknownServiceHandler(s.contained(s.unknown)),
		grpc.NumStreamWorkers(streamWorkers),
		grpc.MaxConcurrentStreams(maxStreams),
		grpc.MaxRecvMsgSize(httpapi.MaxBody),
		grpc.MaxHeaderListSize(maxHeaders),
		grpc.StaticStreamWindowSize(streamWindow),
		grpc.StaticConnWindowSize(connWindow),
		grpc.ReadBufferSize(readBuffer), grpc.WriteBufferSize(writeBuffer),
		grpc.ConnectionTimeout(greetingTime),
		grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionIdle: idleTime, Time: pingAfter, Timeout: pingTime}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: pingEvery, PermitWithoutStream: true}),
	)
	return s
}

// register makes grpc-go's descriptions of the services from the contract. Code that
// protoc-gen-go-grpc makes would do, but it belongs next to the messages: everybody
// who uses the SDK would link grpc-go.
func (s *Server) register() error {
	services := map[string]*grpc.ServiceDesc{}
	add := func(procedure string, serve func(*call) error) {
		service, name := split(procedure)
		if services[service] == nil {
			services[service] = &grpc.ServiceDesc{ServiceName: service, HandlerType: (*any)(nil)}
		}
		services[service].Streams = append(services[service].Streams, grpc.StreamDesc{
			StreamName: name, ServerStreams: true, Handler: s.contained(serve),
		})
	}
	for procedure, method := range contract.Methods() {
		spec := specOf(procedure, method)
		if method.IsStreamingServer() {
			stream, known := s.options.Streams[procedure]
			if !known {
				return fmt.Errorf("gRPC: nothing serves the stream %s", procedure)
			}
			add(procedure, s.stream(spec, stream))
			continue
		}
		m, err := methodOf(s.options.Handlers, procedure)
		if err != nil {
			return err
		}
		add(procedure, s.unary(spec, m))
	}
	for _, procedure := range contract.ProxyProcedures() {
		m, err := methodOf(s.options.Handlers, procedure)
		if err != nil {
			return err
		}
		add(procedure, s.unary(connect.Spec{Procedure: procedure, StreamType: connect.StreamTypeUnary}, m))
	}
	add(healthCheck, s.health)
	for _, desc := range services {
		s.server.RegisterService(desc, nil)
	}
	if s.options.Reflection {
		s.registerReflection()
	}
	return nil
}

// Serve serves the listener's connections until Shutdown or Close.
func (s *Server) Serve(listener net.Listener) error {
	return s.server.Serve(&connections{listener, s.options.TrustedProxies, s.waits.write})
}

// Shutdown refuses new calls and waits for those under way, until ctx ends.
func (s *Server) Shutdown(ctx context.Context) error {
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		s.server.GracefulStop()
	}()
	select {
	case <-stopped:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("gRPC: %w", context.Cause(ctx))
	}
}

// Close ends everything at once.
func (s *Server) Close() error {
	s.server.Stop()
	return nil
}

var errWrongHandler = errors.New("is no func(context.Context, *Request) (*Response, error)")
