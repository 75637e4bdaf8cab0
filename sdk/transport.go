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

// newTransport returns one that keeps as many connections as a busy service
// needs, and closes an idle one before the server would.
func newTransport() *http.Transport {
	t := &http.Transport{Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true}
	if standard, ok := http.DefaultTransport.(*http.Transport); ok {
		t = standard.Clone()
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

// calls bounds unary calls in time and turns every error into an *Error.
type calls struct{ timeout time.Duration }

func (c calls) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
		ctx, cancel := context.WithTimeout(ctx, c.timeout)
		defer cancel()
		res, err := next(ctx, req)
		if err != nil {
			return nil, toError(err)
		}
		return res, nil
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
