package grpcapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"

	"connectrpc.com/connect"
	"github.com/tollgatehq/tollgate/server/internal/caller"
	"google.golang.org/protobuf/proto"
)

// Stream serves an RPC that answers one message with many.
type Stream struct {
	make  func() proto.Message
	serve func(ctx context.Context, request any, send func(any) error) error
}

// StreamOf is the Stream of a handler that sends by a func.
func StreamOf[Req, Res any, Request interface {
	*Req
	proto.Message
}](serve func(context.Context, Request, func(*Res) error) error) Stream {
	return Stream{
		make: func() proto.Message { return Request(new(Req)) },
		serve: func(ctx context.Context, request any, send func(any) error) error {
			return serve(ctx, request.(Request), func(res *Res) error { return send(res) })
		},
	}
}

// stream serves an RPC with one message in and many out. The guard bounds how many
// there are, per principal.
func (s *Server) stream(spec connect.Spec, served Stream) func(*call) error {
	chain := connect.StreamingHandlerFunc(func(ctx context.Context, conn connect.StreamingHandlerConn) error {
		message := served.make()
		if err := conn.Receive(message); err != nil {
			return err
		}
		return served.serve(ctx, message, conn.Send)
	})
	for _, i := range slices.Backward(s.options.Interceptors) {
		chain = i.WrapStreamingHandler(chain)
	}
	return func(c *call) error {
		message := served.make()
		if err := s.read(c, message); err != nil {
			return s.refuse(c, err)
		}
		c.wait(running, 0)
		if err := chain(caller.With(c, c.origin), &streamConn{call: c, spec: spec, message: message}); err != nil {
			return s.refuse(c, err)
		}
		return nil
	}
}

// streamConn is a stream for the interceptors.
type streamConn struct {
	call    *call
	spec    connect.Spec
	message proto.Message // that was received; nil: it was given already

	header, response, trailer http.Header
	sent                      bool
}

func (s *streamConn) Spec() connect.Spec           { return s.spec }
func (s *streamConn) Peer() connect.Peer           { return s.call.peer() }
func (s *streamConn) RequestHeader() http.Header   { return lazily(&s.header, s.call.requestHeader) }
func (s *streamConn) ResponseHeader() http.Header  { return lazily(&s.response, nil) }
func (s *streamConn) ResponseTrailer() http.Header { return lazily(&s.trailer, nil) }

func lazily(h *http.Header, make func() http.Header) http.Header {
	if *h == nil {
		*h = http.Header{}
		if make != nil {
			*h = make()
		}
	}
	return *h
}

// Receive gives the one message.
func (s *streamConn) Receive(message any) error {
	m, ok := message.(proto.Message)
	switch {
	case !ok:
		return fmt.Errorf("gRPC: %T is no message", message)
	case s.message == nil:
		return io.EOF
	}
	proto.Merge(m, s.message)
	s.message = nil
	return nil
}

// Send sends a message, which must leave in time.
func (s *streamConn) Send(message any) error {
	if !s.sent {
		s.sent = true
		if err := s.call.sendHeader(s.response); err != nil {
			return err
		}
	}
	s.call.wait(sending, s.call.waits.message)
	defer s.call.wait(running, 0)
	err := s.call.send(message)
	if errors.Is(err, errMemory) { // it reads too slowly for what it is sent
		return errTooSlow
	}
	return err
}
