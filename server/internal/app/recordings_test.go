package app

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"connectrpc.com/connect"
	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
	"github.com/tollgatehq/tollgate/gen/tollgate/v1/tollgatev1connect"
	"github.com/tollgatehq/tollgate/server/internal/apitest"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/fault/faulttest"
	"google.golang.org/protobuf/proto"
)

// recording has allowed calls recorded.
func (i *instance) recording(t testing.TB, name, permission string, sample int) {
	t.Helper()
	i.As(i.admin).Post(t, "/v1/audit/recordings", apitest.Object{"name": name, "permission": permission, "sample": sample})
}

// allowed are the events of allowed calls, the newest first.
func (i *instance) allowed(t testing.TB, action string) []apitest.Object {
	t.Helper()
	return i.As(i.admin).Events(t, "action="+action)
}

// TestRecordings: recordings over REST, from creation to removal, and who may do that.
func TestRecordings(t *testing.T) {
	t.Parallel()
	i := startEmbedded(t)
	admin := i.As(i.admin)
	made := admin.Post(t, "/v1/audit/recordings", apitest.Object{"name": "orders", "description": "for audits", "permission": "orders:*"})
	if made.At("recording", "sample") != 1_000_000.0 || made.Str("revision") == "" || made.Str("recording", "createdAt") == "" {
		t.Errorf("made %v", made.Body)
	}
	changed := admin.Patch(t, "/v1/audit/recordings/orders", apitest.Object{"sample": 10})
	if changed.At("recording", "sample") != 10.0 || changed.Str("recording", "permission") != "orders:*" || changed.Str("recording", "description") != "for audits" {
		t.Errorf("changed %v", changed.Body)
	}
	i.recording(t, "bills", "bills:pay", 5)
	if list := admin.All(t, "/v1/audit/recordings?", "recordings"); len(list) != 2 || list[0]["name"] != "bills" {
		t.Errorf("list %v", list)
	}
	_, auditor := i.newUser(t, "auditor", "tollgate:audit:read")
	i.call(t, "GET", "/v1/audit/recordings/orders", auditor, nil).Want(t, http.StatusOK)
	_, keeper := i.newUser(t, "keeper", "tollgate:audit:configure")
	i.call(t, "GET", "/v1/audit/recordings", keeper, nil).Want(t, http.StatusForbidden)
	for _, c := range []struct {
		method, path string
		body         any
	}{
		{"POST", "/v1/audit/recordings", apitest.Object{"name": "more", "permission": "a:b"}},
		{"PATCH", "/v1/audit/recordings/orders", apitest.Object{"sample": 1}},
		{"DELETE", "/v1/audit/recordings/orders", nil},
	} {
		i.call(t, c.method, c.path, auditor, c.body).Want(t, http.StatusForbidden)
	}
	i.call(t, "DELETE", "/v1/audit/recordings/orders", keeper, nil).Want(t, http.StatusOK)
	backendtest.Equal(t, i.call(t, "DELETE", "/v1/audit/recordings/orders", keeper, nil).Reason(), "RECORDING_NOT_FOUND", "removed twice")
}

// TestAllowedIsRecorded: who, what and why of each way in which a service's call is
// allowed; of calls that no recording means, and that were recorded before, nothing is.
func TestAllowedIsRecorded(t *testing.T) {
	t.Parallel()
	onDatabases(t, func(t *testing.T, i *instance) {
		admin := i.As(i.admin)
		id, token := i.newUser(t, "alice", "orders:*", "bills:read")
		admin.Post(t, "/v1/roles", apitest.Object{"name": "owners", "grants": []apitest.Object{
			{"permission": "docs:read", "condition": `resource.id == "42"`},
		}})
		admin.Assign(t, "owners", id)
		key := i.call(t, "POST", "/v1/api-keys", i.admin, apitest.Object{"name": "hers", "userId": id}).Want(t, 200).Str("secret")
		i.recording(t, "orders", "orders:*", 0)
		i.recording(t, "docs", "docs:*", 0)
		i.recording(t, "any", "authenticated", 0)

		i.wantDecision(t, "not marked", apitest.Object{"accessToken": token, "permission": "bills:read"}, "OK")
		i.wantDecision(t, "refused", apitest.Object{"accessToken": token, "permission": "docs:write"}, "PERMISSION_MISSING")
		i.wantDecision(t, "goes on", apitest.Object{"accessToken": token, "permission": "orders:read", "recheck": true}, "OK")
		if list := i.allowed(t, "access.allowed"); len(list) != 0 {
			t.Fatalf("recorded %v", list)
		}
		for _, c := range []struct {
			what    string
			request apitest.Object
			want    map[string]string // details
		}{
			{"a permission", apitest.Object{"accessToken": token, "permission": "orders:read", "resource": "orders/1"}, map[string]string{
				"permission": "orders:read", "grant": "role-of-alice: allow orders:*"}},
			{"the same again", apitest.Object{"accessToken": token, "permission": "orders:read", "resource": "orders/1"}, map[string]string{
				"permission": "orders:read", "grant": "role-of-alice: allow orders:*"}},
			{"a condition", apitest.Object{"userId": id, "permission": "docs:read", "resource": "docs/42"}, map[string]string{
				"permission": "docs:read", "grant": `owners: allow docs:read if resource.id == "42"`}},
			{"a key", apitest.Object{"apiKey": key, "permission": "orders:read"}, map[string]string{"permission": "orders:read"}},
			{"one of several", apitest.Object{"accessToken": token, "anyOf": []string{"bills:read", "orders:read"}}, map[string]string{
				"permission": "any of bills:read, orders:read", "grant": "role-of-alice: allow bills:read"}},
			{"all of several", apitest.Object{"accessToken": token, "allOf": []string{"bills:read", "orders:read"}}, map[string]string{
				"permission": "all of bills:read, orders:read"}},
			{"self", apitest.Object{"accessToken": token, "permission": "orders:none", "self": id}, map[string]string{"permission": "orders:none", "grant": "self"}},
			{"self only", apitest.Object{"accessToken": token, "permission": "orders:mine", "self": id, "selfOnly": true}, map[string]string{"action": "orders:mine", "grant": "self"}},
			{"anybody", apitest.Object{"accessToken": token, "authenticated": true}, map[string]string{"action": "authenticated", "grant": "any caller"}},
		} {
			before := len(i.allowed(t, "access.allowed"))
			i.wantDecision(t, c.what, c.request, "OK")
			list := i.allowed(t, "access.allowed")
			if len(list) != before+1 {
				t.Errorf("%s: %d events more", c.what, len(list)-before)
				continue
			}
			e := list[0]
			for key, want := range c.want {
				backendtest.Equal(t, fmt.Sprint(apitest.Dig(e, "details", key)), want, "%s: %s", c.what, key)
			}
			resource, _ := c.request["resource"].(string)
			if apitest.Dig(e, "actor", "userId") != id || e["outcome"] != "OUTCOME_SUCCESS" || e["reason"] != "" || e["ip"] != someIP || e["resource"] != resource ||
				apitest.Dig(e, "details", "asked_by") != i.user || apitest.Dig(e, "details", "sample") != nil {
				t.Errorf("%s: recorded %v", c.what, e)
			}
			if c.want["permission"] != "" && apitest.Dig(e, "details", "revision") == nil {
				t.Errorf("%s: no revision: %v", c.what, e)
			}
		}
	})
}

// TestAllowedIsRecordedOrRefused: a call that cannot be recorded is not allowed, and
// others are.
func TestAllowedIsRecordedOrRefused(t *testing.T) {
	t.Parallel()
	onDatabases(t, func(t *testing.T, i *instance) {
		_, token := i.newUser(t, "alice", "orders:read", "bills:read")
		i.recording(t, "orders", "orders:*", 0)
		asked := func(permission string) apitest.Object {
			return apitest.Object{"accessToken": token, "permission": permission}
		}
		i.wantDecision(t, "before", asked("orders:read"), "OK")
		backendtest.Must(t, faulttest.Err(i.db.Exec(t.Context(), `ALTER TABLE audit_events RENAME TO gone`)))
		a := i.call(t, "POST", "/v1/authorize", i.admin, asked("orders:read")).Want(t, http.StatusServiceUnavailable)
		if a.Reason() != "AUDIT_UNAVAILABLE" || strings.Contains(string(a.Raw), "allowed") || a.Header.Get("Retry-After") == "" {
			t.Errorf("answered %s", a.Raw)
		}
		batch := i.call(t, "POST", "/v1/authorize/batch", i.admin, apitest.Object{"independent": true, "requests": []any{asked("orders:read"), asked("bills:read")}}).Want(t, http.StatusOK)
		if batch.List("responses")[0]["allowed"] == true || batch.List("responses")[1]["allowed"] != true || batch.List("failures")[0]["reason"] != "REASON_AUDIT_UNAVAILABLE" {
			t.Errorf("a batch: %s", batch.Raw)
		}
		i.call(t, "POST", "/v1/authorize/batch", i.admin, apitest.Object{"requests": []any{asked("bills:read"), asked("orders:read")}}).Want(t, http.StatusServiceUnavailable)
		i.wantDecision(t, "not marked", asked("bills:read"), "OK")
		backendtest.Must(t, faulttest.Err(i.db.Exec(t.Context(), `ALTER TABLE gone RENAME TO audit_events`)))
		i.wantDecision(t, "after", asked("orders:read"), "OK")
		backendtest.Equal(t, len(i.allowed(t, "access.allowed")), 2, "events")
	})
}

// TestAllowedBySample: the same questions are recorded each time, the others never.
func TestAllowedBySample(t *testing.T) {
	t.Parallel()
	i := startEmbedded(t)
	_, token := i.newUser(t, "alice", "orders:read")
	i.recording(t, "half", "orders:*", 500_000)
	const questions, rounds = 40, 3
	for range rounds {
		for q := range questions {
			i.wantDecision(t, "a question", apitest.Object{"accessToken": token, "permission": "orders:read", "resource": fmt.Sprintf("orders/%d", q)}, "OK")
		}
	}
	counts := map[any]int{}
	for _, e := range i.allowed(t, "access.allowed") {
		counts[e["resource"]]++
		backendtest.Equal(t, fmt.Sprint(apitest.Dig(e, "details", "sample")), "500000", "sample")
	}
	recorded := 0
	for _, n := range counts {
		recorded += n
	}
	backendtest.Equal(t, i.audit.Stats().Allowed, uint64(recorded), "calls that metrics have")
	if len(counts) < 4 || len(counts) > questions-4 {
		t.Errorf("%d of %d questions are recorded", len(counts), questions)
	}
	for resource, n := range counts {
		backendtest.Equal(t, n, rounds, "events of %s", resource)
	}
}

// TestOwnCallsAreRecorded: calls of Tollgate's own API, each one event and no more,
// those that read and write the audit log included.
func TestOwnCallsAreRecorded(t *testing.T) {
	t.Parallel()
	i := startEmbedded(t)
	id, token := i.newUser(t, "alice", "tollgate:users:read", "tollgate:audit:record", "tollgate:audit:read")
	i.recording(t, "own", "tollgate:*", 0)
	for _, c := range []struct {
		method, path, permission, grant string
		body                            any
	}{
		{"GET", "/v1/users", "tollgate:users:read", "role-of-alice: allow tollgate:users:read", nil},
		{"GET", "/v1/users/" + id, "tollgate:users:read", "self", nil},
		{"GET", "/v1/audit/events?actor=nobody", "tollgate:audit:read", "role-of-alice: allow tollgate:audit:read", nil},
		{"POST", "/v1/audit/events", "tollgate:audit:record", "role-of-alice: allow tollgate:audit:record", apitest.Object{"action": "order.cancel", "outcome": "OUTCOME_SUCCESS"}},
	} {
		i.call(t, c.method, c.path, token, c.body).Want(t, http.StatusOK)
		list := i.As(i.admin).Events(t, "action=tollgate.allowed&actor=alice")
		if e := list[0]; apitest.Dig(e, "details", "permission") != c.permission || apitest.Dig(e, "details", "grant") != c.grant || !strings.HasPrefix(fmt.Sprint(e["resource"]), "/tollgate.v1.") {
			t.Errorf("%s %s: recorded %v", c.method, c.path, e)
		}
	}
	backendtest.Equal(t, len(i.As(i.admin).Events(t, "action=tollgate.allowed&actor=alice")), 4, "events of four calls")
	i.call(t, "GET", "/healthz", "", nil).Want(t, http.StatusOK)
	i.login(t, "alice") // which needs no credential
	backendtest.Equal(t, len(i.As(i.admin).Events(t, "action=tollgate.allowed&actor=alice")), 4, "events after what needs no credential")
}

// TestAllowedAtEachPort: whatever asks the pipeline has allowed calls recorded.
func TestAllowedAtEachPort(t *testing.T) {
	t.Parallel()
	e := startEnvoy(t)
	e.recording(t, "orders", "orders:*", 0)
	conn := e.serveGRPC(t)
	request := &tollgatev1.AuthorizeRequest{Credential: &tollgatev1.AuthorizeRequest_AccessToken{AccessToken: e.alice}, Permission: "orders:read"}
	service := tollgatev1connect.NewRolesServiceClient(http.DefaultClient, e.URL, connect.WithInterceptors(connect.UnaryInterceptorFunc(func(next connect.UnaryFunc) connect.UnaryFunc {
		return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
			req.Header().Set("Authorization", "Bearer "+e.admin)
			return next(ctx, req)
		}
	})))
	question := apitest.Object{
		"subject": apitest.Object{"type": "user", "id": e.id}, "action": apitest.Object{"name": "read"}, "resource": apitest.Object{"type": "orders", "id": "1"},
	}
	for _, port := range []struct {
		name string
		n    int
		ask  func() bool
	}{
		{"REST", 1, func() bool {
			allowed, _ := e.authorize(t, apitest.Object{"accessToken": e.alice, "permission": "orders:read"})
			return allowed
		}},
		{"a batch", 2, func() bool {
			a := e.call(t, "POST", "/v1/authorize/batch", e.admin, apitest.Object{"requests": []any{
				apitest.Object{"accessToken": e.alice, "permission": "orders:read"}, apitest.Object{"userId": e.id, "permission": "orders:read"},
			}}).Want(t, 200)
			return a.List("responses")[1]["allowed"] == true
		}},
		{"Connect", 1, func() bool {
			res, err := service.Authorize(t.Context(), request)
			backendtest.Must(t, err)
			return res.GetAllowed()
		}},
		{"gRPC", 1, func() bool {
			res := &tollgatev1.AuthorizeResponse{}
			backendtest.Must(t, conn.Invoke(bearer(t.Context(), e.admin), tollgatev1connect.RolesServiceAuthorizeProcedure, proto.Clone(request), res))
			return res.GetAllowed()
		}},
		{"forward auth", 1, func() bool { return e.ask(t, "?permission=orders:read", e.alice).Status == http.StatusOK }},
		{"ext_authz", 1, func() bool {
			return e.judge(t, fetch("/orders/1", e.alice, "permission", "orders:read")).kind == "allowed"
		}},
		{"AuthZEN", 1, func() bool {
			return e.call(t, "POST", "/access/v1/evaluation", e.admin, question).Want(t, 200).Body["decision"] == true
		}},
		{"AuthZEN, several", 2, func() bool {
			a := e.call(t, "POST", "/access/v1/evaluations", e.admin, apitest.Object{
				"subject": question["subject"], "action": question["action"], "evaluations": []any{
					apitest.Object{"resource": question["resource"]}, apitest.Object{"resource": apitest.Object{"type": "orders", "id": "2"}},
				},
			}).Want(t, 200)
			return a.List("evaluations")[1]["decision"] == true
		}},
		{"a search of AuthZEN's", 0, func() bool {
			a := e.call(t, "POST", "/access/v1/search/subject", e.admin, apitest.Object{
				"subject": apitest.Object{"type": "user"}, "action": question["action"], "resource": question["resource"],
			}).Want(t, 200)
			return len(a.List("results")) > 0
		}},
		{"an explanation", 0, func() bool {
			return e.call(t, "POST", "/v1/authorize/explain", e.admin, apitest.Object{"userId": e.id, "permission": "orders:read"}).Want(t, 200).Body["allowed"] == true
		}},
	} {
		before := len(e.allowed(t, "access.allowed"))
		if !port.ask() {
			t.Errorf("%s: not allowed", port.name)
		}
		backendtest.Equal(t, len(e.allowed(t, "access.allowed"))-before, port.n, "events by %s", port.name)
	}
}
