package tollgate_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
	tollgate "github.com/tollgatehq/tollgate/sdk"
	"github.com/tollgatehq/tollgate/sdk/sdktest"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
)

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	const secret = "hunter2"
	for name, test := range map[string]struct {
		url string
		opt tollgate.Option
	}{
		"no scheme":             {"tollgate.internal:8000", nil},
		"another scheme":        {"ftp://tollgate.internal", nil},
		"no host":               {"http://", nil},
		"nothing":               {"", nil},
		"a password":            {"https://admin:" + secret + "@tollgate.internal", nil},
		"half a password":       {"https://admin:" + secret + "#@tollgate.internal", nil},
		"a query":               {"https://tollgate.internal?key=" + secret, nil},
		"a fragment":            {"https://tollgate.internal#" + secret, nil},
		"an empty key":          {"http://localhost", tollgate.WithAPIKey("")},
		"a token as a key":      {"http://localhost", tollgate.WithAPIKey(secret)},
		"a key with a newline":  {"http://localhost", tollgate.WithAPIKey("tg_" + secret + "\n")},
		"a key as a token":      {"http://localhost", tollgate.WithAccessToken("tg_" + secret)},
		"no token source":       {"http://localhost", tollgate.WithTokenSource(nil)},
		"no timeout":            {"http://localhost", tollgate.WithTimeout(0)},
		"no time for a recheck": {"http://localhost", tollgate.WithRecheck(0)},
	} {
		t.Run(name, func(t *testing.T) {
			var opts []tollgate.Option
			if test.opt != nil {
				opts = append(opts, test.opt)
			}
			c, err := tollgate.New(test.url, opts...)
			if err == nil || c != nil {
				t.Fatal("no error")
			}
			if strings.Contains(err.Error(), secret) {
				t.Errorf("the secret is in the error: %v", err)
			}
		})
	}
}

// denied returns err as a *tollgate.DeniedError; nil when it is none.
func denied(err error) *tollgate.DeniedError {
	found, _ := errors.AsType[*tollgate.DeniedError](err)
	return found
}

// TestZeroValues: a value that no call has filled in allows nothing.
func TestZeroValues(t *testing.T) {
	t.Parallel()
	if d := (&tollgate.Decision{}); d.Allowed || denied(d.Err()) == nil {
		t.Errorf("Decision: %v", d.Err())
	}
	if r := (&tollgate.CheckLimitResult{}); r.Allowed || denied(r.Err()) == nil {
		t.Errorf("CheckLimitResult: %v", r.Err())
	}
	if v := (tollgate.Verification{}); v.Active || v.Reason == tollgate.ReasonOK {
		t.Errorf("Verification: %+v", v)
	}
	if p := tollgate.FromContext(t.Context()); p != nil {
		t.Errorf("FromContext: %+v", p)
	}
	d, err := newFixture(t).client(t).Authorize(t.Context(), tollgate.AuthorizeRequest{Authenticated: true})
	if err != nil || d.Allowed {
		t.Errorf("a request without a credential: %+v, error %v", d, err)
	}
	if d, err := newFixture(t).client(t).Authorize(t.Context(), tollgate.AuthorizeRequest{}); err == nil {
		t.Errorf("an empty request: %+v", d)
	}
	if v, err := tollgate.NewVerifier(newFixture(t).client(t), tollgate.VerifierConfig{}); err == nil || v != nil {
		t.Error("a verifier without issuer and audience")
	}
	if s, err := tollgate.NewSession(t.Context(), "http://localhost", tollgate.SessionConfig{}); err == nil || s != nil {
		t.Error("a session without a user")
	}
}

func errorOf(_ any, err error) error { return err }

func TestTimeout(t *testing.T) {
	t.Parallel()
	c := newClient(t, unanswered(t), tollgate.WithTimeout(20*time.Millisecond))
	for name, call := range map[string]func(context.Context) error{
		"Verify":             func(ctx context.Context) error { return errorOf(c.Verify(ctx, "alice.token")) },
		"Authorize":          func(ctx context.Context) error { return errorOf(c.Authorize(ctx, tollgate.AuthorizeRequest{})) },
		"BatchAuthorize":     func(ctx context.Context) error { return errorOf(c.BatchAuthorize(ctx, nil)) },
		"CheckLimit":         func(ctx context.Context) error { return errorOf(c.CheckLimit(ctx, tollgate.CheckLimitRequest{})) },
		"Reserve":            func(ctx context.Context) error { return errorOf(c.Reserve(ctx, "l", "k", 1)) },
		"Settle":             func(ctx context.Context) error { return errorOf(c.Settle(ctx, "x", 1)) },
		"RecordEvents":       func(ctx context.Context) error { return c.RecordEvents(ctx, []tollgate.Event{{}}) },
		"RecordEvent":        func(ctx context.Context) error { return c.RecordEvent(ctx, tollgate.Event{}) },
		"a generated client": func(ctx context.Context) error { return errorOf(c.Auth().WhoAmI(ctx, &tollgatev1.WhoAmIRequest{})) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := call(context.Background())
			if wantError(t, err, connect.CodeDeadlineExceeded); !errors.Is(err, tollgate.ErrUnavailable) {
				t.Errorf("error %v", err)
			}
		})
	}
	t.Run("token source", func(t *testing.T) {
		t.Parallel()
		c := newClient(t, unanswered(t), tollgate.WithTimeout(20*time.Millisecond),
			tollgate.WithTokenSource(tollgate.TokenSourceFunc(func(ctx context.Context) (string, error) {
				<-ctx.Done()
				return "", ctx.Err()
			})))
		if _, err := c.Verify(context.Background(), "alice.token"); err == nil {
			t.Error("no error")
		}
	})
}

func TestRedirectIsRefused(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for _, status := range []int{301, 302, 303, 307, 308} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			c := newClient(t, serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				http.Redirect(w, r, f.URL+r.URL.Path, status)
			})), tollgate.WithHTTPClient(&http.Client{}))
			_, err := c.Verify(t.Context(), f.Token("alice"))
			if known := wantError(t, err, connect.CodeFailedPrecondition); !strings.Contains(known.Message, "redirect") {
				t.Errorf("error %v", err)
			}
			if len(f.authorization) > 0 {
				t.Errorf("the other server was called with %q", f.authorization)
			}
		})
	}
}

func TestHTTPClientIsNotChanged(t *testing.T) {
	t.Parallel()
	given := &http.Client{Timeout: time.Minute}
	newClient(t, "http://localhost", tollgate.WithHTTPClient(given))
	if given.Transport != nil {
		t.Error("its transport was replaced: its other users would present the credential")
	}
}

func TestTokenSource(t *testing.T) {
	t.Parallel()
	turn := 0
	f := deciding(t, allowed())
	c := f.client(t, tollgate.WithTokenSource(tollgate.TokenSourceFunc(func(context.Context) (string, error) {
		turn++
		switch turn {
		case 3:
			return "", errors.New("the vault is sealed")
		case 4:
			return "not a token", nil
		}
		return fmt.Sprintf("token-%d", turn), nil
	})))
	for i := range 4 {
		_, err := c.Authorize(t.Context(), tollgate.AuthorizeRequest{Permission: "orders:read"})
		switch {
		case i >= 2:
			wantError(t, err, connect.CodeUnauthenticated)
		case err != nil:
			t.Error(err)
		}
	}
	if got := strings.Join(f.authorization, ", "); got != "Bearer token-1, Bearer token-2" {
		t.Errorf("presented %s", got)
	}
}

func TestAnswerIsBounded(t *testing.T) {
	t.Parallel()
	res := allowed()
	res.Principal = &tollgatev1.Principal{Username: strings.Repeat("a", 2<<20)}
	_, err := deciding(t, res).client(t).Authorize(t.Context(), tollgate.AuthorizeRequest{})
	wantError(t, err, connect.CodeResourceExhausted)
}

func TestVerify(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	c := f.client(t)
	for _, test := range []struct {
		credential string
		reason     tollgate.Reason
		calls      int
	}{
		{f.Token("alice"), tollgate.ReasonOK, 1},
		{f.APIKey("alice"), tollgate.ReasonOK, 2},
		{f.Token("alice", sdktest.ExpiresAt(f.now())), tollgate.ReasonCredentialExpired, 3},
		{"", tollgate.ReasonCredentialMissing, 3},
		{"no token", tollgate.ReasonCredentialInvalid, 3},
	} {
		v, err := c.Verify(t.Context(), test.credential)
		must(t, err)
		good := test.reason == tollgate.ReasonOK
		if v.Active != good || v.Reason != test.reason || (v.Principal != nil) != good || good && v.Principal.Username != "alice" {
			t.Errorf("%q: %+v", test.credential, v)
		}
		if calls := f.Calls("AuthService/Verify"); calls != test.calls {
			t.Errorf("%q: %d calls, want %d", test.credential, calls, test.calls)
		}
	}
	incomplete := newFixture(t, answering(func(*tollgatev1.VerifyRequest) (*tollgatev1.VerifyResponse, error) {
		return &tollgatev1.VerifyResponse{Active: true}, nil
	}))
	_, err := incomplete.client(t).Verify(t.Context(), "alice.token")
	wantError(t, err, connect.CodeInternal)
}

func TestAuthorize(t *testing.T) {
	t.Parallel()
	f := deciding(t, allowed())
	c := f.client(t)
	d, err := c.Authorize(t.Context(), tollgate.AuthorizeRequest{UserID: alicesUser, Permission: "orders:read", MinRevision: 5})
	must(t, err)
	if !d.Allowed || d.Err() != nil || d.Revision != 7 || d.Principal.Username != "alice" || !d.Principal.ExpiresAt.IsZero() {
		t.Errorf("decision %+v", d)
	}
	if got := f.asked(t); got.GetUserId() != alicesUser || got.GetMinRevision() != 5 || got.GetClient().GetIp() != "" {
		t.Errorf("asked %v", got)
	}
	_, err = c.Authorize(t.Context(), tollgate.AuthorizeRequest{UserID: alicesUser, Credential: "bob.token"})
	wantError(t, err, connect.CodeInvalidArgument)

	d, err = deciding(t, limited(3*time.Second)).client(t).Authorize(t.Context(), tollgate.AuthorizeRequest{Credential: "alice.token"})
	must(t, err)
	if e := denied(d.Err()); e == nil || e.Reason != tollgate.ReasonLimited || e.RetryAfter != 3*time.Second {
		t.Errorf("Err() = %v", d.Err())
	}
	if len(d.Limits) != 3 || d.Limits[1].Reset != 59500*time.Millisecond || !d.Limits[0].Shadow {
		t.Errorf("limits %+v", d.Limits)
	}
}

func TestBatchAuthorize(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	token := f.Token("alice")
	requests := []tollgate.AuthorizeRequest{
		{Credential: token, Permission: "orders:read"},
		{Credential: token, Permission: "users:read"},
		{Credential: "no token", Permission: "orders:read"},
	}
	ds, err := f.client(t).BatchAuthorize(t.Context(), requests)
	must(t, err)
	if !ds[0].Allowed || ds[1].Allowed || ds[2].Allowed || ds[2].Reason != tollgate.ReasonCredentialInvalid {
		t.Errorf("decisions %+v %+v %+v", ds[0], ds[1], ds[2])
	}
	f = newFixture(t, answering(func(*tollgatev1.BatchAuthorizeRequest) (*tollgatev1.BatchAuthorizeResponse, error) {
		return &tollgatev1.BatchAuthorizeResponse{Responses: []*tollgatev1.AuthorizeResponse{allowed()}}, nil
	}))
	_, err = f.client(t).BatchAuthorize(t.Context(), requests)
	wantError(t, err, connect.CodeInternal)
}

func TestCheckLimit(t *testing.T) {
	t.Parallel()
	f := newFixture(t, answering(func(req *tollgatev1.CheckLimitRequest) (*tollgatev1.CheckLimitResponse, error) {
		if req.GetLimit() != "sms" || req.GetKey() != "+49" || req.GetCost() != 2 || !req.GetPeek() {
			return nil, fmt.Errorf("asked %v", req)
		}
		return &tollgatev1.CheckLimitResponse{
			Status: &tollgatev1.LimitStatus{Name: "sms", Limit: 5}, RetryAfter: durationpb.New(time.Second),
		}, nil
	}))
	got, err := f.client(t).CheckLimit(t.Context(), tollgate.CheckLimitRequest{Limit: "sms", Key: "+49", Cost: 2, Peek: true})
	must(t, err)
	if e := denied(got.Err()); got.Allowed || got.Status.Limit != 5 || e == nil || e.RetryAfter != time.Second {
		t.Errorf("result %+v", got)
	}
}

func TestRecordEvent(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	err := f.client(t).RecordEvent(t.Context(), tollgate.Event{
		Actor: &tollgate.Principal{UserID: alicesUser, Username: "alice", SessionID: "s-1"}, Action: "order.cancel",
		Outcome: tollgate.OutcomeDenied, Reason: "too late", Resource: "orders/42",
		IP: netip.MustParseAddr("::ffff:192.0.2.7"), Details: map[string]string{"state": "sent"},
	})
	must(t, err)
	want := &tollgatev1.RecordEventRequest{
		Actor:  &tollgatev1.Actor{UserId: alicesUser, Username: "alice", SessionId: "s-1"},
		Action: "order.cancel", Outcome: tollgatev1.Outcome_OUTCOME_DENIED, Reason: "too late",
		Resource: "orders/42", Ip: "192.0.2.7", Details: map[string]string{"state": "sent"},
	}
	if got := f.Events()[0]; !proto.Equal(got, want) {
		t.Errorf("recorded %v", got)
	}
	must(t, f.client(t).RecordEvents(t.Context(), []tollgate.Event{
		{Action: "order.read", Outcome: tollgate.OutcomeSuccess}, {Action: "order.send", Outcome: tollgate.OutcomeFailure},
	}))
	if got := f.Events(); len(got) != 3 || got[1].GetAction() != "order.read" || got[2].GetOutcome() != tollgatev1.Outcome_OUTCOME_FAILURE {
		t.Errorf("recorded %v", got)
	}
}

func TestError(t *testing.T) {
	t.Parallel()
	sent := connect.NewError(connect.CodeInvalidArgument, errors.New("requests[0].permission: no"))
	for _, message := range []proto.Message{
		&errdetails.ErrorInfo{Reason: "INVALID_FIELD", Metadata: map[string]string{"request_id": "req-1"}},
		&errdetails.RetryInfo{RetryDelay: durationpb.New(1500 * time.Millisecond)},
		&errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{{Field: "permission", Description: "no"}}},
	} {
		detail, err := connect.NewErrorDetail(message)
		must(t, err)
		sent.AddDetail(detail)
	}
	sent.Meta().Set("Retry-After", "2")
	_, err := failing(t, sent).client(t).Authorize(t.Context(), tollgate.AuthorizeRequest{Credential: "alice.token"})
	known := wantError(t, err, connect.CodeInvalidArgument)
	if known.Reason != "INVALID_FIELD" || known.RequestID != "req-1" || known.RetryAfter != 1500*time.Millisecond ||
		len(known.Violations) != 1 || known.Violations[0].Field != "permission" {
		t.Errorf("error %+v", known)
	}
	if errors.Is(err, tollgate.ErrUnavailable) {
		t.Error("an invalid request counts as no answer")
	}
	if _, ok := errors.AsType[*connect.Error](err); !ok {
		t.Error("there is no *connect.Error in it")
	}
	for _, secret := range []string{"alice.token", sdktest.ServiceKey} {
		if strings.Contains(fmt.Sprintf("%v %+v", err, known), secret) {
			t.Errorf("%s is in the error", secret)
		}
	}
}

func TestErrorOfStream(t *testing.T) {
	t.Parallel()
	c := newFixture(t).client(t, tollgate.WithTimeout(time.Nanosecond)) // which is not for streams
	stream, err := c.Audit().WatchEvents(t.Context(), &tollgatev1.WatchEventsRequest{})
	must(t, err)
	for stream.Receive() {
	}
	wantError(t, stream.Err(), connect.CodeUnimplemented)
}

func TestNoAnswer(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(nil)
	server.Close()
	_, err := newClient(t, server.URL).Verify(t.Context(), "alice.token")
	if !errors.Is(err, tollgate.ErrUnavailable) {
		t.Errorf("error %v", err)
	}
	if strings.Contains(err.Error(), "alice.token") || strings.Contains(err.Error(), sdktest.ServiceKey) {
		t.Errorf("a credential is in the error: %v", err)
	}
}
