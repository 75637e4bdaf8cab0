package gateway_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/apitest"
	"github.com/tollgatehq/tollgate/server/internal/app"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
)

// zeros is a body of zeros.
func zeros(n int64) io.Reader { return io.LimitReader(zeroReader{}, n) }

type zeroReader struct{}

func (zeroReader) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// A body of 100 MB passes in both directions without being held.
func TestLargeBodies(t *testing.T) {
	t.Parallel()
	const size = 100 << 20
	var most atomic.Uint64
	g := start(t, func(w http.ResponseWriter, r *http.Request) {
		buffer := make([]byte, 1<<20)
		var total int64
		for err := error(nil); err == nil; {
			var n int
			n, err = io.ReadFull(r.Body, buffer)
			total += int64(n)
			if total%(8<<20) == 0 {
				var m runtime.MemStats
				runtime.ReadMemStats(&m)
				most.Store(max(most.Load(), m.HeapAlloc))
			}
		}
		w.Header().Set("Received", fmt.Sprint(total))
		io.Copy(w, zeros(size))
	})
	runtime.GC()
	var before runtime.MemStats
	runtime.ReadMemStats(&before)
	for _, length := range []int64{size, -1} {
		req, err := http.NewRequestWithContext(t.Context(), "POST", "http://"+g.addr+"/orders/large", zeros(size))
		backendtest.Must(t, err)
		req.ContentLength = length
		req.Header.Set("Authorization", "Bearer "+g.Token)
		req.Header.Set("Expect", "100-continue")
		res, err := http.DefaultTransport.RoundTrip(req)
		backendtest.Must(t, err)
		received, err := io.Copy(io.Discard, res.Body)
		backendtest.Must(t, err)
		res.Body.Close()
		backendtest.Equal(t, res.Header.Get("Received"), fmt.Sprint(size), "bytes that the upstream received")
		backendtest.Equal(t, received, size, "bytes that came back")
	}
	grown := int64(most.Load()) - int64(before.HeapAlloc)
	t.Logf("the heap grew by at most %d KiB", grown>>10)
	if grown > 50<<20 {
		t.Errorf("bodies of %d bytes made the heap grow by %d", size, grown)
	}
}

// Both bodies move at the same time, over HTTP/1.1, too.
func TestFullDuplex(t *testing.T) {
	t.Parallel()
	g := start(t, func(w http.ResponseWriter, r *http.Request) {
		http.NewResponseController(w).EnableFullDuplex()
		w.WriteHeader(200)
		lines := bufio.NewReader(r.Body)
		for {
			line, err := lines.ReadString('\n')
			if err != nil {
				return
			}
			io.WriteString(w, line)
			w.(http.Flusher).Flush()
		}
	})
	body, writer := io.Pipe()
	req, err := http.NewRequestWithContext(t.Context(), "POST", "http://"+g.addr+"/orders/echo", body)
	backendtest.Must(t, err)
	req.Header.Set("Authorization", "Bearer "+g.Token)
	go io.WriteString(writer, "0\n")
	res, err := http.DefaultTransport.RoundTrip(req)
	backendtest.Must(t, err)
	defer res.Body.Close()
	lines := bufio.NewReader(res.Body)
	for i := range 3 {
		line, err := lines.ReadString('\n')
		backendtest.Must(t, err)
		backendtest.Equal(t, line, fmt.Sprintf("%d\n", i), "echo")
		go fmt.Fprintf(writer, "%d\n", i+1)
	}
	_, err = lines.ReadString('\n')
	backendtest.Must(t, err)
	writer.Close()
	_, err = lines.ReadString('\n')
	backendtest.Equal(t, err, io.EOF, "the end")
}

// No body is asked for of a request that is refused (RFC 9110 §10.1.1).
func TestExpectContinue(t *testing.T) {
	t.Parallel()
	g := start(t, func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) })
	res, _ := g.raw(t, "POST /orders/x HTTP/1.1\r\nHost: a.example\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
	backendtest.Equal(t, res.StatusCode, 401, "status")
	backendtest.Equal(t, res.Close, true, "the connection closes")
	conn, err := net.Dial("tcp", g.addr)
	backendtest.Must(t, err)
	defer conn.Close()
	fmt.Fprintf(conn, "POST /public/x HTTP/1.1\r\nHost: a.example\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
	reader := bufio.NewReader(conn)
	line, err := reader.ReadString('\n')
	backendtest.Must(t, err)
	backendtest.Equal(t, line, "HTTP/1.1 100 Continue\r\n", "the first line")
	io.WriteString(conn, "hello")
	for line != "\r\n" { // what else the first answer has
		line, err = reader.ReadString('\n')
		backendtest.Must(t, err)
	}
	res, err = http.ReadResponse(reader, nil)
	backendtest.Must(t, err)
	body, err := io.ReadAll(res.Body)
	backendtest.Must(t, err)
	backendtest.Equal(t, string(body), "hello", "body")
}

// slow has a gateway whose clients may stand still for a moment only.
func slow(c *app.Config) { c.GatewayClientTime = 100 * time.Millisecond }

// Who sends no more of a body, or takes no more of a response, loses its place and
// keeps nobody else from anything.
func TestClientsThatStandStill(t *testing.T) {
	t.Parallel()
	var ended atomic.Int64
	g := start(t, func(w http.ResponseWriter, r *http.Request) {
		defer ended.Add(1)
		io.Copy(io.Discard, r.Body)
		io.Copy(w, zeros(1<<30))
	}, slow)
	res, body := g.raw(t, "POST /public/x HTTP/1.1\r\nHost: a.example\r\nContent-Length: 10\r\n\r\nabc")
	backendtest.Equal(t, res.StatusCode, http.StatusRequestTimeout, "status")
	if !strings.Contains(body, "BODY_TIMEOUT") || !res.Close {
		t.Errorf("the answer is %s, and the connection stays open: %v", body, !res.Close)
	}
	apitest.Eventually(t, "the upstream is let go", func() bool { return ended.Load() == 1 })

	conn, err := net.Dial("tcp", g.addr)
	backendtest.Must(t, err)
	defer conn.Close()
	io.WriteString(conn, "GET /public/x HTTP/1.1\r\nHost: a.example\r\n\r\n")
	apitest.Eventually(t, "the upstream is let go", func() bool { return ended.Load() == 2 })
	cut, err := http.ReadResponse(bufio.NewReader(conn), nil)
	backendtest.Must(t, err)
	if _, err = io.Copy(io.Discard, cut.Body); err == nil { // what was under way still arrives
		t.Error("the response ends as if it were whole")
	}

	h2c := &http.Transport{Protocols: new(http.Protocols)}
	h2c.Protocols.SetUnencryptedHTTP2(true)
	t.Cleanup(h2c.CloseIdleConnections)
	req, err := http.NewRequestWithContext(t.Context(), "GET", "http://"+g.addr+"/public/x", nil)
	backendtest.Must(t, err)
	unread, err := h2c.RoundTrip(req)
	backendtest.Must(t, err)
	defer unread.Body.Close()
	apitest.Eventually(t, "the upstream is let go", func() bool { return ended.Load() == 3 })

	// A stream that the upstream rests in is not the client's fault.
	g.upstream.become(func(w http.ResponseWriter, r *http.Request) {
		w.(http.Flusher).Flush()
		select {
		case <-r.Context().Done():
		case <-time.After(2500 * time.Millisecond): // more than two looks
		}
		hello(w, r)
	})
	backendtest.Equal(t, string(g.Call(t, "GET", "/public/x", nil).Raw), "hello\n", "body of a stream that rests")
}

// An upgraded connection that nobody reads ends, too.
func TestUpgradeThatIsNotRead(t *testing.T) {
	t.Parallel()
	ended := make(chan struct{})
	g := start(t, func(w http.ResponseWriter, r *http.Request) {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		defer close(ended)
		defer conn.Close()
		io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		io.Copy(conn, zeros(1<<30))
	}, slow)
	_, _, res := g.upgrade(t, "/public/x", "", "websocket", "")
	backendtest.Equal(t, res.StatusCode, 101, "status")
	select {
	case <-ended:
	case <-time.After(apitest.Timeout):
		t.Error("the upstream still writes")
	}
}
