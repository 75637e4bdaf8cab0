package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"connectrpc.com/connect"
	ordersv1 "github.com/tollgatehq/tollgate/sdk/examples/orders/gen/orders/v1"
	"github.com/tollgatehq/tollgate/sdk/examples/orders/gen/orders/v1/ordersv1connect"
	"github.com/tollgatehq/tollgate/sdk/sdktest"
)

// newTollgate returns one with alice, who may order, bob, who may only read, and
// carol, who has no role.
func newTollgate(t *testing.T) *sdktest.Server {
	t.Helper()
	s := sdktest.NewServer()
	t.Cleanup(s.Close)
	s.SetRole("clerk", "orders:read", "orders:write")
	s.SetRole("reader", "orders:read")
	s.SetUser(sdktest.User{Name: "alice", Roles: []string{"clerk"}})
	s.SetUser(sdktest.User{Name: "bob", Roles: []string{"reader"}})
	s.SetUser(sdktest.User{Name: "carol"})
	return s
}

func TestOrders(t *testing.T) {
	t.Parallel()
	gate := newTollgate(t)
	server := httptest.NewServer(newHandler(gate.Client()))
	t.Cleanup(server.Close)

	const rpc = "/orders.v1.OrdersService/"
	for _, step := range []struct {
		name, user, method, path, body string
		status                         int
		contains                       string
	}{
		{"the menu is public", "", "POST", rpc + "GetMenu", `{}`, 200, "tea"},
		{"no credential", "", "POST", rpc + "CreateOrder", `{"item":"tea"}`, 401, "unauthenticated"},
		{"bob may not order", "bob", "POST", rpc + "CreateOrder", `{"item":"tea"}`, 403, "orders:write"},
		{"alice orders", "alice", "POST", rpc + "CreateOrder", `{"item":"tea"}`, 200, `"userId":"user-alice"`},
		{"an empty order", "alice", "POST", rpc + "CreateOrder", `{}`, 400, "item"},
		{"bob reads it", "bob", "POST", rpc + "GetOrder", `{"id":"1"}`, 200, "tea"},
		{"bob reads it over HTTP", "bob", "GET", "/orders/1", "", 200, `"userId":"user-alice"`},
		{"a missing order", "bob", "GET", "/orders/2", "", 404, "not_found"},
		{"carol reads", "carol", "GET", "/orders/1", "", 403, "permission_denied"},
		{"carol reads a missing order", "carol", "GET", "/orders/2", "", 403, "permission_denied"},
		{"no credential over HTTP", "", "GET", "/orders/1", "", 401, "unauthenticated"},
		{"an RPC without a guard", "alice", "POST", rpc + "Audit", `{}`, 403, "guard"},
	} {
		req, err := http.NewRequestWithContext(t.Context(), step.method, server.URL+step.path, strings.NewReader(step.body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		if step.user != "" {
			req.Header.Set("Authorization", "Bearer "+gate.Token(step.user))
		}
		res, err := server.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if res.StatusCode != step.status || !strings.Contains(string(body), step.contains) || !json.Valid(body) {
			t.Errorf("%s: %d %s", step.name, res.StatusCode, body)
		}
	}
}

// TestRun: the program prints where it serves, speaks gRPC, and ends by itself
// when its context does.
func TestRun(t *testing.T) {
	t.Parallel()
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	printed, out := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		err := run(ctx, []string{"-listen", "127.0.0.1:0", "-tollgate", newTollgate(t).URL}, key("tg_orders"), out)
		_ = out.CloseWithError(err) // a failed start ends the reading too
		ended <- err
	}()
	lines := bufio.NewScanner(printed)
	if !lines.Scan() {
		t.Fatal("no output: ", lines.Err())
	}
	_, rest, _ := strings.Cut(lines.Text(), "http://")
	address, _, _ := strings.Cut(rest, ",")

	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetUnencryptedHTTP2(true)
	defer transport.CloseIdleConnections()
	orders := ordersv1connect.NewOrdersServiceClient(&http.Client{Transport: transport}, "http://"+address, connect.WithGRPC())
	if _, err := orders.GetMenu(ctx, &ordersv1.GetMenuRequest{}); err != nil {
		t.Error(err)
	}
	_, err := orders.CreateOrder(ctx, &ordersv1.CreateOrderRequest{Item: "tea"})
	if connect.CodeOf(err) != connect.CodeUnauthenticated {
		t.Errorf("error %v", err)
	}

	interrupt()
	for lines.Scan() {
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestRunRefuses(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		args []string
		key  string
	}{
		"no key":         {nil, ""},
		"not a key":      {nil, "hunter2"},
		"an odd address": {[]string{"-tollgate", "nowhere"}, "tg_orders"},
		"a taken port":   {[]string{"-listen", strings.TrimPrefix(newTollgate(t).URL, "http://")}, "tg_orders"},
	} {
		err := run(t.Context(), test.args, key(test.key), io.Discard)
		if err == nil || errors.Is(err, http.ErrServerClosed) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

func key(value string) func(string) string {
	return func(name string) string {
		if name == "TOLLGATE_API_KEY" {
			return value
		}
		return ""
	}
}
