package main_test

import (
	"net/http"
	"regexp"
	"strconv"
	"testing"

	"github.com/tollgatehq/tollgate/server/internal/apitest"
)

var serving = regexp.MustCompile(`serving at (http://[^,\s]+)`)

// TestOrders runs the example service, which the SDK protects, with a real
// Tollgate.
func TestOrders(t *testing.T) {
	t.Parallel()
	s := serveAdmin(t)
	example := run(t, ordersBinary, t.TempDir(), []string{"TOLLGATE_API_KEY=" + s.NewService(t, "orders")}, "",
		"-listen", "127.0.0.1:0", "-tollgate", s.URL)
	orders := apitest.New(t, example.says(t, serving)[1])

	s.Post(t, "/v1/roles", object{"name": "clerk", "permissions": []string{"orders:read", "orders:write"}})
	s.Post(t, "/v1/roles", object{"name": "reader", "permissions": []string{"orders:read"}})
	alice := s.NewUser(t, "alice", "a password of alice", "clerk")
	s.NewUser(t, "bob", "a password of bob", "reader")
	session := s.Login(t, "alice", "a password of alice")
	clerk := orders.As(session.Str("accessToken"))
	reader := orders.As(s.Login(t, "bob", "a password of bob").Str("accessToken"))
	const rpc = "/orders.v1.OrdersService/"

	orders.Post(t, rpc+"GetMenu", object{})
	made := clerk.Post(t, rpc+"CreateOrder", object{"item": "tea"})
	if made.Str("order", "userId") != alice {
		t.Errorf("an order of alice: %s", made.Raw)
	}
	path := "/orders/" + made.Str("order", "id")
	reader.Get(t, path)
	for name, c := range map[string]struct {
		as     apitest.Client
		method string
		path   string
		status int
	}{
		"nobody orders":         {orders, "POST", rpc + "CreateOrder", http.StatusUnauthorized},
		"nobody reads":          {orders, "GET", path, http.StatusUnauthorized},
		"garbage reads":         {orders.As("garbage"), "GET", path, http.StatusUnauthorized},
		"a reader orders":       {reader, "POST", rpc + "CreateOrder", http.StatusForbidden},
		"an RPC without a rule": {clerk, "POST", rpc + "Audit", http.StatusForbidden},
	} {
		var body any
		if c.method == "POST" {
			body = object{"item": "tea"}
		}
		if c.path == rpc+"Audit" {
			body = object{}
		}
		a := c.as.Call(t, c.method, c.path, body)
		if a.Status != c.status || a.Str("code") == "" {
			t.Errorf("%s: %d %s, want %d", name, a.Status, a.Raw, c.status)
		}
		if challenge := a.Header.Get("WWW-Authenticate"); (challenge != "") != (c.status == http.StatusUnauthorized) && c.method == "GET" {
			t.Errorf("%s: WWW-Authenticate: %q", name, challenge)
		}
	}
	// The denials are in the audit log with the user's address, not the
	// service's.
	denied := s.Events(t, "action=access.denied&actor=bob")
	if len(denied) != 1 || apitest.Dig(denied[0], "details", "permission") != "orders:write" || denied[0]["ip"] != "127.0.0.1" {
		t.Errorf("events of bob: %v", denied)
	}

	s.Post(t, "/v1/limits", object{
		"name": "orders", "subject": "SUBJECT_USER", "permission": "orders:read", "rate": 2, "period": "60s",
	})
	for range 2 {
		reader.Get(t, path)
	}
	limited := reader.Call(t, "GET", path, nil).Want(t, http.StatusTooManyRequests)
	if seconds, err := strconv.Atoi(limited.Header.Get("Retry-After")); err != nil || seconds < 1 || seconds > 60 {
		t.Errorf("Retry-After: %q", limited.Header.Get("Retry-After"))
	}
	reader.Call(t, "POST", rpc+"GetOrder", object{"id": made.Str("order", "id")}).Want(t, http.StatusTooManyRequests)
	clerk.Get(t, path)

	// A session that is revoked at Tollgate is refused here; without Tollgate
	// every call is.
	s.As(session.Str("accessToken")).Post(t, "/v1/auth/logout", object{})
	clerk.Call(t, "GET", path, nil).Want(t, http.StatusUnauthorized)
	s.kill(t)
	if a := reader.Call(t, "GET", path, nil); a.Status != http.StatusServiceUnavailable {
		t.Errorf("without Tollgate: %d %s", a.Status, a.Raw)
	}
	orders.Post(t, rpc+"GetMenu", object{})
}
