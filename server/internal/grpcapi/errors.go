package grpcapi

import (
	"errors"
	"net/http"
	"net/netip"
	"strings"

	"connectrpc.com/connect"
	"github.com/tollgatehq/tollgate/server/internal/fault"
	"github.com/tollgatehq/tollgate/server/internal/httpapi"
	"github.com/tollgatehq/tollgate/server/internal/metrics"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/anypb"
)

type client = netip.Addr

// refuse is the end of a call with an error, as Connect would send it over gRPC: the
// error's headers are trailers, its details a google.rpc.Status.
func (s *Server) refuse(c *call, err error) error {
	var wire *connect.Error
	switch {
	case errors.Is(err, errMemory):
		s.options.Refused(metrics.RefusedMemory, nil)
		wire = fault.Connect(httpapi.Overloaded(), c.origin.RequestID)
	case errors.As(err, &wire): // the guard's
	default:
		f := fault.Of(c, err)
		if f.Kind == fault.Internal {
			s.options.Log.ErrorContext(c, "call failed", "reason", f.Reason, "error", f.Cause)
		}
		wire = fault.Connect(f, c.origin.RequestID)
	}
	if c.stream != nil {
		c.sendHeader(nil)                   //nolint:errcheck // they were sent, or the caller hung up
		wire.Meta().Del("WWW-Authenticate") // is no trailer (RFC 9110 §6.5.1), and net/http sends none, either
		c.stream.SetTrailer(fields(nil, wire.Meta()))
	}
	out := &spb.Status{Code: int32(wire.Code()), Message: wire.Message()}
	for _, detail := range wire.Details() {
		out.Details = append(out.Details, &anypb.Any{TypeUrl: "type.googleapis.com/" + detail.Type(), Value: detail.Bytes()})
	}
	return status.FromProto(out).Err()
}

var noStore = []string{"no-store"}

// sendHeader sends the headers of every answer, and these.
func (c *call) sendHeader(header http.Header) error {
	md := make(metadata.MD, 2+len(header))
	md["x-request-id"] = []string{c.origin.RequestID}
	md["cache-control"] = noStore
	return c.stream.SendHeader(fields(md, header))
}

// fields adds headers to metadata, whose names are in lower case.
func fields(md metadata.MD, header http.Header) metadata.MD {
	for name, values := range header {
		if md == nil {
			md = make(metadata.MD, len(header))
		}
		md[strings.ToLower(name)] = values
	}
	return md
}
