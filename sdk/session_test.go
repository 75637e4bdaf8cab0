package tollgate_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
	tollgate "github.com/tollgatehq/tollgate/sdk"
	"github.com/tollgatehq/tollgate/sdk/sdktest"
)

var asAlice = tollgate.SessionConfig{Username: "alice", Password: password}

func (f *fixture) newSession(t *testing.T, config tollgate.SessionConfig) *tollgate.Session {
	t.Helper()
	s, err := tollgate.NewSession(t.Context(), f.URL, config, f.options()...)
	must(t, err)
	return s
}

// newSessionFixture returns a fixture and a session of alice.
func newSessionFixture(t *testing.T) (*fixture, *tollgate.Session) {
	t.Helper()
	f := newFixture(t)
	return f, f.newSession(t, asAlice)
}

// holdAnswers reports each call of the fixture's clients and sends it on once
// answer is closed.
func (f *fixture) holdAnswers() (arrived <-chan struct{}, answer chan<- struct{}) {
	calls, held := make(chan struct{}, 10), make(chan struct{})
	f.intercept(func(r *http.Request) (*http.Response, error) {
		calls <- struct{}{}
		<-held
		return f.next.RoundTrip(r)
	})
	return calls, held
}

// resume returns a session without a password, which was refreshed once.
func (f *fixture) resume(t *testing.T, audience string) *tollgate.Session {
	t.Helper()
	login, err := f.client(t).Auth().Login(t.Context(), &tollgatev1.LoginRequest{Username: "alice", Password: password})
	must(t, err)
	config := tollgate.SessionConfig{RefreshToken: login.GetRefreshToken(), Audience: audience}
	s, err := tollgate.ResumeSession(t.Context(), f.URL, config, f.options()...)
	must(t, err)
	return s
}

func (f *fixture) wantSignIns(t *testing.T, logins, refreshes int) {
	t.Helper()
	if l, r := f.Calls("AuthService/Login"), f.Calls("AuthService/Refresh"); l != logins || r != refreshes {
		t.Errorf("%d sign-ins and %d refreshes, want %d and %d", l, r, logins, refreshes)
	}
}

func token(t *testing.T, s *tollgate.Session) string {
	t.Helper()
	text, err := s.Token(t.Context())
	must(t, err)
	return text
}

// principal returns whose a token is at Tollgate; nil when it is not good.
func (f *fixture) principal(t *testing.T, token string) *tollgate.Principal {
	t.Helper()
	v, err := f.client(t).Verify(t.Context(), token)
	must(t, err)
	return v.Principal
}

func (f *fixture) good(t *testing.T, token string) bool { return f.principal(t, token) != nil }

// claim returns a text claim of a token.
func claim(t *testing.T, token, name string) string {
	t.Helper()
	body, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[1])
	must(t, err)
	_, rest, found := strings.Cut(string(body), fmt.Sprintf("%q:\"", name))
	if !found {
		t.Fatalf("no claim %s in %s", name, body)
	}
	value, _, _ := strings.Cut(rest, `"`)
	return value
}

// TestSessionConcurrently: of all callers one signs in or refreshes.
func TestSessionConcurrently(t *testing.T) {
	t.Parallel()
	f, s := newSessionFixture(t)
	last := token(t, s)
	for i := range 3 {
		f.add(15 * time.Minute)
		texts, all := make([]string, 100), sync.WaitGroup{}
		for i := range texts {
			all.Go(func() {
				var err error
				if texts[i], err = s.Token(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		for _, got := range texts {
			if got != texts[0] {
				t.Fatal("not all got the same token")
			}
		}
		if texts[0] == last || !f.good(t, texts[0]) {
			t.Errorf("the token is %s", texts[0])
		}
		last = texts[0]
		f.wantSignIns(t, 1, i+1)
	}
}

// TestSessionRenewsAhead: shortly before its end callers get the old token while
// one renews it.
func TestSessionRenewsAhead(t *testing.T) {
	t.Parallel()
	f, s := newSessionFixture(t)
	first := token(t, s)
	f.add(14*time.Minute - time.Second)
	if token(t, s) != first {
		t.Error("renewed too early")
	}
	answer, done := make(chan struct{}), make(chan struct{})
	f.intercept(func(r *http.Request) (*http.Response, error) {
		defer close(done)
		<-answer
		return f.next.RoundTrip(r)
	})
	f.add(time.Second)
	for range 10 {
		if token(t, s) != first {
			t.Error("another token before there is one")
		}
	}
	close(answer)
	<-done
	f.intercept(nil)
	f.add(time.Minute) // the first has ended: callers wait for the renewal under way
	if next := token(t, s); next == first || !f.good(t, next) {
		t.Error("not renewed")
	}
	f.wantSignIns(t, 1, 1)
}

// TestSessionCallerHangsUp: the renewal goes on for the others.
func TestSessionCallerHangsUp(t *testing.T) {
	t.Parallel()
	f, s := newSessionFixture(t)
	f.add(15 * time.Minute)
	arrived, answer := f.holdAnswers()
	ctx, hangUp := context.WithCancel(t.Context())
	failed := make(chan error)
	go func() {
		_, err := s.Token(ctx)
		failed <- err
	}()
	<-arrived
	hangUp()
	wantError(t, <-failed, connect.CodeCanceled)
	close(answer)
	token(t, s)
	f.wantSignIns(t, 1, 1)
}

func TestSessionRevoked(t *testing.T) {
	t.Parallel()
	t.Run("with a password", func(t *testing.T) {
		f, s := newSessionFixture(t)
		session := claim(t, token(t, s), "sid")
		f.Revoke(session)
		f.add(15 * time.Minute)
		if next := token(t, s); claim(t, next, "sid") == session || !f.good(t, next) {
			t.Error("no other session")
		}
		f.wantSignIns(t, 2, 1)
	})
	t.Run("without", func(t *testing.T) {
		f := newFixture(t)
		s := f.resume(t, "")
		f.Revoke(claim(t, token(t, s), "sid"))
		f.add(15 * time.Minute)
		for i := range 3 {
			_, err := s.Token(t.Context())
			if !errors.Is(err, tollgate.ErrSignedOut) || i == 0 && wantError(t, err, connect.CodeUnauthenticated).Reason != "BAD_REFRESH_TOKEN" {
				t.Errorf("error %v", err)
			}
			f.add(time.Hour)
		}
		f.wantSignIns(t, 1, 2) // a refused token is not presented again
	})
}

// loseAnswers loses the answers to calls whose path ends so, after the server
// has done its work.
func (f *fixture) loseAnswers(path string) {
	f.intercept(func(r *http.Request) (*http.Response, error) {
		res, err := f.next.RoundTrip(r)
		if err == nil && strings.HasSuffix(r.URL.Path, path) {
			_ = res.Body.Close()
			return nil, errors.New("connection reset by peer")
		}
		return res, err
	})
}

func TestSessionLostAnswer(t *testing.T) {
	t.Parallel()
	t.Run("with a password", func(t *testing.T) {
		f, s := newSessionFixture(t)
		f.loseAnswers("/Refresh")
		f.add(15 * time.Minute)
		if !f.good(t, token(t, s)) {
			t.Error("no good token")
		}
		f.wantSignIns(t, 2, 1) // a second refresh with this token would have been reuse
	})
	t.Run("with a password, of the sign-in, too", func(t *testing.T) {
		f, s := newSessionFixture(t)
		f.loseAnswers("")
		f.add(15 * time.Minute)
		if _, err := s.Token(t.Context()); !errors.Is(err, tollgate.ErrUnavailable) {
			t.Errorf("error %v", err)
		}
		f.intercept(nil)
		f.add(time.Minute)
		token(t, s)
		f.wantSignIns(t, 3, 1) // the doubtful token was presented once
	})
	t.Run("without", func(t *testing.T) {
		f := newFixture(t)
		s := f.resume(t, "")
		first, lost := token(t, s), make(chan struct{}, 10)
		f.intercept(func(r *http.Request) (*http.Response, error) {
			if res, err := f.next.RoundTrip(r); err == nil {
				_ = res.Body.Close()
			}
			lost <- struct{}{}
			return nil, errors.New("connection reset by peer")
		})
		f.add(14*time.Minute + 30*time.Second)
		token(t, s)
		<-lost
		for range 10 { // the old token is all there is: reuse would end it
			if token(t, s) != first {
				t.Fatal("another token")
			}
			f.add(time.Second)
		}
		if f.intercept(nil); !f.good(t, first) {
			t.Error("the session was ended while its token was good")
		}
		f.add(2 * time.Minute)
		for {
			_, err := s.Token(t.Context())
			if errors.Is(err, tollgate.ErrSignedOut) {
				break
			}
			wantError(t, err, connect.CodeUnavailable) // the lost answer
			f.add(time.Minute)
		}
		f.wantSignIns(t, 1, 3)
	})
	t.Run("never sent", func(t *testing.T) {
		f := newFixture(t)
		s := f.resume(t, "")
		f.intercept(func(*http.Request) (*http.Response, error) {
			return nil, &net.OpError{Op: "dial", Err: errors.New("connection refused")}
		})
		f.add(15 * time.Minute)
		if _, err := s.Token(t.Context()); !errors.Is(err, tollgate.ErrUnavailable) {
			t.Errorf("error %v", err)
		}
		f.intercept(nil)
		f.add(time.Minute)
		if !f.good(t, token(t, s)) {
			t.Error("no good token")
		}
	})
}

func TestSessionWaitsAfterFailures(t *testing.T) {
	t.Parallel()
	f, s := newSessionFixture(t)
	f.Revoke(claim(t, token(t, s), "sid"))
	f.SetUser(sdktest.User{Name: "alice", Password: "another"})
	f.add(15 * time.Minute)
	for _, wait := range []time.Duration{1, 2, 4, 8, 16, 32, 60, 60} {
		before := f.Calls("AuthService/Login")
		for range 3 {
			_, err := s.Token(t.Context())
			if wantError(t, err, connect.CodeUnauthenticated).Reason != "BAD_CREDENTIALS" || strings.Contains(err.Error(), password) {
				t.Errorf("error %v", err)
			}
			f.add(wait * time.Second / 3)
		}
		if n := f.Calls("AuthService/Login") - before; n != 1 {
			t.Errorf("%d sign-ins within %d s", n, wait)
		}
		f.add(time.Second / 100)
	}
	f.SetUser(sdktest.User{Name: "alice", Password: password})
	token(t, s)
}

// TestSessionSecondFactor: a code is asked for when Tollgate asks for it.
func TestSessionSecondFactor(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.SetUser(sdktest.User{Name: "alice", Password: password, SecondFactor: "123456"})
	asked, code, failure := 0, "123456", error(nil)
	config := asAlice
	config.SecondFactor = func(context.Context) (string, error) {
		asked++
		f.add(time.Hour) // people are slow
		return code, failure
	}
	s := f.newSession(t, config)
	if p := f.principal(t, token(t, s)); p == nil || !slices.Contains(p.Amr, "otp") {
		t.Errorf("the principal is %v", p)
	}
	f.add(15 * time.Minute)
	token(t, s) // a refresh needs no code
	f.wantSignIns(t, 2, 1)
	f.Revoke(claim(t, token(t, s), "sid"))
	f.add(15 * time.Minute)
	token(t, s)
	if f.wantSignIns(t, 4, 2); asked != 2 {
		t.Errorf("a code was asked for %d times, want 2", asked)
	}

	for name, test := range map[string]struct {
		code    string
		failure error
		want    func(error) bool
	}{
		"wrong code": {"654321", nil, func(err error) bool {
			return wantError(t, err, connect.CodeUnauthenticated).Reason == "BAD_CREDENTIALS"
		}},
		"no code": {"", http.ErrNoCookie, func(err error) bool { return errors.Is(err, http.ErrNoCookie) }},
	} {
		code, failure = test.code, test.failure
		if _, err := tollgate.NewSession(t.Context(), f.URL, config, f.options()...); err == nil || !test.want(err) {
			t.Errorf("%s: error %v", name, err)
		}
	}
	_, err := tollgate.NewSession(t.Context(), f.URL, asAlice, f.options()...)
	if wantError(t, err, connect.CodeUnauthenticated).Reason != "SECOND_FACTOR_REQUIRED" {
		t.Errorf("without SecondFactor: %v", err)
	}
	f.SetUser(sdktest.User{Name: "alice", Password: "another", SecondFactor: "123456"})
	before := asked
	_, err = tollgate.NewSession(t.Context(), f.URL, config, f.options()...)
	if wantError(t, err, connect.CodeUnauthenticated).Reason != "BAD_CREDENTIALS" || asked != before {
		t.Errorf("a wrong password: %v, asked for a code %d times", err, asked-before)
	}
}
