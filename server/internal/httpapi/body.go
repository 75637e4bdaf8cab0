package httpapi

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"net/http"
	"strings"

	"connectrpc.com/connect"
	"github.com/tollgatehq/tollgate/server/internal/fault"
)

var (
	errEncoding = errors.New("unknown content coding")
	errNotGzip  = errors.New("not gzip")
)

// readBody takes the whole body before anything else happens, and unpacks it,
// so that one too large is refused as such (413) and not as one that is cut
// short, and a little that unpacks to much costs little.
func readBody(r *http.Request) error {
	if r.Body == nil || r.Body == http.NoBody {
		return nil
	}
	if r.ContentLength > MaxBody {
		return &http.MaxBytesError{Limit: MaxBody}
	}
	body, err := io.ReadAll(http.MaxBytesReader(nil, r.Body, MaxBody))
	if err != nil {
		return err
	}
	switch strings.ToLower(r.Header.Get("Content-Encoding")) {
	case "", "identity":
	case "gzip":
		if body, err = gunzip(body); err != nil {
			return err
		}
	default:
		return errEncoding
	}
	r.Header.Del("Content-Encoding")
	r.Body = io.NopCloser(bytes.NewReader(body))
	r.ContentLength = int64(len(body))
	return nil
}

func gunzip(packed []byte) ([]byte, error) {
	reader, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, errNotGzip
	}
	body, err := io.ReadAll(io.LimitReader(reader, MaxBody+1))
	switch {
	case err != nil:
		return nil, errNotGzip
	case len(body) > MaxBody:
		return nil, &http.MaxBytesError{Limit: MaxBody}
	}
	return body, nil
}

// refuseBody answers for an error of readBody, and returns the status.
func refuseBody(w http.ResponseWriter, r *http.Request, err error, requestID string) int {
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		w.Header().Set("Connection", "close")
		writePlain(w, r, http.StatusRequestEntityTooLarge, requestID)
		return http.StatusRequestEntityTooLarge
	case errors.Is(err, errEncoding):
		w.Header().Set("Accept-Encoding", "gzip") // RFC 9110 §12.5.3
		writeStatusFault(w, http.StatusUnsupportedMediaType, fault.New(fault.Invalid, "UNSUPPORTED_ENCODING",
			"send the body as it is or with Content-Encoding: gzip"), requestID)
		return http.StatusUnsupportedMediaType
	case errors.Is(err, errNotGzip):
		writeFault(w, fault.New(fault.Invalid, "BAD_REQUEST", "the body is not the gzip that Content-Encoding says"), requestID)
	default:
		writeFault(w, fault.New(fault.Invalid, "BAD_REQUEST", "the body ended early"), requestID)
	}
	return http.StatusBadRequest
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
