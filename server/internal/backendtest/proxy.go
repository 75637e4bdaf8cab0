package backendtest

import (
	"io"
	"net"
	"net/url"
	"sync"
	"testing"
)

// Mode is what a Proxy does to the connections through it.
type Mode int

// The modes of a Proxy.
const (
	Pass   Mode = iota
	Refuse      // nothing listens, and connections are cut
	Hang        // connections are taken and stay open; nothing gets through
	Reset       // connections are taken and cut with an RST
)

// String completes the sentence "the backend …".
func (m Mode) String() string {
	return [...]string{"passes", "refuses", "hangs", "resets"}[m]
}

// Proxy is a TCP proxy before a backend that can be made to fail.
type Proxy struct {
	URL string // the backend's, by way of the proxy

	upstream, at string

	mu       sync.Mutex
	mode     Mode
	changed  chan struct{} // closed when the mode changes
	listener net.Listener  // nil while it refuses
	open     map[net.Conn]struct{}
}

// NewProxy starts a proxy before the backend at this URL. It ends with the
// test.
func NewProxy(t testing.TB, backend string) *Proxy {
	t.Helper()
	u, err := url.Parse(backend)
	Must(t, err)
	p := &Proxy{upstream: u.Host, at: "127.0.0.1:0", changed: make(chan struct{}), open: map[net.Conn]struct{}{}}
	Must(t, p.listen())
	t.Cleanup(func() { p.Set(t, Refuse) })
	u.Host = p.at
	p.URL = u.String()
	return p
}

func (p *Proxy) listen() error {
	listener, err := net.Listen("tcp", p.at)
	if err != nil {
		return err
	}
	p.listener, p.at = listener, listener.Addr().String()
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go p.carry(conn)
		}
	}()
	return nil
}

// Set changes the mode. What hung is cut and lost.
func (p *Proxy) Set(t testing.TB, m Mode) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if m == Refuse && p.listener != nil {
		p.listener.Close()
		p.listener = nil
	}
	if m != Refuse && p.listener == nil {
		Must(t, p.listen())
	}
	if m == Refuse || m == Reset || p.mode == Hang {
		for conn := range p.open {
			reset(conn)
		}
	}
	p.mode = m
	close(p.changed)
	p.changed = make(chan struct{})
}

// reset closes with an RST.
func reset(conn net.Conn) {
	if tcp, ok := conn.(*net.TCPConn); ok {
		tcp.SetLinger(0)
	}
	conn.Close()
}

func (p *Proxy) now() (Mode, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mode, p.changed
}

func (p *Proxy) keep(conn net.Conn) (done func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.open[conn] = struct{}{}
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.open, conn)
		conn.Close()
	}
}

func (p *Proxy) carry(near net.Conn) {
	defer p.keep(near)()
	m, changed := p.now()
	switch m {
	case Reset, Refuse:
		reset(near)
		return
	case Hang:
		<-changed
		return
	}
	far, err := net.Dial("tcp", p.upstream)
	if err != nil {
		reset(near)
		return
	}
	defer p.keep(far)()
	var both sync.WaitGroup
	for from, to := range map[net.Conn]net.Conn{near: far, far: near} {
		both.Go(func() {
			io.Copy(proxied{p, to}, from)
			near.Close()
			far.Close()
		})
	}
	both.Wait()
}

// proxied is a connection on which nothing is written while its Proxy hangs.
type proxied struct {
	*Proxy
	to net.Conn
}

func (c proxied) Write(b []byte) (int, error) {
	if m, changed := c.now(); m == Hang {
		<-changed
		return 0, net.ErrClosed
	}
	return c.to.Write(b)
}
