package protoyaml

import (
	"bytes"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/tollgatehq/tollgate/server/internal/terminal"
	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// Node is a message as Reader.Message reads it: its fields in their order, without those
// that are not set.
func Node(m protoreflect.Message) *yaml.Node {
	node := &yaml.Node{Kind: yaml.MappingNode}
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		if field := fields.Get(i); m.Has(field) {
			node.Content = append(node.Content, Text(field.JSONName()), FieldNode(m.Get(field), field))
		}
	}
	if len(node.Content) == 0 {
		node.Style = yaml.FlowStyle
	}
	return node
}

// FieldNode is the value of a field.
func FieldNode(value protoreflect.Value, field protoreflect.FieldDescriptor) *yaml.Node {
	switch {
	case field.IsMap():
		node := &yaml.Node{Kind: yaml.MappingNode}
		texts := map[string]protoreflect.Value{}
		value.Map().Range(func(key protoreflect.MapKey, v protoreflect.Value) bool {
			texts[key.String()] = v
			return true
		})
		for _, key := range slices.Sorted(maps.Keys(texts)) {
			node.Content = append(node.Content, Text(key), ValueNode(texts[key], field.MapValue()))
		}
		return node
	case field.IsList():
		node := &yaml.Node{Kind: yaml.SequenceNode}
		for i := range value.List().Len() {
			node.Content = append(node.Content, ValueNode(value.List().Get(i), field))
		}
		return node
	}
	return ValueNode(value, field)
}

// ValueNode is one value of a field, which may be a list of them.
func ValueNode(value protoreflect.Value, field protoreflect.FieldDescriptor) *yaml.Node {
	switch field.Kind() {
	case protoreflect.StringKind:
		return Text(value.String())
	case protoreflect.BoolKind:
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!bool", Value: strconv.FormatBool(value.Bool())}
	case protoreflect.EnumKind:
		if v := field.Enum().Values().ByNumber(value.Enum()); v != nil {
			return Text(enumName(field.Enum(), v))
		}
		return Text(strconv.Itoa(int(value.Enum())))
	case protoreflect.MessageKind:
		switch m := value.Message().Interface().(type) {
		case *durationpb.Duration:
			return Text(FormatDuration(m.AsDuration()))
		case *timestamppb.Timestamp:
			return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!timestamp", Value: m.AsTime().UTC().Format(time.RFC3339Nano)}
		case *structpb.Struct:
			return structNode(m)
		}
		return Node(value.Message())
	}
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!int", Value: value.String()}
}

// structNode goes by JSON, which has the numbers as they are read again.
func structNode(m *structpb.Struct) *yaml.Node {
	text, err := json.Marshal(m.AsMap())
	if err != nil { // a number that is none, which no answer has
		return Text(err.Error())
	}
	node, err := FromJSON(text)
	if err != nil {
		return Text(err.Error())
	}
	return node
}

// Text is a text: of several lines as a block, and in double quotes where a reader of
// YAML could take it for something else.
func Text(text string) *yaml.Node {
	node := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: text}
	if text == "<<" { // YAML 1.1's merge key
		node.Style = yaml.DoubleQuotedStyle
	}
	several := strings.Contains(text, "\n")
	for line := range strings.SplitSeq(text, "\n") {
		if strings.ContainsFunc(line, func(r rune) bool { return !unicode.IsPrint(r) }) {
			node.Style = yaml.DoubleQuotedStyle
			return node
		}
		if several && strings.TrimSpace(line) != line && strings.TrimLeft(line, " ") == "" {
			several = false // spaces alone
			node.Style = yaml.DoubleQuotedStyle
		}
	}
	switch {
	case !several:
	case strings.HasPrefix(text, " ") || strings.HasPrefix(text, "\n"):
		node.Style = yaml.DoubleQuotedStyle
	default:
		node.Style = yaml.LiteralStyle
	}
	return node
}

// Encode is a node as a text that drives no terminal.
func Encode(n *yaml.Node) ([]byte, error) {
	quote(n)
	var out bytes.Buffer
	encoder := yaml.NewEncoder(&out)
	encoder.SetIndent(2)
	if err := errors.Join(encoder.Encode(n), encoder.Close()); err != nil {
		return nil, err
	}
	return terminal.YAML(out.Bytes()), nil
}

// quote has texts with characters to escape written in double quotes.
func quote(n *yaml.Node) {
	if n.Kind == yaml.ScalarNode && terminal.Obeyed(n.Value) {
		n.Style = yaml.DoubleQuotedStyle
	}
	for _, child := range n.Content {
		quote(child)
	}
}
