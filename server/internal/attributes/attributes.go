// Package attributes holds what conditions read of a user or a resource: a JSON
// object within bounds, as it is stored, kept in memory and compared.
package attributes

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"unicode/utf8"

	"github.com/tollgatehq/tollgate/server/internal/fault"
)

// The bounds of one object.
const (
	MaxText  = 8 << 10 // bytes as JSON text
	maxDepth = 8       // objects and lists in each other, the outermost included
	maxName  = 128     // characters
)

// None is the text of no attributes.
const None = "{}"

// Encode is the text of attributes as a column holds it: names sorted, without
// spaces. Those out of bounds are the named field's error.
func Encode(field string, values map[string]any) (string, error) {
	if len(values) == 0 {
		return None, nil
	}
	if err := check(field, values, 1); err != nil {
		return "", err
	}
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(values); err != nil {
		return "", fault.Field(field, "must be JSON: null, booleans, finite numbers, texts, lists and objects").Because(err)
	}
	text.Truncate(text.Len() - 1) // the encoder's newline
	if text.Len() > MaxText {
		return "", fault.Field(field, "must be at most %d bytes as JSON, and this has %d; keep only what conditions read", MaxText, text.Len())
	}
	return text.String(), nil
}

func check(field string, value any, depth int) error {
	switch v := value.(type) {
	case map[string]any:
		if depth > maxDepth {
			return tooDeep(field)
		}
		for name, inner := range v {
			if n := utf8.RuneCountInString(name); n < 1 || n > maxName {
				return fault.Field(field, "has a name of %d characters; names must have 1 to %d", n, maxName)
			}
			if err := check(field, inner, depth+1); err != nil {
				return err
			}
		}
	case []any:
		if depth > maxDepth {
			return tooDeep(field)
		}
		for _, inner := range v {
			if err := check(field, inner, depth+1); err != nil {
				return err
			}
		}
	}
	return nil
}

func tooDeep(field string) error {
	return fault.Field(field, "must not have objects and lists more than %d deep", maxDepth)
}

// Decode reads a column; nil for no attributes.
func Decode(text string) (map[string]any, error) {
	if text == None {
		return nil, nil
	}
	var values map[string]any
	if err := json.Unmarshal([]byte(text), &values); err != nil {
		return nil, fmt.Errorf("decode attributes: %w", err)
	}
	return values, nil
}

// Changed are the names of those that differ, sorted, as a JSON list for the audit
// log. The values are nobody's business there: they may be about a person, and the
// log is kept for longer.
func Changed(before, after map[string]any) string {
	names := []string{}
	for name, value := range after {
		if was, had := before[name]; !had || !reflect.DeepEqual(was, value) {
			names = append(names, name)
		}
	}
	for name := range before {
		if _, has := after[name]; !has {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	text, err := json.Marshal(names)
	if err != nil {
		panic("attributes: " + err.Error()) // a list of texts always encodes
	}
	return string(text)
}

// Kept are attributes in a cache, decoded once. A nil Kept has none.
type Kept struct {
	values map[string]any
	size   int
}

// Keep decodes a column for a cache; nil for no attributes.
func Keep(text string) (*Kept, error) {
	values, err := Decode(text)
	if err != nil || len(values) == 0 {
		return nil, err
	}
	return &Kept{values, len(text)}, nil
}

// Values are shared: do not change them.
func (k *Kept) Values() map[string]any {
	if k == nil {
		return nil
	}
	return k.values
}

// Weight is what a cache's entry with these attributes weighs, if one without any
// weighs 1. Decoded, they take at most about 20 times the memory of their text.
func (k *Kept) Weight() int {
	if k == nil {
		return 1
	}
	return 1 + k.size/64
}
