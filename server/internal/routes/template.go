package routes

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/tollgatehq/tollgate/server/internal/fault"
)

const (
	maxTemplate = 1024 // bytes of a path template
	maxSegments = 32   // of a path template
	maxFilled   = 256  // bytes of a resource or a context value with the parameters filled in
)

// kind is what a segment of a path template matches.
type kind int

const (
	literal kind = iota
	one          // any one segment: "{name}"
	rest         // all that is left, maybe nothing: "{name...}"
)

type segment struct {
	kind kind
	text string // the decoded text of a literal, the name of a parameter
}

// template is a path template, parsed.
type template []segment

// parseTemplate's error says what a field "path" must be.
func parseTemplate(path string) (template, error) {
	invalid := func(format string, args ...any) error { return fault.Field("path", format, args...) }
	if len(path) > maxTemplate {
		return nil, invalid("must be at most %d bytes", maxTemplate)
	}
	if !strings.HasPrefix(path, "/") {
		return nil, invalid(`must start with "/"`)
	}
	if strings.Contains(path, "//") {
		return nil, invalid(`must not have an empty segment ("//")`)
	}
	var t template
	for left := strings.TrimSuffix(path[1:], "/"); left != ""; {
		var raw string
		raw, left, _ = strings.Cut(left, "/")
		if len(t) > 0 && t[len(t)-1].kind == rest {
			return nil, invalid(`must end with "{%s...}"`, t[len(t)-1].text)
		}
		s, err := parseSegment(raw)
		if err != nil {
			return nil, err
		}
		if s.kind != literal && slices.ContainsFunc(t, func(o segment) bool { return o.kind != literal && o.text == s.text }) {
			return nil, invalid("must not have the parameter %q twice", s.text)
		}
		if t = append(t, s); len(t) > maxSegments {
			return nil, invalid("must have at most %d segments", maxSegments)
		}
	}
	return t, nil
}

func parseSegment(raw string) (segment, error) {
	invalid := func(format string, args ...any) error { return fault.Field("path", format, args...) }
	switch {
	case strings.HasPrefix(raw, "{") && strings.HasSuffix(raw, "}"):
		name, all := strings.CutSuffix(raw[1:len(raw)-1], "...")
		if !validParameter(name) {
			return segment{}, invalid(`must have a name in braces: a lower-case letter, then letters, digits or "_", at most 64; "..." may follow it`)
		}
		if all {
			return segment{rest, name}, nil
		}
		return segment{one, name}, nil
	case strings.ContainsAny(raw, "{}"):
		return segment{}, invalid(`must have braces only around a whole segment: "/orders/{id}"`)
	case raw == "*" || raw == "**" || strings.HasPrefix(raw, ":"):
		return segment{}, invalid(`must have parameters in braces: "{name}" for one segment, "{name...}" for all that are left`)
	}
	if _, err := split("/"+raw, nil); err != nil {
		return segment{}, invalid("must be one that requests can have: %s", fault.From(err).Message)
	}
	text, err := decode(raw)
	return segment{literal, text}, err
}

func validParameter(name string) bool {
	if name == "" || len(name) > 64 || name[0] < 'a' || name[0] > 'z' {
		return false
	}
	return strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") == ""
}

// shape is the template without the names of its parameters. No segment has a ";",
// so different templates have different shapes.
func (t template) shape() string {
	var b strings.Builder
	for _, s := range t {
		b.WriteByte('/')
		switch s.kind {
		case literal:
			b.WriteString(s.text)
		case one:
			b.WriteByte(';')
		case rest:
			b.WriteString(";;")
		}
	}
	return b.String()
}

// parameter is the value that a parameter has, of the segments of a path that the
// template matches.
func (t template) parameter(i int, segments []string) string {
	if t[i].kind == rest {
		return strings.Join(segments[i:], "/") // no segment has a slash
	}
	return segments[i]
}

// text is a resource or a context value, parsed: texts and indexes of parameters.
type text []piece

type piece struct {
	text      string
	parameter int // index into the path template; -1: text
}

// parseText parses a template of a field, with parameters of the path in braces.
func parseText(field, from string, path template) (text, error) {
	if !utf8.ValidString(from) || strings.Contains(from, "\x00") {
		return nil, fault.Field(field, "must be UTF-8 without NUL")
	}
	var t text
	for from != "" {
		before, after, found := strings.Cut(from, "{")
		if strings.Contains(before, "}") {
			return nil, fault.Field(field, `has a "}" without a "{"; braces are only for the path's parameters`)
		}
		if before != "" {
			t = append(t, piece{before, -1})
		}
		if !found {
			break
		}
		name, left, closed := strings.Cut(after, "}")
		i := slices.IndexFunc(path, func(s segment) bool { return s.kind != literal && s.text == name })
		if !closed || i < 0 {
			return nil, fault.Field(field, "must have in braces only names of the path's parameters: %s", path.names())
		}
		t = append(t, piece{"", i})
		from = left
	}
	return t, nil
}

func (t template) names() string {
	var names []string
	for _, s := range t {
		if s.kind != literal {
			names = append(names, fmt.Sprintf("{%s}", s.text))
		}
	}
	if len(names) == 0 {
		return "it has none"
	}
	return strings.Join(names, ", ")
}

// fill is the text with the values of the parameters, cut to maxFilled bytes.
func (t text) fill(path template, segments []string) string {
	if len(t) == 0 {
		return ""
	}
	if len(t) == 1 && t[0].parameter < 0 {
		return t[0].text
	}
	var b strings.Builder
	for _, p := range t {
		if p.parameter < 0 {
			b.WriteString(p.text)
		} else {
			b.WriteString(path.parameter(p.parameter, segments))
		}
	}
	return cut(b.String())
}

func cut(s string) string {
	if len(s) <= maxFilled {
		return s
	}
	end := maxFilled
	for end > 0 && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end]
}
