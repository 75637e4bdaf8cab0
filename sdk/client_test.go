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
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
)

// silent is the address of a server that takes a request and never answers.
func silent(t *testing.T) string {
	t.Helper()
	ended := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-ended:
		case <-r.Context().Done():
		}
	}))
	t.Cleanup(func() { close(ended); server.Close() })
	return server.URL
}

func TestNewRefuses(t *testing.T) {
	const secret = "hunter2"
	for name, test := range map[string]struct {
		url  string
		opts []tollgate.Option
	}{
		"no scheme":          {"tollgate.internal:8000", nil},
		"another scheme":     {"ftp://tollgate.internal", nil},
		"no host":            {"http://", nil},
		"nothing":            {"", nil},
		"a password":         {"https://admin:" + secret + "@tollgate.internal", nil},
		"half a password":    {"https://admin:" + secret + "#@tollgate.internal", nil},
		"a query":            {"https://tollgate.internal?key=" + secret, nil},
		"a fragment":         {"https://tollgate.internal#" + secret, nil},
		"an empty key":       {"http://localhost", []tollgate.Option{tollgate.WithAPIKey("")}},
		"a token as a key":   {"http://localhost", []tollgate.Option{tollgate.WithAPIKey(secret)}},
		"a key with a break": {"http://localhost", []tollgate.Option{tollgate.WithAPIKey("tg_" + secret + "\n")}},
		"a key as a token":   {"http://localhost", []tollgate.Option{tollgate.WithAccessToken("tg_" + secret)}},
		"no time":            {"http://localhost", []tollgate.Option{tollgate.WithTimeout(0)}},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := tollgate.New(test.url, test.opts...)
			if err == nil || c != nil {
				t.Fatal("it was accepted")
			}
			if strings.Contains(err.Error(), secret) {
				t.Errorf("the error tells the secret: %v", err)
			}
		})
	}
}

func TestTimeout(t *testing.T) {
	c := newClient(t, silent(t), tollgate.WithTimeout(20*time.Millisecond))
	calls := map[string]func(context.Context) error{
		"Verify":         func(ctx context.Context) error { _, err := c.Verify(ctx, "alice.token"); return err },
		"Authorize":      func(ctx context.Context) error { _, err := c.Authorize(ctx, tollgate.AuthorizeRequest{}); return err },
		"BatchAuthorize": func(ctx context.Context) error { _, err := c.BatchAuthorize(ctx, nil); return err },
		"CheckLimit":     func(ctx context.Context) error { _, err := c.CheckLimit(ctx, tollgate.CheckLimitRequest{}); return err },
		"RecordEvent":    func(ctx context.Context) error { return c.RecordEvent(ctx, tollgate.Event{}) },
		"a generated client": func(ctx context.Context) error {
			_, err := c.Auth().WhoAmI(ctx, &tollgatev1.WhoAmIRequest{})
			return err
		},
	}
	for name, call := range calls {
		t.Run(name, func(t *testing.T) {
			err := call(context.Background())
			var known *tollgate.Error
			if !errors.As(err, &known) || known.Code != connect.CodeDeadlineExceeded || !errors.Is(err, tollgate.ErrUnavailable) {
				t.Errorf("error %v", err)
			}
		})
	}
}

// The time of the token source is part of the call's.
func TestTimeoutIncludesTokenSource(t *testing.T) {
	c := newClient(t, silent(t), tollgate.WithTimeout(20*time.Millisecond),
		tollgate.WithTokenSource(func(ctx context.Context) (string, error) {
			<-ctx.Done()
			return "", ctx.Err()
		}))
	if _, err := c.Verify(context.Background(), "alice.token"); err == nil {
		t.Error("no error")
	}
}

func TestRedirectIsRefused(t *testing.T) {
	f := &fake{verify: func(*tollgatev1.VerifyRequest) (*tollgatev1.VerifyResponse, error) {
		return &tollgatev1.VerifyResponse{Active: true, Principal: alice}, nil
	}}
	elsewhere := serve(t, f.handler())
	for _, status := range []int{301, 302, 303, 307, 308} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			c := newClient(t, serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				http.Redirect(w, r, elsewhere+r.URL.Path, status)
			})), tollgate.WithHTTPClient(&http.Client{}))
			_, err := c.Verify(t.Context(), "alice.token")
			var known *tollgate.Error
			if !errors.As(err, &known) || known.Code != connect.CodeFailedPrecondition || !strings.Contains(known.Message, "redirect") {
				t.Errorf("error %v", err)
			}
			if len(f.authorization) > 0 {
				t.Errorf("the other server was called with %q", f.authorization)
			}
		})
	}
}

func TestGivenHTTPClientStaysAsItIs(t *testing.T) {
	given := &http.Client{Timeout: time.Minute}
	decided(allowed()).start(t, tollgate.WithHTTPClient(given))
	if given.Transport != nil {
		t.Error("its transport was replaced: its other users would present our credential")
	}
}

func TestTokenSource(t *testing.T) {
	turn := 0
	f := decided(allowed())
	c := f.start(t, tollgate.WithTokenSource(func(context.Context) (string, error) {
		turn++
		switch turn {
		case 3:
			return "", errors.New("the vault is sealed")
		case 4:
			return "not a token", nil
		}
		return fmt.Sprintf("token-%d", turn), nil
	}))
	for i := range 4 {
		_, err := c.Authorize(t.Context(), tollgate.AuthorizeRequest{Permission: "orders:read"})
		var known *tollgate.Error
		switch {
		case i < 2 && err != nil:
			t.Error(err)
		case i >= 2 && (!errors.As(err, &known) || known.Code != connect.CodeUnauthenticated):
			t.Errorf("error %v", err)
		}
	}
	if got := strings.Join(f.authorization, ", "); got != "Bearer token-1, Bearer token-2" {
		t.Errorf("presented %s", got)
	}
}

func TestAnswerIsBounded(t *testing.T) {
	res := allowed()
	res.Principal = &tollgatev1.Principal{Username: strings.Repeat("a", 2<<20)}
	_, err := decided(res).start(t).Authorize(t.Context(), tollgate.AuthorizeRequest{})
	var known *tollgate.Error
	if !errors.As(err, &known) || known.Code != connect.CodeResourceExhausted {
		t.Errorf("error %v", err)
	}
}

func TestVerify(t *testing.T) {
	f := &fake{verify: func(req *tollgatev1.VerifyRequest) (*tollgatev1.VerifyResponse, error) {
		if req.GetAccessToken() == "alice.token" || req.GetApiKey() == "tg_alice" {
			return &tollgatev1.VerifyResponse{Active: true, Reason: tollgatev1.Reason_REASON_OK, Principal: alice, Revision: 7}, nil
		}
		return &tollgatev1.VerifyResponse{Reason: tollgatev1.Reason_REASON_CREDENTIAL_EXPIRED}, nil
	}}
	c := f.start(t)
	for _, test := range []struct {
		credential string
		active     bool
		reason     tollgate.Reason
		calls      int
	}{
		{"alice.token", true, tollgate.ReasonOK, 1},
		{"tg_alice", true, tollgate.ReasonOK, 2},
		{"old.token", false, tollgate.ReasonCredentialExpired, 3},
		{"", false, tollgate.ReasonCredentialMissing, 3},
		{"no token", false, tollgate.ReasonCredentialInvalid, 3},
	} {
		v, err := c.Verify(t.Context(), test.credential)
		if err != nil {
			t.Fatal(err)
		}
		if v.Active != test.active || v.Reason != test.reason || (v.Principal != nil) != test.active {
			t.Errorf("%q: %+v", test.credential, v)
		}
		if len(f.verified) != test.calls {
			t.Errorf("%q: %d calls, want %d", test.credential, len(f.verified), test.calls)
		}
	}
}

func TestAuthorize(t *testing.T) {
	f := decided(allowed())
	c := f.start(t)
	d, err := c.Authorize(t.Context(), tollgate.AuthorizeRequest{UserID: "u-alice", Permission: "orders:read", MinRevision: 5})
	if err != nil {
		t.Fatal(err)
	}
	if !d.Allowed || d.Err() != nil || d.Revision != 7 || d.Principal.Username != "alice" || !d.Principal.ExpiresAt.IsZero() {
		t.Errorf("decision %+v", d)
	}
	if got := f.asked(t); got.GetUserId() != "u-alice" || got.GetMinRevision() != 5 || got.GetClient().GetIp() != "" {
		t.Errorf("asked %v", got)
	}
	var known *tollgate.Error
	if _, err := c.Authorize(t.Context(), tollgate.AuthorizeRequest{UserID: "u-alice", Credential: "bob.token"}); !errors.As(err, &known) {
		t.Errorf("two callers in one request: error %v", err)
	}

	d, err = decided(limited(3*time.Second)).start(t).Authorize(t.Context(), tollgate.AuthorizeRequest{Credential: "alice.token"})
	if err != nil {
		t.Fatal(err)
	}
	var denied *tollgate.DeniedError
	if !errors.As(d.Err(), &denied) || denied.Reason != tollgate.ReasonLimited || denied.RetryAfter != 3*time.Second {
		t.Errorf("Err() = %v", d.Err())
	}
	if len(d.Limits) != 3 || d.Limits[1].Reset != 59500*time.Millisecond || !d.Limits[0].Shadow {
		t.Errorf("limits %+v", d.Limits)
	}
}

func TestAuthorizeBatch(t *testing.T) {
	f := &fake{authorize: func(req *tollgatev1.AuthorizeRequest) (*tollgatev1.AuthorizeResponse, error) {
		switch req.GetPermission() {
		case "orders:read":
			return allowed(), nil
		case "orders:lost":
			return nil, nil
		}
		return refused(tollgatev1.Reason_REASON_PERMISSION_MISSING), nil
	}}
	c := f.start(t)
	ds, err := c.BatchAuthorize(t.Context(), []tollgate.AuthorizeRequest{
		{Credential: "alice.token", Permission: "orders:read"},
		{Credential: "alice.token", Permission: "orders:write"},
		{Credential: "no token", Permission: "orders:read"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if !ds[0].Allowed || ds[1].Allowed || ds[2].Allowed {
		t.Errorf("decisions %+v %+v %+v", ds[0], ds[1], ds[2])
	}
	_, err = c.BatchAuthorize(t.Context(), []tollgate.AuthorizeRequest{{Permission: "orders:read"}, {Permission: "orders:lost"}})
	if err == nil {
		t.Error("an answer that lacks a decision was accepted")
	}
}

func TestCheckLimit(t *testing.T) {
	f := &fake{check: func(req *tollgatev1.CheckLimitRequest) (*tollgatev1.CheckLimitResponse, error) {
		if req.GetLimit() != "sms" || req.GetKey() != "+49" || req.GetCost() != 2 || !req.GetPeek() {
			return nil, fmt.Errorf("asked %v", req)
		}
		return &tollgatev1.CheckLimitResponse{
			Status: &tollgatev1.LimitStatus{Name: "sms", Limit: 5}, RetryAfter: durationpb.New(time.Second),
		}, nil
	}}
	got, err := f.start(t).CheckLimit(t.Context(), tollgate.CheckLimitRequest{Limit: "sms", Key: "+49", Cost: 2, Peek: true})
	if err != nil {
		t.Fatal(err)
	}
	var denied *tollgate.DeniedError
	if got.Allowed || got.Status.Limit != 5 || !errors.As(got.Err(), &denied) || denied.RetryAfter != time.Second {
		t.Errorf("result %+v", got)
	}
}

func TestRecordEvent(t *testing.T) {
	f := &fake{}
	err := f.start(t).RecordEvent(t.Context(), tollgate.Event{
		Actor: &tollgate.Principal{UserID: "u-alice", Username: "alice", SessionID: "s-1"}, Action: "order.cancel",
		Outcome: tollgate.OutcomeDenied, Reason: "too late", Resource: "orders/42",
		IP: netip.MustParseAddr("::ffff:192.0.2.7"), Details: map[string]string{"state": "sent"},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := &tollgatev1.RecordEventRequest{
		Actor:  &tollgatev1.Actor{UserId: "u-alice", Username: "alice", SessionId: "s-1"},
		Action: "order.cancel", Outcome: tollgatev1.Outcome_OUTCOME_DENIED, Reason: "too late",
		Resource: "orders/42", Ip: "192.0.2.7", Details: map[string]string{"state": "sent"},
	}
	if !proto.Equal(f.recorded[0], want) {
		t.Errorf("recorded %v", f.recorded[0])
	}
}

func TestError(t *testing.T) {
	told := connect.NewError(connect.CodeInvalidArgument, errors.New("requests[0].permission: no"))
	for _, message := range []proto.Message{
		&errdetails.ErrorInfo{Reason: "INVALID_FIELD", Metadata: map[string]string{"request_id": "req-1"}},
		&errdetails.RetryInfo{RetryDelay: durationpb.New(1500 * time.Millisecond)},
		&errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{{Field: "permission", Description: "no"}}},
	} {
		detail, err := connect.NewErrorDetail(message)
		if err != nil {
			t.Fatal(err)
		}
		told.AddDetail(detail)
	}
	told.Meta().Set("Retry-After", "2")
	f := &fake{authorize: func(*tollgatev1.AuthorizeRequest) (*tollgatev1.AuthorizeResponse, error) { return nil, told }}
	_, err := f.start(t).Authorize(t.Context(), tollgate.AuthorizeRequest{Credential: "alice.token"})

	var known *tollgate.Error
	if !errors.As(err, &known) {
		t.Fatalf("error %T", err)
	}
	if known.Code != connect.CodeInvalidArgument || known.Reason != "INVALID_FIELD" || known.RequestID != "req-1" ||
		known.RetryAfter != 1500*time.Millisecond || len(known.Violations) != 1 || known.Violations[0].Field != "permission" {
		t.Errorf("error %+v", known)
	}
	if errors.Is(err, tollgate.ErrUnavailable) {
		t.Error("a bad request counts as no answer")
	}
	var wire *connect.Error
	if !errors.As(err, &wire) {
		t.Error("the connect error is lost")
	}
	for _, secret := range []string{"alice.token", serviceKey} {
		if strings.Contains(fmt.Sprintf("%v %+v", err, known), secret) {
			t.Errorf("the error tells %s", secret)
		}
	}
}

func TestStreamError(t *testing.T) {
	c := (&fake{}).start(t, tollgate.WithTimeout(time.Nanosecond)) // which is not for streams
	stream, err := c.Audit().WatchEvents(t.Context(), &tollgatev1.WatchEventsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for stream.Receive() {
	}
	var known *tollgate.Error
	if !errors.As(stream.Err(), &known) || known.Code != connect.CodeUnimplemented {
		t.Errorf("error %v", stream.Err())
	}
}

func TestNoAnswer(t *testing.T) {
	server := httptest.NewServer(nil)
	server.Close()
	_, err := newClient(t, server.URL).Verify(t.Context(), "alice.token")
	if !errors.Is(err, tollgate.ErrUnavailable) {
		t.Errorf("error %v", err)
	}
	if strings.Contains(err.Error(), "alice.token") || strings.Contains(err.Error(), serviceKey) {
		t.Errorf("the error tells a credential: %v", err)
	}
}
