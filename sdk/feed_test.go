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
	"github.com/tollgatehq/tollgate/gen/tollgate/v1/tollgatev1connect"
	tollgate "github.com/tollgatehq/tollgate/sdk"
	"github.com/tollgatehq/tollgate/sdk/sdktest"
)

// hears waits until the verifier was told.
func (s *stage) hears(t *testing.T, revision int64) {
	t.Helper()
	if err := s.verifier.Wait(t.Context(), revision); err != nil {
		t.Fatal(err)
	}
}

func TestFeed(t *testing.T) {
	s := newStage(t, nil)
	one, other := s.Token("alice", sdktest.InSession("s-1")), s.Token("alice", sdktest.InSession("s-2"))
	machine := s.Token("alice", sdktest.FromAPIKey("key-1"))
	for _, token := range []string{one, other, machine} {
		s.wants(t, token, tollgate.ReasonOK)
	}
	s.hears(t, s.Revoke("s-1"))
	s.wants(t, one, tollgate.ReasonCredentialRevoked)
	s.wants(t, other, tollgate.ReasonOK)

	s.SetUser(sdktest.User{Name: "alice", Disabled: true})
	s.hears(t, s.KeepAlive())
	s.wants(t, other, tollgate.ReasonUserDisabled)
	s.wants(t, machine, tollgate.ReasonUserDisabled)
	s.SetUser(sdktest.User{Name: "alice"})
	s.hears(t, s.KeepAlive())
	s.wants(t, machine, tollgate.ReasonOK)
	s.wants(t, one, tollgate.ReasonCredentialRevoked)

	key := s.APIKey("alice")
	_, id, _ := strings.Cut(strings.TrimSuffix(key, "_secret"), "_")
	traded := s.Token("alice", sdktest.FromAPIKey(id))
	s.wants(t, traded, tollgate.ReasonOK)
	s.hears(t, s.RevokeAPIKey(key))
	s.wants(t, traded, tollgate.ReasonCredentialRevoked)
	if n := s.Calls("AuthService/Verify"); n != 0 {
		t.Errorf("Tollgate was asked %d times", n)
	}
}

func TestFeedBeginsWithWhatIsRevoked(t *testing.T) {
	c := newClock()
	server := sdktest.NewServer(sdktest.WithClock(c.now))
	t.Cleanup(server.Close)
	server.SetUser(sdktest.User{Name: "alice"})
	token := server.Token("alice", sdktest.InSession("s-1"))
	server.Revoke("s-1")
	s := &stage{Server: server, clock: c, verifier: server.Verifier()}
	t.Cleanup(s.verifier.Close)
	s.hears(t, 0)
	s.wants(t, token, tollgate.ReasonCredentialRevoked)
	if n := s.Calls("AuthService/Verify"); n != 0 {
		t.Errorf("Tollgate was asked %d times", n)
	}
}

func TestFeedLost(t *testing.T) {
	t.Run("asks", func(t *testing.T) {
		s := newStage(t, nil)
		token := s.Token("alice", sdktest.InSession("s-1"), sdktest.ExpiresAt(s.now().Add(10*time.Hour)))
		s.wants(t, token, tollgate.ReasonOK)
		s.add(time.Hour)
		s.wants(t, token, tollgate.ReasonOK)
		if n := s.Calls("AuthService/Verify"); n != 0 {
			t.Errorf("Tollgate was asked %d times within the bound", n)
		}
		s.add(time.Nanosecond)
		s.wants(t, token, tollgate.ReasonOK)
		s.wants(t, token+"x", tollgate.ReasonCredentialInvalid) // not worth asking
		s.wants(t, s.Token("alice", sdktest.ExpiresAt(s.now())), tollgate.ReasonCredentialExpired)
		if n := s.Calls("AuthService/Verify"); n != 1 {
			t.Errorf("Tollgate was asked %d times", n)
		}
		s.SetDown(true)
		s.fails(t, token)
	})
	t.Run("fails closed", func(t *testing.T) {
		s := newStage(t, nil, tollgate.WithFailClosed())
		token := s.Token("alice", sdktest.ExpiresAt(s.now().Add(10*time.Hour)))
		s.add(time.Hour + time.Nanosecond)
		s.fails(t, token)
		if n := s.Calls("AuthService/Verify"); n != 0 {
			t.Errorf("Tollgate was asked %d times", n)
		}
		s.hears(t, s.KeepAlive())
		s.wants(t, token, tollgate.ReasonOK)
	})
	t.Run("not heard yet", func(t *testing.T) {
		next := newTransport(t)
		mute := tripper(func(r *http.Request) (*http.Response, error) {
			if strings.HasSuffix(r.URL.Path, "/WatchRevocations") {
				return nil, errors.New("no way")
			}
			return next.RoundTrip(r)
		})
		s := coldStage(t, []tollgate.Option{mute.client()})
		s.wants(t, s.Token("alice"), tollgate.ReasonOK)
		s.SetUser(sdktest.User{Name: "alice", Disabled: true})
		s.wants(t, s.Token("alice"), tollgate.ReasonUserDisabled)
		if n := s.Calls("AuthService/Verify"); n != 2 {
			t.Errorf("Tollgate was asked %d times", n)
		}
	})
}

// What happened while the stream was away is in the next one's beginning.
func TestFeedComesBack(t *testing.T) {
	s := newStage(t, nil)
	one, other := s.Token("alice", sdktest.InSession("s-1")), s.Token("alice", sdktest.InSession("s-2"))
	s.SetDown(true)
	revision := s.Revoke("s-1")
	s.SetDown(false)
	s.hears(t, revision)
	s.wants(t, one, tollgate.ReasonCredentialRevoked)
	s.wants(t, other, tollgate.ReasonOK)
}

// A stream that is open and silent is as good as none.
func TestFeedSilent(t *testing.T) {
	var turn atomic.Int32
	next := newTransport(t)
	first := tripper(func(r *http.Request) (*http.Response, error) {
		if strings.HasSuffix(r.URL.Path, "/WatchRevocations") && turn.Add(1) == 1 {
			<-r.Context().Done()
			return nil, r.Context().Err()
		}
		return next.RoundTrip(r)
	})
	s := coldStage(t, []tollgate.Option{first.client()}, tollgate.WithFeedBound(time.Second+time.Millisecond))
	s.hears(t, 0)
	if n := turn.Load(); n != 2 {
		t.Errorf("%d streams", n)
	}
}

// feedServer says what a test makes it say.
type feedServer struct {
	tollgatev1connect.UnimplementedAuthServiceHandler
	messages []*tollgatev1.WatchRevocationsResponse
	began    chan struct{} // gets one for each stream
}

func (f feedServer) WatchRevocations(_ context.Context, _ *tollgatev1.WatchRevocationsRequest, stream *connect.ServerStream[tollgatev1.WatchRevocationsResponse]) error {
	f.began <- struct{}{}
	for _, message := range f.messages {
		if err := stream.Send(message); err != nil {
			return err
		}
	}
	return nil
}

// Without its beginning, what a stream tells is not all there is.
func TestFeedWithoutBeginning(t *testing.T) {
	f, keys := edForger(t, "key-1"), &keySet{}
	keys.set(jwks(f))
	feed := feedServer{
		messages: []*tollgatev1.WatchRevocationsResponse{{Revision: 7}, {Revision: 8}}, began: make(chan struct{}, 100),
	}
	mux := http.NewServeMux()
	mux.Handle(tollgatev1connect.NewAuthServiceHandler(feed))
	client := newClient(t, serve(t, mux), keys.through(newTransport(t)).client())
	verifier, err := tollgate.NewVerifier(client, sdktest.Issuer, sdktest.Audience, tollgate.WithFailClosed())
	if err != nil {
		t.Fatal(err)
	}
	defer verifier.Close()
	<-feed.began
	<-feed.began // the first is over
	if v, err := verifier.Verify(t.Context(), f.token(f.header(), goodClaims(time.Now()))); !errors.Is(err, tollgate.ErrUnavailable) {
		t.Errorf("%+v, error %v", v, err)
	}
}

func TestWaitEndsWithItsContext(t *testing.T) {
	s := newStage(t, nil)
	gone, hangUp := context.WithCancel(t.Context())
	hangUp()
	if err := s.verifier.Wait(gone, 1<<40); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}
