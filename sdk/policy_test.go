package tollgate

import (
	"errors"
	"strings"
	"testing"

	"connectrpc.com/connect"
)

// What conditions read goes over the wire as it is, and what JSON cannot say is
// refused here.
func TestAuthorizeRequestAttributes(t *testing.T) {
	t.Parallel()
	req, _, err := AuthorizeRequest{
		AnyOf: []string{"a:b", "a:c"}, ResourceAttributes: map[string]any{"owner": "u1", "size": 3, "tags": []any{"x"}},
		ActionProperties: map[string]any{"soft": true},
	}.proto()
	if err != nil {
		t.Fatal(err)
	}
	if got := req.GetResourceAttributes().AsMap(); got["owner"] != "u1" || got["size"] != 3.0 || req.GetActionProperties().AsMap()["soft"] != true || len(req.GetAnyOf()) != 2 {
		t.Errorf("%v", req)
	}
	_, _, err = AuthorizeRequest{Permission: "a:b", ActionProperties: map[string]any{"x": make(chan int)}}.proto()
	if e, ok := errors.AsType[*Error](err); !ok || e.Code != connect.CodeInvalidArgument || !strings.Contains(e.Message, "ActionProperties") {
		t.Errorf("%v", err)
	}
	for want, r := range map[string]AuthorizeRequest{
		"a:b": {Permission: "a:b"}, "a:b or a:c": {AnyOf: []string{"a:b", "a:c"}}, "a:b and a:c": {AllOf: []string{"a:b", "a:c"}},
	} {
		if got := r.named(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
