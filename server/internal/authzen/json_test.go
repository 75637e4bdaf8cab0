package authzen

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/tollgatehq/tollgate/server/internal/fault"
	"github.com/tollgatehq/tollgate/server/internal/fault/faulttest"
)

func TestReadBodyRefuses(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"":                                "is empty",
		" ":                               "is not JSON",
		"[]":                              "is not a JSON object",
		`"{}"`:                            "is not a JSON object",
		"null":                            "is not a JSON object",
		"{":                               "is not JSON",
		"{} {}":                           "is more than one JSON value",
		"{}x":                             "is more than one JSON value",
		`{"a":1,}`:                        "is not JSON",
		`{a:1}`:                           "is not JSON",
		`{"a":NaN}`:                       "is not JSON",
		`{"a":1e999}`:                     "is not JSON",
		`{"a":01}`:                        "is not JSON",
		`{"a":1,"a":1}`:                   "has a member twice",
		`{"a":1,"\u0061":2}`:              "has a member twice",
		`{"a":[{"b":{"c":1,"c":2}}]}`:     "has a member twice",
		"{\"a\":\"\xff\"}":                "is not UTF-8",
		`{"a":"\ud800"}`:                  "is not UTF-8",
		`{"a":"\udc00\ud800"}`:            "is not UTF-8",
		`{"a":"\ud800\ud800"}`:            "is not UTF-8",
		`{"\uDFFF":1}`:                    "is not UTF-8",
		`{"a":` + strings.Repeat("[", 64): "more than 64 deep",
		`{"a":` + strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000) + `}`: "more than 64 deep",
	} {
		_, err := readBody(strings.NewReader(text))
		faulttest.Want(t, err, fault.Invalid, "BAD_REQUEST")
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60s: %v, want %s", text, err, want)
		}
	}
}

func TestReadBody(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		`{}`, " \r\n\t{ } \n", `{"a":{"b":[1,-2.5e3,true,null,"x",[],{}]},"A":1}`, `{"a":"\ud83d\ude00 \\ud800 \\\\ \"","":0}`,
		`{"a":` + strings.Repeat("[", 63) + strings.Repeat("]", 63) + `}`, `{"a":"😀` + "\\u0000" + `"}`,
	} {
		got, err := readBody(strings.NewReader(text))
		var want object
		if failed := json.Unmarshal([]byte(text), &want); failed != nil || err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
}

// FuzzReadBody holds the reader against encoding/json: whatever it takes, that takes,
// and as the same value.
func FuzzReadBody(f *testing.F) {
	for _, text := range []string{`{}`, `{"a":[1,{"b":"\ud83d\ude00"}]}`, `{"a":1,"a":2}`, `{"a":"\ud800\"}`, `{"a":"\\ud800"}`} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, err := readBody(strings.NewReader(text))
		if err != nil {
			return
		}
		var want object
		if err := json.Unmarshal([]byte(text), &want); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%q: %v, want %v, %v", text, got, want, err)
		}
		again, err := json.Marshal(got)
		wrote := strings.Contains(text, "\uFFFD") || strings.Contains(strings.ToLower(text), `\ufffd`)
		if err != nil || strings.Contains(string(again), "\uFFFD") && !wrote {
			t.Errorf("%q: a text that is not Unicode was replaced", text)
		}
	})
}
