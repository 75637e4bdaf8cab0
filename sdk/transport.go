package tollgate

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"connectrpc.com/connect"
)

// uncompressed asks for answers without compression, which took an eighth of both
// processors with batches of 30.
var uncompressed = connect.WithAcceptCompression("gzip", nil, nil)

// newTransport returns one that keeps as many connections as a busy service
// needs, and closes an idle one before the server would.
//
// It speaks Connect over HTTP/1.1, also over TLS. Processor time of one Authorize in
// µs, Tollgate's + this package's, with 1, 16 and 64 callers on two cores that others
// used as well:
//
//	                   without TLS                   with TLS
//	Connect, HTTP/1.1   99+98   48+42   55+42         91+76   68+53   59+52
//	Connect, HTTP/2    190+146  77+62   65+46        151+112  75+58   69+51
//	gRPC               204+168  86+63   68+48        227+164  89+59   89+55
//	shared, HTTP/1.1   113+100  22+20   12+9         119+113  24+23   12+10
//	shared, HTTP/2     191+162  31+27   14+11        174+136  37+29   14+12
func newTransport() *http.Transport {
	t := &http.Transport{Proxy: http.ProxyFromEnvironment}
	if standard, ok := http.DefaultTransport.(*http.Transport); ok {
		t = standard.Clone()
	}
	t.Protocols = new(http.Protocols)
	t.Protocols.SetHTTP1(true)
	if t.TLSClientConfig != nil { // HTTP/2's, when the program has used the standard transport
		t.TLSClientConfig.NextProtos = nil
	}
	t.MaxIdleConnsPerHost = 100
	t.IdleConnTimeout = 30 * time.Second
	return t
}

// transport adds the credential to each request, and refuses redirects, which
// would send it elsewhere.
type transport struct {
	next   http.RoundTripper // nil: http.DefaultTransport
	source TokenSource       // nil: none
}

func (t *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	req, err := t.authorize(req)
	if err != nil {
		return nil, err
	}
	res, err := cmp.Or(t.next, http.DefaultTransport).RoundTrip(req)
	if err != nil {
		return nil, err
	}
	if res.StatusCode >= 300 && res.StatusCode < 400 {
		_ = res.Body.Close()
		return nil, connect.NewError(connect.CodeFailedPrecondition,
			fmt.Errorf("the base URL answers with a redirect (%d); give New the address it leads to", res.StatusCode))
	}
	return res, nil
}

func (t *transport) authorize(req *http.Request) (*http.Request, error) {
	if t.source == nil {
		return req, nil
	}
	credential, err := t.source.Token(req.Context())
	if err == nil && kindOf(credential) == notCredential {
		err = errors.New("the credential is neither an access token nor an API key")
	}
	if err != nil {
		if req.Body != nil {
			_ = req.Body.Close()
		}
		return nil, connect.NewError(connect.CodeUnauthenticated, fmt.Errorf("token source: %w", err))
	}
	req = req.Clone(req.Context()) // a RoundTripper leaves its request as it is
	req.Header.Set("Authorization", "Bearer "+credential)
	return req, nil
}

// calls bounds unary calls in time, repeats them where that is safe, and turns every
// error into an *Error.
type calls struct {
	timeout time.Duration
	retries *retries
}

func (c calls) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
		ctx, cancel := context.WithTimeout(ctx, c.timeout)
		defer cancel()
		return c.retries.do(ctx, req, next)
	}
}

func (c calls) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return func(ctx context.Context, spec connect.Spec) connect.StreamingClientConn {
		return stream{next(ctx, spec)}
	}
}

func (c calls) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return next
}

type stream struct{ connect.StreamingClientConn }

func (s stream) Send(message any) error { return toStreamError(s.StreamingClientConn.Send(message)) }
func (s stream) Receive(message any) error {
	return toStreamError(s.StreamingClientConn.Receive(message))
}

// toStreamError keeps io.EOF, the regular end of a stream.
func toStreamError(err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		return err
	}
	return toError(err)
}
