package httpapi

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/clock"
	"github.com/tollgatehq/tollgate/server/internal/inflight"
)

// serveBounded serves a handler behind the middleware and the API's server.
func serveBounded(t *testing.T, calls int, handler http.HandlerFunc) (*middleware, *httptest.Server, func(reason string) int) {
	t.Helper()
	var mu sync.Mutex
	refused := map[string]int{}
	m := &middleware{
		next: handler, clock: clock.Real(), log: slog.New(slog.DiscardHandler), limiters: newLimiters(inflight.NewShares(calls)),
		refused: func(reason string, _ error) {
			mu.Lock()
			defer mu.Unlock()
			refused[reason]++
		},
	}
	server := httptest.NewUnstartedServer(m)
	server.Config = NewServer(m, m.log)
	server.Start()
	t.Cleanup(server.Close)
	return m, server, func(reason string) int {
		mu.Lock()
		defer mu.Unlock()
		return refused[reason]
	}
}

// overHTTP2 is a client that speaks HTTP/2 in clear text.
func overHTTP2(t *testing.T) *http.Client {
	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetUnencryptedHTTP2(true)
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// post sends a body and returns the status and what was answered.
func post(t *testing.T, client *http.Client, url, contentType string, body io.Reader) (int, http.Header, string) {
	t.Helper()
	res, err := client.Post(url, contentType, body)
	backendtest.Must(t, err)
	defer res.Body.Close()
	all, err := io.ReadAll(res.Body)
	backendtest.Must(t, err)
	return res.StatusCode, res.Header, string(all)
}

// allFree waits until nothing is held: only then can a newcomer have it all.
func allFree(t *testing.T, limiters *limiters) {
	t.Helper()
	nobody := netip.MustParseAddr("203.0.113.9")
	for name, l := range map[string]*inflight.Limiter[netip.Addr]{
		"memory": limiters.Memory, "calls": limiters.Calls, "probes": limiters.Probes, "reflection": limiters.Reflection,
	} {
		late := time.After(10 * time.Second)
		ticker := time.NewTicker(time.Millisecond)
		defer ticker.Stop()
		for !l.Acquire(nobody, l.Capacity()) {
			select {
			case <-ticker.C:
			case <-late:
				t.Errorf("%s are held after the last request", name)
				return
			}
		}
		l.Release(nobody, l.Capacity())
	}
}

// Whatever becomes of a request, what it held is given back.
func TestNothingStaysHeld(t *testing.T) {
	started := make(chan struct{}, 1)
	m, server, _ := serveBounded(t, 8, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/panic":
			panic("a bug")
		case "/abort":
			panic(http.ErrAbortHandler)
		case "/until-canceled":
			started <- struct{}{}
			<-r.Context().Done()
		case watchPath:
			io.WriteString(w, "one")
			http.NewResponseController(w).Flush()
			panic("a bug in a stream")
		default:
			io.Copy(w, r.Body)
		}
	})
	for name, client := range map[string]*http.Client{"HTTP/1.1": server.Client(), "HTTP/2": overHTTP2(t)} {
		t.Run(name, func(t *testing.T) {
			for range 20 {
				if status, _, body := post(t, client, server.URL+"/echo", "text/plain", strings.NewReader("hello")); status != 200 || body != "hello" {
					t.Fatalf("echo: %d %q", status, body)
				}
				if status, _, body := post(t, client, server.URL+"/panic", "application/json", nil); status != 500 || !strings.Contains(body, "INTERNAL") || strings.Contains(body, "a bug") {
					t.Fatalf("a panic: %d %q", status, body)
				}
				if status, _, body := post(t, client, server.URL+"/echo", "text/plain", bytes.NewReader(make([]byte, MaxBody+1))); status != 413 || !strings.Contains(body, "TOO_LARGE") {
					t.Fatalf("a large body: %d %q", status, body)
				}
				if _, header, _ := post(t, client, server.URL+"/echo", "application/grpc+proto", bytes.NewReader(make([]byte, MaxBody+frameHeader+1))); name == "HTTP/2" && header.Get("Grpc-Status") != "8" {
					t.Fatalf("a large gRPC message: %v", header)
				}
				if res, err := client.Post(server.URL+"/abort", "text/plain", nil); err == nil {
					res.Body.Close()
					t.Fatal("an aborted answer looks whole")
				}
				res, err := client.Get(server.URL + watchPath)
				backendtest.Must(t, err)
				if body, err := io.ReadAll(res.Body); err == nil || string(body) != "one" {
					t.Fatalf("a stream that broke off: %q, %v", body, err)
				}
				res.Body.Close()
				ctx, cancel := context.WithCancel(t.Context())
				req, err := http.NewRequestWithContext(ctx, "POST", server.URL+"/until-canceled", nil)
				backendtest.Must(t, err)
				go func() {
					<-started
					cancel()
				}()
				if _, err := client.Do(req); !errors.Is(err, context.Canceled) {
					t.Fatalf("canceled: %v", err)
				}
			}
		})
	}
	allFree(t, m.limiters)
}

// A call too many is refused at once, and in its own protocol.
func TestOverloaded(t *testing.T) {
	release, running := make(chan struct{}), make(chan struct{})
	m, server, refused := serveBounded(t, 4, func(w http.ResponseWriter, r *http.Request) {
		running <- struct{}{}
		<-release
	})
	client := overHTTP2(t)
	var calls sync.WaitGroup
	for range 2 { // half of the places
		calls.Go(func() {
			if res, err := client.Post(server.URL+"/call", "application/json", nil); err == nil {
				res.Body.Close()
			}
		})
		<-running
	}
	status, header, body := post(t, client, server.URL+"/call", "application/json", nil)
	if status != http.StatusServiceUnavailable || header.Get("Retry-After") != "1" || !strings.Contains(body, "OVERLOADED") {
		t.Errorf("one too many over REST: %d %v %s", status, header, body)
	}
	status, header, _ = post(t, client, server.URL+"/call", "application/grpc+proto", nil)
	if status != http.StatusOK || header.Get("Grpc-Status") != "14" {
		t.Errorf("one too many over gRPC: %d %v", status, header)
	}
	if n := refused("overloaded"); n != 2 {
		t.Errorf("%d refusals counted, want 2", n)
	}
	close(release)
	calls.Wait()
	allFree(t, m.limiters)
}

// A connection too many is closed at once, but another address gets its own,
// and a trusted proxy any number.
func TestLimitConnections(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	backendtest.Must(t, err)
	refused := make(chan string, 10)
	l := LimitConnections(inner, 4, []netip.Prefix{netip.MustParsePrefix("127.0.0.9/32")}, func(reason string, _ error) { refused <- reason })
	t.Cleanup(func() { l.Close() })
	accepted := make(chan net.Conn)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			accepted <- conn
		}
	}()
	dial := func(from string) {
		t.Helper()
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
		conn, err := d.DialContext(t.Context(), "tcp", inner.Addr().String())
		if err != nil {
			return // it was closed that fast
		}
		t.Cleanup(func() { conn.Close() })
	}
	dial("127.0.0.1")
	first := <-accepted
	dial("127.0.0.1")
	<-accepted
	dial("127.0.0.1")
	if reason := <-refused; reason != "connections" {
		t.Errorf("refused for %s", reason)
	}
	dial("127.0.0.2")
	<-accepted
	for range 10 {
		dial("127.0.0.9")
		<-accepted
	}
	first.Close()
	first.Close()
	dial("127.0.0.1")
	<-accepted
}

// What is no message of reflection gets the one shape of an error, too.
func TestReflectionIsFramed(t *testing.T) {
	_, server, _ := serveBounded(t, 8, http.NotFound)
	status, _, body := post(t, server.Client(), server.URL+"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", "application/json", strings.NewReader("{}"))
	if status != http.StatusNotFound || !strings.Contains(body, "UNKNOWN_PATH") {
		t.Errorf("%d %s", status, body)
	}
}
