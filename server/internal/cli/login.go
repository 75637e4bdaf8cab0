package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
)

type login struct {
	Username string `arg:"" help:"Your user name."`
}

func (login) Help() string {
	return `The password is asked for on the terminal, or read from standard input when that is not a terminal: one line, then one with the code of the second factor, where the user has one, and one with a new password, where it must be changed.

    tollgate login mia --url https://tollgate.example.com
    pass tollgate/mia | tollgate login mia
    tollgate login admin --url https://staging.example.com --profile staging

The session is kept in the folder tollgate of your folder for configuration ($XDG_CONFIG_HOME or ~/.config on Linux, ~/Library/Application Support on macOS, %AppData% on Windows), in a file that only you can read, and its tokens are sent to that server alone.`
}

// Run signs in, and ends the session that the profile had before.
func (l login) Run(ctx context.Context, e *env) error {
	if e.APIKey != "" {
		return errors.New("an API key is set (--api-key, TOLLGATE_API_KEY), which needs no sign-in; unset it to sign in")
	}
	name, before, err := e.loginProfile()
	if err != nil {
		return err
	}
	p := profile{URL: before.URL, AllowHTTP: e.AllowHTTP || before.AllowHTTP, Username: l.Username}
	secret, err := e.ask(ctx, "Password for "+l.Username+" at "+p.URL+": ")
	if err != nil {
		return err
	}
	begun := e.now()
	res, err := e.signIn(ctx, p.URL, l.Username, secret)
	if err != nil {
		return err
	}
	if res.GetPasswordChangeRequired() {
		e.say("This password can only be used to choose another.")
		next, err := e.newPassword(ctx)
		if err != nil {
			return err
		}
		server := newAPI(p.URL, apiKey(res.GetAccessToken())) // the token, once
		if _, err := server.auth.SetPassword(ctx, &tollgatev1.SetPasswordRequest{
			Id: res.GetUserId(), CurrentPassword: secret, NewPassword: next,
		}); err != nil {
			return err
		}
		begun = e.now()
		if res, err = e.signIn(ctx, p.URL, l.Username, next); err != nil {
			return err
		}
	}
	p.UserID = res.GetUserId()
	p.take(begun, res)
	if err := e.keep(ctx, name, p); err != nil {
		return err
	}
	if before.AccessToken != "" { // best effort: it ends by itself, too
		//nolint:errcheck // as above
		newAPI(before.URL, apiKey(before.AccessToken)).auth.Logout(ctx, &tollgatev1.LogoutRequest{})
	}
	e.say("signed in at %s as %s (profile %s)", p.URL, l.Username, name)
	return nil
}

// loginProfile is the profile to sign in with: its name, and what it holds now, or
// only the server when it is new. One that is for another server is not replaced.
func (e *env) loginProfile() (string, profile, error) {
	name := e.profileName()
	p, err := e.store.read(name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", profile{}, err
	}
	address := e.URL
	if address == "" {
		address = p.URL
	}
	if address == "" {
		address = defaultURL
	}
	if address, err = cleanURL(address, e.AllowHTTP || p.AllowHTTP); err != nil {
		return "", profile{}, err
	}
	if p.URL != "" && p.URL != address {
		if p.RefreshToken != "" {
			return "", profile{}, fmt.Errorf("the profile %q is for %s; choose another name for %s: tollgate login NAME --url %s --profile OTHER; or end that session first: tollgate logout", name, p.URL, address, address)
		}
		p = profile{}
	}
	p.URL = address
	return name, p, nil
}

// keep writes a profile while no other process refreshes it.
func (e *env) keep(ctx context.Context, name string, p profile) error {
	unlock, err := e.store.lock(ctx, name)
	if err != nil {
		return err
	}
	defer unlock()
	return e.store.write(name, p)
}

// signIn signs in, and asks for the second factor when the server does.
func (e *env) signIn(ctx context.Context, address, username, secret string) (*tollgatev1.LoginResponse, error) {
	server := newAPI(address, anonymous{})
	req := &tollgatev1.LoginRequest{Username: username, Password: secret}
	res, err := server.auth.Login(ctx, req)
	if reasonOf(err) != "SECOND_FACTOR_REQUIRED" {
		return res, err
	}
	if req.SecondFactor, err = e.ask(ctx, "Code of the second factor, or a recovery code: "); err != nil {
		return nil, err
	}
	return server.auth.Login(ctx, req)
}

// ask is an answer that is not shown and not empty.
func (e *env) ask(ctx context.Context, question string) (string, error) {
	answer, err := e.prompt.Secret(ctx, question)
	if err == nil && answer == "" {
		return "", errors.New("the answer is empty; type it, or give it on standard input, one answer a line")
	}
	return answer, err
}

// newPassword asks for a new password, twice at a terminal.
func (e *env) newPassword(ctx context.Context) (string, error) {
	next, err := e.ask(ctx, "New password: ")
	if err != nil || !e.prompt.Interactive() {
		return next, err
	}
	again, err := e.ask(ctx, "Again: ")
	if err == nil && again != next {
		err = errors.New("the two are not the same; nothing was changed")
	}
	return next, err
}

type logout struct {
	Everywhere bool `help:"End all your sessions, also those on other machines."`
	Local      bool `help:"Only forget the session here, without a call; at the server it goes on until it expires."`
}

// Run ends the session. When the server cannot be told, the session is kept, so that
// it can be ended later.
func (l logout) Run(ctx context.Context, e *env) error {
	name := e.profileName()
	p, err := e.store.read(name)
	if err != nil {
		return err
	}
	if !l.Local && p.RefreshToken != "" {
		s, err := e.session()
		if err != nil {
			return err
		}
		done, err := newAPI(p.URL, s).auth.Logout(ctx, &tollgatev1.LogoutRequest{Everywhere: l.Everywhere})
		if err != nil && reasonOf(err) != "CREDENTIAL_REVOKED" {
			if again, readErr := e.store.read(name); readErr != nil || again.RefreshToken != "" {
				return fmt.Errorf("%w; the session goes on; to forget it here alone: tollgate logout --local", err)
			}
		}
		e.say("signed out at %s; sessions ended: %d", p.URL, done.GetRevokedSessions())
	}
	unlock, err := e.store.lock(ctx, name)
	if err != nil {
		return err
	}
	defer unlock()
	return e.store.remove(name)
}

type password struct{}

// Run changes the password, which ends all sessions, and signs in again.
func (password) Run(ctx context.Context, e *env) error {
	s, err := e.session()
	if err != nil {
		return err
	}
	p := s.profile
	current, err := e.ask(ctx, "Current password: ")
	if err != nil {
		return err
	}
	next, err := e.newPassword(ctx)
	if err != nil {
		return err
	}
	if _, err := newAPI(p.URL, s).auth.SetPassword(ctx, &tollgatev1.SetPasswordRequest{
		Id: p.UserID, CurrentPassword: current, NewPassword: next,
	}); err != nil {
		return err
	}
	e.say("the password is changed, and all sessions have ended")
	begun := e.now()
	res, err := e.signIn(ctx, p.URL, p.Username, next)
	if err != nil {
		return err
	}
	p.take(begun, res)
	return e.keep(ctx, s.name, p)
}
