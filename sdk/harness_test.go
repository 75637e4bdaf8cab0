package tollgate_test

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"
	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
	tollgate "github.com/tollgatehq/tollgate/sdk"
	"github.com/tollgatehq/tollgate/sdk/conditions"
	"github.com/tollgatehq/tollgate/sdk/sdktest"
	"google.golang.org/protobuf/types/known/durationpb"
)

const (
	keysPath   = "/.well-known/jwks.json"
	alicesUser = "user-alice"
	password   = "correct horse"
)

// fixture is a Tollgate with the user alice. A test sets its clock, may replace
// its answers, and may stand between it and its clients.
type fixture struct {
	*sdktest.Server
	*clock
	*recorder
	verifier *tollgate.Verifier

	next  http.RoundTripper
	trips atomic.Pointer[tripper] // nil: next
}

// newFixture returns a fixture whose feed of revocations has no keep-alives.
func newFixture(t testing.TB, answers ...answerFunc) *fixture {
	t.Helper()
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	f := &fixture{clock: &clock{t: time.Unix(1_800_000_000, 0)}, recorder: &recorder{answers: answers}, next: transport}
	f.Server = sdktest.NewServer(sdktest.WithClock(f.now), sdktest.WithKeepAlive(time.Hour), sdktest.WithConditions(conditions.Evaluator()),
		sdktest.WithInterceptors(connect.UnaryInterceptorFunc(f.record)))
	t.Cleanup(f.Close)
	f.SetRole("clerk", "orders:*")
	f.SetUser(sdktest.User{Name: "alice", Password: password, Roles: []string{"clerk"}})
	return f
}

// newVerifierFixture returns one with a warm verifier, whose feed is lost after
// an hour.
func newVerifierFixture(t testing.TB) *fixture {
	t.Helper()
	f := newFixture(t)
	f.startVerifier(t, tollgate.VerifierConfig{})
	f.waitFor(t, 0)
	return f
}

func (f *fixture) startVerifier(t testing.TB, config tollgate.VerifierConfig, opts ...tollgate.Option) {
	t.Helper()
	config.Issuer = sdktest.Issuer
	if config.Audience == "" {
		config.Audience = sdktest.Audience
	}
	if config.FeedBound == 0 {
		config.FeedBound = time.Hour
	}
	verifier, err := tollgate.NewVerifier(f.client(t, opts...), config)
	must(t, err)
	t.Cleanup(verifier.Close)
	f.verifier = verifier
}

// waitFor waits until the verifier knows a revision.
func (f *fixture) waitFor(t testing.TB, revision int64) {
	t.Helper()
	must(t, f.verifier.Wait(t.Context(), revision))
}

func (f *fixture) options() []tollgate.Option {
	return []tollgate.Option{
		tollgate.WithClock(f.now), tollgate.WithTimeout(30 * time.Second), tollgate.WithLogger(slog.New(slog.DiscardHandler)),
		tollgate.WithHTTPClient(&http.Client{Transport: tripper(func(r *http.Request) (*http.Response, error) {
			if trip := f.trips.Load(); trip != nil && *trip != nil {
				return (*trip)(r)
			}
			return f.next.RoundTrip(r)
		})}),
	}
}

func (f *fixture) client(t testing.TB, opts ...tollgate.Option) *tollgate.Client {
	t.Helper()
	return newClient(t, f.URL, append(f.options(), opts...)...)
}

func newClient(t testing.TB, url string, opts ...tollgate.Option) *tollgate.Client {
	t.Helper()
	c, err := tollgate.New(url, append([]tollgate.Option{tollgate.WithAPIKey(sdktest.ServiceKey)}, opts...)...)
	must(t, err)
	return c
}

// intercept sends the requests of the fixture's clients through trip; nil sends
// them to the server.
func (f *fixture) intercept(trip tripper) { f.trips.Store(&trip) }

type tripper func(*http.Request) (*http.Response, error)

func (f tripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// clock is a time that a test sets.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

// answerFunc replaces the answer to a message; nil and nil for other messages.
type answerFunc func(message any) (connect.AnyResponse, error)

func answering[Req, Res any](f func(*Req) (*Res, error)) answerFunc {
	return func(message any) (connect.AnyResponse, error) {
		req, ok := message.(*Req)
		if !ok {
			return nil, nil
		}
		res, err := f(req)
		if err != nil {
			return nil, err
		}
		return connect.NewResponse(res), nil
	}
}

// recorder keeps what a server was asked.
type recorder struct {
	answers []answerFunc

	mu            sync.Mutex
	authorization []string // of every unary call
	requests      []*tollgatev1.AuthorizeRequest
}

func (r *recorder) record(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
		r.mu.Lock()
		r.authorization = append(r.authorization, req.Header().Get("Authorization"))
		if asked, ok := req.Any().(*tollgatev1.AuthorizeRequest); ok {
			r.requests = append(r.requests, asked)
		}
		r.mu.Unlock()
		for _, answer := range r.answers {
			if res, err := answer(req.Any()); res != nil || err != nil {
				return res, err
			}
		}
		return next(ctx, req)
	}
}

// asked returns the one request that Authorize got.
func (r *recorder) asked(t *testing.T) *tollgatev1.AuthorizeRequest {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.requests) != 1 {
		t.Fatalf("Authorize got %d requests, want 1", len(r.requests))
	}
	return r.requests[0]
}

// deciding returns a fixture that makes the same decision about every call.
func deciding(t *testing.T, res *tollgatev1.AuthorizeResponse) *fixture {
	t.Helper()
	return newFixture(t, answering(func(*tollgatev1.AuthorizeRequest) (*tollgatev1.AuthorizeResponse, error) { return res, nil }))
}

// failing returns a fixture whose Authorize fails.
func failing(t *testing.T, err error) *fixture {
	t.Helper()
	return newFixture(t, answering(func(*tollgatev1.AuthorizeRequest) (*tollgatev1.AuthorizeResponse, error) { return nil, err }))
}

// must ends the test at an error.
func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func serve(t *testing.T, h http.Handler) string {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	return server.URL
}

// unanswered returns the URL of a server that takes requests and never answers.
func unanswered(t *testing.T) string {
	t.Helper()
	ended := make(chan struct{})
	url := serve(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-ended:
		case <-r.Context().Done():
		}
	}))
	t.Cleanup(func() { close(ended) })
	return url
}

func wantHeader(t *testing.T, h http.Header, name, want string) {
	t.Helper()
	if got := strings.Join(h.Values(name), " | "); got != want {
		t.Errorf("%s: %q, want %q", name, got, want)
	}
}

var alice = &tollgatev1.Principal{
	UserId: alicesUser, Username: "alice", Kind: tollgatev1.UserKind_USER_KIND_PERSON,
	Roles: []string{"clerk"}, SessionId: "s-1",
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

const (
	noToken  = `Bearer`
	badToken = `Bearer error="invalid_token"`
	stepUp   = `Bearer error="insufficient_user_authentication"`
	noScope  = `Bearer error="insufficient_scope"`
)

// refusals is the answer of middleware and interceptor to every decision against
// a call.
var refusals = []struct {
	name       string
	decision   *tollgatev1.AuthorizeResponse
	code       connect.Code
	status     int
	reason     string
	challenge  string
	retryAfter string
}{
	{"missing", refused(tollgatev1.Reason_REASON_CREDENTIAL_MISSING), connect.CodeUnauthenticated, 401, "CREDENTIAL_MISSING", noToken, ""},
	{"invalid", refused(tollgatev1.Reason_REASON_CREDENTIAL_INVALID), connect.CodeUnauthenticated, 401, "CREDENTIAL_INVALID", badToken, ""},
	{"expired", refused(tollgatev1.Reason_REASON_CREDENTIAL_EXPIRED), connect.CodeUnauthenticated, 401, "CREDENTIAL_EXPIRED", badToken, ""},
	{"revoked", refused(tollgatev1.Reason_REASON_CREDENTIAL_REVOKED), connect.CodeUnauthenticated, 401, "CREDENTIAL_REVOKED", badToken, ""},
	{"disabled", refused(tollgatev1.Reason_REASON_USER_DISABLED), connect.CodeUnauthenticated, 401, "USER_DISABLED", badToken, ""},
	{"unknown user", refused(tollgatev1.Reason_REASON_USER_UNKNOWN), connect.CodeUnauthenticated, 401, "USER_UNKNOWN", badToken, ""},
	{"audience", refused(tollgatev1.Reason_REASON_WRONG_AUDIENCE), connect.CodeUnauthenticated, 401, "WRONG_AUDIENCE", badToken, ""},
	{"second factor", refused(tollgatev1.Reason_REASON_SECOND_FACTOR_REQUIRED), connect.CodeUnauthenticated, 401, "SECOND_FACTOR_REQUIRED", stepUp, ""},
	{"sign-in", refused(tollgatev1.Reason_REASON_SIGN_IN_REQUIRED), connect.CodeUnauthenticated, 401, "SIGN_IN_REQUIRED", stepUp, ""},
	{"permission", refused(tollgatev1.Reason_REASON_PERMISSION_MISSING), connect.CodePermissionDenied, 403, "PERMISSION_MISSING", noScope, ""},
	{"scope", refused(tollgatev1.Reason_REASON_SCOPE_MISSING), connect.CodePermissionDenied, 403, "SCOPE_MISSING", noScope, ""},
	{"password", refused(tollgatev1.Reason_REASON_PASSWORD_CHANGE_REQUIRED), connect.CodePermissionDenied, 403, "PASSWORD_CHANGE_REQUIRED", noScope, ""},
	{"limited", limited(11500 * time.Millisecond), connect.CodeResourceExhausted, 429, "LIMITED", "", "12"},
	{"limited for less than a second", limited(time.Millisecond), connect.CodeResourceExhausted, 429, "LIMITED", "", "1"},
	{"limited for good", limited(0), connect.CodeResourceExhausted, 429, "LIMITED", "", ""},
	{"unknown reason", refused(9999), connect.CodePermissionDenied, 403, "9999", noScope, ""},
	{"reason OK", refused(tollgatev1.Reason_REASON_OK), connect.CodePermissionDenied, 403, "OK", noScope, ""},
}

// outages is how Authorize can fail. The caller gets Unavailable each time,
// because the failure is not the caller's.
var outages = map[string]struct {
	err        error
	retryAfter string
}{
	"Tollgate is down":               {connect.NewError(connect.CodeUnavailable, nil), "1"},
	"own API key revoked":            {connect.NewError(connect.CodeUnauthenticated, nil), "1"},
	"own API key without permission": {connect.NewError(connect.CodePermissionDenied, nil), "1"},
	"own calls over a limit":         {retryIn("30", connect.CodeResourceExhausted), "30"},
	"invalid request":                {connect.NewError(connect.CodeInvalidArgument, nil), "1"},
	"internal error":                 {connect.NewError(connect.CodeInternal, nil), "1"},
}

func retryIn(seconds string, code connect.Code) error {
	err := connect.NewError(code, nil)
	err.Meta().Set("Retry-After", seconds)
	return err
}

// wantError returns err as a *tollgate.Error with this code.
func wantError(t *testing.T, err error, code connect.Code) *tollgate.Error {
	t.Helper()
	known, ok := errors.AsType[*tollgate.Error](err)
	if !ok || known.Code != code {
		t.Fatalf("error %v, want %s", err, code)
	}
	return known
}
