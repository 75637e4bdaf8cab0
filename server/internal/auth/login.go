package auth

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/audit"
	"github.com/tollgatehq/tollgate/server/internal/auth/token"
	"github.com/tollgatehq/tollgate/server/internal/auth/totp"
	"github.com/tollgatehq/tollgate/server/internal/auth/username"
	"github.com/tollgatehq/tollgate/server/internal/changes"
	"github.com/tollgatehq/tollgate/server/internal/database"
	"github.com/tollgatehq/tollgate/server/internal/fault"
)

const (
	// loginPermission is what limits on sign-ins apply to.
	loginPermission = "tollgate:login"
	// clientID is the "client_id" of access tokens, which RFC 9068 requires:
	// people sign in at Tollgate itself.
	clientID = "tollgate"
	// impossibleName stands for every name that no user can have. It cannot be
	// a name itself, for it holds a space.
	impossibleName = "impossible name"
)

// Why a sign-in failed, for the audit log only: the caller must not learn it.
const (
	reasonLimited       = "limited"
	reasonUnknownUser   = "user_unknown"
	reasonDisabled      = "user_disabled"
	reasonNoPassword    = "no_password"
	reasonWrongPassword = "wrong_password"
)

// SignIn is what a person gives to sign in.
type SignIn struct {
	Username, Password string
	SecondFactor       string // a code; empty: none
	Audience           string // of the session's access tokens; empty: the server's own
}

// Login trades a user name and password for the tokens of a new session. An
// unknown user, a wrong password, a disabled user and a service account get the
// same answer after the same work. The attempt is counted before the work
// begins, so guesses at the same time count as well as one after another.
//
// A user with a second factor gives a code of it as well. Without one the answer
// to the right password is SECOND_FACTOR_REQUIRED, which reveals that it was
// right: people must be asked for the code. A wrong code gets the same answer as
// a wrong password. Both count as attempts, which only a whole sign-in resets,
// so codes cannot be guessed faster than passwords.
func (s *Service) Login(ctx context.Context, in SignIn) (Grant, error) {
	g, err := s.login(ctx, in)
	if s.signedIn != nil {
		s.signedIn(err)
	}
	return g, err
}

func (s *Service) login(ctx context.Context, in SignIn) (Grant, error) {
	if err := s.Passwords.Ready(ctx); err != nil {
		return Grant{}, err
	}
	audience, err := s.audience(in.Audience)
	if err != nil {
		return Grant{}, err
	}
	in.Audience = audience
	name, err := username.Canonical(in.Username)
	if err != nil {
		name = impossibleName
	}
	event := audit.New(ctx, audit.Login, audit.Success, "")
	event.ActorID, event.ActorName, event.SessionID, event.APIKeyID = "", in.Username, "", ""
	event = withAudience(event, audience)

	if err := s.countAttempt(ctx, name, event); err != nil {
		return Grant{}, err
	}
	// A second round is for a user who was changed during the first: the
	// password's hash brought up to date by a sign-in at the same time, most
	// likely.
	for range 2 {
		user, reason, err := s.authenticate(ctx, name, in.Password)
		if err != nil {
			return Grant{}, fmt.Errorf("sign in: %w", err)
		}
		if user.ID != "" {
			event.Resource = "users/" + user.ID
		}
		if reason != "" {
			return Grant{}, s.refuse(ctx, event, reason, badCredentials())
		}
		if totp.Plain(in.SecondFactor) != "" {
			if err := s.countCodeAttempt(ctx, name, event); err != nil {
				return Grant{}, err
			}
		}
		grant, err := s.begin(ctx, user, in, event)
		switch {
		case errors.Is(err, errUserChanged):
			continue
		case errors.Is(err, errNoSecondFactor):
			return Grant{}, s.refuse(ctx, event, reasonNoSecondFactor, secondFactorRequired())
		case errors.Is(err, errWrongSecondFactor):
			return Grant{}, s.refuse(ctx, event, reasonWrongSecondFactor, badCredentials())
		case err != nil:
			return Grant{}, fmt.Errorf("begin session: %w", err)
		}
		s.resetAttempts(ctx, name)
		return grant, nil
	}
	return Grant{}, fault.New(fault.Conflict, "USER_CHANGED", "the user is being changed at the moment; try again")
}

// refuse records why a sign-in failed and returns the answer.
func (s *Service) refuse(ctx context.Context, event audit.Event, reason string, answer error) error {
	event.Outcome = audit.Failure
	if err := s.audit.Record(ctx, event.Because(reason)); err != nil {
		return err
	}
	return answer
}

// authenticate compares the password; the reason is empty when it is right.
func (s *Service) authenticate(ctx context.Context, name, text string) (userRow, string, error) {
	user, err := getUserByName(ctx, s.db, name)
	unknown := errors.Is(err, database.ErrNoRows)
	if err != nil && !unknown {
		return userRow{}, "", err
	}
	hash := user.PasswordHash
	if user.DisabledAt != nil {
		hash = ""
	}
	ok, err := s.Passwords.Matches(ctx, hash, text)
	switch {
	case err != nil:
		return userRow{}, "", err
	case unknown:
		return userRow{}, reasonUnknownUser, nil
	case user.DisabledAt != nil:
		return user, reasonDisabled, nil
	case user.PasswordHash == "":
		return user, reasonNoPassword, nil
	case !ok:
		return user, reasonWrongPassword, nil
	}
	return user, "", nil
}

// errUserChanged: the user is not any more what the password was compared with.
var errUserChanged = errors.New("the user was changed meanwhile")

// begin starts a session of a user whose password was compared. It commits
// only if the user is still enabled, has that password, and has no second
// factor or gave a code of it: from here to the commit no other caller can change that.
// The code is used up by the same commit, so none is lost without a session and
// none is good for two.
func (s *Service) begin(ctx context.Context, user userRow, in SignIn, event audit.Event) (Grant, error) {
	event.ActorID, event.ActorName = user.ID, user.Username
	hash := user.PasswordHash
	if s.Passwords.Outdated(hash) {
		var err error
		if hash, err = s.Passwords.Hash(ctx, in.Password); err != nil {
			return Grant{}, err
		}
		event = event.With("password_hash", "renewed")
	}
	now := s.clock.Now()
	token, tokenHash := newRefreshToken()
	session := sessionRow{
		ID: s.clock.NewID(), UserID: user.ID, TokenHash: tokenHash,
		CreatedAt: now.UnixMicro(), RefreshedAt: now.UnixMicro(),
		IdleExpiresAt: now.Add(min(s.sessionIdle, s.sessionMax)).UnixMicro(),
		ExpiresAt:     now.Add(s.sessionMax).UnixMicro(),
		Audience:      in.Audience, SecondFactor: user.SecondFactor, client: clientInfo(ctx),
	}
	grant, err := s.grant(now, session, user, session.Audience, token)
	if err != nil {
		return Grant{}, err
	}
	event.SessionID = session.ID
	_, err = s.log.Write(ctx, func(ctx context.Context, tx *changes.Tx) error {
		same, err := lockUserForLogin(ctx, tx, user.ID, user.PasswordHash, hash)
		if err != nil {
			return err
		}
		if !same {
			return errUserChanged
		}
		used, err := s.checkSecondFactor(ctx, tx, user.ID, in.SecondFactor)
		if err != nil {
			return err
		}
		if session.SecondFactor != (used != "") { // the token says how they signed in
			return errUserChanged
		}
		if err := insertSession(ctx, tx, session); err != nil {
			return err
		}
		revoked, err := updateOldestRevoked(ctx, tx, session, maxSessions)
		if err != nil {
			return err
		}
		for _, id := range revoked {
			tx.Changed(changes.Session, id)
			tx.Record(audit.New(ctx, audit.SessionRevoke, audit.Success, "sessions/"+id).Because(revokedByNewer))
		}
		signIn := event
		if used != "" {
			signIn = event.With("second_factor", used)
		}
		tx.Record(signIn)
		return nil
	})
	if err != nil {
		return Grant{}, err
	}
	return grant, nil
}

// grant signs an access token for the audience, empty for the server's own,
// that ends with its session at the latest.
func (s *Service) grant(now time.Time, session sessionRow, user userRow, audience, refreshToken string) (Grant, error) {
	ends := now.Add(s.accessTokenTTL)
	if end := time.UnixMicro(session.IdleExpiresAt); end.Before(ends) {
		ends = end
	}
	issued, ends := now.Truncate(time.Second), ends.Truncate(time.Second)
	accessToken, err := s.SigningKeys.Sign(token.Claims{
		Subject: user.ID, SessionID: session.ID, ID: s.clock.NewID(), ClientID: clientID, Audience: audience,
		IssuedAt: issued, ExpiresAt: ends, PasswordChange: user.PasswordChangeRequired,
		AMR: session.amr(), AuthTime: time.UnixMicro(session.CreatedAt),
	})
	if err != nil {
		return Grant{}, err
	}
	return Grant{
		AccessToken: accessToken, RefreshToken: refreshToken, ExpiresIn: ends.Sub(issued),
		SessionID: session.ID, UserID: user.ID, PasswordChangeRequired: user.PasswordChangeRequired,
	}, nil
}

func badCredentials() error {
	return fault.New(fault.Unauthenticated, "BAD_CREDENTIALS", "wrong user name or password")
}
