package tollgate_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"
	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
	tollgate "github.com/tollgatehq/tollgate/sdk"
	"github.com/tollgatehq/tollgate/sdk/sdktest"
)

// desk is a Tollgate at which alice signs in. Its tokens live 15 min; a source
// renews them in the last one.
type desk struct {
	*sdktest.Server
	*clock
	path atomic.Pointer[tripper] // what stands between; nil: nothing
	next http.RoundTripper
}

func newDesk(t *testing.T) *desk {
	c := newClock()
	d := &desk{Server: sdktest.NewServer(sdktest.WithClock(c.now)), clock: c, next: newTransport(t)}
	t.Cleanup(d.Close)
	d.SetUser(sdktest.User{Name: "alice", Password: "correct horse"})
	return d
}

func (d *desk) options() []tollgate.Option {
	return []tollgate.Option{tollgate.WithClock(d.now), tollgate.WithTimeout(30 * time.Second), tripper(func(r *http.Request) (*http.Response, error) {
		if path := d.path.Load(); path != nil {
			return (*path)(r)
		}
		return d.next.RoundTrip(r)
	}).client()}
}

func (d *desk) between(path tripper) { d.path.Store(&path) }

func (d *desk) source(t *testing.T) *tollgate.TokenSource {
	t.Helper()
	s, err := tollgate.PasswordTokens(d.URL, "alice", "correct horse", d.options()...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// continued is a source without a password, in the session of a sign-in.
func (d *desk) continued(t *testing.T) (*tollgate.TokenSource, *tollgatev1.LoginResponse) {
	t.Helper()
	login, err := d.Client().Auth().Login(t.Context(), &tollgatev1.LoginRequest{Username: "alice", Password: "correct horse"})
	if err != nil {
		t.Fatal(err)
	}
	s, err := tollgate.RefreshTokens(d.URL, login.GetRefreshToken(), d.options()...)
	if err != nil {
		t.Fatal(err)
	}
	return s, login
}

func (d *desk) calls(t *testing.T, logins, refreshes int) {
	t.Helper()
	if l, r := d.Calls("AuthService/Login"), d.Calls("AuthService/Refresh"); l != logins || r != refreshes {
		t.Errorf("%d sign-ins and %d refreshes, want %d and %d", l, r, logins, refreshes)
	}
}

func token(t *testing.T, s *tollgate.TokenSource) string {
	t.Helper()
	text, err := s.Token(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// good asks Tollgate about a token.
func (d *desk) good(t *testing.T, token string) bool {
	t.Helper()
	v, err := d.Client().Verify(t.Context(), token)
	if err != nil {
		t.Fatal(err)
	}
	return v.Active
}

func TestTokensTogether(t *testing.T) {
	d := newDesk(t)
	s := d.source(t)
	together := func() (text string) {
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
		return texts[0]
	}
	first := together()
	d.calls(t, 1, 0)
	for i := range 3 {
		d.add(15 * time.Minute)
		next := together()
		if next == first || !d.good(t, next) {
			t.Errorf("the token is %s", next)
		}
		d.calls(t, 1, i+1)
	}
}

// Shortly before the end callers go on with the old token while one renews.
func TestTokensAhead(t *testing.T) {
	d := newDesk(t)
	s := d.source(t)
	first := token(t, s)
	d.add(14*time.Minute - time.Second)
	if token(t, s) != first {
		t.Error("renewed too early")
	}
	answer, done := make(chan struct{}), make(chan struct{})
	d.between(func(r *http.Request) (*http.Response, error) {
		defer close(done)
		<-answer
		return d.next.RoundTrip(r)
	})
	d.add(time.Second)
	for range 10 {
		if token(t, s) != first {
			t.Error("another token before there is one")
		}
	}
	close(answer)
	<-done
	d.add(time.Minute) // the first has ended: whoever asks waits for the renewal under way
	if next := token(t, s); next == first || !d.good(t, next) {
		t.Error("not renewed")
	}
	d.calls(t, 1, 1)
}

func TestTokensCallerHangsUp(t *testing.T) {
	d := newDesk(t)
	s := d.source(t)
	arrived, answer := make(chan struct{}), make(chan struct{})
	d.between(func(r *http.Request) (*http.Response, error) {
		close(arrived)
		<-answer
		return d.next.RoundTrip(r)
	})
	ctx, hangUp := context.WithCancel(t.Context())
	failed := make(chan error)
	go func() {
		_, err := s.Token(ctx)
		failed <- err
	}()
	<-arrived
	hangUp()
	if err := <-failed; !errors.Is(err, context.Canceled) && connect.CodeOf(err) != connect.CodeCanceled {
		t.Errorf("error %v", err)
	}
	close(answer)
	token(t, s)
	d.calls(t, 1, 0)
}

func TestTokensSessionEnded(t *testing.T) {
	d := newDesk(t)
	s := d.source(t)
	session := claim(t, token(t, s), "sid")
	d.Revoke(session)
	d.add(15 * time.Minute)
	next := token(t, s)
	if claim(t, next, "sid") == session || !d.good(t, next) {
		t.Error("no other session")
	}
	d.calls(t, 2, 1)

	c, login := d.continued(t)
	token(t, c)
	d.Revoke(login.GetSessionId())
	d.add(15 * time.Minute)
	for range 3 {
		_, err := c.Token(t.Context())
		var known *tollgate.Error
		if !errors.Is(err, tollgate.ErrSignedOut) || d.Calls("Refresh") == 3 && (!errors.As(err, &known) || known.Reason != "BAD_REFRESH_TOKEN") {
			t.Errorf("error %v", err)
		}
		d.add(time.Hour)
	}
	if n := d.Calls("AuthService/Refresh"); n != 3 {
		t.Errorf("%d refreshes: a refused token was presented again", n)
	}
}

// The server spent the refresh token, and its answer got lost.
func (d *desk) loseAnswers() {
	d.between(func(r *http.Request) (*http.Response, error) {
		res, err := d.next.RoundTrip(r)
		if err == nil && strings.HasSuffix(r.URL.Path, "/Refresh") {
			_ = res.Body.Close()
			return nil, errors.New("connection reset by peer")
		}
		return res, err
	})
}

func TestTokensLostAnswer(t *testing.T) {
	t.Run("with a password", func(t *testing.T) {
		d := newDesk(t)
		s := d.source(t)
		token(t, s)
		d.loseAnswers()
		d.add(15 * time.Minute)
		next := token(t, s)
		if !d.good(t, next) {
			t.Error("no good token")
		}
		d.calls(t, 2, 1) // a second refresh with this token would have been reuse
	})
	t.Run("with a password, while all is down", func(t *testing.T) {
		d := newDesk(t)
		s := d.source(t)
		token(t, s)
		d.between(func(r *http.Request) (*http.Response, error) {
			if res, err := d.next.RoundTrip(r); err == nil {
				_ = res.Body.Close()
			}
			return nil, errors.New("connection reset by peer")
		})
		d.add(15 * time.Minute)
		if _, err := s.Token(t.Context()); !errors.Is(err, tollgate.ErrUnavailable) {
			t.Errorf("error %v", err)
		}
		d.path.Store(nil)
		d.add(time.Minute)
		token(t, s)
		if n := d.Calls("AuthService/Refresh"); n != 1 {
			t.Errorf("the doubtful token was presented %d times", n)
		}
	})
	t.Run("without", func(t *testing.T) {
		d := newDesk(t)
		s, login := d.continued(t)
		first := token(t, s)
		d.loseAnswers()
		d.add(14*time.Minute + 30*time.Second)
		for range 10 { // the old token is all there is: it must not be lost by reuse
			if token(t, s) != first {
				t.Fatal("another token")
			}
			d.add(time.Second)
		}
		for d.Calls("AuthService/Refresh") < 2 { // the one in the background
			token(t, s)
		}
		if !d.good(t, login.GetAccessToken()) && !d.good(t, first) {
			t.Error("the session was ended while its token was good")
		}
		d.path.Store(nil)
		d.add(time.Minute)
		if _, err := s.Token(t.Context()); !errors.Is(err, tollgate.ErrSignedOut) {
			t.Errorf("error %v", err)
		}
		if n := d.Calls("AuthService/Refresh"); n != 3 {
			t.Errorf("%d refreshes", n)
		}
	})
	t.Run("never sent", func(t *testing.T) {
		d := newDesk(t)
		s, _ := d.continued(t)
		token(t, s)
		d.between(func(*http.Request) (*http.Response, error) {
			return nil, &net.OpError{Op: "dial", Err: errors.New("connection refused")}
		})
		d.add(15 * time.Minute)
		if _, err := s.Token(t.Context()); !errors.Is(err, tollgate.ErrUnavailable) {
			t.Errorf("error %v", err)
		}
		d.path.Store(nil)
		d.add(time.Minute)
		if !d.good(t, token(t, s)) {
			t.Error("no good token")
		}
	})
}

func TestTokensWaitAfterFailures(t *testing.T) {
	d := newDesk(t)
	s, err := tollgate.PasswordTokens(d.URL, "alice", "wrong", d.options()...)
	if err != nil {
		t.Fatal(err)
	}
	for _, wait := range []time.Duration{1, 2, 4, 8, 16, 32, 60, 60} {
		before := d.Calls("AuthService/Login")
		for range 3 {
			_, err := s.Token(t.Context())
			var known *tollgate.Error
			if !errors.As(err, &known) || known.Reason != "BAD_CREDENTIALS" || strings.Contains(err.Error(), "wrong\"") {
				t.Errorf("error %v", err)
			}
			d.add(wait * time.Second / 3)
		}
		if n := d.Calls("AuthService/Login") - before; n != 1 {
			t.Errorf("%d sign-ins within %d s", n, wait)
		}
		d.add(time.Second / 100)
	}
	d.SetUser(sdktest.User{Name: "alice", Password: "wrong"})
	token(t, s)
}

func TestTokensPasswordChange(t *testing.T) {
	d := newDesk(t)
	d.SetUser(sdktest.User{Name: "alice", Password: "correct horse", PasswordChange: true})
	_, err := d.source(t).Token(t.Context())
	var denied *tollgate.DeniedError
	if !errors.As(err, &denied) || denied.Reason != tollgate.ReasonPasswordChangeRequired {
		t.Errorf("error %v", err)
	}
}

func TestTokensClose(t *testing.T) {
	for name, wait := range map[string]time.Duration{"good": 0, "ended": time.Hour} {
		t.Run(name, func(t *testing.T) {
			d := newDesk(t)
			s := d.source(t)
			text := token(t, s)
			d.add(wait)
			for range 2 {
				if err := s.Close(t.Context()); err != nil {
					t.Error(err)
				}
			}
			if _, err := s.Token(t.Context()); !errors.Is(err, tollgate.ErrSignedOut) {
				t.Errorf("error %v", err)
			}
			if d.good(t, text) || d.Calls("/v1/oauth2/revoke") != 1 {
				t.Error("the session goes on")
			}
		})
	}
	t.Run("never used", func(t *testing.T) {
		d := newDesk(t)
		if err := d.source(t).Close(t.Context()); err != nil {
			t.Error(err)
		}
		d.calls(t, 0, 0)
	})
	t.Run("ended by others", func(t *testing.T) {
		d := newDesk(t)
		s := d.source(t)
		d.Revoke(claim(t, token(t, s), "sid"))
		if err := s.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
	t.Run("down", func(t *testing.T) {
		d := newDesk(t)
		s := d.source(t)
		token(t, s)
		d.SetDown(true)
		if err := s.Close(t.Context()); !errors.Is(err, tollgate.ErrUnavailable) {
			t.Errorf("error %v", err)
		}
	})
}

// Tokens for one service are good there and nowhere else, from the first to the
// last, and their session ends with the source all the same.
func TestTokensWithAudience(t *testing.T) {
	d := newDesk(t)
	orders := tollgate.WithAudience("orders")
	signsIn, err := tollgate.PasswordTokens(d.URL, "alice", "correct horse", append(d.options(), orders)...)
	if err != nil {
		t.Fatal(err)
	}
	_, login := d.continued(t)
	continues, err := tollgate.RefreshTokens(d.URL, login.GetRefreshToken(), append(d.options(), orders)...)
	if err != nil {
		t.Fatal(err)
	}
	for name, s := range map[string]*tollgate.TokenSource{"signs in": signsIn, "continues": continues} {
		t.Run(name, func(t *testing.T) {
			var text string
			for range 3 {
				text = token(t, s)
				if got := claim(t, text, "aud"); got != "orders" || d.good(t, text) {
					t.Errorf("the audience is %q; good at Tollgate: %v", got, d.good(t, text))
				}
				d.add(15 * time.Minute)
			}
			if err := s.Close(t.Context()); err != nil {
				t.Error(err)
			}
			if d.good(t, d.Token("alice", sdktest.InSession(claim(t, text, "sid")))) {
				t.Error("the session goes on")
			}
		})
	}
	for _, audience := range []string{"", "with space", "ümlaut", strings.Repeat("a", 129)} {
		if _, err := tollgate.PasswordTokens(d.URL, "alice", "x", tollgate.WithAudience(audience)); err == nil {
			t.Errorf("the audience %q was accepted", audience)
		}
	}
}

func TestTokensForAClient(t *testing.T) {
	d := newDesk(t)
	s := d.source(t)
	var presented []string
	next := newTransport(t)
	client, err := tollgate.New(d.URL, tollgate.WithTokenSource(s.Token), tripper(func(r *http.Request) (*http.Response, error) {
		presented = append(presented, r.Header.Get("Authorization"))
		return next.RoundTrip(r)
	}).client())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Verify(t.Context(), d.Token("alice")); err != nil {
		t.Fatal(err)
	}
	if want := "Bearer " + token(t, s); len(presented) != 1 || presented[0] != want {
		t.Errorf("presented %q", presented)
	}
}

func TestNewTokensRefuse(t *testing.T) {
	for name, err := range map[string]error{
		"no name":     second(tollgate.PasswordTokens("http://localhost", "", "x")),
		"no password": second(tollgate.PasswordTokens("http://localhost", "x", "")),
		"no address":  second(tollgate.PasswordTokens("", "x", "y")),
		"no token":    second(tollgate.RefreshTokens("http://localhost", "")),
		"no place":    second(tollgate.RefreshTokens("", "x")),
	} {
		if err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
}

func second(_ *tollgate.TokenSource, err error) error { return err }

// claim reads a claim of a token.
func claim(t *testing.T, token, name string) string {
	t.Helper()
	body, err := decode(strings.Split(token, ".")[1])
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(body), fmt.Sprintf("%q:\"", name))
	if !found {
		t.Fatalf("no claim %s in %s", name, body)
	}
	value, _, _ := strings.Cut(rest, `"`)
	return value
}
