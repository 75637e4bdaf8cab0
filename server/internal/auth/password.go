package auth

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/tollgatehq/tollgate/server/internal/audit"
	"github.com/tollgatehq/tollgate/server/internal/auth/authority"
	"github.com/tollgatehq/tollgate/server/internal/auth/password"
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

	// RevokeAPIKeys says whether the user's API keys are revoked, too. nil: they
	// are in a reset, and are not when callers change their own password.
	RevokeAPIKeys *bool
}

// PasswordSet is the outcome.
type PasswordSet struct {
	OneTime        string // the password that was made, if one was
	RevokedAPIKeys int
	Revision       int64
}

// SetPassword changes the caller's own password, given the current one, or
// resets another's, provided that the caller holds every permission of that
// user for as long as the user does. An API key needs both to set its owner's:
// it is not its owner. All sessions of the user are revoked in the same
// transaction and, if asked to, all API keys.
func (s *Service) SetPassword(ctx context.Context, p PasswordChange) (PasswordSet, error) {
	user, err := getUser(ctx, s.db, p.UserID)
	if errors.Is(err, database.ErrNoRows) {
		return PasswordSet{}, authority.UserUnknown()
	}
	if err != nil {
		return PasswordSet{}, fmt.Errorf("read user %s: %w", p.UserID, err)
	}
	if user.Kind == caller.Service {
		return PasswordSet{}, fault.New(fault.Precondition, "SERVICE_ACCOUNT",
			"a service account has no password; create an API key for it")
	}
	if err := s.authority.MayBecome(ctx, s.db, user.ID); err != nil { // before the hashing, and again after
		return PasswordSet{}, err
	}
	own := authority.ActsAs(ctx, user.ID)
	if p.RevokeAPIKeys == nil {
		reset := !own
		p.RevokeAPIKeys = &reset
	}
	set := s.resetPassword
	if own {
		set = s.changePassword
	}
	done, err := set(ctx, user, p)
	if err != nil {
		return PasswordSet{}, fmt.Errorf("set the password of user %s: %w", p.UserID, err)
	}
	return done, nil
}

// ResetPassword is SetPassword for the command line: it takes a name and needs
// no permission. For an empty password one is made, which must be
// changed at the next sign-in.
func (s *Service) ResetPassword(ctx context.Context, name, next string, keepAPIKeys bool) (PasswordSet, error) {
	ctx = caller.System(ctx)
	user, err := s.FindUser(ctx, name)
	if err != nil {
		return PasswordSet{}, err
	}
	revoke := !keepAPIKeys
	return s.SetPassword(ctx, PasswordChange{UserID: user.ID, New: next, RevokeAPIKeys: &revoke})
}

func (s *Service) changePassword(ctx context.Context, user userRow, p PasswordChange) (PasswordSet, error) {
	if p.Current == "" {
		return PasswordSet{}, fault.Field("currentPassword", "is required to change your own password")
	}
	if err := password.Check("newPassword", user.Username, p.New); err != nil {
		return PasswordSet{}, err
	}
	if p.New == p.Current {
		return PasswordSet{}, fault.Field("newPassword", "must differ from the current one")
	}
	event := audit.New(ctx, audit.PasswordChange, audit.Success, "users/"+user.ID)
	if err := s.askPassword(ctx, user, p.Current, event); err != nil {
		return PasswordSet{}, err
	}
	done, err := s.storePassword(ctx, user, p, false, event)
	if err != nil {
		return PasswordSet{}, err
	}
	s.resetAttempts(ctx, user.Username)
	return done, nil
}

// askPassword asks callers to prove who they are by their current password. It
// is counted as an attempt before it is compared, as a sign-in is; a wrong one
// is recorded as the event's failure. Call resetAttempts when all is done.
func (s *Service) askPassword(ctx context.Context, user userRow, current string, event audit.Event) error {
	if err := s.countAttempt(ctx, user.Username, event); err != nil {
		return err
	}
	right, err := s.Passwords.Matches(ctx, user.PasswordHash, current)
	if err != nil || right {
		return err
	}
	event.Outcome = audit.Failure
	if err := s.audit.Record(ctx, event.Because(reasonWrongPassword)); err != nil {
		return err
	}
	return fault.Field("currentPassword", "is wrong")
}

func (s *Service) resetPassword(ctx context.Context, user userRow, p PasswordChange) (PasswordSet, error) {
	oneTime := ""
	if p.New == "" {
		oneTime = password.NewOneTime()
		p.New = oneTime
	}
	if err := password.Check("newPassword", user.Username, p.New); err != nil {
		return PasswordSet{}, err
	}
	// A caller who resets another's password knows it, so it must not stay. The
	// command line sets what its user wants.
	mustChange := oneTime != "" || !caller.From(ctx).System
	event := audit.New(ctx, audit.PasswordReset, audit.Success, "users/"+user.ID)
	done, err := s.storePassword(ctx, user, p, mustChange, event)
	if err != nil {
		return PasswordSet{}, err
	}
	done.OneTime = oneTime
	return done, nil
}

// storePassword replaces the password that the user had when it was read, and
// revokes all sessions. When another caller set one meanwhile, it does nothing:
// Conflict. A user who was given more meanwhile than the caller holds keeps the
// password.
func (s *Service) storePassword(ctx context.Context, user userRow, p PasswordChange, mustChange bool, event audit.Event) (PasswordSet, error) {
	hash, err := s.Passwords.Hash(ctx, p.New)
	if err != nil {
		return PasswordSet{}, err
	}
	var done PasswordSet
	done.Revision, err = s.log.Write(ctx, func(ctx context.Context, tx *changes.Tx) error {
		done.RevokedAPIKeys = 0
		if _, err := authority.Lock(ctx, tx, user.ID); err != nil {
			return err
		}
		if err := s.authority.MayBecome(ctx, tx, user.ID); err != nil {
			return err
		}
		stored, err := updatePassword(ctx, tx, user, hash, mustChange, s.clock.Micros())
		if err != nil {
			return err
		}
		if !stored {
			return userChanged()
		}
		if _, err := s.revokeSessions(ctx, tx, user.ID, "", revokedByPassword); err != nil {
			return err
		}
		if *p.RevokeAPIKeys {
			if done.RevokedAPIKeys, err = s.APIKeys.RevokeAll(ctx, tx, user.ID); err != nil {
				return err
			}
		}
		tx.Changed(changes.User, user.ID)
		tx.Record(event.With("revoked_api_keys", strconv.Itoa(done.RevokedAPIKeys)))
		return nil
	})
	return done, err
}

func userChanged() error {
	return fault.New(fault.Conflict, "USER_CHANGED", "the user was changed meanwhile; read it again, then retry")
}
