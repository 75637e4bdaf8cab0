package auth

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/tollgatehq/tollgate/server/internal/audit"
	"github.com/tollgatehq/tollgate/server/internal/auth/authority"
	"github.com/tollgatehq/tollgate/server/internal/auth/totp"
	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/changes"
	"github.com/tollgatehq/tollgate/server/internal/database"
	"github.com/tollgatehq/tollgate/server/internal/fault"
)

// Why a second factor was refused, for the audit log.
const (
	reasonNoSecondFactor    = "second_factor_missing"
	reasonWrongSecondFactor = "wrong_second_factor"
)

var (
	errNoSecondFactor    = errors.New("a second factor is needed and none was given")
	errWrongSecondFactor = errors.New("the second factor is wrong or was used before")
)

// EnrollSecondFactor makes a secret and recovery codes for the caller, who
// gives the current password: a stolen access token alone must not bind a
// factor to the account (OWASP ASVS 5.0, 7.5.1). It counts as an attempt.
// Nothing asks for the factor until ConfirmSecondFactor; until then a new
// enrollment replaces the one before. The guard lets in only the user in person:
// an administrator would see the secret.
func (s *Service) EnrollSecondFactor(ctx context.Context, userID, currentPassword string) (totp.Enrollment, error) {
	user, err := s.person(ctx, userID)
	if err != nil {
		return totp.Enrollment{}, err
	}
	event := audit.New(ctx, audit.SecondFactorEnroll, audit.Success, "users/"+userID)
	if err := s.askPassword(ctx, user, currentPassword, event); err != nil {
		return totp.Enrollment{}, fmt.Errorf("enroll a second factor of user %s: %w", userID, err)
	}
	made, err := s.factors.Enroll(user.Username)
	if err != nil {
		return totp.Enrollment{}, fmt.Errorf("enroll a second factor of user %s: %w", userID, err)
	}
	hashes := make([][]byte, len(made.RecoveryCodes))
	for i, code := range made.RecoveryCodes {
		hashes[i] = totp.HashRecoveryCode(totp.Plain(code))
	}
	sealed := s.master.Seal(made.Key, secondFactorName(userID))
	_, err = s.log.Write(ctx, func(ctx context.Context, tx *changes.Tx) error {
		if _, err := authority.Lock(ctx, tx, userID); err != nil {
			return err
		}
		now, err := getUser(ctx, tx, userID)
		if err != nil {
			return err
		}
		if now.PasswordHash != user.PasswordHash { // not the one that was compared
			return userChanged()
		}
		pending, err := insertSecondFactor(ctx, tx, userID, sealed, s.clock.Micros())
		if err != nil {
			return err
		}
		if !pending {
			return secondFactorOn()
		}
		if err := deleteRecoveryCodes(ctx, tx, userID); err != nil {
			return err
		}
		if err := insertRecoveryCodes(ctx, tx, userID, hashes); err != nil {
			return err
		}
		tx.Record(event)
		return nil
	})
	if err != nil {
		return totp.Enrollment{}, fmt.Errorf("enroll a second factor of user %s: %w", userID, err)
	}
	s.resetAttempts(ctx, user.Username)
	return made, nil
}

// ConfirmSecondFactor turns the caller's second factor on, given a code of the
// authenticator, which is used up by it. From then on sign-ins ask for one. In
// the same transaction all other sessions of the user are revoked, which began
// without it (OWASP ASVS 5.0, 7.4.3); revoked says how many.
func (s *Service) ConfirmSecondFactor(ctx context.Context, userID, code string) (revoked int, revision int64, err error) {
	user, err := s.person(ctx, userID)
	if err != nil {
		return 0, 0, err
	}
	event := audit.New(ctx, audit.SecondFactorOn, audit.Success, "users/"+userID)
	if err := s.countAttempt(ctx, user.Username, event); err != nil {
		return 0, 0, err
	}
	revision, err = s.log.Write(ctx, func(ctx context.Context, tx *changes.Tx) error {
		if _, err := authority.Lock(ctx, tx, userID); err != nil {
			return err
		}
		row, err := getSecondFactor(ctx, tx, userID)
		switch {
		case errors.Is(err, database.ErrNoRows):
			return fault.New(fault.Precondition, "SECOND_FACTOR_NOT_ENROLLED", "there is no second factor to confirm; enroll one first")
		case err != nil:
			return err
		case row.ConfirmedAt != nil:
			return secondFactorOn()
		}
		if err := s.useCode(ctx, tx, row, totp.Plain(code)); err != nil {
			return err
		}
		if err := updateConfirmed(ctx, tx, userID, s.clock.Micros()); err != nil {
			return err
		}
		if revoked, err = s.revokeSessions(ctx, tx, userID, caller.From(ctx).Principal.SessionID, revokedByFactor); err != nil {
			return err
		}
		tx.Changed(changes.User, userID)
		tx.Record(event.With("revoked_sessions", strconv.Itoa(revoked)))
		return nil
	})
	if err != nil {
		return 0, 0, s.factorRefused(ctx, event, fmt.Errorf("confirm the second factor of user %s: %w", userID, err))
	}
	return revoked, revision, nil
}

// RemoveSecondFactor turns a second factor off. For their own, callers give a
// code of it, however they are signed in; a caller who resets another's, and an
// API key, must hold everything that user holds, for as long.
func (s *Service) RemoveSecondFactor(ctx context.Context, userID, code string) (int64, error) {
	user, err := s.person(ctx, userID)
	if err != nil {
		return 0, err
	}
	own := authority.ActsAs(ctx, userID) // also an API key of theirs gives a code
	action := audit.SecondFactorReset
	if own {
		action = audit.SecondFactorOff
	}
	event := audit.New(ctx, action, audit.Success, "users/"+userID)
	if own {
		if totp.Plain(code) == "" {
			return 0, fault.Field("code", "is required to remove your own second factor: a code from the authenticator or a recovery code")
		}
		if err := s.countAttempt(ctx, user.Username, event); err != nil {
			return 0, err
		}
		if err := s.countCodeAttempt(ctx, user.Username, event); err != nil {
			return 0, err
		}
	}
	revision, err := s.log.Write(ctx, func(ctx context.Context, tx *changes.Tx) error {
		if _, err := authority.Lock(ctx, tx, userID); err != nil {
			return err
		}
		if err := s.authority.MayBecome(ctx, tx, userID); err != nil {
			return err
		}
		if own {
			row, err := getSecondFactor(ctx, tx, userID)
			if errors.Is(err, database.ErrNoRows) {
				return secondFactorOff()
			}
			if err != nil {
				return err
			}
			if err := s.useAnyCode(ctx, tx, row, code); err != nil {
				return err
			}
		}
		removed, err := deleteSecondFactor(ctx, tx, userID)
		if err != nil {
			return err
		}
		if !removed {
			return secondFactorOff()
		}
		tx.Changed(changes.User, userID)
		tx.Record(event)
		return nil
	})
	if err != nil {
		return 0, s.factorRefused(ctx, event, fmt.Errorf("remove the second factor of user %s: %w", userID, err))
	}
	return revision, nil
}

// ResetSecondFactor is RemoveSecondFactor for the command line: it takes a name
// and needs no permission.
func (s *Service) ResetSecondFactor(ctx context.Context, username string) error {
	ctx = caller.System(ctx)
	user, err := s.FindUser(ctx, username)
	if err != nil {
		return err
	}
	_, err = s.RemoveSecondFactor(ctx, user.ID, "")
	return err
}

// checkSecondFactor lets a sign-in through whose user has no second factor, or
// gave a code of it, which is used up with the transaction. Call it with the
// user's row locked, so that the factor stays what it is until the commit. It
// returns what the sign-in used, for the audit log.
func (s *Service) checkSecondFactor(ctx context.Context, tx *changes.Tx, userID, code string) (used string, err error) {
	row, err := getSecondFactor(ctx, tx, userID)
	plain := totp.Plain(code)
	switch {
	case errors.Is(err, database.ErrNoRows), err == nil && row.ConfirmedAt == nil:
		return "", nil
	case err != nil:
		return "", err
	case plain == "":
		return "", errNoSecondFactor
	}
	if err := s.useAnyCode(ctx, tx, row, code); err != nil {
		return "", err
	}
	if totp.IsRecoveryCode(plain) {
		return "recovery_code", nil
	}
	return "totp", nil
}

// useAnyCode uses up a code of the authenticator or a recovery code.
func (s *Service) useAnyCode(ctx context.Context, tx *changes.Tx, row secondFactorRow, code string) error {
	plain := totp.Plain(code)
	if !totp.IsRecoveryCode(plain) {
		return s.useCode(ctx, tx, row, plain)
	}
	used, err := updateRecoveryCodeUsed(ctx, tx, row.UserID, totp.HashRecoveryCode(plain), s.clock.Micros())
	if err == nil && !used {
		return errWrongSecondFactor
	}
	return err
}

// useCode uses up a code of the authenticator: that one and all before it are
// refused from the commit on.
func (s *Service) useCode(ctx context.Context, tx *changes.Tx, row secondFactorRow, code string) error {
	key, err := s.master.Open(row.Secret, secondFactorName(row.UserID))
	if err != nil {
		return fmt.Errorf("open the second factor of user %s: %w", row.UserID, err)
	}
	steps, err := totp.Steps(key, code, s.clock.Now())
	if err != nil {
		return err
	}
	for _, step := range steps {
		if used, err := updateLastStep(ctx, tx, row.UserID, step); err != nil || used {
			return err
		}
	}
	return errWrongSecondFactor
}

// factorRefused records a wrong code and makes the caller's error of it. Other
// errors stay what they are.
func (s *Service) factorRefused(ctx context.Context, event audit.Event, err error) error {
	if !errors.Is(err, errWrongSecondFactor) {
		return err
	}
	event.Outcome = audit.Failure
	if err := s.audit.Record(ctx, event.Because(reasonWrongSecondFactor)); err != nil {
		return err
	}
	return fault.Field("code", "is wrong, too old, or was used before; wait for the next one")
}

// person returns a user who can have a second factor.
func (s *Service) person(ctx context.Context, userID string) (userRow, error) {
	user, err := getUser(ctx, s.db, userID)
	switch {
	case errors.Is(err, database.ErrNoRows):
		return userRow{}, authority.UserUnknown()
	case err != nil:
		return userRow{}, fmt.Errorf("read user %s: %w", userID, err)
	case user.Kind == caller.Service:
		return userRow{}, fault.New(fault.Precondition, "SERVICE_ACCOUNT", "a service account does not sign in, so it has no second factor")
	}
	return user, nil
}

// secondFactorName is what a user's second factor is sealed with.
func secondFactorName(userID string) string { return "second_factors/" + userID }

func secondFactorRequired() error {
	return fault.New(fault.Unauthenticated, "SECOND_FACTOR_REQUIRED",
		"the password is right; sign in with it and a code from the authenticator or a recovery code")
}

func secondFactorOn() error {
	return fault.New(fault.Precondition, "SECOND_FACTOR_ON", "the second factor is on already; remove it before enrolling another")
}

func secondFactorOff() error {
	return fault.New(fault.Precondition, "SECOND_FACTOR_OFF", "the user has no second factor to remove")
}
