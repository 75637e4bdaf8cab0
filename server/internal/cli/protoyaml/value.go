package protoyaml

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

const (
	durationName  = "google.protobuf.Duration"
	timestampName = "google.protobuf.Timestamp"
	structName    = "google.protobuf.Struct"
)

// value reads one value of a field's type. empty is a new one.
func (r *Reader) value(n *yaml.Node, path string, field protoreflect.FieldDescriptor, empty protoreflect.Value) (protoreflect.Value, bool) {
	if field.Message() != nil {
		return r.message(n, path, field, empty)
	}
	if !r.kind(n, path, yaml.ScalarNode, "one value") {
		return empty, false
	}
	switch field.Kind() {
	case protoreflect.StringKind:
		if n.ShortTag() == "!!str" {
			return protoreflect.ValueOfString(n.Value), true
		}
		r.Fail(n, path, "must be text; put it in quotes")
	case protoreflect.BoolKind:
		if n.ShortTag() == "!!bool" {
			return protoreflect.ValueOfBool(strings.EqualFold(n.Value, "true")), true
		}
		r.Fail(n, path, "must be true or false")
	case protoreflect.Int64Kind:
		var number int64
		if n.ShortTag() == "!!int" && n.Decode(&number) == nil {
			return protoreflect.ValueOfInt64(number), true
		}
		r.Fail(n, path, "must be a whole number")
	case protoreflect.Int32Kind:
		var number int32
		if n.ShortTag() == "!!int" && n.Decode(&number) == nil {
			return protoreflect.ValueOfInt32(number), true
		}
		r.Fail(n, path, "must be a whole number, at most %d", math.MaxInt32)
	case protoreflect.EnumKind:
		if number, ok := EnumNumber(field.Enum(), n.Value); ok {
			return protoreflect.ValueOfEnum(number), true
		}
		r.Fail(n, path, "must be one of %s", strings.Join(EnumNames(field.Enum()), ", "))
	default:
		r.Fail(n, path, "cannot be given here")
	}
	return empty, false
}

func (r *Reader) message(n *yaml.Node, path string, field protoreflect.FieldDescriptor, empty protoreflect.Value) (protoreflect.Value, bool) {
	switch field.Message().FullName() {
	case durationName:
		d, err := ParseDuration(n.Value)
		if n.Kind != yaml.ScalarNode || err != nil {
			r.Fail(n, path, "must be a duration, such as 250ms, 60s, 1h30m or 7d")
			return empty, false
		}
		return protoreflect.ValueOfMessage(durationpb.New(d).ProtoReflect()), true
	case timestampName:
		at, err := time.Parse(time.RFC3339Nano, n.Value)
		if n.Kind != yaml.ScalarNode || err != nil || at.Year() < 1 {
			r.Fail(n, path, "must be a time with its zone, such as 2026-08-03T09:00:00Z")
			return empty, false
		}
		return protoreflect.ValueOfMessage(timestamppb.New(at).ProtoReflect()), true
	case structName:
		values := map[string]any{}
		r.pairs(n, path, asIs, func(key, value *yaml.Node, at string) { values[key.Value] = r.any(value, at, 1) })
		made, err := structpb.NewStruct(values)
		if err != nil {
			r.Fail(n, path, "%v", err)
			return empty, false
		}
		return protoreflect.ValueOfMessage(made.ProtoReflect()), true
	}
	r.Message(n, path, empty.Message())
	return empty, true
}

// maxNested is how deep attributes are read, in lists and objects.
const maxNested = 32

// any reads what JSON has.
func (r *Reader) any(n *yaml.Node, path string, depth int) any {
	if depth > maxNested {
		r.Fail(n, path, "has lists and objects more than %d deep", maxNested)
		return nil
	}
	switch n.Kind {
	case yaml.MappingNode:
		values := map[string]any{}
		r.pairs(n, path, asIs, func(key, value *yaml.Node, at string) { values[key.Value] = r.any(value, at, depth+1) })
		return values
	case yaml.SequenceNode:
		list := []any{}
		r.List(n, path, func(item *yaml.Node, at string) { list = append(list, r.any(item, at, depth+1)) })
		return list
	case yaml.ScalarNode:
		switch n.ShortTag() {
		case "!!str", "!!timestamp":
			return n.Value
		case "!!bool":
			return strings.EqualFold(n.Value, "true")
		case "!!null":
			return nil
		case "!!int", "!!float":
			var number float64
			if n.Decode(&number) == nil && !math.IsNaN(number) && !math.IsInf(number, 0) {
				return number
			}
		}
	}
	r.Fail(n, path, "must be what JSON has: null, true, false, a finite number, text, a list or an object")
	return nil
}

// ParseDuration reads a duration as Go writes it, or in days: 250ms, 1h30m, 7d.
func ParseDuration(text string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(text, "d"); ok {
		n, err := strconv.ParseInt(days, 10, 32)
		if err != nil || n > 100_000 {
			return 0, fmt.Errorf("%q is not a number of days", text)
		}
		return time.Duration(n) * 24 * time.Hour, nil
	}
	return time.ParseDuration(text)
}

// FormatDuration is a duration without parts that are zero: 1m, not 1m0s.
func FormatDuration(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = text[:len(text)-2]
	}
	if strings.HasSuffix(text, "h0m") {
		text = text[:len(text)-2]
	}
	return text
}

// enumPrefix is what all values of an enum begin with: EFFECT_.
func enumPrefix(enum protoreflect.EnumDescriptor) string {
	return strings.TrimSuffix(string(enum.Values().ByNumber(0).Name()), "UNSPECIFIED")
}

// EnumNames are the names of an enum's values, but for the one that is not set.
func EnumNames(enum protoreflect.EnumDescriptor) (names []string) {
	for i := range enum.Values().Len() {
		if value := enum.Values().Get(i); value.Number() != 0 {
			names = append(names, enumName(enum, value))
		}
	}
	return names
}

// EnumName is the name of a value: deny for EFFECT_DENY.
func EnumName(value protoreflect.Enum) string {
	if v := value.Descriptor().Values().ByNumber(value.Number()); v != nil {
		return enumName(value.Descriptor(), v)
	}
	return ""
}

func enumName(enum protoreflect.EnumDescriptor, value protoreflect.EnumValueDescriptor) string {
	return strings.ToLower(strings.TrimPrefix(string(value.Name()), enumPrefix(enum)))
}

// EnumNumber is the value of a name in either form: deny or EFFECT_DENY.
func EnumNumber(enum protoreflect.EnumDescriptor, text string) (protoreflect.EnumNumber, bool) {
	for i := range enum.Values().Len() {
		value := enum.Values().Get(i)
		if value.Number() != 0 && (text == string(value.Name()) || text == enumName(enum, value)) {
			return value.Number(), true
		}
	}
	return 0, false
}
