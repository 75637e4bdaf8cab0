package main_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/apitest"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// hostile is a misbehaving client at one address. The test's end closes its
// connections.
type hostile struct {
	host string // of the server
	from net.IP

	mu    sync.Mutex
	conns []net.Conn
}

// newHostile returns a client at an address of the loopback network.
func newHostile(t *testing.T, server, from string) *hostile {
	t.Helper()
	u, err := url.Parse(server)
	backendtest.Must(t, err)
	h := &hostile{host: u.Host, from: net.ParseIP(from)}
	t.Cleanup(h.close)
	return h
}

func (h *hostile) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, c := range h.conns {
		c.Close()
	}
	h.conns = nil
}

// dial opens a connection.
func (h *hostile) dial(t *testing.T) net.Conn {
	t.Helper()
	c, err := h.tryDial(t)
	backendtest.Must(t, err)
	return c
}

// tryDial is dial for a server that may close the connection at once.
func (h *hostile) tryDial(t *testing.T) (net.Conn, error) {
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: h.from}, Timeout: apitest.Timeout}
	c, err := dialer.DialContext(t.Context(), "tcp", h.host)
	if err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.conns = append(h.conns, c)
	return c, nil
}

// write sends bytes and ignores that the server has hung up.
func (h *hostile) write(c net.Conn, text string) {
	c.SetWriteDeadline(time.Now().Add(time.Second))
	io.WriteString(c, text)
}

// ended waits until the server has closed the connection and returns what it
// sent.
func ended(c net.Conn) (said string) {
	c.SetReadDeadline(time.Now().Add(apitest.Timeout))
	all, err := io.ReadAll(c)
	if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
		return "still open: " + string(all)
	}
	return string(all)
}

// h2 is an HTTP/2 connection in clear text, frame by frame.
type h2 struct {
	t      *testing.T
	conn   net.Conn
	framer *http2.Framer
	block  bytes.Buffer
	header *hpack.Encoder
	next   uint32

	mu      sync.Mutex
	answers map[uint32][]string // header fields by stream
	ended   map[uint32]bool
	reset   map[uint32]http2.ErrCode
	changed chan struct{}
}

// http2 opens an HTTP/2 connection with this window for every stream. It reads
// what the server sends and never updates a window.
func (h *hostile) http2(t *testing.T, window uint32) *h2 {
	t.Helper()
	conn := h.dial(t)
	c := &h2{
		t: t, conn: conn, framer: http2.NewFramer(conn, conn), next: 1,
		answers: map[uint32][]string{}, ended: map[uint32]bool{}, reset: map[uint32]http2.ErrCode{}, changed: make(chan struct{}, 1),
	}
	c.header = hpack.NewEncoder(&c.block)
	c.framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	h.write(conn, http2.ClientPreface)
	backendtest.Must(t, c.framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: window}))
	go c.read()
	return c
}

func (c *h2) read() {
	for {
		frame, err := c.framer.ReadFrame()
		if err != nil {
			return
		}
		c.mu.Lock()
		id := frame.Header().StreamID
		switch f := frame.(type) {
		case *http2.SettingsFrame:
			if !f.IsAck() {
				c.framer.WriteSettingsAck()
			}
		case *http2.MetaHeadersFrame:
			for _, field := range f.Fields {
				c.answers[id] = append(c.answers[id], field.Name+": "+field.Value)
			}
			c.ended[id] = c.ended[id] || f.StreamEnded()
		case *http2.DataFrame:
			c.ended[id] = c.ended[id] || f.StreamEnded()
		case *http2.RSTStreamFrame:
			c.reset[id] = f.ErrCode
			c.ended[id] = true
		}
		c.mu.Unlock()
		select {
		case c.changed <- struct{}{}:
		default:
		}
	}
}

// open sends the headers of a POST and returns its stream.
func (c *h2) open(path, contentType, token string, end bool) uint32 {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.block.Reset()
	fields := []string{":method", "POST", ":scheme", "http", ":path", path, ":authority", "tollgate", "content-type", contentType, "te", "trailers"}
	if token != "" {
		fields = append(fields, "authorization", "Bearer "+token)
	}
	for i := 0; i < len(fields); i += 2 {
		c.header.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	id := c.next
	c.next += 2
	c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: c.block.Bytes(), EndHeaders: true, EndStream: end})
	return id
}

// message sends one gRPC message, the last of its stream.
func (c *h2) message(id uint32, message []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	framed := binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message)))
	c.framer.WriteData(id, true, append(framed, message...))
}

// count returns how many streams meet a condition.
func (c *h2) count(matches func(id uint32) bool) (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for id := uint32(1); id < c.next; id += 2 {
		if matches(id) {
			n++
		}
	}
	return n
}

// said returns the header fields of a stream's answer in one line.
func (c *h2) said(id uint32) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return fmt.Sprintf("%s reset %v", strings.Join(c.answers[id], "; "), c.reset[id])
}
