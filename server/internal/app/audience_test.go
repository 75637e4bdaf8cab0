package app

import (
	"maps"
	"net/url"
	"testing"

	"github.com/tollgatehq/tollgate/server/internal/apitest"
	"github.com/tollgatehq/tollgate/server/internal/contract"
)

// TestTokensForOthers: a token that is for a service is worthless at every RPC
// of Tollgate's own, whoever its user is.
func TestTokensForOthers(t *testing.T) {
	t.Parallel()
	i := startEmbedded(t)
	login := i.call(t, "POST", "/v1/auth/login", "", map[string]any{"username": FirstAdmin, "password": adminPassword, "audience": "orders"}).Want(t, 200)
	token := login.Str("accessToken")
	for _, method := range contract.Methods() {
		if code := i.callRPC(t, method, token); !guardOf(method).GetPublic() && code != "unauthenticated" {
			t.Errorf("%s: %q", method.FullName(), code)
		}
	}
	a := i.call(t, "GET", "/v1/auth/whoami", token, nil).Want(t, 401)
	if a.Reason() != "WRONG_AUDIENCE" || a.Header.Get("WWW-Authenticate") != `Bearer error="invalid_token"` {
		t.Errorf("%s %v", a.Raw, a.Header)
	}
	i.call(t, "GET", "/v1/audit/events/watch", token, nil).Want(t, 401)
	i.post(t, "/v1/oauth2/introspect", "Bearer "+token, "token=x").Want(t, 401)
	if a := i.post(t, "/v1/oauth2/revoke", "", "token="+token).Want(t, 400); a.Str("error") != "unsupported_token_type" {
		t.Errorf("%s", a.Raw)
	}
	a = i.call(t, "POST", "/v1/auth/refresh", "", map[string]any{"refreshToken": login.Str("refreshToken"), "audience": "tollgate"}).Want(t, 400)
	if a.Reason() != "INVALID_AUDIENCE" {
		t.Errorf("%s", a.Raw)
	}
	event := i.As(i.admin).Events(t, "action=tollgate.refused")[0]
	if event["reason"] != "wrong_audience" || apitest.Dig(event, "actor", "userId") != i.user || apitest.Dig(event, "details", "audience") != "orders" {
		t.Errorf("recorded %v", event)
	}
}

// TestAuthorizeByAudience: a service decides about tokens that are for it and
// no others, one by one, in a batch and by introspection; API keys that it is
// shown are not bound.
func TestAuthorizeByAudience(t *testing.T) {
	t.Parallel()
	i := startEmbedded(t)
	i.newUser(t, "alice", "orders:read")
	login := map[string]any{"username": "alice", "password": "a password of alice"}
	tokens := map[string]string{"": i.call(t, "POST", "/v1/auth/login", "", login).Want(t, 200).Str("accessToken")}
	login["audience"] = "orders"
	tokens["orders"] = i.call(t, "POST", "/v1/auth/login", "", login).Want(t, 200).Str("accessToken")
	ordersID, orders := i.newClient(t, "orders-service", "tollgate:authorize", "tollgate:verify", "orders:read")
	_, plain := i.newClient(t, "plain-service", "tollgate:authorize", "tollgate:verify")
	service := i.call(t, "GET", "/v1/auth/whoami", orders, nil).Want(t, 200).Str("principal", "userId")
	i.call(t, "PATCH", "/v1/users/"+service, i.admin, map[string]any{"audience": "orders"}).Want(t, 200)
	clientToken := i.post(t, "/v1/oauth2/token", basic(ordersID, orders), "grant_type=client_credentials").Want(t, 200).Str("access_token")
	for name, caller := range map[string]struct{ credential, accepts string }{
		"key": {orders, "orders"}, "its token": {clientToken, "orders"}, "plain": {plain, ""}, "administrator": {i.admin, ""},
	} {
		for of, token := range tokens {
			ask := map[string]any{"accessToken": token, "permission": "orders:read"}
			one := i.call(t, "POST", "/v1/authorize", caller.credential, ask).Want(t, 200).Body
			batch := i.call(t, "POST", "/v1/authorize/batch", caller.credential, map[string]any{"requests": []any{ask, ask}}).Want(t, 200)
			for _, got := range append(batch.List("responses"), one) {
				want := "REASON_WRONG_AUDIENCE"
				if of == caller.accepts {
					want = "REASON_OK"
				}
				if got["reason"] != want || (got["allowed"] == true) != (want == "REASON_OK") || (got["principal"] != nil) != (want == "REASON_OK") {
					t.Errorf("%s asks about a token for %q: %v, want %s", name, of, got, want)
				}
			}
			active := i.post(t, "/v1/oauth2/introspect", "Bearer "+caller.credential, "token="+token).Want(t, 200).Body["active"]
			if active != (of == caller.accepts) {
				t.Errorf("%s introspects a token for %q: %v", name, of, active)
			}
		}
	}
	got := i.call(t, "POST", "/v1/authorize", orders, map[string]any{"apiKey": orders, "permission": "orders:read"}).Want(t, 200)
	if got.Body["allowed"] != true {
		t.Errorf("an API key: %s", got.Raw)
	}
	if e := i.As(i.admin).Events(t, "action=access.denied")[0]; e["reason"] != "wrong_audience" {
		t.Errorf("recorded %v", e)
	}
}

// TestOAuthAudience: the token endpoint takes resource (RFC 8707) and audience.
func TestOAuthAudience(t *testing.T) {
	t.Parallel()
	i := startEmbedded(t)
	id, secret := i.newClient(t, "robot", "orders:read")
	verifierID, verifier := i.newClient(t, "verifier", "tollgate:verify")
	me := i.call(t, "GET", "/v1/auth/whoami", verifier, nil).Want(t, 200).Str("principal", "userId")
	const service = "https://orders.example/v1"
	i.call(t, "PATCH", "/v1/users/"+me, i.admin, map[string]any{"audience": service}).Want(t, 200)
	refresh := i.call(t, "POST", "/v1/auth/login", "", map[string]any{"username": FirstAdmin, "password": adminPassword}).Want(t, 200).Str("refreshToken")
	for _, more := range []url.Values{
		{"resource": {service}}, {"audience": {service}}, {"resource": {service}, "audience": {service}},
	} {
		for _, grant := range []string{"client_credentials", "refresh_token"} {
			f, client := url.Values{"grant_type": {grant}}, basic(id, secret)
			if grant == "refresh_token" {
				client = ""
				f.Set("refresh_token", refresh)
			}
			maps.Copy(f, more)
			a := i.post(t, "/v1/oauth2/token", client, f.Encode()).Want(t, 200)
			if next := a.Str("refresh_token"); next != "" {
				refresh = next
			}
			i.call(t, "GET", "/v1/auth/whoami", a.Str("access_token"), nil).Want(t, 401)
			look := i.post(t, "/v1/oauth2/introspect", basic(verifierID, verifier), "token="+a.Str("access_token")).Want(t, 200)
			if look.Body["active"] != true || look.Str("aud") != service {
				t.Errorf("%s %v: %s", grant, more, look.Raw)
			}
			if auth, amr := look.Body["auth_time"] != nil, look.Body["amr"] != nil; auth != (client == "") || amr != (client == "") {
				t.Errorf("%s: %s", grant, look.Raw)
			}
		}
	}
	for _, bad := range []string{"resource=orders", "resource=%2Forders", "resource=https%3A%2F%2Fa%23b", "resource=https%3A%2F%2Fa%23", "audience=a+b",
		"resource=https%3A%2F%2Fa&audience=b", "resource=%3A"} {
		a := i.post(t, "/v1/oauth2/token", basic(id, secret), "grant_type=client_credentials&"+bad)
		if a.Status != 400 || a.Str("error") != "invalid_target" {
			t.Errorf("%s: %d %s", bad, a.Status, a.Raw)
		}
		a = i.post(t, "/v1/oauth2/token", "", "grant_type=refresh_token&refresh_token="+refresh+"&"+bad)
		if a.Status != 400 || a.Str("error") != "invalid_target" {
			t.Errorf("refresh, %s: %d %s", bad, a.Status, a.Raw)
		}
	}
	bound := i.call(t, "POST", "/v1/auth/login", "", map[string]any{"username": FirstAdmin, "password": adminPassword, "audience": service}).Want(t, 200).Str("refreshToken")
	if a := i.post(t, "/v1/oauth2/token", "", "grant_type=refresh_token&audience=tollgate&refresh_token="+bound); a.Status != 400 || a.Str("error") != "invalid_target" {
		t.Errorf("another than the session's: %d %s", a.Status, a.Raw)
	}
	i.post(t, "/v1/oauth2/token", "", "grant_type=refresh_token&refresh_token="+bound).Want(t, 200)
	i.post(t, "/v1/oauth2/token", "", "grant_type=refresh_token&refresh_token="+refresh).Want(t, 200) // none was spent
}
