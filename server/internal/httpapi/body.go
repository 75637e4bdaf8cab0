package httpapi

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"net/http"
	"os"
	"strings"

	"connectrpc.com/connect"
	"github.com/tollgatehq/tollgate/server/internal/fault"
	"github.com/tollgatehq/tollgate/server/internal/inflight"
)

const (
	// MaxBody is the size of the largest request body or message, in bytes.
	MaxBody = 256 << 10
	// compressFrom is the size in bytes from which an answer is compressed:
	// below it compressing costs more time than it saves.
	compressFrom = 2 << 10
	// frameHeader is what comes before a message of gRPC or a Connect stream.
	frameHeader = 5
)

var (
	errMemory   = errors.New("the caller holds its share of memory")
	errEncoding = errors.New("unknown content coding")
	errNotGzip  = errors.New("not gzip")
)

// readBody reads the whole body before anything else happens, and unpacks it,
// so that one too large is refused as such (413) and not as one that is cut
// short, and a bomb costs little. Messages with frames are unpacked later, each
// by itself. The memory lease grows with the body.
func readBody(r *http.Request, memory *lease) error {
	if r.Body == nil || r.Body == http.NoBody {
		return nil
	}
	limit := int64(MaxBody)
	if framed(r) {
		limit += frameHeader
	}
	if r.ContentLength > limit {
		return &http.MaxBytesError{Limit: limit}
	}
	body, err := readAll(http.MaxBytesReader(nil, r.Body, limit), r.ContentLength, memory)
	if err != nil {
		return err
	}
	if !framed(r) {
		switch strings.ToLower(r.Header.Get("Content-Encoding")) {
		case "", "identity":
		case "gzip":
			if body, err = gunzip(body, memory); err != nil {
				return err
			}
		default:
			return errEncoding
		}
		r.Header.Del("Content-Encoding")
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	r.ContentLength = int64(len(body))
	return nil
}

// readAll is io.ReadAll that asks for memory before it takes it. A length of -1
// is unknown.
func readAll(from io.Reader, length int64, memory *lease) ([]byte, error) {
	const small = 512
	if length < 0 || length > inflight.SmallBody {
		length = small
	}
	body := make([]byte, 0, length+1) // one more, to meet the end without growing
	for {
		n, err := from.Read(body[len(body):cap(body)])
		body = body[:len(body)+n]
		switch {
		case errors.Is(err, io.EOF):
			return body, nil
		case err != nil:
			return nil, err
		case len(body) < cap(body):
			continue
		}
		size := 2 * cap(body)
		if size > inflight.SmallBody && !memory.Grow(inflight.RequestMemory+int64(size)) {
			return nil, errMemory
		}
		body = append(make([]byte, 0, size), body...)
	}
}

func gunzip(packed []byte, memory *lease) ([]byte, error) {
	reader, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, errNotGzip
	}
	body, err := readAll(http.MaxBytesReader(nil, io.NopCloser(reader), MaxBody), -1, memory)
	var tooLarge *http.MaxBytesError
	if err != nil && !errors.As(err, &tooLarge) && !errors.Is(err, errMemory) {
		return nil, errNotGzip
	}
	return body, err
}

// refuseBody answers for an error of readBody, in the caller's own protocol.
func refuseBody(w http.ResponseWriter, r *http.Request, err error, requestID string) {
	var tooLarge *http.MaxBytesError
	switch {
	case errors.Is(err, errMemory):
		refuse(w, r, Overloaded(), requestID)
	case errors.Is(err, os.ErrDeadlineExceeded):
		refuse(w, r, fault.New(fault.Timeout, "BODY_TIMEOUT", "the body did not arrive within %s; send it faster", bodyTime), requestID)
	case framed(r) && errors.As(err, &tooLarge):
		refuse(w, r, fault.New(fault.TooLarge, "TOO_LARGE", "the message is over %d bytes", MaxBody), requestID)
	case errors.As(err, &tooLarge):
		w.Header().Set("Connection", "close")
		writePlain(w, r, http.StatusRequestEntityTooLarge, requestID)
	case errors.Is(err, errEncoding) && isRPC(r): // https://connectrpc.com/docs/protocol#unary-request
		w.Header().Set("Accept-Encoding", "gzip")
		writeFault(w, fault.New(fault.Unimplemented, "UNSUPPORTED_ENCODING", "send the body as it is or with Content-Encoding: gzip"), requestID)
	case errors.Is(err, errEncoding):
		w.Header().Set("Accept-Encoding", "gzip") // RFC 9110 §12.5.3
		writeStatusFault(w, http.StatusUnsupportedMediaType, fault.New(fault.Invalid, "UNSUPPORTED_ENCODING",
			"send the body as it is or with Content-Encoding: gzip"), requestID)
	case errors.Is(err, errNotGzip):
		refuse(w, r, fault.New(fault.Invalid, "BAD_REQUEST", "the body is not the gzip that Content-Encoding says"), requestID)
	default:
		refuse(w, r, fault.New(fault.Invalid, "BAD_REQUEST", "the body ended early"), requestID)
	}
}

// withBoundedGzip unpacks messages inside of streams and gRPC calls no further
// than to one that is too large; connect would go on to the end.
func withBoundedGzip() connect.HandlerOption {
	return connect.WithCompression("gzip",
		func() connect.Decompressor { return &boundedGzip{} },
		func() connect.Compressor { return gzip.NewWriter(io.Discard) },
	)
}

type boundedGzip struct {
	reader gzip.Reader
	left   int64
}

func (b *boundedGzip) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errors.New("too large")
	}
	n, err := b.reader.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}

func (b *boundedGzip) Reset(from io.Reader) error {
	b.left = 2 * MaxBody
	return b.reader.Reset(from)
}

func (b *boundedGzip) Close() error { return nil }
