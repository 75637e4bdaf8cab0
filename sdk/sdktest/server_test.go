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

	"github.com/tollgatehq/tollgate/sdk"
	"github.com/tollgatehq/tollgate/sdk/sdktest"
)

func Example() {
	tollgate := sdktest.NewServer()
	defer tollgate.Close()
	tollgate.SetRole("clerk", "orders:read")
	tollgate.SetUser(sdktest.User{Name: "alice", Roles: []string{"clerk"}})
	tollgate.SetUser(sdktest.User{Name: "bob"})

	// Your service:
	mayRead := tollgate.Client().Require("orders:read")
	handler := mayRead(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "tea") }))

	for _, user := range []string{"alice", "bob"} {
		request := httptest.NewRequest("GET", "/orders/42", nil)
		request.Header.Set("Authorization", "Bearer "+tollgate.Token(user))
		answer := httptest.NewRecorder()
		handler.ServeHTTP(answer, request)
		fmt.Println(user, answer.Code)
	}
	last := tollgate.Decisions()[1]
	fmt.Println(last.Request.GetResource(), last.Response.GetReason())
	// Output:
	// alice 200
	// bob 403
	// /orders/42 REASON_PERMISSION_MISSING
}

func ExampleServer_SetLimit() {
	tollgate := sdktest.NewServer()
	defer tollgate.Close()
	tollgate.SetLimit(sdktest.Limit{Name: "sms", Calls: 1, RetryAfter: time.Minute})

	for range 2 {
		result, err := tollgate.Client().CheckLimit(context.Background(), sdk.Check{Limit: "sms", Key: "+49"})
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

func decide(t *testing.T, s *sdktest.Server, r sdk.Request) sdk.Reason {
	t.Helper()
	d, err := s.Client().Authorize(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	if d.Allowed != (d.Reason == sdk.ReasonOK) {
		t.Errorf("%+v", d)
	}
	return d.Reason
}

func TestDecisions(t *testing.T) {
	s := newServer(t)
	s.SetUser(sdktest.User{Name: "bob", Roles: []string{"clerk"}, PasswordChange: true})
	s.SetUser(sdktest.User{Name: "carol", Roles: []string{"clerk"}, Disabled: true})
	key, narrow, stopped := s.APIKey("alice"), s.APIKey("alice", "orders:read"), s.APIKey("alice")
	s.RevokeAPIKey(stopped)
	ended := s.Token("alice", sdktest.InSession("s-1"))
	s.Revoke("s-1")
	for name, test := range map[string]struct {
		request sdk.Request
		want    sdk.Reason
	}{
		"token":             {sdk.Request{Credential: s.Token("alice"), Permission: "orders:read"}, sdk.ReasonOK},
		"the prefix alone":  {sdk.Request{Credential: s.Token("alice"), Permission: "orders"}, sdk.ReasonPermissionMissing},
		"user":              {sdk.Request{UserID: "user-alice", Permission: "orders:read"}, sdk.ReasonOK},
		"key":               {sdk.Request{Credential: key, Permission: "orders:write"}, sdk.ReasonOK},
		"scope":             {sdk.Request{Credential: narrow, Permission: "orders:write"}, sdk.ReasonScopeMissing},
		"revoked key":       {sdk.Request{Credential: stopped, Permission: "orders:read"}, sdk.ReasonCredentialRevoked},
		"revoked session":   {sdk.Request{Credential: ended, Permission: "orders:read"}, sdk.ReasonCredentialRevoked},
		"nobody":            {sdk.Request{Permission: "orders:read"}, sdk.ReasonCredentialMissing},
		"unknown user":      {sdk.Request{UserID: "user-x", Permission: "orders:read"}, sdk.ReasonUserUnknown},
		"disabled":          {sdk.Request{Credential: s.Token("carol"), Permission: "orders:read"}, sdk.ReasonUserDisabled},
		"password":          {sdk.Request{Credential: s.Token("bob"), Permission: "orders:read"}, sdk.ReasonPasswordChangeRequired},
		"expired":           {sdk.Request{Credential: s.Token("alice", sdktest.ExpiresAt(time.Now())), Permission: "orders:read"}, sdk.ReasonCredentialExpired},
		"another's token":   {sdk.Request{Credential: newServer(t).Token("alice"), Permission: "orders:read"}, sdk.ReasonCredentialInvalid},
		"another issuer":    {sdk.Request{Credential: s.Token("alice", sdktest.Claim("iss", "x")), Permission: "orders:read"}, sdk.ReasonCredentialInvalid},
		"unknown key":       {sdk.Request{Credential: "tg_x", Permission: "orders:read"}, sdk.ReasonCredentialInvalid},
		"not even a token":  {sdk.Request{Credential: "x", Permission: "orders:read"}, sdk.ReasonCredentialInvalid},
		"a permission of *": {sdk.Request{Credential: s.Token("alice"), Permission: "users:read"}, sdk.ReasonPermissionMissing},
	} {
		if got := decide(t, s, test.request); got != test.want {
			t.Errorf("%s: %s, want %s", name, got, test.want)
		}
	}
}

func TestLimits(t *testing.T) {
	s := newServer(t)
	s.SetLimit(sdktest.Limit{Name: "reads", Permission: "orders:*", Calls: 2, RetryAfter: time.Minute})
	r := sdk.Request{Credential: s.Token("alice"), Permission: "orders:read"}
	for i, want := range []sdk.Reason{sdk.ReasonOK, sdk.ReasonOK, sdk.ReasonLimited, sdk.ReasonLimited} {
		if got := decide(t, s, r); got != want {
			t.Errorf("call %d: %s", i, got)
		}
	}
	d, err := s.Client().Authorize(t.Context(), r)
	if err != nil || d.RetryAfter != time.Minute || len(d.Limits) != 1 || !d.Limits[0].Exceeded || d.Limits[0].Remaining != 0 {
		t.Errorf("%+v, error %v", d, err)
	}
	s.SetLimit(sdktest.Limit{Name: "reads", Permission: "orders:*", Calls: 2})
	if got := decide(t, s, r); got != sdk.ReasonOK {
		t.Errorf("after it was set again: %s", got)
	}
	batch, err := s.Client().AuthorizeBatch(t.Context(), []sdk.Request{r, r})
	if err != nil || !batch[0].Allowed || batch[1].Allowed {
		t.Errorf("%+v, error %v", batch, err)
	}
	var known *sdk.Error
	if _, err := s.Client().CheckLimit(t.Context(), sdk.Check{Limit: "none"}); !errors.As(err, &known) || known.Reason != "LIMIT_NOT_FOUND" {
		t.Errorf("error %v", err)
	}
}

func TestEventsAndOutage(t *testing.T) {
	s := newServer(t)
	client := s.Client()
	if err := client.RecordEvent(t.Context(), sdk.Event{Action: "order.cancel", Outcome: sdk.OutcomeSuccess}); err != nil {
		t.Fatal(err)
	}
	if events := s.Events(); len(events) != 1 || events[0].GetAction() != "order.cancel" {
		t.Errorf("%v", events)
	}
	s.SetDown(true)
	if err := client.RecordEvent(t.Context(), sdk.Event{}); !errors.Is(err, sdk.ErrUnavailable) {
		t.Errorf("error %v", err)
	}
	s.SetDown(false)
	if got := decide(t, s, sdk.Request{Credential: s.Token("alice"), Permission: "orders:read"}); got != sdk.ReasonOK {
		t.Errorf("after the outage: %s", got)
	}
}

func TestUnknownUserPanics(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("it did not panic")
		}
	}()
	newServer(t).Token("nobody")
}
