package tollgate

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"connectrpc.com/connect"
	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
)

// ErrSignedOut is what errors.Is finds in the error of a TokenSource whose
// session is over and that has no password to begin another.
var ErrSignedOut = errors.New("tollgate: the session is over; sign in again")

// TokenSource keeps a session of a user and gives its access token, which it
// renews shortly before it ends. It is safe for concurrent use: of any number
// of callers one renews, so that a refresh token is spent once. Close it to
// sign out.
//
//	tokens, err := tollgate.PasswordTokens("https://tollgate.internal", "alice", password)
//	...
//	client, err := tollgate.New("https://tollgate.internal", tollgate.WithTokenSource(tokens.Token))
type TokenSource struct {
	client             *Client // presents no credential
	username, password string

	ctx  context.Context // of renewals: they do not end with the call that began them
	stop context.CancelFunc

	mu      sync.Mutex
	session session
	flight  *renewal // the one under way
	err     error    // why the latest failed
	retry   time.Time
	wait    time.Duration
	closed  bool
}

// session is what the source knows of its session.
type session struct {
	access  string
	renew   time.Time // when to begin renewing it
	ends    time.Time // when it is not given any more
	refresh string
	// doubtful: the answer to a refresh was lost, so that the refresh token may
	// be spent, and to present it again may end the session.
	doubtful bool
}

func (s session) good(now time.Time) bool { return s.access != "" && now.Before(s.ends) }

// renewal is one attempt to get the next tokens; its result is set when done is
// closed.
type renewal struct {
	done  chan struct{}
	token string
	err   error
}

const (
	firstWait = time.Second // before the next attempt after one that failed
	lastWait  = time.Minute
)

// PasswordTokens returns a source that signs in with a user name and a
// password, and again when its session was ended. It makes no call. Of the
// options those that give a credential do not count; WithAudience says whom the
// tokens are for.
func PasswordTokens(baseURL, username, password string, opts ...Option) (*TokenSource, error) {
	if username == "" || password == "" {
		return nil, errors.New("tollgate: a user name and a password are needed to sign in")
	}
	s, err := newTokenSource(baseURL, opts)
	if err != nil {
		return nil, err
	}
	s.username, s.password = username, password
	return s, nil
}

// RefreshTokens returns a source that continues a session, of which it must be
// the only one to use the refresh token. When the session was ended, Token fails
// with ErrSignedOut.
//
// When the answer to a refresh was lost, nobody knows whether the refresh token
// is spent. Then the source tries it again only when the access token has ended:
// if it was spent, Tollgate ends the session. PasswordTokens signs in instead.
func RefreshTokens(baseURL, refreshToken string, opts ...Option) (*TokenSource, error) {
	if refreshToken == "" {
		return nil, errors.New("tollgate: a refresh token is needed to continue a session")
	}
	s, err := newTokenSource(baseURL, opts)
	if err != nil {
		return nil, err
	}
	s.session.refresh = refreshToken
	return s, nil
}

func newTokenSource(baseURL string, opts []Option) (*TokenSource, error) {
	client, err := New(baseURL, append(opts[:len(opts):len(opts)], WithTokenSource(nil))...)
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	return &TokenSource{client: client, ctx: ctx, stop: stop}, nil
}

// Token returns an access token that is good for some seconds more. It makes a
// call only when the token is about to end, and waits for it only when the
// token has ended; a caller whose ctx ends does not take the renewal from the
// others. After a failure it waits a while, up to a minute, before it asks
// Tollgate again, and fails at once meanwhile.
//
// The error is an *Error, with the reason BAD_CREDENTIALS for a wrong password;
// a *DeniedError for a user who must first choose another password; or has
// ErrSignedOut in it.
func (s *TokenSource) Token(ctx context.Context) (string, error) {
	s.mu.Lock()
	now, session := s.client.now(), s.session
	if s.closed {
		s.mu.Unlock()
		return "", fmt.Errorf("%w: the token source was closed", ErrSignedOut)
	}
	if session.good(now) && (now.Before(session.renew) || session.doubtful && s.password == "") {
		s.mu.Unlock()
		return session.access, nil
	}
	over := session.refresh == "" && s.password == ""
	if s.flight == nil && !over && !now.Before(s.retry) {
		s.begin()
	}
	flight, err := s.flight, s.err
	s.mu.Unlock()
	switch {
	case session.good(now):
		return session.access, nil
	case flight == nil:
		return "", err
	}
	select {
	case <-flight.done:
		return flight.token, flight.err
	case <-ctx.Done():
		return "", newError(connect.NewError(codeOf(ctx), ctx.Err()))
	}
}

// begin renews in the background. The lock is held.
func (s *TokenSource) begin() {
	flight, session := &renewal{done: make(chan struct{})}, s.session
	s.flight = flight
	go func() {
		next, err := s.obtain(session)
		s.mu.Lock()
		defer s.mu.Unlock()
		defer close(flight.done)
		s.session, s.flight, s.err = next, nil, err
		if err == nil {
			s.retry, s.wait = time.Time{}, 0
			flight.token = next.access
			return
		}
		flight.err = err
		s.wait = min(max(2*s.wait, firstWait), lastWait)
		var known *Error
		if errors.As(err, &known) {
			s.wait = max(s.wait, known.RetryAfter)
		}
		s.retry = s.client.now().Add(s.wait)
	}()
}

// obtain refreshes the session or, when that cannot be and there is a
// password, begins another. With an error it returns what is left of the old.
func (s *TokenSource) obtain(old session) (session, error) {
	var err error
	if old.refresh != "" && (!old.doubtful || s.password == "") {
		var next session
		if next, err = s.refresh(old.refresh); err == nil {
			return next, nil
		}
		switch {
		case refused(err):
			old = session{} // its access token has ended too
		case untouched(err):
			return old, err
		default:
			old.doubtful = true
		}
	}
	switch {
	case s.password != "":
		next, err := s.signIn()
		if err != nil {
			return old, err
		}
		return next, nil
	case old.refresh != "":
		return old, err
	}
	return old, fmt.Errorf("%w: %w", ErrSignedOut, err)
}

func (s *TokenSource) signIn() (session, error) {
	begun := s.client.now()
	res, err := s.client.auth.Login(s.ctx, &tollgatev1.LoginRequest{
		Username: s.username, Password: s.password, Audience: s.client.audience,
	})
	if err != nil {
		return session{}, err
	}
	if res.GetPasswordChangeRequired() {
		return session{}, &DeniedError{Reason: ReasonPasswordChangeRequired}
	}
	return newSession(res, begun)
}

func (s *TokenSource) refresh(token string) (session, error) {
	begun := s.client.now()
	res, err := s.client.auth.Refresh(s.ctx, &tollgatev1.RefreshRequest{
		RefreshToken: token, Audience: s.client.audience,
	})
	if err != nil {
		return session{}, err
	}
	return newSession(res, begun)
}

// newSession reads a grant that was asked for at begun.
func newSession(grant interface {
	GetAccessToken() string
	GetRefreshToken() string
	GetExpiresIn() int32
}, begun time.Time) (session, error) {
	life := time.Duration(grant.GetExpiresIn()) * time.Second
	if kindOf(grant.GetAccessToken()) != accessToken || grant.GetRefreshToken() == "" || life <= 0 {
		return session{}, incomplete("a session, but not its tokens")
	}
	return session{
		access: grant.GetAccessToken(), refresh: grant.GetRefreshToken(),
		renew: begun.Add(life - min(life/5, time.Minute)),
		ends:  begun.Add(life - min(life/10, 5*time.Second)),
	}, nil
}

// refused: Tollgate will not continue the session.
func refused(err error) bool {
	switch connect.CodeOf(err) {
	case connect.CodeUnauthenticated, connect.CodeInvalidArgument, connect.CodePermissionDenied:
		return true
	}
	return false
}

// untouched: the refresh token cannot have been spent, because the call never
// left or was one too many.
func untouched(err error) bool {
	var network *net.OpError
	return connect.CodeOf(err) == connect.CodeResourceExhausted || errors.As(err, &network) && network.Op == "dial"
}

// Close signs out: it ends the session, its access token and its refresh token.
// Token fails from then on, even when Close does: then the session ends by
// itself, later.
func (s *TokenSource) Close(ctx context.Context) error {
	defer s.stop()
	s.mu.Lock()
	s.closed = true
	flight := s.flight
	s.mu.Unlock()
	if flight != nil {
		select {
		case <-flight.done:
		case <-ctx.Done():
			return newError(connect.NewError(codeOf(ctx), ctx.Err()))
		}
	}
	s.mu.Lock()
	old := s.session
	s.session = session{}
	s.mu.Unlock()
	if old.refresh == "" {
		return nil // there is none
	}
	return s.revoke(ctx, old.refresh)
}

// revoke ends the session of a refresh token, a spent one too (RFC 7009), for
// which its access token need not be one that Tollgate's API accepts. That the
// session has ended already is no error.
func (s *TokenSource) revoke(ctx context.Context, token string) error {
	ctx, cancel := context.WithTimeout(ctx, s.client.timeout)
	defer cancel()
	form := strings.NewReader(url.Values{"token": {token}}.Encode())
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.client.base+"/v1/oauth2/revoke", form)
	if err != nil {
		return newError(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	res, err := s.client.public.Do(req)
	switch {
	case err != nil && ctx.Err() != nil:
		return newError(connect.NewError(codeOf(ctx), ctx.Err()))
	case err != nil:
		return unavailable("the session cannot be ended", err)
	}
	defer res.Body.Close() //nolint:errcheck // it was only read
	switch {
	case res.StatusCode == http.StatusOK:
		return nil
	case res.StatusCode == http.StatusTooManyRequests:
		return &Error{Code: connect.CodeResourceExhausted, Message: "too many sessions are being ended"}
	case res.StatusCode >= http.StatusInternalServerError:
		return unavailable("the session cannot be ended: the answer is "+res.Status, nil)
	}
	return &Error{Code: connect.CodeInternal, Message: "the session cannot be ended: the answer is " + res.Status}
}
