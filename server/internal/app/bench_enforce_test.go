package app

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
	"github.com/tollgatehq/tollgate/gen/tollgate/v1/tollgatev1connect"
	"github.com/tollgatehq/tollgate/server/internal/apitest"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/contract"
)

// BenchmarkForwardAuth asks about a request by the table of 1,000 routes, and
// reports it as a multiple of Authorize over the same transport, HTTP/1.1, on the
// same server in the same run ("x-authorize").
func BenchmarkForwardAuth(b *testing.B) {
	p := startProxied(b)
	for n := range 1000 {
		p.route(b, fmt.Sprintf("r%d", n), fmt.Sprintf("/service-%d/orders/{id}", n), apitest.Object{"permission": "orders:read", "resource": "orders/{id}"})
	}
	call := func(method, path, body string, header ...string) func() {
		return func() {
			req, err := http.NewRequestWithContext(context.Background(), method, p.URL+path, strings.NewReader(body))
			backendtest.Must(b, err)
			for i := 0; i < len(header); i += 2 {
				req.Header.Set(header[i], header[i+1])
			}
			res, err := p.HTTP.Do(req)
			backendtest.Must(b, err)
			_, err = io.Copy(io.Discard, res.Body)
			backendtest.Must(b, err)
			res.Body.Close()
			if res.StatusCode != http.StatusOK {
				b.Fatalf("%s: %d", path, res.StatusCode)
			}
		}
	}
	authorize := call("POST", "/v1/authorize", fmt.Sprintf(`{"accessToken":%q,"permission":"orders:read","resource":"orders/42"}`, p.alice),
		"Authorization", "Bearer "+p.key, "Content-Type", "application/json")
	forward := call("GET", forwardAuth, "", "X-Tollgate-Key", p.key, "Authorization", "Bearer "+p.alice,
		"X-Forwarded-Method", "GET", "X-Forwarded-Host", "orders.example", "X-Forwarded-Uri", "/service-500/orders/42?page=2", "X-Forwarded-For", "192.0.2.7")
	versus(b, authorize, forward, "x-authorize")
}

// versus reports how many times as long a call takes as another, which takes turns
// with it so that both meet the same machine.
func versus(b *testing.B, base, call func(), unit string) {
	b.Helper()
	var bases, calls time.Duration
	for range b.N {
		began := time.Now()
		base()
		middle := time.Now()
		call()
		bases += middle.Sub(began)
		calls += time.Since(middle)
	}
	b.ReportMetric(float64(calls)/float64(bases), unit)
}

// BenchmarkExtAuthz asks as Envoy does, about a request with the headers of a
// browser, by the table of 1,000 routes, and reports it as a multiple of Authorize
// over the same transport, gRPC ("x-authorize").
func BenchmarkExtAuthz(b *testing.B) {
	p := startProxied(b)
	for n := range 1000 {
		p.route(b, fmt.Sprintf("r%d", n), fmt.Sprintf("/service-%d/orders/{id}", n), apitest.Object{"permission": "orders:read", "resource": "orders/{id}"})
	}
	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetUnencryptedHTTP2(true)
	h2c := &http.Client{Transport: transport}
	client := func(procedure, header, value string, message proto.Message) func() {
		encoded, err := proto.Marshal(message)
		backendtest.Must(b, err)
		calls := connect.NewClient[[]byte, []byte](h2c, p.URL+procedure, connect.WithGRPC(), connect.WithCodec(encodedCodec{}), connect.WithAcceptCompression("gzip", nil, nil))
		return func() {
			ask := connect.NewRequest(&encoded)
			ask.Header().Set(header, value)
			res, err := calls.CallUnary(context.Background(), ask)
			backendtest.Must(b, err)
			if !bytes.Contains(*res.Msg, []byte("alice")) && !bytes.Contains(*res.Msg, []byte("tollgate-assertion")) {
				b.Fatalf("%q", *res.Msg)
			}
		}
	}
	authorize := client(tollgatev1connect.RolesServiceAuthorizeProcedure, "Authorization", "Bearer "+p.key, &tollgatev1.AuthorizeRequest{
		Credential: &tollgatev1.AuthorizeRequest_AccessToken{AccessToken: p.alice}, Permission: "orders:read", Resource: "orders/42",
	})
	for name, s := range map[string]sent{
		"by route":      fetch("/service-500/orders/42?page=2", p.alice),
		"by permission": fetch("/service-500/orders/42?page=2", p.alice, "permission", "orders:read", "resource", "orders/42"),
	} {
		s = s.with("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0", "accept", "application/json",
			"accept-language", "en-US,en;q=0.5", "accept-encoding", "gzip, deflate, br, zstd", "referer", "https://orders.example/orders",
			"x-request-id", "01a22b84-d45d-78a0-85a7-225c277bf4f0", "x-forwarded-proto", "https", "x-forwarded-for", "192.0.2.7")
		asks := client(contract.ExtAuthzCheck, "X-Tollgate-Key", p.key, s.request())
		b.Run(name, func(b *testing.B) { versus(b, authorize, asks, "x-authorize") })
	}
}

// encodedCodec leaves messages as they are on the wire: what is measured is the
// server, not the test's client.
type encodedCodec struct{}

func (encodedCodec) Name() string { return "proto" }

func (encodedCodec) Marshal(message any) ([]byte, error) { return bytes.Clone(*message.(*[]byte)), nil }

func (encodedCodec) Unmarshal(data []byte, message any) error {
	*message.(*[]byte) = bytes.Clone(data)
	return nil
}
