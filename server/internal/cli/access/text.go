package access

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/tollgatehq/tollgate/server/internal/cli/protoyaml"
	"github.com/tollgatehq/tollgate/server/internal/terminal"
	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// Describe writes a plan for people: what is created (+), changed (~) and removed (-).
func Describe(w io.Writer, steps []Step) error {
	var created, changed, removed int
	for _, step := range steps {
		var err error
		switch {
		case step.Remove:
			removed++
			held := ""
			if step.Kind == Roles {
				held = fmt.Sprintf("  (users who hold it: %d)", step.Holds)
			}
			_, err = fmt.Fprintf(w, "- %s%s\n", terminal.Plain(step.String()), held)
		case step.Before == nil:
			created++
			err = describeNew(w, step)
		default:
			changed++
			err = describeChange(w, step)
		}
		if err != nil {
			return err
		}
	}
	if len(steps) == 0 {
		_, err := fmt.Fprintln(w, "Nothing would change.")
		return err
	}
	_, err := fmt.Fprintf(w, "%d to create, %d to change, %d to remove\n", created, changed, removed)
	return err
}

func describeNew(w io.Writer, step Step) error {
	if _, err := fmt.Fprintf(w, "+ %s\n", terminal.Plain(step.String())); err != nil || step.Kind == Assignments {
		return err
	}
	node := protoyaml.Node(trim(step.Spec).ProtoReflect())
	node.Content = node.Content[2:] // the name
	if len(node.Content) == 0 {
		return nil
	}
	text, err := protoyaml.Encode(node)
	if err != nil {
		return err
	}
	_, err = io.WriteString(w, indent(string(text)))
	return err
}

func describeChange(w io.Writer, step Step) error {
	if _, err := fmt.Fprintf(w, "~ %s\n", terminal.Plain(step.String())); err != nil {
		return err
	}
	for _, c := range step.Changes() {
		name := c.Field.JSONName()
		var line string
		if c.Field.IsList() {
			gone, come := without(c.Before, c.After, c.Field), without(c.After, c.Before, c.Field)
			line = name + ":"
			if len(gone)+len(come) == 0 {
				line += " in another order"
			}
			for _, text := range gone {
				line += "\n  - " + text
			}
			for _, text := range come {
				line += "\n  + " + text
			}
		} else {
			line = fmt.Sprintf("%s: %s -> %s", name, show(c.Field, c.Before), show(c.Field, c.After))
		}
		if _, err := io.WriteString(w, indent(line+"\n")); err != nil {
			return err
		}
	}
	return nil
}

// without is what a list has and another has not, each on one line.
func without(list, other protoreflect.Value, field protoreflect.FieldDescriptor) (texts []string) {
	all := func(v protoreflect.Value) (texts []string) {
		for i := range v.List().Len() {
			texts = append(texts, flow(protoyaml.ValueNode(v.List().Get(i), field)))
		}
		return texts
	}
	others := all(other)
	for _, text := range all(list) {
		if !slices.Contains(others, text) {
			texts = append(texts, text)
		}
	}
	return texts
}

// show is a field's value on one line.
func show(field protoreflect.FieldDescriptor, value protoreflect.Value) string {
	if field.Message() != nil && !field.IsMap() && !field.IsList() && !value.Message().IsValid() {
		return "none"
	}
	if field.Enum() != nil && value.Enum() == 0 {
		return "none"
	}
	return flow(protoyaml.FieldNode(value, field))
}

// flow is a node on one line.
func flow(n *yaml.Node) string {
	var oneLine func(n *yaml.Node)
	oneLine = func(n *yaml.Node) {
		if n.Kind != yaml.ScalarNode {
			n.Style = yaml.FlowStyle
		} else if n.Style == yaml.LiteralStyle {
			n.Style = yaml.DoubleQuotedStyle
		}
		for _, child := range n.Content {
			oneLine(child)
		}
	}
	oneLine(n)
	text, err := protoyaml.Encode(n)
	if err != nil {
		return err.Error()
	}
	return strings.Join(strings.Fields(string(text)), " ")
}

func indent(text string) string {
	return "    " + strings.ReplaceAll(strings.TrimSuffix(text, "\n"), "\n", "\n    ") + "\n"
}

// Removals says in numbers what a plan removes; empty when it removes nothing.
func Removals(steps []Step) string {
	counts, holds := map[Kind]int{}, 0
	for _, step := range steps {
		if step.Remove {
			counts[step.Kind]++
			holds += step.Holds
		}
	}
	var parts []string
	for _, kind := range []Kind{Roles, Limits, Routes, Recordings, Assignments} {
		if n := counts[kind]; n > 0 {
			text := fmt.Sprintf("%d of the %s", n, kind)
			if kind == Roles {
				text += fmt.Sprintf(" (held %d times)", holds)
			}
			parts = append(parts, text)
		}
	}
	return strings.Join(parts, ", ")
}

// trim is an object without what is so anyway.
func trim(spec proto.Message) proto.Message {
	m := proto.Clone(spec)
	trimDefaults(m)
	return m
}
