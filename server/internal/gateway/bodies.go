package gateway

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

// wait says since when something is waited for. It is safe for concurrent use.
type wait struct{ since atomic.Int64 } // 0: nothing is

var epoch = time.Now().Add(-time.Second) // so that no wait has begun at 0

func (w *wait) begin() { w.since.Store(int64(time.Since(epoch))) }
func (w *wait) end()   { w.since.Store(0) }

func (w *wait) longer(than time.Duration) bool {
	since := w.since.Load()
	return since != 0 && time.Since(epoch)-time.Duration(since) > than
}

// clientBody is the body of a request as the transport reads it.
type clientBody struct {
	io.ReadCloser
	exchange *exchange
	reading  wait // for the client to send more
	sending  wait // for the upstream to take what was read, before it answers
	done     atomic.Bool
	failed   atomic.Bool // it ended before its end
}

// Read reads what the client has sent.
func (b *clientBody) Read(p []byte) (int, error) {
	b.sending.end()
	b.reading.begin()
	n, err := b.ReadCloser.Read(p)
	b.reading.end()
	switch {
	case err == nil:
		b.sending.begin()
	case errors.Is(err, io.EOF):
		b.done.Store(true)
	default:
		b.failed.Store(true)
	}
	return n, err
}

// answerBody is the body of a response as the client gets it.
type answerBody struct {
	io.ReadCloser
	exchange *exchange
	response *http.Response
	bounded  bool // it has a length, and no time to rest
}

// Read reads what the upstream has sent.
func (b *answerBody) Read(p []byte) (int, error) {
	if !b.bounded {
		return b.ReadCloser.Read(p)
	}
	b.exchange.answering.begin()
	defer b.exchange.answering.end()
	return b.ReadCloser.Read(p)
}

// Close makes the trailers complete, which are cleaned as headers are.
func (b *answerBody) Close() error {
	err := b.ReadCloser.Close()
	cleanAnswer(b.response.Trailer)
	return err
}

// upgradedConn is the client's connection after an upgrade.
type upgradedConn struct {
	net.Conn
	read    *bufio.Reader // with what came together with the request
	writing *wait
}

// Read reads what the client has sent.
func (c *upgradedConn) Read(p []byte) (int, error) { return c.read.Read(p) }

// Write sends to the client.
func (c *upgradedConn) Write(p []byte) (int, error) {
	c.writing.begin()
	defer c.writing.end()
	return c.Conn.Write(p)
}

// CloseWrite tells the client that there is no more.
func (c *upgradedConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return c.Conn.Close()
}
