package sdktest_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"connectrpc.com/connect"
	tollgate "github.com/tollgatehq/tollgate/sdk"
	"github.com/tollgatehq/tollgate/sdk/sdktest"
)

func Example() {
	server := sdktest.NewServer()
	defer server.Close()
	server.SetRole("clerk", "orders:read")
	server.SetUser(sdktest.User{Name: "alice", Roles: []string{"clerk"}})
	server.SetUser(sdktest.User{Name: "bob"})

	// Your service:
	mayRead := server.Client().Require("orders:read")
	handler := mayRead(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "tea") }))

	for _, user := range []string{"alice", "bob"} {
		request := httptest.NewRequest("GET", "/orders/42", nil)
		request.Header.Set("Authorization", "Bearer "+server.Token(user))
		answer := httptest.NewRecorder()
		handler.ServeHTTP(answer, request)
		fmt.Println(user, answer.Code)
	}
	last := server.Decisions()[1]
	fmt.Println(last.Request.GetResource(), last.Response.GetReason())
	// Output:
	// alice 200
	// bob 403
	// /orders/42 REASON_PERMISSION_MISSING
}

func ExampleServer_SetLimit() {
	server := sdktest.NewServer()
	defer server.Close()
	server.SetLimit(sdktest.Limit{Name: "sms", Calls: 1, RetryAfter: time.Minute})

	for range 2 {
		result, err := server.Client().CheckLimit(context.Background(), tollgate.CheckLimitRequest{Limit: "sms", Key: "+49"})
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(result.Err())
	}
	// Output:
	// <nil>
	// tollgate: denied: LIMITED, try again in 1m0s
}

func newServer(t *testing.T, opts ...sdktest.Option) *sdktest.Server {
	t.Helper()
	s := sdktest.NewServer(opts...)
	t.Cleanup(s.Close)
	s.SetRole("clerk", "orders:*")
	s.SetUser(sdktest.User{Name: "alice", Roles: []string{"clerk"}})
	return s
}

func decide(t *testing.T, s *sdktest.Server, r tollgate.AuthorizeRequest) tollgate.Reason {
	t.Helper()
	d, err := s.Client().Authorize(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	if d.Allowed != (d.Reason == tollgate.ReasonOK) {
		t.Errorf("%+v", d)
	}
	return d.Reason
}

func TestDecisions(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.SetUser(sdktest.User{Name: "bob", Roles: []string{"clerk"}, PasswordChange: true})
	s.SetUser(sdktest.User{Name: "carol", Roles: []string{"clerk"}, Disabled: true})
	key, narrow, stopped := s.APIKey("alice"), s.APIKey("alice", "orders:read"), s.APIKey("alice")
	s.RevokeAPIKey(stopped)
	ended := s.Token("alice", sdktest.InSession("s-1"))
	s.Revoke("s-1")
	for name, test := range map[string]struct {
		request tollgate.AuthorizeRequest
		want    tollgate.Reason
	}{
		"token":            {tollgate.AuthorizeRequest{Credential: s.Token("alice"), Permission: "orders:read"}, tollgate.ReasonOK},
		"the prefix alone": {tollgate.AuthorizeRequest{Credential: s.Token("alice"), Permission: "orders"}, tollgate.ReasonPermissionMissing},
		"user":             {tollgate.AuthorizeRequest{UserID: "user-alice", Permission: "orders:read"}, tollgate.ReasonOK},
		"key":              {tollgate.AuthorizeRequest{Credential: key, Permission: "orders:write"}, tollgate.ReasonOK},
		"scope":            {tollgate.AuthorizeRequest{Credential: narrow, Permission: "orders:write"}, tollgate.ReasonScopeMissing},
		"revoked key":      {tollgate.AuthorizeRequest{Credential: stopped, Permission: "orders:read"}, tollgate.ReasonCredentialRevoked},
		"revoked session":  {tollgate.AuthorizeRequest{Credential: ended, Permission: "orders:read"}, tollgate.ReasonCredentialRevoked},
		"no credential":    {tollgate.AuthorizeRequest{Permission: "orders:read"}, tollgate.ReasonCredentialMissing},
		"unknown user":     {tollgate.AuthorizeRequest{UserID: "user-x", Permission: "orders:read"}, tollgate.ReasonUserUnknown},
		"disabled":         {tollgate.AuthorizeRequest{Credential: s.Token("carol"), Permission: "orders:read"}, tollgate.ReasonUserDisabled},
		"password":         {tollgate.AuthorizeRequest{Credential: s.Token("bob"), Permission: "orders:read"}, tollgate.ReasonPasswordChangeRequired},
		"expired":          {tollgate.AuthorizeRequest{Credential: s.Token("alice", sdktest.ExpiresAt(time.Now())), Permission: "orders:read"}, tollgate.ReasonCredentialExpired},
		"another's token":  {tollgate.AuthorizeRequest{Credential: newServer(t).Token("alice"), Permission: "orders:read"}, tollgate.ReasonCredentialInvalid},
		"another issuer":   {tollgate.AuthorizeRequest{Credential: s.Token("alice", sdktest.Claim("iss", "x")), Permission: "orders:read"}, tollgate.ReasonCredentialInvalid},
		"unknown key":      {tollgate.AuthorizeRequest{Credential: "tg_x", Permission: "orders:read"}, tollgate.ReasonCredentialInvalid},
		"malformed":        {tollgate.AuthorizeRequest{Credential: "x", Permission: "orders:read"}, tollgate.ReasonCredentialInvalid},
		"another prefix":   {tollgate.AuthorizeRequest{Credential: s.Token("alice"), Permission: "users:read"}, tollgate.ReasonPermissionMissing},
	} {
		if got := decide(t, s, test.request); got != test.want {
			t.Errorf("%s: %s, want %s", name, got, test.want)
		}
	}
}

// TestPermission: the server decides about permissions of its own API by itself.
func TestPermission(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.SetRole("clerk", "*")
	for _, permission := range []string{"tollgate:users:read", "tollgate:", "*", "orders:*", "Orders:read", "orders:", ""} {
		r := tollgate.AuthorizeRequest{Credential: s.Token("alice"), Permission: permission}
		_, err := s.Client().Authorize(t.Context(), r)
		_, batchErr := s.Client().BatchAuthorize(t.Context(), []tollgate.AuthorizeRequest{r})
		for _, err := range []error{err, batchErr} {
			known, ok := errors.AsType[*tollgate.Error](err)
			if !ok || known.Code != connect.CodeInvalidArgument || known.Reason != "INVALID_FIELD" {
				t.Errorf("%q: error %v", permission, err)
			}
		}
	}
	if n := len(s.Decisions()); n != 0 {
		t.Errorf("%d decisions", n)
	}
	for _, r := range []tollgate.AuthorizeRequest{{Authenticated: true}, {SelfOnly: true, Self: "user-alice"}} {
		r.Credential = s.Token("alice")
		if got := decide(t, s, r); got != tollgate.ReasonOK {
			t.Errorf("%+v: %s", r, got)
		}
	}
	s.SetUser(sdktest.User{Name: "robot", Service: true})
	if got := decide(t, s, tollgate.AuthorizeRequest{UserID: "user-robot", SelfOnly: true, Self: "user-robot"}); got != tollgate.ReasonSelfOnly {
		t.Errorf("a service account is itself: %s", got)
	}
}

func TestLimits(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.SetLimit(sdktest.Limit{Name: "reads", Permission: "orders:*", Calls: 2, RetryAfter: time.Minute})
	r := tollgate.AuthorizeRequest{Credential: s.Token("alice"), Permission: "orders:read"}
	for i, want := range []tollgate.Reason{tollgate.ReasonOK, tollgate.ReasonOK, tollgate.ReasonLimited, tollgate.ReasonLimited} {
		if got := decide(t, s, r); got != want {
			t.Errorf("call %d: %s", i, got)
		}
	}
	d, err := s.Client().Authorize(t.Context(), r)
	if err != nil || d.RetryAfter != time.Minute || len(d.Limits) != 1 || !d.Limits[0].Exceeded || d.Limits[0].Remaining != 0 {
		t.Errorf("%+v, error %v", d, err)
	}
	s.SetLimit(sdktest.Limit{Name: "reads", Permission: "orders:*", Calls: 2})
	if got := decide(t, s, r); got != tollgate.ReasonOK {
		t.Errorf("after it was set again: %s", got)
	}
	batch, err := s.Client().BatchAuthorize(t.Context(), []tollgate.AuthorizeRequest{r, r})
	if err != nil || !batch[0].Allowed || batch[1].Allowed {
		t.Errorf("%+v, error %v", batch, err)
	}
	_, err = s.Client().CheckLimit(t.Context(), tollgate.CheckLimitRequest{Limit: "none"})
	if known, ok := errors.AsType[*tollgate.Error](err); !ok || known.Reason != "LIMIT_NOT_FOUND" {
		t.Errorf("error %v", err)
	}
}

func TestEventsAndOutage(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	client := s.Client()
	if err := client.RecordEvent(t.Context(), tollgate.Event{Action: "order.cancel", Outcome: tollgate.OutcomeSuccess}); err != nil {
		t.Fatal(err)
	}
	if events := s.Events(); len(events) != 1 || events[0].GetAction() != "order.cancel" {
		t.Errorf("%v", events)
	}
	s.SetDown(true)
	if err := client.RecordEvent(t.Context(), tollgate.Event{}); !errors.Is(err, tollgate.ErrUnavailable) {
		t.Errorf("error %v", err)
	}
	s.SetDown(false)
	if got := decide(t, s, tollgate.AuthorizeRequest{Credential: s.Token("alice"), Permission: "orders:read"}); got != tollgate.ReasonOK {
		t.Errorf("after the outage: %s", got)
	}
}

func TestInterceptors(t *testing.T) {
	t.Parallel()
	fail := connect.UnaryInterceptorFunc(func(connect.UnaryFunc) connect.UnaryFunc {
		return func(context.Context, connect.AnyRequest) (connect.AnyResponse, error) {
			return nil, connect.NewError(connect.CodeResourceExhausted, errors.New("later"))
		}
	})
	client := newServer(t, sdktest.WithInterceptors(fail)).Client()
	_, err := client.Verify(t.Context(), "x")
	if known, ok := errors.AsType[*tollgate.Error](err); !ok || known.Code != connect.CodeResourceExhausted {
		t.Errorf("error %v", err)
	}
}

func TestUnknownUserPanics(t *testing.T) {
	t.Parallel()
	defer func() {
		if recover() == nil {
			t.Error("it did not panic")
		}
	}()
	newServer(t).Token("nobody")
}

func TestAssertion(t *testing.T) {
	t.Parallel()
	s := newServer(t, sdktest.WithAudience("orders"))
	verifier := s.AssertionVerifier(tollgate.AssertionConfig{})
	defer verifier.Close()
	a, err := verifier.Verify(t.Context(), s.Assertion("alice", "orders:read"))
	if err != nil || a.Permission != "orders:read" || a.Principal.Username != "alice" {
		t.Errorf("%+v, error %v", a, err)
	}
	if a, err = verifier.Verify(t.Context(), s.Assertion("", "")); err != nil || a.Principal != nil {
		t.Errorf("%+v, error %v", a, err)
	}
	_, err = verifier.Verify(t.Context(), s.Assertion("alice", "orders:read", sdktest.Claim("aud", sdktest.Audience)))
	if denied, ok := errors.AsType[*tollgate.DeniedError](err); !ok || denied.Reason != tollgate.ReasonWrongAudience {
		t.Errorf("error %v", err)
	}
}
