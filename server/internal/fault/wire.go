package fault

import (
	"encoding/base64"
	"encoding/json"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/encoding/protojson"
)

// Wire is the one shape of an error in JSON, Connect's
// (https://connectrpc.com/docs/protocol#error-end-stream).
type Wire struct {
	Code    string       `json:"code"`
	Message string       `json:"message"`
	Details []WireDetail `json:"details"`
}

// WireDetail is a protobuf message: its bytes for programs, and as JSON for
// people.
type WireDetail struct {
	Type  string          `json:"type"`
	Value string          `json:"value"`
	Debug json.RawMessage `json:"debug,omitempty"`
}

// NewWire is the error in that shape.
func NewWire(e *connect.Error) Wire {
	out := Wire{Code: e.Code().String(), Message: e.Message(), Details: []WireDetail{}}
	for _, d := range e.Details() {
		detail := WireDetail{Type: d.Type(), Value: base64.RawStdEncoding.EncodeToString(d.Bytes())}
		if message, err := d.Value(); err == nil {
			detail.Debug, _ = protojson.Marshal(message) // left out when it cannot be shown
		}
		out.Details = append(out.Details, detail)
	}
	return out
}

// JSON is the body of an answer, with a line's end.
func (w Wire) JSON() []byte {
	body, err := json.Marshal(w)
	if err != nil { // a detail that came from elsewhere
		body = []byte(`{"code":"internal","message":"","details":[]}`)
	}
	return append(body, '\n')
}
