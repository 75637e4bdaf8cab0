package tollgate_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
	"github.com/tollgatehq/tollgate/gen/tollgate/v1/tollgatev1connect"
	tollgate "github.com/tollgatehq/tollgate/sdk"
	"github.com/tollgatehq/tollgate/sdk/sdktest"
)

// lasting serves a stream, for which tollgate:audit:read is needed, that lasts
// for as long as its context.
type lasting struct {
	tollgatev1connect.UnimplementedAuditServiceHandler
	began chan struct{} // gets one for each stream
	sent  chan error    // gets what came of sending after the end
}

func (l lasting) WatchEvents(ctx context.Context, _ *tollgatev1.WatchEventsRequest, stream *connect.ServerStream[tollgatev1.WatchEventsResponse]) error {
	l.began <- struct{}{}
	<-ctx.Done()
	l.sent <- stream.Send(&tollgatev1.WatchEventsResponse{})
	return nil
}

// stream begins one with a credential and returns what it ends with.
func (l lasting) stream(t *testing.T, c *tollgate.Client, credential string, opts ...tollgate.InterceptorOption) (ended chan error) {
	t.Helper()
	mux := http.NewServeMux()
	mux.Handle(tollgatev1connect.NewAuditServiceHandler(l, connect.WithInterceptors(c.Interceptor(opts...))))
	as := callers{audit: tollgatev1connect.NewAuditServiceClient(
		http.DefaultClient, serve(t, mux), connect.WithInterceptors(presents{"Bearer " + credential}))}
	ended = make(chan error, 1)
	go func() { ended <- as.watch(t) }()
	select {
	case <-l.began:
	case err := <-ended:
		t.Fatalf("the stream did not begin: %v", err)
	}
	return ended
}

// wantEnd checks how a stream ended, and that nothing was sent after it.
func (l lasting) wantEnd(t *testing.T, ended chan error, code connect.Code, reason string) {
	t.Helper()
	wantRefusal(t, <-ended, code, reason)
	wantRefusal(t, <-l.sent, code, reason)
}

func newLasting() lasting { return lasting{began: make(chan struct{}, 10), sent: make(chan error, 10)} }

// newAuditors is a Tollgate with alice, who may have lasting's stream.
func newAuditors(t *testing.T) *stage {
	s := newStage(t, nil)
	s.SetRole("auditor", "tollgate:audit:read")
	s.SetUser(sdktest.User{Name: "alice", Roles: []string{"auditor"}})
	return s
}

// asking passes each Authorize on and tells of it.
func asking(t *testing.T) (tollgate.Option, chan struct{}) {
	next, asked := newTransport(t), make(chan struct{}, 1000)
	return tripper(func(r *http.Request) (*http.Response, error) {
		defer func() {
			if strings.HasSuffix(r.URL.Path, "/Authorize") {
				asked <- struct{}{}
			}
		}()
		return next.RoundTrip(r)
	}).client(), asked
}

// Tollgate is asked again about a stream's caller, without being counted; what
// ends it is on record.
func TestStreamIsRechecked(t *testing.T) {
	for name, test := range map[string]struct {
		end    func(*stage)
		code   connect.Code
		reason string
	}{
		"session":    {func(s *stage) { s.Revoke("s-1") }, connect.CodeUnauthenticated, "CREDENTIAL_REVOKED"},
		"user":       {func(s *stage) { s.SetUser(sdktest.User{Name: "alice", Disabled: true}) }, connect.CodeUnauthenticated, "USER_DISABLED"},
		"permission": {func(s *stage) { s.SetRole("auditor") }, connect.CodePermissionDenied, "PERMISSION_MISSING"},
		"expiry":     {func(s *stage) { s.add(15 * time.Minute) }, connect.CodeUnauthenticated, "CREDENTIAL_EXPIRED"},
		"Tollgate":   {func(s *stage) { s.SetDown(true) }, connect.CodeUnavailable, "DEPENDENCY_DOWN"},
	} {
		t.Run(name, func(t *testing.T) {
			s, l := newAuditors(t), newLasting()
			s.SetLimit(sdktest.Limit{Name: "per-user", Permission: "*", Calls: 1})
			through, asked := asking(t)
			ended := l.stream(t, newClient(t, s.URL, through), s.Token("alice", sdktest.InSession("s-1")), tollgate.WithRecheck(100*time.Millisecond))
			for range 4 { // it goes on
				<-asked
			}
			test.end(s)
			l.wantEnd(t, ended, test.code, test.reason)
			all := s.Decisions()
			last := all[len(all)-1]
			if !last.Request.GetRecheck() || test.code != connect.CodeUnavailable && last.Response.GetAllowed() {
				t.Errorf("the last decision is %v, %v", last.Request, last.Response)
			}
		})
	}
}

// One answer that does not come ends no stream.
func TestStreamOutlivesAnOutage(t *testing.T) {
	l, n, asked := newLasting(), 0, make(chan int, 100)
	f := &fake{authorize: func(*tollgatev1.AuthorizeRequest) (*tollgatev1.AuthorizeResponse, error) {
		n++ // one stream asks one at a time
		asked <- n
		switch n {
		case 2:
			return nil, connect.NewError(connect.CodeUnavailable, nil)
		case 4:
			return refused(tollgatev1.Reason_REASON_CREDENTIAL_REVOKED), nil
		}
		return allowed(), nil
	}}
	ended := l.stream(t, f.start(t), "alice.token", tollgate.WithRecheck(2*time.Second))
	for <-asked < 4 {
	}
	l.wantEnd(t, ended, connect.CodeUnauthenticated, "CREDENTIAL_REVOKED")
}

// With a verifier, what the feed tells ends a stream at once.
func TestStreamEndsByTheFeed(t *testing.T) {
	for name, test := range map[string]struct {
		credential func(*stage) string
		end        func(s *stage, credential string)
		reason     string
	}{
		"session": {
			func(s *stage) string { return s.Token("alice", sdktest.InSession("s-1")) },
			func(s *stage, _ string) { s.Revoke("s-1") }, "CREDENTIAL_REVOKED",
		},
		"signing key": {
			func(s *stage) string { s.RotateKey(); s.add(5 * time.Second); return s.Token("alice") },
			func(s *stage, _ string) { s.RemoveKey() }, "CREDENTIAL_INVALID",
		},
		"user of a token": {
			func(s *stage) string { return s.Token("alice") },
			func(s *stage, _ string) { s.SetUser(sdktest.User{Name: "alice", Disabled: true}) }, "USER_DISABLED",
		},
		"API key": {
			func(s *stage) string { return s.APIKey("alice") },
			func(s *stage, key string) { s.RevokeAPIKey(key) }, "CREDENTIAL_REVOKED",
		},
		"user of an API key": {
			func(s *stage) string { return s.APIKey("alice") },
			func(s *stage, _ string) { s.SetUser(sdktest.User{Name: "alice", Disabled: true}) }, "USER_DISABLED",
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, l := newAuditors(t), newLasting()
			credential := test.credential(s)
			ended := l.stream(t, s.Client(), credential, tollgate.WithVerifier(s.verifier), tollgate.WithRecheck(time.Hour))
			s.hears(t, s.KeepAlive()) // news that end nothing
			test.end(s, credential)
			l.wantEnd(t, ended, connect.CodeUnauthenticated, test.reason)
			if all := s.Decisions(); len(all) != 2 || !all[1].Request.GetRecheck() {
				t.Errorf("Tollgate decided %v, want the call and what ended it", all)
			}
		})
	}
}

// With a verifier, any good credential is known in this process, and a bad one
// is on record.
func TestInterceptorWithVerifier(t *testing.T) {
	s, asService := newStage(t, nil), &service{}
	mux := http.NewServeMux()
	mux.Handle(tollgatev1connect.NewAuthServiceHandler(asService, connect.WithInterceptors(s.Client().Interceptor(tollgate.WithVerifier(s.verifier)))))
	url := serve(t, mux)
	whoAmI := func(authorization ...string) error {
		_, err := tollgatev1connect.NewAuthServiceClient(http.DefaultClient, url, connect.WithInterceptors(presents(authorization))).
			WhoAmI(t.Context(), &tollgatev1.WhoAmIRequest{})
		return err
	}
	if err := whoAmI("Bearer " + s.Token("alice")); err != nil || len(asService.through) != 1 || asService.through[0].UserID != "user-alice" {
		t.Errorf("error %v, through %v", err, asService.through)
	}
	wantRefusal(t, whoAmI(), connect.CodeUnauthenticated, "CREDENTIAL_MISSING")
	if n := len(s.Decisions()); n != 0 {
		t.Errorf("Tollgate was asked %d times", n)
	}
	for range 100 {
		wantRefusal(t, whoAmI("Bearer "+s.Token("alice")+"x"), connect.CodeUnauthenticated, "CREDENTIAL_INVALID")
	}
	if all := s.Decisions(); len(all) != 10 || all[0].Request.GetPermission() != "tollgate:whoami" {
		t.Errorf("Tollgate was asked %d times", len(all))
	}
	if len(asService.through) != 1 {
		t.Error("a bad credential got through")
	}
}

// A handler that waits for a message gets none from a caller who was refused
// meanwhile.
func TestStreamReceivesNothingAfterItsEnd(t *testing.T) {
	s := newAuditors(t)
	got, ended := make(chan struct{}, 1), make(chan error, 1)
	guard := &tollgatev1.Guard{Rule: &tollgatev1.Guard_Permission{Permission: "tollgate:audit:read"}}
	h := connect.NewClientStreamHandler("/x.y.Z/Do",
		func(ctx context.Context, stream *connect.ClientStream[tollgatev1.WhoAmIRequest]) (*connect.Response[tollgatev1.WhoAmIResponse], error) {
			stream.Receive()
			got <- struct{}{}
			<-ctx.Done()
			if stream.Receive() {
				t.Error("a message got through")
			}
			ended <- stream.Err()
			return connect.NewResponse(&tollgatev1.WhoAmIResponse{}), nil
		},
		connect.WithInterceptors(s.Client().Interceptor(tollgate.WithVerifier(s.verifier))), connect.WithSchema(method(t, guard)))
	client := connect.NewClient[tollgatev1.WhoAmIRequest, tollgatev1.WhoAmIResponse](http.DefaultClient, serve(t, h)+"/x.y.Z/Do",
		connect.WithInterceptors(presents{"Bearer " + s.Token("alice", sdktest.InSession("s-1"))}))
	stream := client.CallClientStream(t.Context())
	for range 2 { // the second one waits to be read
		if err := stream.Send(&tollgatev1.WhoAmIRequest{}); err != nil {
			t.Fatal(err)
		}
	}
	<-got
	s.Revoke("s-1")
	wantRefusal(t, <-ended, connect.CodeUnauthenticated, "CREDENTIAL_REVOKED")
	_, err := stream.CloseAndReceive()
	wantRefusal(t, err, connect.CodeUnauthenticated, "CREDENTIAL_REVOKED")
}

// A caller who hangs up is not told that they were refused.
func TestStreamCallerHangsUp(t *testing.T) {
	s, l := newAuditors(t), newLasting()
	mux := http.NewServeMux()
	mux.Handle(tollgatev1connect.NewAuditServiceHandler(l, connect.WithInterceptors(s.Client().Interceptor(tollgate.WithVerifier(s.verifier)))))
	client := tollgatev1connect.NewAuditServiceClient(http.DefaultClient, serve(t, mux), connect.WithInterceptors(presents{"Bearer " + s.Token("alice")}))
	ctx, hangUp := context.WithCancel(t.Context())
	over := make(chan struct{})
	go func() {
		defer close(over)
		if stream, err := client.WatchEvents(ctx, &tollgatev1.WatchEventsRequest{}); err == nil {
			_ = stream.Close()
		}
	}()
	<-l.began
	hangUp()
	<-over
	if err := <-l.sent; connect.CodeOf(err) == connect.CodeUnauthenticated || connect.CodeOf(err) == connect.CodeUnavailable {
		t.Errorf("error %v", err)
	}
}
