package grpcapi

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/clock"
	"github.com/tollgatehq/tollgate/server/internal/inflight"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// served is a server of one service, test.Echo, without a guard.
type served struct {
	*Server
	address string

	mu      sync.Mutex
	refused map[string]int
}

// echo is the service's handler.
type echo struct {
	started chan struct{} // gets one for each call that runs until it is canceled
}

func (e echo) Say(ctx context.Context, in *wrapperspb.StringValue) (*wrapperspb.StringValue, error) {
	text := in.GetValue()
	switch {
	case text == "panic":
		panic("a bug")
	case text == "wait":
		e.started <- struct{}{}
		<-ctx.Done()
		return nil, context.Cause(ctx)
	case strings.HasPrefix(text, "much "):
		n, err := strconv.Atoi(strings.TrimPrefix(text, "much "))
		return wrapperspb.String(strings.Repeat("x", n)), err
	}
	return in, nil
}

func (e echo) count(ctx context.Context, in *wrapperspb.StringValue, send func(*wrapperspb.StringValue) error) error {
	for range len(in.GetValue()) {
		if err := send(wrapperspb.String(strings.Repeat("x", 16<<10))); err != nil {
			return err
		}
	}
	if in.GetValue() == "" {
		<-ctx.Done()
	}
	return ctx.Err()
}

// serve serves the service.
func serve(t *testing.T, w waits, change func(*Options)) *served {
	t.Helper()
	s := &served{refused: map[string]int{}}
	o := Options{
		Shares: inflight.NewShares(8), Clock: clock.Real(), Log: slog.New(slog.DiscardHandler),
		Refused: func(reason string, _ error) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.refused[reason]++
		},
	}
	if change != nil {
		change(&o)
	}
	s.Server = newServer(o, w)
	e := echo{started: make(chan struct{}, 1)}
	unary := func(name string) grpc.StreamDesc {
		return grpc.StreamDesc{StreamName: name, ServerStreams: true, Handler: s.contained(s.unary(
			connect.Spec{Procedure: "/test.Echo/" + name},
			method{request: reflect.TypeFor[wrapperspb.StringValue](), handler: reflect.ValueOf(e.Say)},
		))}
	}
	s.server.RegisterService(&grpc.ServiceDesc{
		ServiceName: "test.Echo", HandlerType: (*any)(nil),
		Streams: []grpc.StreamDesc{unary("Say"), {
			StreamName: "Count", ServerStreams: true, Handler: s.contained(s.stream(connect.Spec{Procedure: "/test.Echo/Count"}, StreamOf(e.count))),
		}},
	}, nil)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	backendtest.Must(t, err)
	s.address = listener.Addr().String()
	done := make(chan error, 1)
	go func() { done <- s.Serve(listener) }()
	t.Cleanup(func() {
		s.Close()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return s
}

func (s *served) refusals(reason string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.refused[reason]
}

// allFree waits until nothing is held.
func (s *served) allFree(t *testing.T) {
	t.Helper()
	nobody := netip.MustParseAddr("203.0.113.9")
	for name, l := range map[string]*inflight.Limiter[netip.Addr]{"memory": s.options.Shares.Memory, "calls": s.options.Shares.Calls} {
		eventually(t, name+" are given back", func() bool {
			all := l.Acquire(nobody, l.Capacity())
			if all {
				l.Release(nobody, l.Capacity())
			}
			return all
		})
	}
}

// eventually waits for what others bring about.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	late := time.After(20 * time.Second)
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	for !is() {
		select {
		case <-ticker.C:
		case <-late:
			t.Fatal("it did not come about that " + what)
		}
	}
}

// raw is a client that sends what it likes.
type raw struct {
	t      *testing.T
	conn   net.Conn
	framer *http2.Framer
	stream uint32
	read   chan *http2.MetaHeadersFrame
	closed chan error

	windows chan [2]uint32 // stream and increment
	window  int            // of the connection
}

// dial connects from an address of the loopback network, with a window for what the
// server sends on each stream.
func (s *served) dial(t *testing.T, from string, window uint32) *raw {
	t.Helper()
	r := s.connect(t, from, window)
	go func() {
		for {
			frame, err := r.framer.ReadFrame()
			if err != nil {
				r.closed <- err
				return
			}
			switch f := frame.(type) {
			case *http2.MetaHeadersFrame:
				r.read <- f
			case *http2.WindowUpdateFrame:
				r.windows <- [2]uint32{f.StreamID, f.Increment}
			}
		}
	}()
	return r
}

// connect is dial for a client that reads nothing.
func (s *served) connect(t *testing.T, from string, window uint32) *raw {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	conn, err := d.DialContext(t.Context(), "tcp", s.address)
	backendtest.Must(t, err)
	t.Cleanup(func() { conn.Close() })
	r := &raw{t: t, conn: conn, framer: http2.NewFramer(conn, conn), read: make(chan *http2.MetaHeadersFrame, 1000), closed: make(chan error, 1), stream: ^uint32(0), windows: make(chan [2]uint32, 10_000), window: 65535}
	r.framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	_, err = io.WriteString(conn, http2.ClientPreface)
	backendtest.Must(t, err)
	backendtest.Must(t, r.framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: window}))
	backendtest.Must(t, r.framer.WriteWindowUpdate(0, 1<<30)) // the connection's is no bound
	return r
}

// open sends the headers of a call and returns its stream.
func (r *raw) open(procedure string, more ...string) uint32 {
	r.stream += 2
	var block bytes.Buffer
	e := hpack.NewEncoder(&block)
	fields := append([]string{
		":method", "POST", ":scheme", "http", ":path", procedure, ":authority", "x", "content-type", "application/grpc", "te", "trailers",
	}, more...)
	for i := 0; i < len(fields); i += 2 {
		backendtest.Must(r.t, e.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]}))
	}
	backendtest.Must(r.t, r.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: r.stream, BlockFragment: block.Bytes(), EndHeaders: true}))
	return r.stream
}

// send sends a body and the end of its stream, as fast as the windows let it.
func (r *raw) send(id uint32, body []byte) {
	r.t.Helper()
	window := streamWindow
	for {
		for n := min(len(body), window, r.window, 16<<10); n > 0 || len(body) == 0; n = min(len(body), window, r.window, 16<<10) {
			backendtest.Must(r.t, r.framer.WriteData(id, n == len(body), body[:n]))
			if n == len(body) {
				return
			}
			body, window, r.window = body[n:], window-n, r.window-n
		}
		select {
		case w := <-r.windows:
			switch w[0] {
			case 0:
				r.window += int(w[1])
			case id:
				window += int(w[1])
			}
		case h := <-r.read: // the call has ended, and reads no more
			r.read <- h
			return
		case err := <-r.closed:
			r.t.Fatalf("the connection ended: %v", err)
		}
	}
}

// status is the status of the next call that ends, "" when the connection ends first,
// and its message.
func (r *raw) status() (code, message string) {
	r.t.Helper()
	late := time.After(20 * time.Second)
	for {
		select {
		case h := <-r.read:
			for _, f := range h.Fields {
				switch f.Name {
				case "grpc-status":
					code = f.Value
				case "grpc-message":
					message = f.Value
				}
			}
			if h.StreamEnded() {
				return code, message
			}
		case err := <-r.closed:
			r.closed <- err
			return "", ""
		case <-late:
			r.t.Fatal("no call ended")
		}
	}
}

// framed is a message with its head.
func framed(flag byte, message []byte) []byte {
	head := binary.BigEndian.AppendUint32([]byte{flag}, uint32(len(message)))
	return append(head, message...)
}

func text(t *testing.T, value string) []byte {
	t.Helper()
	data, err := proto.Marshal(wrapperspb.String(value))
	backendtest.Must(t, err)
	return data
}

// client is grpc-go's, from the address 127.0.0.1 or another.
func (s *served) client(t *testing.T, from string, options ...grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	options = append(options, insecurely, grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
		return d.DialContext(ctx, "tcp", address)
	}))
	conn, err := grpc.NewClient("passthrough:///"+s.address, options...)
	backendtest.Must(t, err)
	t.Cleanup(func() { conn.Close() })
	return conn
}

// say makes a call that answers with what it is sent.
func say(t *testing.T, conn *grpc.ClientConn, value string, header ...string) (string, error) {
	t.Helper()
	out := &wrapperspb.StringValue{}
	err := conn.Invoke(metadata.AppendToOutgoingContext(t.Context(), header...), "/test.Echo/Say", wrapperspb.String(value), out)
	return out.GetValue(), err
}
