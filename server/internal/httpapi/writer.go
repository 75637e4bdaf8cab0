package httpapi

import (
	"bytes"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// unaryWriter keeps the answer of a unary call until its place is given back.
// Headers and trailers go to the real writer's map at once.
type unaryWriter struct {
	header http.Header
	status int
	body   *bytes.Buffer
	final  bool // the handler's errors have a shape of their own
}

var answers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// maxPooled is the largest buffer, in bytes, that is kept for the next answer.
const maxPooled = 64 << 10

func newUnaryWriter(w http.ResponseWriter) *unaryWriter {
	return &unaryWriter{header: w.Header(), body: answers.Get().(*bytes.Buffer)}
}

// free gives the buffer back.
func (u *unaryWriter) free() {
	if u.body.Cap() <= maxPooled {
		u.body.Reset()
		answers.Put(u.body)
	}
	u.body = nil
}

// reset drops what was written so far.
func (u *unaryWriter) reset() {
	u.status, u.final = 0, false
	u.body.Reset()
}

// Header is the real writer's header.
func (u *unaryWriter) Header() http.Header { return u.header }

// WriteHeader keeps the first final status.
func (u *unaryWriter) WriteHeader(status int) {
	if u.status == 0 && status >= 200 {
		u.status = status
	}
}

// Write keeps the bytes.
func (u *unaryWriter) Write(p []byte) (int, error) {
	u.WriteHeader(http.StatusOK)
	return u.body.Write(p)
}

// Flush does nothing: connect flushes gRPC answers before its handler returns.
func (u *unaryWriter) Flush() {}

// keepErrors lets a handler's errors out in the shape that it gave them.
func keepErrors(w http.ResponseWriter) {
	if u, ok := w.(*unaryWriter); ok {
		u.final = true
	}
}

// sentWhole says whether all of an answer but its trailers has left when send
// returns. Over HTTP/2 a flush costs a frame of its own where no trailers follow.
func sentWhole(r *http.Request) bool { return r.ProtoMajor < 2 || framed(r) }

// send writes the answer to the caller, errors in the one shape, and returns
// its status.
func (u *unaryWriter) send(w http.ResponseWriter, r *http.Request, requestID string) int {
	if u.header.Get("Location") != "" && !u.final { // the mux redirects to a path of its own spelling, which no client of an API follows well
		u.header.Del("Location")
		u.status = http.StatusNotFound
	}
	if u.status >= http.StatusBadRequest && !u.final && !framed(r) {
		rewritten := newUnaryWriter(w)
		defer rewritten.free()
		rewrite(rewritten, r, u.status, u.body.Bytes(), requestID)
		u = rewritten
	}
	if u.status == 0 {
		u.status = http.StatusOK
	}
	if r.ProtoMajor < 2 && u.status != http.StatusNoContent && u.status != http.StatusNotModified && !hasTrailers(u.header) &&
		u.header.Get("Content-Length") == "" {
		u.header.Set("Content-Length", strconv.Itoa(u.body.Len()))
	}
	w.WriteHeader(u.status)
	if u.body.Len() > 0 {
		w.Write(u.body.Bytes()) //nolint:errcheck // the caller hung up
	}
	if r.ProtoMajor < 2 || framed(r) && u.body.Len() > 0 {
		http.NewResponseController(w).Flush()
	}
	return u.status
}

func hasTrailers(h http.Header) bool {
	for name := range h {
		if name == "Trailer" || strings.HasPrefix(name, http.TrailerPrefix) {
			return true
		}
	}
	return false
}

// streamWriter gives each message of a stream a deadline: a caller that does not
// read loses the stream.
type streamWriter struct {
	http.ResponseWriter
	control *http.ResponseController
	sent    bool
}

// newStreamWriter replaces the deadlines of a whole request by a stream's.
func newStreamWriter(w http.ResponseWriter, k kind) *streamWriter {
	s := &streamWriter{ResponseWriter: w, control: http.NewResponseController(w)}
	read := time.Time{} // the body is read
	if k == reflection {
		read = time.Now().Add(reflectionTime)
	}
	s.control.SetReadDeadline(read) //nolint:errcheck // a writer of a test has none
	s.writeBy(time.Time{})
	return s
}

func (s *streamWriter) writeBy(deadline time.Time) {
	s.control.SetWriteDeadline(deadline) //nolint:errcheck // a writer of a test has none
}

// WriteHeader starts the answer.
func (s *streamWriter) WriteHeader(status int) {
	s.sent = s.sent || status >= 200
	s.ResponseWriter.WriteHeader(status)
}

// Write writes a part of a message, which Flush sends.
func (s *streamWriter) Write(p []byte) (int, error) {
	s.sent = true
	s.writeBy(time.Now().Add(messageTime))
	return s.ResponseWriter.Write(p)
}

// Flush sends what was written. There is no deadline until the next message.
func (s *streamWriter) Flush() { _ = s.FlushError() }

// FlushError is Flush for http.ResponseController.
func (s *streamWriter) FlushError() error {
	s.sent = true
	s.writeBy(time.Now().Add(messageTime))
	if err := s.control.Flush(); err != nil {
		return err
	}
	s.writeBy(time.Time{})
	return nil
}

// end bounds what net/http writes after the handler: the trailers.
func (s *streamWriter) end() { s.writeBy(time.Now().Add(messageTime)) }
