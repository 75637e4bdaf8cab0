package sdk_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"

	"connectrpc.com/connect"
	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
	"github.com/tollgatehq/tollgate/sdk"
	ordersv1 "github.com/tollgatehq/tollgate/sdk/examples/orders/gen/orders/v1"
	"github.com/tollgatehq/tollgate/sdk/examples/orders/gen/orders/v1/ordersv1connect"
)

// exampleTollgate knows alice, who may read orders.
func exampleTollgate() (client *sdk.Client, stop func()) {
	f := &fake{
		authorize: func(req *tollgatev1.AuthorizeRequest) (*tollgatev1.AuthorizeResponse, error) {
			switch {
			case req.GetAccessToken() != "alices-token":
				return refused(tollgatev1.Reason_REASON_CREDENTIAL_MISSING), nil
			case req.GetPermission() != "orders:read":
				return refused(tollgatev1.Reason_REASON_PERMISSION_MISSING), nil
			}
			return allowed(), nil
		},
		verify: func(*tollgatev1.VerifyRequest) (*tollgatev1.VerifyResponse, error) {
			return &tollgatev1.VerifyResponse{Active: true, Reason: tollgatev1.Reason_REASON_OK, Principal: alice}, nil
		},
	}
	server := httptest.NewServer(f.handler())
	client, err := sdk.New(server.URL, sdk.WithAPIKey(serviceKey))
	if err != nil {
		log.Fatal(err)
	}
	return client, server.Close
}

func Example() {
	client, stop := exampleTollgate() // sdk.New("https://tollgate.internal", sdk.WithAPIKey(key))
	defer stop()

	decision, err := client.Authorize(context.Background(), sdk.Request{
		Credential: "alices-token",
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
	client, stop := exampleTollgate()
	defer stop()

	decision, err := client.Authorize(context.Background(), sdk.Request{
		Credential: "alices-token",
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
	client, stop := exampleTollgate()
	defer stop()

	v, err := client.Verify(context.Background(), "alices-token")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(v.Active, v.Principal.Username, v.Principal.Roles)
	// Output: true alice [clerk]
}

func ExampleClient_Require() {
	client, stop := exampleTollgate()
	defer stop()

	mux := http.NewServeMux()
	mayRead := client.Require("orders:read", func(r *http.Request, q *sdk.Request) {
		q.Resource = "orders/" + r.PathValue("id")
	})
	mux.Handle("GET /orders/{id}", mayRead(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		fmt.Println(sdk.PrincipalFrom(r.Context()).Username, "reads order", r.PathValue("id"))
	})))

	for _, authorization := range []string{"Bearer alices-token", ""} {
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
	client, stop := exampleTollgate()
	defer stop()

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
	client, stop := exampleTollgate()
	defer stop()

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
