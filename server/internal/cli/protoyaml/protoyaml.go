// Package protoyaml reads and writes messages of the contract as YAML for people: the
// names of JSON, enums without what all their values begin with (deny for EFFECT_DENY),
// durations as 90s, 1h or 7d. It reads strictly: what is not known, is there twice or
// has another type is an error with its line and column.
package protoyaml

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// Problem is one thing that is wrong with a text.
type Problem struct {
	Line, Column int    // from 1; 0: nowhere in particular
	Path         string // "roles[1].grants[0].condition"; empty: the whole text
	Message      string
}

func (p Problem) Error() string {
	var b strings.Builder
	if p.Line > 0 {
		fmt.Fprintf(&b, "%d:%d: ", p.Line, p.Column)
	}
	if p.Path != "" {
		b.WriteString(p.Path + ": ")
	}
	return b.String() + p.Message
}

// Reader reads a text and notes all that is wrong with it.
type Reader struct {
	Problems []Problem

	places map[string]*yaml.Node // by path
}

// Document is the root of the only document in a text, nil when there is none that can
// be read.
func (r *Reader) Document(text []byte) *yaml.Node {
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	var root, second yaml.Node
	if err := decoder.Decode(&root); errors.Is(err, io.EOF) {
		r.Problems = append(r.Problems, Problem{Message: "is empty"})
		return nil
	} else if err != nil {
		r.Problems = append(r.Problems, syntaxProblem(err))
		return nil
	}
	switch err := decoder.Decode(&second); {
	case err == nil:
		r.Fail(&second, "", "is a second document; put all into one")
		return nil
	case !errors.Is(err, io.EOF):
		r.Problems = append(r.Problems, syntaxProblem(err))
		return nil
	}
	return root.Content[0]
}

func syntaxProblem(err error) Problem {
	p := Problem{Message: strings.TrimPrefix(err.Error(), "yaml: ")}
	if n, _ := fmt.Sscanf(p.Message, "line %d:", &p.Line); n == 1 {
		_, p.Message, _ = strings.Cut(p.Message, ": ")
		p.Column = 1
	}
	return p
}

// Fail notes what is wrong with a value.
func (r *Reader) Fail(n *yaml.Node, path, format string, args ...any) {
	r.Problems = append(r.Problems, Problem{n.Line, n.Column, path, fmt.Sprintf(format, args...)})
}

// FailAt notes what is wrong with what was read at a path, or at the nearest one around
// it.
func (r *Reader) FailAt(path, format string, args ...any) {
	for at := path; at != ""; at = at[:max(strings.LastIndexAny(at, ".["), 0)] {
		if n := r.places[at]; n != nil {
			r.Fail(n, path, format, args...)
			return
		}
	}
	r.Problems = append(r.Problems, Problem{Path: path, Message: fmt.Sprintf(format, args...)})
}

// note remembers where the value at a path stands.
func (r *Reader) note(path string, n *yaml.Node) {
	if r.places == nil {
		r.places = map[string]*yaml.Node{}
	}
	r.places[path] = n
}

// Err is all that is wrong, one line each, at most 20 of them; nil when nothing is.
func (r *Reader) Err(file string) error {
	slices.SortStableFunc(r.Problems, func(a, b Problem) int { return a.Line - b.Line })
	var all []error
	for i, p := range r.Problems {
		if i == 20 {
			all = append(all, fmt.Errorf("%s: and %d more", file, len(r.Problems)-i))
			break
		}
		all = append(all, fmt.Errorf("%s:%w", file, p))
	}
	return errors.Join(all...)
}

// Object calls fn for each key of an object, once each. A key may be any_of for anyOf.
func (r *Reader) Object(n *yaml.Node, path string, fn func(key, value *yaml.Node, path string)) {
	r.pairs(n, path, camel, fn)
}

func (r *Reader) pairs(n *yaml.Node, path string, spell func(string) string, fn func(key, value *yaml.Node, path string)) {
	if !r.kind(n, path, yaml.MappingNode, "an object: keys and values") {
		return
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := *n.Content[i], n.Content[i+1]
		key.Value = spell(key.Value)
		at := strings.TrimPrefix(path+"."+key.Value, ".")
		switch {
		case key.Kind != yaml.ScalarNode || key.ShortTag() != "!!str":
			r.Fail(&key, path, "has a key that is not text; put it in quotes")
		case seen[key.Value]:
			r.Fail(&key, at, "is there twice")
		default:
			seen[key.Value] = true
			r.note(at, value)
			fn(&key, value, at)
		}
	}
}

// List calls fn for each item of a list.
func (r *Reader) List(n *yaml.Node, path string, fn func(item *yaml.Node, path string)) {
	if !r.kind(n, path, yaml.SequenceNode, "a list") {
		return
	}
	for i, item := range n.Content {
		at := fmt.Sprintf("%s[%d]", path, i)
		r.note(at, item)
		fn(item, at)
	}
}

func (r *Reader) kind(n *yaml.Node, path string, want yaml.Kind, what string) bool {
	switch {
	case n.Kind == yaml.AliasNode:
		r.Fail(n, path, "aliases (*%s) are not taken; write it out", n.Value)
	case n.Kind != want:
		r.Fail(n, path, "must be %s", what)
	default:
		return true
	}
	return false
}

// Message reads an object into a message. known lists the fields for an error.
func (r *Reader) Message(n *yaml.Node, path string, m protoreflect.Message) {
	fields := m.Descriptor().Fields()
	r.Object(n, path, func(key, value *yaml.Node, at string) {
		field := fields.ByJSONName(key.Value)
		if field == nil {
			var names []string
			for i := range fields.Len() {
				names = append(names, fields.Get(i).JSONName())
			}
			slices.Sort(names)
			r.Fail(key, at, "is not known; known are %s", strings.Join(names, ", "))
			return
		}
		r.field(value, at, m, field)
	})
}

// field reads a value into a field of a message.
func (r *Reader) field(n *yaml.Node, path string, m protoreflect.Message, field protoreflect.FieldDescriptor) {
	switch {
	case field.IsMap():
		values := m.Mutable(field).Map()
		r.pairs(n, path, asIs, func(key, value *yaml.Node, at string) {
			if v, ok := r.value(value, at, field.MapValue(), values.NewValue()); ok {
				values.Set(protoreflect.ValueOfString(key.Value).MapKey(), v)
			}
		})
	case field.IsList():
		list := m.Mutable(field).List()
		r.List(n, path, func(item *yaml.Node, at string) {
			if v, ok := r.value(item, at, field, list.NewElement()); ok {
				list.Append(v)
			}
		})
	default:
		if v, ok := r.value(n, path, field, m.NewField(field)); ok {
			m.Set(field, v)
		}
	}
}

func asIs(name string) string { return name }

// camel is a name of the contract as JSON has it: anyOf for any_of.
func camel(name string) string {
	parts := strings.Split(name, "_")
	for i, part := range parts[1:] {
		if part == "" {
			return name
		}
		parts[i+1] = strings.ToUpper(part[:1]) + part[1:]
	}
	return strings.Join(parts, "")
}
