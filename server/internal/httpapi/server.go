package httpapi

import (
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/inflight"
	"github.com/tollgatehq/tollgate/server/internal/metrics"
)

// Every wait for a caller ends.
const (
	headerTime = 5 * time.Second  // for a request's headers
	bodyTime   = 10 * time.Second // for headers and body
	answerTime = 20 * time.Second // for a unary call, until its answer is read
	idleTime   = 2 * time.Minute  // between requests of one connection

	messageTime    = 10 * time.Second // for one message of a stream to be read
	reflectionTime = time.Minute      // for a reflection stream

	pingAfter = 30 * time.Second // without a frame of an HTTP/2 connection
	pingTime  = 10 * time.Second // for its answer
	writeTime = 10 * time.Second // for any byte to leave an HTTP/2 connection
)

// NewServer makes the server of the API: HTTP/1.1 and HTTP/2, bounded in what
// one connection may hold and for how long.
func NewServer(handler http.Handler, log *slog.Logger) *http.Server {
	server := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: headerTime,
		ReadTimeout:       bodyTime,
		WriteTimeout:      answerTime, // streams have deadlines of their own
		IdleTimeout:       idleTime,
		MaxHeaderBytes:    32 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		Protocols:         new(http.Protocols),
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams:          100,
			MaxReadFrameSize:              16 << 10,
			MaxReceiveBufferPerConnection: 512 << 10,
			MaxReceiveBufferPerStream:     64 << 10,
			SendPingTimeout:               pingAfter,
			PingTimeout:                   pingTime,
			WriteByteTimeout:              writeTime,
		},
	}
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetHTTP2(true) // where the listener speaks TLS
	server.Protocols.SetUnencryptedHTTP2(true)
	return server
}

// LimitConnections bounds how many connections of a listener are open at once,
// in all and per address, but for trusted proxies, whose connections are many
// callers'. One more is closed at once and counted.
func LimitConnections(listener net.Listener, most int, trusted []netip.Prefix, refused func(reason string, cause error)) net.Listener {
	return &boundedListener{
		Listener: listener, trusted: trusted, refused: refused,
		all: inflight.New[netip.Addr](int64(most)),
	}
}

type boundedListener struct {
	net.Listener
	trusted []netip.Prefix
	refused func(reason string, cause error)
	all     *inflight.Limiter[netip.Addr]
}

// Accept returns the next connection that there is a place for.
func (l *boundedListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		var client netip.Addr
		if peer, err := netip.ParseAddrPort(conn.RemoteAddr().String()); err == nil {
			client = inflight.Address(peer.Addr())
			if caller.IsTrusted(client, l.trusted) {
				return conn, nil
			}
		}
		if l.all.Acquire(client, 1) {
			return &boundedConn{Conn: conn, release: sync.OnceFunc(func() { l.all.Release(client, 1) })}, nil
		}
		l.refused(metrics.RefusedConnections, nil)
		if tcp, ok := conn.(*net.TCPConn); ok {
			tcp.SetLinger(0) //nolint:errcheck // it is closed anyway
		}
		conn.Close()
	}
}

// boundedConn gives its place back when it is closed.
type boundedConn struct {
	net.Conn
	release func()
}

func (c *boundedConn) Close() error {
	c.release()
	return c.Conn.Close()
}
