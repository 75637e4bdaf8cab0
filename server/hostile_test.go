package main_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"connectrpc.com/connect"
	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
	"github.com/tollgatehq/tollgate/gen/tollgate/v1/tollgatev1connect"
	"github.com/tollgatehq/tollgate/server/internal/apitest"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"golang.org/x/net/http2"
)

// Bounds of the memory that a hostile client can make a server use.
const (
	hostileMemory = 96 << 20 // bytes
	streamMemory  = 50 << 20 // bytes, of 1,920 streams whose answers nobody reads
)

const whoAmI = tollgatev1connect.AuthServiceWhoAmIProcedure

// honest is a client that expects every call to succeed.
type honest struct {
	*tollgate
	grpc tollgatev1connect.AuthServiceClient
	key  string
}

func newHonest(t *testing.T, env ...string) *honest {
	t.Helper()
	s := serve(t, t.TempDir(), append(env, "TOLLGATE_ADMIN_PASSWORD="+adminPassword)...)
	s.Token = s.Login(t, "admin", adminPassword).Str("accessToken")
	return &honest{
		tollgate: s, key: s.NewService(t, "gate"),
		grpc: tollgatev1connect.NewAuthServiceClient(h2c(t), s.URL, connect.WithGRPC()),
	}
}

// calls makes calls over REST, Connect and gRPC, and health checks, while a
// hostile client is at work. All of them must succeed.
func (h *honest) calls(t *testing.T, n int) distribution {
	t.Helper()
	times := make([]time.Duration, n)
	shared(4, n, func(i int) {
		began := time.Now()
		switch i % 4 {
		case 0:
			h.As(h.key).Post(t, "/v1/auth/verify", object{"accessToken": h.Token})
		case 1:
			h.Post(t, whoAmI, object{})
		case 2:
			ctx, info := connect.NewClientContext(t.Context())
			info.RequestHeader().Set("Authorization", "Bearer "+h.Token)
			if _, err := h.grpc.WhoAmI(ctx, &tollgatev1.WhoAmIRequest{}); err != nil {
				t.Errorf("an honest call over gRPC: %v", err)
			}
		case 3:
			h.As("").Get(t, "/healthz")
		}
		times[i] = time.Since(began)
	})
	return spread(times)
}

// memory returns the resident bytes of the server's process; 0 where /proc does
// not tell.
func (h *honest) memory(t *testing.T) int64 {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", h.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(status), "VmRSS:")
	kib, err := strconv.ParseInt(strings.TrimSpace(strings.SplitN(rest, "kB", 2)[0]), 10, 64)
	backendtest.Must(t, err)
	return kib << 10
}

// TestHostileClients checks that a hostile client, at the honest client's
// address or another, fails none of its calls and uses a bounded amount of
// memory.
func TestHostileClients(t *testing.T) {
	t.Parallel()
	const same, other = "127.0.0.1", "127.0.0.2"
	for _, attack := range []struct {
		name   string
		from   string
		memory int64
		begin  func(t *testing.T, s *honest, h *hostile)
	}{
		{"slow headers over HTTP/1.1", other, hostileMemory, slowHeaders},
		{"header blocks without an end", other, hostileMemory, endlessHeaderBlocks},
		{"header floods", other, hostileMemory, headerFloods},
		{"bodies that never come, over HTTP/1.1", same, hostileMemory, bodiesNeverCome},
		{"gRPC calls without a message", same, hostileMemory, grpcWithoutMessage},
		{"gRPC answers without a window", same, hostileMemory, grpcWithoutWindow},
		{"health checks without a window", other, streamMemory, healthWithoutWindow},
		{"refused sign-ins without a window", other, hostileMemory, signInsWithoutWindow},
		{"reflection without a window", other, streamMemory, reflectionWithoutWindow},
		{"pipelined answers that are never read", other, hostileMemory, unreadAnswers},
		{"large bodies that stop before their end", other, hostileMemory, largeBodies},
		{"rapid resets", other, hostileMemory, rapidResets},
		{"connections that say nothing", other, hostileMemory, silentConnections},
		{"1,000 idle connections", same, hostileMemory, idleConnections},
		{"more connections than one address gets", other, hostileMemory, tooManyConnections},
	} {
		t.Run(attack.name, func(t *testing.T) {
			s := newHonest(t)
			s.calls(t, 100)
			before := s.memory(t)
			h := newHostile(t, s.URL, attack.from)
			attack.begin(t, s, h)
			times := s.calls(t, often(200, 4000))
			grown := s.memory(t) - before
			promise(t, "a hostile client ("+attack.name+") takes no call from an honest one, and bounded memory",
				!t.Failed() && grown <= attack.memory, "%s; memory grew by %d MiB of %d allowed", times, grown>>20, attack.memory>>20)
			h.close()
			s.calls(t, 20)
		})
	}
}

func slowHeaders(t *testing.T, _ *honest, h *hostile) {
	for range 300 {
		h.write(h.dial(t), "GET /healthz HTTP/1.1\r\nHost: tollgate\r\nX-Slow: ")
	}
}

func endlessHeaderBlocks(t *testing.T, _ *honest, h *hostile) {
	for range 100 {
		c := h.http2(t, 65535)
		c.mu.Lock()
		c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0x82}})
		c.mu.Unlock()
	}
}

func headerFloods(t *testing.T, _ *honest, h *hostile) {
	for range 20 {
		h.write(h.dial(t), "GET /healthz HTTP/1.1\r\nHost: tollgate\r\n"+strings.Repeat("X-Flood: "+strings.Repeat("a", 1000)+"\r\n", 1000))
		c := h.http2(t, 65535)
		c.mu.Lock()
		c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0x82}})
		field := append([]byte{0x00, 0x01, 'a', 0x7f, 0x81, 0x7e}, bytes.Repeat([]byte{'b'}, 16<<10-128)...)
		for range 200 {
			if c.framer.WriteContinuation(1, false, field) != nil { // it has hung up, as it should
				break
			}
		}
		c.mu.Unlock()
	}
}

func bodiesNeverCome(t *testing.T, _ *honest, h *hostile) {
	for _, path := range []string{"/v1/auth/login", "/healthz", "/v1/audit/events/watch", tollgatev1connect.AuthServiceWatchRevocationsProcedure} {
		for range 75 {
			h.write(h.dial(t), "POST "+path+" HTTP/1.1\r\nHost: tollgate\r\nContent-Type: application/json\r\nContent-Length: 255000\r\n\r\n{")
		}
	}
}

func grpcWithoutMessage(t *testing.T, _ *honest, h *hostile) {
	for range 6 {
		c := h.http2(t, 65535)
		for range 172 {
			c.open(whoAmI, "application/grpc+proto", "", false)
		}
	}
}

// answered waits until the server has begun to answer or has reset every stream
// of the connections.
func answered(t *testing.T, conns []*h2) {
	t.Helper()
	for _, c := range conns {
		apitest.Eventually(t, "every stream is answered, or turned away", func() bool {
			return c.count(func(id uint32) bool { return len(c.answers[id]) > 0 || c.ended[id] }) == int(c.next/2)
		})
	}
}

func withoutWindow(t *testing.T, h *hostile, conns, streams int, path, token string, message []byte) {
	t.Helper()
	var all []*h2
	for range conns {
		c := h.http2(t, 0)
		for range streams {
			c.message(c.open(path, "application/grpc+proto", token, false), message)
		}
		all = append(all, c)
	}
	answered(t, all)
}

func grpcWithoutWindow(t *testing.T, s *honest, h *hostile) {
	withoutWindow(t, h, 6, 172, whoAmI, s.Token, nil)
}

func healthWithoutWindow(t *testing.T, _ *honest, h *hostile) {
	withoutWindow(t, h, 20, 96, "/grpc.health.v1.Health/Check", "", nil)
}

func signInsWithoutWindow(t *testing.T, _ *honest, h *hostile) {
	var all []*h2
	for range 20 {
		c := h.http2(t, 0)
		for range 96 {
			c.open("/v1/auth/login", "application/json", "", true)
		}
		all = append(all, c)
	}
	answered(t, all)
}

func reflectionWithoutWindow(t *testing.T, _ *honest, h *hostile) {
	file := "tollgate/v1/auth.proto" // file_by_filename = 3
	withoutWindow(t, h, 20, 96, "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", "",
		append([]byte{0x1a, byte(len(file))}, file...))
}

func unreadAnswers(t *testing.T, _ *honest, h *hostile) {
	request := strings.Repeat("GET /.well-known/jwks.json HTTP/1.1\r\nHost: tollgate\r\n\r\n", 500)
	for range 50 {
		c := h.dial(t)
		c.(*net.TCPConn).SetReadBuffer(4096)
		for range 10 {
			h.write(c, request)
		}
	}
}

func largeBodies(t *testing.T, _ *honest, h *hostile) {
	part := strings.Repeat(" ", 250_000)
	for range 300 {
		h.write(h.dial(t), "POST /v1/auth/login HTTP/1.1\r\nHost: tollgate\r\nContent-Type: application/json\r\nContent-Length: 255000\r\n\r\n"+part)
	}
}

func rapidResets(t *testing.T, _ *honest, h *hostile) {
	for range 4 {
		c := h.http2(t, 65535)
		for range 5000 {
			id := c.open(whoAmI, "application/grpc+proto", "", false)
			c.mu.Lock()
			err := c.framer.WriteRSTStream(id, http2.ErrCodeCancel)
			c.mu.Unlock()
			if err != nil { // it has hung up, as it should
				break
			}
		}
	}
}

func silentConnections(t *testing.T, _ *honest, h *hostile) {
	for range 300 {
		h.dial(t)
		h.write(h.dial(t), http2.ClientPreface)
	}
}

func idleConnections(t *testing.T, _ *honest, h *hostile) {
	for i := range 1000 {
		if i%2 == 0 {
			h.write(h.dial(t), "GET /healthz HTTP/1.1\r\nHost: tollgate\r\n\r\n")
			continue
		}
		h.http2(t, 65535).open("/healthz", "application/json", "", true)
	}
}

func tooManyConnections(t *testing.T, _ *honest, h *hostile) {
	for range 2600 {
		if _, err := h.tryDial(t); err != nil && !errors.Is(err, syscall.ECONNRESET) {
			t.Fatal(err)
		}
	}
}

// TestHostileWaits checks that the server does not wait long for bodies,
// messages and headers that never arrive.
func TestHostileWaits(t *testing.T) {
	t.Parallel()
	s := newHonest(t)
	h := newHostile(t, s.URL, "127.0.0.2")
	began := time.Now()
	headers, body, console, unread := h.dial(t), h.dial(t), h.dial(t), h.http2(t, 0)
	h.write(headers, "GET /healthz HTTP/1.1\r\nHost: ")
	h.write(body, "POST /v1/auth/login HTTP/1.1\r\nHost: tollgate\r\nContent-Type: application/json\r\nContent-Length: 255000\r\n\r\n{")
	h.write(console, "POST /console/session/login HTTP/1.1\r\nHost: tollgate\r\nSec-Fetch-Site: same-origin\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{")
	grpc := h.http2(t, 65535)
	id := grpc.open(whoAmI, "application/grpc+proto", s.Token, false)
	pinned := unread.open(whoAmI, "application/grpc+proto", s.Token, false)
	unread.message(pinned, nil)

	for _, conn := range []net.Conn{body, console} {
		if said := ended(conn); !strings.Contains(said, " 504 ") || !strings.Contains(said, "BODY_TIMEOUT") {
			t.Errorf("a body that never comes: %q", said)
		}
	}
	if said := ended(headers); strings.HasPrefix(said, "still open") {
		t.Errorf("headers that never end: %q", said)
	}
	apitest.Eventually(t, "a gRPC call without its message ends", func() bool { return grpc.count(func(uint32) bool { return grpc.ended[id] }) == 1 })
	if said := grpc.said(id); !strings.Contains(said, "grpc-status: 4") {
		t.Errorf("a gRPC call without its message: %s", said)
	}
	if took := time.Since(began); took > 15*time.Second {
		t.Errorf("bodies were waited for %s", took)
	}
	apitest.Eventually(t, "an answer that nobody reads is given up", func() bool {
		return unread.count(func(id uint32) bool { return unread.ended[id] }) == 1
	})
}

// TestHostileStreams checks that one principal gets at most half of the
// streams, so that another still gets one.
func TestHostileStreams(t *testing.T) {
	t.Parallel()
	s := newHonest(t)
	h := newHostile(t, s.URL, "127.0.0.2")
	var conns []*h2
	for range 6 {
		c := h.http2(t, 65535)
		for range 100 {
			c.message(c.open(tollgatev1connect.AuthServiceWatchRevocationsProcedure, "application/grpc+proto", s.key, false), nil)
		}
		conns = append(conns, c)
	}
	answered(t, conns)
	open := func() (n int) {
		for _, c := range conns {
			n += c.count(func(id uint32) bool { return !c.ended[id] })
		}
		return n
	}
	// A refusal has begun before it has ended.
	apitest.Eventually(t, "one principal has no more than half of 1,000 streams open", func() bool { return open() <= 500 })
	if n := open(); n != 500 {
		t.Errorf("one principal has %d streams open, want half of 1,000", n)
	}
	other := s.NewService(t, "other")
	req, err := http.NewRequestWithContext(t.Context(), "POST", s.URL+tollgatev1connect.AuthServiceWatchRevocationsProcedure,
		bytes.NewReader(binary.BigEndian.AppendUint32([]byte{0}, 0)))
	backendtest.Must(t, err)
	req.Header.Set("Content-Type", "application/connect+proto")
	req.Header.Set("Authorization", "Bearer "+other)
	res, err := s.HTTP.Do(req)
	backendtest.Must(t, err)
	defer res.Body.Close()
	first := make([]byte, 1)
	if _, err := res.Body.Read(first); err != nil || first[0]&2 != 0 {
		t.Errorf("another principal's stream: %v, flags %d; want a message", err, first)
	}
}
