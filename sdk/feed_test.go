package tollgate_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"
	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
	tollgate "github.com/tollgatehq/tollgate/sdk"
	"github.com/tollgatehq/tollgate/sdk/sdktest"
)

func TestFeed(t *testing.T) {
	t.Parallel()
	f := newVerifierFixture(t)
	one, other := f.Token("alice", sdktest.InSession("s-1")), f.Token("alice", sdktest.InSession("s-2"))
	machine := f.Token("alice", sdktest.FromAPIKey("key-1"))
	for _, token := range []string{one, other, machine} {
		f.wantReason(t, token, tollgate.ReasonOK)
	}
	f.waitFor(t, f.Revoke("s-1"))
	f.wantReason(t, one, tollgate.ReasonCredentialRevoked)
	f.wantReason(t, other, tollgate.ReasonOK)

	f.SetUser(sdktest.User{Name: "alice", Disabled: true})
	f.waitFor(t, f.KeepAlive())
	f.wantReason(t, other, tollgate.ReasonUserDisabled)
	f.wantReason(t, machine, tollgate.ReasonUserDisabled)
	f.SetUser(sdktest.User{Name: "alice"})
	f.waitFor(t, f.KeepAlive())
	f.wantReason(t, machine, tollgate.ReasonOK)
	f.wantReason(t, one, tollgate.ReasonCredentialRevoked)

	key := f.APIKey("alice")
	_, id, _ := strings.Cut(strings.TrimSuffix(key, "_secret"), "_")
	traded := f.Token("alice", sdktest.FromAPIKey(id))
	f.wantReason(t, traded, tollgate.ReasonOK)
	f.waitFor(t, f.RevokeAPIKey(key))
	f.wantReason(t, traded, tollgate.ReasonCredentialRevoked)
	f.wantVerifyCalls(t, 0)
}

func TestFeedSnapshot(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	token := f.Token("alice", sdktest.InSession("s-1"))
	f.Revoke("s-1")
	f.startVerifier(t, tollgate.VerifierConfig{})
	f.waitFor(t, 0)
	f.wantReason(t, token, tollgate.ReasonCredentialRevoked)
	f.wantVerifyCalls(t, 0)
}

func TestFeedLost(t *testing.T) {
	t.Parallel()
	t.Run("asks", func(t *testing.T) {
		f := newVerifierFixture(t)
		token := f.Token("alice", sdktest.InSession("s-1"), sdktest.ExpiresAt(f.now().Add(10*time.Hour)))
		f.wantReason(t, token, tollgate.ReasonOK)
		f.add(time.Hour)
		f.wantReason(t, token, tollgate.ReasonOK)
		f.wantVerifyCalls(t, 0)
		f.add(time.Nanosecond)
		f.wantReason(t, token, tollgate.ReasonOK)
		f.wantReason(t, token+"x", tollgate.ReasonCredentialInvalid) // refused without a call
		f.wantReason(t, f.Token("alice", sdktest.ExpiresAt(f.now())), tollgate.ReasonCredentialExpired)
		f.wantVerifyCalls(t, 1)
		f.SetDown(true)
		f.wantNoAnswer(t, token)
	})
	t.Run("fails closed", func(t *testing.T) {
		f := newFixture(t)
		f.startVerifier(t, tollgate.VerifierConfig{FailClosed: true})
		f.waitFor(t, 0)
		token := f.Token("alice", sdktest.ExpiresAt(f.now().Add(10*time.Hour)))
		f.add(time.Hour + time.Nanosecond)
		f.wantNoAnswer(t, token)
		f.wantVerifyCalls(t, 0)
		f.waitFor(t, f.KeepAlive())
		f.wantReason(t, token, tollgate.ReasonOK)
	})
	t.Run("never heard", func(t *testing.T) {
		f := newFixture(t)
		f.intercept(func(r *http.Request) (*http.Response, error) {
			if strings.HasSuffix(r.URL.Path, "/WatchRevocations") {
				return nil, errors.New("refused")
			}
			return f.next.RoundTrip(r)
		})
		f.startVerifier(t, tollgate.VerifierConfig{})
		f.wantReason(t, f.Token("alice"), tollgate.ReasonOK)
		f.SetUser(sdktest.User{Name: "alice", Disabled: true})
		f.wantReason(t, f.Token("alice"), tollgate.ReasonUserDisabled)
		f.wantVerifyCalls(t, 2)
	})
}

// TestFeedReconnects: what happened meanwhile is in the next stream's snapshot.
func TestFeedReconnects(t *testing.T) {
	t.Parallel()
	f := newVerifierFixture(t)
	one, other := f.Token("alice", sdktest.InSession("s-1")), f.Token("alice", sdktest.InSession("s-2"))
	f.SetDown(true)
	revision := f.Revoke("s-1")
	f.SetDown(false)
	f.waitFor(t, revision)
	f.wantReason(t, one, tollgate.ReasonCredentialRevoked)
	f.wantReason(t, other, tollgate.ReasonOK)
}

// TestFeedSilent: a stream without messages is given up after the bound.
func TestFeedSilent(t *testing.T) {
	t.Parallel()
	var turn atomic.Int32
	f := newFixture(t)
	f.intercept(func(r *http.Request) (*http.Response, error) {
		if strings.HasSuffix(r.URL.Path, "/WatchRevocations") && turn.Add(1) == 1 {
			<-r.Context().Done()
			return nil, r.Context().Err()
		}
		return f.next.RoundTrip(r)
	})
	f.startVerifier(t, tollgate.VerifierConfig{FeedBound: time.Second + time.Millisecond})
	f.waitFor(t, 0)
	if n := turn.Load(); n != 2 {
		t.Errorf("%d streams", n)
	}
}

// feedScript replaces the messages of the feed of revocations.
type feedScript struct {
	connect.Interceptor
	messages []*tollgatev1.WatchRevocationsResponse
	began    chan struct{} // gets one for each stream
}

func (f feedScript) WrapStreamingHandler(connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return func(_ context.Context, conn connect.StreamingHandlerConn) error {
		f.began <- struct{}{}
		for _, message := range f.messages {
			if err := conn.Send(message); err != nil {
				return err
			}
		}
		return nil
	}
}

// TestFeedWithoutSnapshot: messages without a snapshot before them are not all
// that is revoked.
func TestFeedWithoutSnapshot(t *testing.T) {
	t.Parallel()
	feed := feedScript{
		connect.UnaryInterceptorFunc(func(next connect.UnaryFunc) connect.UnaryFunc { return next }),
		[]*tollgatev1.WatchRevocationsResponse{{Revision: 7}, {Revision: 8}}, make(chan struct{}, 100),
	}
	server := sdktest.NewServer(sdktest.WithInterceptors(feed))
	t.Cleanup(server.Close)
	server.SetUser(sdktest.User{Name: "alice"})
	verifier := server.Verifier(tollgate.VerifierConfig{FailClosed: true})
	t.Cleanup(verifier.Close)
	<-feed.began
	<-feed.began // the first is over
	if v, err := verifier.Verify(t.Context(), server.Token("alice")); !errors.Is(err, tollgate.ErrUnavailable) {
		t.Errorf("%+v, error %v", v, err)
	}
}

// TestFeedTokens: tokens that were revoked by themselves are refused, without
// asking, those of the snapshot and those that follow.
func TestFeedTokens(t *testing.T) {
	t.Parallel()
	feed := feedScript{
		connect.UnaryInterceptorFunc(func(next connect.UnaryFunc) connect.UnaryFunc { return next }),
		[]*tollgatev1.WatchRevocationsResponse{
			{Snapshot: true, Revision: 7, TokenIds: []string{"t-1"}}, {Revision: 8, TokenIds: []string{"t-2"}},
		},
		make(chan struct{}, 1000),
	}
	server := sdktest.NewServer(sdktest.WithInterceptors(feed))
	t.Cleanup(server.Close)
	server.SetUser(sdktest.User{Name: "alice"})
	verifier := server.Verifier(tollgate.VerifierConfig{FailClosed: true, FeedBound: time.Minute})
	t.Cleanup(verifier.Close)
	if err := verifier.Wait(t.Context(), 8); err != nil {
		t.Fatal(err)
	}
	for id, want := range map[string]tollgate.Reason{
		"t-1": tollgate.ReasonCredentialRevoked, "t-2": tollgate.ReasonCredentialRevoked, "t-3": tollgate.ReasonOK,
	} {
		v, err := verifier.Verify(t.Context(), server.Token("alice", sdktest.FromAPIKey("key-1"), sdktest.Claim("jti", id)))
		if err != nil || v.Reason != want {
			t.Errorf("%s: %+v, error %v; want %s", id, v, err, want)
		}
	}
}
