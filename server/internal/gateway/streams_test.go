package gateway_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/tollgatehq/tollgate/server/internal/apitest"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// stream is an upstream's response that goes on: each text that the test sends is
// written as it is.
func stream(texts <-chan string, contentType string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", contentType)
		w.(http.Flusher).Flush()
		for {
			select {
			case text, more := <-texts:
				if !more {
					return
				}
				io.WriteString(w, text)
				w.(http.Flusher).Flush()
			case <-r.Context().Done():
				return
			}
		}
	}
}

// open begins a GET as somebody and returns its response.
func (g *gate) open(t testing.TB, path, token string) *http.Response {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), apitest.Timeout)
	t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, "GET", "http://"+g.addr+path, nil)
	backendtest.Must(t, err)
	req.Header.Set("Authorization", "Bearer "+token)
	res, err := http.DefaultTransport.RoundTrip(req)
	backendtest.Must(t, err)
	t.Cleanup(func() { res.Body.Close() })
	return res
}

// Each event arrives when it is sent, and not with the next.
func TestEventStream(t *testing.T) {
	t.Parallel()
	texts := make(chan string)
	g := start(t, stream(texts, "text/event-stream"))
	res := g.open(t, "/orders/events", g.Token)
	lines := bufio.NewReader(res.Body)
	for i := range 5 {
		want := fmt.Sprintf("data: %d\n", i)
		texts <- want
		line, err := lines.ReadString('\n')
		backendtest.Must(t, err)
		backendtest.Equal(t, line, want, "event")
	}
	close(texts)
	_, err := lines.ReadString('\n')
	backendtest.Equal(t, err, io.EOF, "the end")
}

// A stream ends within moments when its caller may no longer have it: a session
// that was revoked, a role that was taken, a route that asks for more.
func TestStreamsEndWithTheRight(t *testing.T) {
	t.Parallel()
	texts := make(chan string)
	g := start(t, stream(texts, "application/x-ndjson"))
	for name, change := range map[string]func(token string){
		"revoked": func(token string) { g.api.As(token).Call(t, "POST", "/v1/auth/logout", nil).Want(t, 200) },
		"another route": func(string) {
			g.route(t, "more", "/orders/stream", apitest.Object{"permission": "orders:stream"})
		},
	} {
		token := g.login(t)
		res := g.open(t, "/orders/stream", token)
		texts <- "{}\n"
		lines := bufio.NewReader(res.Body)
		_, err := lines.ReadString('\n')
		backendtest.Must(t, err)
		changed := time.Now()
		change(token)
		if _, err = lines.ReadString('\n'); err == nil || errors.Is(err, io.EOF) || errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: the stream goes on, or ends as if it were whole: %v", name, err)
		}
		t.Logf("%s: the stream ended after %s", name, time.Since(changed))
		if name == "another route" {
			g.api.Call(t, "DELETE", "/v1/routes/more", nil).Want(t, 200)
		}
	}
	public := g.open(t, "/public/stream", "")
	texts <- "{}\n"
	_, err := bufio.NewReader(public.Body).ReadString('\n')
	backendtest.Must(t, err)
}

// echo is an upstream that speaks any protocol that it is asked for: it sends back
// what it gets.
func echo(w http.ResponseWriter, r *http.Request) {
	protocol := r.Header.Get("Upgrade")
	if protocol == "" {
		hello(w, r)
		return
	}
	conn, buffered, err := w.(http.Hijacker).Hijack()
	if err != nil {
		return
	}
	defer conn.Close()
	fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\nSec-WebSocket-Accept: x\r\nTollgate-Status: upstream\r\n\r\n", protocol)
	io.Copy(conn, buffered)
}

// upgrade asks for a protocol and returns the connection and the answer.
func (g *gate) upgrade(t testing.TB, path, token, protocol, early string) (net.Conn, *bufio.Reader, *http.Response) {
	t.Helper()
	conn, err := net.Dial("tcp", g.addr)
	backendtest.Must(t, err)
	t.Cleanup(func() { conn.Close() })
	backendtest.Must(t, conn.SetDeadline(time.Now().Add(apitest.Timeout)))
	fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: a.example\r\nAuthorization: Bearer %s\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: %s\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: x\r\n\r\n%s", path, token, protocol, early)
	reader := bufio.NewReader(conn)
	res, err := http.ReadResponse(reader, nil)
	backendtest.Must(t, err)
	return conn, reader, res
}

func TestWebSocket(t *testing.T) {
	t.Parallel()
	g := start(t, echo)
	conn, reader, res := g.upgrade(t, "/orders/socket", g.Token, "websocket", "early ")
	backendtest.Equal(t, res.StatusCode, 101, "status")
	backendtest.Equal(t, res.Header.Get("Upgrade")+res.Header.Get("Sec-WebSocket-Accept"), "websocketx", "headers")
	backendtest.Equal(t, res.Header.Get("Tollgate-Status"), "", "Tollgate-Status")
	if res.Header.Get("X-Request-Id") == "" {
		t.Error("there is no request id")
	}
	want := "early "
	for i := range 3 {
		text := fmt.Sprintf("frame %d", i)
		io.WriteString(conn, text)
		want += text
	}
	got := make([]byte, len(want))
	_, err := io.ReadFull(reader, got)
	backendtest.Must(t, err)
	backendtest.Equal(t, string(got), want, "echo")
	backendtest.Must(t, conn.(*net.TCPConn).CloseWrite())
	_, err = reader.ReadByte()
	backendtest.Equal(t, err, io.EOF, "the end")

	_, _, res = g.upgrade(t, "/orders/socket", "", "websocket", "")
	backendtest.Equal(t, res.StatusCode, 401, "status without a credential")

	token := g.login(t)
	_, reader, res = g.upgrade(t, "/orders/socket", token, "websocket", "")
	backendtest.Equal(t, res.StatusCode, 101, "status")
	g.api.As(token).Call(t, "POST", "/v1/auth/logout", nil).Want(t, 200)
	if _, err = reader.ReadByte(); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a connection outlives its session: %v", err)
	}
}

// Another protocol than WebSocket could carry requests that nobody decides about:
// the upstream never hears of it.
func TestOtherUpgrades(t *testing.T) {
	t.Parallel()
	g := start(t, echo)
	for _, protocol := range []string{"h2c", "H2C", "TLS/1.0", "tcp", "websocket, h2c", "h2c, websocket"} {
		_, _, res := g.upgrade(t, "/public/x", "", protocol, "")
		backendtest.Equal(t, res.StatusCode, 200, "status of an upgrade to %s", protocol)
		seen := g.upstream.last(t).Header
		if all := strings.Join([]string{seen.Get("Upgrade"), seen.Get("Http2-Settings"), seen.Get("Connection")}, ""); all != "" {
			t.Errorf("%s: the upstream sees %s", protocol, all)
		}
	}
}

const (
	unaryPath  = "/echo.v1.Echo/Unary"
	serverPath = "/echo.v1.Echo/Server"
	bidiPath   = "/echo.v1.Echo/Bidi"
)

// rpcs are an upstream's, in gRPC.
func rpcs() http.HandlerFunc {
	type text = wrapperspb.StringValue
	mux := http.NewServeMux()
	mux.Handle(unaryPath, connect.NewUnaryHandler(unaryPath, func(_ context.Context, req *connect.Request[text]) (*connect.Response[text], error) {
		if req.Msg.GetValue() == "fail" {
			return nil, connect.NewError(connect.CodeAborted, errors.New("on purpose"))
		}
		res := connect.NewResponse(req.Msg)
		res.Trailer().Set("Checksum", "1")
		return res, nil
	}))
	mux.Handle(serverPath, connect.NewServerStreamHandler(serverPath, func(_ context.Context, req *connect.Request[text], s *connect.ServerStream[text]) error {
		for range 3 {
			if err := s.Send(req.Msg); err != nil {
				return err
			}
		}
		return connect.NewError(connect.CodeDataLoss, errors.New("at the end"))
	}))
	mux.Handle(bidiPath, connect.NewBidiStreamHandler(bidiPath, func(_ context.Context, s *connect.BidiStream[text, text]) error {
		for {
			m, err := s.Receive()
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return err
			}
			if err := s.Send(m); err != nil {
				return err
			}
		}
	}))
	return mux.ServeHTTP
}

// startGRPC starts a gateway in front of them, and makes clients of it.
func startGRPC(t *testing.T) (g *gate, client func(path string) *connect.Client[wrapperspb.StringValue, wrapperspb.StringValue]) {
	t.Helper()
	g = start(t, rpcs())
	g.route(t, "echo", "/echo.v1.Echo/{method}", apitest.Object{"permission": "orders:read"})
	h2c := &http.Transport{Protocols: new(http.Protocols)}
	h2c.Protocols.SetUnencryptedHTTP2(true)
	t.Cleanup(h2c.CloseIdleConnections)
	return g, func(path string) *connect.Client[wrapperspb.StringValue, wrapperspb.StringValue] {
		return connect.NewClient[wrapperspb.StringValue, wrapperspb.StringValue](&http.Client{Transport: h2c}, "http://"+g.addr+path, connect.WithGRPC())
	}
}

func TestGRPC(t *testing.T) {
	t.Parallel()
	g, client := startGRPC(t)
	request := func(text, token string) *connect.Request[wrapperspb.StringValue] {
		req := connect.NewRequest(wrapperspb.String(text))
		req.Header().Set("Authorization", "Bearer "+token)
		return req
	}
	ctx, cancel := context.WithTimeout(t.Context(), apitest.Timeout)
	defer cancel()

	res, err := client(unaryPath).CallUnary(ctx, request("hello", g.Token))
	backendtest.Must(t, err)
	backendtest.Equal(t, res.Msg.GetValue()+res.Trailer().Get("Checksum"), "hello1", "answer and trailer")
	_, err = client(unaryPath).CallUnary(ctx, request("fail", g.Token))
	backendtest.Equal(t, connect.CodeOf(err), connect.CodeAborted, "code of %v", err)
	_, err = client(unaryPath).CallUnary(ctx, request("hello", "a.b.c"))
	backendtest.Equal(t, connect.CodeOf(err), connect.CodeUnauthenticated, "code of %v", err)
	_, err = client("/elsewhere").CallUnary(ctx, request("hello", g.Token))
	backendtest.Equal(t, connect.CodeOf(err), connect.CodePermissionDenied, "code of %v", err)

	stream, err := client(serverPath).CallServerStream(ctx, request("hello", g.Token))
	backendtest.Must(t, err)
	received := 0
	for stream.Receive() {
		received++
	}
	backendtest.Equal(t, received, 3, "messages")
	backendtest.Equal(t, connect.CodeOf(stream.Err()), connect.CodeDataLoss, "code of %v", stream.Err())

	token := g.login(t)
	bidi := client(bidiPath).CallBidiStream(ctx)
	bidi.RequestHeader().Set("Authorization", "Bearer "+token)
	for i := range 3 {
		want := fmt.Sprint(i)
		backendtest.Must(t, bidi.Send(wrapperspb.String(want)))
		m, err := bidi.Receive()
		backendtest.Must(t, err)
		backendtest.Equal(t, m.GetValue(), want, "message")
	}
	g.api.As(token).Call(t, "POST", "/v1/auth/logout", nil).Want(t, 200)
	_, err = bidi.Receive()
	backendtest.Equal(t, connect.CodeOf(err), connect.CodeUnauthenticated, "code of a stream whose session was revoked: %v", err)
}

// A call that has no end is ended when the server stops, and may be made elsewhere.
func TestDrainGRPC(t *testing.T) {
	t.Parallel()
	g, client := startGRPC(t)
	ctx, cancel := context.WithTimeout(t.Context(), apitest.Timeout)
	defer cancel()
	bidi := client(bidiPath).CallBidiStream(ctx)
	bidi.RequestHeader().Set("Authorization", "Bearer "+g.Token)
	backendtest.Must(t, bidi.Send(wrapperspb.String("hello")))
	_, err := bidi.Receive()
	backendtest.Must(t, err)
	g.stop()
	_, err = bidi.Receive()
	backendtest.Equal(t, connect.CodeOf(err), connect.CodeUnavailable, "code of %v", err)
	select {
	case err := <-g.stopped:
		backendtest.Must(t, err)
	case <-time.After(5 * time.Second):
		t.Error("it does not stop")
	}
}
