package tollgate_test

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"connectrpc.com/connect"
	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
	tollgate "github.com/tollgatehq/tollgate/sdk"
	"github.com/tollgatehq/tollgate/sdk/sdktest"
)

// TestFailureMode: only what fails open, and only when Tollgate does not answer, is
// allowed without a decision, and never with a credential that is known to be bad.
func TestFailureMode(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	good, expired := f.Token("alice"), f.Token("alice", sdktest.ExpiresAt(f.now()))
	revoked := f.Token("alice")
	down := connect.NewError(connect.CodeUnavailable, errors.New("down"))
	open := func(q *tollgate.AuthorizeRequest) { q.OnUnavailable = tollgate.FailOpen }
	with := func(credential string) func(*tollgate.AuthorizeRequest) {
		return func(q *tollgate.AuthorizeRequest) { q.Credential, q.OnUnavailable = credential, tollgate.FailOpen }
	}
	for name, test := range map[string]struct {
		mode   tollgate.FailureMode // of the client
		err    error
		change func(*tollgate.AuthorizeRequest)
		open   bool
	}{
		"closed":                   {0, down, nil, false},
		"closed by the client":     {tollgate.FailClosed, down, nil, false},
		"open":                     {tollgate.FailOpen, down, nil, true},
		"open by the call":         {0, down, open, true},
		"closed by the call":       {tollgate.FailOpen, down, func(q *tollgate.AuthorizeRequest) { q.OnUnavailable = tollgate.FailClosed }, false},
		"slow":                     {tollgate.FailOpen, connect.NewError(connect.CodeDeadlineExceeded, nil), nil, true},
		"an API key":               {tollgate.FailOpen, down, with(f.APIKey("alice")), true},
		"a user id":                {tollgate.FailOpen, down, func(q *tollgate.AuthorizeRequest) { q.Credential, q.UserID = "", alicesUser }, true},
		"refused, not recorded":    {tollgate.FailOpen, reasonError("AUDIT_BUSY"), nil, false},
		"refused while stopping":   {tollgate.FailOpen, reasonError("SHUTTING_DOWN"), nil, false},
		"a reason of the future":   {tollgate.FailOpen, reasonError("TOMORROW"), nil, false},
		"a dependency is down":     {tollgate.FailOpen, reasonError("DEPENDENCY_DOWN"), nil, true},
		"invalid":                  {tollgate.FailOpen, connect.NewError(connect.CodeInvalidArgument, nil), nil, false},
		"own key revoked":          {tollgate.FailOpen, connect.NewError(connect.CodeUnauthenticated, nil), nil, false},
		"own permission missing":   {tollgate.FailOpen, connect.NewError(connect.CodePermissionDenied, nil), nil, false},
		"own limit":                {tollgate.FailOpen, connect.NewError(connect.CodeResourceExhausted, nil), nil, false},
		"an error inside":          {tollgate.FailOpen, connect.NewError(connect.CodeInternal, nil), nil, false},
		"no credential":            {tollgate.FailOpen, down, with(""), false},
		"a malformed credential":   {tollgate.FailOpen, down, with("no token"), false},
		"no token by its form":     {tollgate.FailOpen, down, with("alice.token"), false},
		"an expired token":         {tollgate.FailOpen, down, with(expired), false},
		"a token refused before":   {tollgate.FailOpen, down, with(revoked), false},
		"a revision of its choice": {tollgate.FailOpen, down, func(q *tollgate.AuthorizeRequest) { q.MinRevision = 1 << 40 }, false},
	} {
		t.Run(name, func(t *testing.T) {
			refused := false
			s := &rolesService{answer: func(_ context.Context, req *tollgatev1.AuthorizeRequest) (*tollgatev1.AuthorizeResponse, error) {
				if refused {
					return nil, test.err
				}
				refused = true
				return &tollgatev1.AuthorizeResponse{Reason: tollgatev1.Reason_REASON_CREDENTIAL_REVOKED}, nil
			}}
			var reported []string
			opts := []tollgate.Option{tollgate.WithClock(f.now)}
			if test.mode != 0 {
				opts = append(opts, tollgate.WithFailureMode(test.mode, func(_ context.Context, q tollgate.AuthorizeRequest, err error) {
					reported = append(reported, q.Resource+": "+err.Error())
				}))
			}
			c := s.client(t, opts...)
			ask := tollgate.AuthorizeRequest{Credential: revoked, Permission: "orders:read", OnUnavailable: tollgate.FailOpen}
			must(t, errorOf(c.Authorize(t.Context(), ask)))

			q := tollgate.AuthorizeRequest{Credential: good, Permission: "orders:read", Resource: "orders/42"}
			if test.change != nil {
				test.change(&q)
			}
			d, err := c.Authorize(t.Context(), q)
			opened := uint64(0)
			switch {
			case !test.open && (err == nil || d != nil):
				t.Errorf("%+v, error %v", d, err)
			case test.open && (err != nil || !d.Allowed || d.Reason != tollgate.ReasonUnavailable || d.Principal != nil):
				t.Errorf("%+v, error %v", d, err)
			case test.open:
				opened = 1
			}
			if c.FailedOpen() != opened || test.mode != 0 && len(reported) != int(opened) {
				t.Errorf("%d calls counted, reported %q", c.FailedOpen(), reported)
			}
		})
	}
	if _, err := tollgate.New("http://localhost", tollgate.WithFailureMode(0, nil)); err == nil {
		t.Error("a failure mode that is none")
	}
}

// TestFailOpenOwnDeadline: a caller who chooses a deadline that Tollgate cannot meet
// does not get in, alone or in a batch, whether here or at Tollgate time runs out.
func TestFailOpenOwnDeadline(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	token := f.Token("alice")
	for name, answer := range map[string]func(context.Context) error{
		"here":        func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() },
		"at Tollgate": func(context.Context) error { return connect.NewError(connect.CodeDeadlineExceeded, nil) },
		"unavailable": func(context.Context) error { return connect.NewError(connect.CodeUnavailable, nil) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &rolesService{answer: func(ctx context.Context, _ *tollgatev1.AuthorizeRequest) (*tollgatev1.AuthorizeResponse, error) {
					return nil, answer(ctx)
				}}
				c := s.client(t, tollgate.WithClock(f.now), tollgate.WithFailureMode(tollgate.FailOpen, nil))
				q := tollgate.AuthorizeRequest{Credential: token, Permission: "orders:read"}
				for range 5 {
					go func() { _, _ = c.Authorize(t.Context(), q) }()
				}
				for _, d := range []time.Duration{time.Microsecond, time.Millisecond, 2 * time.Second} { // the last is the client's own
					ctx, cancel := context.WithTimeout(t.Context(), d)
					if d, err := c.Authorize(ctx, q); err == nil {
						t.Errorf("allowed: %+v", d)
					}
					cancel()
				}
				d, err := c.Authorize(t.Context(), q)
				if err != nil || !d.Allowed {
					t.Errorf("without a deadline: %+v, error %v", d, err)
				}
				// A call that Tollgate has refused may take longer than this, until that is on record.
				hasty := s.client(t, tollgate.WithClock(f.now), tollgate.WithFailureMode(tollgate.FailOpen, nil), tollgate.WithTimeout(900*time.Millisecond))
				if d, err := hasty.Authorize(t.Context(), q); (err == nil) != (name == "unavailable") {
					t.Errorf("with a short timeout: %+v, error %v", d, err)
				}
				synctest.Wait()
			})
		})
	}
}

// TestFailOpenForgets: a credential that is good again is not held against its user.
func TestFailOpenForgets(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	c := f.client(t, tollgate.WithFailureMode(tollgate.FailOpen, nil), tollgate.WithRetries(0))
	q := tollgate.AuthorizeRequest{Credential: f.APIKey("alice"), Permission: "orders:read"}
	for _, disabled := range []bool{true, false} {
		f.SetUser(sdktest.User{Name: "alice", Roles: []string{"clerk"}, Disabled: disabled})
		must(t, errorOf(c.Authorize(t.Context(), q)))
		f.SetDown(true)
		if err := errorOf(c.Authorize(t.Context(), q)); (err != nil) != disabled {
			t.Errorf("disabled %v: error %v", disabled, err)
		}
		f.SetDown(false)
	}
}

// TestMiddlewareFailsOpen: middleware and interceptor pass a call on, without a
// principal; a verifier's local refusals stay refusals.
func TestMiddlewareFailsOpen(t *testing.T) {
	t.Parallel()
	f := newVerifierFixture(t)
	logged := &strings.Builder{}
	c := f.client(t, tollgate.WithFailureMode(tollgate.FailOpen, nil), tollgate.WithRetries(0),
		tollgate.WithLogger(slog.New(slog.NewTextHandler(logged, nil))))
	f.SetDown(true)
	token := f.Token("alice")
	status := func(credential string, mode tollgate.FailureMode) int {
		handler := c.Require("orders:read", func(_ *http.Request, q *tollgate.AuthorizeRequest) { q.OnUnavailable = mode })(
			http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if p := tollgate.FromContext(r.Context()); p != nil {
					t.Errorf("principal %+v", p)
				}
			}))
		r := httptest.NewRequest("GET", "/orders/42", nil)
		if credential != "" {
			r.Header.Set("Authorization", "Bearer "+credential)
		}
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		return w.Code
	}
	for name, test := range map[string]struct {
		credential string
		mode       tollgate.FailureMode
		want       int
	}{
		"open": {token, 0, 200}, "closed for this route": {token, tollgate.FailClosed, 503},
		"nobody": {"", 0, 503}, "malformed": {"no token", 0, 503},
	} {
		if got := status(test.credential, test.mode); got != test.want {
			t.Errorf("%s: %d, want %d", name, got, test.want)
		}
	}
	for range 100 {
		status(token, 0)
	}
	if lines := strings.Count(logged.String(), "fail open"); lines == 0 || lines > 60 || c.FailedOpen() != 101 {
		t.Errorf("%d lines about %d calls", lines, c.FailedOpen())
	}
	if strings.Contains(logged.String(), token) {
		t.Error("a token is in the log")
	}
}

// TestInterceptorFailsOpen: also a stream goes on, until Tollgate refuses its caller;
// what a verifier refuses in this process stays refused, and is no call that failed
// open.
func TestInterceptorFailsOpen(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	opened := make(chan struct{}, 1000)
	f.startVerifier(t, tollgate.VerifierConfig{}, tollgate.WithRetries(0), tollgate.WithRecheck(20*time.Millisecond),
		tollgate.WithFailureMode(tollgate.FailOpen, func(context.Context, tollgate.AuthorizeRequest, error) { opened <- struct{}{} }))
	revoked := f.Token("alice", sdktest.InSession("s-revoked"))
	f.waitFor(t, f.Revoke("s-revoked"))
	down := func(r *http.Request) (*http.Response, error) {
		if strings.HasSuffix(r.URL.Path, "/Authorize") {
			return nil, errDial
		}
		return f.next.RoundTrip(r)
	}
	for name, guard := range map[string]*tollgatev1.Guard{"permission": ordersWrite, "authenticated": authenticated} {
		f.intercept(down)
		s, key := newService(t, f.verifier.Interceptor(), guard), f.APIKey("alice")
		s.stream = func(ctx context.Context, _ *connect.ServerStream[getResponse]) error {
			<-ctx.Done()
			return ctx.Err()
		}
		if err := s.get(t.Context(), "", "Bearer "+key); err != nil || s.passed[0] != nil {
			t.Errorf("%s: error %v, passed %v", name, err, s.passed)
		}
		ended := make(chan error, 1)
		go func() { ended <- s.watch(t.Context(), "Bearer "+key) }()
		for range 4 { // the unary call, and the stream again and again
			<-opened
		}
		f.RevokeAPIKey(key)
		f.intercept(nil)
		wantRefusal(t, <-ended, connect.CodeUnauthenticated, "CREDENTIAL_REVOKED")
	}
	f.intercept(down)
	for len(opened) > 0 {
		<-opened
	}
	s := newService(t, f.verifier.Interceptor(), authenticated)
	wantRefusal(t, s.get(t.Context(), "", "Bearer "+revoked), connect.CodeUnauthenticated, "CREDENTIAL_REVOKED")
	if len(opened) > 0 || len(s.passed) > 0 {
		t.Errorf("%d calls failed open, passed %v", len(opened), s.passed)
	}
}
