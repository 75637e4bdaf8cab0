package grpcapi

import (
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/caller"
	"google.golang.org/grpc/peer"
)

// connections gives every connection of a listener a deadline for what it sends, and
// looks at its address once for all of its calls.
type connections struct {
	net.Listener
	trusted []netip.Prefix
	write   time.Duration // for any byte to leave
}

func (l *connections) Accept() (net.Conn, error) {
	accepted, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &conn{Conn: accepted, write: l.write}
	c.address = &address{Addr: accepted.RemoteAddr(), conn: c}
	c.address.text = c.address.Addr.String()
	if from, err := netip.ParseAddrPort(c.address.text); err == nil {
		ip := from.Addr().Unmap().WithZone("")
		c.address.peer = caller.Connection{IP: ip, Trusted: caller.IsTrusted(ip, l.trusted)}
	}
	return c, nil
}

// address is a peer's, by which its calls find their connection: grpc-go hands it
// from the connection to them.
type address struct {
	net.Addr
	text string
	peer caller.Connection
	conn *conn
}

// addressOf is the address that a peer came with; one of nobody without it.
func addressOf(p *peer.Peer) *address {
	if p != nil {
		if a, ok := p.Addr.(*address); ok {
			return a
		}
	}
	return &address{}
}

// conn is a connection whose peer must take what is sent.
type conn struct {
	net.Conn
	address *address
	write   time.Duration
	armed   atomic.Int64 // when the deadline in force was set, in nanoseconds of Unix time
}

// RemoteAddr returns an *address.
func (c *conn) RemoteAddr() net.Addr { return c.address }

// Write fails when the peer takes nothing for long, and closes the connection: grpc-go
// counts on its reader to meet the same error, which it does not.
func (c *conn) Write(p []byte) (int, error) {
	// A deadline is set anew when a tenth of it is over: doing so for each write costs
	// as much as a small write.
	if now := time.Now(); now.UnixNano()-c.armed.Load() > int64(c.write/10) {
		if err := c.Conn.SetWriteDeadline(now.Add(c.write + c.write/10)); err != nil {
			return 0, err
		}
		c.armed.Store(now.UnixNano())
	}
	n, err := c.Conn.Write(p)
	if err != nil {
		c.Conn.Close()
	}
	return n, err
}

// SetDeadline is grpc-go's, for the greeting; the next Write sets its own.
func (c *conn) SetDeadline(t time.Time) error {
	c.armed.Store(0)
	return c.Conn.SetDeadline(t)
}
