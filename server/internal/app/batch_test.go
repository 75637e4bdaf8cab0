package app

import (
	"net/http"
	"testing"

	"github.com/tollgatehq/tollgate/server/internal/backendtest"
)

// TestIndependentBatch: each call of a batch is decided with its own credential,
// permission, address, cost and revision, and one that cannot be decided takes
// nothing from the others.
func TestIndependentBatch(t *testing.T) {
	t.Parallel()
	i := startEmbedded(t)
	_, alice := i.newUser(t, "alice", "orders:read")
	bobsID, bob := i.newUser(t, "bob", "users:read")
	i.limitPerIP(t, "orders:*", 3)
	ask := func(token, permission string, more map[string]any) map[string]any {
		request := map[string]any{"accessToken": token, "permission": permission, "client": map[string]any{"ip": someIP}}
		for field, value := range more {
			request[field] = value
		}
		return request
	}
	far := map[string]any{"minRevision": 1_000_000}
	requests := []map[string]any{
		ask(alice, "orders:read", far),
		ask(alice, "orders:read", map[string]any{"recheck": true}),
		ask(bob, "orders:read", map[string]any{"client": map[string]any{"ip": "192.0.2.8"}}),
		ask(bob, "users:read", nil),
		ask(bob, "orders:read", map[string]any{"self": bobsID, "cost": 3, "client": map[string]any{"ip": "192.0.2.9"}}),
		ask("", "orders:read", map[string]any{"cost": 2}),
		ask(alice, "users:read", nil),
		ask(alice, "orders:read", map[string]any{"resourceAttributes": map[string]any{"text": string(make([]byte, 9<<10))}}),
	}
	res := i.call(t, "POST", "/v1/authorize/batch", i.admin, map[string]any{"independent": true, "requests": requests}).Want(t, http.StatusOK)
	responses, failures := res.List("responses"), res.List("failures")
	if len(responses) != len(requests) || len(failures) != 2 {
		t.Fatalf("%d answers and %d failures: %v", len(responses), len(failures), res.Body)
	}
	for n, want := range []string{"UNSPECIFIED", "OK", "PERMISSION_MISSING", "OK", "OK", "CREDENTIAL_MISSING", "PERMISSION_MISSING", "UNSPECIFIED"} {
		got, _ := responses[n]["reason"].(string)
		allowed, _ := responses[n]["allowed"].(bool)
		if got != "REASON_"+want || allowed != (want == "OK") {
			t.Errorf("call %d: allowed %v, %s; want %s", n, allowed, got, want)
		}
	}
	first, second := failures[0], failures[1]
	backendtest.Equal(t, first["index"], any(0.0), "the first failure's index")
	backendtest.Equal(t, first["code"], any("unavailable"), "its code")
	backendtest.Equal(t, first["reason"], any("REASON_REVISION_NOT_REACHED"), "its reason")
	backendtest.Equal(t, first["retryAfter"], any("1s"), "when to try again")
	backendtest.Equal(t, second["index"], any(7.0), "the second failure's index")
	backendtest.Equal(t, second["code"], any("invalid_argument"), "its code")

	// Of the address's 3 two are taken, by the call without a good credential.
	i.wantDecision(t, "the third", map[string]any{"accessToken": alice, "permission": "orders:read"}, "OK")
	i.wantDecision(t, "the fourth", map[string]any{"accessToken": alice, "permission": "orders:read"}, "LIMITED")

	i.call(t, "POST", "/v1/authorize/batch", i.admin, map[string]any{"requests": requests}).Want(t, http.StatusServiceUnavailable)
}

// TestIdempotencyKey: a call that is asked about again with its key is not counted
// twice, alone, in a batch or by CheckLimit; the key of another asker is another one.
func TestIdempotencyKey(t *testing.T) {
	t.Parallel()
	i := startEmbedded(t)
	_, alice := i.newUser(t, "alice", "orders:read")
	_, other := i.newUser(t, "gateway", "tollgate:authorize", "tollgate:limits:check")
	i.limitPerIP(t, "orders:*", 3)
	left := func() string {
		t.Helper()
		return i.call(t, "POST", "/v1/limits/check", i.admin, map[string]any{"limit": "per-ip", "key": someIP, "peek": true}).
			Want(t, http.StatusOK).Str("status", "remaining")
	}
	request := map[string]any{
		"accessToken": alice, "permission": "orders:read", "client": map[string]any{"ip": someIP}, "idempotencyKey": "k1",
	}
	for range 3 {
		i.call(t, "POST", "/v1/authorize", i.admin, request).Want(t, http.StatusOK)
		i.call(t, "POST", "/v1/authorize/batch", i.admin, map[string]any{"independent": true, "requests": []any{request, request}}).Want(t, http.StatusOK)
	}
	backendtest.Equal(t, left(), "2", "left after one call, many times")
	i.call(t, "POST", "/v1/authorize", other, request).Want(t, http.StatusOK)
	backendtest.Equal(t, left(), "1", "left after another asker's")
	for range 2 {
		check := map[string]any{"limit": "per-ip", "key": someIP, "idempotencyKey": "k2"}
		backendtest.Equal(t, i.call(t, "POST", "/v1/limits/check", other, check).Want(t, http.StatusOK).Body["allowed"], any(true), "CheckLimit")
	}
	backendtest.Equal(t, left(), "0", "left after CheckLimit, twice")
	i.wantDecision(t, "the first key when nothing is left", request, "OK")
	request["idempotencyKey"] = "k3"
	i.wantDecision(t, "a new key", request, "LIMITED")
}

// TestLimitsInABatch: of the calls of one batch exactly as many pass as the limit
// allows.
func TestLimitsInABatch(t *testing.T) {
	t.Parallel()
	i := startEmbedded(t)
	_, alice := i.newUser(t, "alice", "orders:read")
	i.limitPerIP(t, "orders:*", 10)
	requests := make([]any, 100)
	for n := range requests {
		requests[n] = map[string]any{"accessToken": alice, "permission": "orders:read", "client": map[string]any{"ip": someIP}}
	}
	res := i.call(t, "POST", "/v1/authorize/batch", i.admin, map[string]any{"independent": true, "requests": requests}).Want(t, http.StatusOK)
	reasons := map[any]int{}
	for _, r := range res.List("responses") {
		reasons[r["reason"]]++
	}
	if reasons["REASON_OK"] != 10 || reasons["REASON_LIMITED"] != 90 {
		t.Errorf("reasons %v, want 10 that pass", reasons)
	}
}
