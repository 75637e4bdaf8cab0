package auth

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/audit"
	"github.com/tollgatehq/tollgate/server/internal/auth/apikey"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/database"
	"github.com/tollgatehq/tollgate/server/internal/fault"
	"github.com/tollgatehq/tollgate/server/internal/fault/faulttest"
	"github.com/tollgatehq/tollgate/server/internal/roles"
)

const nobodysID = "018f4d3c-0000-7000-8000-000000000000"

func TestUsers(t *testing.T) {
	t.Parallel()
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		d, ctx := newFixture(t, db), caller.System(t.Context())
		made, revision, err := d.CreateUser(ctx, NewUser{Username: " Ann ", Password: goodPassword, DisplayName: "Ann Lee", Roles: []string{roles.Auditor}})
		backendtest.Must(t, err)
		if made.Username != "ann" || made.Kind != caller.Person || made.Disabled || !slices.Equal(made.Roles, []string{roles.Auditor}) ||
			!made.CreatedAt.Equal(d.clock.Now()) || revision == 0 {
			t.Errorf("made %+v at revision %d", made, revision)
		}
		for _, name := range []string{"ann", "ANN", "Ａnn"} {
			faulttest.Want(t, faulttest.Err(d.CreateUser(ctx, NewUser{Username: name})), fault.Exists, "USER_EXISTS")
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
		faulttest.Want(t, faulttest.Err(d.UpdateUser(ctx, made.ID, UserUpdate{Username: new("Bob")})), fault.Exists, "USER_EXISTS")
		changed, _, err := d.UpdateUser(ctx, made.ID, UserUpdate{Username: new("Anna"), DisplayName: new("")})
		if err != nil || changed.Username != "anna" || changed.DisplayName != "" || changed.Disabled ||
			!changed.UpdatedAt.Equal(d.clock.Now()) || !changed.CreatedAt.Equal(made.CreatedAt) {
			t.Errorf("changed to %+v, %v", changed, err)
		}
		backendtest.Must(t, faulttest.Err(d.DeleteUser(ctx, bob.ID)))
		faulttest.Want(t, faulttest.Err(d.GetUser(ctx, bob.ID)), fault.NotFound, "USER_NOT_FOUND")
		if v, err := d.Verify(ctx, Credential{UserID: bob.ID}); err != nil || v.Reason != caller.ReasonUserUnknown {
			t.Errorf("a deleted user is verified as %v, %v", v, err)
		}
		d.wantRecorded(audit.UserCreate, 2)
		if deleted := d.recorded(audit.UserDelete); len(deleted) != 1 || deleted[0].Details["username"] != "bob" {
			t.Errorf("deletions recorded: %+v", deleted)
		}
	})
}

func TestUserErrors(t *testing.T) {
	t.Parallel()
	d, ctx := newFixture(t, backendtest.SQLite(t)), caller.System(t.Context())
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
		faulttest.WantField(t, faulttest.Err(d.CreateUser(ctx, n)), field)
	}
	faulttest.WantField(t, faulttest.Err(d.CreateUser(ctx, NewUser{Username: "new", Kind: caller.Service, Password: goodPassword})), "password")
	if _, _, err = d.CreateUser(ctx, NewUser{Username: "new", Roles: []string{"nothing"}}); !fault.Is(err, fault.NotFound) {
		t.Errorf("an unknown role: %v", err)
	}
	if _, err := d.FindUser(ctx, "new"); !fault.Is(err, fault.NotFound) {
		t.Errorf("a user without the role was left: %v", err)
	}
	faulttest.Want(t, faulttest.Err(d.UpdateUser(ctx, ann.ID, UserUpdate{})), fault.Invalid, "NOTHING_TO_UPDATE")
	faulttest.WantField(t, faulttest.Err(d.UpdateUser(ctx, ann.ID, UserUpdate{Username: new("\x00")})), "username")
	faulttest.WantField(t, faulttest.Err(d.UpdateUser(ctx, ann.ID, UserUpdate{DisplayName: new("\x00")})), "displayName")
	faulttest.Want(t, faulttest.Err(d.SetPassword(ctx, PasswordChange{UserID: robot.ID, New: goodPassword})), fault.Precondition, "SERVICE_ACCOUNT")

	for what, call := range map[string]func() error{
		"get":      func() error { return faulttest.Err(d.GetUser(ctx, nobodysID)) },
		"update":   func() error { _, _, err := d.UpdateUser(ctx, nobodysID, UserUpdate{Disabled: new(true)}); return err },
		"delete":   func() error { return faulttest.Err(d.DeleteUser(ctx, nobodysID)) },
		"password": func() error { _, err := d.SetPassword(ctx, PasswordChange{UserID: nobodysID}); return err },
		"sessions": func() error { return faulttest.Err(d.ListSessions(ctx, nobodysID, 0, "")) },
		"revoke":   func() error { return faulttest.Err(d.RevokeSessions(ctx, nobodysID)) },
		"reset":    func() error { return faulttest.Err(d.ResetPassword(ctx, "nobody", "", false)) },
	} {
		t.Run(what, func(t *testing.T) { faulttest.Want(t, call(), fault.NotFound, "USER_NOT_FOUND") })
	}
}

func TestUserPages(t *testing.T) {
	t.Parallel()
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		d, ctx := newFixture(t, db), caller.System(t.Context())
		var want []string
		for _, name := range []string{"e", "d", "c", "b", "a"} {
			want = append(want, d.user(name, roles.Auditor).Username)
			d.clock.Advance(time.Millisecond)
		}
		var got []string
		for _, u := range slices.Concat(backendtest.Pages(t, func(token string) ([]User, string, error) {
			return d.ListUsers(ctx, UserFilter{}, 2, token)
		})...) {
			got = append(got, u.Username)
			if !slices.Equal(u.Roles, []string{roles.Auditor}) {
				t.Errorf("%s is listed with the roles %q", u.Username, u.Roles)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("listed %q, want %q", got, want)
		}
		one, next, err := d.ListUsers(ctx, UserFilter{Username: "C"}, 0, "")
		if err != nil || len(one) != 1 || one[0].Username != "c" || next != "" {
			t.Errorf("of the name C: %v, %q, %v", one, next, err)
		}
		_, next, err = d.ListUsers(ctx, UserFilter{}, 1, "")
		backendtest.Must(t, err)
		faulttest.WantField(t, faulttest.Err(d.ListUsers(ctx, UserFilter{Username: "c"}, 1, next)), "pageToken")
		faulttest.WantField(t, faulttest.Err(d.ListUsers(ctx, UserFilter{Username: "two words"}, 1, "")), "username")
	})
}

// TestManage: a caller who may write users cannot act on those who hold more, not on
// one's own rights by an API key, and everybody may on themselves in person.
func TestManage(t *testing.T) {
	t.Parallel()
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		d, ctx := newFixture(t, db), caller.System(t.Context())
		backendtest.Must(t, faulttest.Err(d.roles.Create(ctx, roles.Role{Name: "helpdesk", Permissions: []string{"tollgate:users:write", "tollgate:keys:write"}})))
		admin, clerk, plain := d.user("root", roles.Administrator), d.user("clerk", "helpdesk"), d.user("plain")
		d.user("root2", roles.Administrator)
		session := d.login("root")
		asClerk := d.inPerson("clerk")
		asKey := d.as(Credential{APIKey: d.createKey(asClerk, apikey.New{Name: "narrow", Scopes: []string{"tollgate:users:write"}}).Secret})

		actions := map[string]func(ctx context.Context, id string) error{
			"rename": func(ctx context.Context, id string) error {
				return faulttest.Err(d.UpdateUser(ctx, id, UserUpdate{Username: new("renamed")}))
			},
			"disable": func(ctx context.Context, id string) error {
				return faulttest.Err(d.UpdateUser(ctx, id, UserUpdate{Disabled: new(true)}))
			},
			"reset": func(ctx context.Context, id string) error {
				return faulttest.Err(d.SetPassword(ctx, PasswordChange{UserID: id, New: "another password"}))
			},
			"revoke one": func(ctx context.Context, id string) error {
				return faulttest.Err(d.RevokeSession(ctx, id, session.SessionID))
			},
			"revoke all": func(ctx context.Context, id string) error { _, _, err := d.RevokeSessions(ctx, id); return err },
			"delete":     func(ctx context.Context, id string) error { _, err := d.DeleteUser(ctx, id); return err },
		}
		for what, act := range actions {
			t.Run(what, func(t *testing.T) {
				faulttest.Want(t, act(asClerk, admin.ID), fault.Denied, "GRANT_EXCEEDS_OWN")
				faulttest.Want(t, act(asKey, clerk.ID), fault.Denied, "GRANT_EXCEEDS_OWN")
			})
		}
		d.wantReason(session.AccessToken, caller.ReasonOK)
		if u, err := d.GetUser(ctx, admin.ID); err != nil || u.Username != "root" || u.Disabled {
			t.Errorf("the administrator is %+v, %v", u, err)
		}
		backendtest.Must(t, faulttest.Err(d.RevokeSessions(asClerk, clerk.ID))) // themselves
		for _, what := range []string{"rename", "reset", "disable", "delete"} {
			if err := actions[what](asClerk, plain.ID); err != nil {
				t.Errorf("%s by the clerk of who holds nothing: %v", what, err)
			}
		}
	})
}

func TestLastAdministratorStays(t *testing.T) {
	t.Parallel()
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		d, ctx := newFixture(t, db), caller.System(t.Context())
		first, second := d.user("first", roles.Administrator), d.user("second", roles.Administrator)
		backendtest.Must(t, faulttest.Err(d.UpdateUser(ctx, first.ID, UserUpdate{Disabled: new(true)})))
		faulttest.Want(t, faulttest.Err(d.UpdateUser(ctx, second.ID, UserUpdate{Disabled: new(true)})), fault.Precondition, "LAST_ADMINISTRATOR")
		faulttest.Want(t, faulttest.Err(d.DeleteUser(ctx, second.ID)), fault.Precondition, "LAST_ADMINISTRATOR")
		backendtest.Must(t, faulttest.Err(d.DeleteUser(ctx, first.ID))) // a disabled administrator can go
		if v, err := d.Verify(ctx, Credential{UserID: second.ID}); err != nil || v.Reason != caller.ReasonOK {
			t.Errorf("the last administrator is verified as %v, %v", v, err)
		}
	})
}

// TestFirstRolesAreInOrder: two who give the same roles in another order take
// the roles' rows in one order, and do not wait for each other.
func TestFirstRolesAreInOrder(t *testing.T) {
	t.Parallel()
	d := newFixture(t, backendtest.SQLite(t))
	given := []string{roles.ServiceRole, roles.Auditor, roles.ServiceRole, roles.Administrator}
	u, _, err := d.CreateUser(d.system(), NewUser{Username: "ann", Password: goodPassword, Roles: given})
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

// TestLookalikesOnlyInNewNames: names are refused where they are given, and
// work where they are from before.
func TestLookalikesOnlyInNewNames(t *testing.T) {
	t.Parallel()
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		d := newFixture(t, db)
		const fake = "аdmin" // with a Cyrillic а
		faulttest.WantField(t, faulttest.Err(d.CreateUser(d.system(), NewUser{Username: fake, Password: goodPassword})), "username")
		old := d.user("old")
		faulttest.WantField(t, faulttest.Err(d.UpdateUser(d.system(), old.ID, UserUpdate{Username: new(fake)})), "username")

		backendtest.Must(t, faulttest.Err(d.db.Exec(t.Context(), `UPDATE users SET username = $1 WHERE id = $2`, fake, old.ID)))
		d.login(fake)
		if u, err := d.FindUser(t.Context(), fake); err != nil || u.ID != old.ID {
			t.Errorf("found %+v, %v", u, err)
		}
		backendtest.Must(t, faulttest.Err(d.UpdateUser(d.system(), old.ID, UserUpdate{Username: new("honest")}))) // can be given another name
	})
}

func TestCheckDisplayName(t *testing.T) {
	t.Parallel()
	for _, good := range []string{"", "Ann Lee", "Zoë 🦊", strings.Repeat("é", 256)} {
		if err := checkDisplayName(good); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	for _, bad := range []string{"a\x00b", "a\nb", "\xff", strings.Repeat("a", 257)} {
		faulttest.WantField(t, checkDisplayName(bad), "displayName")
	}
}
