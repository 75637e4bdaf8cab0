package httpapi

import (
	"encoding/json"
	"maps"
	"net/http"
	"regexp"
	"strings"

	"connectrpc.com/connect"
	"github.com/tollgatehq/tollgate/server/internal/fault"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/encoding/protojson"
)

// writeFault answers with a fault.
func writeFault(w http.ResponseWriter, f *fault.Error, requestID string) {
	writeStatusFault(w, f.Kind.Status(), f, requestID)
}

// writeStatusFault answers with a fault under a status that says more than the
// fault's own.
func writeStatusFault(w http.ResponseWriter, status int, f *fault.Error, requestID string) {
	out := fault.Connect(f, requestID)
	maps.Copy(w.Header(), out.Meta())
	writeWire(w, status, fault.NewWire(out))
}

func writeWire(w http.ResponseWriter, code int, e fault.Wire) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	for _, stale := range []string{"Content-Length", "Content-Encoding", "Etag", "Last-Modified"} {
		h.Del(stale)
	}
	w.WriteHeader(code)
	w.Write(e.JSON()) //nolint:errcheck,gosec // the caller hung up; JSON, and sent as such
}

// rewrite brings what another layer answered with to the one shape: Connect's
// errors keep theirs and gain a google.rpc.ErrorInfo, the REST transcoder's
// google.rpc.Status and plain texts become it.
func rewrite(w http.ResponseWriter, r *http.Request, code int, body []byte, requestID string) {
	var wire fault.Wire
	if err := json.Unmarshal(body, &wire); err == nil && wire.Code != "" {
		if len(wire.Details) > 0 { // made by the guard: complete
			writeWire(w, code, wire)
			return
		}
		rewriteBare(w, code, wire.Code, wire.Message, requestID)
		return
	}
	var transcoded status.Status
	if err := protojson.Unmarshal(body, &transcoded); err == nil && transcoded.GetCode() != 0 {
		e := connect.NewWireError(connect.Code(transcoded.GetCode()), errorText(transcoded.GetMessage()))
		for _, packed := range transcoded.GetDetails() {
			if message, err := packed.UnmarshalNew(); err == nil {
				if detail, err := connect.NewErrorDetail(message); err == nil {
					e.AddDetail(detail)
				}
			}
		}
		if len(e.Details()) > 0 {
			writeWire(w, code, fault.NewWire(e))
			return
		}
		rewriteBare(w, code, e.Code().String(), e.Message(), requestID)
		return
	}
	writePlain(w, r, code, requestID)
}

type errorText string

func (e errorText) Error() string { return string(e) }

var (
	// What the transcoder says about a query or path that does not fit the
	// message; it calls these internal errors.
	badQuery = regexp.MustCompile(`^(?:unknown field in field path|in field path|invalid parameter) "([A-Za-z0-9_.]*)"|^(request) should have no body`)
	// The transcoder names fields as the protos do, not as JSON.
	underscore = regexp.MustCompile(`_[a-z]`)
	badField   = regexp.MustCompile(`unknown field "([^"]+)"|field ([A-Za-z0-9_.]+):`)
)

// rewriteBare dresses an error that was made before the guard saw the call: a
// request that is not the message it should be.
func rewriteBare(w http.ResponseWriter, status int, code, message, requestID string) {
	var parsed connect.Code
	if err := parsed.UnmarshalText([]byte(code)); err != nil {
		parsed = connect.CodeUnknown
	}
	message = strings.TrimPrefix(message, "unmarshal message: ")
	field := ""
	if m := badQuery.FindStringSubmatch(message); m != nil {
		parsed, status = connect.CodeInvalidArgument, http.StatusBadRequest
		if field = m[1] + m[2]; strings.HasPrefix(message, "invalid parameter") {
			field = underscore.ReplaceAllStringFunc(field, func(s string) string { return strings.ToUpper(s[1:]) })
		}
		message = "bad query or path: " + strings.Replace(message, m[1]+m[2], field, 1)
	} else if m := badField.FindStringSubmatch(message); m != nil {
		field = m[1] + m[2]
	} else if parsed == connect.CodeUnknown && strings.HasPrefix(message, "read message: ") {
		// The body was read before; this is the query of a Connect GET.
		parsed, status = connect.CodeInvalidArgument, http.StatusBadRequest
		message = "the query's message is not what base64 and encoding say"
	}
	message, field = short(message), short(field)
	f := fault.New(fault.KindOf(parsed), "BAD_REQUEST", "%s", message)
	switch {
	case f.Kind == fault.Internal:
		f = fault.From(errorText(message))
	case f.Kind != fault.Invalid:
		f.Reason = strings.ToUpper(parsed.String())
	case field != "":
		f.Violations = []fault.Violation{{Field: field, Message: message}}
	}
	writeStatusFault(w, status, f, requestID)
}

// writePlain answers for what has no RPC behind it.
func writePlain(w http.ResponseWriter, r *http.Request, status int, requestID string) {
	var f *fault.Error
	switch status {
	case http.StatusNotFound:
		f = fault.New(fault.NotFound, "UNKNOWN_PATH", "there is nothing at this path; check its spelling: the API is under /v1, and no path has two slashes together or one at its end")
		if isRPC(r) {
			// A client must be able to tell it from the NOT_FOUND of an RPC.
			f = UnknownRPC()
		}
	case http.StatusMethodNotAllowed:
		f = fault.New(fault.Unimplemented, "METHOD_NOT_ALLOWED", "%s is not possible at this path%s", method(r.Method), allowed(w))
	case http.StatusUnsupportedMediaType:
		f = fault.New(fault.Invalid, "UNSUPPORTED_MEDIA_TYPE", "send the body as Content-Type: application/json")
	case http.StatusRequestEntityTooLarge:
		f = fault.New(fault.TooLarge, "TOO_LARGE", "the body is over %d bytes", MaxBody)
	case http.StatusRequestURITooLong, http.StatusRequestHeaderFieldsTooLarge:
		f = fault.New(fault.TooLarge, "TOO_LARGE", "the address or the headers are too long")
	default:
		f = fault.New(fault.Invalid, "BAD_REQUEST", "%s", http.StatusText(status))
		if status >= 500 {
			f = fault.From(errorText(http.StatusText(status)))
		}
	}
	writeStatusFault(w, status, f, requestID)
}

// UnknownRPC is the fault of a call of an RPC that there is not.
func UnknownRPC() *fault.Error {
	return fault.New(fault.Unimplemented, "UNKNOWN_PATH", "this server has no such RPC; check its name and this server's version")
}

// isRPC says whether the path is that of an RPC, which this server may not have.
func isRPC(r *http.Request) bool { return strings.HasPrefix(r.URL.Path, "/tollgate.v1.") }

// method keeps an attacker's idea of a method name out of the answer.
func method(m string) string {
	switch m {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions:
		return m
	default:
		return "this method"
	}
}

func allowed(w http.ResponseWriter) string {
	if allow := w.Header().Get("Allow"); allow != "" {
		return "; it allows " + allow
	}
	return ""
}
