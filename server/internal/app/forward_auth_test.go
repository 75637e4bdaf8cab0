package app

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/tollgatehq/tollgate/server/internal/apitest"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/clock"
)

const forwardAuth = "/v1/forward-auth"

// proxied is an instance with a proxy that has a key, and alice, who holds
// orders:read.
type proxied struct {
	*instance
	key   string // the proxy's
	alice string // an access token
	id    string // alice's
}

func startProxied(t testing.TB) *proxied {
	t.Helper()
	p := &proxied{instance: startEmbedded(t)}
	p.key = p.As(p.admin).NewService(t, "edge")
	p.id, p.alice = p.newUser(t, "alice", "orders:read")
	return p
}

// ask is what the proxy asks, with headers as it would send them.
func (p *proxied) ask(t testing.TB, query, token string, header ...string) apitest.Answer {
	t.Helper()
	return p.call(t, "GET", forwardAuth+query, token, nil, append([]string{"X-Tollgate-Key", p.key}, header...)...)
}

func (p *proxied) call(t testing.TB, method, path, token string, body any, header ...string) apitest.Answer {
	t.Helper()
	return p.As(token).Call(t, method, path, body, header...)
}

func (p *proxied) route(t testing.TB, name, path string, more apitest.Object) {
	t.Helper()
	route := apitest.Object{"name": name, "path": path}
	maps.Copy(route, more)
	p.As(p.admin).Post(t, "/v1/routes", route)
}

func TestForwardAuthByPermission(t *testing.T) {
	t.Parallel()
	p := startProxied(t)
	for name, test := range map[string]struct {
		query, token string
		header       []string
		status       int
		reason       string
	}{
		"allowed":                {"?permission=orders:read", p.alice, nil, 200, ""},
		"any good credential":    {"?authenticated=true", p.alice, nil, 200, ""},
		"by X-Api-Key":           {"?authenticated=true", "", []string{"X-Api-Key", p.key}, 200, ""},
		"no credential":          {"?permission=orders:read", "", nil, 401, "CREDENTIAL_MISSING"},
		"a bad one":              {"?permission=orders:read", "a.b.c", nil, 401, "CREDENTIAL_INVALID"},
		"another scheme":         {"?permission=orders:read", "", []string{"Authorization", "Basic YTpi"}, 401, "CREDENTIAL_INVALID"},
		"two":                    {"?permission=orders:read", p.alice, []string{"X-Api-Key", p.key}, 401, "CREDENTIAL_INVALID"},
		"two of a kind":          {"?permission=orders:read", "", []string{"Authorization", "Bearer " + p.alice, "Authorization", "Bearer " + p.alice}, 401, "CREDENTIAL_INVALID"},
		"a token as an API key":  {"?permission=orders:read", "", []string{"X-Api-Key", p.alice}, 401, "CREDENTIAL_INVALID"},
		"not hers":               {"?permission=orders:write", p.alice, nil, 403, "PERMISSION_MISSING"},
		"Tollgate's own":         {"?permission=tollgate:users:read", p.admin, nil, 400, "BAD_PROXY_REQUEST"},
		"a pattern":              {"?permission=orders:*", p.admin, nil, 400, "BAD_PROXY_REQUEST"},
		"a permission twice":     {"?permission=orders:read&permission=orders:list", p.alice, nil, 400, "BAD_PROXY_REQUEST"},
		"an unknown parameter":   {"?permission=orders:read&permision=x", p.alice, nil, 400, "BAD_PROXY_REQUEST"},
		"an unknown flavor":      {"?permission=orders:read&headers=other", p.alice, nil, 400, "BAD_PROXY_REQUEST"},
		"a resource by itself":   {"?resource=orders", p.alice, nil, 400, "BAD_PROXY_REQUEST"},
		"a cost of 0":            {"?permission=orders:read&cost=0", p.alice, nil, 400, "BAD_PROXY_REQUEST"},
		"an unreadable query":    {"?permission=orders:read&x=%zz", p.alice, nil, 400, "BAD_PROXY_REQUEST"},
		"an empty permission":    {"?permission=", p.alice, nil, 400, "BAD_PROXY_REQUEST"},
		"nothing":                {"", p.alice, nil, 400, "BAD_PROXY_REQUEST"},
		"of a good path":         {"?permission=orders:read", p.alice, []string{"X-Original-URL", "http://o.example/orders/7?x=%2e%2e/y"}, 200, ""},
		"of a hostile path":      {"?permission=orders:read", p.alice, []string{"X-Original-URL", "http://o.example/orders/..;/admin"}, 400, "PATH_REFUSED"},
		"of another one":         {"?authenticated=true", p.alice, []string{"X-Forwarded-Uri", "/orders%2f..%2fadmin"}, 400, "PATH_REFUSED"},
		"of two paths":           {"?permission=orders:read", p.alice, []string{"X-Original-URI", "/orders/7", "X-Forwarded-Uri", "/orders/8"}, 400, "BAD_PROXY_REQUEST"},
		"nginx: allowed":         {"?permission=orders:read&deny=403", p.alice, nil, 200, ""},
		"nginx: no credential":   {"?permission=orders:read&deny=403", "", nil, 401, "CREDENTIAL_MISSING"},
		"nginx: not hers":        {"?permission=orders:write&deny=403", p.alice, nil, 403, "PERMISSION_MISSING"},
		"nginx: a bad parameter": {"?permission=orders:write&deny=403&x=y", p.alice, nil, 403, "BAD_PROXY_REQUEST"},
	} {
		a := p.ask(t, test.query, test.token, test.header...)
		if a.Status != test.status || a.Reason() != test.reason {
			t.Errorf("%s: %d %s, want %d %s", name, a.Status, a.Raw, test.status, test.reason)
		}
		if challenge := a.Header.Get("WWW-Authenticate"); (challenge != "") != (test.status == 401) {
			t.Errorf("%s: WWW-Authenticate: %q", name, challenge)
		}
		if status := a.Header.Get("Tollgate-Status"); (status == "") != (test.status == 200) {
			t.Errorf("%s: Tollgate-Status: %q", name, status)
		}
		if test.status == 200 && len(a.Raw) > 0 {
			t.Errorf("%s: the answer has a body", name)
		}
		for _, header := range []string{"Tollgate-Principal", "Tollgate-Assertion"} {
			if (a.Header.Get(header) != "") != (test.status == 200) {
				t.Errorf("%s: %s: %q", name, header, a.Header.Get(header))
			}
		}
	}
}

// Whatever the client's own headers are, a refusal is one for the proxy: an error
// in the form of gRPC has the status 200.
func TestForwardAuthRefusesWithAStatus(t *testing.T) {
	t.Parallel()
	p := startProxied(t)
	for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND"} {
		for _, contentType := range []string{"application/grpc", "application/grpc+proto", "application/grpc-web", "application/connect+json", "application/json", "text/html"} {
			for _, header := range [][]string{
				{"Content-Type", contentType},
				{"Content-Type", contentType, "Content-Encoding", "br"},
				{"Content-Type", contentType, "Connect-Protocol-Version", "1", "Te", "trailers", "Connect-Timeout-Ms", "0", "Grpc-Timeout", "0n"},
			} {
				a := p.call(t, method, forwardAuth+"?permission=orders:write", p.alice, "x", append(header, "X-Tollgate-Key", p.key)...)
				if a.Status != 403 {
					t.Errorf("%s %v: %d %s", method, header, a.Status, a.Raw)
				}
				if a := p.call(t, method, forwardAuth, p.alice, "x", header...); a.Status < 400 {
					t.Errorf("%s %v from nobody: %d %s", method, header, a.Status, a.Raw)
				}
				if a := p.call(t, method, forwardAuth, p.alice, strings.Repeat("x", 300<<10), header...); a.Status < 400 {
					t.Errorf("%s %v with a large body: %d %s", method, header, a.Status, a.Raw)
				}
			}
		}
	}
}

// Only a proxy may ask.
func TestForwardAuthIsForProxies(t *testing.T) {
	t.Parallel()
	p := startProxied(t)
	_, without := p.newUser(t, "without")
	other := p.As(p.admin).Post(t, "/v1/api-keys", map[string]any{"userId": p.id, "name": "k"}).Str("secret")
	for name, header := range map[string][]string{
		"nothing":                      nil,
		"an empty key":                 {"X-Tollgate-Key", ""},
		"rubbish":                      {"X-Tollgate-Key", "rubbish"},
		"no key of ours":               {"X-Tollgate-Key", "tg_" + strings.Repeat("0", 67)},
		"a token of an administrator":  {"X-Tollgate-Key", p.admin},
		"a key without the permission": {"X-Tollgate-Key", other},
		"two keys":                     {"X-Tollgate-Key", p.key, "X-Tollgate-Key", p.key},
		"the headers of a proxy":       {"X-Forwarded-For", "127.0.0.1", "X-Forwarded-Uri", "/", "X-Forwarded-Method", "GET", "X-Forwarded-Host", "a"},
	} {
		for _, query := range []string{"?permission=orders:read", "?permission=orders:read&deny=403", "?authenticated=true", "/orders"} {
			for _, token := range []string{"", p.alice, without, p.admin} {
				a := p.call(t, "GET", forwardAuth+query, token, nil, header...)
				if a.Status != 403 || a.Reason() != "UNTRUSTED_PROXY" && a.Reason() != "LIMITED" {
					t.Errorf("%s, %s: %d %s", name, query, a.Status, a.Raw)
				}
			}
		}
	}
}

func TestForwardAuthTrustsAnAddress(t *testing.T) {
	t.Parallel()
	config := testConfig(backendtest.SQLiteURL(t))
	config.TrustedProxies = []string{"127.0.0.1"}
	i := start(t, config, clock.Real())
	p := &proxied{instance: i}
	_, p.alice = p.newUser(t, "alice", "orders:read")
	p.call(t, "GET", forwardAuth+"?permission=orders:read", p.alice, nil).Want(t, 200)
	if a := p.call(t, "GET", forwardAuth+"?permission=orders:read", p.alice, nil, "X-Tollgate-Key", "tg_rubbish"); a.Status != 403 || a.Reason() != "UNTRUSTED_PROXY" {
		t.Errorf("a bad key is no proof: %d %s", a.Status, a.Raw)
	}
	p.call(t, "GET", forwardAuth+"?permission=orders:write", p.alice, nil, "X-Forwarded-For", "192.0.2.9, 192.0.2.7").Want(t, 403)
	if e := p.As(p.admin).Events(t, "action=access.denied")[0]; e["ip"] != "192.0.2.7" {
		t.Errorf("recorded from %v, want the last hop", e["ip"])
	}
}

func TestForwardAuthRecordsAndCounts(t *testing.T) {
	t.Parallel()
	p := startProxied(t)
	p.As(p.admin).Post(t, "/v1/limits", map[string]any{"name": "orders", "subject": "SUBJECT_IP", "permission": "orders:*", "rate": 3, "period": "60s"})
	for want := 2; want >= 0; want-- {
		a := p.ask(t, "?permission=orders:read", p.alice, "X-Forwarded-For", "192.0.2.7").Want(t, 200)
		if got := a.Header.Get("RateLimit"); !strings.Contains(got, fmt.Sprintf(";r=%d;", want)) {
			t.Errorf("RateLimit: %q, want %d left", got, want)
		}
	}
	for query, want := range map[string]int{"": 429, "&deny=403": 403} {
		a := p.ask(t, "?permission=orders:read&resource=orders/7"+query, p.alice, "X-Forwarded-For", "192.0.2.7", "User-Agent", "curl/8").Want(t, want)
		if a.Header.Get("Retry-After") == "" || a.Header.Get("Tollgate-Status") != "429" || !strings.Contains(a.Header.Get("RateLimit"), ";r=0;") {
			t.Errorf("%v", a.Header)
		}
	}
	p.ask(t, "?permission=orders:read", p.alice, "X-Forwarded-For", "192.0.2.8").Want(t, 200)

	e := p.As(p.admin).Events(t, "action=access.denied")[0]
	if e["reason"] != "limited" || e["ip"] != "192.0.2.7" || e["userAgent"] != "curl/8" || e["resource"] != "orders/7" {
		t.Errorf("recorded: %v", e)
	}
	if actor, _ := e["actor"].(map[string]any); actor["userId"] != p.id {
		t.Errorf("recorded for %v, want alice", e["actor"])
	}
}

func TestForwardAuthIdentity(t *testing.T) {
	t.Parallel()
	p := startProxied(t)
	for query, want := range map[string]map[string]string{
		"":                        {},
		"&headers=remote":         {"Remote-User": "alice", "Remote-Groups": "role-of-alice"},
		"&headers=x-auth-request": {"X-Auth-Request-User": p.id, "X-Auth-Request-Groups": "role-of-alice", "X-Auth-Request-Preferred-Username": "alice"},
	} {
		a := p.ask(t, "?permission=orders:read&audience=orders"+query, p.alice).Want(t, 200)
		for _, name := range []string{"Remote-User", "Remote-Groups", "X-Auth-Request-User", "X-Auth-Request-Groups", "X-Auth-Request-Preferred-Username"} {
			if got := a.Header.Get(name); got != want[name] {
				t.Errorf("%s: %s: %q, want %q", query, name, got, want[name])
			}
		}
		var who struct {
			V                      int
			UserID, Username, Kind string
			Roles, Scopes          []string
		}
		text, err := base64.RawURLEncoding.DecodeString(a.Header.Get("Tollgate-Principal"))
		backendtest.Must(t, err)
		backendtest.Must(t, json.Unmarshal(text, &who))
		if who.V != 1 || who.UserID != p.id || who.Username != "alice" || who.Kind != "person" || !slices.Equal(who.Roles, []string{"role-of-alice"}) || who.Scopes == nil {
			t.Errorf("%s", text)
		}
		claims := p.claims(t, a)
		for name, want := range map[string]any{"iss": "http://tollgate.test", "aud": "orders", "sub": p.id, "username": "alice", "kind": "person", "permission": "orders:read", "jti": a.Header.Get("X-Request-Id")} {
			if claims[name] != want {
				t.Errorf("%s: %v, want %v", name, claims[name], want)
			}
		}
	}
	// A user without a role, for whom there is less to say.
	_, bob := p.newUser(t, "bob")
	a := p.ask(t, "?authenticated=true&headers=remote", bob).Want(t, 200)
	backendtest.Equal(t, a.Header.Get("Remote-Groups"), "-", "Remote-Groups")
}

// claims reads the assertion without verifying it.
func (p *proxied) claims(t testing.TB, a apitest.Answer) map[string]any {
	t.Helper()
	parts := strings.Split(a.Header.Get("Tollgate-Assertion"), ".")
	text, err := base64.RawURLEncoding.DecodeString(parts[1])
	backendtest.Must(t, err)
	var claims map[string]any
	backendtest.Must(t, json.Unmarshal(text, &claims))
	return claims
}

// A proxy that asks Authorize as if it were forward auth would let everybody pass.
func TestAuthorizeIsNoForwardAuth(t *testing.T) {
	t.Parallel()
	p := startProxied(t)
	for name, a := range map[string]apitest.Answer{
		"GET":             p.call(t, "GET", "/v1/authorize", p.key, nil),
		"HEAD":            p.call(t, "HEAD", "/v1/authorize", p.key, nil),
		"GET of the RPC":  p.call(t, "GET", "/tollgate.v1.RolesService/Authorize", p.key, nil),
		"X-Original-URI":  p.call(t, "POST", "/v1/authorize", p.key, nil, "X-Original-URI", "/orders"),
		"X-Original-URL":  p.call(t, "POST", "/v1/authorize", p.key, "", "X-Original-URL", "http://a/orders"),
		"X-Forwarded-Uri": p.call(t, "POST", "/v1/authorize", p.key, nil, "X-Forwarded-Uri", "/orders"),
	} {
		if a.Status != http.StatusBadRequest || name != "HEAD" && a.Reason() != "USE_FORWARD_AUTH" {
			t.Errorf("%s: %d %s", name, a.Status, a.Raw)
		}
	}
	p.call(t, "POST", "/v1/authorize", p.key, map[string]any{"accessToken": p.alice, "permission": "orders:read"}, "X-Original-URI", "/orders").Want(t, 200)
}

// What the route table says, for a request as each proxy describes it.
func TestForwardAuthByRoute(t *testing.T) {
	t.Parallel()
	p := startProxied(t)
	p.ask(t, "/orders/7", p.alice).Want(t, 403) // there is no route yet
	p.route(t, "order", "/orders/{id}", apitest.Object{"methods": []string{"GET"}, "permission": "orders:read", "resource": "orders/{id}"})
	p.route(t, "change-order", "/orders/{id}", apitest.Object{"methods": []string{"PUT"}, "permission": "orders:write"})
	p.route(t, "assets", "/assets/{rest...}", apitest.Object{"public": true})
	p.route(t, "me", "/me", apitest.Object{"authenticated": true})
	p.route(t, "admin", "/{rest...}", apitest.Object{"host": "admin.example", "permission": "admin:all"})

	type proxy func(method, host, path string) (query string, header []string)
	for name, describe := range map[string]proxy{
		"Caddy": func(method, host, path string) (string, []string) {
			return "", []string{"X-Forwarded-Method", method, "X-Forwarded-Host", host, "X-Forwarded-Uri", path + "?x=1"}
		},
		"nginx": func(method, host, path string) (string, []string) {
			return "", []string{"X-Original-Method", method, "X-Original-URL", "https://" + host + path + "?x=1"}
		},
	} {
		for _, test := range []struct {
			method, host, path, token string
			status                    int
			reason, route             string
		}{
			{"GET", "a.example", "/orders/7", p.alice, 200, "", "order"},
			{"HEAD", "a.example", "/orders/7", p.alice, 200, "", "order"},
			{"GET", "a.example", "/%6Frders/7/", p.alice, 200, "", "order"},
			{"GET", "a.example", "/orders/7", "", 401, "CREDENTIAL_MISSING", ""},
			{"PUT", "a.example", "/orders/7", p.alice, 403, "PERMISSION_MISSING", ""},
			{"DELETE", "a.example", "/orders/7", p.alice, 403, "ROUTE_MISSING", ""},
			{"GET", "a.example", "/other", p.alice, 403, "ROUTE_MISSING", ""},
			{"GET", "a.example", "/other", "", 403, "ROUTE_MISSING", ""},
			{"GET", "a.example", "/assets/a/b.css", "", 200, "", "assets"},
			{"GET", "a.example", "/assets/a/b.css", "rubbish", 200, "", "assets"},
			{"GET", "a.example", "/me", p.alice, 200, "", "me"},
			{"GET", "a.example", "/me", "", 401, "CREDENTIAL_MISSING", ""},
			{"GET", "ADMIN.example.:443", "/x", p.alice, 403, "PERMISSION_MISSING", ""},
			{"GET", "admin.example", "/assets/a", p.alice, 403, "PERMISSION_MISSING", ""},
			{"GET", "a.example", "/assets/../orders/7", p.alice, 400, "PATH_REFUSED", ""},
			{"GET", "a.example", "/assets/%2e%2e/orders/7", "", 400, "PATH_REFUSED", ""},
			{"GET", "a b", "/assets/a", "", 400, "HOST_REFUSED", ""},
		} {
			query, header := describe(test.method, test.host, test.path)
			a := p.ask(t, query, test.token, header...)
			what := fmt.Sprintf("%s: %s %s%s", name, test.method, test.host, test.path)
			if a.Status != test.status || a.Reason() != test.reason {
				t.Errorf("%s: %d %s, want %d %s", what, a.Status, a.Raw, test.status, test.reason)
			} else if a.Status == 200 {
				if got := p.claims(t, a)["route"]; got != test.route {
					t.Errorf("%s: the assertion is for the route %v, want %s", what, got, test.route)
				}
			}
		}
	}
	// Envoy over HTTP: the path and the method are the request's own.
	p.call(t, "PUT", forwardAuth+"/orders/7?permission=orders:read&authenticated=true", p.alice, nil, "X-Tollgate-Key", p.key).Want(t, 403)
	p.call(t, "GET", forwardAuth+"/orders/7?permission=orders:write", p.alice, nil, "X-Tollgate-Key", p.key).Want(t, 200)
	p.call(t, "GET", forwardAuth+"//orders/7", p.alice, nil, "X-Tollgate-Key", p.key).Want(t, 400)

	a := p.ask(t, "/orders/8", p.alice).Want(t, 200)
	backendtest.Equal(t, p.claims(t, a)["resource"], any("orders/8"), "the resource")
	a = p.ask(t, "/assets/x", p.alice).Want(t, 200)
	if claims := p.claims(t, a); claims["sub"] != "anonymous" || claims["kind"] != "anonymous" || claims["permission"] != nil {
		t.Errorf("who made a public request is %v", claims)
	}
	// Without a host nothing says whether it is the administrator's.
	p.ask(t, "", p.alice, "X-Original-Method", "GET", "X-Original-URI", "/orders/7").Want(t, 400)

	// A route that is gone.
	p.As(p.admin).Call(t, "DELETE", "/v1/routes/order", nil).Want(t, 200)
	p.ask(t, "/orders/7", p.alice).Want(t, 403)
	reasons := map[any]int{}
	for _, e := range p.As(p.admin).Events(t, "action=access.denied") {
		reasons[e["reason"]]++
	}
	for _, reason := range []string{"route_missing", "permission_missing", "credential_missing"} {
		if reasons[reason] == 0 {
			t.Errorf("no refusal %s is recorded: %v", reason, reasons)
		}
	}
}
