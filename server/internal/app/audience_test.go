package app

import (
	"net/url"
	"testing"

	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
	"github.com/tollgatehq/tollgate/server/internal/contract"
	"google.golang.org/protobuf/proto"
)

// TestTokensForOthers: a token that is for a service is worthless at every RPC
// of Tollgate's own, whoever its user is.
func TestTokensForOthers(t *testing.T) {
	i := startEmbedded(t)
	login := i.call(t, "POST", "/v1/auth/login", "", map[string]any{"username": FirstAdmin, "password": adminPassword, "audience": "orders"}).want(t, 200)
	token := login.str("accessToken")
	for _, method := range contract.Methods() {
		guard, _ := proto.GetExtension(method.Options(), tollgatev1.E_Guard).(*tollgatev1.Guard)
		if code := i.callRPC(t, method, token); !guard.GetPublic() && code != "unauthenticated" {
			t.Errorf("%s: %q", method.FullName(), code)
		}
	}
	a := i.call(t, "GET", "/v1/auth/whoami", token, nil).want(t, 401)
	if a.reason() != "WRONG_AUDIENCE" || a.header.Get("WWW-Authenticate") != `Bearer error="invalid_token"` {
		t.Errorf("%s %v", a.raw, a.header)
	}
	i.call(t, "GET", "/v1/audit/events/watch", token, nil).want(t, 401)
	i.post(t, "/v1/oauth2/introspect", "Bearer "+token, "token=x").want(t, 401)
	if a := i.post(t, "/v1/oauth2/revoke", "", "token="+token).want(t, 400); a.str("error") != "unsupported_token_type" {
		t.Errorf("%s", a.raw)
	}
	a = i.call(t, "POST", "/v1/auth/refresh", "", map[string]any{"refreshToken": login.str("refreshToken"), "audience": "tollgate"}).want(t, 400)
	if a.reason() != "INVALID_AUDIENCE" {
		t.Errorf("%s", a.raw)
	}
	events, _ := i.call(t, "GET", "/v1/audit/events?action=tollgate.refused", i.admin, nil).want(t, 200).body["events"].([]any)
	event, _ := events[0].(map[string]any)
	actor, _ := event["actor"].(map[string]any)
	details, _ := event["details"].(map[string]any)
	if event["reason"] != "wrong_audience" || actor["userId"] != i.user || details["audience"] != "orders" {
		t.Errorf("recorded %v", event)
	}
}

// TestAuthorizeByAudience: a service decides about tokens that are for it and
// no others, one by one, in a batch and by introspection; API keys that it is
// shown are not bound.
func TestAuthorizeByAudience(t *testing.T) {
	i := startEmbedded(t)
	i.newUser(t, "alice", "orders:read")
	login := map[string]any{"username": "alice", "password": "a password of alice"}
	tokens := map[string]string{"": i.call(t, "POST", "/v1/auth/login", "", login).want(t, 200).str("accessToken")}
	login["audience"] = "orders"
	tokens["orders"] = i.call(t, "POST", "/v1/auth/login", "", login).want(t, 200).str("accessToken")
	ordersID, orders := i.newClient(t, "orders-service", "tollgate:authorize", "tollgate:verify", "orders:read")
	_, plain := i.newClient(t, "plain-service", "tollgate:authorize", "tollgate:verify")
	service, _ := i.call(t, "GET", "/v1/auth/whoami", orders, nil).want(t, 200).object("principal")["userId"].(string)
	user := i.call(t, "PATCH", "/v1/users/"+service, i.admin, map[string]any{"audience": "orders"}).want(t, 200).object("user")
	if user["audience"] != "orders" {
		t.Errorf("user %v", user)
	}
	clientToken := i.post(t, "/v1/oauth2/token", basic(ordersID, orders), "grant_type=client_credentials").want(t, 200).str("access_token")
	for name, caller := range map[string]struct{ credential, accepts string }{
		"key": {orders, "orders"}, "its token": {clientToken, "orders"}, "plain": {plain, ""}, "administrator": {i.admin, ""},
	} {
		for of, token := range tokens {
			ask := map[string]any{"accessToken": token, "permission": "orders:read"}
			one := i.call(t, "POST", "/v1/authorize", caller.credential, ask).want(t, 200).body
			batch := i.call(t, "POST", "/v1/authorize/batch", caller.credential, map[string]any{"requests": []any{ask, ask}}).want(t, 200).body
			all, _ := batch["responses"].([]any)
			last, _ := all[len(all)-1].(map[string]any)
			for _, got := range []map[string]any{one, last} {
				want := "REASON_WRONG_AUDIENCE"
				if of == caller.accepts {
					want = "REASON_OK"
				}
				if got["reason"] != want || (got["allowed"] == true) != (want == "REASON_OK") || (got["principal"] != nil) != (want == "REASON_OK") {
					t.Errorf("%s asks about a token for %q: %v, want %s", name, of, got, want)
				}
			}
			active := i.post(t, "/v1/oauth2/introspect", "Bearer "+caller.credential, "token="+token).want(t, 200).body["active"]
			if active != (of == caller.accepts) {
				t.Errorf("%s introspects a token for %q: %v", name, of, active)
			}
		}
	}
	got := i.call(t, "POST", "/v1/authorize", orders, map[string]any{"apiKey": orders, "permission": "orders:read"}).want(t, 200)
	if got.body["allowed"] != true {
		t.Errorf("an API key: %s", got.raw)
	}
	events, _ := i.call(t, "GET", "/v1/audit/events?action=access.denied", i.admin, nil).want(t, 200).body["events"].([]any)
	if e, _ := events[0].(map[string]any); len(events) == 0 || e["reason"] != "wrong_audience" {
		t.Errorf("recorded %v", events)
	}
}

// TestOAuthAudience: the token endpoint takes resource (RFC 8707) and audience.
func TestOAuthAudience(t *testing.T) {
	i := startEmbedded(t)
	id, secret := i.newClient(t, "robot", "orders:read")
	verifierID, verifier := i.newClient(t, "verifier", "tollgate:verify")
	me, _ := i.call(t, "GET", "/v1/auth/whoami", verifier, nil).want(t, 200).object("principal")["userId"].(string)
	const service = "https://orders.example/v1"
	i.call(t, "PATCH", "/v1/users/"+me, i.admin, map[string]any{"audience": service}).want(t, 200)
	refresh := i.call(t, "POST", "/v1/auth/login", "", map[string]any{"username": FirstAdmin, "password": adminPassword}).want(t, 200).str("refreshToken")
	for _, more := range []url.Values{
		{"resource": {service}}, {"audience": {service}}, {"resource": {service}, "audience": {service}},
	} {
		for _, grant := range []string{"client_credentials", "refresh_token"} {
			f, client := url.Values{"grant_type": {grant}}, basic(id, secret)
			if grant == "refresh_token" {
				client = ""
				f.Set("refresh_token", refresh)
			}
			for name, values := range more {
				f[name] = values
			}
			a := i.post(t, "/v1/oauth2/token", client, f.Encode()).want(t, 200)
			if next := a.str("refresh_token"); next != "" {
				refresh = next
			}
			i.call(t, "GET", "/v1/auth/whoami", a.str("access_token"), nil).want(t, 401)
			look := i.post(t, "/v1/oauth2/introspect", basic(verifierID, verifier), "token="+a.str("access_token")).want(t, 200)
			if look.body["active"] != true || look.str("aud") != service {
				t.Errorf("%s %v: %s", grant, more, look.raw)
			}
			if auth, amr := look.body["auth_time"] != nil, look.body["amr"] != nil; auth != (client == "") || amr != (client == "") {
				t.Errorf("%s: %s", grant, look.raw)
			}
		}
	}
	for _, bad := range []string{"resource=orders", "resource=%2Forders", "resource=https%3A%2F%2Fa%23b", "resource=https%3A%2F%2Fa%23", "audience=a+b",
		"resource=https%3A%2F%2Fa&audience=b", "resource=%3A"} {
		a := i.post(t, "/v1/oauth2/token", basic(id, secret), "grant_type=client_credentials&"+bad)
		if a.status != 400 || a.str("error") != "invalid_target" {
			t.Errorf("%s: %d %s", bad, a.status, a.raw)
		}
		a = i.post(t, "/v1/oauth2/token", "", "grant_type=refresh_token&refresh_token="+refresh+"&"+bad)
		if a.status != 400 || a.str("error") != "invalid_target" {
			t.Errorf("refresh, %s: %d %s", bad, a.status, a.raw)
		}
	}
	bound := i.call(t, "POST", "/v1/auth/login", "", map[string]any{"username": FirstAdmin, "password": adminPassword, "audience": service}).want(t, 200).str("refreshToken")
	if a := i.post(t, "/v1/oauth2/token", "", "grant_type=refresh_token&audience=tollgate&refresh_token="+bound); a.status != 400 || a.str("error") != "invalid_target" {
		t.Errorf("another than the session's: %d %s", a.status, a.raw)
	}
	i.post(t, "/v1/oauth2/token", "", "grant_type=refresh_token&refresh_token="+bound).want(t, 200)
	i.post(t, "/v1/oauth2/token", "", "grant_type=refresh_token&refresh_token="+refresh).want(t, 200) // none was spent
}
