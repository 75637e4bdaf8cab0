package tollgate_test

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
	"github.com/tollgatehq/tollgate/gen/tollgate/v1/tollgatev1connect"
	tollgate "github.com/tollgatehq/tollgate/sdk"
	"google.golang.org/protobuf/types/known/durationpb"
)

// serviceKey is the credential of the service under test.
const serviceKey = "tg_service_secret"

// fake is a Tollgate that answers as a test says and remembers what it was
// asked. The embedded handlers refuse everything else.
type fake struct {
	tollgatev1connect.UnimplementedAuthServiceHandler
	tollgatev1connect.UnimplementedRolesServiceHandler
	tollgatev1connect.UnimplementedLimitsServiceHandler
	tollgatev1connect.UnimplementedAuditServiceHandler

	verify    func(*tollgatev1.VerifyRequest) (*tollgatev1.VerifyResponse, error)
	authorize func(*tollgatev1.AuthorizeRequest) (*tollgatev1.AuthorizeResponse, error)
	check     func(*tollgatev1.CheckLimitRequest) (*tollgatev1.CheckLimitResponse, error)

	mu            sync.Mutex
	authorization []string // of every request
	verified      []*tollgatev1.VerifyRequest
	authorized    []*tollgatev1.AuthorizeRequest
	recorded      []*tollgatev1.RecordEventRequest
}

func (f *fake) Verify(_ context.Context, req *tollgatev1.VerifyRequest) (*tollgatev1.VerifyResponse, error) {
	f.mu.Lock()
	f.verified = append(f.verified, req)
	f.mu.Unlock()
	return f.verify(req)
}

func (f *fake) Authorize(_ context.Context, req *tollgatev1.AuthorizeRequest) (*tollgatev1.AuthorizeResponse, error) {
	f.mu.Lock()
	f.authorized = append(f.authorized, req)
	f.mu.Unlock()
	return f.authorize(req)
}

func (f *fake) BatchAuthorize(ctx context.Context, req *tollgatev1.BatchAuthorizeRequest) (*tollgatev1.BatchAuthorizeResponse, error) {
	res := &tollgatev1.BatchAuthorizeResponse{}
	for _, r := range req.GetRequests() {
		one, err := f.Authorize(ctx, r)
		if err != nil {
			return nil, err
		}
		if one != nil {
			res.Responses = append(res.Responses, one)
		}
	}
	return res, nil
}

func (f *fake) CheckLimit(_ context.Context, req *tollgatev1.CheckLimitRequest) (*tollgatev1.CheckLimitResponse, error) {
	return f.check(req)
}

func (f *fake) RecordEvent(_ context.Context, req *tollgatev1.RecordEventRequest) (*tollgatev1.RecordEventResponse, error) {
	f.mu.Lock()
	f.recorded = append(f.recorded, req)
	f.mu.Unlock()
	return &tollgatev1.RecordEventResponse{}, nil
}

// asked returns the one Authorize that was asked.
func (f *fake) asked(t *testing.T) *tollgatev1.AuthorizeRequest {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.authorized) != 1 {
		t.Fatalf("Authorize was asked %d times, want once", len(f.authorized))
	}
	return f.authorized[0]
}

func (f *fake) handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle(tollgatev1connect.NewAuthServiceHandler(f))
	mux.Handle(tollgatev1connect.NewRolesServiceHandler(f))
	mux.Handle(tollgatev1connect.NewLimitsServiceHandler(f))
	mux.Handle(tollgatev1connect.NewAuditServiceHandler(f))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		f.authorization = append(f.authorization, r.Header.Get("Authorization"))
		f.mu.Unlock()
		mux.ServeHTTP(w, r)
	})
}

func serve(t *testing.T, h http.Handler) string {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	return server.URL
}

func newClient(t *testing.T, url string, opts ...tollgate.Option) *tollgate.Client {
	t.Helper()
	opts = append([]tollgate.Option{
		tollgate.WithAPIKey(serviceKey), tollgate.WithTimeout(10 * time.Second),
		tollgate.WithLogger(slog.New(slog.DiscardHandler)),
	}, opts...)
	c, err := tollgate.New(url, opts...)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// start serves f and returns a client of it.
func (f *fake) start(t *testing.T, opts ...tollgate.Option) *tollgate.Client {
	t.Helper()
	return newClient(t, serve(t, f.handler()), opts...)
}

var alice = &tollgatev1.Principal{
	UserId: "u-alice", Username: "alice", Kind: tollgatev1.UserKind_USER_KIND_PERSON,
	Roles: []string{"clerk"}, SessionId: "s-1",
}

// decided is a fake that decides every call so.
func decided(res *tollgatev1.AuthorizeResponse) *fake {
	return &fake{authorize: func(*tollgatev1.AuthorizeRequest) (*tollgatev1.AuthorizeResponse, error) { return res, nil }}
}

func allowed() *tollgatev1.AuthorizeResponse {
	return &tollgatev1.AuthorizeResponse{Allowed: true, Reason: tollgatev1.Reason_REASON_OK, Principal: alice, Revision: 7}
}

func refused(reason tollgatev1.Reason) *tollgatev1.AuthorizeResponse {
	return &tollgatev1.AuthorizeResponse{Reason: reason}
}

func limited(wait time.Duration) *tollgatev1.AuthorizeResponse {
	res := refused(tollgatev1.Reason_REASON_LIMITED)
	if wait > 0 {
		res.RetryAfter = durationpb.New(wait)
	}
	res.Limits = []*tollgatev1.LimitStatus{
		{Name: "trial", Limit: 1, Shadow: true, Exceeded: true},
		{Name: "per-user", Limit: 10, Remaining: 0, Reset_: durationpb.New(59500 * time.Millisecond), Exceeded: true},
		{Name: "per-ip", Limit: 100, Remaining: 3},
	}
	return res
}

// refusals is what every kind of decision against a call becomes at both doors.
var refusals = []struct {
	name       string
	decision   *tollgatev1.AuthorizeResponse
	code       connect.Code
	status     int
	reason     string
	challenge  string
	retryAfter string
}{
	{"missing", refused(tollgatev1.Reason_REASON_CREDENTIAL_MISSING), connect.CodeUnauthenticated, 401, "CREDENTIAL_MISSING", `Bearer`, ""},
	{"invalid", refused(tollgatev1.Reason_REASON_CREDENTIAL_INVALID), connect.CodeUnauthenticated, 401, "CREDENTIAL_INVALID", `Bearer error="invalid_token"`, ""},
	{"expired", refused(tollgatev1.Reason_REASON_CREDENTIAL_EXPIRED), connect.CodeUnauthenticated, 401, "CREDENTIAL_EXPIRED", `Bearer error="invalid_token"`, ""},
	{"revoked", refused(tollgatev1.Reason_REASON_CREDENTIAL_REVOKED), connect.CodeUnauthenticated, 401, "CREDENTIAL_REVOKED", `Bearer error="invalid_token"`, ""},
	{"disabled", refused(tollgatev1.Reason_REASON_USER_DISABLED), connect.CodeUnauthenticated, 401, "USER_DISABLED", `Bearer error="invalid_token"`, ""},
	{"unknown user", refused(tollgatev1.Reason_REASON_USER_UNKNOWN), connect.CodeUnauthenticated, 401, "USER_UNKNOWN", `Bearer error="invalid_token"`, ""},
	{"audience", refused(tollgatev1.Reason_REASON_WRONG_AUDIENCE), connect.CodeUnauthenticated, 401, "WRONG_AUDIENCE", `Bearer error="invalid_token"`, ""},
	{"second factor", refused(tollgatev1.Reason_REASON_SECOND_FACTOR_REQUIRED), connect.CodeUnauthenticated, 401, "SECOND_FACTOR_REQUIRED", `Bearer error="insufficient_user_authentication"`, ""},
	{"sign-in", refused(tollgatev1.Reason_REASON_SIGN_IN_REQUIRED), connect.CodeUnauthenticated, 401, "SIGN_IN_REQUIRED", `Bearer error="insufficient_user_authentication"`, ""},
	{"permission", refused(tollgatev1.Reason_REASON_PERMISSION_MISSING), connect.CodePermissionDenied, 403, "PERMISSION_MISSING", `Bearer error="insufficient_scope"`, ""},
	{"scope", refused(tollgatev1.Reason_REASON_SCOPE_MISSING), connect.CodePermissionDenied, 403, "SCOPE_MISSING", `Bearer error="insufficient_scope"`, ""},
	{"password", refused(tollgatev1.Reason_REASON_PASSWORD_CHANGE_REQUIRED), connect.CodePermissionDenied, 403, "PASSWORD_CHANGE_REQUIRED", `Bearer error="insufficient_scope"`, ""},
	{"limited", limited(11500 * time.Millisecond), connect.CodeResourceExhausted, 429, "LIMITED", "", "12"},
	{"limited for less than a second", limited(time.Millisecond), connect.CodeResourceExhausted, 429, "LIMITED", "", "1"},
	{"limited for good", limited(0), connect.CodeResourceExhausted, 429, "LIMITED", "", ""},
	{"a reason of the future", refused(99), connect.CodePermissionDenied, 403, "99", `Bearer error="insufficient_scope"`, ""},
	{"no, for no reason", refused(tollgatev1.Reason_REASON_OK), connect.CodePermissionDenied, 403, "OK", `Bearer error="insufficient_scope"`, ""},
}

// outages is how asking can fail; each becomes Unavailable at both doors, for
// the caller has done nothing wrong.
var outages = map[string]struct {
	err        error
	retryAfter string
}{
	"Tollgate is down":                {connect.NewError(connect.CodeUnavailable, nil), "1"},
	"our key was revoked":             {connect.NewError(connect.CodeUnauthenticated, nil), "1"},
	"our key may not ask":             {connect.NewError(connect.CodePermissionDenied, nil), "1"},
	"we ask too often":                {retryIn("30", connect.CodeResourceExhausted), "30"},
	"Tollgate finds the question bad": {connect.NewError(connect.CodeInvalidArgument, nil), "1"},
	"Tollgate has a bug":              {connect.NewError(connect.CodeInternal, nil), "1"},
}

func retryIn(seconds string, code connect.Code) error {
	err := connect.NewError(code, nil)
	err.Meta().Set("Retry-After", seconds)
	return err
}
