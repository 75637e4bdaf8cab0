package tollgate_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"

	"connectrpc.com/connect"
	tollgate "github.com/tollgatehq/tollgate/sdk"
	ordersv1 "github.com/tollgatehq/tollgate/sdk/examples/orders/gen/orders/v1"
	"github.com/tollgatehq/tollgate/sdk/examples/orders/gen/orders/v1/ordersv1connect"
	"github.com/tollgatehq/tollgate/sdk/sdktest"
)

// exampleTollgate returns a Tollgate with alice, who may read orders.
func exampleTollgate() (server *sdktest.Server, client *tollgate.Client, alicesToken string) {
	server = sdktest.NewServer()
	server.SetRole("clerk", "orders:read")
	server.SetUser(sdktest.User{Name: "alice", Password: "correct horse", Roles: []string{"clerk"}})
	return server, server.Client(), server.Token("alice")
}

func ExampleClient_Authorize() {
	server, client, alicesToken := exampleTollgate() // tollgate.New("https://tollgate.internal", tollgate.WithAPIKey(key))
	defer server.Close()

	for _, permission := range []string{"orders:read", "orders:delete"} {
		decision, err := client.Authorize(context.Background(), tollgate.AuthorizeRequest{
			Credential: alicesToken, Permission: permission, Resource: "orders/42",
		})
		if err != nil {
			log.Fatal(err) // no decision: do not go ahead
		}
		if denied, ok := errors.AsType[*tollgate.DeniedError](decision.Err()); ok {
			fmt.Println(denied.Reason)
		} else {
			fmt.Println("allowed:", decision.Principal.Username)
		}
	}
	// Output:
	// allowed: alice
	// PERMISSION_MISSING
}

func ExampleClient_Verify() {
	server, client, alicesToken := exampleTollgate()
	defer server.Close()

	v, err := client.Verify(context.Background(), alicesToken)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(v.Active, v.Principal.Username, v.Principal.Roles)
	// Output: true alice [clerk]
}

func ExampleClient_Require() {
	server, client, alicesToken := exampleTollgate()
	defer server.Close()

	mux := http.NewServeMux()
	mayRead := client.Require("orders:read", func(r *http.Request, q *tollgate.AuthorizeRequest) {
		q.Resource = "orders/" + r.PathValue("id")
	})
	mux.Handle("GET /orders/{id}", mayRead(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		fmt.Println(tollgate.FromContext(r.Context()).Username, "reads order", r.PathValue("id"))
	})))

	for _, authorization := range []string{"Bearer " + alicesToken, ""} {
		r := httptest.NewRequest("GET", "/orders/42", nil)
		r.Header.Set("Authorization", authorization)
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, r)
		fmt.Println(w.Result().Status)
	}
	// Output:
	// alice reads order 42
	// 200 OK
	// 401 Unauthorized
}

func ExampleClient_Interceptor() {
	server, client, _ := exampleTollgate()
	defer server.Close()

	mux := http.NewServeMux()
	mux.Handle(ordersv1connect.NewOrdersServiceHandler(
		ordersv1connect.UnimplementedOrdersServiceHandler{}, // your service
		connect.WithInterceptors(client.Interceptor()),
	))
	service := httptest.NewServer(mux)
	defer service.Close()

	orders := ordersv1connect.NewOrdersServiceClient(service.Client(), service.URL)
	_, err := orders.CreateOrder(context.Background(), &ordersv1.CreateOrderRequest{Item: "tea"})
	fmt.Println(connect.CodeOf(err))
	_, err = orders.GetMenu(context.Background(), &ordersv1.GetMenuRequest{})
	fmt.Println(connect.CodeOf(err)) // public: it got to the service
	// Output:
	// unauthenticated
	// unimplemented
}

func ExampleClient_RecordEvent() {
	server, client, _ := exampleTollgate()
	defer server.Close()

	cancel := func(ctx context.Context, order string) error { // in a handler
		return client.RecordEvent(ctx, tollgate.Event{
			Actor:    tollgate.FromContext(ctx),
			Action:   "order.cancel",
			Outcome:  tollgate.OutcomeSuccess,
			Resource: "orders/" + order,
		})
	}
	fmt.Println(cancel(context.Background(), "42"))
	// Output: <nil>
}

func ExampleVerifier() {
	server, client, alicesToken := exampleTollgate()
	defer server.Close()
	ctx := context.Background()

	verifier, err := tollgate.NewVerifier(client, tollgate.VerifierConfig{
		Issuer:   sdktest.Issuer,   // the server's --issuer
		Audience: sdktest.Audience, // the server's --audience
	})
	if err != nil {
		log.Fatal(err)
	}
	defer verifier.Close()
	if err := verifier.Wait(ctx, 0); err != nil { // optional: until then Verify asks Tollgate
		log.Fatal(err)
	}

	v, err := verifier.Verify(ctx, alicesToken)
	if err != nil {
		log.Fatal(err) // nothing is known of the token: do not go ahead
	}
	fmt.Println(v.Active, v.Principal.UserID)

	revision := server.Revoke(v.Principal.SessionID) // the session is revoked
	if err := verifier.Wait(ctx, revision); err != nil {
		log.Fatal(err)
	}
	if v, err = verifier.Verify(ctx, alicesToken); err != nil {
		log.Fatal(err)
	}
	fmt.Println(v.Active, v.Reason)
	// Output:
	// true user-alice
	// false CREDENTIAL_REVOKED
}

func ExampleAssertionVerifier() {
	server, client, _ := exampleTollgate() // tollgate.New("https://tollgate.internal"): no credential
	defer server.Close()

	assertions, err := tollgate.NewAssertionVerifier(client, tollgate.AssertionConfig{
		Issuer:   sdktest.Issuer,   // the server's --issuer
		Audience: sdktest.Audience, // what the proxy asks for with ?audience=
	})
	if err != nil {
		log.Fatal(err)
	}
	defer assertions.Close()
	handler := assertions.RequireAssertion("orders:read")(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		fmt.Println(tollgate.FromContext(r.Context()).Username, "reads", r.URL.Path)
	}))

	for _, assertion := range []string{
		server.Assertion("alice", "orders:read"),  // what the proxy adds
		server.Assertion("alice", "profile:read"), // for another handler
		"", // past the proxy
	} {
		r := httptest.NewRequest("GET", "/orders/42", nil)
		r.Header.Set(tollgate.AssertionHeader, assertion)
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		fmt.Println(w.Result().Status)
	}
	// Output:
	// alice reads /orders/42
	// 200 OK
	// 403 Forbidden
	// 401 Unauthorized
}

func ExampleNewSession() {
	server, _, _ := exampleTollgate()
	defer server.Close()
	server.SetUser(sdktest.User{Name: "alice", Password: "correct horse", SecondFactor: "123456"})
	ctx := context.Background()

	session, err := tollgate.NewSession(ctx, server.URL, tollgate.SessionConfig{
		Username: "alice", Password: "correct horse",
		SecondFactor: func(context.Context) (string, error) { return "123456", nil }, // ask the user
	})
	if err != nil {
		log.Fatal(err)
	}
	client, err := tollgate.New(server.URL, tollgate.WithTokenSource(session))
	if err != nil {
		log.Fatal(err)
	}
	decision, err := client.Authorize(ctx, tollgate.AuthorizeRequest{UserID: "user-alice", Permission: "orders:read"})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(decision.Reason)

	fmt.Println(session.Close(ctx)) // signs out
	_, err = session.Token(ctx)
	fmt.Println(errors.Is(err, tollgate.ErrSignedOut))
	// Output:
	// PERMISSION_MISSING
	// <nil>
	// true
}

// A catalog that may be read while Tollgate does not answer, and orders that may not.
func ExampleWithFailureMode() {
	server, _, alicesToken := exampleTollgate()
	defer server.Close()
	client := server.Client(
		tollgate.WithFailureMode(tollgate.FailClosed, func(_ context.Context, q tollgate.AuthorizeRequest, _ error) {
			fmt.Println("passed without a decision:", q.Permission)
		}),
		tollgate.WithLogger(slog.New(slog.DiscardHandler)),
	)
	open := func(_ *http.Request, q *tollgate.AuthorizeRequest) { q.OnUnavailable = tollgate.FailOpen }
	read := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	mux := http.NewServeMux()
	mux.Handle("GET /catalog", client.Require("catalog:read", open)(read))
	mux.Handle("GET /orders", client.Require("orders:read")(read))

	server.SetDown(true)
	for _, path := range []string{"/catalog", "/orders"} {
		r := httptest.NewRequest("GET", path, nil)
		r.Header.Set("Authorization", "Bearer "+alicesToken)
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, r)
		fmt.Println(path, w.Code)
	}
	// Output:
	// passed without a decision: catalog:read
	// /catalog 200
	// /orders 503
}
