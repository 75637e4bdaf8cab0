package main_test

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/tollgatehq/tollgate/internal/jose"
	"github.com/tollgatehq/tollgate/server/internal/apitest"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
)

// good is a body that every path takes.
const good = `{"subject":{"type":"user","id":"alice"},"action":{"name":"read"},"resource":{"type":"record","id":"record-1"}}`

// reader is a decision point where alice may read records.
func reader(t *testing.T, env ...string) *pdp {
	t.Helper()
	p := decisionPoint(t, env...)
	p.role(t, "reader", "record:read")
	p.user(t, "alice", nil, "reader")
	return p
}

// TestAuthZENRequests sends what the API must take and must refuse, to each path.
func TestAuthZENRequests(t *testing.T) {
	t.Parallel()
	p := reader(t)
	for _, path := range authzenPaths {
		send := func(method, body string, header ...string) apitest.Answer {
			return p.pep.Call(t, method, path, body, header...)
		}
		for _, kind := range []string{"application/json", "application/json; charset=utf-8", "Application/JSON;charset=UTF-8", "application/json; a=b"} {
			send("POST", good, "Content-Type", kind).Want(t, 200)
		}
		for _, kind := range []string{"text/plain", "", "application/x-www-form-urlencoded", "application/json, text/plain", "application/jsonx", "application/connect+json2"} {
			isText(t, send("POST", good, "Content-Type", kind).Want(t, 415))
		}
		isText(t, send("POST", good, "Content-Type", "application/json", "Content-Type", "text/plain").Want(t, 415))
		for _, method := range []string{"GET", "PUT", "DELETE", "PATCH"} {
			a := send(method, good).Want(t, 405)
			backendtest.Equal(t, a.Header.Get("Allow"), "POST", "Allow")
		}
		for _, bad := range []string{
			"", "[]", "[" + good + "]", `"x"`, "null", "7", good + good, good[:40] + ", broken", "{}",
			strings.Replace(good, `"type":"user"`, `"type":7`, 1), strings.Replace(good, `{"type":"user","id":"alice"}`, `"alice"`, 1),
			strings.Replace(good, `"subject"`, `"Subject"`, 1), strings.Replace(good, `"type":"record"`, `"kind":"record"`, 1),
			strings.Replace(good, `"type":"user"`, `"type":"user","type":"user"`, 1), strings.Replace(good, `"subject":`, `"subject":{"type":"user","id":"bob"},"subject":`, 1),
			strings.Replace(good, `{"subject"`, `{"context":[],"subject"`, 1), strings.Replace(good, `"type":"user"`, `"type":"user","properties":null`, 1),
			strings.Replace(good, "alice", "\xff", 1), `{"a":` + strings.Repeat("[", 5000),
		} {
			isText(t, send("POST", bad).Want(t, 400))
		}
		send("POST", good+strings.Repeat(" ", 256<<10)).Want(t, 413)
		// What nobody knows is ignored, wherever it is.
		more := strings.NewReplacer(`{"subject"`, `{"x":{"y":[1]},"SUBJECT":7,"subject"`, `"type"`, `"z":null,"Type":7,"type"`, `"name"`, `"NAME":[],"name"`).Replace(good)
		backendtest.Equal(t, string(send("POST", more).Want(t, 200).Raw), string(send("POST", good).Raw), "with unknown members")
	}
	// What is searched for may be there, of any kind that an object can have.
	for path, body := range map[string]string{
		searchSubject:  strings.Replace(good, `"id":"alice"`, `"id":7`, 1),
		searchResource: strings.Replace(good, `"id":"record-1"`, `"id":[]`, 1),
		searchAction:   strings.Replace(good, `"action":{"name":"read"}`, `"action":"read"`, 1),
	} {
		p.asks(t, path, body)
	}
}

// isText checks that an error's body is a JSON text that says something.
func isText(t *testing.T, a apitest.Answer) {
	t.Helper()
	var text string
	if err := json.Unmarshal(a.Raw, &text); err != nil || len(text) < 5 || a.Header.Get("Content-Type") != "application/json" {
		t.Errorf("error %d: %s", a.Status, a.Raw)
	}
}

// TestAuthZENCallers walks every path as each kind of caller.
func TestAuthZENCallers(t *testing.T) {
	t.Parallel()
	p := reader(t)
	deciding, all := p.NewService(t, "deciding"), p.pep.Token
	key := func(scopes ...string) string {
		return p.Post(t, "/v1/api-keys", object{"name": "k", "scopes": scopes}).Str("secret")
	}
	without := p.NewUser(t, "carol", "a password of carol")
	for _, path := range authzenPaths {
		search := strings.Contains(path, "/search/")
		for _, c := range []struct {
			who, credential string
			want            int
		}{
			{"nobody", "", 401}, {"rubbish", "rubbish", 401}, {"a bad key", "tg_rubbish", 401}, {"a corrupted key", all[:len(all)-1] + "!", 401},
			{"a bad token", "a.b.c", 401},
			{without, p.SignedIn(t, "carol", "a password of carol").Token, 403},
			{"a key without the scope", key("orders:read"), 403},
			{"a key with another's", key(map[bool]string{true: "tollgate:authorize", false: "tollgate:explain"}[search]), 403},
			{"a key with the scope", key(map[bool]string{false: "tollgate:authorize", true: "tollgate:explain"}[search]), 200},
			{"a service", deciding, map[bool]int{false: 200, true: 403}[search]},
			{"the enforcement point", all, 200}, {"the administrator", p.Token, 200},
		} {
			a := p.As(c.credential).Call(t, "POST", path, good)
			if a.Status != c.want {
				t.Errorf("%s as %s: %d %s, want %d", path, c.who, a.Status, a.Raw, c.want)
			}
			if challenge := a.Header.Get("WWW-Authenticate"); (c.want == 401) != strings.HasPrefix(challenge, "Bearer") {
				t.Errorf("%s as %s: WWW-Authenticate %q", path, c.who, challenge)
			}
			if c.want >= 400 {
				isText(t, a)
			}
		}
	}
	basic := "Basic " + base64.StdEncoding.EncodeToString([]byte("a:b"))
	p.pep.Call(t, "POST", evaluation, good, "Authorization", basic).Want(t, 401)
	// The asking service's own calls are limited as those of Authorize.
	p.Post(t, "/v1/limits", object{"name": "asks", "permission": "tollgate:authorize", "subject": "SUBJECT_USER", "rate": 1, "period": "3600s"})
	p.asks(t, evaluation, good)
	a := p.pep.Call(t, "POST", evaluation, good).Want(t, 429)
	if isText(t, a); a.Header.Get("Retry-After") == "" {
		t.Error("429 without Retry-After")
	}
}

// TestAuthZENRequestIDs has request ids come back just as they were sent, on answers and
// errors, and only the safe ones on record.
func TestAuthZENRequestIDs(t *testing.T) {
	t.Parallel()
	p := reader(t)
	const refused = `{"subject":{"type":"user","id":"alice"},"action":{"name":"write"},"resource":{"type":"record","id":"record-1"}}`
	for _, path := range append(authzenPaths, "/.well-known/authzen-configuration", "/access/v1/no-such") {
		for _, id := range []string{
			"bfe9eb29-ab87-4ca3-be83-a1d5d8305716", "a", "with space and \"quotes\"", "{\"a\":1}", "ä€😀", "%0d%0aX: y", "a,b;c=d", "\xff\xfe", "a\tb", strings.Repeat("x", 1024),
		} {
			for _, credential := range []string{p.pep.Token, ""} {
				a := p.As(credential).Call(t, "POST", path, refused, "X-Request-ID", id)
				if got := a.Header.Values("X-Request-ID"); len(got) != 1 || got[0] != id {
					t.Errorf("%s, %d: %q came back as %q", path, a.Status, id, got)
				}
			}
		}
		for _, id := range []string{"", strings.Repeat("x", 1025)} {
			if got := p.pep.Call(t, "POST", path, good, "X-Request-ID", id).Header.Get("X-Request-ID"); len(got) != 36 {
				t.Errorf("%s: %.20q came back as %q", path, id, got)
			}
		}
	}
	// Elsewhere ids are as they were.
	if got := p.pep.Call(t, "GET", "/v1/auth/whoami", nil, "X-Request-ID", "a b").Header.Get("X-Request-ID"); got == "a b" {
		t.Error("an arbitrary id came back elsewhere")
	}
	good := 0
	for _, e := range p.Events(t, "action=access.denied") {
		id, _ := e["requestId"].(string)
		if strings.Trim(id, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") != "" || id == "" {
			t.Errorf("on record: %q", id)
		}
		if id == "bfe9eb29-ab87-4ca3-be83-a1d5d8305716" {
			good++
		}
	}
	if good == 0 {
		t.Error("a good id is not on record")
	}
}

// TestAuthZENMetadata reads what a decision point says of itself, plain and signed.
func TestAuthZENMetadata(t *testing.T) {
	t.Parallel()
	const issuer, path = "https://pdp.example.com/tenant", "/.well-known/authzen-configuration"
	s := serve(t, t.TempDir(), "TOLLGATE_ADMIN_PASSWORD="+adminPassword, "TOLLGATE_ISSUER="+issuer)
	for _, at := range []string{path, path + "/tenant"} {
		a := s.Get(t, at)
		if a.Header.Get("Content-Type") != "application/json" || !strings.Contains(a.Header.Get("Cache-Control"), "max-age") {
			t.Errorf("%s: %v", at, a.Header)
		}
		want := object{"policy_decision_point": issuer}
		for name, end := range map[string]string{
			"access_evaluation_endpoint": evaluation, "access_evaluations_endpoint": evaluations, "search_subject_endpoint": searchSubject,
			"search_resource_endpoint": searchResource, "search_action_endpoint": searchAction,
		} {
			want[name] = issuer + end
		}
		signed, ok := jose.Cut(a.Str("signed_metadata"))
		if !ok {
			t.Fatalf("signed metadata: %s", a.Raw)
		}
		header, ok := signed.ReadHeader("JWT")
		set, err := jose.ParseKeySet(s.Get(t, "/.well-known/jwks.json").Raw)
		backendtest.Must(t, err)
		if key := set[header.KeyID]; !ok || key == nil || !key.Verify(signed) {
			t.Errorf("the signature is not good: %v %v", header, set)
		}
		payload, err := base64.RawURLEncoding.DecodeString(signed.Payload)
		backendtest.Must(t, err)
		var claims object
		backendtest.Must(t, json.Unmarshal(payload, &claims))
		if claims["exp"].(float64)-claims["iat"].(float64) != 600 || claims["iss"] != issuer {
			t.Errorf("claims: %s", payload)
		}
		delete(claims, "iat")
		delete(claims, "exp")
		delete(claims, "iss")
		backendtest.Equal(t, claims, want, "signed")
		delete(a.Body, "signed_metadata")
		backendtest.Equal(t, a.Body, want, "plain")
		// It is no token of ours.
		s.As(s.Get(t, at).Str("signed_metadata")).Call(t, "GET", "/v1/auth/whoami", nil).Want(t, http.StatusUnauthorized)
	}
	for _, other := range []string{path + "/other", path + "/tenant/x", path + "x"} {
		s.Call(t, "GET", other, nil).Want(t, 404)
	}
	s.Call(t, "POST", path, "{}").Want(t, 405)
}
