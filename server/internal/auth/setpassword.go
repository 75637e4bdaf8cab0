package auth

import (
	"context"
	"errors"
	"fmt"

	"github.com/tollgatehq/tollgate/server/internal/audit"
	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/changes"
	"github.com/tollgatehq/tollgate/server/internal/database"
	"github.com/tollgatehq/tollgate/server/internal/fault"
)

// PasswordChange says whose password to set.
type PasswordChange struct {
	UserID  string
	Current string // required when callers change their own
	New     string // empty in a reset: one is made
}

// SetPassword changes the caller's own password, given the current one, or
// resets another's, provided that the caller holds every permission of that
// user. All sessions of the user end in the same transaction. oneTime is the
// password that was made, if one was.
func (s *Service) SetPassword(ctx context.Context, p PasswordChange) (oneTime string, revision int64, err error) {
	user, err := userByID(ctx, s.db, p.UserID)
	if errors.Is(err, database.ErrNoRows) {
		return "", 0, userUnknown()
	}
	if err != nil {
		return "", 0, err
	}
	if user.Kind == caller.Service {
		return "", 0, fault.New(fault.Precondition, "SERVICE_ACCOUNT",
			"a service account has no password; create an API key for it")
	}
	if isSelf(ctx, p.UserID) {
		revision, err = s.changePassword(ctx, user, p)
	} else {
		oneTime, revision, err = s.resetPassword(ctx, user, p)
	}
	if err != nil {
		return "", 0, fmt.Errorf("set the password of user %s: %w", p.UserID, err)
	}
	return oneTime, revision, nil
}

// ResetPassword is SetPassword for the command line: it takes a name and asks
// nobody for permission. For an empty password one is made, which must be
// changed at the next sign-in.
func (s *Service) ResetPassword(ctx context.Context, username, password string) (oneTime string, err error) {
	ctx = caller.System(ctx)
	user, err := s.FindUser(ctx, username)
	if err != nil {
		return "", err
	}
	oneTime, _, err = s.SetPassword(ctx, PasswordChange{UserID: user.ID, New: password})
	return oneTime, err
}

func (s *Service) changePassword(ctx context.Context, user userRow, p PasswordChange) (int64, error) {
	if p.Current == "" {
		return 0, fault.Field("current_password", "is required to change your own password")
	}
	if err := checkPassword("new_password", user.Username, p.New); err != nil {
		return 0, err
	}
	if p.New == p.Current {
		return 0, fault.Field("new_password", "must differ from the current one")
	}
	event := audit.New(ctx, audit.PasswordChange, audit.Success, "users/"+user.ID)
	if err := s.askPassword(ctx, user, p.Current, event); err != nil {
		return 0, err
	}
	revision, err := s.storePassword(ctx, user, p.New, false, event)
	if err != nil {
		return 0, err
	}
	s.forgetAttempts(ctx, user.Username)
	return revision, nil
}

// askPassword has the caller prove who they are by their current password. It
// is counted as an attempt before it is compared, as a sign-in is; a wrong one
// is recorded as the event's failure. Call forgetAttempts when all is done.
func (s *Service) askPassword(ctx context.Context, user userRow, current string, event audit.Event) error {
	if err := s.reserve(ctx, user.Username, event); err != nil {
		return err
	}
	right, err := s.passwords.matches(ctx, user.PasswordHash, current)
	if err != nil || right {
		return err
	}
	event.Outcome = audit.Failure
	if err := s.audit.Record(ctx, event.Because(reasonWrongPassword)); err != nil {
		return err
	}
	return fault.Field("current_password", "is wrong")
}

func (s *Service) resetPassword(ctx context.Context, user userRow, p PasswordChange) (oneTime string, revision int64, err error) {
	if err := s.mayManage(ctx, user.ID); err != nil {
		return "", 0, err
	}
	password := p.New
	if password == "" {
		oneTime = newOneTimePassword(s.world)
		password = oneTime
	}
	if err := checkPassword("new_password", user.Username, password); err != nil {
		return "", 0, err
	}
	// Whoever resets another's password knows it, so it must not stay. The
	// command line sets what its user wants.
	mustChange := oneTime != "" || !caller.From(ctx).System
	event := audit.New(ctx, audit.PasswordReset, audit.Success, "users/"+user.ID)
	revision, err = s.storePassword(ctx, user, password, mustChange, event)
	if err != nil {
		return "", 0, err
	}
	return oneTime, revision, nil
}

// storePassword replaces the password that the user had when it was read, and
// ends all sessions. When somebody else set another one meanwhile, it does
// nothing: Conflict.
func (s *Service) storePassword(ctx context.Context, user userRow, password string, mustChange bool, event audit.Event) (int64, error) {
	hash, err := s.passwords.hash(ctx, password)
	if err != nil {
		return 0, err
	}
	return s.log.Write(ctx, func(ctx context.Context, tx *changes.Tx) error {
		stored, err := updatePassword(ctx, tx, user, hash, mustChange, s.world.Micros())
		if err != nil {
			return err
		}
		if !stored {
			return userChanged()
		}
		if _, err := s.endAll(ctx, tx, user.ID, endedByPassword); err != nil {
			return err
		}
		tx.Changed(changes.User, user.ID)
		tx.Record(event)
		return nil
	})
}

func userChanged() error {
	return fault.New(fault.Conflict, "USER_CHANGED", "the user was changed meanwhile; look at it and try again")
}
