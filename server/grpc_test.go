package main_test

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"connectrpc.com/grpcreflect"
	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
	"github.com/tollgatehq/tollgate/gen/tollgate/v1/tollgatev1connect"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// h2c is an HTTP/2 client without TLS, as gRPC needs it.
func h2c(t *testing.T) *http.Client {
	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetUnencryptedHTTP2(true)
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// protocol is a protocol to call an RPC with.
type protocol struct {
	name    string
	options []connect.ClientOption
}

var protocols = []protocol{
	{"gRPC", []connect.ClientOption{connect.WithGRPC()}},
	{"gRPC with gzip", []connect.ClientOption{connect.WithGRPC(), connect.WithSendGzip()}},
	{"gRPC-Web", []connect.ClientOption{connect.WithGRPCWeb()}},
	{"Connect", nil},
	{"Connect JSON", []connect.ClientOption{connect.WithProtoJSON()}},
	{"Connect GET", []connect.ClientOption{connect.WithHTTPGet()}},
}

// credential is an interceptor that sends a token with every call.
type credential string

func (c credential) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
		if c != "" {
			req.Header().Set("Authorization", "Bearer "+string(c))
		}
		return next(ctx, req)
	}
}

func (c credential) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return func(ctx context.Context, spec connect.Spec) connect.StreamingClientConn {
		conn := next(ctx, spec)
		conn.RequestHeader().Set("Authorization", "Bearer "+string(c))
		return conn
	}
}

func (credential) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return next
}

// with returns the protocol's options with a token.
func (p protocol) with(token string) connect.ClientOption {
	return connect.WithClientOptions(append(slices.Clone(p.options), connect.WithInterceptors(credential(token)))...)
}

func TestProtocols(t *testing.T) {
	t.Parallel()
	s := serveAdmin(t)
	for i, p := range protocols {
		t.Run(p.name, func(t *testing.T) { core(t, s, p, string(rune('a'+i))) })
	}
}

// core makes the calls of the quickstart over one protocol.
func core(t *testing.T, s *tollgate, p protocol, name string) {
	ctx, client := t.Context(), h2c(t)
	auth := func(token string) tollgatev1connect.AuthServiceClient {
		return tollgatev1connect.NewAuthServiceClient(client, s.URL, p.with(token))
	}
	must := func(err error) {
		t.Helper()
		backendtest.Must(t, err)
	}
	login, err := auth("").Login(ctx, &tollgatev1.LoginRequest{Username: "admin", Password: adminPassword})
	must(err)
	admin := auth(login.AccessToken)
	roles := tollgatev1connect.NewRolesServiceClient(client, s.URL, p.with(login.AccessToken))
	limits := tollgatev1connect.NewLimitsServiceClient(client, s.URL, p.with(login.AccessToken))
	audit := tollgatev1connect.NewAuditServiceClient(client, s.URL, p.with(login.AccessToken))

	made, err := admin.CreateUser(ctx, &tollgatev1.CreateUserRequest{Username: "user-" + name, Password: "a password"})
	must(err)
	_, err = roles.CreateRole(ctx, &tollgatev1.CreateRoleRequest{Name: "clerk-" + name, Permissions: []string{"orders:read"}})
	must(err)
	assigned, err := roles.AssignRole(ctx, &tollgatev1.AssignRoleRequest{Role: "clerk-" + name, UserId: made.User.Id})
	must(err)
	session, err := auth("").Login(ctx, &tollgatev1.LoginRequest{Username: "user-" + name, Password: "a password"})
	must(err)
	who, err := auth(session.AccessToken).WhoAmI(ctx, &tollgatev1.WhoAmIRequest{})
	must(err)
	if who.Principal.GetUserId() != made.User.Id || !slices.Equal(who.Permissions, []string{"orders:read"}) {
		t.Errorf("WhoAmI: %v", who)
	}
	verified, err := admin.Verify(ctx, &tollgatev1.VerifyRequest{
		Credential: &tollgatev1.VerifyRequest_AccessToken{AccessToken: session.AccessToken},
	})
	must(err)
	if !verified.Active || verified.Principal.GetUsername() != "user-"+name {
		t.Errorf("Verify: %v", verified)
	}

	_, err = limits.CreateLimit(ctx, &tollgatev1.CreateLimitRequest{
		Name: "limit-" + name, Subject: tollgatev1.Subject_SUBJECT_CUSTOM, ContextKey: name, Permission: "orders:*",
		Rate: 2, Period: durationpb.New(60e9), Mode: tollgatev1.Mode_MODE_SHADOW,
	})
	must(err)
	decide := func(permission string) *tollgatev1.AuthorizeRequest {
		return &tollgatev1.AuthorizeRequest{
			Credential: &tollgatev1.AuthorizeRequest_AccessToken{AccessToken: session.AccessToken},
			Permission: permission, MinRevision: assigned.Revision,
		}
	}
	batch, err := roles.BatchAuthorize(ctx, &tollgatev1.BatchAuthorizeRequest{
		Requests: []*tollgatev1.AuthorizeRequest{decide("orders:read"), decide("orders:delete")},
	})
	must(err)
	if got := batch.Responses; !got[0].Allowed || got[1].Reason != tollgatev1.Reason_REASON_PERMISSION_MISSING {
		t.Errorf("BatchAuthorize: %v", got)
	}
	events, err := audit.ListEvents(ctx, &tollgatev1.ListEventsRequest{
		Actor: "user-" + name, Action: "access.denied", Outcome: tollgatev1.Outcome_OUTCOME_DENIED,
	})
	must(err)
	if len(events.Events) != 1 || events.Events[0].Reason != "permission_missing" {
		t.Errorf("ListEvents: %v", events)
	}

	// Errors have the same code, reason and fields everywhere.
	_, err = auth("").WhoAmI(ctx, &tollgatev1.WhoAmIRequest{})
	wantError(t, err, connect.CodeUnauthenticated, "CREDENTIAL_MISSING", "")
	_, err = auth(session.AccessToken).ListUsers(ctx, &tollgatev1.ListUsersRequest{})
	wantError(t, err, connect.CodePermissionDenied, "PERMISSION_MISSING", "")
	_, err = admin.GetUser(ctx, &tollgatev1.GetUserRequest{Id: "7"})
	wantError(t, err, connect.CodeInvalidArgument, "INVALID_FIELD", "id")
	_, err = roles.CreateRole(ctx, &tollgatev1.CreateRoleRequest{Name: "clerk-" + name})
	wantError(t, err, connect.CodeAlreadyExists, "", "")
	_, err = roles.GetRole(ctx, &tollgatev1.GetRoleRequest{Name: "nobody"})
	wantError(t, err, connect.CodeNotFound, "", "")
}

// wantError checks an error's code, and its reason and first field when given.
func wantError(t *testing.T, err error, code connect.Code, reason, field string) {
	t.Helper()
	var told *connect.Error
	if !errors.As(err, &told) || told.Code() != code {
		t.Errorf("error %v, want %s", err, code)
		return
	}
	var gotReason, gotField, requestID string
	for _, d := range told.Details() {
		value, err := d.Value()
		if err != nil {
			t.Error(err)
		}
		switch v := value.(type) {
		case *errdetails.ErrorInfo:
			gotReason, requestID = v.Reason, v.Metadata["request_id"]
		case *errdetails.BadRequest:
			gotField = v.FieldViolations[0].Field
		}
	}
	if gotReason == "" || requestID == "" || reason != "" && gotReason != reason || gotField != field {
		t.Errorf("error %v with reason %q, field %q and request id %q; want %q and %q", err, gotReason, gotField, requestID, reason, field)
	}
}

func TestReflection(t *testing.T) {
	t.Parallel()
	s := serveAdmin(t)
	stream := grpcreflect.NewClient(h2c(t), s.URL, connect.WithGRPC()).NewStream(t.Context())
	defer stream.Close()
	services, err := stream.ListServices()
	backendtest.Must(t, err)
	for _, name := range []string{
		tollgatev1connect.AuthServiceName, tollgatev1connect.RolesServiceName,
		tollgatev1connect.LimitsServiceName, tollgatev1connect.RoutesServiceName,
		tollgatev1connect.ResourcesServiceName, tollgatev1connect.AuditServiceName, tollgatev1connect.OverviewServiceName,
	} {
		if !slices.ContainsFunc(services, func(n protoreflect.FullName) bool { return string(n) == name }) {
			t.Errorf("%s is not listed in %s", name, services)
		}
		files, err := stream.FileContainingSymbol(protoreflect.FullName(name))
		if err != nil || len(files) == 0 || len(files[0].GetService()) == 0 {
			t.Errorf("describe %s: %v, %v", name, files, err)
		}
	}
	closed := serve(t, t.TempDir(), "TOLLGATE_REFLECTION=false")
	_, err = grpcreflect.NewClient(h2c(t), closed.URL, connect.WithGRPC()).NewStream(t.Context()).ListServices()
	if connect.CodeOf(err) != connect.CodeUnimplemented {
		t.Errorf("with reflection off: %v", err)
	}
}

func TestGRPCHealth(t *testing.T) {
	t.Parallel()
	s := serveAdmin(t)
	const serving = 1
	// grpc.health.v1's two messages have the shape of these.
	health := connect.NewClient[wrapperspb.StringValue, wrapperspb.Int32Value](
		h2c(t), s.URL+"/grpc.health.v1.Health/Check", connect.WithGRPC())
	for _, service := range []string{"", tollgatev1connect.AuthServiceName, tollgatev1connect.AuditServiceName} {
		res, err := health.CallUnary(t.Context(), connect.NewRequest(wrapperspb.String(service)))
		if err != nil || res.Msg.Value != serving {
			t.Errorf("health of %q: %v, %v", service, res, err)
		}
	}
	_, err := health.CallUnary(t.Context(), connect.NewRequest(wrapperspb.String("no.Such")))
	if connect.CodeOf(err) != connect.CodeNotFound {
		t.Errorf("health of an unknown service: %v", err)
	}
	body := s.As("").Post(t, "/grpc.health.v1.Health/Check", object{})
	if !strings.Contains(body.Str("status"), "SERVING") {
		t.Errorf("health over Connect: %s", body.Raw)
	}
}
