// Package tollgate asks Tollgate who is calling, whether they may, and how often,
// before a request reaches your code.
//
//	client, err := tollgate.New("https://tollgate.internal", tollgate.WithAPIKey(os.Getenv("TOLLGATE_API_KEY")))
//
// The API key is that of your service. Decisions need the permissions of the
// built-in role "service", tollgate:authorize and tollgate:verify.
// [Client.CheckLimit] needs tollgate:limits:check as well, and
// [Client.RecordEvent] tollgate:audit:record.
//
// # Three ways in
//
// For net/http, [Client.Require] wraps a handler:
//
//	mux.Handle("GET /orders/{id}", client.Require("orders:read")(getOrder))
//
// For Connect, [Client.Interceptor] enforces what the RPCs of your own protos
// say, and denies an RPC that says nothing:
//
//	rpc GetOrder(GetOrderRequest) returns (GetOrderResponse) {
//	  option (tollgate.v1.guard) = {permission: "orders:read"};
//	}
//
//	path, handler := ordersv1connect.NewOrdersServiceHandler(orders, connect.WithInterceptors(client.Interceptor()))
//
// Connect handlers serve gRPC clients too. Everything else, a grpc-go server
// among it, calls [Client.Authorize] or the generated clients.
//
// In a handler behind either, [FromContext] is who is calling.
//
// # Decisions and errors
//
// A decision is data: [Client.Authorize] returns a [Decision] whether the call
// is allowed or not, and [Decision.Err] turns a refusal into a [*DeniedError] for
// those who want one. An error is about the asking: every method, those of the
// generated clients included, fails with an [*Error], which errors.As finds.
// When errors.Is(err, [ErrUnavailable]), Tollgate did not answer. No decision
// means no: the middleware and the interceptor refuse a call that they cannot
// have decided.
//
// # Without a round trip
//
// A [Verifier] checks access tokens in your own process: it keeps Tollgate's
// public keys and follows its feed of revocations, so that a session that was
// ended is refused at once. It answers who is calling; what they may do,
// [Client.Authorize] decides.
//
// Its [Verifier.Authenticate], and an [Client.Interceptor] made [WithVerifier],
// take bad credentials to Tollgate all the same, which counts and records them:
// so many that nobody tries unseen, and so few that a flood of them ends here.
//
// # Calls that go on
//
// The interceptor looks at a stream's caller again and again, and ends the
// stream when the credential or the permission is gone; see [WithRecheck]. What
// else outlasts its decision, an HTTP handler that keeps sending among it, asks
// again with the same [AuthorizeRequest] and Recheck.
//
// # Signing in
//
// A program without an API key of its own presents the tokens of a
// [TokenSource], which signs in and renews by itself:
//
//	tokens, err := tollgate.PasswordTokens("https://tollgate.internal", "alice", password)
//	client, err := tollgate.New("https://tollgate.internal", tollgate.WithTokenSource(tokens.Token))
//
// # Tests
//
// Package sdktest is a Tollgate in memory for the tests of your service.
//
// # What a call costs
//
// A decision is one round trip and counts once against limits. Every call but
// a stream ends within [WithTimeout], 2 s by default, also when its context has
// no deadline. Nothing is tried again, because a call that got no answer may
// have been counted; your caller, who reads Retry-After, knows better whether it
// is still worth it.
package tollgate
