package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/cli/protoyaml"
	"github.com/tollgatehq/tollgate/server/internal/terminal"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// show prints an answer in the format asked for: JSON as the API answers it, the same
// as YAML, or else the table that fill fills.
func (e *env) show(answer proto.Message, fill func(t *table)) error {
	if e.Output == "table" {
		t := &table{}
		fill(t)
		return t.write(e.out)
	}
	text, err := encode(answer)
	if err != nil {
		return err
	}
	return e.text(text)
}

// text prints a JSON text as it is, or as YAML where that was asked for.
func (e *env) text(text []byte) error {
	if e.Output == "yaml" {
		return writeAsYAML(e.out, text)
	}
	_, err := e.out.Write(text)
	return err
}

// encode is the API's JSON: proto3 JSON with fields at their defaults.
func encode(m proto.Message) ([]byte, error) {
	loose, err := protojson.MarshalOptions{EmitDefaultValues: true}.Marshal(m)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	if err := json.Indent(&out, loose, "", "  "); err != nil { // protojson's spaces vary
		return nil, err
	}
	return terminal.JSON(append(out.Bytes(), '\n')), nil
}

func writeYAML(w io.Writer, m proto.Message) error {
	text, err := encode(m)
	if err != nil {
		return err
	}
	return writeAsYAML(w, text)
}

func writeAsYAML(w io.Writer, text []byte) error {
	node, err := protoyaml.FromJSON(text)
	if err != nil {
		return err
	}
	out, err := protoyaml.Encode(node)
	if err != nil {
		return err
	}
	_, err = w.Write(out)
	return err
}

// table is lines of cells. What is in a cell is shown, never obeyed.
type table struct {
	above, below []string
	header       []string
	rows         [][]string
}

func (t *table) row(cells ...string) { t.rows = append(t.rows, cells) }

// before is a line above the table.
func (t *table) before(format string, args ...any) {
	t.above = append(t.above, fmt.Sprintf(format, args...))
}

// note is a line below the table.
func (t *table) note(format string, args ...any) {
	t.below = append(t.below, fmt.Sprintf(format, args...))
}

// maxCell is how much of a text a table shows, in characters; -o json has all of it.
const maxCell = 80

func cell(text string) string {
	text = terminal.Plain(text)
	if text == "" {
		return "-"
	}
	if runes := []rune(text); len(runes) > maxCell {
		return string(runes[:maxCell-1]) + "…"
	}
	return text
}

func (t *table) write(w io.Writer) error {
	if err := lines(w, t.above); err != nil {
		return err
	}
	out := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	if len(t.header) > 0 {
		fmt.Fprintln(out, strings.Join(t.header, "\t"))
	}
	for _, row := range t.rows {
		cells := make([]string, len(row))
		for i, text := range row {
			cells[i] = cell(text)
		}
		fmt.Fprintln(out, strings.Join(cells, "\t"))
	}
	if err := out.Flush(); err != nil {
		return err
	}
	return lines(w, t.below)
}

func lines(w io.Writer, texts []string) error {
	for _, text := range texts {
		if _, err := fmt.Fprintln(w, terminal.Plain(text)); err != nil {
			return err
		}
	}
	return nil
}

// when is a time for a table; one that is not set is empty.
func when(t *timestamppb.Timestamp) string {
	if t == nil {
		return ""
	}
	return t.AsTime().UTC().Format(time.RFC3339)
}

// span is a duration for a table; one that is not set is empty.
func span(d *durationpb.Duration) string {
	if d == nil {
		return ""
	}
	return protoyaml.FormatDuration(d.AsDuration())
}

// name is the name of an enum's value without what all its values begin with.
func name(value fmt.Stringer, prefix string) string {
	return strings.ToLower(strings.TrimPrefix(value.String(), prefix))
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func list(texts []string) string { return strings.Join(texts, ",") }

// limited bounds a list.
type limited struct {
	Limit int `help:"How many at most; 0: all." default:"0" placeholder:"N"`
}
