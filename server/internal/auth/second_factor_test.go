package auth

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	otp "github.com/pquerna/otp/totp"
	"github.com/tollgatehq/tollgate/server/internal/audit"
	"github.com/tollgatehq/tollgate/server/internal/auth/apikey"
	"github.com/tollgatehq/tollgate/server/internal/auth/totp"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/changes"
	"github.com/tollgatehq/tollgate/server/internal/database"
	"github.com/tollgatehq/tollgate/server/internal/fault"
	"github.com/tollgatehq/tollgate/server/internal/fault/faulttest"
	"github.com/tollgatehq/tollgate/server/internal/roles"
	"golang.org/x/crypto/bcrypt"
)

// code is what the authenticator shows now, or so much later.
func (d *fixture) code(made totp.Enrollment, later time.Duration) string {
	d.t.Helper()
	code, err := otp.GenerateCode(made.Secret, d.clock.Now().Add(later))
	backendtest.Must(d.t, err)
	return code
}

// factor turns the second factor of a user on, whose password is the usual one.
func (d *fixture) factor(u User) totp.Enrollment {
	d.t.Helper()
	ctx := d.inPerson(u.Username)
	made, err := d.EnrollSecondFactor(ctx, u.ID, goodPassword)
	backendtest.Must(d.t, err)
	backendtest.Must(d.t, faulttest.Err(d.ConfirmSecondFactor(ctx, u.ID, d.code(made, 0))))
	d.clock.Advance(time.Minute) // past the code that was used
	return made
}

func (d *fixture) loginWith(name, code string) error {
	return faulttest.Err(d.Login(d.visitor(), name, goodPassword, code))
}

func TestSecondFactor(t *testing.T) {
	t.Parallel()
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		d := newFixture(t, db)
		ann := d.user("ann")
		ctx := d.inPerson("ann")
		first, err := d.EnrollSecondFactor(ctx, ann.ID, goodPassword)
		backendtest.Must(t, err)
		d.login("ann") // nothing asks for it yet
		made, err := d.EnrollSecondFactor(ctx, ann.ID, goodPassword)
		backendtest.Must(t, err)
		faulttest.WantField(t, faulttest.Err(d.ConfirmSecondFactor(ctx, ann.ID, d.code(first, 0))), "code")
		faulttest.WantField(t, faulttest.Err(d.ConfirmSecondFactor(ctx, ann.ID, made.RecoveryCodes[0])), "code")
		if u, err := d.GetUser(ctx, ann.ID); err != nil || u.SecondFactor {
			t.Errorf("on before it is confirmed: %+v, %v", u, err)
		}
		d.clock.Advance(time.Millisecond) // events sort by time
		_, revision, err := d.ConfirmSecondFactor(ctx, ann.ID, " "+d.code(made, 0)[:3]+" "+d.code(made, 0)[3:])
		if err != nil || revision == 0 {
			t.Fatal(revision, err)
		}
		if u, err := d.GetUser(ctx, ann.ID); err != nil || !u.SecondFactor {
			t.Errorf("the user does not show it: %+v, %v", u, err)
		}
		if u, _, err := d.UpdateUser(d.system(), ann.ID, UserUpdate{DisplayName: new("Ann")}); err != nil || !u.SecondFactor {
			t.Errorf("the changed user does not show it: %+v, %v", u, err)
		}
		faulttest.Want(t, d.loginWith("ann", d.code(made, 0)), fault.Unauthenticated, "BAD_CREDENTIALS") // used up by the confirmation
		faulttest.Want(t, faulttest.Err(d.EnrollSecondFactor(ctx, ann.ID, goodPassword)), fault.Precondition, "SECOND_FACTOR_ON")
		faulttest.Want(t, faulttest.Err(d.ConfirmSecondFactor(ctx, ann.ID, d.code(made, 0))), fault.Precondition, "SECOND_FACTOR_ON")

		d.clock.Advance(time.Minute)
		d.resetAttempts(ctx, "ann")
		live := d.live(ann.ID)
		faulttest.Want(t, d.loginWith("ann", ""), fault.Unauthenticated, "SECOND_FACTOR_REQUIRED")
		faulttest.Want(t, d.loginWith("ann", " - "), fault.Unauthenticated, "SECOND_FACTOR_REQUIRED")
		faulttest.Want(t, faulttest.Err(d.Login(d.visitor(), "ann", "a wrong guess", d.code(made, 0))), fault.Unauthenticated, "BAD_CREDENTIALS")
		for _, wrong := range []string{"000000", d.code(made, 0) + "0", d.code(made, -time.Minute), d.code(made, time.Minute), "0000-0000-0000-0000", "rubbish"} {
			faulttest.Want(t, d.loginWith("ann", wrong), fault.Unauthenticated, "BAD_CREDENTIALS")
		}
		if n := d.live(ann.ID); n != live {
			t.Errorf("%d sessions more without a code", n-live)
		}
		d.clock.Advance(time.Hour)
		for _, fresh := range []time.Duration{-30 * time.Second, 0, 30 * time.Second} {
			code := d.code(made, fresh)
			if err := d.loginWith("ann", code); err != nil {
				t.Errorf("the code of %s: %v", fresh, err)
			}
			faulttest.Want(t, d.loginWith("ann", code), fault.Unauthenticated, "BAD_CREDENTIALS")
		}
		faulttest.Want(t, d.loginWith("ann", d.code(made, 0)), fault.Unauthenticated, "BAD_CREDENTIALS") // before the newest

		faulttest.WantField(t, faulttest.Err(d.RemoveSecondFactor(ctx, ann.ID, "")), "code")
		faulttest.WantField(t, faulttest.Err(d.RemoveSecondFactor(ctx, ann.ID, "000000")), "code")
		d.clock.Advance(time.Millisecond) // events sort by time
		backendtest.Must(t, faulttest.Err(d.RemoveSecondFactor(ctx, ann.ID, made.RecoveryCodes[3])))
		faulttest.Want(t, faulttest.Err(d.RemoveSecondFactor(ctx, ann.ID, made.RecoveryCodes[3])), fault.Precondition, "SECOND_FACTOR_OFF")
		d.clock.Advance(time.Hour)
		d.login("ann")
		for _, action := range []audit.Action{audit.SecondFactorOn, audit.SecondFactorOff} {
			events := d.recorded(action)
			last := events[len(events)-1]
			if last.Outcome != audit.Success || last.ActorID != ann.ID || last.Resource != "users/"+ann.ID {
				t.Errorf("recorded %+v", last)
			}
			if events[0].Outcome != audit.Failure || events[0].Reason != reasonWrongSecondFactor {
				t.Errorf("recorded %+v, want the wrong code", events[0])
			}
		}
		reasons := map[string]bool{}
		for _, e := range d.recorded(audit.Login) {
			reasons[e.Reason] = true
			if e.Outcome == audit.Failure && e.ActorID != "" {
				t.Errorf("a failed sign-in is laid to its user: %+v", e)
			}
		}
		if !reasons[reasonNoSecondFactor] || !reasons[reasonWrongSecondFactor] {
			t.Errorf("recorded the reasons %v", reasons)
		}
	})
}

// TestRecoveryCodes: each is good once, however it is typed, and for its user
// only.
func TestRecoveryCodes(t *testing.T) {
	t.Parallel()
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		d := newFixture(t, db)
		ann, ben := d.user("ann"), d.user("ben")
		made := d.factor(ann)
		d.factor(ben)
		faulttest.Want(t, d.loginWith("ben", made.RecoveryCodes[0]), fault.Unauthenticated, "BAD_CREDENTIALS")
		typed := strings.NewReplacer("-", " ", "0", "O", "1", "l").Replace(strings.ToUpper(made.RecoveryCodes[0]))
		if err := d.loginWith("ann", typed); err != nil {
			t.Errorf("%q: %v", typed, err)
		}
		for _, again := range []string{typed, made.RecoveryCodes[0]} {
			faulttest.Want(t, d.loginWith("ann", again), fault.Unauthenticated, "BAD_CREDENTIALS")
		}
		backendtest.Must(t, d.loginWith("ann", made.RecoveryCodes[1]))
		backendtest.Must(t, faulttest.Err(d.RemoveSecondFactor(d.system(), ann.ID, "")))
		d.clock.Advance(time.Hour)
		d.factor(ann)
		faulttest.Want(t, d.loginWith("ann", made.RecoveryCodes[2]), fault.Unauthenticated, "BAD_CREDENTIALS") // of the factor before
	})
}

// TestCodeOnce: of many sign-ins at the same time with one code, one succeeds.
func TestCodeOnce(t *testing.T) {
	t.Parallel()
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		d := newFixture(t, db)
		ann := d.user("ann")
		made := d.factor(ann)
		for i := range 2 {
			what, code := "totp", d.code(made, 0)
			if i == 1 {
				what, code = "recovery", made.RecoveryCodes[0]
			}
			live := d.live(ann.ID)
			var passed atomic.Int64
			var all sync.WaitGroup
			for range 8 {
				all.Go(func() {
					switch err := d.loginWith("ann", code); {
					case err == nil:
						passed.Add(1)
					case !fault.Is(err, fault.Unauthenticated):
						t.Error(err)
					}
				})
			}
			all.Wait()
			if passed.Load() != 1 || d.live(ann.ID) != live+1 {
				t.Errorf("%s: %d sign-ins with one code, %d sessions", what, passed.Load(), d.live(ann.ID)-live)
			}
			d.clock.Advance(time.Hour) // the attempts count
		}
	})
}

// TestCodeIsNotBurnt: a sign-in that fails after its code was accepted leaves
// the code good.
func TestCodeIsNotBurnt(t *testing.T) {
	t.Parallel()
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		d := newFixture(t, db)
		ann := d.user("ann")
		made := d.factor(ann)
		failed := errors.New("the disk is full")
		for _, code := range []string{d.code(made, 0), made.RecoveryCodes[0]} {
			_, err := d.log.Write(t.Context(), func(ctx context.Context, tx *changes.Tx) error {
				backendtest.Must(t, faulttest.Err(d.checkSecondFactor(ctx, tx, ann.ID, code)))
				return failed
			})
			if !errors.Is(err, failed) {
				t.Fatal(err)
			}
			backendtest.Must(t, d.loginWith("ann", code)) // it is not lost
		}
	})
}

// TestConfirmDuringLogin: a sign-in whose password was compared before the
// factor was turned on needs it all the same.
func TestConfirmDuringLogin(t *testing.T) {
	t.Parallel()
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		d := newFixture(t, db)
		ann := d.user("ann")
		ctx := d.inPerson("ann")
		made, err := d.EnrollSecondFactor(ctx, ann.ID, goodPassword)
		backendtest.Must(t, err)
		d.afterCompare(func() error { return faulttest.Err(d.ConfirmSecondFactor(ctx, ann.ID, d.code(made, 0))) })
		faulttest.Want(t, d.loginWith("ann", ""), fault.Unauthenticated, "SECOND_FACTOR_REQUIRED")
	})
}

// TestCodesAreLimited: codes cannot be guessed faster than passwords, at any
// call that takes one, and asking for the code is not a way to start afresh.
func TestCodesAreLimited(t *testing.T) {
	t.Parallel()
	d := newFixture(t, backendtest.SQLite(t))
	ann := d.user("ann")
	made := d.factor(ann)
	ctx := caller.With(t.Context(), caller.Caller{Principal: &caller.Principal{UserID: ann.ID, Username: "ann"}, IP: home})
	d.clock.Advance(time.Hour)
	for i := range 10 {
		switch i % 3 {
		case 0:
			faulttest.Want(t, d.loginWith("ann", ""), fault.Unauthenticated, "SECOND_FACTOR_REQUIRED")
		case 1:
			faulttest.Want(t, d.loginWith("ann", "000000"), fault.Unauthenticated, "BAD_CREDENTIALS")
		default:
			faulttest.WantField(t, faulttest.Err(d.RemoveSecondFactor(ctx, ann.ID, "000000")), "code")
		}
	}
	faulttest.Want(t, d.loginWith("ann", d.code(made, 0)), fault.Limited, "TOO_MANY_ATTEMPTS")
	faulttest.Want(t, faulttest.Err(d.RemoveSecondFactor(ctx, ann.ID, d.code(made, 0))), fault.Limited, "TOO_MANY_ATTEMPTS")
	faulttest.Want(t, faulttest.Err(d.ConfirmSecondFactor(ctx, ann.ID, d.code(made, 0))), fault.Limited, "TOO_MANY_ATTEMPTS")
}

// TestCodesFromEverywhere: who knows a password guesses the second factor no
// faster from many addresses, and whose it is gets in when the wait is over.
func TestCodesFromEverywhere(t *testing.T) {
	t.Parallel()
	d := newFixture(t, backendtest.SQLite(t))
	made := d.factor(d.user("ann"))
	d.clock.Advance(time.Hour)
	guesses := 0
	var last error
	for left := 15 * time.Minute; left >= 0; {
		wait := left + 1
		for _, address := range strangers(20) {
			for {
				_, last = d.Login(from(address), "ann", goodPassword, "000000")
				if fault.From(last).Reason != "BAD_CREDENTIALS" {
					break
				}
				guesses++
			}
			faulttest.Want(t, last, fault.Limited, "TOO_MANY_ATTEMPTS")
			wait = min(wait, fault.From(last).RetryAfter)
		}
		left -= wait
		d.clock.Advance(wait)
	}
	if guesses != 10+9 { // after 1, 2, 4, … 256 s
		t.Errorf("%d codes were compared, want 19", guesses)
	}
	d.clock.Advance(15 * time.Minute)
	backendtest.Must(t, d.loginWith("ann", d.code(made, 0))) // the right code
}

// TestCodesOfRemovalsFromEverywhere: who stole a token guesses the code that turns
// the second factor off no faster from many addresses either.
func TestCodesOfRemovalsFromEverywhere(t *testing.T) {
	t.Parallel()
	d := newFixture(t, backendtest.SQLite(t))
	ann := d.user("ann")
	d.factor(ann)
	d.clock.Advance(time.Hour)
	for i, address := range strangers(12) {
		ctx := caller.With(t.Context(), caller.Caller{Principal: &caller.Principal{UserID: ann.ID, Username: "ann"}, IP: netip.MustParseAddr(address)})
		if err := faulttest.Err(d.RemoveSecondFactor(ctx, ann.ID, "000000")); i < 10 {
			faulttest.WantField(t, err, "code")
		} else {
			faulttest.Want(t, err, fault.Limited, "TOO_MANY_ATTEMPTS")
		}
	}
}

// TestWhoMayTouchASecondFactor: a caller who holds all that a user holds may
// reset theirs.
func TestWhoMayTouchASecondFactor(t *testing.T) {
	t.Parallel()
	d := newFixture(t, backendtest.SQLite(t))
	root, ann := d.user("root", roles.Administrator), d.user("ann")
	made := d.factor(ann)
	asRoot := d.inPerson("root")
	secret := d.createKey(asRoot, apikey.New{UserID: root.ID, Name: "key"}).Secret
	rootFactor := d.factor(root)
	grant, err := d.Login(d.visitor(), "ann", goodPassword, d.code(made, 0))
	backendtest.Must(t, err)
	faulttest.Want(t, faulttest.Err(d.RemoveSecondFactor(d.as(Credential{AccessToken: grant.AccessToken}), root.ID, "")), fault.Denied, "GRANT_EXCEEDS_OWN")
	asKey := d.as(Credential{APIKey: secret})
	faulttest.WantField(t, faulttest.Err(d.RemoveSecondFactor(asKey, root.ID, "")), "code") // its owner's key is no way around the code
	backendtest.Must(t, faulttest.Err(d.RemoveSecondFactor(asKey, root.ID, d.code(rootFactor, 0))))

	backendtest.Must(t, faulttest.Err(d.RemoveSecondFactor(asRoot, ann.ID, "")))
	d.login("ann")
	d.factor(ann)
	backendtest.Must(t, d.ResetSecondFactor(t.Context(), " ANN"))
	d.login("ann")
	events := d.recorded(audit.SecondFactorReset)
	if len(events) != 2 || events[0].ActorID != root.ID || events[0].Resource != "users/"+ann.ID || events[1].ActorName != audit.SystemActor {
		t.Errorf("recorded %+v", events)
	}

	robot, _, err := d.CreateUser(d.system(), NewUser{Username: "robot", Kind: caller.Service})
	backendtest.Must(t, err)
	faulttest.Want(t, faulttest.Err(d.EnrollSecondFactor(caller.With(t.Context(), caller.Caller{Principal: &caller.Principal{UserID: robot.ID}}), robot.ID, goodPassword)), fault.Precondition, "SERVICE_ACCOUNT")
	faulttest.Want(t, faulttest.Err(d.RemoveSecondFactor(asRoot, robot.ID, "")), fault.Precondition, "SERVICE_ACCOUNT")
	faulttest.Want(t, faulttest.Err(d.RemoveSecondFactor(asRoot, "nobody", "")), fault.NotFound, "USER_NOT_FOUND")
}

// TestSecondFactorStays: a new password does not turn it off, and the user's
// end takes it away.
func TestSecondFactorStays(t *testing.T) {
	t.Parallel()
	d := newFixture(t, backendtest.SQLite(t))
	ann := d.user("ann")
	made := d.factor(ann)
	backendtest.Must(t, faulttest.Err(d.ResetPassword(t.Context(), "ann", "another password", false)))
	faulttest.Want(t, faulttest.Err(d.Login(d.visitor(), "ann", "another password", "")), fault.Unauthenticated, "SECOND_FACTOR_REQUIRED")
	d.Passwords.Cost = bcrypt.MinCost + 1 // a new hash on the way
	backendtest.Must(t, faulttest.Err(d.Login(d.visitor(), "ann", "another password", d.code(made, 0))))
	backendtest.Must(t, faulttest.Err(d.DeleteUser(d.system(), ann.ID)))
	var left int
	err := d.db.Get(t.Context(), &left, `SELECT (SELECT COUNT(*) FROM second_factors) + (SELECT COUNT(*) FROM recovery_codes)`)
	if err != nil || left != 0 {
		t.Errorf("%d rows are left, %v", left, err)
	}
}
