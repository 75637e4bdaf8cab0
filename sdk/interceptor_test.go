package tollgate_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"

	"connectrpc.com/connect"
	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
	"github.com/tollgatehq/tollgate/gen/tollgate/v1/tollgatev1connect"
	tollgate "github.com/tollgatehq/tollgate/sdk"
	ordersv1 "github.com/tollgatehq/tollgate/sdk/examples/orders/gen/orders/v1"
	"github.com/tollgatehq/tollgate/sdk/examples/orders/gen/orders/v1/ordersv1connect"
	"github.com/tollgatehq/tollgate/sdk/sdktest"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/types/descriptorpb"
)

// service is what the interceptor protects. Its methods have guards of every
// kind; it remembers who got through.
type service struct {
	ordersv1connect.UnimplementedOrdersServiceHandler
	tollgatev1connect.UnimplementedAuthServiceHandler
	tollgatev1connect.UnimplementedAuditServiceHandler
	through []*tollgate.Principal
}

func (s *service) pass(ctx context.Context) {
	s.through = append(s.through, tollgate.FromContext(ctx))
}

// CreateOrder needs orders:write.
func (s *service) CreateOrder(ctx context.Context, _ *ordersv1.CreateOrderRequest) (*ordersv1.CreateOrderResponse, error) {
	s.pass(ctx)
	return &ordersv1.CreateOrderResponse{}, nil
}

// GetMenu is public.
func (s *service) GetMenu(ctx context.Context, _ *ordersv1.GetMenuRequest) (*ordersv1.GetMenuResponse, error) {
	s.pass(ctx)
	return &ordersv1.GetMenuResponse{}, nil
}

// Audit has no guard.
func (s *service) Audit(ctx context.Context, _ *ordersv1.AuditRequest) (*ordersv1.AuditResponse, error) {
	s.pass(ctx)
	return &ordersv1.AuditResponse{}, nil
}

// WhoAmI needs a credential.
func (s *service) WhoAmI(ctx context.Context, _ *tollgatev1.WhoAmIRequest) (*tollgatev1.WhoAmIResponse, error) {
	s.pass(ctx)
	return &tollgatev1.WhoAmIResponse{}, nil
}

// GetUser needs tollgate:users:read, or to be about oneself.
func (s *service) GetUser(ctx context.Context, _ *tollgatev1.GetUserRequest) (*tollgatev1.GetUserResponse, error) {
	s.pass(ctx)
	return &tollgatev1.GetUserResponse{}, nil
}

// WatchEvents is a stream and needs tollgate:audit:read.
func (s *service) WatchEvents(ctx context.Context, _ *tollgatev1.WatchEventsRequest, _ *connect.ServerStream[tollgatev1.WatchEventsResponse]) error {
	s.pass(ctx)
	return nil
}

// protect serves s behind c and returns how to call it with a credential.
func (s *service) protect(t *testing.T, c *tollgate.Client) func(authorization ...string) callers {
	t.Helper()
	mux := http.NewServeMux()
	with := connect.WithInterceptors(c.Interceptor())
	mux.Handle(ordersv1connect.NewOrdersServiceHandler(s, with))
	mux.Handle(tollgatev1connect.NewAuthServiceHandler(s, with))
	mux.Handle(tollgatev1connect.NewAuditServiceHandler(s, with))
	url := serve(t, mux)
	return func(authorization ...string) callers {
		with := connect.WithInterceptors(presents(authorization))
		return callers{
			ordersv1connect.NewOrdersServiceClient(http.DefaultClient, url, with),
			tollgatev1connect.NewAuthServiceClient(http.DefaultClient, url, with),
			tollgatev1connect.NewAuditServiceClient(http.DefaultClient, url, with),
		}
	}
}

type callers struct {
	orders ordersv1connect.OrdersServiceClient
	auth   tollgatev1connect.AuthServiceClient
	audit  tollgatev1connect.AuditServiceClient
}

func (c callers) create(t *testing.T) error {
	_, err := c.orders.CreateOrder(t.Context(), &ordersv1.CreateOrderRequest{})
	return err
}

func (c callers) watch(t *testing.T) error {
	stream, err := c.audit.WatchEvents(t.Context(), &tollgatev1.WatchEventsRequest{})
	if err != nil {
		return err
	}
	for stream.Receive() {
	}
	return errors.Join(stream.Err(), stream.Close())
}

// presents adds Authorization headers to calls.
type presents []string

func (p presents) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
		req.Header()["Authorization"] = p
		return next(ctx, req)
	}
}

func (p presents) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return func(ctx context.Context, spec connect.Spec) connect.StreamingClientConn {
		conn := next(ctx, spec)
		conn.RequestHeader()["Authorization"] = p
		return conn
	}
}

func (p presents) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return next
}

func TestInterceptorRefuses(t *testing.T) {
	for _, test := range refusals {
		for kind, call := range map[string]func(callers, *testing.T) error{"unary": callers.create, "stream": callers.watch} {
			t.Run(test.name+"/"+kind, func(t *testing.T) {
				var s service
				err := call(s.protect(t, decided(test.decision).start(t))("Bearer alice.token"), t)
				if len(s.through) > 0 {
					t.Fatal("the call got through")
				}
				told := wantRefusal(t, err, test.code, test.reason)
				wantHeader(t, told.Meta(), "WWW-Authenticate", test.challenge)
				wantHeader(t, told.Meta(), "Retry-After", test.retryAfter)
				if (retryInfo(told) != nil) != (test.retryAfter != "") {
					t.Errorf("RetryInfo %v, want it with Retry-After", retryInfo(told))
				}
			})
		}
	}
}

func TestInterceptorFailsClosed(t *testing.T) {
	for name, outage := range outages {
		t.Run(name, func(t *testing.T) {
			f := &fake{
				authorize: func(*tollgatev1.AuthorizeRequest) (*tollgatev1.AuthorizeResponse, error) { return nil, outage.err },
				verify:    func(*tollgatev1.VerifyRequest) (*tollgatev1.VerifyResponse, error) { return nil, outage.err },
			}
			var s service
			as := s.protect(t, f.start(t))("Bearer alice.token")
			_, byVerify := as.auth.WhoAmI(t.Context(), &tollgatev1.WhoAmIRequest{})
			_, bySelf := as.auth.GetUser(t.Context(), &tollgatev1.GetUserRequest{Id: "u-alice"})
			for _, err := range []error{as.create(t), as.watch(t), byVerify, bySelf} {
				told := wantRefusal(t, err, connect.CodeUnavailable, "DEPENDENCY_DOWN")
				wantHeader(t, told.Meta(), "Retry-After", outage.retryAfter)
			}
			if len(s.through) > 0 {
				t.Error("a call got through")
			}
		})
	}
}

func wantRefusal(t *testing.T, err error, code connect.Code, reason string) *connect.Error {
	t.Helper()
	var told *connect.Error
	if !errors.As(err, &told) || told.Code() != code {
		t.Fatalf("error %v, want %s", err, code)
	}
	for _, detail := range told.Details() {
		if info, err := detail.Value(); err == nil {
			if info, ok := info.(*errdetails.ErrorInfo); ok {
				if info.GetReason() != reason {
					t.Errorf("reason %s, want %s", info.GetReason(), reason)
				}
				return told
			}
		}
	}
	t.Error("there is no ErrorInfo")
	return told
}

func retryInfo(err *connect.Error) *errdetails.RetryInfo {
	for _, detail := range err.Details() {
		if info, err := detail.Value(); err == nil {
			if info, ok := info.(*errdetails.RetryInfo); ok {
				return info
			}
		}
	}
	return nil
}

func TestInterceptorLetsPass(t *testing.T) {
	for kind, call := range map[string]func(callers, *testing.T) error{"unary": callers.create, "stream": callers.watch} {
		t.Run(kind, func(t *testing.T) {
			var s service
			f := decided(allowed())
			if err := call(s.protect(t, f.start(t))("Bearer alice.token"), t); err != nil {
				t.Fatal(err)
			}
			if len(s.through) != 1 || s.through[0].Username != "alice" {
				t.Errorf("through %v", s.through)
			}
			got := f.asked(t)
			permission := map[string]string{"unary": "orders:write", "stream": "tollgate:audit:read"}[kind]
			if got.GetPermission() != permission || got.GetAccessToken() != "alice.token" ||
				got.GetClient().GetIp() != "127.0.0.1" || got.GetClient().GetUserAgent() == "" ||
				!strings.Contains(got.GetResource(), "Service/") {
				t.Errorf("asked %v", got)
			}
		})
	}
}

func TestInterceptorDeniesWithoutGuard(t *testing.T) {
	var s service
	f := decided(allowed())
	_, err := s.protect(t, f.start(t))("Bearer alice.token").orders.Audit(t.Context(), &ordersv1.AuditRequest{})
	wantRefusal(t, err, connect.CodePermissionDenied, "NO_GUARD")
	if len(s.through) > 0 || len(f.authorization) > 0 {
		t.Errorf("through %v, Tollgate asked %d times", s.through, len(f.authorization))
	}
}

// A guard that does not say who may call lets nobody call; nor does a handler
// without a schema.
func TestInterceptorDeniesWithoutRule(t *testing.T) {
	for name, guard := range map[string]*tollgatev1.Guard{
		"no schema":         nil,
		"no rule":           {Self: "id"},
		"not public":        {Rule: &tollgatev1.Guard_Public{}},
		"not authenticated": {Rule: &tollgatev1.Guard_Authenticated{}},
		"no permission":     {Rule: &tollgatev1.Guard_Permission{}},
	} {
		t.Run(name, func(t *testing.T) {
			f := decided(allowed())
			h := connect.NewUnaryHandlerSimple("/x.y.Z/Do",
				func(context.Context, *ordersv1.GetMenuRequest) (*ordersv1.GetMenuResponse, error) {
					t.Error("the call got through")
					return &ordersv1.GetMenuResponse{}, nil
				}, connect.WithInterceptors(f.start(t).Interceptor()), connect.WithSchema(method(t, guard)))
			client := connect.NewClient[ordersv1.GetMenuRequest, ordersv1.GetMenuResponse](
				http.DefaultClient, serve(t, h)+"/x.y.Z/Do", connect.WithInterceptors(presents{"Bearer alice.token"}))
			_, err := client.CallUnary(t.Context(), connect.NewRequest(&ordersv1.GetMenuRequest{}))
			wantRefusal(t, err, connect.CodePermissionDenied, "NO_GUARD")
		})
	}
}

// method describes an RPC with this guard; nil for nil.
func method(t *testing.T, guard *tollgatev1.Guard) any {
	t.Helper()
	if guard == nil {
		return nil
	}
	options := &descriptorpb.MethodOptions{}
	proto.SetExtension(options, tollgatev1.E_Guard, guard)
	file, err := protodesc.NewFile(&descriptorpb.FileDescriptorProto{
		Name: proto.String("z.proto"), Package: proto.String("x.y"), Syntax: proto.String("proto3"),
		MessageType: []*descriptorpb.DescriptorProto{{Name: proto.String("M")}},
		Service: []*descriptorpb.ServiceDescriptorProto{{Name: proto.String("Z"), Method: []*descriptorpb.MethodDescriptorProto{
			{Name: proto.String("Do"), InputType: proto.String(".x.y.M"), OutputType: proto.String(".x.y.M"), Options: options},
		}}},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return file.Services().Get(0).Methods().Get(0)
}

func TestInterceptorPublic(t *testing.T) {
	var s service
	f := &fake{}
	_, err := s.protect(t, f.start(t))("Bearer no token").orders.GetMenu(t.Context(), &ordersv1.GetMenuRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if len(s.through) != 1 || s.through[0] != nil || len(f.authorization) > 0 {
		t.Errorf("through %v, Tollgate asked %d times", s.through, len(f.authorization))
	}
}

func TestInterceptorAuthenticated(t *testing.T) {
	passwordChange := refused(tollgatev1.Reason_REASON_PASSWORD_CHANGE_REQUIRED)
	passwordChange.Principal = alice
	for _, test := range []struct {
		name          string
		decision      *tollgatev1.AuthorizeResponse
		authorization []string
		asked         int
		code          connect.Code // 0: it passes
		reason        string
	}{
		{"good", allowed(), []string{"Bearer alice.token"}, 1, 0, ""},
		{"expired", refused(tollgatev1.Reason_REASON_CREDENTIAL_EXPIRED), []string{"Bearer alice.token"}, 1, connect.CodeUnauthenticated, "CREDENTIAL_EXPIRED"},
		{"none", allowed(), nil, 0, connect.CodeUnauthenticated, "CREDENTIAL_MISSING"},
		{"two", allowed(), []string{"Bearer alice.token", "Bearer alice.token"}, 1, connect.CodePermissionDenied, "OK"},
		{"malformed", refused(tollgatev1.Reason_REASON_CREDENTIAL_MISSING), []string{"Bearer a b"}, 1, connect.CodeUnauthenticated, "CREDENTIAL_INVALID"},
		{"over a limit", limited(0), []string{"Bearer alice.token"}, 1, connect.CodeResourceExhausted, "LIMITED"},
		{"must change password", passwordChange, []string{"Bearer alice.token"}, 1, connect.CodePermissionDenied, "PASSWORD_CHANGE_REQUIRED"},
		{"nobody's", &tollgatev1.AuthorizeResponse{Allowed: true}, []string{"Bearer alice.token"}, 1, connect.CodeUnavailable, "DEPENDENCY_DOWN"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var s service
			f := decided(test.decision)
			_, err := s.protect(t, f.start(t))(test.authorization...).auth.WhoAmI(t.Context(), &tollgatev1.WhoAmIRequest{})
			if test.code != 0 {
				wantRefusal(t, err, test.code, test.reason)
			} else if err != nil || len(s.through) != 1 || s.through[0].UserID != "u-alice" {
				t.Errorf("error %v, through %v", err, s.through)
			}
			if test.code != 0 && len(s.through) > 0 {
				t.Error("the call got through")
			}
			if len(f.authorized) != test.asked || len(f.verified) > 0 {
				t.Fatalf("Authorize was asked %d times, Verify %d times", len(f.authorized), len(f.verified))
			}
			for _, q := range f.authorized {
				if !q.GetAuthenticated() || q.GetPermission() != "tollgate:whoami" || q.GetClient().GetIp() != "127.0.0.1" {
					t.Errorf("asked %v", q)
				}
			}
		})
	}
}

// Whom a call is about goes with the one question.
func TestInterceptorSelf(t *testing.T) {
	for about, want := range map[string]string{"u-alice": "u-alice", "": "", strings.Repeat("x", 65): ""} {
		f := decided(allowed())
		var s service
		if _, err := s.protect(t, f.start(t))("Bearer alice.token").auth.GetUser(t.Context(), &tollgatev1.GetUserRequest{Id: about}); err != nil {
			t.Fatal(err)
		}
		if q := f.asked(t); q.GetSelf() != want || q.GetPermission() != "tollgate:users:read" || q.GetAuthenticated() {
			t.Errorf("about %q, asked %v", about, q)
		}
	}
}

// Bad credentials count and are on record under every rule.
func TestInterceptorHasBadCredentialsCounted(t *testing.T) {
	server := sdktest.NewServer()
	defer server.Close()
	alice := server.SetUser(sdktest.User{Name: "alice"})
	var s service
	protected := s.protect(t, server.Client())
	calls := map[string]func(callers) error{
		"authenticated": func(as callers) error {
			_, err := as.auth.WhoAmI(t.Context(), &tollgatev1.WhoAmIRequest{})
			return err
		},
		"self": func(as callers) error {
			_, err := as.auth.GetUser(t.Context(), &tollgatev1.GetUserRequest{Id: alice.ID})
			return err
		},
		"permission": func(as callers) error { return as.create(t) },
	}
	for name, call := range calls {
		t.Run(name, func(t *testing.T) {
			server.SetLimit(sdktest.Limit{Name: "per-ip", Permission: "*", Calls: 3})
			before := len(server.Decisions())
			for range 3 {
				wantRefusal(t, call(protected("Bearer "+server.Token("alice")+"x")), connect.CodeUnauthenticated, "CREDENTIAL_INVALID")
			}
			wantRefusal(t, call(protected("Bearer "+server.Token("alice")+"x")), connect.CodeResourceExhausted, "LIMITED")
			if n := len(server.Decisions()) - before; n != 4 {
				t.Errorf("Tollgate decided %d times, want 4", n)
			}
		})
	}
	server.SetLimit(sdktest.Limit{Name: "per-ip", Permission: "*", Calls: 3})
	for _, rule := range []string{"authenticated", "self"} {
		if err := calls[rule](protected("Bearer " + server.Token("alice"))); err != nil {
			t.Errorf("%s: %v", rule, err)
		}
	}
	wantRefusal(t, calls["self"](protected("Bearer "+server.APIKey("alice"))), connect.CodePermissionDenied, "PERMISSION_MISSING")
}

// As an interceptor of a client it is in the wrong place, and does no harm.
func TestInterceptorLeavesClientsAlone(t *testing.T) {
	var s service
	f := decided(allowed())
	c := f.start(t)
	mux := http.NewServeMux()
	mux.Handle(ordersv1connect.NewOrdersServiceHandler(&s))
	client := ordersv1connect.NewOrdersServiceClient(http.DefaultClient, serve(t, mux), connect.WithInterceptors(c.Interceptor()))
	if _, err := client.Audit(t.Context(), &ordersv1.AuditRequest{}); err != nil {
		t.Error(err)
	}
}
