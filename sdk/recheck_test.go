package tollgate_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
	tollgate "github.com/tollgatehq/tollgate/sdk"
	"github.com/tollgatehq/tollgate/sdk/sdktest"
)

// lastingStream is a stream that lasts as long as its context.
type lastingStream struct {
	ended chan error // gets how the caller's stream ended
	sent  chan error // gets the error of sending after the end
}

// startStream begins one with a credential.
func startStream(ctx context.Context, t *testing.T, interceptor connect.Interceptor, credential string) lastingStream {
	t.Helper()
	l, began := lastingStream{make(chan error, 1), make(chan error, 1)}, make(chan struct{}, 1)
	s := newService(t, interceptor, ordersWrite)
	s.stream = func(ctx context.Context, stream *connect.ServerStream[getResponse]) error {
		began <- struct{}{}
		<-ctx.Done()
		l.sent <- stream.Send(&getResponse{})
		return nil
	}
	go func() { l.ended <- s.watch(ctx, "Bearer "+credential) }()
	select {
	case <-began:
	case err := <-l.ended:
		t.Fatalf("the stream did not begin: %v", err)
	}
	return l
}

// wantEnd checks how a stream ended, and that nothing was sent after it.
func (l lastingStream) wantEnd(t *testing.T, code connect.Code, reason string) {
	t.Helper()
	for _, end := range []chan error{l.ended, l.sent} {
		select {
		case err := <-end:
			wantRefusal(t, err, code, reason)
		case <-time.After(20 * time.Second):
			t.Fatal("the stream goes on")
		}
	}
}

// TestStreamRecheck: Tollgate decides again about the caller of a stream, and
// does not count it; the decision that ends the stream is recorded.
func TestStreamRecheck(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		end    func(*fixture)
		code   connect.Code
		reason string
	}{
		"session":    {func(f *fixture) { f.Revoke("s-1") }, connect.CodeUnauthenticated, "CREDENTIAL_REVOKED"},
		"user":       {func(f *fixture) { f.SetUser(sdktest.User{Name: "alice", Disabled: true}) }, connect.CodeUnauthenticated, "USER_DISABLED"},
		"permission": {func(f *fixture) { f.SetRole("clerk") }, connect.CodePermissionDenied, "PERMISSION_MISSING"},
		"expiry":     {func(f *fixture) { f.add(15 * time.Minute) }, connect.CodeUnauthenticated, "CREDENTIAL_EXPIRED"},
		"Tollgate":   {func(f *fixture) { f.SetDown(true) }, connect.CodeUnavailable, "DEPENDENCY_DOWN"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, asked := newFixture(t), make(chan struct{}, 1000)
			f.SetLimit(sdktest.Limit{Name: "per-user", Permission: "*", Calls: 1})
			f.intercept(func(r *http.Request) (*http.Response, error) {
				defer func() { asked <- struct{}{} }()
				return f.next.RoundTrip(r)
			})
			interceptor := f.client(t, tollgate.WithRecheck(400*time.Millisecond)).Interceptor()
			stream := startStream(t.Context(), t, interceptor, f.Token("alice", sdktest.InSession("s-1")))
			for range 3 { // it goes on
				<-asked
			}
			test.end(f)
			stream.wantEnd(t, test.code, test.reason)
			all := f.Decisions()
			last := all[len(all)-1]
			if !last.Request.GetRecheck() || test.code != connect.CodeUnavailable && last.Response.GetAllowed() {
				t.Errorf("the last decision is %v, %v", last.Request, last.Response)
			}
		})
	}
}

// TestStreamOutage: one answer that does not come ends no stream.
func TestStreamOutage(t *testing.T) {
	t.Parallel()
	n, asked := 0, make(chan int, 100)
	f := newFixture(t, answering(func(*tollgatev1.AuthorizeRequest) (*tollgatev1.AuthorizeResponse, error) {
		n++ // one stream asks one at a time
		asked <- n
		switch n {
		case 2:
			return nil, connect.NewError(connect.CodeUnavailable, nil)
		case 4:
			return refused(tollgatev1.Reason_REASON_CREDENTIAL_REVOKED), nil
		}
		return allowed(), nil
	}))
	stream := startStream(t.Context(), t, f.client(t, tollgate.WithRecheck(2*time.Second)).Interceptor(), "alice.token")
	for <-asked < 4 {
	}
	stream.wantEnd(t, connect.CodeUnauthenticated, "CREDENTIAL_REVOKED")
}

// TestStreamWithVerifier: the feed of revocations ends a stream at once.
func TestStreamWithVerifier(t *testing.T) {
	t.Parallel()
	disable := func(f *fixture, _ string) { f.SetUser(sdktest.User{Name: "alice", Disabled: true}) }
	token := func(f *fixture) string { return f.Token("alice", sdktest.InSession("s-1")) }
	key := func(f *fixture) string { return f.APIKey("alice") }
	for name, test := range map[string]struct {
		credential func(*fixture) string
		end        func(f *fixture, credential string)
		reason     string
	}{
		"session": {token, func(f *fixture, _ string) { f.Revoke("s-1") }, "CREDENTIAL_REVOKED"},
		"signing key": {
			func(f *fixture) string { f.RotateKey(); f.add(5 * time.Second); return f.Token("alice") },
			func(f *fixture, _ string) { f.RemoveKey() }, "CREDENTIAL_INVALID",
		},
		"user of a token":    {token, disable, "USER_DISABLED"},
		"API key":            {key, func(f *fixture, key string) { f.RevokeAPIKey(key) }, "CREDENTIAL_REVOKED"},
		"user of an API key": {key, disable, "USER_DISABLED"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			f.startVerifier(t, tollgate.VerifierConfig{}, tollgate.WithRecheck(time.Hour)) // the feed's news alone can end it
			f.waitFor(t, 0)
			credential := test.credential(f)
			stream := startStream(t.Context(), t, f.verifier.Interceptor(), credential)
			f.waitFor(t, f.KeepAlive()) // a message that ends nothing
			test.end(f, credential)
			stream.wantEnd(t, connect.CodeUnauthenticated, test.reason)
			if all := f.Decisions(); len(all) != 2 || !all[1].Request.GetRecheck() {
				t.Errorf("Tollgate decided %v, want the call and what ended it", all)
			}
		})
	}
}

// TestStreamReceive: a handler that waits for a message gets none from a caller
// who was refused meanwhile.
func TestStreamReceive(t *testing.T) {
	t.Parallel()
	f := newVerifierFixture(t)
	got, ended := make(chan struct{}, 1), make(chan error, 1)
	h := connect.NewClientStreamHandler("/x.y.Z/Do",
		func(ctx context.Context, stream *connect.ClientStream[getRequest]) (*connect.Response[getResponse], error) {
			stream.Receive()
			got <- struct{}{}
			<-ctx.Done()
			if stream.Receive() {
				t.Error("a message got to the handler")
			}
			ended <- stream.Err()
			return connect.NewResponse(&getResponse{}), nil
		},
		connect.WithInterceptors(f.verifier.Interceptor()), connect.WithSchema(method(t, ordersWrite)))
	client := connect.NewClient[getRequest, getResponse](http.DefaultClient, serve(t, h)+"/x.y.Z/Do")
	stream := client.CallClientStream(t.Context())
	stream.RequestHeader().Set("Authorization", "Bearer "+f.Token("alice", sdktest.InSession("s-1")))
	for range 2 { // the second one waits to be read
		must(t, stream.Send(&getRequest{}))
	}
	<-got
	f.Revoke("s-1")
	wantRefusal(t, <-ended, connect.CodeUnauthenticated, "CREDENTIAL_REVOKED")
	_, err := stream.CloseAndReceive()
	wantRefusal(t, err, connect.CodeUnauthenticated, "CREDENTIAL_REVOKED")
}

// TestStreamCallerHangsUp: that is no refusal.
func TestStreamCallerHangsUp(t *testing.T) {
	t.Parallel()
	f := newVerifierFixture(t)
	ctx, hangUp := context.WithCancel(t.Context())
	stream := startStream(ctx, t, f.verifier.Interceptor(), f.Token("alice"))
	hangUp()
	<-stream.ended
	if err := <-stream.sent; connect.CodeOf(err) == connect.CodeUnauthenticated || connect.CodeOf(err) == connect.CodeUnavailable {
		t.Errorf("error %v", err)
	}
}

// TestInterceptorWithVerifier: a good credential is decided in this process, and
// a bad one is recorded.
func TestInterceptorWithVerifier(t *testing.T) {
	t.Parallel()
	f := newVerifierFixture(t)
	s := newService(t, f.verifier.Interceptor(), authenticated)
	if err := s.get(t.Context(), "", "Bearer "+f.Token("alice")); err != nil || len(s.passed) != 1 || s.passed[0].UserID != alicesUser {
		t.Errorf("error %v, passed %v", err, s.passed)
	}
	wantRefusal(t, s.get(t.Context(), ""), connect.CodeUnauthenticated, "CREDENTIAL_MISSING")
	if n := len(f.Decisions()); n != 0 {
		t.Errorf("Tollgate decided %d times", n)
	}
	for range 100 {
		wantRefusal(t, s.get(t.Context(), "", "Bearer "+f.Token("alice")+"x"), connect.CodeUnauthenticated, "CREDENTIAL_INVALID")
	}
	if all := f.Decisions(); len(all) != 10 || all[0].Request.GetPermission() != "me:read" {
		t.Errorf("Tollgate decided %d times", len(all))
	}
	if len(s.passed) != 1 {
		t.Error("a bad credential got to the handler")
	}
	if err := newService(t, f.verifier.Interceptor(), ordersWrite).get(t.Context(), "", "Bearer "+f.Token("alice")); err != nil {
		t.Error(err)
	}
	if all := f.Decisions(); len(all) != 11 || strings.Contains(all[10].Request.GetPermission(), "me:") {
		t.Errorf("a permission was not decided by Tollgate: %v", all)
	}
}
