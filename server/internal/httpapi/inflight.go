package httpapi

import (
	"net/http"
	"net/netip"
	"strings"
	"time"

	"connectrpc.com/connect"
	"connectrpc.com/grpchealth"
	"github.com/tollgatehq/tollgate/server/internal/contract"
	"github.com/tollgatehq/tollgate/server/internal/fault"
	"github.com/tollgatehq/tollgate/server/internal/inflight"
)

const (
	// defaultCalls is how many calls may run at once: many more than the
	// processors and the database are good for, few enough that each still gets
	// its answer in time.
	defaultCalls = 1024
	// probeCalls is how many health checks may run at once. They have places of
	// their own: a probe must tell a busy server from a dead one.
	probeCalls = 64
	// reflectionStreams is how many reflection streams may be open at once. One
	// answer of a few bytes' question has 200 kB.
	reflectionStreams = 32

	// requestMemory is what one request is taken to hold from its first header
	// to the last byte of its answer: its headers (32 KiB at most) or its
	// goroutine, buffers and a small body. A larger body is counted on top.
	requestMemory = 32 << 10
	// minMemory is the least that all requests together may hold.
	minMemory = 64 << 20
)

// kind tells how a request is bounded and served.
type kind uint8

const (
	unary      kind = iota // one message in, one out: takes a call's place
	probe                  // a health check
	stream                 // one message in, many out: bounded by the guard, per principal
	reflection             // gRPC reflection: messages in turns
)

// limiters bound what is under way, in all and per client address.
type limiters struct {
	memory     *inflight.Limiter[netip.Addr] // bytes that requests hold, whatever they wait for
	calls      *inflight.Limiter[netip.Addr] // calls whose handler runs
	probes     *inflight.Limiter[netip.Addr]
	reflection *inflight.Limiter[netip.Addr]

	streams map[string]bool // procedures that answer with many messages
}

func newLimiters(calls int) *limiters {
	if calls <= 0 {
		calls = defaultCalls
	}
	l := &limiters{
		memory:     inflight.New[netip.Addr](max(minMemory, int64(calls)*2*requestMemory)),
		calls:      inflight.New[netip.Addr](int64(calls)),
		probes:     inflight.New[netip.Addr](probeCalls),
		reflection: inflight.New[netip.Addr](reflectionStreams),
		streams:    map[string]bool{},
	}
	for procedure, method := range contract.Methods() {
		l.streams[procedure] = method.IsStreamingServer()
	}
	return l
}

func (l *limiters) kind(r *http.Request) kind {
	path := r.URL.Path
	switch {
	case path == watchPath, l.streams[path] && framed(r):
		return stream
	case strings.HasPrefix(path, "/grpc.reflection.") && framed(r):
		return reflection
	case path == healthPath, path == readyPath, strings.HasPrefix(path, "/"+grpchealth.HealthV1ServiceName+"/"):
		return probe
	default:
		return unary
	}
}

// of is the limiter of a kind, nil when there is none here.
func (l *limiters) of(k kind) *inflight.Limiter[netip.Addr] {
	switch k {
	case unary:
		return l.calls
	case probe:
		return l.probes
	case reflection:
		return l.reflection
	default:
		return nil
	}
}

// lease is the memory that one request holds.
type lease struct {
	limiter *inflight.Limiter[netip.Addr]
	client  netip.Addr
	size    int64
	place   *inflight.Limiter[netip.Addr] // gives up one place with the memory, unless nil
}

// grow makes the lease at least size bytes, if the client's share allows it.
func (l *lease) grow(size int64) bool {
	if size <= l.size {
		return true
	}
	if !l.limiter.Acquire(l.client, size-l.size) {
		return false
	}
	l.size = size
	return true
}

func (l *lease) release() {
	l.limiter.Release(l.client, l.size)
	if l.place != nil {
		l.place.Release(l.client, 1)
	}
}

// overloaded is the fault of a request that there is no place for.
func overloaded() *fault.Error {
	return fault.New(fault.Unavailable, "OVERLOADED",
		"this server has as much under way as it takes, from your address or in all; try again").After(time.Second)
}

// refuse answers before the handler ran, in the caller's own protocol. The rest
// of the body is not waited for.
func refuse(w http.ResponseWriter, r *http.Request, f *fault.Error, requestID string) {
	if r.ProtoMajor < 2 && r.Body != nil && r.Body != http.NoBody {
		w.Header().Set("Connection", "close")
	}
	if framed(r) {
		connect.NewErrorWriter().Write(w, r, fault.Connect(f, requestID)) //nolint:errcheck // the caller hung up
		return
	}
	writeFault(w, f, requestID)
}
