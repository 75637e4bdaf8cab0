package policytest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// Problem is one thing that is wrong with a file.
type Problem struct {
	Line    int    // from 1; 0: nowhere in particular
	Path    string // "roles[1].grants[0].condition"; empty: the whole file
	Message string
}

// In is the problem as a line of text, in a file of this name.
func (p Problem) In(name string) string {
	if p.Line > 0 {
		name = fmt.Sprintf("%s:%d", name, p.Line)
	}
	if p.Path != "" {
		name += ": " + plain(p.Path)
	}
	return name + ": " + plain(p.Message)
}

// reader reads a YAML document strictly: it takes known keys only, each once, and
// values of the type asked for. It notes all that is wrong, and where each value
// stands.
type reader struct {
	problems []Problem
	lines    map[string]int // by path
}

// field reads one value.
type field func(n *yaml.Node, path string)

// document is the root of the only document in a text, nil when there is none that
// can be read.
func (r *reader) document(content []byte) *yaml.Node {
	decoder := yaml.NewDecoder(bytes.NewReader(content))
	var root, second yaml.Node
	if err := decoder.Decode(&root); errors.Is(err, io.EOF) {
		r.problems = append(r.problems, Problem{Message: "is empty"})
		return nil
	} else if err != nil {
		r.problems = append(r.problems, syntaxProblem(err))
		return nil
	}
	switch err := decoder.Decode(&second); {
	case errors.Is(err, io.EOF):
	case err != nil:
		r.problems = append(r.problems, syntaxProblem(err))
		return nil
	default:
		r.fail(&second, "", "a file holds one document; remove what follows")
		return nil
	}
	return root.Content[0]
}

var syntaxLine = regexp.MustCompile(`^line (\d+): `)

func syntaxProblem(err error) Problem {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	p := Problem{Message: "is not YAML: " + syntaxLine.ReplaceAllString(text, "")}
	if m := syntaxLine.FindStringSubmatch(text); m != nil {
		p.Line, _ = strconv.Atoi(m[1]) // digits
	}
	return p
}

// fail notes what is wrong with a value.
func (r *reader) fail(n *yaml.Node, path, format string, args ...any) {
	r.problems = append(r.problems, Problem{Line: n.Line, Path: path, Message: fmt.Sprintf(format, args...)})
}

// failAt is fail for a value that was read before: the line is that of the nearest
// value around the path that the file has.
func (r *reader) failAt(path, message string) {
	line, at := 0, path
	for line == 0 && at != "" {
		line = r.lines[at]
		at = at[:max(strings.LastIndexAny(at, ".["), 0)]
	}
	r.problems = append(r.problems, Problem{Line: line, Path: path, Message: message})
}

// kind says whether a value is of a kind.
func (r *reader) kind(n *yaml.Node, path string, want yaml.Kind, name string) bool {
	r.lines[path] = n.Line
	switch {
	case n.Kind == yaml.AliasNode:
		r.fail(n, path, "aliases (*%s) are not taken; write it out", n.Value)
	case n.Kind != want:
		r.fail(n, path, "must be %s", name)
	default:
		return true
	}
	return false
}

// object reads an object whose keys are these. A key may be written as any_of, too.
func (r *reader) object(n *yaml.Node, path string, fields map[string]field) bool {
	return r.pairs(n, path, func(key *yaml.Node, value *yaml.Node, at string, name string) {
		read, known := fields[name]
		if !known {
			r.fail(key, at, "is not known; known are %s", strings.Join(slices.Sorted(maps.Keys(fields)), ", "))
			return
		}
		read(value, at)
	}, camel)
}

// pairs calls fn for each key of an object, which may be there once.
func (r *reader) pairs(n *yaml.Node, path string, fn func(key, value *yaml.Node, at, name string), spell func(string) string) bool {
	if !r.kind(n, path, yaml.MappingNode, "an object: keys and values") {
		return false
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		name := spell(key.Value)
		at := strings.TrimPrefix(path+"."+name, ".")
		switch {
		case key.Kind != yaml.ScalarNode || key.ShortTag() != "!!str":
			r.fail(key, path, "has a key that is not text; put it in quotes")
		case seen[name]:
			r.fail(key, at, "is there twice")
		default:
			seen[name] = true
			fn(key, value, at, name)
		}
	}
	return true
}

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

// each reads the items of a list.
func (r *reader) each(read field) field {
	return func(n *yaml.Node, path string) {
		if !r.kind(n, path, yaml.SequenceNode, "a list") {
			return
		}
		for i, item := range n.Content {
			read(item, fmt.Sprintf("%s[%d]", path, i))
		}
	}
}

// text reads a text.
func (r *reader) text(into *string) field {
	return func(n *yaml.Node, path string) {
		switch {
		case !r.kind(n, path, yaml.ScalarNode, "text"):
		case n.ShortTag() != "!!str":
			r.fail(n, path, "must be text; put it in quotes")
		default:
			*into = n.Value
		}
	}
}

func (r *reader) texts(into *[]string) field {
	return r.each(func(n *yaml.Node, path string) {
		var text string
		r.text(&text)(n, path)
		*into = append(*into, text)
	})
}

// time reads a time with its zone (RFC 3339), in quotes or without.
func (r *reader) time(into *time.Time) field {
	return func(n *yaml.Node, path string) {
		if !r.kind(n, path, yaml.ScalarNode, "a time") {
			return
		}
		at, err := time.Parse(time.RFC3339Nano, n.Value)
		if err != nil || at.Year() < 1 {
			r.fail(n, path, "must be a time with its zone, as in 2026-08-03T09:00:00Z")
			return
		}
		*into = at.UTC()
	}
}

// textMap reads an object of texts.
func (r *reader) textMap(into *map[string]string) field {
	return func(n *yaml.Node, path string) {
		values := map[string]string{}
		r.pairs(n, path, func(_, value *yaml.Node, at, name string) {
			var text string
			r.text(&text)(value, at)
			values[name] = text
		}, asIs)
		*into = values
	}
}

func asIs(name string) string { return name }

// attributes reads an object as JSON has it: all numbers are floating point, as they
// are in a request.
func (r *reader) attributes(into *map[string]any) field {
	return func(n *yaml.Node, path string) {
		values := map[string]any{}
		r.pairs(n, path, func(_, value *yaml.Node, at, name string) {
			values[name] = r.value(value, at, 1)
		}, asIs)
		*into = values
	}
}

// maxNested is how deep attributes are read, in lists and objects.
const maxNested = 32

func (r *reader) value(n *yaml.Node, path string, depth int) any {
	if depth > maxNested {
		r.fail(n, path, "has lists and objects more than %d deep", maxNested)
		return nil
	}
	switch n.Kind {
	case yaml.MappingNode:
		values := map[string]any{}
		r.pairs(n, path, func(_, value *yaml.Node, at, name string) {
			values[name] = r.value(value, at, depth+1)
		}, asIs)
		return values
	case yaml.SequenceNode:
		list := make([]any, len(n.Content))
		for i, item := range n.Content {
			list[i] = r.value(item, fmt.Sprintf("%s[%d]", path, i), depth+1)
		}
		return list
	case yaml.ScalarNode:
		return r.scalar(n, path)
	default:
		r.kind(n, path, yaml.ScalarNode, "a value")
		return nil
	}
}

func (r *reader) scalar(n *yaml.Node, path string) any {
	r.lines[path] = n.Line
	switch n.ShortTag() {
	case "!!str", "!!timestamp":
		return n.Value
	case "!!bool":
		var yes bool
		if err := n.Decode(&yes); err == nil {
			return yes
		}
	case "!!null":
		return nil
	case "!!int", "!!float":
		var number float64
		if err := n.Decode(&number); err == nil && !math.IsNaN(number) && !math.IsInf(number, 0) {
			return number
		}
	}
	r.fail(n, path, "must be what JSON has: null, true, false, a finite number, text, a list or an object")
	return nil
}
