// Package protoconv converts between the contract's types and Go's.
package protoconv

import (
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/tollgatehq/tollgate/server/internal/fault"
)

// Time reads the timestamp of a request's field; unset is the zero Time.
func Time(field string, t *timestamppb.Timestamp) (time.Time, error) {
	switch {
	case t == nil:
		return time.Time{}, nil
	case !t.IsValid():
		return time.Time{}, fault.Field(field, "is not a time between the years 1 and 9999")
	case t.AsTime().IsZero():
		// It is given, so it is a time, and not Go's "none": who writes that something ended
		// then does not mean that it never ends.
		return t.AsTime().Add(time.Microsecond), nil
	default:
		return t.AsTime(), nil
	}
}

// Timestamp is nil, which is unset, for the zero Time.
func Timestamp(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

// Duration is nil, which is unset, for zero.
func Duration(d time.Duration) *durationpb.Duration {
	if d == 0 {
		return nil
	}
	return durationpb.New(d)
}

// Struct is a JSON object, as encoding/json reads it; never nil.
func Struct(values map[string]any) *structpb.Struct {
	s, err := structpb.NewStruct(values)
	if err != nil {
		panic("protoconv: " + err.Error()) // what was JSON is a Struct
	}
	return s
}

// List converts every item; nil for an empty list.
func List[From, To any](items []From, convert func(From) To) []To {
	var list []To
	for _, item := range items {
		list = append(list, convert(item))
	}
	return list
}

// Enum converts between an enum of the contract and a type of text whose values
// are the enum's names in lower case without their prefix: SUBJECT_USER_IP is
// "user_ip". The unspecified value is the empty text.
type Enum[Text ~string, Proto ~int32] struct {
	texts  map[Proto]Text
	protos map[Text]Proto
}

// NewEnum takes the generated table of an enum's names, such as
// tollgatev1.Subject_name.
func NewEnum[Text ~string, Proto ~int32](names map[int32]string) Enum[Text, Proto] {
	prefix, ok := strings.CutSuffix(names[0], "UNSPECIFIED")
	if !ok {
		panic("protoconv: " + names[0] + " does not end in UNSPECIFIED")
	}
	e := Enum[Text, Proto]{texts: map[Proto]Text{}, protos: map[Text]Proto{}}
	for number, name := range names {
		if number != 0 {
			text := Text(strings.ToLower(strings.TrimPrefix(name, prefix)))
			e.texts[Proto(number)], e.protos[text] = text, Proto(number)
		}
	}
	return e
}

// Text is empty for unspecified and for values that the contract does not have.
func (e Enum[Text, Proto]) Text(p Proto) Text { return e.texts[p] }

// Proto is unspecified for text that is no name of the enum.
func (e Enum[Text, Proto]) Proto(t Text) Proto { return e.protos[t] }
