package export

import (
	"encoding/json"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/audit"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
)

// What the schema requires of every event and of the classes (OCSF 1.4.0: base_event,
// authentication, account_change, api_activity), a dot between an object and its
// attribute. Where at least one of several must be there, a bar is between them.
var (
	always = []string{
		"activity_id", "category_uid", "class_uid", "type_uid", "severity_id", "time", "metadata.version", "metadata.product.name|metadata.product.uid",
	}
	required = map[int][]string{
		3001: {"user.name|user.uid|user.account"},
		3002: {"user.name|user.uid|user.account", "service.name|service.uid|dst_endpoint"},
		6003: {"actor.user|actor.session|actor.app_name", "api.operation", "src_endpoint.ip|src_endpoint.name"},
	}
	activities = map[int]int{3001: 11, 3002: 7, 6003: 4} // how many a class names, from 1 on
)

func has(event map[string]any, path string) bool {
	for name := range strings.SplitSeq(path, ".") {
		value, there := event[name]
		if !there || value == "" {
			return false
		}
		event, _ = value.(map[string]any)
	}
	return true
}

func TestOCSF(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(5, 6))
	product := appendProduct(nil, "1.2.3")
	check := func(e audit.Event) map[string]any {
		t.Helper()
		line := appendOCSF(nil, &audit.Entry{Leaf: 7, Event: e}, product)
		var event map[string]any
		backendtest.Must(t, json.Unmarshal(line, &event))
		number := func(name string) int { n, _ := event[name].(float64); return int(n) }
		class := number("class_uid")
		for _, alternatives := range append(always, required[class]...) {
			found := false
			for path := range strings.SplitSeq(alternatives, "|") {
				found = found || has(event, path)
			}
			if !found {
				t.Errorf("%s has no %s", line, alternatives)
			}
		}
		activity := number("activity_id")
		if last := activities[class]; last == 0 || activity != 99 && (activity < 1 || activity > last) {
			t.Errorf("%s: class %d has no activity %d", line, class, activity)
		}
		backendtest.Equal(t, number("type_uid"), class*100+activity, "type_uid")
		backendtest.Equal(t, number("category_uid"), class/1000, "category_uid")
		backendtest.Equal(t, int64(number("time")), e.Time.UnixMilli(), "time")
		return event
	}
	for range 300 {
		e := random(r)
		e.Action = "test." + e.Action
		check(e)
	}
	for action, k := range kinds {
		event := check(audit.Event{Action: action, Outcome: audit.Success, Time: start})
		backendtest.Equal(t, int(event["class_uid"].(float64)), k.class, "%s", action)
	}

	assigned := check(audit.Event{
		ID: "e1", Time: start.Add(1234567 * time.Microsecond), ActorID: "u1", ActorName: "anna", SessionID: "s1", Action: audit.RoleAssign,
		Outcome: audit.Success, Resource: "roles/clerk", IP: "192.0.2.1", RequestID: "r1", Details: map[string]string{"user_id": "u2"},
	})
	text, err := json.Marshal(assigned)
	backendtest.Must(t, err)
	backendtest.Equal(t, string(text), `{"activity_id":7,"actor":{"session":{"uid":"s1"},"user":{"name":"anna","type_id":1,"uid":"u1"}},`+
		`"category_uid":3,"class_uid":3001,"message":"role.assign: success",`+
		`"metadata":{"correlation_uid":"r1","event_code":"role.assign","log_name":"audit","product":{"name":"Tollgate","vendor_name":"Tollgate","version":"1.2.3"},`+
		`"sequence":7,"uid":"e1","version":"1.4.0"},"policies":[{"name":"clerk"}],"severity_id":1,"src_endpoint":{"ip":"192.0.2.1"},"status":"Success","status_id":1,`+
		`"time":1772366401234,"type_uid":300107,"unmapped":{"details":{"user_id":"u2"},"resource":"roles/clerk"},"user":{"type_id":1,"uid":"u2"}}`, "role.assign")
	failed := check(audit.Event{Time: start, ActorName: "anna", Action: audit.Login, Outcome: audit.Failure, Reason: "wrong_password"})
	for name, want := range map[string]any{"class_uid": 3002.0, "activity_id": 1.0, "status_id": 2.0, "status_code": "wrong_password"} {
		backendtest.Equal(t, failed[name], want, "%s", name)
	}
}
