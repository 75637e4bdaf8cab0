package main_test

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"encoding/json"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/tollgatehq/tollgate/server/internal/apitest"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
)

// bad is a call that the server must refuse.
type bad struct {
	name   string
	method string // POST when empty
	path   string
	rpc    string // when set, the same body goes to this RPC over Connect, too
	body   any
	header []string // as call wants it
	status int      // 400 when zero
	reason string
	field  string // that the error must name
}

func TestBadRequests(t *testing.T) {
	t.Parallel()
	s := serveAdmin(t)
	s.Post(t, "/v1/roles", object{"name": "clerk"})
	const (
		users, createUser   = "/v1/users", "AuthService/CreateUser"
		roles, createRole   = "/v1/roles", "RolesService/CreateRole"
		limits, createLimit = "/v1/limits", "LimitsService/CreateLimit"
		keys, createKey     = "/v1/api-keys", "AuthService/CreateAPIKey"
		decide, authorize   = "/v1/authorize", "RolesService/Authorize"
		record, recordEvent = "/v1/audit/events", "AuditService/RecordEvent"
		batch, recordEvents = record + "/batch", "AuditService/RecordEvents"
	)
	user := func(name string) object { return object{"username": name} }
	limit := func(field string, value any) object {
		l := object{"name": "few", "subject": "SUBJECT_USER", "rate": 1, "period": "60s"}
		l[field] = value
		return l
	}
	own, signIn := slices.Clip([]string{"Sec-Fetch-Site", "same-origin"}), object{"username": "admin", "password": "x"}
	long := func(n int) string { return strings.Repeat("x", n) }

	for _, b := range []bad{
		// Malformed messages.
		{name: "cut JSON", path: users, rpc: createUser, body: `{"username":"x`, reason: "BAD_REQUEST"},
		{name: "an array", path: users, rpc: createUser, body: `[]`, reason: "BAD_REQUEST"},
		{name: "two objects", path: users, rpc: createUser, body: `{} {}`, reason: "BAD_REQUEST"},
		{name: "a field twice", path: users, rpc: createUser, body: `{"username":"a","username":"b"}`, reason: "BAD_REQUEST"},
		{name: "not UTF-8", path: users, rpc: createUser, body: "{\"username\":\"\xff\"}", reason: "BAD_REQUEST"},
		{name: "half a surrogate", path: users, rpc: createUser, body: `{"username":"\ud800"}`, reason: "BAD_REQUEST"},
		{name: "deep nesting", path: users, rpc: createUser, body: strings.Repeat(`{"a":`, 5000), reason: "BAD_REQUEST"},
		{name: "unknown field", path: users, rpc: createUser, body: `{"username":"a","admin":true}`, field: "admin"},
		{name: "unknown field inside", path: decide, rpc: authorize, body: `{"permission":"a:b","client":{"addr":"x"}}`, field: "addr"},
		{name: "a number for a string", path: users, rpc: createUser, body: `{"username":5}`, field: "username"},
		{name: "an object for a string", path: users, rpc: createUser, body: `{"username":{}}`, field: "username"},
		{name: "a string for a list", path: roles, rpc: createRole, body: `{"name":"r","permissions":"orders:read"}`, reason: "BAD_REQUEST"},
		{name: "unknown enum name", path: users, rpc: createUser, body: `{"username":"a","kind":"KING"}`, field: "kind"},
		{name: "unknown enum number", path: users, rpc: createUser, body: `{"username":"a","kind":17}`, field: "kind"},
		{name: "not a duration", path: limits, rpc: createLimit, body: limit("period", "sixty"), reason: "BAD_REQUEST"},
		{name: "not a time", path: keys, rpc: createKey, body: object{"name": "k", "expiresAt": "tomorrow"}, reason: "BAD_REQUEST"},
		{name: "two credentials", path: decide, rpc: authorize, body: `{"permission":"a:b","accessToken":"x","apiKey":"y"}`, reason: "BAD_REQUEST"},

		// Invalid fields.
		{name: "no username", path: users, rpc: createUser, body: object{}, field: "username"},
		{name: "empty username", path: users, rpc: createUser, body: user(""), field: "username"},
		{name: "long username", path: users, rpc: createUser, body: user(long(129)), field: "username"},
		{name: "NUL in username", path: users, rpc: createUser, body: user("a\x00b"), field: "username"},
		{name: "newline in username", path: users, rpc: createUser, body: user("a\nb"), field: "username"},
		{name: "invisible in username", path: users, rpc: createUser, body: user("a\u202eb"), field: "username"},
		{name: "only spaces", path: users, rpc: createUser, body: user("   "), field: "username"},
		{name: "NUL in display name", path: users, rpc: createUser, body: object{"username": "a", "displayName": "\x00"}, field: "displayName"},
		{name: "long display name", path: users, rpc: createUser, body: object{"username": "a", "displayName": long(257)}, field: "displayName"},
		{name: "short password", path: users, rpc: createUser, body: object{"username": "a", "password": "seven77"}, field: "password"},
		{name: "long password", path: users, rpc: createUser, body: object{"username": "a", "password": strings.Repeat("ä", 37)}, field: "password"},
		{name: "password of a service", path: users, rpc: createUser, body: object{"username": "a", "password": "a password", "kind": "USER_KIND_SERVICE"}, field: "password"},
		{name: "role name", path: roles, rpc: createRole, body: object{"name": "Clerk Kent"}, field: "name"},
		{name: "NUL in description", path: roles, rpc: createRole, body: object{"name": "r", "description": "\x00"}, field: "description"},
		{name: "long description", path: roles, rpc: createRole, body: object{"name": "r", "description": long(513)}, field: "description"},
		{name: "bad pattern", path: roles, rpc: createRole, body: object{"name": "r", "permissions": []string{"a:b", "a:*:b"}}, field: "permissions[1]"},
		{name: "empty pattern", path: roles, rpc: createRole, body: object{"name": "r", "permissions": []string{""}}, field: "permissions[0]"},
		{name: "501 patterns", path: roles, rpc: createRole, body: object{"name": "r", "permissions": slices.Repeat([]string{"a:b"}, 501)}, field: "permissions"},
		{name: "rate zero", path: limits, rpc: createLimit, body: limit("rate", 0), field: "rate"},
		{name: "rate below zero", path: limits, rpc: createLimit, body: limit("rate", -1), field: "rate"},
		{name: "rate with a fraction", path: limits, rpc: createLimit, body: limit("rate", 1.5), field: "rate"},
		{name: "huge rate", path: limits, rpc: createLimit, body: limit("rate", 1e30), field: "rate"},
		{name: "no period", path: limits, rpc: createLimit, body: limit("period", nil), field: "period"},
		{name: "long period", path: limits, rpc: createLimit, body: limit("period", "2678401s"), field: "period"},
		{name: "no subject", path: limits, rpc: createLimit, body: limit("subject", "SUBJECT_UNSPECIFIED"), field: "subject"},
		{name: "custom without a key", path: limits, rpc: createLimit, body: limit("subject", "SUBJECT_CUSTOM"), field: "contextKey"},
		{name: "override without a key", path: limits, rpc: createLimit, body: limit("overrides", []object{{"rate": 5}}), field: "overrides[0].key"},
		{name: "bad permission of a limit", path: limits, rpc: createLimit, body: limit("permission", "a b"), field: "permission"},
		{name: "NUL in key name", path: keys, rpc: createKey, body: object{"name": "\x00"}, field: "name"},
		{name: "key of nobody", path: keys, rpc: createKey, body: object{"name": "k", "userId": "me"}, field: "userId"},
		{name: "key that ended", path: keys, rpc: createKey, body: object{"name": "k", "expiresAt": "2001-01-01T00:00:00Z"}, field: "expiresAt"},
		{name: "bad scope", path: keys, rpc: createKey, body: object{"name": "k", "scopes": []string{"A"}}, field: "scopes[0]"},
		{name: "permission to ask for", path: decide, rpc: authorize, body: object{}, field: "permission"},
		{name: "a pattern to ask for", path: decide, rpc: authorize, body: object{"permission": "orders:*"}, field: "permission"},
		{name: "bad user id", path: decide, rpc: authorize, body: object{"permission": "a:b", "userId": "7"}, field: "userId"},
		{name: "bad client address", path: decide, rpc: authorize, body: object{"permission": "a:b", "client": object{"ip": "home"}}, field: "client.ip"},
		{name: "negative cost", path: decide, rpc: authorize, body: object{"permission": "a:b", "cost": -1}, field: "cost"},
		{name: "empty batch", path: "/v1/authorize/batch", rpc: "RolesService/BatchAuthorize", body: object{}, field: "requests"},
		{name: "bad one in a batch", path: "/v1/authorize/batch", rpc: "RolesService/BatchAuthorize",
			body: object{"requests": []object{{"permission": "a:b"}, {"permission": "a b"}}}, field: "requests[1].permission"},
		{name: "nothing to verify", path: "/v1/auth/verify", rpc: "AuthService/Verify", body: object{}, field: "credential"},
		{name: "long token", path: "/v1/auth/verify", rpc: "AuthService/Verify", body: object{"accessToken": long(8193)}, field: "accessToken"},
		{name: "our own action", path: record, rpc: recordEvent, body: object{"action": "auth.login", "outcome": "OUTCOME_SUCCESS"}, field: "action"},
		{name: "no outcome", path: record, rpc: recordEvent, body: object{"action": "order.cancel"}, field: "outcome"},
		{name: "no events", path: batch, rpc: recordEvents, body: object{}, field: "events"},
		{name: "1,001 events", path: batch, rpc: recordEvents, body: object{"events": slices.Repeat([]object{{"action": "order.cancel", "outcome": 1}}, 1001)}, field: "events"},
		{name: "an event without an outcome", path: batch, rpc: recordEvents, body: object{"events": []object{{"action": "order.cancel", "outcome": 1}, {"action": "order.cancel"}}}, field: "events[1].outcome"},
		{name: "our own action among others", path: batch, rpc: recordEvents, body: object{"events": []object{{"action": "order.cancel", "outcome": 1}, {"action": "auth.login", "outcome": 1}}}, field: "events[1].action"},
		{name: "33 details", path: record, rpc: recordEvent, body: object{"action": "order.cancel", "outcome": 1, "details": many(33)}, field: "details"},
		{name: "empty password to sign in", path: "/v1/auth/login", rpc: "AuthService/Login", body: object{"username": "admin"}, field: "password"},

		// Paths and queries.
		{name: "user id", method: "GET", path: users + "/7", field: "id"},
		{name: "NUL in a path", method: "GET", path: users + "/%00", field: "id"},
		{name: "member id", method: "PUT", path: "/v1/roles/clerk/members/7", body: object{}, field: "userId"},
		{name: "name in path and body", method: "PATCH", path: "/v1/roles/clerk", body: `{"permissions":"a"}`, reason: "BAD_REQUEST"},
		{name: "unknown query parameter", method: "GET", path: users + "?name=x", field: "name"},
		{name: "a wrong query value", method: "GET", path: users + "?pageSize=all", field: "pageSize"},
		{name: "large page", method: "GET", path: users + "?pageSize=251", field: "pageSize"},
		{name: "made-up page token", method: "GET", path: users + "?pageToken=AAAA", field: "pageToken"},
		{name: "long page token", method: "GET", path: users + "?pageToken=" + long(513), field: "pageToken"},
		{name: "not a time in a query", method: "GET", path: record + "?after=yesterday", field: "after"},
		{name: "unknown enum in a query", method: "GET", path: record + "?outcome=FINE", field: "outcome"},
		{name: "a query with a body", path: users + "?username=eve", body: user("mia"), reason: "BAD_REQUEST"},
		{name: "a query beside no body", path: "/v1/auth/logout?everywhere=true", reason: "BAD_REQUEST"},

		// Unknown paths and names.
		{name: "unknown path", method: "GET", path: "/v1/nothing", status: 404, reason: "UNKNOWN_PATH"},
		{name: "outside the API", method: "GET", path: "/etc/passwd", status: 404, reason: "UNKNOWN_PATH"},
		{name: "unknown RPC", path: "/tollgate.v1.AuthService/Nothing", body: object{}, status: 404, reason: "UNKNOWN_PATH"},
		{name: "unknown role", method: "GET", path: "/v1/roles/nothing", status: 404},
		{name: "unknown user", method: "GET", path: users + "/00000000-0000-7000-8000-000000000000", status: 404},
		{name: "unknown limit", path: "/v1/limits/check", body: object{"limit": "nothing"}, status: 404},

		// Wrong methods, types and encodings.
		{name: "method", method: "PUT", path: users, body: object{}, status: 405, reason: "METHOD_NOT_ALLOWED"},
		{name: "made-up method", method: "BREW", path: users, status: 405, reason: "METHOD_NOT_ALLOWED"},
		{name: "method on the key set", method: "DELETE", path: "/.well-known/jwks.json", status: 405, reason: "METHOD_NOT_ALLOWED"},
		{name: "GET of an RPC that writes", method: "GET", path: "/tollgate.v1.AuthService/CreateUser", status: 405, reason: "METHOD_NOT_ALLOWED"},
		{name: "plain text", path: users, body: `{"username":"a"}`, header: []string{"Content-Type", "text/plain"}, status: 415},
		{name: "a form", path: users, body: `username=a`, header: []string{"Content-Type", "application/x-www-form-urlencoded"}, status: 415},
		{name: "a form to an RPC", path: "/tollgate.v1.AuthService/CreateUser", body: `username=a`, header: []string{"Content-Type", "application/x-www-form-urlencoded"}, status: 415},
		{name: "not the protobuf it says", path: "/tollgate.v1.AuthService/CreateUser", body: "\xff\xff", header: []string{"Content-Type", "application/proto"}, reason: "BAD_REQUEST"},
		{name: "not the gzip it says", path: users, rpc: createUser, body: `{"username":"a"}`, header: []string{"Content-Encoding", "gzip"}, reason: "BAD_REQUEST"},
		{name: "an unknown coding", path: users, body: `{"username":"a"}`, header: []string{"Content-Encoding", "zstd"}, status: 415, reason: "UNSUPPORTED_ENCODING"},
		{name: "an unknown coding to an RPC", path: "/tollgate.v1.AuthService/CreateUser", body: `{"username":"a"}`, header: []string{"Content-Encoding", "zstd"}, status: 501, reason: "UNSUPPORTED_ENCODING"},
		{name: "bad timeout", path: "/tollgate.v1.AuthService/CreateUser", body: user("a"), header: []string{"Connect-Timeout-Ms", "soon"}},

		// The console's own.
		{name: "a write to a page", path: "/console/users", body: object{}, status: 405, reason: "METHOD_NOT_ALLOWED"},
		{name: "an asset that there is not", method: "GET", path: "/console/assets/x.js", status: 404, reason: "UNKNOWN_PATH"},
		{name: "a session call that there is not", path: "/console/session/x", status: 404, reason: "UNKNOWN_PATH"},
		{name: "a session call by GET", method: "GET", path: "/console/session/logout", header: own, status: 405, reason: "METHOD_NOT_ALLOWED"},
		{name: "a session call of a program", path: "/console/session/login", body: signIn, status: 403, reason: "CROSS_SITE"},
		{name: "cut JSON to the console", path: "/console/session/login", body: `{"username":"x`, header: own, reason: "BAD_REQUEST"},
		{name: "a form to the console", path: "/console/session/login", body: "username=a", header: append(own, "Content-Type", "application/x-www-form-urlencoded"), status: 415},
		{name: "gzip that is none to the console", path: "/console/session/login", body: "{}", header: append(own, "Content-Encoding", "gzip"), reason: "BAD_REQUEST"},
		{name: "a bomb to the console", path: "/console/session/login", body: bomb(t), header: append(own, "Content-Encoding", "gzip"), status: 413, reason: "TOO_LARGE"},

		{name: "large body", path: users, rpc: createUser, body: `{"username":"` + long(256<<10) + `"}`, status: 413, reason: "TOO_LARGE"},
		{name: "large compressed body", path: users, rpc: createUser, body: bomb(t), header: []string{"Content-Encoding", "gzip"}, status: 413, reason: "TOO_LARGE"},
	} {
		if b.method == "" {
			b.method = "POST"
		}
		before := everything(t, s.Client)
		t.Run(b.name, func(t *testing.T) {
			b.check(t, s.Call(t, b.method, b.path, b.body, b.header...))
			if b.rpc != "" {
				b.check(t, s.Call(t, "POST", "/tollgate.v1."+b.rpc, b.body, b.header...))
			}
		})
		if after := everything(t, s.Client); after != before {
			t.Fatalf("%s: changed\n%s\nto\n%s", b.name, before, after)
		}
	}
}

func (b bad) check(t *testing.T, a apitest.Answer) {
	t.Helper()
	if b.status == 0 {
		b.status = http.StatusBadRequest
	}
	if a.Status != b.status {
		t.Errorf("status %d, want %d: %.1000s", a.Status, b.status, a.Raw)
	}
	wantShape(t, a)
	if b.reason != "" && a.Reason() != b.reason {
		t.Errorf("reason %q, want %q", a.Reason(), b.reason)
	}
	if b.status == http.StatusMethodNotAllowed && a.Header.Get("Allow") == "" {
		t.Error("no Allow")
	}
	var fields []string
	violations, _ := a.Detail("google.rpc.BadRequest")["fieldViolations"].([]any)
	for _, v := range violations {
		name, _ := apitest.Dig(v, "field").(string)
		fields = append(fields, name)
	}
	if b.field != "" && !slices.Contains(fields, b.field) {
		t.Errorf("fields %q, want %q: %s", fields, b.field, a.Raw)
	}
}

var insides = regexp.MustCompile(`goroutine|\.go:|(?i)\bsql|sqlite|pq:|connectrpc|vanguard|runtime error`)

// wantShape checks that an error has the documented shape and reveals no
// internals.
func wantShape(t *testing.T, a apitest.Answer) {
	t.Helper()
	names := map[string]bool{}
	for name := range a.Body {
		names[name] = true
	}
	if len(names) != 3 || !names["details"] || a.Str("code") == "" || a.Str("message") == "" || a.Reason() == "" {
		t.Errorf("not an error in our shape: %.1000s", a.Raw)
	}
	if got := a.Header.Get("Content-Type"); got != "application/json" {
		t.Errorf("Content-Type: %q", got)
	}
	id := apitest.Dig(a.Detail("google.rpc.ErrorInfo"), "metadata", "request_id")
	if id == nil || id != a.Header.Get("X-Request-Id") {
		t.Errorf("request id %v in the body and %q in the header", id, a.Header.Get("X-Request-Id"))
	}
	if inside := insides.Find(a.Raw); inside != nil {
		t.Errorf("the answer says %q: %.1000s", inside, a.Raw)
	}
	if len(a.Raw) > 16<<10 {
		t.Errorf("an error of %d bytes", len(a.Raw))
	}
}

// TestCompression checks that compressed requests are served and that a message
// that decompresses to too much is refused, in a stream too.
func TestCompression(t *testing.T) {
	t.Parallel()
	s := serveAdmin(t)
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	w.Write([]byte(`{"username":"mia"}`))
	w.Close()
	s.Call(t, "POST", "/v1/users", packed.String(), "Content-Encoding", "gzip").Want(t, http.StatusOK)
	s.Call(t, "POST", "/tollgate.v1.AuthService/CreateUser", packed.String(), "Content-Encoding", "gzip").Want(t, http.StatusConflict)

	large := bomb(t)
	for name, c := range map[string]struct {
		flags byte
		body  string
		says  string
	}{
		"a large message":      {1, large, `"code":"resource_exhausted","message":"the message is too large"`},
		"not the gzip it says": {1, "{}", `"code":"invalid_argument"`},
		"an unknown field":     {0, `{"admin":true}`, `"code":"invalid_argument"`},
		"an actor too long":    {0, `{"actor":"` + strings.Repeat("x", 129) + `"}`, `"code":"invalid_argument","message":"actor:`},
	} {
		envelope := append([]byte{c.flags, 0, 0, 0, 0}, c.body...)
		binary.BigEndian.PutUint32(envelope[1:], uint32(len(c.body)))
		a := s.Call(t, "POST", "/tollgate.v1.AuditService/WatchEvents", string(envelope), "Content-Type", "application/connect+json",
			"Connect-Content-Encoding", "gzip").Want(t, http.StatusOK)
		end := a.Raw[min(5, len(a.Raw)):]
		var err error
		if a.Raw[0]&1 != 0 { // compressed
			unpacked, failed := gzip.NewReader(bytes.NewReader(end))
			if failed != nil {
				t.Fatalf("%s in a stream answers %q", name, a.Raw)
			}
			end, err = io.ReadAll(unpacked)
		}
		if err != nil || !bytes.Contains(end, []byte(c.says)) || insides.Match(end) {
			t.Errorf("%s in a stream answers %s, %v", name, end, err)
		}
	}
	if log := s.stderr.String(); strings.Contains(log, "call failed") {
		t.Errorf("the caller's mistakes are in our log: %s", log)
	}
}

// everything returns all data that a call can change, as text.
func everything(t *testing.T, c apitest.Client) string {
	t.Helper()
	state := object{
		"users": c.All(t, "/v1/users?", "users"), "roles": c.All(t, "/v1/roles?", "roles"),
		"limits": c.All(t, "/v1/limits?", "limits"), "keys": c.All(t, "/v1/api-keys?", "apiKeys"),
	}
	text, err := json.Marshal(state)
	backendtest.Must(t, err)
	return string(text)
}

func many(n int) object {
	o := object{}
	for i := range n {
		o["key"+strings.Repeat("x", i)] = "value"
	}
	return o
}

// bomb returns a small gzip file that decompresses to 2 MiB.
func bomb(t *testing.T) string {
	t.Helper()
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	w.Write([]byte(`{"username":"`))
	for range 2 {
		w.Write(bytes.Repeat([]byte("x"), 1<<20))
	}
	w.Write([]byte(`"}`))
	backendtest.Must(t, w.Close())
	return packed.String()
}
