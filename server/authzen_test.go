package main_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/tollgatehq/tollgate/server/internal/backendtest"
)

// certified starts a decision point with the entities and the policy of the AuthZEN
// certification scenario.
func certified(t *testing.T) *pdp {
	t.Helper()
	p := decisionPoint(t)
	p.role(t, "reader", "record:read",
		`record:write if principal.attributes.role == "admin" && resource.attributes.status == "archived"`)
	p.role(t, "author", `record:write if resource.attributes.status != "archived"`, "record:delete if action.properties.soft == true")
	p.user(t, "alice", nil, "author", "reader")
	p.user(t, "bob", object{"role": "admin"}, "reader")
	p.Put(t, "/v1/resources/record/record-1", object{"attributes": object{"status": "active"}})
	p.Put(t, "/v1/resources/record/record-2", object{"attributes": object{"status": "archived"}})
	return p
}

// with is a question with properties of one of its members.
func with(question object, member string, properties object) object {
	whole := object{}
	for name, value := range question {
		whole[name] = value
	}
	e := object{"properties": properties}
	for name, value := range question[member].(object) {
		e[name] = value
	}
	whole[member] = e
	return whole
}

// TestAuthZENCertification asks what the certification scenario judges, and more about
// where the values come from.
func TestAuthZENCertification(t *testing.T) {
	t.Parallel()
	p := certified(t)
	archived, admin := object{"status": "archived"}, object{"role": "admin"}
	for _, c := range []struct {
		question object
		want     bool
	}{
		{about("alice read record/record-1"), true},
		{about("alice write record/record-1"), true},
		{about("bob read record/record-1"), true},
		{about("bob write record/record-1"), false},
		{with(about("alice write record/record-2"), "resource", archived), false},
		{with(about("alice write record/record-1"), "resource", archived), false}, // what is asked wins over what is stored
		{with(about("alice write record/no-such"), "resource", archived), false},
		{with(with(about("bob write record/record-2"), "subject", admin), "resource", archived), true},
		{with(with(about("alice write record/record-2"), "subject", admin), "resource", archived), true}, // also of the subject
		{with(about("bob write record/record-2"), "subject", object{"role": "clerk"}), false},
		{about("bob write record/record-2"), true}, // from what is stored alone
		{about("alice write record/record-2"), false},
		{with(about("alice write record/record-2"), "resource", object{"status": "active"}), true},
		{with(about("alice delete record/record-1"), "action", object{"soft": true}), true},
		{with(about("alice delete record/record-1"), "action", object{"soft": false}), false},
		{about("alice delete record/record-1"), false},
		{about("alice publish record/record-1"), false},
		{about("nobody-here read record/record-1"), false},
		{about("alice READ record/record-1"), false},
		{about("alice read Record/record-1"), false},
		{about("alice read record:x/record-1"), false},
		{about("alice x:read record/record-1"), false},
		{about("alice * record/record-1"), false},
		{about("admin read record/record-1"), true},
		{about("admin authorize tollgate/x"), false}, // Tollgate's own permissions are for nobody to probe
		{about("ALICE read record/record-1"), true},  // a name in any form
	} {
		for _, facts := range []object{nil, {"time": "2025-06-27T18:03-07:00", "ip": "192.0.2.1", "deep": []any{object{"a": nil}}}} {
			if facts != nil {
				c.question["context"] = facts
			}
			if got := p.decides(t, c.question); got != c.want {
				t.Errorf("%v: %t, want %t", c.question, got, c.want)
			}
		}
	}
}

// A batch answers each question by its own properties, also where a subject and a
// resource come again with others.
func TestAuthZENBatch(t *testing.T) {
	t.Parallel()
	p := certified(t)
	soft := func(yes any) object {
		return object{"action": object{"name": "delete", "properties": object{"soft": yes}}}
	}
	for name, c := range map[string]struct {
		defaults object
		items    []any
		want     string
	}{
		"resources":             {about("alice read record/x"), []any{object{"resource": entity("record/record-1", nil)}, object{"resource": entity("record/record-2", nil)}}, "++"},
		"only properties":       {about("alice delete record/record-1"), []any{soft(true), soft(false), soft(true), soft("true"), soft(nil)}, "+-+--"},
		"statuses":              {about("alice write record/record-1"), []any{object{}, object{"resource": entity("record/record-1", object{"status": "archived"})}, object{}}, "+-+"},
		"subjects of one id":    {about("bob write record/record-2"), []any{object{}, object{"subject": entity("user/bob", object{"role": "clerk"})}, object{"subject": entity("user/bob", object{"role": "admin"})}}, "+-+"},
		"replaced as a whole":   {with(about("alice write record/record-1"), "resource", object{"status": "archived"}), []any{object{}, object{"resource": entity("record/record-1", nil)}}, "-+"},
		"all of its own":        {object{}, []any{about("alice read record/record-1"), about("bob write record/record-1")}, "+-"},
		"an item's own default": {about("bob write record/record-1"), []any{object{"subject": entity("user/alice", nil)}, object{"action": object{"name": "read"}}}, "++"},
	} {
		c.defaults["evaluations"] = c.items
		a := p.asks(t, evaluations, c.defaults)
		if got := decisions(a); got != c.want || a.At("decision") != nil {
			t.Errorf("%s: %s, want %s: %s", name, got, c.want, a.Raw)
		}
	}
	many := make([]any, 100)
	for i := range many {
		many[i] = object{}
	}
	q := about("alice read record/record-1")
	q["evaluations"] = many
	backendtest.Equal(t, decisions(p.asks(t, evaluations, q)), strings.Repeat("+", 100), "a hundred")
	q["evaluations"] = append(slices.Clone(many), object{})
	p.pep.Call(t, "POST", evaluations, q).Want(t, 400)
}

// The semantics answer the first questions up to the one that decides.
func TestAuthZENSemantics(t *testing.T) {
	t.Parallel()
	p := certified(t)
	yes, no, bad := about("alice read record/record-1"), about("bob write record/record-1"), object{"action": object{}}
	for _, c := range []struct {
		semantic string
		items    []any
		want     string
	}{
		{"", []any{no, yes, no}, "-+-"},
		{"execute_all", []any{no, yes, bad, no}, "-+--"},
		{"deny_on_first_deny", []any{yes, yes, no, yes}, "++-"},
		{"deny_on_first_deny", []any{no, yes}, "-"},
		{"deny_on_first_deny", []any{yes, bad, yes}, "+-"},
		{"deny_on_first_deny", []any{yes, yes}, "++"},
		{"permit_on_first_permit", []any{no, bad, yes, no}, "--+"},
		{"permit_on_first_permit", []any{yes, no}, "+"},
		{"permit_on_first_permit", []any{no, no}, "--"},
	} {
		q := object{"evaluations": c.items}
		if c.semantic != "" {
			q["options"] = object{"evaluations_semantic": c.semantic, "another": 1}
		}
		if got := decisions(p.asks(t, evaluations, q)); got != c.want {
			t.Errorf("%s %v: %s, want %s", c.semantic, c.items, got, c.want)
		}
	}
	for _, bad := range []any{"bogus", "", "EXECUTE_ALL", 1, nil, []any{"execute_all"}} {
		for _, items := range []any{[]any{yes}, []any{}} {
			p.pep.Call(t, "POST", evaluations, object{"evaluations": items, "options": object{"evaluations_semantic": bad}}).Want(t, 400)
		}
	}
	// Without evaluations it is the single API.
	for _, items := range []any{nil, []any{}} {
		q := about("alice read record/record-1")
		if items != nil {
			q["evaluations"] = items
		}
		a := p.asks(t, evaluations, q)
		if a.At("decision") != true || a.At("evaluations") != nil {
			t.Errorf("%v: %s", items, a.Raw)
		}
	}
}

// What is wrong with one question of a batch is its own answer.
func TestAuthZENItemErrors(t *testing.T) {
	t.Parallel()
	p := certified(t)
	a := p.asks(t, evaluations, `{"subject":{"type":"user","id":"alice"},"action":{"name":"read"},"evaluations":[
		{"resource":{"type":"record","id":"record-1"}}, {}, {"resource":{"type":"record"}}, {"resource":"record-1"}, {"resource":null},
		{"resource":{"type":"record","id":7}}, {"resource":{"type":"record","id":"record-1"},"action":{}}, 7, [], null,
		{"resource":{"type":"record","id":"record-1"},"context":[]}, {"Resource":{"type":"record","id":"record-1"}},
		{"resource":{"type":"record","id":"record-2"}}]}`)
	backendtest.Equal(t, decisions(a), "+-----------+", "decisions")
	for i, one := range a.List("evaluations")[1:12] {
		failed, _ := one["context"].(object)["error"].(object)
		if message, _ := failed["message"].(string); failed["status"] != 400.0 || message == "" {
			t.Errorf("item %d: %v", i+1, one)
		}
	}
}

// Asking again gives the same answer, also when the subject's limit is used up, which
// nothing of this counts against. The answer says why and as of when.
func TestAuthZENAnswersAreTheSame(t *testing.T) {
	t.Parallel()
	p := certified(t)
	p.Post(t, "/v1/limits", object{"name": "one-read", "permission": "record:read", "subject": "SUBJECT_USER", "rate": 1, "period": "3600s"})
	first := p.asks(t, evaluation, about("alice read record/record-1"))
	for range 20 {
		again := p.asks(t, evaluation, about("alice read record/record-1"))
		backendtest.Equal(t, string(again.Raw), string(first.Raw), "the answer")
	}
	if first.Str("context", "reason") != "OK" || first.At("context", "revision").(float64) < 1 {
		t.Errorf("context: %s", first.Raw)
	}
	for question, want := range map[string]string{
		"bob write record/record-1":        "CONDITION_FALSE",
		"bob delete record/record-1":       "PERMISSION_MISSING",
		"alice delete record/record-1":     "CONDITION_FAILED",
		"nobody-here read record/record-1": "USER_UNKNOWN",
	} {
		backendtest.Equal(t, p.asks(t, evaluation, about(question)).Str("context", "reason"), want, "%s", question)
	}
	// Authorize still has the first call of the limit, and no second.
	asked := object{"userId": p.Get(t, "/v1/users?username=alice").List("users")[0]["id"], "permission": "record:read"}
	for _, want := range []string{"REASON_OK", "REASON_LIMITED"} {
		backendtest.Equal(t, p.Post(t, "/v1/authorize", asked).Str("reason"), want, "Authorize")
	}
	backendtest.Equal(t, p.decides(t, about("alice read record/record-1")), true, "afterwards")
	events := p.Events(t, "action=access.denied&resource=record%2Frecord-1")
	text, err := json.Marshal(events)
	backendtest.Must(t, err)
	if !strings.Contains(string(text), "record:delete") || !strings.Contains(string(text), "asked_by") {
		t.Errorf("refusals on record: %s", text)
	}
}
