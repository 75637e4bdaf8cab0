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

// kind tells how a request is bounded and served.
type kind uint8

const (
	unary      kind = iota // one message in, one out: takes a call's place
	probe                  // a health check
	stream                 // one message in, many out: bounded by the guard, per principal
	reflection             // gRPC reflection: messages in turns
)

// limiters are the shares of all ports, and what tells the kinds apart.
type limiters struct {
	*inflight.Shares

	streams map[string]bool // procedures that answer with many messages
}

func newLimiters(shares *inflight.Shares) *limiters {
	l := &limiters{Shares: shares, streams: map[string]bool{}}
	for procedure, method := range contract.Methods() {
		l.streams[procedure] = method.IsStreamingServer()
	}
	return l
}

func (l *limiters) kind(r *http.Request) kind {
	path := r.URL.Path
	switch {
	case path == watchPath, path == exportPath, l.streams[path] && framed(r):
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
		return l.Calls
	case probe:
		return l.Probes
	case reflection:
		return l.Reflection
	default:
		return nil
	}
}

// lease is the memory that one request holds.
type lease struct {
	inflight.Lease
	place *inflight.Limiter[netip.Addr] // gives up one place with the memory, unless nil
}

func (l *lease) release() {
	l.Shrink(0)
	if l.place != nil {
		l.place.Release(l.Client(), 1)
	}
}

// Overloaded is the fault of a request that there is no place for.
func Overloaded() *fault.Error {
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
