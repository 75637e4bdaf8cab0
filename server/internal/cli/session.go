package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"sync"
	"time"

	"connectrpc.com/connect"
	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
)

// refreshTimeout bounds a refresh, which Ctrl-C does not end: its answer is worth more
// than the second that it takes.
const refreshTimeout = 20 * time.Second

// session is the session of a profile. It is the source of its access tokens.
type session struct {
	env  *env
	name string

	mu      sync.Mutex
	profile profile
}

// profileName is the profile that the flags ask for.
func (e *env) profileName() string {
	if e.Profile != "" {
		return e.Profile
	}
	return e.store.current()
}

// session is the session of the profile. Its tokens are sent only to the server that
// they came from: another --url is refused.
func (e *env) session() (*session, error) {
	name := e.profileName()
	p, err := e.store.read(name)
	switch {
	case errors.Is(err, fs.ErrNotExist) && e.Profile == "":
		address := e.URL
		if address == "" {
			address = defaultURL
		}
		return nil, fmt.Errorf("you are not signed in at %s: tollgate login NAME --url %s; or set TOLLGATE_API_KEY", address, address)
	case err != nil:
		return nil, err
	}
	if e.URL != "" {
		address, err := cleanURL(e.URL, true)
		if err != nil {
			return nil, err
		}
		if address != p.URL {
			return nil, fmt.Errorf("the profile %q is for %s, and its tokens are not sent to %s; sign in there with a profile of its own: tollgate login NAME --url %s --profile OTHER", name, p.URL, address, address)
		}
	}
	if err := checkTransport(p.URL, e.AllowHTTP || p.AllowHTTP); err != nil {
		return nil, err
	}
	return &session{env: e, name: name, profile: p}, nil
}

// fresh says whether the access token lasts for a call, also when clocks differ a bit.
func (p profile) fresh(now time.Time) bool {
	return p.AccessToken != "" && now.Add(5*time.Second).Before(p.ExpiresAt)
}

// Token is an access token that lasts for a call. Of all processes one refreshes the
// session, because a refresh token works once; the others wait and use what it got.
func (s *session) Token(ctx context.Context) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.profile.fresh(s.env.now()) {
		return s.profile.AccessToken, nil
	}
	unlock, err := s.env.store.lock(ctx, s.name)
	if err != nil {
		return "", err
	}
	defer unlock()
	p, err := s.env.store.read(s.name)
	switch {
	case err != nil:
		return "", err
	case p.URL != s.profile.URL:
		return "", fmt.Errorf("the profile %q was changed to another server meanwhile; run the command again", s.name)
	case p.fresh(s.env.now()):
		s.profile = p
		return p.AccessToken, nil
	case p.RefreshToken == "":
		return "", signedOut(s.name, p, "the session is over")
	case p.Refreshing:
		return "", signedOut(s.name, p, "the answer to the last refresh of the session was lost")
	}
	p, err = s.refresh(ctx, p)
	if err != nil {
		return "", err
	}
	s.profile = p
	return p.AccessToken, nil
}

// signedOut is the error of a session that cannot go on.
func signedOut(name string, p profile, why string) error {
	command := "tollgate login " + p.Username
	if name != defaultProfile {
		command += " --profile " + name
	}
	return fmt.Errorf("%s at %s; sign in again: %s", why, p.URL, command)
}

// refresh trades the refresh token for the next tokens, and keeps them before anything
// is done with them. The lock is held.
func (s *session) refresh(ctx context.Context, p profile) (profile, error) {
	p.Refreshing = true
	if err := s.env.store.write(s.name, p); err != nil {
		return profile{}, err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), refreshTimeout)
	defer cancel()
	begun := s.env.now()
	res, err := newAPI(p.URL, anonymous{}).auth.Refresh(ctx, &tollgatev1.RefreshRequest{RefreshToken: p.RefreshToken})
	switch {
	case unspent(err):
		p.Refreshing = false
		return profile{}, errors.Join(err, s.env.store.write(s.name, p))
	case connect.CodeOf(err) == connect.CodeUnauthenticated && err != nil:
		p.Refreshing, p.AccessToken, p.RefreshToken = false, "", ""
		return profile{}, errors.Join(signedOut(s.name, p, "the session is over"), s.env.store.write(s.name, p))
	case err != nil:
		return profile{}, err
	}
	p.take(begun, res)
	p.Refreshing = false
	return p, s.env.store.write(s.name, p)
}

// take takes the tokens of an answer to a call that was made at begun.
func (p *profile) take(begun time.Time, res interface {
	GetAccessToken() string
	GetRefreshToken() string
	GetExpiresIn() int32
	GetSessionId() string
}) {
	p.AccessToken, p.RefreshToken, p.SessionID = res.GetAccessToken(), res.GetRefreshToken(), res.GetSessionId()
	p.ExpiresAt = begun.Add(time.Duration(res.GetExpiresIn()) * time.Second).UTC()
}

// unspent reports whether the refresh token cannot have been spent, because the call
// was never sent or was over a limit.
func unspent(err error) bool {
	network, ok := errors.AsType[*net.OpError](err)
	return ok && network.Op == "dial" || err != nil && connect.CodeOf(err) == connect.CodeResourceExhausted
}
