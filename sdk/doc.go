// Package tollgate asks a Tollgate server who is calling, whether they may, and
// how often, before a request reaches your code. Import it with its name, since
// the path ends in sdk:
//
//	import tollgate "github.com/tollgatehq/tollgate/sdk"
//
// # Protect a handler
//
//	func main() {
//		client, err := tollgate.New("https://tollgate.internal", tollgate.WithAPIKey(os.Getenv("TOLLGATE_API_KEY")))
//		if err != nil {
//			log.Fatal(err)
//		}
//		http.Handle("GET /orders/{id}", client.Require("orders:read")(http.HandlerFunc(getOrder)))
//		log.Fatal(http.ListenAndServe(":9000", nil))
//	}
//
//	func getOrder(w http.ResponseWriter, r *http.Request) {
//		fmt.Fprintln(w, "for", tollgate.FromContext(r.Context()).Username)
//	}
//
// The API key belongs to your service's own account, which needs the built-in
// role "service": the permissions tollgate:authorize and tollgate:verify.
// [Client.CheckLimit] also needs tollgate:limits:check, and
// [Client.RecordEvent] and [Client.RecordEvents] tollgate:audit:record.
//
// [Client.Require] is middleware for net/http. For Connect, and for gRPC clients
// of Connect handlers, [Client.Interceptor] enforces the option that each RPC of
// your own protos carries, and refuses an RPC without one:
//
//	rpc GetOrder(GetOrderRequest) returns (GetOrderResponse) {
//	  option (tollgate.v1.guard) = {permission: "orders:read"};
//	}
//
//	path, handler := ordersv1connect.NewOrdersServiceHandler(orders, connect.WithInterceptors(client.Interceptor()))
//
// Anything else, a grpc-go server for example, calls [Client.Authorize] or the
// generated clients such as [Client.Roles]. In a protected handler,
// [FromContext] returns the caller.
//
// # Verify tokens without a round trip
//
// A [Verifier] verifies access tokens in your process: it keeps Tollgate's
// public keys and follows its feed of revocations, so a revoked session is
// refused at once. It says who is calling. What the caller may do is decided
// by [Client.Authorize] only.
//
//	verifier, err := tollgate.NewVerifier(client, tollgate.VerifierConfig{
//		Issuer:   "https://tollgate.internal", // the server's --issuer
//		Audience: "tollgate",                  // the server's --audience, or your service's own
//	})
//	defer verifier.Close()
//	mux.Handle("GET /me", verifier.Authenticate(me))
//
// [Verifier.Authenticate] and [Verifier.Interceptor] report bad credentials to
// Tollgate, which counts and records them, at a bounded rate.
//
// # Check the audit log without a server
//
// [AuditLogKeys.VerifyProof] checks the proof that the audit log has an event, with
// nothing but the log's public key, and [VerifyConsistency] that nothing was changed
// between two checkpoints.
//
// # Decide calls without a round trip
//
// With [WithLocalDecisions] a client follows Tollgate's policy and allows most calls
// in your process, in about a microsecond; [Client.Require], the interceptors and
// [Client.Authorize] stay as they are:
//
//	client, err := tollgate.New("https://tollgate.internal", tollgate.WithAPIKey(key),
//		tollgate.WithLocalDecisions(tollgate.LocalConfig{}))
//	defer client.Close()
//
// It asks Tollgate about a caller whom it does not know yet, and once in 5 minutes;
// about what may be refused, so that every refusal is on record; about each call whose
// permission is recorded, see CreateRecording of the API; where a condition has
// a say, unless [LocalConfig] has Conditions and the answer is sure; and where a limit has, unless the limit has lease set and the caller makes 8
// calls a second or more, which the client then leases ahead. A change is in force within a second: a session,
// key or role that was taken away, a user who was disabled, a new deny or limit. When
// the feed is lost for longer than [LocalConfig.FeedBound], it asks about each call,
// or fails. Allowed calls that were decided so are not in Tollgate's metrics.
//
// The service's account needs tollgate:policy:watch besides, tollgate:limits:check
// for leases, and tollgate:policy:conditions for conditions: make a role with them.
// Whoever has the first can read every role and limit, and with the last every
// condition.
//
// # Behind a proxy that asks Tollgate
//
// Where nginx, Caddy, Envoy or Tollgate's gateway asks before a request gets here,
// an [AssertionVerifier] checks in your process the assertion that came with it: a
// token of a minute that Tollgate signed for this service and this call. It needs
// no credential and calls nobody for a request. A request that came past the proxy
// has none, and gets 401.
//
//	client, err := tollgate.New("https://tollgate.internal")
//	assertions, err := tollgate.NewAssertionVerifier(client, tollgate.AssertionConfig{
//		Issuer:   "https://tollgate.internal", // the server's --issuer
//		Audience: "orders",                    // the proxy's ?audience=
//	})
//	defer assertions.Close()
//	mux.Handle("GET /orders/{id}", assertions.RequireAssertion("orders:read")(getOrder))
//
// A service in another language does the same with a JWT library;
// examples/upstream has one in Python.
//
// # Sign in
//
// A program that acts for a user presents the access tokens of a [Session],
// which renews them. A user with a second factor is asked for a code:
//
//	session, err := tollgate.NewSession(ctx, "https://tollgate.internal", tollgate.SessionConfig{
//		Username: "alice", Password: password, SecondFactor: askForCode,
//	})
//	defer session.Close(context.Background()) // signs out
//	client, err := tollgate.New("https://tollgate.internal", tollgate.WithTokenSource(session))
//
// # Test
//
// Package [github.com/tollgatehq/tollgate/sdk/sdktest] is a Tollgate in memory
// for the tests of your service.
//
// # Decisions and errors
//
// A decision is data: [Client.Authorize] returns a [Decision] whether the call
// is allowed or not. An error is about the request to Tollgate: there is no
// decision, and the call must not go ahead. The middleware and the interceptors
// refuse such calls. A call that may go ahead while Tollgate does not answer says so
// by itself, with [FailOpen]: read there what that lets in. The zero [Decision], [Verification] and [CheckLimitResult]
// refuse, too.
//
//   - [*DeniedError]: a decision against the call, from [Decision.Err] and
//     [CheckLimitResult.Err]. Its Reason says why.
//   - [*Error]: what every call to Tollgate fails with, those of the generated
//     clients included. Its Code and Reason say why: Unauthenticated and
//     PermissionDenied are about your service's own credential.
//   - [ErrUnavailable]: in an [*Error], Tollgate did not answer in time. The same
//     call may succeed later.
//   - [ErrSignedOut]: the [Session] is over, and it has no password to begin
//     another.
//
// The middleware answers 401, 403 and 429 for the decisions, and 503 for every
// error, which goes to the log (see [WithLogger]).
//
// # Cost
//
// A decision is one round trip and counts once against limits. Calls that come while
// others are under way share requests, which costs Tollgate and your service a fifth
// of what a request for each does: see [WithoutBatching]. Every call but a stream ends
// within [WithTimeout], 2 s by default, also when its context has no deadline.
//
// A call that fails is made again, at most twice and within its timeout, where that
// does nothing twice: Tollgate was not reached, says that it did not take the call, or
// the call only reads. One that counts against limits carries a key, by which Tollgate
// counts it once. Other calls, such as [Client.RecordEvent], are not made again once
// Tollgate may have got them. See [WithRetries].
//
// A call that outlasts its decision is decided again: the interceptors do so for
// streams (see [WithRecheck]); an HTTP handler that keeps sending calls
// [Client.Authorize] with the same [AuthorizeRequest] and Recheck.
package tollgate
