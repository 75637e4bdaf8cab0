package main_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"

	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

// wire is how a call is sent.
type wire struct {
	name  string
	http2 bool
	// prepare encodes a message for a procedure, read what comes back.
	prepare func(procedure string, message proto.Message) (httpRequest, error)
	read    func(*http.Response, []byte, proto.Message) error
}

// httpRequest is a request that load generators and Go's client send alike.
type httpRequest struct {
	method, path string
	header       []string // names and values in turns
	body         []byte
}

var (
	overREST       = wire{name: "REST JSON, HTTP/1.1", prepare: prepareREST, read: readJSON}
	overConnect    = wire{name: "Connect, HTTP/1.1", prepare: prepareConnect, read: readProto}
	overConnectH2  = wire{name: "Connect, h2c", http2: true, prepare: prepareConnect, read: readProto}
	overGRPC       = wire{name: "gRPC, h2c", http2: true, prepare: prepareGRPC, read: readGRPC}
	overForwarding = wire{name: "forward auth, HTTP/1.1", read: readNothing}

	// overGRPCListener is the same as overGRPC, at another address.
	overGRPCListener = wire{name: "gRPC listener", http2: true, prepare: prepareGRPC, read: readGRPC}
)

func prepareConnect(procedure string, message proto.Message) (httpRequest, error) {
	body, err := proto.Marshal(message)
	return httpRequest{"POST", procedure, []string{"Content-Type", "application/proto", "Connect-Protocol-Version", "1"}, body}, err
}

func prepareGRPC(procedure string, message proto.Message) (httpRequest, error) {
	body, err := proto.Marshal(message)
	frame := binary.BigEndian.AppendUint32([]byte{0}, uint32(len(body)))
	return httpRequest{"POST", procedure, []string{"Content-Type", "application/grpc", "Te", "trailers"}, append(frame, body...)}, err
}

// prepareREST sends a message to where the procedure is under /v1. The null RPC,
// which is not there, takes Connect's JSON: the same on the wire.
func prepareREST(procedure string, message proto.Message) (httpRequest, error) {
	r := httpRequest{"POST", procedure, []string{"Content-Type", "application/json"}, nil}
	if procedure != nullProcedure {
		method, err := methodOf(procedure)
		if err != nil {
			return r, err
		}
		rule, _ := proto.GetExtension(method.Options(), annotations.E_Http).(*annotations.HttpRule)
		if r.path = rule.GetPost(); r.path == "" || strings.Contains(r.path, "{") {
			return r, fmt.Errorf("%s is not at a fixed path", procedure)
		}
	}
	encoded, err := protojson.Marshal(message)
	if err != nil {
		return r, err
	}
	var compact bytes.Buffer // protojson's blanks are random
	err = json.Compact(&compact, encoded)
	r.body = compact.Bytes()
	return r, err
}

func readProto(res *http.Response, body []byte, answer proto.Message) error {
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d: %s", res.StatusCode, body)
	}
	return proto.Unmarshal(body, answer)
}

func readJSON(res *http.Response, body []byte, answer proto.Message) error {
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d: %s", res.StatusCode, body)
	}
	return protojson.Unmarshal(body, answer)
}

func readGRPC(res *http.Response, body []byte, answer proto.Message) error {
	status := res.Trailer.Get("Grpc-Status")
	if status == "" {
		status = res.Header.Get("Grpc-Status")
	}
	if res.StatusCode != http.StatusOK || status != "0" {
		return fmt.Errorf("status %d, grpc-status %s: %s%s", res.StatusCode, status, res.Trailer.Get("Grpc-Message"), res.Header.Get("Grpc-Message"))
	}
	if len(body) < 5 || body[0] != 0 || int(binary.BigEndian.Uint32(body[1:])) != len(body)-5 {
		return fmt.Errorf("not one plain gRPC message: %x", body)
	}
	return proto.Unmarshal(body[5:], answer)
}

// readNothing takes what forward auth and lists answer for what it is.
func readNothing(res *http.Response, body []byte, _ proto.Message) error {
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d: %s", res.StatusCode, body)
	}
	return nil
}

func methodOf(procedure string) (protoreflect.MethodDescriptor, error) {
	name := protoreflect.FullName(strings.ReplaceAll(strings.TrimPrefix(procedure, "/"), "/", "."))
	found, err := protoregistry.GlobalFiles.FindDescriptorByName(name)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", procedure, err)
	}
	method, ok := found.(protoreflect.MethodDescriptor)
	if !ok {
		return nil, fmt.Errorf("%s is no RPC", procedure)
	}
	return method, nil
}

// answerOf is an empty message of the type that a procedure answers.
func answerOf(procedure string) (proto.Message, error) {
	method, err := methodOf(procedure)
	if err != nil {
		return nil, err
	}
	kind, err := protoregistry.GlobalTypes.FindMessageByName(method.Output().FullName())
	if err != nil {
		return nil, err
	}
	return kind.New().Interface(), nil
}

// send sends the request with Go's client and returns the answer and its body.
func (r httpRequest) send(ctx context.Context, client *http.Client, address string) (*http.Response, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, r.method, "http://"+address+r.path, bytes.NewReader(r.body))
	if err != nil {
		return nil, nil, err
	}
	for i := 0; i < len(r.header); i += 2 {
		req.Header.Set(r.header[i], r.header[i+1])
	}
	res, err := client.Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	return res, body, err
}

// raw is the request as HTTP/1.1 has it.
func (r httpRequest) raw(address string) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: %s\r\n", r.method, r.path, address)
	for i := 0; i < len(r.header); i += 2 {
		fmt.Fprintf(&b, "%s: %s\r\n", r.header[i], r.header[i+1])
	}
	if r.method != "GET" {
		fmt.Fprintf(&b, "Content-Length: %d\r\n", len(r.body))
	}
	b.WriteString("\r\n")
	b.Write(r.body)
	return b.Bytes()
}
