package tollgate_test

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"

	"connectrpc.com/connect"
	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
	tollgate "github.com/tollgatehq/tollgate/sdk"
	ordersv1 "github.com/tollgatehq/tollgate/sdk/examples/orders/gen/orders/v1"
	"github.com/tollgatehq/tollgate/sdk/examples/orders/gen/orders/v1/ordersv1connect"
	"github.com/tollgatehq/tollgate/sdk/sdktest"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/types/descriptorpb"
)

type (
	getRequest  = ordersv1.GetOrderRequest
	getResponse = ordersv1.GetOrderResponse
)

var (
	ordersWrite   = &tollgatev1.Guard{Rule: &tollgatev1.Guard_Permission{Permission: "orders:write"}}
	self          = &tollgatev1.Guard{Rule: &tollgatev1.Guard_Permission{Permission: "users:read"}, Self: "id"}
	authenticated = &tollgatev1.Guard{Rule: &tollgatev1.Guard_Authenticated{Authenticated: true}, Action: "me:read"}
)

// service has a unary RPC and a stream with the same guard, and records who
// called them.
type service struct {
	url    string
	passed []*tollgate.Principal
	// stream is the handler of the stream; nil: it ends at once.
	stream func(context.Context, *connect.ServerStream[getResponse]) error
}

func newService(t *testing.T, interceptor connect.Interceptor, guard *tollgatev1.Guard) *service {
	t.Helper()
	s, mux := &service{}, http.NewServeMux()
	with := connect.WithHandlerOptions(connect.WithInterceptors(interceptor), connect.WithSchema(method(t, guard)))
	mux.Handle("/x.y.Z/Get", connect.NewUnaryHandlerSimple("/x.y.Z/Get",
		func(ctx context.Context, _ *getRequest) (*getResponse, error) {
			s.passed = append(s.passed, tollgate.FromContext(ctx))
			return &getResponse{}, nil
		}, with))
	mux.Handle("/x.y.Z/Watch", connect.NewServerStreamHandlerSimple("/x.y.Z/Watch",
		func(ctx context.Context, _ *getRequest, stream *connect.ServerStream[getResponse]) error {
			s.passed = append(s.passed, tollgate.FromContext(ctx))
			if s.stream == nil {
				return nil
			}
			return s.stream(ctx, stream)
		}, with))
	s.url = serve(t, mux)
	return s
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
		Name: new("z.proto"), Package: new("x.y"), Syntax: new("proto3"),
		MessageType: []*descriptorpb.DescriptorProto{{Name: new("M")}},
		Service: []*descriptorpb.ServiceDescriptorProto{{Name: new("Z"), Method: []*descriptorpb.MethodDescriptorProto{
			{Name: new("Do"), InputType: new(".x.y.M"), OutputType: new(".x.y.M"), Options: options},
		}}},
	}, nil)
	must(t, err)
	return file.Services().Get(0).Methods().Get(0)
}

// get calls the unary RPC about a user, with these Authorization headers.
func (s *service) get(ctx context.Context, id string, authorization ...string) error {
	req := connect.NewRequest(&getRequest{Id: id})
	req.Header()["Authorization"] = authorization
	client := connect.NewClient[getRequest, getResponse](http.DefaultClient, s.url+"/x.y.Z/Get")
	_, err := client.CallUnary(ctx, req)
	return err
}

// watch calls the stream and returns how it ended.
func (s *service) watch(ctx context.Context, authorization ...string) error {
	req := connect.NewRequest(&getRequest{})
	req.Header()["Authorization"] = authorization
	client := connect.NewClient[getRequest, getResponse](http.DefaultClient, s.url+"/x.y.Z/Watch")
	stream, err := client.CallServerStream(ctx, req)
	if err != nil {
		return err
	}
	for stream.Receive() {
	}
	return errors.Join(stream.Err(), stream.Close())
}

// both calls the unary RPC and the stream.
func (s *service) both(ctx context.Context, authorization ...string) map[string]error {
	return map[string]error{"unary": s.get(ctx, "", authorization...), "stream": s.watch(ctx, authorization...)}
}

// wantRefusal returns err as a *connect.Error with this code and reason.
func wantRefusal(t *testing.T, err error, code connect.Code, reason string) *connect.Error {
	t.Helper()
	got, ok := errors.AsType[*connect.Error](err)
	if !ok || got.Code() != code {
		t.Fatalf("error %v, want %s", err, code)
	}
	if info := detail[*errdetails.ErrorInfo](got); info.GetReason() != reason {
		t.Errorf("reason %s, want %s", info.GetReason(), reason)
	}
	return got
}

// detail returns the error's detail of this type; the zero value if there is none.
func detail[T proto.Message](err *connect.Error) (found T) {
	for _, detail := range err.Details() {
		if value, err := detail.Value(); err == nil {
			if value, ok := value.(T); ok {
				return value
			}
		}
	}
	return found
}

func TestInterceptorRefuses(t *testing.T) {
	t.Parallel()
	for _, test := range refusals {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := newService(t, deciding(t, test.decision).client(t).Interceptor(), ordersWrite)
			for _, err := range s.both(t.Context(), "Bearer alice.token") {
				refusal := wantRefusal(t, err, test.code, test.reason)
				wantHeader(t, refusal.Meta(), "WWW-Authenticate", test.challenge)
				wantHeader(t, refusal.Meta(), "Retry-After", test.retryAfter)
				if info := detail[*errdetails.RetryInfo](refusal); (info != nil) != (test.retryAfter != "") {
					t.Errorf("RetryInfo %v, want it with Retry-After", info)
				}
			}
			if len(s.passed) > 0 {
				t.Error("a call got to the handler")
			}
		})
	}
}

func TestInterceptorFailsClosed(t *testing.T) {
	t.Parallel()
	for name, outage := range outages {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			interceptor := failing(t, outage.err).client(t).Interceptor()
			for _, guard := range []*tollgatev1.Guard{ordersWrite, self, authenticated} {
				s := newService(t, interceptor, guard)
				for _, err := range s.both(t.Context(), "Bearer alice.token") {
					refusal := wantRefusal(t, err, connect.CodeUnavailable, "DEPENDENCY_DOWN")
					wantHeader(t, refusal.Meta(), "Retry-After", outage.retryAfter)
				}
				if len(s.passed) > 0 {
					t.Error("a call got to the handler")
				}
			}
		})
	}
}

func TestInterceptorPasses(t *testing.T) {
	t.Parallel()
	for path, call := range map[string]func(*service) error{
		"x.y.Z/Get":   func(s *service) error { return s.get(t.Context(), "", "Bearer alice.token") },
		"x.y.Z/Watch": func(s *service) error { return s.watch(t.Context(), "Bearer alice.token") },
	} {
		f := deciding(t, allowed())
		s := newService(t, f.client(t).Interceptor(), ordersWrite)
		must(t, call(s))
		if len(s.passed) != 1 || s.passed[0].Username != "alice" {
			t.Errorf("passed %v", s.passed)
		}
		got := f.asked(t)
		if got.GetPermission() != "orders:write" || got.GetAccessToken() != "alice.token" || got.GetResource() != path ||
			got.GetClient().GetIp() != "127.0.0.1" || got.GetClient().GetUserAgent() == "" {
			t.Errorf("asked %v", got)
		}
	}
}

// TestInterceptorGuards: a guard that says nothing refuses every call, as does a
// handler without a schema.
func TestInterceptorGuards(t *testing.T) {
	t.Parallel()
	for name, guard := range map[string]*tollgatev1.Guard{
		"no schema":         nil,
		"no rule":           {Self: "id"},
		"not public":        {Rule: &tollgatev1.Guard_Public{}},
		"not authenticated": {Rule: &tollgatev1.Guard_Authenticated{}},
		"no permission":     {Rule: &tollgatev1.Guard_Permission{}},
	} {
		t.Run(name, func(t *testing.T) {
			f := deciding(t, allowed())
			s := newService(t, f.client(t).Interceptor(), guard)
			for _, err := range s.both(t.Context(), "Bearer alice.token") {
				wantRefusal(t, err, connect.CodePermissionDenied, "NO_GUARD")
			}
			if len(s.passed) > 0 || len(f.authorization) > 0 {
				t.Errorf("passed %v, Tollgate got %d calls", s.passed, len(f.authorization))
			}
		})
	}
	t.Run("public", func(t *testing.T) {
		f := newFixture(t)
		s := newService(t, f.client(t).Interceptor(), &tollgatev1.Guard{Rule: &tollgatev1.Guard_Public{Public: true}})
		for _, err := range s.both(t.Context(), "Bearer no token") {
			if err != nil {
				t.Error(err)
			}
		}
		if len(s.passed) != 2 || s.passed[0] != nil || len(f.authorization) > 0 {
			t.Errorf("passed %v, Tollgate got %d calls", s.passed, len(f.authorization))
		}
	})
}

func TestInterceptorAuthenticated(t *testing.T) {
	t.Parallel()
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
		{"no principal", &tollgatev1.AuthorizeResponse{Allowed: true}, []string{"Bearer alice.token"}, 1, connect.CodeUnavailable, "DEPENDENCY_DOWN"},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := deciding(t, test.decision)
			s := newService(t, f.client(t).Interceptor(), authenticated)
			err := s.get(t.Context(), "", test.authorization...)
			switch {
			case test.code != 0:
				wantRefusal(t, err, test.code, test.reason)
				if len(s.passed) > 0 {
					t.Error("the call got to the handler")
				}
			case err != nil || len(s.passed) != 1 || s.passed[0].UserID != alicesUser:
				t.Errorf("error %v, passed %v", err, s.passed)
			}
			if len(f.authorization) != test.asked || len(f.requests) != test.asked {
				t.Fatalf("Tollgate got %d calls, %d of them Authorize", len(f.authorization), len(f.requests))
			}
			for _, q := range f.requests {
				if !q.GetAuthenticated() || q.GetPermission() != "me:read" || q.GetClient().GetIp() != "127.0.0.1" {
					t.Errorf("asked %v", q)
				}
			}
		})
	}
}

// TestInterceptorSelf: the request's user goes with the one call to Tollgate.
func TestInterceptorSelf(t *testing.T) {
	t.Parallel()
	for id, want := range map[string]string{alicesUser: alicesUser, "": "", strings.Repeat("x", 65): ""} {
		f := deciding(t, allowed())
		must(t, newService(t, f.client(t).Interceptor(), self).get(t.Context(), id, "Bearer alice.token"))
		if q := f.asked(t); q.GetSelf() != want || q.GetPermission() != "users:read" || q.GetAuthenticated() {
			t.Errorf("about %q, asked %v", id, q)
		}
	}
}

// TestInterceptorSelfOnly: no permission makes up for being another user.
func TestInterceptorSelfOnly(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.SetRole("all", "*")
	bob := f.SetUser(sdktest.User{Name: "bob", Roles: []string{"all"}})
	s := newService(t, f.client(t).Interceptor(), &tollgatev1.Guard{Rule: &tollgatev1.Guard_SelfOnly{SelfOnly: "id"}, Action: "me:write"})
	get := func(credential, id string) error { return s.get(t.Context(), id, "Bearer "+credential) }
	if err := get(f.Token("alice"), alicesUser); err != nil {
		t.Error(err)
	}
	wantRefusal(t, get(f.Token("bob"), alicesUser), connect.CodePermissionDenied, "SELF_ONLY")
	wantRefusal(t, get(f.APIKey("bob"), bob.ID), connect.CodePermissionDenied, "SELF_ONLY")
	wantRefusal(t, get("rubbish", alicesUser), connect.CodeUnauthenticated, "CREDENTIAL_INVALID")
	if len(s.passed) != 1 {
		t.Errorf("%d calls passed, want 1", len(s.passed))
	}
}

// TestInterceptorCountsBadCredentials: they count and are recorded under every
// rule.
func TestInterceptorCountsBadCredentials(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	interceptor := f.client(t).Interceptor()
	limit := sdktest.Limit{Name: "per-ip", Permission: "*", Calls: 3}
	for name, guard := range map[string]*tollgatev1.Guard{"permission": ordersWrite, "self": self, "authenticated": authenticated} {
		s := newService(t, interceptor, guard)
		f.SetLimit(limit)
		before := len(f.Decisions())
		for range 3 {
			wantRefusal(t, s.get(t.Context(), alicesUser, "Bearer "+f.Token("alice")+"x"), connect.CodeUnauthenticated, "CREDENTIAL_INVALID")
		}
		wantRefusal(t, s.get(t.Context(), alicesUser, "Bearer "+f.Token("alice")+"x"), connect.CodeResourceExhausted, "LIMITED")
		if n := len(f.Decisions()) - before; n != 4 {
			t.Errorf("%s: Tollgate decided %d times, want 4", name, n)
		}
		f.SetLimit(limit)
		if err := s.get(t.Context(), alicesUser, "Bearer "+f.Token("alice")); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	f.SetLimit(limit)
	s := newService(t, interceptor, self)
	wantRefusal(t, s.get(t.Context(), alicesUser, "Bearer "+f.APIKey("alice")), connect.CodePermissionDenied, "PERMISSION_MISSING")
}

// TestInterceptorOfAClient: calls of a client pass as they are.
func TestInterceptorOfAClient(t *testing.T) {
	t.Parallel()
	f, mux := newFixture(t), http.NewServeMux()
	mux.Handle(ordersv1connect.NewOrdersServiceHandler(ordersv1connect.UnimplementedOrdersServiceHandler{}))
	client := ordersv1connect.NewOrdersServiceClient(http.DefaultClient, serve(t, mux), connect.WithInterceptors(f.client(t).Interceptor()))
	if _, err := client.Audit(t.Context(), &ordersv1.AuditRequest{}); connect.CodeOf(err) != connect.CodeUnimplemented {
		t.Error(err)
	}
}

// TestInterceptorCost: a call with a list counts once for each entry.
func TestInterceptorCost(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	guard := &tollgatev1.Guard{Rule: ordersWrite.Rule, Cost: "events"}
	handler := connect.NewUnaryHandlerSimple("/x.y.Z/Get", func(context.Context, *tollgatev1.RecordEventsRequest) (*getResponse, error) {
		return &getResponse{}, nil
	}, connect.WithInterceptors(f.client(t).Interceptor()), connect.WithSchema(method(t, guard)))
	mux := http.NewServeMux()
	mux.Handle("/x.y.Z/Get", handler)
	client := connect.NewClient[tollgatev1.RecordEventsRequest, getResponse](http.DefaultClient, serve(t, mux)+"/x.y.Z/Get")
	for _, n := range []int{3, 0} {
		_, err := client.CallUnary(t.Context(), connect.NewRequest(&tollgatev1.RecordEventsRequest{
			Events: slices.Repeat([]*tollgatev1.RecordEventRequest{{}}, n),
		}))
		if connect.CodeOf(err) != connect.CodeUnauthenticated {
			t.Errorf("error %v", err)
		}
	}
	if got := f.Decisions(); len(got) != 2 || got[0].Request.GetCost() != 3 || got[1].Request.GetCost() != 0 {
		t.Errorf("asked %v", got)
	}
}
