package httpapi

import (
	"net/http"
	"strings"
	"time"

	"connectrpc.com/connect"
	"connectrpc.com/grpchealth"
	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
	"github.com/tollgatehq/tollgate/server/internal/fault"
	"google.golang.org/protobuf/reflect/protoreflect"
)

const (
	// defaultCalls is how many calls may be under way at once: many more than
	// the processors and the database are good for, few enough that each still
	// gets its answer in time.
	defaultCalls = 1024
	// bodyTime is how long a call's body may take to arrive.
	bodyTime = 10 * time.Second
)

// crowd bounds how many calls are under way: one more is refused at once,
// before it costs anything, instead of making all of them late.
type crowd struct {
	places chan struct{} // holds a token per call
	exempt map[string]bool
}

func newCrowd(calls int) *crowd {
	if calls <= 0 {
		calls = defaultCalls
	}
	c := &crowd{places: make(chan struct{}, calls), exempt: map[string]bool{
		"/healthz": true, "/readyz": true, "/v1/audit/events/watch": true,
	}}
	// Streams last, and have bounds of their own.
	for _, file := range []protoreflect.FileDescriptor{
		tollgatev1.File_tollgate_v1_auth_proto, tollgatev1.File_tollgate_v1_roles_proto,
		tollgatev1.File_tollgate_v1_limits_proto, tollgatev1.File_tollgate_v1_audit_proto,
	} {
		for i := range file.Services().Len() {
			service := file.Services().Get(i)
			for j := range service.Methods().Len() {
				if m := service.Methods().Get(j); m.IsStreamingServer() || m.IsStreamingClient() {
					c.exempt["/"+string(service.FullName())+"/"+string(m.Name())] = true
				}
			}
		}
	}
	return c
}

// counts says whether a request is one of those that are bounded: not probes,
// which must tell a busy server from a dead one, and not streams.
func (c *crowd) counts(r *http.Request) bool {
	return !c.exempt[r.URL.Path] && !strings.HasPrefix(r.URL.Path, "/"+grpchealth.HealthV1ServiceName+"/") &&
		!strings.HasPrefix(r.URL.Path, "/grpc.reflection.")
}

func (c *crowd) full() bool { return len(c.places) == cap(c.places) }

// enter takes a place if there is one; call leave afterwards.
func (c *crowd) enter() bool {
	select {
	case c.places <- struct{}{}:
		return true
	default:
		return false
	}
}

func (c *crowd) leave() { <-c.places }

// refuse answers a call that there is no place for, in its own protocol.
func (c *crowd) refuse(w http.ResponseWriter, r *http.Request, requestID string) {
	f := fault.New(fault.Unavailable, "OVERLOADED", "this server has %d calls under way, which is the most; try again", cap(c.places)).After(time.Second)
	if framed(r) {
		connect.NewErrorWriter().Write(w, r, fault.Connect(f, requestID)) //nolint:errcheck // the caller hung up
		return
	}
	writeFault(w, f, requestID)
}
