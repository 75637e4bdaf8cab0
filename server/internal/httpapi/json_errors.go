package httpapi

import (
	"bytes"
	"regexp"
	"strconv"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// lastName is the name of the field whose value comes next.
var lastName = regexp.MustCompile(`"([A-Za-z0-9_]{1,64})"\s*:\s*$`)

// wrongValue says which field cannot take its value, and what it takes. text is
// protojson's error, before what precedes the value. It is empty when the error
// is another one, or says it well.
func wrongValue(text string, before []byte, message proto.Message) string {
	if !strings.HasPrefix(text, "invalid ") && !strings.Contains(text, "unexpected token") && !strings.Contains(text, "value out of range") {
		return ""
	}
	name := lastName.FindSubmatch(before)
	if name == nil {
		return ""
	}
	form := formOf(message.ProtoReflect().Descriptor(), string(name[1]))
	if form == "" {
		return ""
	}
	return "field " + string(name[1]) + ": must be " + form
}

// before is what precedes a line and column, both counted from 1, the column in
// characters. The last hundred bytes are enough for a name.
func before(data []byte, line, column string) []byte {
	l, _ := strconv.Atoi(line) // of digits
	c, _ := strconv.Atoi(column)
	start := 0
	for ; l > 1; l-- {
		next := bytes.IndexByte(data[start:], '\n')
		if next < 0 {
			return nil
		}
		start += next + 1
	}
	end := start
	for i := range string(data[start:]) {
		if c--; c == 0 {
			end = start + i
			break
		}
	}
	return data[max(0, end-100):end]
}

// formOf says what the field of a name takes; empty when the parser's own words
// do, or when fields of that name take different things.
func formOf(message protoreflect.MessageDescriptor, name string) string {
	forms := map[string]bool{}
	collectForms(message, name, forms, map[protoreflect.FullName]bool{})
	if len(forms) != 1 {
		return ""
	}
	for form := range forms {
		return form
	}
	return ""
}

func collectForms(message protoreflect.MessageDescriptor, name string, forms map[string]bool, seen map[protoreflect.FullName]bool) {
	if seen[message.FullName()] {
		return
	}
	seen[message.FullName()] = true
	fields := message.Fields()
	for i := range fields.Len() {
		field := fields.Get(i)
		if field.JSONName() == name || string(field.Name()) == name {
			forms[valueForm(field)] = true
		}
		if field.Message() != nil {
			collectForms(field.Message(), name, forms, seen)
		}
	}
}

func valueForm(field protoreflect.FieldDescriptor) string {
	switch {
	case field.IsList() || field.IsMap():
		return ""
	case field.Enum() != nil:
		var names []string
		values := field.Enum().Values()
		for i := range values.Len() {
			if v := values.Get(i); v.Number() != 0 { // UNSPECIFIED
				names = append(names, strconv.Quote(string(v.Name())))
			}
		}
		return "one of " + strings.Join(names, ", ")
	case field.Message() == nil:
		return ""
	case field.Message().FullName() == "google.protobuf.Duration":
		return `a number of seconds and an s, in quotes, such as "60s"`
	case field.Message().FullName() == "google.protobuf.Timestamp":
		return `a time of RFC 3339, in quotes, such as "2026-11-24T15:04:05Z"`
	default:
		return ""
	}
}
