package httpapi

import (
	"bytes"
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"regexp"
	"runtime/debug"
	"strings"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/auth"
	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/fault"
	"github.com/tollgatehq/tollgate/server/internal/world"
)

// MaxBody is the size of the largest request body, in bytes.
const MaxBody = 256 << 10

// maxErrorBody bounds what is kept of another layer's error answer.
const maxErrorBody = 64 << 10

// door is the outermost layer: it finds out where a request comes from, bounds
// its body, and sees that every error leaves in the one shape.
type door struct {
	next    http.Handler
	trusted []netip.Prefix
	world   world.World
	log     *slog.Logger
	crowd   *crowd
}

var goodRequestID = regexp.MustCompile(`^[A-Za-z0-9._-]{1,128}$`)

func (d *door) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	began := time.Now()
	origin := caller.Caller{
		IP: clientIP(r, d.trusted), UserAgent: r.UserAgent(), RequestID: r.Header.Get("X-Request-Id"),
	}
	if len(origin.UserAgent) > 512 {
		origin.UserAgent = origin.UserAgent[:512]
	}
	if !goodRequestID.MatchString(origin.RequestID) {
		origin.RequestID = d.world.NewID()
	}
	r = r.WithContext(caller.With(r.Context(), origin))

	h := w.Header()
	h.Set("X-Request-Id", origin.RequestID)
	h.Set("Cache-Control", "no-store")

	out := &doorWriter{ResponseWriter: w, through: framed(r)}
	defer func() {
		if p := recover(); p != nil {
			if p == http.ErrAbortHandler {
				panic(p)
			}
			d.log.ErrorContext(r.Context(), "panic", "path", loggable(r.URL.Path), "panic", p, "stack", string(debug.Stack()))
			if !out.sent {
				out.status = http.StatusInternalServerError
				writeFault(w, fault.From(errors.New("panic")), origin.RequestID)
			}
		} else if out.held {
			rewrite(w, r, out.status, out.body.Bytes(), origin.RequestID)
		}
		d.log.DebugContext(r.Context(), "request", "method", r.Method, "path", loggable(r.URL.Path), "status", out.status,
			"took", time.Since(began), "ip", origin.IPString())
	}()

	counted := d.crowd.counts(r)
	if counted && d.crowd.full() {
		out.status = http.StatusServiceUnavailable
		d.crowd.refuse(w, r, origin.RequestID)
		return
	}
	connection := http.NewResponseController(w)
	if counted {
		connection.SetReadDeadline(time.Now().Add(bodyTime)) //nolint:errcheck // a writer of a test has none
	}
	if !out.through {
		if err := readBody(r); err != nil {
			out.status = refuseBody(w, r, err, origin.RequestID)
			return
		}
		// The call may take longer than its body.
		connection.SetReadDeadline(time.Time{}) //nolint:errcheck // see above
	}
	// Only now: a body that trickles in takes nobody's place.
	if counted {
		if !d.crowd.enter() {
			out.status = http.StatusServiceUnavailable
			d.crowd.refuse(w, r, origin.RequestID)
			return
		}
		defer d.crowd.leave()
	}
	d.next.ServeHTTP(out, r)
}

// loggable is the path without what may be a credential that somebody put into
// it: ids are shorter and do not begin like an API key. A longer name goes, too.
func loggable(path string) string {
	parts := strings.Split(path, "/")
	for i, part := range parts {
		if len(part) > 64 || strings.HasPrefix(part, auth.APIKeyPrefix) {
			parts[i] = "…"
		}
	}
	return strings.Join(parts, "/")
}

// framed says whether the body is a stream of messages, gRPC's or Connect's,
// whose size and errors are handled message by message.
func framed(r *http.Request) bool {
	t := r.Header.Get("Content-Type")
	return strings.HasPrefix(t, "application/grpc") || strings.HasPrefix(t, "application/connect+")
}

// doorWriter holds back the body of an error until the end, for rewrite, and
// lets everything else through at once.
type doorWriter struct {
	http.ResponseWriter
	through bool // hold nothing back
	sent    bool // the header is out
	held    bool // an error is held back
	status  int
	body    bytes.Buffer
}

func (w *doorWriter) WriteHeader(status int) {
	if w.sent || w.held {
		return
	}
	if status >= 400 && !w.through {
		w.held, w.status = true, status
		return
	}
	if status >= 200 { // 1xx are not the answer
		w.sent, w.status = true, status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *doorWriter) Write(p []byte) (int, error) {
	if !w.sent && !w.held {
		w.WriteHeader(http.StatusOK)
	}
	if !w.held {
		return w.ResponseWriter.Write(p)
	}
	if room := maxErrorBody - w.body.Len(); room > 0 {
		w.body.Write(p[:min(len(p), room)])
	}
	return len(p), nil
}

// Flush is for streams.
func (w *doorWriter) Flush() {
	if w.held {
		return
	}
	w.sent = true
	http.NewResponseController(w.ResponseWriter).Flush() //nolint:errcheck // the next write fails too
}

// Unwrap is for http.ResponseController.
func (w *doorWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
