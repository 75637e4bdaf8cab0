package main_test

import (
	"net/http"
	"regexp"
	"strconv"
	"testing"
)

var serving = regexp.MustCompile(`serving at (http://[^,\s]+)`)

// The example service, protected by the SDK, with a real Tollgate behind it.
func TestOrders(t *testing.T) {
	s := serveAdmin(t)
	example := run(t, ordersBinary, t.TempDir(), []string{"TOLLGATE_API_KEY=" + s.newService(t, "orders")}, "",
		"-listen", "127.0.0.1:0", "-tollgate", s.url)
	orders := newClient(t, example.says(t, serving)[1])

	s.post(t, "/v1/roles", object{"name": "clerk", "permissions": []string{"orders:read", "orders:write"}})
	s.post(t, "/v1/roles", object{"name": "reader", "permissions": []string{"orders:read"}})
	alice := s.newUser(t, "alice", "a password of alice", "clerk")
	s.newUser(t, "bob", "a password of bob", "reader")
	session := s.login(t, "alice", "a password of alice")
	clerk := orders.as(session.str("accessToken"))
	reader := orders.as(s.login(t, "bob", "a password of bob").str("accessToken"))
	const rpc = "/orders.v1.OrdersService/"

	orders.post(t, rpc+"GetMenu", object{})
	made := clerk.post(t, rpc+"CreateOrder", object{"item": "tea"})
	if made.str("order", "userId") != alice {
		t.Errorf("an order of alice: %s", made.raw)
	}
	path := "/orders/" + made.str("order", "id")
	reader.get(t, path)
	for name, c := range map[string]struct {
		as     client
		method string
		path   string
		status int
	}{
		"nobody orders":         {orders, "POST", rpc + "CreateOrder", http.StatusUnauthorized},
		"nobody reads":          {orders, "GET", path, http.StatusUnauthorized},
		"garbage reads":         {orders.as("garbage"), "GET", path, http.StatusUnauthorized},
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
		a := c.as.call(t, c.method, c.path, body)
		if a.status != c.status || a.str("code") == "" {
			t.Errorf("%s: %d %s, want %d", name, a.status, a.raw, c.status)
		}
		if challenge := a.header.Get("WWW-Authenticate"); (challenge != "") != (c.status == http.StatusUnauthorized) && c.method == "GET" {
			t.Errorf("%s: WWW-Authenticate: %q", name, challenge)
		}
	}
	// The refusals are in Tollgate's log with the person's address, not the service's.
	denied := s.events(t, "action=access.denied&actor=bob")
	if len(denied) != 1 || dig(denied[0], "details", "permission") != "orders:write" || denied[0]["ip"] != "127.0.0.1" {
		t.Errorf("events of bob: %v", denied)
	}

	s.post(t, "/v1/limits", object{
		"name": "orders", "subject": "SUBJECT_USER", "permission": "orders:read", "rate": 2, "period": "60s",
	})
	for range 2 {
		reader.get(t, path)
	}
	limited := reader.call(t, "GET", path, nil).want(t, http.StatusTooManyRequests)
	if seconds, err := strconv.Atoi(limited.header.Get("Retry-After")); err != nil || seconds < 1 || seconds > 60 {
		t.Errorf("Retry-After: %q", limited.header.Get("Retry-After"))
	}
	reader.call(t, "POST", rpc+"GetOrder", object{"id": made.str("order", "id")}).want(t, http.StatusTooManyRequests)
	clerk.get(t, path)

	// A session that ends at Tollgate ends here; without Tollgate nobody passes.
	s.as(session.str("accessToken")).post(t, "/v1/auth/logout", object{})
	clerk.call(t, "GET", path, nil).want(t, http.StatusUnauthorized)
	s.kill(t)
	if a := reader.call(t, "GET", path, nil); a.status != http.StatusServiceUnavailable {
		t.Errorf("without Tollgate: %d %s", a.status, a.raw)
	}
	orders.post(t, rpc+"GetMenu", object{})
}
