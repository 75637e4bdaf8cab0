package grpcapi

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net/netip"
	"sync"
	"time"

	"connectrpc.com/connect"
	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/fault"
	"github.com/tollgatehq/tollgate/server/internal/httpapi"
	"github.com/tollgatehq/tollgate/server/internal/inflight"
	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/tap"
)

// call is one call, from its headers until the last byte of its answer has left. It is
// the stream's context: grpc-go's reads end with it.
type call struct {
	context.Context //nolint:containedctx // it is the context
	cancel          context.CancelCauseFunc
	timer           *time.Timer // for what phase waits for

	waits     *waits
	address   *address
	header    metadata.MD
	stream    grpc.ServerStream
	transport transportStream
	origin    caller.Caller
	client    netip.Addr

	head [frameHeader]byte

	mu      sync.Mutex
	phase   phase
	until   time.Time // when the phase is over; zero: never
	lease   inflight.Lease
	answers int   // that have not left yet
	bytes   int64 // of them
	message int64 // bytes of the request
}

// phase is what a call waits for.
type phase uint8

const (
	receiving phase = iota // the message
	running                // the handler; a stream's as long as it likes
	sending                // what a stream has sent to leave, so that there is space for more
	leaving                // the rest of the answer to leave
	gone
)

// transportStream is what grpc-go's streams have besides the public interface. A
// message must be counted against its caller's memory between its length and its
// bytes, and RecvMsg reads both in one step. A test calls through it.
type transportStream interface {
	ReadMessageHeader(header []byte) error
	Read(n int) (mem.BufferSlice, error)
	RecvCompress() string
	ContentSubtype() string
}

type callKey struct{}

// Value finds the call itself.
func (c *call) Value(key any) any {
	if key == (callKey{}) {
		return c
	}
	return c.Context.Value(key)
}

// begin makes the call when its headers are there. It runs in the goroutine that reads
// the connection, and must not wait.
func (s *Server) begin(ctx context.Context, info *tap.Info) (context.Context, error) {
	c := &call{header: info.Header, waits: &s.waits}
	from, _ := peer.FromContext(ctx)
	c.address = addressOf(from)
	c.Context, c.cancel = context.WithCancelCause(ctx)
	c.until = time.Now().Add(s.waits.body)
	c.timer = time.AfterFunc(s.waits.body, c.late)
	return c, nil
}

// enter begins to serve a call, with as much memory as may come unasked: what the
// stream's window lets through. It is false when its client's share is used up.
func (s *Server) enter(c *call, stream grpc.ServerStream) bool {
	c.stream = stream
	c.transport, _ = grpc.ServerTransportStreamFromContext(stream.Context()).(transportStream)
	c.origin = caller.New(c.address.peer, c.header["x-forwarded-for"], first(c.header["user-agent"]),
		first(c.header["x-request-id"]), s.options.TrustedProxies, s.options.Clock.NewID)
	c.client = inflight.Address(c.origin.IP)
	if c.transport != nil && c.transport.RecvCompress() != "" {
		grpc.SetSendCompressor(stream.Context(), encoding.Identity) //nolint:errcheck // nothing is sent yet; grpc-go would pack the answer as the message was
	}
	c.lease = s.options.Shares.Lease(c.client)
	return c.lease.Grow(streamWindow)
}

func first(values []string) string {
	if len(values) == 0 {
		return ""
	}
	return values[0]
}

var (
	errBodyTimeout = fault.New(fault.Timeout, "BODY_TIMEOUT", "the body did not arrive within %s; send it faster", defaultWaits.body)
	errAnswerTime  = fault.New(fault.Timeout, "DEADLINE_EXCEEDED", "the call took longer than this server lets it")
	errTooSlow     = fault.New(fault.Canceled, "CANCELED", "the caller does not read what it is sent")
)

// late is called when what the call waits for has not come in time.
func (c *call) late() {
	c.mu.Lock()
	phase, early := c.phase, c.until.IsZero() || time.Now().Before(c.until)
	c.mu.Unlock()
	if early { // it waits for something else already
		return
	}
	switch phase {
	case receiving:
		c.cancel(errBodyTimeout)
	case running:
		c.cancel(errAnswerTime)
	case sending:
		c.cancel(errTooSlow)
	case leaving:
		// HTTP/2 knows no other way for a server to take back what it has sent.
		if c.address.conn != nil {
			c.address.conn.Close()
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.free()
	}
}

// wait lets the call wait for something else, for so long; 0: for as long as it likes.
func (c *call) wait(phase phase, most time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waitLocked(phase, most)
}

func (c *call) waitLocked(phase phase, most time.Duration) {
	c.phase, c.until = phase, time.Time{}
	if most == 0 {
		c.timer.Stop()
		return
	}
	c.until = time.Now().Add(most)
	c.timer.Reset(most)
}

// free gives back everything. The caller holds mu.
func (c *call) free() {
	if c.phase == gone {
		return
	}
	c.phase = gone
	c.timer.Stop()
	c.lease.Shrink(0)
}

// leave ends the handler's part. What it has sent may still wait for its reader.
func (c *call) leave() {
	c.cancel(context.Canceled)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.answers == 0 {
		c.free()
		return
	}
	c.waitLocked(leaving, c.waits.message)
}

// grow counts bytes on top of what every call is taken to hold.
func (c *call) grow() bool { return c.lease.Grow(inflight.RequestMemory + c.message + c.bytes) }

// send queues a message. It waits only where a stream's caller has not read what came
// before.
func (c *call) send(message any) error {
	a := newAnswer(c, message)
	c.mu.Lock()
	c.bytes += a.size
	fits := c.grow()
	if !fits {
		c.bytes -= a.size
	} else {
		c.answers++
	}
	c.mu.Unlock()
	if !fits {
		a.recycle()
		return errMemory
	}
	return c.stream.SendMsg(a)
}

// left is called when a message has been written to the connection, or dropped with
// its stream.
func (c *call) left(size int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.answers--
	c.bytes -= size
	switch {
	case c.phase == gone:
	case c.answers == 0 && c.phase == leaving:
		c.free()
	default:
		c.lease.Shrink(inflight.RequestMemory + c.message + c.bytes)
	}
}

const frameHeader = 5

var errMemory = errors.New("the caller holds its share of memory")

// receive reads the one message, and that there is no other. The bytes are for the
// caller to free.
func (c *call) receive() (mem.BufferSlice, error) {
	if c.transport == nil {
		return nil, errors.New("gRPC: the transport's streams are not what they were")
	}
	if t := c.transport.ContentSubtype(); t != "" && t != "proto" {
		return nil, fault.New(fault.Unimplemented, "UNSUPPORTED_ENCODING", "this port speaks application/grpc+proto; other encodings are spoken at the API's")
	}
	err := c.transport.ReadMessageHeader(c.head[:])
	if errors.Is(err, io.EOF) {
		return nil, fault.New(fault.Unimplemented, "BAD_REQUEST", "the call has no message; send one")
	}
	if err != nil {
		return nil, c.unread(err)
	}
	packed, size := c.head[0]&1 == 1, binary.BigEndian.Uint32(c.head[1:])
	switch {
	case size > httpapi.MaxBody:
		return nil, fault.New(fault.TooLarge, "TOO_LARGE", "the message is over %d bytes", httpapi.MaxBody)
	case c.head[0] > 1:
		return nil, fault.New(fault.Invalid, "BAD_REQUEST", "the message's first byte says neither that it is packed nor that it is not")
	}
	if size > inflight.SmallBody {
		c.message = int64(size)
		if !c.lease.Grow(streamWindow + c.message) {
			return nil, errMemory
		}
	}
	var data mem.BufferSlice
	if size > 0 {
		if data, err = c.transport.Read(int(size)); err != nil {
			return nil, c.unread(err)
		}
	}
	if err = c.transport.ReadMessageHeader(c.head[:1]); !errors.Is(err, io.EOF) {
		data.Free()
		if err != nil {
			return nil, c.unread(err)
		}
		return nil, fault.New(fault.Unimplemented, "BAD_REQUEST", "the call has more than one message; send one")
	}
	if packed {
		if data, err = unpack(c, data); err != nil {
			return nil, err
		}
	}
	c.lease.Shrink(inflight.RequestMemory + c.message)
	return data, nil
}

// unread is the error for a message that did not arrive.
func (c *call) unread(err error) error {
	if ended, ok := errors.AsType[*fault.Error](context.Cause(c)); ok {
		return ended
	}
	if c.Err() != nil {
		return c.Err()
	}
	return fault.New(fault.Invalid, "BAD_REQUEST", "the body ended early").Because(err)
}

// peer is the call's origin for interceptors.
func (c *call) peer() connect.Peer {
	return connect.Peer{Addr: c.address.text, Protocol: connect.ProtocolGRPC}
}
