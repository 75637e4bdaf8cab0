package sdk_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"

	"connectrpc.com/connect"
	"github.com/tollgatehq/tollgate/sdk"
	ordersv1 "github.com/tollgatehq/tollgate/sdk/examples/orders/gen/orders/v1"
	"github.com/tollgatehq/tollgate/sdk/examples/orders/gen/orders/v1/ordersv1connect"
	"github.com/tollgatehq/tollgate/sdk/sdktest"
)

// exampleTollgate knows alice, who may read orders.
func exampleTollgate() (tollgate *sdktest.Server, client *sdk.Client, alicesToken string) {
	tollgate = sdktest.NewServer()
	tollgate.SetRole("clerk", "orders:read")
	tollgate.SetUser(sdktest.User{Name: "alice", Password: "correct horse", Roles: []string{"clerk"}})
	return tollgate, tollgate.Client(), tollgate.Token("alice")
}

func Example() {
	tollgate, client, alicesToken := exampleTollgate() // sdk.New("https://tollgate.internal", sdk.WithAPIKey(key))
	defer tollgate.Close()

	decision, err := client.Authorize(context.Background(), sdk.Request{
		Credential: alicesToken,
		Permission: "orders:read",
		Resource:   "orders/42",
	})
	if err != nil {
		log.Fatal(err) // no decision: do not go ahead
	}
	fmt.Println(decision.Allowed, decision.Reason, decision.Principal.Username)
	// Output: true OK alice
}

func ExampleDecision_Err() {
	tollgate, client, alicesToken := exampleTollgate()
	defer tollgate.Close()

	decision, err := client.Authorize(context.Background(), sdk.Request{
		Credential: alicesToken,
		Permission: "orders:delete",
	})
	if err != nil {
		log.Fatal(err)
	}
	var denied *sdk.Denied
	if errors.As(decision.Err(), &denied) {
		fmt.Println(denied.Reason)
	}
	// Output: PERMISSION_MISSING
}

func ExampleClient_Verify() {
	tollgate, client, alicesToken := exampleTollgate()
	defer tollgate.Close()

	v, err := client.Verify(context.Background(), alicesToken)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(v.Active, v.Principal.Username, v.Principal.Roles)
	// Output: true alice [clerk]
}

func ExampleClient_Require() {
	tollgate, client, alicesToken := exampleTollgate()
	defer tollgate.Close()

	mux := http.NewServeMux()
	mayRead := client.Require("orders:read", func(r *http.Request, q *sdk.Request) {
		q.Resource = "orders/" + r.PathValue("id")
	})
	mux.Handle("GET /orders/{id}", mayRead(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		fmt.Println(sdk.PrincipalFrom(r.Context()).Username, "reads order", r.PathValue("id"))
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
	tollgate, client, _ := exampleTollgate()
	defer tollgate.Close()

	mux := http.NewServeMux()
	mux.Handle(ordersv1connect.NewOrdersServiceHandler(
		ordersv1connect.UnimplementedOrdersServiceHandler{}, // your service
		connect.WithInterceptors(client.Interceptor()),
	))
	server := httptest.NewServer(mux)
	defer server.Close()

	orders := ordersv1connect.NewOrdersServiceClient(server.Client(), server.URL)
	_, err := orders.CreateOrder(context.Background(), &ordersv1.CreateOrderRequest{Item: "tea"})
	fmt.Println(connect.CodeOf(err))
	_, err = orders.GetMenu(context.Background(), &ordersv1.GetMenuRequest{})
	fmt.Println(connect.CodeOf(err)) // public: it got through to the service
	// Output:
	// unauthenticated
	// unimplemented
}

func ExampleClient_RecordEvent() {
	tollgate, client, _ := exampleTollgate()
	defer tollgate.Close()

	cancel := func(ctx context.Context, order string) error { // in a handler
		return client.RecordEvent(ctx, sdk.Event{
			Actor:    sdk.PrincipalFrom(ctx),
			Action:   "order.cancel",
			Outcome:  sdk.OutcomeSuccess,
			Resource: "orders/" + order,
		})
	}
	fmt.Println(cancel(context.Background(), "42"))
	// Output: <nil>
}

func ExampleVerifier() {
	tollgate, client, alicesToken := exampleTollgate()
	defer tollgate.Close()
	ctx := context.Background()

	verifier, err := sdk.NewVerifier(client, sdktest.Issuer, sdktest.Audience) // Tollgate's --issuer and --audience
	if err != nil {
		log.Fatal(err)
	}
	defer verifier.Close()
	if err := verifier.Wait(ctx, 0); err != nil { // optional: until then it asks Tollgate
		log.Fatal(err)
	}

	v, err := verifier.Verify(ctx, alicesToken)
	if err != nil {
		log.Fatal(err) // nothing is known of the token: do not go ahead
	}
	fmt.Println(v.Active, v.Principal.UserID)

	revision := tollgate.Revoke(v.Principal.SessionID) // somebody ends the session
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

func ExampleTokenSource() {
	tollgate, _, _ := exampleTollgate()
	defer tollgate.Close()
	ctx := context.Background()

	tokens, err := sdk.PasswordTokens(tollgate.URL, "alice", "correct horse")
	if err != nil {
		log.Fatal(err)
	}
	client, err := sdk.New(tollgate.URL, sdk.WithTokenSource(tokens.Token))
	if err != nil {
		log.Fatal(err)
	}
	decision, err := client.Authorize(ctx, sdk.Request{UserID: "user-alice", Permission: "orders:read"})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(decision.Allowed)

	fmt.Println(tokens.Close(ctx)) // signs out
	_, err = tokens.Token(ctx)
	fmt.Println(errors.Is(err, sdk.ErrSignedOut))
	// Output:
	// true
	// <nil>
	// true
}
