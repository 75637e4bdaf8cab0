package auth

import (
	"testing"

	"github.com/tollgatehq/tollgate/server/internal/audit"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/database"
	"github.com/tollgatehq/tollgate/server/internal/fault"
	"github.com/tollgatehq/tollgate/server/internal/fault/faulttest"
	"github.com/tollgatehq/tollgate/server/internal/roles"
)

func TestSetPassword(t *testing.T) {
	t.Parallel()
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		d := newFixture(t, db)
		const next = "a brand new password"
		ann, boss := d.user("ann"), d.user("boss", roles.Administrator)
		first, second := d.login("ann"), d.login("ann")
		self := d.as(Credential{AccessToken: first.AccessToken})
		for field, change := range map[string]PasswordChange{
			"currentPassword": {UserID: ann.ID, New: next},
			"newPassword":     {UserID: ann.ID, Current: goodPassword},
		} {
			faulttest.WantField(t, faulttest.Err(d.SetPassword(self, change)), field)
		}
		faulttest.WantField(t, faulttest.Err(d.SetPassword(self, PasswordChange{UserID: ann.ID, Current: goodPassword, New: goodPassword})), "newPassword")
		faulttest.WantField(t, faulttest.Err(d.SetPassword(self, PasswordChange{UserID: ann.ID, Current: "not the password", New: next})), "currentPassword")
		d.wantReason(first.AccessToken, caller.ReasonOK)
		if failed := d.recorded(audit.PasswordChange); len(failed) != 1 || failed[0].Outcome != audit.Failure {
			t.Errorf("recorded %+v", failed)
		}

		done, err := d.SetPassword(self, PasswordChange{UserID: ann.ID, Current: goodPassword, New: next})
		if err != nil || done.OneTime != "" {
			t.Fatal(done, err)
		}
		d.wantReason(first.AccessToken, caller.ReasonCredentialRevoked)
		d.wantReason(second.AccessToken, caller.ReasonCredentialRevoked)
		faulttest.Want(t, faulttest.Err(d.Refresh(d.visitor(), second.RefreshToken)), fault.Unauthenticated, "BAD_REFRESH_TOKEN")
		faulttest.Want(t, faulttest.Err(d.Login(d.visitor(), "ann", goodPassword, "")), fault.Unauthenticated, "BAD_CREDENTIALS")
		third, err := d.Login(d.visitor(), "ann", next, "")
		if err != nil || third.PasswordChangeRequired {
			t.Fatal(third, err)
		}

		// A reset: the user must choose another at the next sign-in.
		done, err = d.SetPassword(d.inPerson("boss"), PasswordChange{UserID: ann.ID})
		if err != nil || len(done.OneTime) != 20 {
			t.Fatal(done, err)
		}
		d.wantReason(third.AccessToken, caller.ReasonCredentialRevoked)
		fourth, err := d.Login(d.visitor(), "ann", done.OneTime, "")
		if err != nil || !fourth.PasswordChangeRequired {
			t.Fatal(fourth, err)
		}
		v, err := d.Verify(t.Context(), Credential{AccessToken: fourth.AccessToken})
		if err != nil || v.Reason != caller.ReasonPasswordChangeRequired || v.Principal == nil || !v.Principal.PasswordChangeRequired {
			t.Errorf("verified as %+v, %v", v, err)
		}
		renewed, err := d.Refresh(d.visitor(), fourth.RefreshToken)
		if err != nil || !renewed.PasswordChangeRequired {
			t.Errorf("a refresh lifts the requirement: %+v, %v", renewed, err)
		}
		self = d.as(Credential{AccessToken: renewed.AccessToken})
		backendtest.Must(t, faulttest.Err(d.SetPassword(self, PasswordChange{UserID: ann.ID, Current: done.OneTime, New: goodPassword})))
		if g := d.login("ann"); g.PasswordChangeRequired {
			t.Error("a change is still required after the change")
		}

		// The command line sets what it is given, for good.
		if done, err := d.ResetPassword(t.Context(), "ANN", next, false); err != nil || done.OneTime != "" {
			t.Fatal(done, err)
		}
		if g, err := d.Login(d.visitor(), "ann", next, ""); err != nil || g.PasswordChangeRequired {
			t.Errorf("after a reset by the command line: %+v, %v", g, err)
		}
		if done, err := d.ResetPassword(t.Context(), "boss", "", false); err != nil || done.OneTime == "" {
			t.Error(done, err)
		} else if g, err := d.Login(d.visitor(), "boss", done.OneTime, ""); err != nil || !g.PasswordChangeRequired || g.UserID != boss.ID {
			t.Errorf("with the one-time password: %+v, %v", g, err)
		}
		d.wantRecorded(audit.PasswordReset, 3)
	})
}

// TestSetPasswordGuesses: a stolen access token does not help to guess the
// password faster than at the sign-in.
func TestSetPasswordGuesses(t *testing.T) {
	t.Parallel()
	d := newFixture(t, backendtest.SQLite(t))
	ann := d.user("ann")
	self := d.inPerson("ann")
	d.compares.Store(0)
	var last error
	for range 30 {
		_, last = d.SetPassword(self, PasswordChange{UserID: ann.ID, Current: "a wrong guess", New: "another password"})
	}
	faulttest.Want(t, last, fault.Limited, "TOO_MANY_ATTEMPTS")
	faulttest.Want(t, faulttest.Err(d.Login(d.visitor(), "ann", goodPassword, "")), fault.Limited, "TOO_MANY_ATTEMPTS")
	if n := d.compares.Load(); n > 10 {
		t.Errorf("%d guesses were compared, want at most 10", n)
	}
}

// TestCommonPasswords: neither a first password nor a new one may be common, or
// the name.
func TestCommonPasswords(t *testing.T) {
	t.Parallel()
	d := newFixture(t, backendtest.SQLite(t))
	faulttest.WantField(t, faulttest.Err(d.CreateUser(d.system(), NewUser{Username: "ann", Password: "Password1"})), "password")
	faulttest.WantField(t, faulttest.Err(d.CreateUser(d.system(), NewUser{Username: "ann-lee-rose", Password: "Ann-Lee-Rose"})), "password")
	d.user("ann-lee-rose")
	for _, bad := range []string{"iloveyou1", "ann-LEE-rose"} {
		faulttest.WantField(t, faulttest.Err(d.ResetPassword(t.Context(), "ann-lee-rose", bad, false)), "newPassword")
		ctx := d.inPerson("ann-lee-rose")
		faulttest.WantField(t, faulttest.Err(d.SetPassword(ctx, PasswordChange{UserID: caller.From(ctx).Principal.UserID, Current: goodPassword, New: bad})), "newPassword")
	}
}

// TestNULInPasswords: to bcrypt P and P, NUL, P are one password. They are not
// to us: the list of common passwords and "another than the current one" would
// not hold.
func TestNULInPasswords(t *testing.T) {
	t.Parallel()
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		d := newFixture(t, db)
		doubled := func(p string) string { return p + "\x00" + p }
		faulttest.WantField(t, faulttest.Err(d.CreateUser(d.system(), NewUser{Username: "eve", Password: doubled("password")})), "password")

		ann := d.user("ann")
		before := d.compares.Load()
		faulttest.Want(t, faulttest.Err(d.Login(d.visitor(), "ann", doubled(goodPassword), "")), fault.Unauthenticated, "BAD_CREDENTIALS")
		if n := d.compares.Load() - before; n != 1 {
			t.Errorf("%d comparisons, want the one of a wrong password", n)
		}

		self := d.inPerson("ann")
		faulttest.WantField(t, faulttest.Err(d.SetPassword(self, PasswordChange{UserID: ann.ID, Current: goodPassword, New: doubled(goodPassword)})), "newPassword")
		faulttest.WantField(t, faulttest.Err(d.SetPassword(self, PasswordChange{UserID: ann.ID, Current: doubled(goodPassword), New: "another password"})), "currentPassword")
		faulttest.WantField(t, faulttest.Err(d.SetPassword(d.system(), PasswordChange{UserID: ann.ID, New: "another password\x00"})), "newPassword")
		d.login("ann")
	})
}
