package auth

import (
	"testing"

	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/database"
	"github.com/tollgatehq/tollgate/server/internal/fault"
)

// TestNULInPasswords: to bcrypt P and P, NUL, P are one password. They are not
// to us: the list of common passwords and "another than the current one" would
// hold for nobody.
func TestNULInPasswords(t *testing.T) {
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		d := newDesk(t, db)
		doubled := func(p string) string { return p + "\x00" + p }
		_, _, err := d.CreateUser(d.system(), NewUser{Username: "eve", Password: doubled("password")})
		wantField(t, err, "password")

		ann := d.user("ann")
		before := d.compares.Load()
		_, err = d.Login(d.visitor(), "ann", doubled(password), "")
		wantRefusal(t, err, fault.Unauthenticated, "BAD_CREDENTIALS")
		if n := d.compares.Load() - before; n != 1 {
			t.Errorf("%d comparisons, want the one of a wrong password", n)
		}

		self := d.as(Credential{AccessToken: d.login("ann").AccessToken})
		_, err = d.SetPassword(self, PasswordChange{UserID: ann.ID, Current: password, New: doubled(password)})
		wantField(t, err, "newPassword")
		_, err = d.SetPassword(self, PasswordChange{UserID: ann.ID, Current: doubled(password), New: "another password"})
		wantField(t, err, "currentPassword")
		_, err = d.SetPassword(d.system(), PasswordChange{UserID: ann.ID, New: "another password\x00"})
		wantField(t, err, "newPassword")
		d.login("ann")
	})
}
