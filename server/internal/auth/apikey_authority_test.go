package auth

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/audit"
	"github.com/tollgatehq/tollgate/server/internal/auth/apikey"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/database"
	"github.com/tollgatehq/tollgate/server/internal/fault"
	"github.com/tollgatehq/tollgate/server/internal/fault/faulttest"
	"github.com/tollgatehq/tollgate/server/internal/roles"
)

// holder makes a person who holds a role with just these permissions.
func (d *fixture) holder(name string, permissions ...string) User {
	d.t.Helper()
	backendtest.Must(d.t, faulttest.Err(d.roles.Create(d.system(), roles.Role{Name: "role-of-" + name, Permissions: permissions})))
	return d.user(name, "role-of-"+name)
}

// create makes a key and returns the context of a call with it.
func (d *fixture) create(ctx context.Context, in apikey.New) (apikey.Key, context.Context) {
	d.t.Helper()
	in.Name = "a key"
	made := d.createKey(ctx, in)
	return made.Key, d.as(Credential{APIKey: made.Secret})
}

// TestKeysForOthers: a key acts as its owner, wherever services go by who
// calls, so no caller makes one of a person as whom they could not sign in.
func TestKeysForOthers(t *testing.T) {
	t.Parallel()
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		d := newFixture(t, db)
		admin := d.user("root", roles.Administrator)
		d.holder("mallory", "tollgate:keys:write", "orders:read")
		d.holder("helper", "tollgate:keys:write", "tollgate:users:write", "orders:read")
		carl := d.holder("carl", "orders:read")
		dora := d.holder("dora", "orders:*")
		machine, _ := d.client("machine", []string{"orders:*"}, nil, time.Time{})
		mallory, helper, root := d.inPerson("mallory"), d.inPerson("helper"), d.inPerson("root")
		read := []string{"orders:read"}
		for what, c := range map[string]struct {
			ctx     context.Context
			in      apikey.New
			allowed bool
		}{
			"keys:write as the administrator":     {mallory, apikey.New{UserID: admin.ID, Scopes: []string{"tollgate:keys:write"}}, false},
			"keys:write as one who holds no more": {mallory, apikey.New{UserID: carl.ID, Scopes: read}, false},
			"keys:write as a service account":     {mallory, apikey.New{UserID: machine.UserID, Scopes: read}, true},
			"the same, beyond one's own":          {mallory, apikey.New{UserID: machine.UserID, Scopes: []string{"orders:write"}}, false},
			"the same, growing":                   {mallory, apikey.New{UserID: machine.UserID}, false},
			"users:write as one who holds more":   {helper, apikey.New{UserID: dora.ID, Scopes: read}, false},
			"users:write as one who holds less":   {helper, apikey.New{UserID: carl.ID, Scopes: read}, true},
			"users:write, growing":                {helper, apikey.New{UserID: carl.ID}, false},
			"the administrator, growing":          {root, apikey.New{UserID: carl.ID}, true},
		} {
			c.in.Name = "a key"
			_, err := d.APIKeys.Create(c.ctx, c.in)
			if c.allowed && err != nil {
				t.Errorf("%s: %v", what, err)
			}
			if !c.allowed {
				faulttest.Want(t, err, fault.Denied, "GRANT_EXCEEDS_OWN")
			}
		}
		for _, user := range []User{admin, dora} {
			if keys, _, err := d.APIKeys.List(t.Context(), user.ID, 10, ""); err != nil || len(keys) != 0 {
				t.Errorf("%s has the keys %+v, %v", user.Username, keys, err)
			}
		}
	})
}

// TestKeyIsNotItsOwner: what people do to their own keys in person, a key does
// only to those that may do no more than it.
func TestKeyIsNotItsOwner(t *testing.T) {
	t.Parallel()
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		d := newFixture(t, db)
		user := d.holder("owner", "tollgate:keys:write", "tollgate:users:write", "orders:*")
		self := d.inPerson("owner")
		_, narrow := d.create(self, apikey.New{Scopes: []string{"tollgate:keys:write", "tollgate:users:write", "orders:read"}})
		_, wide := d.create(self, apikey.New{})
		all, _ := d.create(self, apikey.New{})
		more, _ := d.create(self, apikey.New{Scopes: []string{"orders:*"}})
		less, _ := d.create(self, apikey.New{Scopes: []string{"orders:read"}})
		g, err := d.ClientToken(wide, "tollgate:keys:write orders:read")
		backendtest.Must(t, err)
		token := d.as(Credential{AccessToken: g.AccessToken})
		for _, ctx := range []context.Context{narrow, token} {
			for _, key := range []apikey.Key{all, more} {
				faulttest.Want(t, faulttest.Err(d.APIKeys.Revoke(ctx, key.ID)), fault.Denied, "GRANT_EXCEEDS_OWN")
				faulttest.Want(t, faulttest.Err(d.APIKeys.Rotate(ctx, key.ID, time.Hour)), fault.Denied, "GRANT_EXCEEDS_OWN")
			}
		}
		if r, err := d.APIKeys.Rotate(token, less.ID, 0); err != nil {
			t.Errorf("rotate one that may do less: %v", err)
		} else if _, err := d.APIKeys.Revoke(narrow, r.Key.ID); err != nil {
			t.Errorf("revoke one that may do less: %v", err)
		}
		backendtest.Must(t, faulttest.Err(d.APIKeys.Revoke(wide, more.ID))) // revoke one that may do less, by a key that may do all
		backendtest.Must(t, faulttest.Err(d.APIKeys.Revoke(self, all.ID)))  // one's own in person

		// Nor does a key set its owner's password or take the second factor away
		// without what the owner knows.
		for _, change := range []PasswordChange{{}, {New: "another password"}} {
			change.UserID = user.ID
			faulttest.Want(t, faulttest.Err(d.SetPassword(narrow, change)), fault.Denied, "GRANT_EXCEEDS_OWN")
			faulttest.WantField(t, faulttest.Err(d.SetPassword(wide, change)), "currentPassword")
		}
		faulttest.WantField(t, faulttest.Err(d.RemoveSecondFactor(wide, user.ID, "")), "code")
		faulttest.Want(t, faulttest.Err(d.RemoveSecondFactor(narrow, user.ID, "123456")), fault.Denied, "GRANT_EXCEEDS_OWN")
		backendtest.Must(t, faulttest.Err(d.SetPassword(wide, PasswordChange{UserID: user.ID, Current: goodPassword, New: "another password"}))) // with the current password
	})
}

// TestWhoCreatedAKey is on record with the key and in the event.
func TestWhoCreatedAKey(t *testing.T) {
	t.Parallel()
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		d := newFixture(t, db)
		root := d.user("root", roles.Administrator)
		first, byKey := d.create(d.inPerson("root"), apikey.New{})
		second, _ := d.create(byKey, apikey.New{})
		third, _ := d.create(d.system(), apikey.New{UserID: root.ID})
		fourth, err := d.APIKeys.Rotate(byKey, third.ID, time.Hour)
		backendtest.Must(t, err)
		want := map[string][2]string{
			first.ID: {root.ID, ""}, second.ID: {root.ID, first.ID}, third.ID: {"", ""}, fourth.Key.ID: {root.ID, first.ID},
		}
		keys, _, err := d.APIKeys.List(t.Context(), root.ID, 10, "")
		if err != nil || len(keys) != len(want) {
			t.Fatal(keys, err)
		}
		for _, key := range append(keys, first, second, third, fourth.Key) {
			if got := [2]string{key.CreatedBy, key.CreatedByKey}; got != want[key.ID] {
				t.Errorf("key %s was created by %q, want %q", key.ID, got, want[key.ID])
			}
			if p := apiKeyProto(key); p.CreatedBy != key.CreatedBy || p.CreatedByApiKeyId != key.CreatedByKey {
				t.Errorf("shown as %v", p)
			}
		}
		for _, event := range append(d.recorded(audit.APIKeyCreate), d.recorded(audit.APIKeyRotate)...) {
			id := strings.TrimPrefix(event.Resource, "api_keys/")
			if event.Action == audit.APIKeyRotate {
				id = event.Details["new_key"]
			}
			if got := [2]string{event.ActorID, event.APIKeyID}; got != want[id] {
				t.Errorf("recorded by %q, want %q", got, want[id])
			}
		}
	})
}

// TestKeysEndWithTheirMaker: a key ends no later than the key that makes it,
// nor than the maker's hold of what it may do.
func TestKeysEndWithTheirMaker(t *testing.T) {
	t.Parallel()
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		d := newFixture(t, db)
		user := d.holder("owner", "tollgate:keys:write", "orders:read")
		self := d.inPerson("owner")
		end := d.clock.Now().Add(time.Hour)
		backendtest.Must(t, faulttest.Err(d.roles.Create(d.system(), roles.Role{Name: "short", Permissions: []string{"stock:read", "tollgate:users:write"}})))
		backendtest.Must(t, faulttest.Err(d.roles.Assign(d.system(), "short", user.ID, end)))
		robot, _ := d.client("robot", []string{"stock:read"}, nil, time.Time{})
		plain := d.user("plain")
		forGood, _ := d.create(self, apikey.New{})
		_, ending := d.create(self, apikey.New{ExpiresAt: end})
		_, narrow := d.create(self, apikey.New{ExpiresAt: end, Scopes: []string{"tollgate:keys:write", "orders:read"}})
		g, err := d.ClientToken(ending, "")
		backendtest.Must(t, err)
		token := d.as(Credential{AccessToken: g.AccessToken})
		stock, orders := []string{"stock:read"}, []string{"orders:read"}
		for what, c := range map[string]struct {
			ctx context.Context
			in  apikey.New
		}{
			"an ending key, its like":             {ending, apikey.New{}},
			"an ending key, narrowed":             {ending, apikey.New{Scopes: orders}},
			"a narrow ending key":                 {narrow, apikey.New{Scopes: orders}},
			"a client's token":                    {token, apikey.New{Scopes: orders}},
			"an ending role":                      {self, apikey.New{Scopes: stock}},
			"an ending role, for another":         {self, apikey.New{Scopes: stock, UserID: robot.UserID}},
			"held for good, as long as one may":   {self, apikey.New{Scopes: orders, UserID: plain.ID}},
			"the same, by what manages the owner": {ending, apikey.New{Scopes: orders, UserID: plain.ID}},
		} {
			for _, late := range []time.Time{{}, end.Add(time.Second)} {
				c.in.Name, c.in.ExpiresAt = "a key", late
				faulttest.Want(t, faulttest.Err(d.APIKeys.Create(c.ctx, c.in)), fault.Denied, "GRANT_EXCEEDS_OWN")
			}
			c.in.ExpiresAt = end
			if _, err := d.APIKeys.Create(c.ctx, c.in); err != nil {
				t.Errorf("%s, ending in time: %v", what, err)
			}
		}
		// A rotation does not prolong, and gives no other caller what lasts longer.
		faulttest.Want(t, faulttest.Err(d.APIKeys.Rotate(ending, forGood.ID, 0)), fault.Denied, "GRANT_EXCEEDS_OWN")
		if r, err := d.APIKeys.Rotate(self, forGood.ID, 0); err != nil || !r.Key.ExpiresAt.IsZero() {
			t.Errorf("one's own in person: %+v, %v", r, err)
		}
	})
}

// TestATemporaryAdministratorBecomesNobody: what opens a way to sign in as
// somebody is given for good, so it takes rights that are held for as long as
// theirs.
func TestATemporaryAdministratorBecomesNobody(t *testing.T) {
	t.Parallel()
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		d := newFixture(t, db)
		root, eve := d.user("root", roles.Administrator), d.user("eve")
		plain, brief := d.user("plain"), d.user("brief")
		end := d.clock.Now().Add(time.Hour)
		for user, end := range map[string]time.Time{eve.ID: end, brief.ID: end.Add(-time.Minute)} {
			backendtest.Must(t, faulttest.Err(d.roles.Assign(d.system(), roles.Administrator, user, end)))
		}
		ctx := d.inPerson("eve")
		faulttest.Want(t, faulttest.Err(d.SetPassword(ctx, PasswordChange{UserID: root.ID})), fault.Denied, "GRANT_EXCEEDS_OWN")
		faulttest.Want(t, faulttest.Err(d.RemoveSecondFactor(ctx, root.ID, "")), fault.Denied, "GRANT_EXCEEDS_OWN")
		faulttest.Want(t, faulttest.Err(d.APIKeys.Create(ctx, apikey.New{UserID: root.ID, Name: "a key"})), fault.Denied, "GRANT_EXCEEDS_OWN")
		for _, user := range []User{plain, brief} {
			if _, err := d.SetPassword(ctx, PasswordChange{UserID: user.ID}); err != nil {
				t.Errorf("reset of %s, who holds nothing that lasts longer: %v", user.Username, err)
			}
		}
		backendtest.Must(t, faulttest.Err(d.RevokeSessions(ctx, root.ID))) // what only takes away
	})
}

// TestPromotedDuringAReset: who is given more while a weaker caller's new
// password is being hashed keeps the old one.
func TestPromotedDuringAReset(t *testing.T) {
	t.Parallel()
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		d := newFixture(t, db)
		d.user("root", roles.Administrator)
		d.holder("clerk", "tollgate:users:write")
		ann := d.user("ann")
		clerk := d.inPerson("clerk")
		real := d.Passwords.Generate
		d.Passwords.Generate = func(password []byte, cost int) ([]byte, error) {
			if _, _, err := d.roles.Assign(d.system(), roles.Administrator, ann.ID, time.Time{}); err != nil {
				t.Error(err)
			}
			return real(password, cost)
		}
		faulttest.Want(t, faulttest.Err(d.SetPassword(clerk, PasswordChange{UserID: ann.ID, New: "another password"})), fault.Denied, "GRANT_EXCEEDS_OWN")
		d.Passwords.Generate = real
		d.login("ann") // with the old one
	})
}
