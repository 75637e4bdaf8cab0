package tollgate_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"net/http"
	"os"
	"reflect"
	"testing"

	"connectrpc.com/connect"
	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
	tollgate "github.com/tollgatehq/tollgate/sdk"
	"google.golang.org/protobuf/encoding/protojson"
)

var update = flag.Bool("update", false, "write testdata/refusals.json")

// refusalCase is a decision, and what the middleware of every SDK answers to it.
type refusalCase struct {
	Decision json.RawMessage   `json:"decision"` // null: Tollgate does not answer
	AnyOf    []string          `json:"anyOf,omitempty"`
	Status   int               `json:"status"`
	Header   map[string]string `json:"header"`
	Body     any               `json:"body"`
}

// TestRefusalCases: the file from which the SDKs in other languages know the answers
// says what this package answers.
func TestRefusalCases(t *testing.T) {
	t.Parallel()
	const file = "testdata/refusals.json"
	text, err := os.ReadFile(file)
	must(t, err)
	var cases []refusalCase
	must(t, json.Unmarshal(text, &cases))
	for i, c := range cases {
		f := failing(t, connect.NewError(connect.CodeUnavailable, nil))
		if string(c.Decision) != "null" {
			res := &tollgatev1.AuthorizeResponse{}
			must(t, protojson.Unmarshal(c.Decision, res))
			f = deciding(t, res)
		}
		h, _ := protect(f.client(t), func(_ *http.Request, q *tollgate.AuthorizeRequest) {
			if len(c.AnyOf) > 0 {
				q.Permission, q.AnyOf = "", c.AnyOf
			}
		})
		got := answer(h, request("Bearer alice.token"))
		made := refusalCase{Decision: c.Decision, AnyOf: c.AnyOf, Status: got.StatusCode, Header: map[string]string{}}
		for name, values := range got.Header {
			made.Header[name] = values[0]
		}
		must(t, json.NewDecoder(got.Body).Decode(&made.Body))
		if !*update && !reflect.DeepEqual(made, c) {
			t.Errorf("%s: answered %+v, but the file says %+v", c.Decision, made, c)
		}
		cases[i] = made
	}
	if *update {
		var out bytes.Buffer
		for i, c := range cases {
			line, err := json.Marshal(c)
			must(t, err)
			out.WriteString([]string{"[\n", ",\n"}[min(i, 1)])
			out.Write(line)
		}
		out.WriteString("\n]\n")
		must(t, os.WriteFile(file, out.Bytes(), 0o644))
	}
}
