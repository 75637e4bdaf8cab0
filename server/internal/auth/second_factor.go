package auth

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"github.com/pquerna/otp"
	"github.com/pquerna/otp/hotp"
	"github.com/pquerna/otp/totp"
	"github.com/tollgatehq/tollgate/server/internal/audit"
	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/changes"
	"github.com/tollgatehq/tollgate/server/internal/database"
	"github.com/tollgatehq/tollgate/server/internal/fault"
	"github.com/tollgatehq/tollgate/server/internal/seal"
)

// The TOTP that every authenticator knows: RFC 6238 with its defaults, HMAC
// with SHA-1, which is not weakened by collisions.
const (
	factorSecret = 20 // bytes, the 160 bits that RFC 4226 §4 recommends
	factorPeriod = 30 // seconds a code is good for
	factorDigits = otp.DigitsSix
	factorSkew   = 1 // codes before and after the present one are good, too (RFC 6238 §5.2)

	recoveryCodes = 10
	recoverySize  = 10 // random bytes each
	recoveryGroup = 4  // characters between two dashes
)

// crockford has no letters that are mixed up with digits or each other.
const crockford = "0123456789abcdefghjkmnpqrstvwxyz"

// Why a second factor was refused, for the audit log.
const (
	reasonNoSecondFactor    = "second_factor_missing"
	reasonWrongSecondFactor = "wrong_second_factor"
)

var (
	errNoSecondFactor    = errors.New("a second factor is needed and none was given")
	errWrongSecondFactor = errors.New("the second factor is wrong or was used before")
)

// Enrolment is what a person's authenticator needs, and what is for them alone.
type Enrolment struct {
	Secret        string // base32, for typing
	URI           string // otpauth://, for the QR code
	RecoveryCodes []string
}

// secondFactors makes and keeps secrets.
type secondFactors struct {
	master *seal.Master
	issuer string // what authenticators show beside the user's name
	codes  *base32.Encoding
}

func newSecondFactors(o Options) secondFactors {
	return secondFactors{
		master: o.Master, issuer: factorIssuer(o.Issuer),
		codes: base32.NewEncoding(crockford).WithPadding(base32.NoPadding),
	}
}

// factorIssuer is the host of the tokens' issuer: authenticators separate the
// issuer from the user by a colon.
func factorIssuer(issuer string) string {
	if u, err := url.Parse(issuer); err == nil && u.Hostname() != "" {
		issuer = u.Hostname()
	}
	return strings.ReplaceAll(issuer, ":", " ")
}

// EnrollSecondFactor makes a secret and recovery codes for the caller, who
// gives the current password: a stolen access token alone must not bind a
// factor to the account (OWASP ASVS 5.0, 7.5.1). It counts as an attempt.
// Nothing asks for the factor until ConfirmSecondFactor; until then a new
// enrolment replaces the one before. The
// guard lets in nobody but the user in person: an administrator would see the
// secret.
func (s *Service) EnrollSecondFactor(ctx context.Context, userID, currentPassword string) (Enrolment, error) {
	user, err := s.person(ctx, userID)
	if err != nil {
		return Enrolment{}, err
	}
	event := audit.New(ctx, audit.SecondFactorEnroll, audit.Success, "users/"+userID)
	if err := s.askPassword(ctx, user, currentPassword, event); err != nil {
		return Enrolment{}, fmt.Errorf("enroll a second factor of user %s: %w", userID, err)
	}
	secret := make([]byte, factorSecret)
	rand.Read(secret)
	key, err := totp.Generate(totp.GenerateOpts{
		Issuer: s.factors.issuer, AccountName: user.Username, Secret: secret,
		Period: factorPeriod, Digits: factorDigits, Algorithm: otp.AlgorithmSHA1,
	})
	if err != nil {
		return Enrolment{}, fmt.Errorf("describe the second factor of user %s: %w", userID, err)
	}
	made := Enrolment{Secret: key.Secret(), URI: key.URL()}
	hashes := make([][]byte, recoveryCodes)
	for i := range hashes {
		code := s.factors.newRecoveryCode()
		made.RecoveryCodes = append(made.RecoveryCodes, code)
		hashes[i] = hashRecoveryCode(plainCode(code))
	}
	sealed := s.factors.master.Seal(secret, secondFactorName(userID))
	_, err = s.log.Write(ctx, func(ctx context.Context, tx *changes.Tx) error {
		now, err := lockUser(ctx, tx, userID)
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
		if err := replaceRecoveryCodes(ctx, tx, userID, hashes); err != nil {
			return err
		}
		tx.Record(event)
		return nil
	})
	if err != nil {
		return Enrolment{}, fmt.Errorf("enroll a second factor of user %s: %w", userID, err)
	}
	s.forgetAttempts(ctx, user.Username)
	return made, nil
}

// ConfirmSecondFactor turns the caller's second factor on, given a code of the
// authenticator, which is used up by it. From then on sign-ins ask for one. In
// the same transaction all other sessions of the user end, which began without
// it (OWASP ASVS 5.0, 7.4.3); ended says how many.
func (s *Service) ConfirmSecondFactor(ctx context.Context, userID, code string) (ended int, revision int64, err error) {
	user, err := s.person(ctx, userID)
	if err != nil {
		return 0, 0, err
	}
	event := audit.New(ctx, audit.SecondFactorOn, audit.Success, "users/"+userID)
	if err := s.reserve(ctx, user.Username, event); err != nil {
		return 0, 0, err
	}
	revision, err = s.log.Write(ctx, func(ctx context.Context, tx *changes.Tx) error {
		if _, err := lockUser(ctx, tx, userID); err != nil {
			return err
		}
		row, err := secondFactor(ctx, tx, userID)
		switch {
		case errors.Is(err, database.ErrNoRows):
			return fault.New(fault.Precondition, "SECOND_FACTOR_NOT_ENROLLED", "there is no second factor to confirm; enroll one first")
		case err != nil:
			return err
		case row.ConfirmedAt != nil:
			return secondFactorOn()
		}
		if err := s.takeCode(ctx, tx, row, plainCode(code)); err != nil {
			return err
		}
		if err := confirmSecondFactor(ctx, tx, userID, s.clock.Micros()); err != nil {
			return err
		}
		if ended, err = s.endOthers(ctx, tx, userID, caller.From(ctx).Principal.SessionID, endedByFactor); err != nil {
			return err
		}
		tx.Changed(changes.User, userID)
		tx.Record(event.With("revoked_sessions", strconv.Itoa(ended)))
		return nil
	})
	if err != nil {
		return 0, 0, s.factorRefused(ctx, event, fmt.Errorf("confirm the second factor of user %s: %w", userID, err))
	}
	return ended, revision, nil
}

// RemoveSecondFactor turns a second factor off. For their own, callers give a
// code of it, however they are signed in; who resets another's, and an API key,
// must hold everything that user holds, for as long.
func (s *Service) RemoveSecondFactor(ctx context.Context, userID, code string) (int64, error) {
	user, err := s.person(ctx, userID)
	if err != nil {
		return 0, err
	}
	own := actsAs(ctx, userID) // also an API key of theirs gives a code
	action := audit.SecondFactorReset
	if own {
		action = audit.SecondFactorOff
	}
	event := audit.New(ctx, action, audit.Success, "users/"+userID)
	if own {
		if plainCode(code) == "" {
			return 0, fault.Field("code", "is required to remove your own second factor: a code from the authenticator or a recovery code")
		}
		if err := s.reserve(ctx, user.Username, event); err != nil {
			return 0, err
		}
		if err := s.reserveCode(ctx, user.Username, event); err != nil {
			return 0, err
		}
	}
	revision, err := s.log.Write(ctx, func(ctx context.Context, tx *changes.Tx) error {
		if _, err := lockUser(ctx, tx, userID); err != nil {
			return err
		}
		if err := s.mayBecome(ctx, tx, userID); err != nil {
			return err
		}
		if own {
			row, err := secondFactor(ctx, tx, userID)
			if errors.Is(err, database.ErrNoRows) {
				return secondFactorOff()
			}
			if err != nil {
				return err
			}
			if err := s.takeAny(ctx, tx, row, code); err != nil {
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
// and asks nobody for permission.
func (s *Service) ResetSecondFactor(ctx context.Context, username string) error {
	ctx = caller.System(ctx)
	user, err := s.FindUser(ctx, username)
	if err != nil {
		return err
	}
	_, err = s.RemoveSecondFactor(ctx, user.ID, "")
	return err
}

// passSecondFactor lets a sign-in through whose user has no second factor, or
// gave a code of it, which is used up with the transaction. Call it with the
// user's row locked, so that the factor stays what it is until the commit.
func (s *Service) passSecondFactor(ctx context.Context, tx *changes.Tx, userID, code string) (used string, err error) {
	row, err := secondFactor(ctx, tx, userID)
	switch {
	case errors.Is(err, database.ErrNoRows):
		return "", nil
	case err != nil:
		return "", err
	case row.ConfirmedAt == nil:
		return "", nil
	case plainCode(code) == "":
		return "", errNoSecondFactor
	}
	if err := s.takeAny(ctx, tx, row, code); err != nil {
		return "", err
	}
	if len(plainCode(code)) == recoveryLength {
		return "recovery_code", nil
	}
	return "totp", nil
}

// takeAny uses up a code of the authenticator or a recovery code.
func (s *Service) takeAny(ctx context.Context, tx *changes.Tx, row secondFactorRow, code string) error {
	plain := plainCode(code)
	if len(plain) != recoveryLength {
		return s.takeCode(ctx, tx, row, plain)
	}
	used, err := useRecoveryCode(ctx, tx, row.UserID, hashRecoveryCode(plain), s.clock.Micros())
	if err != nil {
		return err
	}
	if !used {
		return errWrongSecondFactor
	}
	return nil
}

// takeCode uses up a code of the authenticator: that one and all before it are
// refused from the commit on.
func (s *Service) takeCode(ctx context.Context, tx *changes.Tx, row secondFactorRow, code string) error {
	plain, err := s.factors.master.Open(row.Secret, secondFactorName(row.UserID))
	if err != nil {
		return fmt.Errorf("open the second factor of user %s: %w", row.UserID, err)
	}
	secret := base32.StdEncoding.EncodeToString(plain)
	now := s.clock.Now().Unix() / factorPeriod
	for step := now - factorSkew; step <= now+factorSkew; step++ {
		want, err := hotp.GenerateCodeCustom(secret, uint64(step), hotp.ValidateOpts{Digits: factorDigits, Algorithm: otp.AlgorithmSHA1})
		if err != nil {
			return fmt.Errorf("compute a code: %w", err)
		}
		if subtle.ConstantTimeCompare([]byte(want), []byte(code)) != 1 {
			continue
		}
		used, err := useStep(ctx, tx, row.UserID, step)
		if err != nil {
			return err
		}
		if used {
			return nil
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
	user, err := userByID(ctx, s.db, userID)
	switch {
	case errors.Is(err, database.ErrNoRows):
		return userRow{}, userUnknown()
	case err != nil:
		return userRow{}, err
	case user.Kind == caller.Service:
		return userRow{}, fault.New(fault.Precondition, "SERVICE_ACCOUNT", "a service account does not sign in, so it has no second factor")
	}
	return user, nil
}

func (f secondFactors) newRecoveryCode() string {
	random := make([]byte, recoverySize)
	rand.Read(random)
	text := f.codes.EncodeToString(random)
	var code strings.Builder
	for i, c := range text {
		if i > 0 && i%recoveryGroup == 0 {
			code.WriteByte('-')
		}
		code.WriteRune(c)
	}
	return code.String()
}

// recoveryLength is how long a recovery code is without its dashes.
const recoveryLength = recoverySize * 8 / 5

// plainCode is a code as it was made, however a person has typed it.
func plainCode(code string) string {
	return strings.Map(func(r rune) rune {
		switch r {
		case ' ', '-', '\t', '\n', '\r':
			return -1
		case 'o', 'O':
			return '0'
		case 'i', 'I', 'l', 'L':
			return '1'
		}
		if r >= 'A' && r <= 'Z' {
			return r - 'A' + 'a'
		}
		return r
	}, code)
}

// hashRecoveryCode needs no salt and no stretching: a code has 80 random bits.
func hashRecoveryCode(plain string) []byte {
	sum := sha256.Sum256([]byte("tollgate recovery code\x00" + plain))
	return sum[:]
}

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
