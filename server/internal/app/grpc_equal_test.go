package app

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/contract"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"
)

// outcome is what a gRPC client gets to see of a call.
type outcome struct {
	Code, Message   string
	Details         []string
	Header, Trailer map[string]string
}

var digits = regexp.MustCompile(`[0-9]+(\.[0-9]+)?`)

// protocolHeaders are the protocols' own, which differ from server to server.
var protocolHeaders = []string{"content-type", "content-length", "date", "grpc-encoding", "grpc-accept-encoding", "accept-encoding", "grpc-status", "grpc-message", "grpc-status-details-bin", "trailer"}

func seen(all map[string][]string) map[string]string {
	out := map[string]string{}
	for name, values := range all {
		if name = strings.ToLower(name); !slices.Contains(protocolHeaders, name) {
			out[name] = strings.Join(values, ", ")
		}
	}
	return out
}

func (o *outcome) failed(t *testing.T, code, message string, details []proto.Message) {
	t.Helper()
	o.Code, o.Message = code, message
	for _, d := range details {
		text, err := prototext.MarshalOptions{}.Marshal(d)
		backendtest.Must(t, err)
		o.Details = append(o.Details, string(d.ProtoReflect().Descriptor().FullName())+": "+strings.ReplaceAll(string(text), "  ", " "))
	}
}

// overGRPC makes a call of an RPC over the gRPC port.
func overGRPC(t *testing.T, conn *grpc.ClientConn, procedure string, req, res proto.Message, header ...string) outcome {
	t.Helper()
	var o outcome
	ctx, cancel := context.WithCancel(metadata.AppendToOutgoingContext(t.Context(), header...))
	defer cancel()
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, procedure)
	backendtest.Must(t, err)
	backendtest.Must(t, stream.SendMsg(req))
	backendtest.Must(t, stream.CloseSend())
	err = stream.RecvMsg(res)
	head, _ := stream.Header()
	o.Header = seen(head)
	o.Trailer = seen(stream.Trailer())
	if err != nil {
		s := status.Convert(err)
		var details []proto.Message
		for _, d := range s.Details() {
			details = append(details, d.(proto.Message))
		}
		o.failed(t, connect.Code(s.Code()).String(), s.Message(), details)
	}
	return o
}

// overConnect makes a call of an RPC with gRPC over the API's port.
func overConnect(t *testing.T, client *http.Client, url, procedure string, method protoreflect.MethodDescriptor, req proto.Message, header ...string) outcome {
	t.Helper()
	var o outcome
	c := connect.NewClient[dynamicpb.Message, dynamicpb.Message](client, url+procedure, connect.WithGRPC(), connect.WithSchema(method),
		connect.WithResponseInitializer(func(_ connect.Spec, message any) error {
			*message.(*dynamicpb.Message) = *dynamicpb.NewMessage(method.Output())
			return nil
		}))
	message := dynamicpb.NewMessage(method.Input())
	proto.Merge(message, req)
	sent := connect.NewRequest(message)
	for i := 0; i < len(header); i += 2 {
		sent.Header().Add(header[i], header[i+1])
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var err error
	if method.IsStreamingServer() {
		stream, failed := c.CallServerStream(ctx, sent)
		backendtest.Must(t, failed)
		stream.Receive()
		o.Header, err = seen(stream.ResponseHeader()), stream.Err()
		o.Trailer = map[string]string{}
	} else {
		res, failed := c.CallUnary(ctx, sent)
		if err = failed; err == nil {
			o.Header, o.Trailer = seen(res.Header()), seen(res.Trailer())
		}
	}
	if wire, ok := errors.AsType[*connect.Error](err); ok {
		var details []proto.Message
		for _, d := range wire.Details() {
			m, err := d.Value()
			backendtest.Must(t, err)
			details = append(details, m)
		}
		o.failed(t, wire.Code().String(), wire.Message(), details)
		o.Header = seen(wire.Meta()) // with the trailers
		o.Trailer = nil
	}
	return o
}

// TestBothPortsAnswerAlike walks every RPC, with several credentials and messages, over
// the API's port and the gRPC port: code, message, details and headers are the same.
func TestBothPortsAnswerAlike(t *testing.T) {
	t.Parallel()
	i := startEmbedded(t)
	for _, limit := range []string{"sign-in-per-ip", "anonymous-refusals-per-ip"} {
		i.call(t, "PATCH", "/v1/limits/"+limit, i.admin, map[string]any{"rate": 1e6, "burst": 1e6}).Want(t, 200)
	}
	conn, client := i.serveGRPC(t), h2c(t)
	_, without := i.newUser(t, "without", "something:else")
	key := i.key(t, "something:else")
	for procedure, method := range contract.Methods() {
		bad := dynamicpb.NewMessage(method.Input()) // strings that no rule allows
		for f := range method.Input().Fields().Len() {
			if field := method.Input().Fields().Get(f); field.Kind() == protoreflect.StringKind && !field.IsList() && !field.IsMap() {
				bad.Set(field, protoreflect.ValueOfString(strings.Repeat("é\x01", 3000)))
			}
		}
		empty := dynamicpb.NewMessage(method.Input())
		for name, token := range map[string]string{"nobody": "", "rubbish": "rubbish", "without": without, "key": key, "admin": i.admin} {
			for what, req := range map[string]proto.Message{"empty": empty, "bad": bad} {
				if name == "admin" && what == "empty" && !strings.Contains(string(method.Name()), "List") { // would change something, or watches
					continue
				}
				header := []string{"x-request-id", "same-for-both"}
				if token != "" {
					header = append(header, "authorization", "Bearer "+token)
				}
				if method.Name() == "Logout" && token != "" { // ends the session
					continue
				}
				got := overGRPC(t, conn, procedure, req, dynamicpb.NewMessage(method.Output()), header...)
				want := overConnect(t, client, i.URL, procedure, method, req, header...)
				if want.Code != "" { // connect's client joins them
					maps.Copy(got.Header, got.Trailer)
					got.Trailer = nil
				}
				for _, o := range []*outcome{&got, &want} { // seconds pass
					for n, v := range o.Header {
						o.Header[n] = digits.ReplaceAllString(v, "N")
					}
					o.Message = digits.ReplaceAllString(o.Message, "N")
					for n := range o.Details {
						o.Details[n] = digits.ReplaceAllString(o.Details[n], "N")
					}
				}
				backendtest.Equal(t, got, want, "%s as %s, %s", procedure, name, what)
			}
		}
	}
	if len(contract.Methods()) < 50 {
		t.Error("too few RPCs were walked")
	}
}
