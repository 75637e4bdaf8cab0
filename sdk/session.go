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
	"golang.org/x/sync/singleflight"
)

// ErrSignedOut is what [errors.Is] finds in the error of a [Session] that is over
// and has no password to begin another.
var ErrSignedOut = errors.New("tollgate: the session is over; sign in again")

const (
	firstWait = time.Second // before the next attempt after one that failed
	lastWait  = time.Minute
)

// SessionConfig says how a [Session] begins.
type SessionConfig struct {
	// Username and Password sign in, again when the session was ended.
	Username, Password string
	// SecondFactor returns a one-time or recovery code. Each sign-in of a user who
	// has a second factor calls it, with a context that ends with the session.
	// Without it such a user cannot sign in: the error has the reason
	// SECOND_FACTOR_REQUIRED.
	SecondFactor func(context.Context) (string, error)
	// RefreshToken is that of the session to resume.
	RefreshToken string
	// Audience asks for access tokens of one service alone (RFC 8707), the
	// audience of its account or its Verifier: up to 128 visible ASCII
	// characters. No other service accepts them, nor does Tollgate's own API.
	Audience string
}

// Session is a user's session. It is a [TokenSource] of its access tokens, which
// it renews shortly before they end. Of any number of concurrent callers one
// renews, because a refresh token works once. It is safe for concurrent use.
type Session struct {
	client *Client // presents no credential
	config SessionConfig

	ctx        context.Context // of renewals: they do not end with the call that began them
	stop       context.CancelFunc
	asking     context.Context // of SecondFactor: Close does not wait for it
	stopAsking context.CancelFunc

	renewals singleflight.Group

	mu     sync.Mutex
	tokens tokens
	err    error // why the latest renewal failed
	retry  time.Time
	wait   time.Duration
	closed bool
}

type tokens struct {
	access  string
	renew   time.Time // when to begin renewing it
	ends    time.Time // when it is no longer given to callers
	refresh string
	// doubtful: the answer to a refresh was lost, so the refresh token may be
	// spent, and presenting it again may end the session.
	doubtful bool
}

func (t tokens) good(now time.Time) bool { return t.access != "" && now.Before(t.ends) }

// NewSession signs a user in at the Tollgate at baseURL. The options must not
// give a credential. [Session.Close] signs out. The errors are those of
// [Session.Token].
func NewSession(ctx context.Context, baseURL string, config SessionConfig, opts ...Option) (*Session, error) {
	if config.Username == "" || config.Password == "" || config.RefreshToken != "" {
		return nil, errors.New("tollgate: NewSession needs a Username and a Password, and no RefreshToken")
	}
	return beginSession(ctx, baseURL, config, opts)
}

// ResumeSession continues the session of a refresh token, which nothing else may
// use from then on. The config needs no user; without a password, the session
// fails with [ErrSignedOut] when it was ended. The options must not give a
// credential. The errors are those of [Session.Token].
//
// When the answer to a refresh is lost, the refresh token may be spent. A session
// without a password then tries it again only when the access token has ended: if
// it was spent, Tollgate ends the session. One with a password signs in instead.
func ResumeSession(ctx context.Context, baseURL string, config SessionConfig, opts ...Option) (*Session, error) {
	if config.RefreshToken == "" {
		return nil, errors.New("tollgate: ResumeSession needs a RefreshToken")
	}
	return beginSession(ctx, baseURL, config, opts)
}

func beginSession(ctx context.Context, baseURL string, config SessionConfig, opts []Option) (*Session, error) {
	if len(config.Audience) > 128 || strings.ContainsFunc(config.Audience, func(r rune) bool { return r < '!' || r > '~' }) {
		return nil, errors.New("tollgate: an Audience has at most 128 visible ASCII characters")
	}
	client, err := New(baseURL, opts...)
	if err != nil {
		return nil, err
	}
	if client.source != nil {
		return nil, errors.New("tollgate: a session signs in by itself; leave out the option that gives a credential")
	}
	s := &Session{client: client, config: config, tokens: tokens{refresh: config.RefreshToken}}
	s.ctx, s.stop = context.WithCancel(context.Background())
	s.asking, s.stopAsking = context.WithCancel(s.ctx)
	if _, err := s.Token(ctx); err != nil {
		s.stop()
		return nil, err
	}
	return s, nil
}

// Token returns an access token that is good for some seconds more. It makes a
// call only when the token is about to end, and waits for it only when the token
// has ended. After a failure it waits up to a minute before it calls Tollgate
// again, and fails at once meanwhile.
//
// The error is an [*Error], with the reason BAD_CREDENTIALS for a wrong password
// or code; a [*DeniedError] for a user who must first choose another password;
// that of SecondFactor; or has [ErrSignedOut] in it.
func (s *Session) Token(ctx context.Context) (string, error) {
	s.mu.Lock()
	now, current, err := s.client.now(), s.tokens, s.err
	var renewed <-chan singleflight.Result
	switch {
	case s.closed:
		err = fmt.Errorf("%w: it was closed", ErrSignedOut)
		current = tokens{}
	case current.good(now) && (now.Before(current.renew) || current.doubtful && s.config.Password == ""):
	case (current.refresh != "" || s.config.Password != "") && !now.Before(s.retry):
		renewed = s.renewals.DoChan("", s.renew)
	}
	s.mu.Unlock()
	switch {
	case current.good(now):
		return current.access, nil
	case renewed == nil:
		return "", err
	}
	select {
	case result := <-renewed:
		token, _ := result.Val.(string)
		return token, result.Err
	case <-ctx.Done():
		return "", contextError(ctx)
	}
}

// renew obtains the next tokens and returns the access token.
func (s *Session) renew() (any, error) {
	s.mu.Lock()
	old, closed := s.tokens, s.closed
	s.mu.Unlock()
	if closed {
		return nil, ErrSignedOut
	}
	next, err := s.obtain(old)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tokens, s.err = next, err
	if err == nil {
		s.retry, s.wait = time.Time{}, 0
		return next.access, nil
	}
	s.wait = min(max(2*s.wait, firstWait), lastWait)
	if known, ok := errors.AsType[*Error](err); ok {
		s.wait = max(s.wait, known.RetryAfter)
	}
	s.retry = s.client.now().Add(s.wait)
	return nil, err
}

// obtain refreshes the session or, when that fails and there is a password,
// begins another. With an error it returns what is left of the old tokens.
func (s *Session) obtain(old tokens) (tokens, error) {
	var err error
	if old.refresh != "" && (!old.doubtful || s.config.Password == "") {
		var next tokens
		if next, err = s.refresh(old.refresh); err == nil {
			return next, nil
		}
		switch {
		case refused(err):
			old = tokens{} // its access token has ended, too
		case unspent(err):
			return old, err
		default:
			old.doubtful = true
		}
	}
	switch {
	case s.config.Password != "":
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

// signIn gives the second factor when Tollgate asks for it.
func (s *Session) signIn() (tokens, error) {
	next, err := s.login("")
	known, ok := errors.AsType[*Error](err)
	if !ok || known.Reason != string(ReasonSecondFactorRequired) || s.config.SecondFactor == nil {
		return next, err
	}
	code, err := s.config.SecondFactor(s.asking)
	if err != nil {
		return tokens{}, fmt.Errorf("tollgate: get a code of the second factor: %w", err)
	}
	return s.login(code)
}

func (s *Session) login(code string) (tokens, error) {
	begun := s.client.now()
	res, err := s.client.auth.Login(s.ctx, &tollgatev1.LoginRequest{
		Username: s.config.Username, Password: s.config.Password, SecondFactor: code, Audience: s.config.Audience,
	})
	if err != nil {
		return tokens{}, err
	}
	if res.GetPasswordChangeRequired() {
		return tokens{}, &DeniedError{Reason: ReasonPasswordChangeRequired}
	}
	return newTokens(res, begun)
}

func (s *Session) refresh(token string) (tokens, error) {
	begun := s.client.now()
	res, err := s.client.auth.Refresh(s.ctx, &tollgatev1.RefreshRequest{
		RefreshToken: token, Audience: s.config.Audience,
	})
	if err != nil {
		return tokens{}, err
	}
	return newTokens(res, begun)
}

// newTokens reads the answer to a call that was made at begun.
func newTokens(answer interface {
	GetAccessToken() string
	GetRefreshToken() string
	GetExpiresIn() int32
}, begun time.Time) (tokens, error) {
	life := time.Duration(answer.GetExpiresIn()) * time.Second
	if kindOf(answer.GetAccessToken()) != accessToken || answer.GetRefreshToken() == "" || life <= 0 {
		return tokens{}, incomplete("the tokens of the session")
	}
	return tokens{
		access: answer.GetAccessToken(), refresh: answer.GetRefreshToken(),
		renew: begun.Add(life - min(life/5, time.Minute)),
		ends:  begun.Add(life - min(life/10, 5*time.Second)),
	}, nil
}

// refused reports whether Tollgate will not continue the session.
func refused(err error) bool {
	switch connect.CodeOf(err) {
	case connect.CodeUnauthenticated, connect.CodeInvalidArgument, connect.CodePermissionDenied:
		return true
	}
	return false
}

// unspent reports whether the refresh token cannot have been spent, because the
// call was never sent or was over a limit.
func unspent(err error) bool {
	network, ok := errors.AsType[*net.OpError](err)
	return ok && network.Op == "dial" || connect.CodeOf(err) == connect.CodeResourceExhausted
}

// Close signs out: it ends the session, its access token and its refresh token.
// [Session.Token] fails from then on. When Close fails, the session ends later,
// by itself.
func (s *Session) Close(ctx context.Context) error {
	defer s.stop()
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.stopAsking()
	select {
	case <-s.renewals.DoChan("", s.renew): // waits for the one under way
	case <-ctx.Done():
		return contextError(ctx)
	}
	s.mu.Lock()
	old := s.tokens
	s.tokens = tokens{}
	s.mu.Unlock()
	if old.refresh == "" {
		return nil
	}
	return s.revoke(ctx, old.refresh)
}

// revoke ends the session of a refresh token, a spent one, too (RFC 7009). Unlike
// Logout it needs no access token that Tollgate's API accepts. A session that has
// ended already is no error.
func (s *Session) revoke(ctx context.Context, token string) error {
	ctx, cancel := context.WithTimeout(ctx, s.client.timeout)
	defer cancel()
	form := strings.NewReader(url.Values{"token": {token}}.Encode())
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.client.base+"/v1/oauth2/revoke", form)
	if err != nil {
		return toError(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	res, err := s.client.public.Do(req)
	switch {
	case err != nil && ctx.Err() != nil:
		return contextError(ctx)
	case err != nil:
		return noAnswer("the session cannot be ended", err)
	}
	defer res.Body.Close()
	message := "the session cannot be ended: the answer is " + res.Status
	switch {
	case res.StatusCode == http.StatusOK:
		return nil
	case res.StatusCode == http.StatusTooManyRequests:
		return &Error{Code: connect.CodeResourceExhausted, Message: message}
	case res.StatusCode >= http.StatusInternalServerError:
		return noAnswer(message, nil)
	}
	return &Error{Code: connect.CodeInternal, Message: message}
}
