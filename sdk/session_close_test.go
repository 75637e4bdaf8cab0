package tollgate_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	tollgate "github.com/tollgatehq/tollgate/sdk"
	"github.com/tollgatehq/tollgate/sdk/sdktest"
)

func TestSessionClose(t *testing.T) {
	t.Parallel()
	for name, wait := range map[string]time.Duration{"good": 0, "expired": time.Hour} {
		t.Run(name, func(t *testing.T) {
			f, s := newSessionFixture(t)
			text := token(t, s)
			f.add(wait)
			for range 2 {
				must(t, s.Close(t.Context()))
			}
			if _, err := s.Token(t.Context()); !errors.Is(err, tollgate.ErrSignedOut) {
				t.Errorf("error %v", err)
			}
			if f.good(t, text) || f.Calls("/v1/oauth2/revoke") != 1 {
				t.Error("the session goes on")
			}
		})
	}
	t.Run("revoked", func(t *testing.T) {
		f, s := newSessionFixture(t)
		f.Revoke(claim(t, token(t, s), "sid"))
		must(t, s.Close(t.Context()))
	})
	t.Run("while it renews", func(t *testing.T) {
		f, s := newSessionFixture(t)
		arrived, answer := f.holdAnswers()
		f.add(14 * time.Minute)
		text := token(t, s)
		<-arrived
		closed := make(chan error, 1)
		go func() { closed <- s.Close(t.Context()) }()
		for {
			if _, err := s.Token(t.Context()); errors.Is(err, tollgate.ErrSignedOut) {
				break
			}
		}
		close(answer)
		must(t, <-closed)
		f.intercept(nil)
		if f.good(t, text) {
			t.Error("the session goes on")
		}
	})
	t.Run("while it asks for a code", func(t *testing.T) {
		f := newFixture(t)
		f.SetUser(sdktest.User{Name: "alice", Password: password, SecondFactor: "123456"})
		asked, config := make(chan struct{}), asAlice
		config.SecondFactor = func(ctx context.Context) (string, error) {
			if f.Calls("/Refresh") == 0 {
				return "123456", nil
			}
			close(asked)
			<-ctx.Done() // no one types it
			return "", ctx.Err()
		}
		s := f.newSession(t, config)
		f.Revoke(claim(t, token(t, s), "sid"))
		f.add(15 * time.Minute)
		gone, hangUp := context.WithCancel(t.Context())
		hangUp()
		_, _ = s.Token(gone)
		<-asked
		must(t, s.Close(t.Context()))
	})
	t.Run("down", func(t *testing.T) {
		f, s := newSessionFixture(t)
		f.SetDown(true)
		if err := s.Close(t.Context()); !errors.Is(err, tollgate.ErrUnavailable) {
			t.Errorf("error %v", err)
		}
	})
}

// TestSessionAudience: all tokens are for one service, and the session ends with
// the source all the same.
func TestSessionAudience(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	forOrders := asAlice
	forOrders.Audience = "orders"
	for name, s := range map[string]*tollgate.Session{"new": f.newSession(t, forOrders), "resumed": f.resume(t, "orders")} {
		var text string
		for range 3 {
			text = token(t, s)
			if got := claim(t, text, "aud"); got != "orders" || f.good(t, text) {
				t.Errorf("%s: the audience is %q; good at Tollgate: %v", name, got, f.good(t, text))
			}
			f.add(15 * time.Minute)
		}
		must(t, s.Close(t.Context()))
		if f.good(t, f.Token("alice", sdktest.InSession(claim(t, text, "sid")))) {
			t.Errorf("%s: the session goes on", name)
		}
	}
}

func TestSessionPasswordChange(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.SetUser(sdktest.User{Name: "alice", Password: password, PasswordChange: true})
	_, err := tollgate.NewSession(t.Context(), f.URL, asAlice, f.options()...)
	if e := denied(err); e == nil || e.Reason != tollgate.ReasonPasswordChangeRequired {
		t.Errorf("error %v", err)
	}
}

func TestSessionIsATokenSource(t *testing.T) {
	t.Parallel()
	f, s := newSessionFixture(t)
	if _, err := f.client(t, tollgate.WithTokenSource(s)).Verify(t.Context(), f.Token("alice")); err != nil {
		t.Fatal(err)
	}
	if got := f.authorization[len(f.authorization)-1]; got != "Bearer "+token(t, s) {
		t.Errorf("presented %q", got)
	}
}

func TestNewSessionRefuses(t *testing.T) {
	t.Parallel()
	begin, resume := tollgate.NewSession, tollgate.ResumeSession
	type config = tollgate.SessionConfig
	for name, test := range map[string]struct {
		begin  func(context.Context, string, config, ...tollgate.Option) (*tollgate.Session, error)
		url    string
		config config
		opts   []tollgate.Option
	}{
		"no name":               {begin, "http://localhost", config{Password: "x"}, nil},
		"no password":           {begin, "http://localhost", config{Username: "x"}, nil},
		"a refresh token":       {begin, "http://localhost", config{Username: "x", Password: "x", RefreshToken: "x"}, nil},
		"no address":            {begin, "", asAlice, nil},
		"a credential":          {begin, "http://localhost", asAlice, []tollgate.Option{tollgate.WithAPIKey(sdktest.ServiceKey)}},
		"audience with a space": {begin, "http://localhost", config{Username: "x", Password: "x", Audience: "a b"}, nil},
		"audience not in ASCII": {begin, "http://localhost", config{Username: "x", Password: "x", Audience: "ümlaut"}, nil},
		"a long audience":       {begin, "http://localhost", config{Username: "x", Password: "x", Audience: strings.Repeat("a", 129)}, nil},
		"no refresh token":      {resume, "http://localhost", asAlice, nil},
		"no address to resume":  {resume, "", config{RefreshToken: "x"}, nil},
	} {
		s, err := test.begin(t.Context(), test.url, test.config, test.opts...)
		if _, called := errors.AsType[*tollgate.Error](err); err == nil || s != nil || called {
			t.Errorf("%s: error %v", name, err)
		}
	}
}
