package auth

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/audit"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/database"
	"github.com/tollgatehq/tollgate/server/internal/fault"
	"github.com/tollgatehq/tollgate/server/internal/roles"
)

const nobodysID = "018f4d3c-0000-7000-8000-000000000000"

func TestUsers(t *testing.T) {
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		d, ctx := newDesk(t, db), caller.System(t.Context())
		made, revision, err := d.CreateUser(ctx, NewUser{Username: " Ann ", Password: password, DisplayName: "Ann Lee", Roles: []string{roles.Auditor}})
		if err != nil {
			t.Fatal(err)
		}
		if made.Username != "ann" || made.Kind != caller.Person || made.Disabled || !slices.Equal(made.Roles, []string{roles.Auditor}) ||
			!made.CreatedAt.Equal(d.clock.Now()) || revision == 0 {
			t.Errorf("made %+v at revision %d", made, revision)
		}
		for _, name := range []string{"ann", "ANN", "Ａnn"} {
			_, _, err := d.CreateUser(ctx, NewUser{Username: name})
			wantRefusal(t, err, fault.Exists, "USER_EXISTS")
		}
		got, err := d.GetUser(ctx, made.ID)
		if err != nil || got.DisplayName != "Ann Lee" || !slices.Equal(got.Roles, made.Roles) {
			t.Errorf("read %+v, %v", got, err)
		}
		if found, err := d.FindUser(ctx, "Ann"); err != nil || found.ID != made.ID {
			t.Errorf("found %+v, %v", found, err)
		}

		d.clock.Advance(time.Minute)
		bob := d.user("bob")
		_, _, err = d.UpdateUser(ctx, made.ID, UserUpdate{Username: new("Bob")})
		wantRefusal(t, err, fault.Exists, "USER_EXISTS")
		changed, _, err := d.UpdateUser(ctx, made.ID, UserUpdate{Username: new("Anna"), DisplayName: new("")})
		if err != nil || changed.Username != "anna" || changed.DisplayName != "" || changed.Disabled ||
			!changed.UpdatedAt.Equal(d.clock.Now()) || !changed.CreatedAt.Equal(made.CreatedAt) {
			t.Errorf("changed to %+v, %v", changed, err)
		}
		if _, err := d.DeleteUser(ctx, bob.ID); err != nil {
			t.Fatal(err)
		}
		_, err = d.GetUser(ctx, bob.ID)
		wantRefusal(t, err, fault.NotFound, "USER_NOT_FOUND")
		if v, err := d.Verify(ctx, Credential{UserID: bob.ID}); err != nil || v.Reason != caller.ReasonUserUnknown {
			t.Errorf("a deleted user is verified as %v, %v", v, err)
		}
		if n := len(d.recorded(audit.UserCreate)); n != 2 {
			t.Errorf("%d creations recorded, want 2", n)
		}
		if deleted := d.recorded(audit.UserDelete); len(deleted) != 1 || deleted[0].Details["username"] != "bob" {
			t.Errorf("deletions recorded: %+v", deleted)
		}
	})
}

func TestUserErrors(t *testing.T) {
	d, ctx := newDeskOnSQLite(t), caller.System(t.Context())
	ann := d.user("ann")
	robot, _, err := d.CreateUser(ctx, NewUser{Username: "robot", Kind: caller.Service})
	if err != nil || robot.Kind != caller.Service {
		t.Fatal(robot, err)
	}
	for field, n := range map[string]NewUser{
		"username":    {Username: "two words"},
		"password":    {Username: "new", Password: "short"},
		"displayName": {Username: "new", DisplayName: "a\x00"},
		"kind":        {Username: "new", Kind: "robot"},
	} {
		_, _, err := d.CreateUser(ctx, n)
		wantField(t, err, field)
	}
	_, _, err = d.CreateUser(ctx, NewUser{Username: "new", Kind: caller.Service, Password: password})
	wantField(t, err, "password")
	if _, _, err = d.CreateUser(ctx, NewUser{Username: "new", Roles: []string{"nothing"}}); !fault.Is(err, fault.NotFound) {
		t.Errorf("an unknown role: %v", err)
	}
	if _, err := d.FindUser(ctx, "new"); !fault.Is(err, fault.NotFound) {
		t.Errorf("a user without the role was left: %v", err)
	}
	_, _, err = d.UpdateUser(ctx, ann.ID, UserUpdate{})
	wantRefusal(t, err, fault.Invalid, "NOTHING_TO_UPDATE")
	_, _, err = d.UpdateUser(ctx, ann.ID, UserUpdate{Username: new("\x00")})
	wantField(t, err, "username")
	_, _, err = d.UpdateUser(ctx, ann.ID, UserUpdate{DisplayName: new("\x00")})
	wantField(t, err, "displayName")
	_, err = d.SetPassword(ctx, PasswordChange{UserID: robot.ID, New: password})
	wantRefusal(t, err, fault.Precondition, "SERVICE_ACCOUNT")

	for what, call := range map[string]func() error{
		"get":      func() error { _, err := d.GetUser(ctx, nobodysID); return err },
		"update":   func() error { _, _, err := d.UpdateUser(ctx, nobodysID, UserUpdate{Disabled: new(true)}); return err },
		"delete":   func() error { _, err := d.DeleteUser(ctx, nobodysID); return err },
		"password": func() error { _, err := d.SetPassword(ctx, PasswordChange{UserID: nobodysID}); return err },
		"sessions": func() error { _, _, err := d.ListSessions(ctx, nobodysID, 0, ""); return err },
		"revoke":   func() error { _, _, err := d.RevokeSessions(ctx, nobodysID); return err },
		"reset":    func() error { _, err := d.ResetPassword(ctx, "nobody", "", false); return err },
	} {
		t.Run(what, func(t *testing.T) { wantRefusal(t, call(), fault.NotFound, "USER_NOT_FOUND") })
	}
}

func TestUserPages(t *testing.T) {
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		d, ctx := newDesk(t, db), caller.System(t.Context())
		var want []string
		for _, name := range []string{"e", "d", "c", "b", "a"} {
			want = append(want, d.user(name, roles.Auditor).Username)
			d.clock.Advance(time.Millisecond)
		}
		var got []string
		token := ""
		for pages := 0; ; pages++ {
			users, next, err := d.ListUsers(ctx, "", 2, token)
			if err != nil || pages > 3 {
				t.Fatal(pages, err)
			}
			for _, u := range users {
				got = append(got, u.Username)
				if !slices.Equal(u.Roles, []string{roles.Auditor}) {
					t.Errorf("%s is listed with the roles %q", u.Username, u.Roles)
				}
			}
			if token = next; token == "" {
				break
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("listed %q, want %q", got, want)
		}
		one, next, err := d.ListUsers(ctx, "C", 0, "")
		if err != nil || len(one) != 1 || one[0].Username != "c" || next != "" {
			t.Errorf("of the name C: %v, %q, %v", one, next, err)
		}
		_, next, err = d.ListUsers(ctx, "", 1, "")
		if err != nil {
			t.Fatal(err)
		}
		_, _, err = d.ListUsers(ctx, "c", 1, next)
		wantField(t, err, "pageToken")
		_, _, err = d.ListUsers(ctx, "two words", 1, "")
		wantField(t, err, "username")
	})
}

// TestManage: whoever may write users cannot act on those who hold more, not on
// one's own rights by an API key, and everybody may on themselves in person.
func TestManage(t *testing.T) {
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		d, ctx := newDesk(t, db), caller.System(t.Context())
		if _, _, err := d.roles.Create(ctx, "desk", "", []string{"tollgate:users:write", "tollgate:keys:write"}); err != nil {
			t.Fatal(err)
		}
		admin, clerk, plain := d.user("root", roles.Administrator), d.user("clerk", "desk"), d.user("plain")
		d.user("root2", roles.Administrator)
		session := d.login("root")
		asClerk := d.as(Credential{AccessToken: d.login("clerk").AccessToken})
		_, key, _, err := d.CreateAPIKey(asClerk, NewAPIKey{Name: "narrow", Scopes: []string{"tollgate:users:write"}})
		if err != nil {
			t.Fatal(err)
		}
		asKey := d.as(Credential{APIKey: key})

		actions := map[string]func(ctx context.Context, id string) error{
			"rename": func(ctx context.Context, id string) error {
				_, _, err := d.UpdateUser(ctx, id, UserUpdate{Username: new("renamed")})
				return err
			},
			"disable": func(ctx context.Context, id string) error {
				_, _, err := d.UpdateUser(ctx, id, UserUpdate{Disabled: new(true)})
				return err
			},
			"reset": func(ctx context.Context, id string) error {
				_, err := d.SetPassword(ctx, PasswordChange{UserID: id, New: "another password"})
				return err
			},
			"revoke one": func(ctx context.Context, id string) error {
				_, err := d.RevokeSession(ctx, id, session.SessionID)
				return err
			},
			"revoke all": func(ctx context.Context, id string) error { _, _, err := d.RevokeSessions(ctx, id); return err },
			"delete":     func(ctx context.Context, id string) error { _, err := d.DeleteUser(ctx, id); return err },
		}
		for what, act := range actions {
			t.Run(what, func(t *testing.T) {
				wantRefusal(t, act(asClerk, admin.ID), fault.Denied, "GRANT_EXCEEDS_OWN")
				wantRefusal(t, act(asKey, clerk.ID), fault.Denied, "GRANT_EXCEEDS_OWN")
			})
		}
		d.wantReason(session.AccessToken, caller.ReasonOK)
		if u, err := d.GetUser(ctx, admin.ID); err != nil || u.Username != "root" || u.Disabled {
			t.Errorf("the administrator is %+v, %v", u, err)
		}
		if _, _, err := d.RevokeSessions(asClerk, clerk.ID); err != nil {
			t.Errorf("clerk on clerk: %v", err)
		}
		for _, what := range []string{"rename", "reset", "disable", "delete"} {
			if err := actions[what](asClerk, plain.ID); err != nil {
				t.Errorf("%s by the clerk of who holds nothing: %v", what, err)
			}
		}
	})
}

func TestLastAdministratorStays(t *testing.T) {
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		d, ctx := newDesk(t, db), caller.System(t.Context())
		first, second := d.user("first", roles.Administrator), d.user("second", roles.Administrator)
		if _, _, err := d.UpdateUser(ctx, first.ID, UserUpdate{Disabled: new(true)}); err != nil {
			t.Fatal(err)
		}
		_, _, err := d.UpdateUser(ctx, second.ID, UserUpdate{Disabled: new(true)})
		wantRefusal(t, err, fault.Precondition, "LAST_ADMINISTRATOR")
		_, err = d.DeleteUser(ctx, second.ID)
		wantRefusal(t, err, fault.Precondition, "LAST_ADMINISTRATOR")
		if _, err := d.DeleteUser(ctx, first.ID); err != nil {
			t.Errorf("a disabled administrator can go: %v", err)
		}
		if v, err := d.Verify(ctx, Credential{UserID: second.ID}); err != nil || v.Reason != caller.ReasonOK {
			t.Errorf("the last administrator is verified as %v, %v", v, err)
		}
	})
}

func TestSetPassword(t *testing.T) {
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		d := newDesk(t, db)
		const next = "a brand new password"
		ann, boss := d.user("ann"), d.user("boss", roles.Administrator)
		first, second := d.login("ann"), d.login("ann")
		self := d.as(Credential{AccessToken: first.AccessToken})
		for field, change := range map[string]PasswordChange{
			"currentPassword": {UserID: ann.ID, New: next},
			"newPassword":     {UserID: ann.ID, Current: password},
		} {
			_, err := d.SetPassword(self, change)
			wantField(t, err, field)
		}
		_, err := d.SetPassword(self, PasswordChange{UserID: ann.ID, Current: password, New: password})
		wantField(t, err, "newPassword")
		_, err = d.SetPassword(self, PasswordChange{UserID: ann.ID, Current: "not the password", New: next})
		wantField(t, err, "currentPassword")
		d.wantReason(first.AccessToken, caller.ReasonOK)
		if failed := d.recorded(audit.PasswordChange); len(failed) != 1 || failed[0].Outcome != audit.Failure {
			t.Errorf("recorded %+v", failed)
		}

		done, err := d.SetPassword(self, PasswordChange{UserID: ann.ID, Current: password, New: next})
		if err != nil || done.OneTime != "" {
			t.Fatal(done, err)
		}
		d.wantReason(first.AccessToken, caller.ReasonCredentialRevoked)
		d.wantReason(second.AccessToken, caller.ReasonCredentialRevoked)
		_, err = d.Refresh(d.visitor(), second.RefreshToken)
		wantRefusal(t, err, fault.Unauthenticated, "BAD_REFRESH_TOKEN")
		_, err = d.Login(d.visitor(), "ann", password, "")
		wantRefusal(t, err, fault.Unauthenticated, "BAD_CREDENTIALS")
		third, err := d.Login(d.visitor(), "ann", next, "")
		if err != nil || third.PasswordChangeRequired {
			t.Fatal(third, err)
		}

		// A reset: the user must choose another at the next sign-in.
		done, err = d.SetPassword(d.as(Credential{AccessToken: d.login("boss").AccessToken}), PasswordChange{UserID: ann.ID})
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
		if _, err := d.SetPassword(self, PasswordChange{UserID: ann.ID, Current: done.OneTime, New: password}); err != nil {
			t.Fatal(err)
		}
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
		if n := len(d.recorded(audit.PasswordReset)); n != 3 {
			t.Errorf("%d resets recorded, want 3", n)
		}
	})
}

// TestSetPasswordGuesses: a stolen access token does not help to guess the
// password faster than at the sign-in.
func TestSetPasswordGuesses(t *testing.T) {
	d := newDeskOnSQLite(t)
	ann := d.user("ann")
	self := d.as(Credential{AccessToken: d.login("ann").AccessToken})
	d.compares.Store(0)
	var last error
	for range 30 {
		_, last = d.SetPassword(self, PasswordChange{UserID: ann.ID, Current: "a wrong guess", New: "another password"})
	}
	wantRefusal(t, last, fault.Limited, "TOO_MANY_ATTEMPTS")
	_, err := d.Login(d.visitor(), "ann", password, "")
	wantRefusal(t, err, fault.Limited, "TOO_MANY_ATTEMPTS")
	if n := d.compares.Load(); n > 10 {
		t.Errorf("%d guesses were looked at, want at most 10", n)
	}
}

// TestFirstRolesAreInOrder: two who give the same roles in another order take
// the roles' rows in one order, and do not wait for each other.
func TestFirstRolesAreInOrder(t *testing.T) {
	d := newDeskOnSQLite(t)
	given := []string{roles.ServiceRole, roles.Auditor, roles.ServiceRole, roles.Administrator}
	u, _, err := d.CreateUser(d.system(), NewUser{Username: "ann", Password: password, Roles: given})
	if err != nil || len(u.Roles) != 3 {
		t.Fatal(u, err)
	}
	if given[0] != roles.ServiceRole {
		t.Error("the caller's list was changed")
	}
	var order []string
	err = d.db.Select(t.Context(), &order, `SELECT resource FROM audit_events WHERE action = $1 ORDER BY position`, string(audit.RoleAssign))
	if err != nil || len(order) != 3 || !slices.IsSorted(order) {
		t.Errorf("assigned %v, %v", order, err)
	}
}

// TestCommonPasswords: neither a first password nor a new one may be common, or
// the name.
func TestCommonPasswords(t *testing.T) {
	d := newDeskOnSQLite(t)
	_, _, err := d.CreateUser(d.system(), NewUser{Username: "ann", Password: "Password1"})
	wantField(t, err, "password")
	_, _, err = d.CreateUser(d.system(), NewUser{Username: "ann-lee-rose", Password: "Ann-Lee-Rose"})
	wantField(t, err, "password")
	d.user("ann-lee-rose")
	for _, bad := range []string{"iloveyou1", "ann-LEE-rose"} {
		_, err := d.ResetPassword(t.Context(), "ann-lee-rose", bad, false)
		wantField(t, err, "newPassword")
		ctx := d.as(Credential{AccessToken: d.login("ann-lee-rose").AccessToken})
		_, err = d.SetPassword(ctx, PasswordChange{UserID: caller.From(ctx).Principal.UserID, Current: password, New: bad})
		wantField(t, err, "newPassword")
	}
}
