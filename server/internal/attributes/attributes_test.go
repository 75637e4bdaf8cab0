package attributes

import (
	"encoding/json"
	"math"
	"reflect"
	"strings"
	"testing"

	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/fault"
	"github.com/tollgatehq/tollgate/server/internal/fault/faulttest"
	"pgregory.net/rapid"
)

// nested is a value in so many objects and lists.
func nested(depth int) (value any) {
	value = true
	for n := range depth {
		if n%2 == 0 {
			value = []any{value}
		} else {
			value = map[string]any{"a": value}
		}
	}
	return value
}

func TestEncode(t *testing.T) {
	t.Parallel()
	for text, values := range map[string]map[string]any{
		`{}`:                          nil,
		`{"a":[null,true,1.5,"<&>"]}`: {"a": []any{nil, true, 1.5, "<&>"}},
		`{"b":{"c":-0.25},"d":1e+30}`: {"d": 1e30, "b": map[string]any{"c": -0.25}},
		`{"nul":"\u0000"}`:            {"nul": "\x00"},
	} {
		got, err := Encode("attributes", values)
		backendtest.Must(t, err)
		backendtest.Equal(t, got, text, "text")
		back, err := Decode(got)
		backendtest.Must(t, err)
		if len(values) == 0 && back != nil || len(values) > 0 && !reflect.DeepEqual(back, values) {
			t.Errorf("%s comes back as %v", text, back)
		}
	}
	backendtest.Equal(t, must(t, map[string]any{}), None, "text of an empty object")

	just := map[string]any{"a": strings.Repeat("x", MaxText-len(`{"a":""}`))}
	backendtest.Equal(t, len(must(t, just)), MaxText, "length of the longest")
	for what, c := range map[string]struct {
		values map[string]any
		says   string
	}{
		"one byte more":         {map[string]any{"a": just["a"].(string) + "x"}, "8193"},
		"as JSON writes it":     {map[string]any{"a": strings.Repeat("\x01", MaxText/6)}, "at most"},
		"too deep":              {map[string]any{"a": nested(maxDepth)}, "deep"},
		"an empty list in them": {map[string]any{"a": map[string]any{"b": nested(maxDepth - 1)}}, "deep"},
		"no name":               {map[string]any{"": 1.0}, "0 characters"},
		"a long name within":    {map[string]any{"a": map[string]any{strings.Repeat("ü", maxName+1): 1.0}}, "129 characters"},
		"no number":             {map[string]any{"a": math.NaN()}, "finite"},
		"endless":               {map[string]any{"a": []any{math.Inf(-1)}}, "finite"},
	} {
		_, err := Encode("attributes", c.values)
		faulttest.WantField(t, err, "attributes")
		if f := fault.From(err); !strings.Contains(f.Message, c.says) {
			t.Errorf("%s: %s, want %q", what, f.Message, c.says)
		}
	}
	must(t, map[string]any{"a": nested(maxDepth - 1), strings.Repeat("ü", maxName): 1.0})
}

func must(t *testing.T, values map[string]any) string {
	t.Helper()
	text, err := Encode("attributes", values)
	backendtest.Must(t, err)
	return text
}

func TestChanged(t *testing.T) {
	t.Parallel()
	before := map[string]any{"same": []any{1.0}, "gone": 1.0, "other": "old secret", "null": nil}
	after := map[string]any{"same": []any{1.0}, "new": true, "other": "new secret", "z\n": nil}
	backendtest.Equal(t, Changed(before, after), `["gone","new","null","other","z\n"]`, "names")
	backendtest.Equal(t, Changed(nil, nil), `[]`, "names of nothing")
}

func TestKept(t *testing.T) {
	t.Parallel()
	var none *Kept
	if none.Values() != nil || none.Weight() != 1 {
		t.Errorf("none: %v, %d", none.Values(), none.Weight())
	}
	for text, weight := range map[string]int{None: 1, `{"a":1}`: 1, `{"a":"` + strings.Repeat("x", 120) + `"}`: 3} {
		kept, err := Keep(text)
		backendtest.Must(t, err)
		backendtest.Equal(t, kept.Weight(), weight, "weight of %s", text)
		backendtest.Equal(t, kept == nil, text == None, "%s is kept", text)
	}
	if _, err := Keep("rubbish"); err == nil {
		t.Error("kept what is no JSON")
	}
}

// What a column holds is what a condition reads, whatever the values are.
func TestRoundTrip(t *testing.T) {
	t.Parallel()
	value := rapid.Custom(func(t *rapid.T) any {
		return rapid.OneOf(
			rapid.Just[any](nil), rapid.Map(rapid.Bool(), func(b bool) any { return b }),
			rapid.Map(rapid.Float64(), func(f float64) any {
				if math.IsNaN(f) || math.IsInf(f, 0) {
					return 0.0
				}
				return f
			}),
			rapid.Map(rapid.String(), func(s string) any { return s }),
			rapid.Map(rapid.SliceOfN(rapid.String(), 0, 3), func(list []string) any {
				values := []any{}
				for _, s := range list {
					values = append(values, s)
				}
				return values
			}),
		).Draw(t, "value")
	})
	rapid.Check(t, func(t *rapid.T) {
		values := rapid.MapOfN(rapid.StringN(1, 20, 128), value, 0, 8).Draw(t, "values")
		text, err := Encode("attributes", values)
		if err != nil {
			return
		}
		back, err := Decode(text)
		if err != nil || len(values) > 0 && !reflect.DeepEqual(back, values) || !json.Valid([]byte(text)) {
			t.Errorf("%v comes back as %v, %v", values, back, err)
		}
	})
}
