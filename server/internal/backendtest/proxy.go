package main_test

import (
	"io"
	"net"
	"sync"
	"testing"
	"time"
)

// fault is what a proxy does to those who pass through it.
type mode int

const (
	pass   mode = iota
	refuse      // nobody listens, and connections are cut
	hang        // connections are taken and stay; nothing gets through
	reset       // connections are taken and cut with an RST
	slow        // everything takes 300 ms more each way
)

func (m mode) String() string {
	return [...]string{"passes", "refuses", "hangs", "resets", "is slow"}[m]
}

// proxy stands between a server and what it depends on.
type proxy struct {
	upstream, at string

	mu       sync.Mutex
	mode     mode
	changed  chan struct{} // closed when the mode changes
	listener net.Listener  // nil while it refuses
	open     map[net.Conn]struct{}
}

func newProxy(t *testing.T, upstream string) *proxy {
	t.Helper()
	p := &proxy{upstream: upstream, at: "127.0.0.1:0", changed: make(chan struct{}), open: map[net.Conn]struct{}{}}
	if err := p.listen(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.set(t, refuse) })
	return p
}

func (p *proxy) address() string { return p.at }

func (p *proxy) listen() error {
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

// set changes the mode. What hung is cut and lost.
func (p *proxy) set(t *testing.T, m mode) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if m == refuse && p.listener != nil {
		p.listener.Close()
		p.listener = nil
	}
	if m != refuse && p.listener == nil {
		if err := p.listen(); err != nil {
			t.Fatal(err)
		}
	}
	if m == refuse || m == reset || p.mode == hang {
		for conn := range p.open {
			cut(conn)
		}
	}
	p.mode = m
	close(p.changed)
	p.changed = make(chan struct{})
}

// cut closes with an RST.
func cut(conn net.Conn) {
	if tcp, ok := conn.(*net.TCPConn); ok {
		tcp.SetLinger(0) //nolint:errcheck // it is closed all the same
	}
	conn.Close()
}

func (p *proxy) now() (mode, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mode, p.changed
}

func (p *proxy) keep(conn net.Conn) (done func()) {
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

func (p *proxy) carry(near net.Conn) {
	defer p.keep(near)()
	m, changed := p.now()
	switch m {
	case reset, refuse:
		cut(near)
		return
	case hang:
		<-changed
		return
	}
	far, err := net.Dial("tcp", p.upstream)
	if err != nil {
		cut(near)
		return
	}
	defer p.keep(far)()
	var both sync.WaitGroup
	for from, to := range map[net.Conn]net.Conn{near: far, far: near} {
		both.Go(func() {
			io.Copy(gate{p, to}, from) //nolint:errcheck // either side may hang up
			near.Close()
			far.Close()
		})
	}
	both.Wait()
}

// gate is where a proxy holds up what goes through it.
type gate struct {
	*proxy
	to net.Conn
}

func (g gate) Write(b []byte) (int, error) {
	switch m, changed := g.now(); m {
	case hang:
		<-changed
		return 0, net.ErrClosed
	case slow:
		timer := time.NewTimer(300 * time.Millisecond)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-changed:
		}
	}
	return g.to.Write(b)
}
