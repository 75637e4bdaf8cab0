package httpapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"regexp"
	"strings"

	"connectrpc.com/connect"
	"connectrpc.com/vanguard"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// strictJSON is proto3 JSON that refuses unknown fields, so that a typo in
// "permission" cannot pass silently, and writes fields at their defaults, so
// that people see "allowed": false. Connect and REST share it.
type strictJSON struct{ vanguard.JSONCodec }

func newStrictJSON() strictJSON {
	return strictJSON{vanguard.JSONCodec{
		MarshalOptions:   protojson.MarshalOptions{EmitDefaultValues: true},
		UnmarshalOptions: protojson.UnmarshalOptions{RecursionLimit: 32},
	}}
}

var (
	_ connect.Codec      = strictJSON{}
	_ vanguard.RESTCodec = restJSON{}
)

// Marshal is for Connect.
func (c strictJSON) Marshal(message any) ([]byte, error) {
	m, ok := message.(proto.Message)
	if !ok {
		return nil, errors.New("not a proto message")
	}
	return c.MarshalAppend(nil, m)
}

// MarshalAppend is for both. protojson's spaces vary on purpose from build to
// build; answers should not.
func (c strictJSON) MarshalAppend(base []byte, m proto.Message) ([]byte, error) {
	loose, err := c.MarshalOptions.Marshal(m)
	if err != nil {
		return nil, err
	}
	out := bytes.NewBuffer(base)
	if err := json.Compact(out, loose); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// Unmarshal is for both; Connect passes any message. No bytes at all are an
// empty message: a POST without a body.
func (c strictJSON) Unmarshal(data []byte, message any) error {
	m, ok := message.(proto.Message)
	if !ok {
		return errors.New("not a proto message")
	}
	if len(data) == 0 {
		return nil
	}
	return readable(c.UnmarshalOptions.Unmarshal(data, m), data, m)
}

// restJSON has the signature that vanguard wants.
type restJSON struct{ strictJSON }

func (c restJSON) Unmarshal(data []byte, message proto.Message) error {
	return malformed(c.strictJSON.Unmarshal(data, message))
}

func (c restJSON) UnmarshalField(data []byte, message proto.Message, field protoreflect.FieldDescriptor) error {
	return malformed(readable(c.JSONCodec.UnmarshalField(data, message, field), data, message))
}

// malformed says whose fault it is, which vanguard leaves to its codec.
func malformed(err error) error {
	if err == nil {
		return nil
	}
	return connect.NewError(connect.CodeInvalidArgument, err)
}

var (
	position   = regexp.MustCompile(`\(line (\d+):(\d+)\):?\s*`)
	longQuoted = regexp.MustCompile(`"([^"]{64})[^"]*"`)
)

// maxErrorText bounds, in bytes, what an error repeats of a request.
const maxErrorText = 512

// short is the text in valid UTF-8, without what a caller may have put into it at
// length: a long name in quotes is cut and stays in quotes.
func short(text string) string {
	text = longQuoted.ReplaceAllString(strings.ToValidUTF8(text, "\ufffd"), `"$1…"`)
	if len(text) > maxErrorText {
		text = strings.ToValidUTF8(text[:maxErrorText], "") + "…"
	}
	return text
}

// readable turns protojson's error about data into one for people: for a value
// that its field cannot take, with the field's name and the form it takes.
// protojson's spaces vary on purpose from build to build.
func readable(err error, data []byte, message proto.Message) error {
	if err == nil {
		return nil
	}
	text := strings.ReplaceAll(err.Error(), "\u00a0", " ")
	text = strings.TrimSpace(strings.TrimPrefix(text, "proto:"))
	at := ""
	if m := position.FindStringSubmatch(text); m != nil {
		at = " (line " + m[1] + ", column " + m[2] + ")"
		text = position.ReplaceAllString(text, "")
		if wrong := wrongValue(text, before(data, m[1], m[2]), message); wrong != "" {
			return errors.New("bad JSON: " + wrong + at)
		}
	}
	return errors.New("bad JSON: " + short(strings.TrimPrefix(text, "syntax error ")) + at)
}
