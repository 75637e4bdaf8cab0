package auth

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/audit"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/database"
	"github.com/tollgatehq/tollgate/server/internal/fault"
	"github.com/tollgatehq/tollgate/server/internal/roles"
)

// holder makes a person who holds a role with just these permissions.
func (d *desk) holder(name string, permissions ...string) User {
	d.t.Helper()
	if _, _, err := d.roles.Create(d.system(), "role-of-"+name, "", permissions); err != nil {
		d.t.Fatal(err)
	}
	return d.user(name, "role-of-"+name)
}

// inPerson is the context of a call by a person who has just signed in.
func (d *desk) inPerson(name string) context.Context {
	d.t.Helper()
	return d.as(Credential{AccessToken: d.login(name).AccessToken})
}

// create makes a key and returns the context of a call with it.
func (d *desk) create(ctx context.Context, in NewAPIKey) (APIKey, context.Context) {
	d.t.Helper()
	in.Name = "a key"
	key, secret, _, err := d.CreateAPIKey(ctx, in)
	if err != nil {
		d.t.Fatal(err)
	}
	return key, d.as(Credential{APIKey: secret})
}

// TestKeysForOthers: a key acts as its owner, wherever services go by who
// calls, so nobody makes one of a person whom they could not sign in as.
func TestKeysForOthers(t *testing.T) {
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		d := newDesk(t, db)
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
			in      NewAPIKey
			allowed bool
		}{
			"keys:write as the administrator":     {mallory, NewAPIKey{UserID: admin.ID, Scopes: []string{"tollgate:keys:write"}}, false},
			"keys:write as one who holds no more": {mallory, NewAPIKey{UserID: carl.ID, Scopes: read}, false},
			"keys:write as a service account":     {mallory, NewAPIKey{UserID: machine.UserID, Scopes: read}, true},
			"the same, beyond one's own":          {mallory, NewAPIKey{UserID: machine.UserID, Scopes: []string{"orders:write"}}, false},
			"the same, growing":                   {mallory, NewAPIKey{UserID: machine.UserID}, false},
			"users:write as one who holds more":   {helper, NewAPIKey{UserID: dora.ID, Scopes: read}, false},
			"users:write as one who holds less":   {helper, NewAPIKey{UserID: carl.ID, Scopes: read}, true},
			"users:write, growing":                {helper, NewAPIKey{UserID: carl.ID}, false},
			"the administrator, growing":          {root, NewAPIKey{UserID: carl.ID}, true},
		} {
			c.in.Name = "a key"
			_, _, _, err := d.CreateAPIKey(c.ctx, c.in)
			if c.allowed && err != nil {
				t.Errorf("%s: %v", what, err)
			}
			if !c.allowed {
				wantKeyFault(t, what, err, fault.Denied, "GRANT_EXCEEDS_OWN")
			}
		}
		for _, user := range []User{admin, dora} {
			if keys, _, err := d.ListAPIKeys(t.Context(), user.ID, 10, ""); err != nil || len(keys) != 0 {
				t.Errorf("%s has the keys %+v, %v", user.Username, keys, err)
			}
		}
	})
}

// TestKeyIsNotItsOwner: what people do to their own keys in person, a key does
// only to those that may do no more than it.
func TestKeyIsNotItsOwner(t *testing.T) {
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		d := newDesk(t, db)
		user := d.holder("owner", "tollgate:keys:write", "tollgate:users:write", "orders:*")
		self := d.inPerson("owner")
		_, narrow := d.create(self, NewAPIKey{Scopes: []string{"tollgate:keys:write", "tollgate:users:write", "orders:read"}})
		_, wide := d.create(self, NewAPIKey{})
		all, _ := d.create(self, NewAPIKey{})
		more, _ := d.create(self, NewAPIKey{Scopes: []string{"orders:*"}})
		less, _ := d.create(self, NewAPIKey{Scopes: []string{"orders:read"}})
		token := d.as(Credential{AccessToken: func() string {
			g, err := d.ClientToken(wide, "tollgate:keys:write orders:read")
			if err != nil {
				t.Fatal(err)
			}
			return g.AccessToken
		}()})
		for _, ctx := range []context.Context{narrow, token} {
			for _, key := range []APIKey{all, more} {
				_, err := d.RevokeAPIKey(ctx, key.ID)
				wantRefusal(t, err, fault.Denied, "GRANT_EXCEEDS_OWN")
				_, err = d.RotateAPIKey(ctx, key.ID, time.Hour)
				wantRefusal(t, err, fault.Denied, "GRANT_EXCEEDS_OWN")
			}
		}
		if r, err := d.RotateAPIKey(token, less.ID, 0); err != nil {
			t.Errorf("rotate one that may do less: %v", err)
		} else if _, err := d.RevokeAPIKey(narrow, r.Key.ID); err != nil {
			t.Errorf("revoke one that may do less: %v", err)
		}
		if _, err := d.RevokeAPIKey(wide, more.ID); err != nil {
			t.Errorf("revoke one that may do less, by a key that may do all: %v", err)
		}
		if _, err := d.RevokeAPIKey(self, all.ID); err != nil {
			t.Errorf("one's own in person: %v", err)
		}

		// Nor does a key set its owner's password or take the second factor away
		// without what the owner knows.
		for _, change := range []PasswordChange{{}, {New: "another password"}} {
			change.UserID = user.ID
			_, err := d.SetPassword(narrow, change)
			wantRefusal(t, err, fault.Denied, "GRANT_EXCEEDS_OWN")
			_, err = d.SetPassword(wide, change)
			wantField(t, err, "currentPassword")
		}
		_, err := d.RemoveSecondFactor(wide, user.ID, "")
		wantField(t, err, "code")
		_, err = d.RemoveSecondFactor(narrow, user.ID, "123456")
		wantRefusal(t, err, fault.Denied, "GRANT_EXCEEDS_OWN")
		if _, err := d.SetPassword(wide, PasswordChange{UserID: user.ID, Current: password, New: "another password"}); err != nil {
			t.Errorf("with the current password: %v", err)
		}
	})
}

// TestWhoCreatedAKey is on record with the key and in the event.
func TestWhoCreatedAKey(t *testing.T) {
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		d := newDesk(t, db)
		root := d.user("root", roles.Administrator)
		first, byKey := d.create(d.inPerson("root"), NewAPIKey{})
		second, _ := d.create(byKey, NewAPIKey{})
		third, _ := d.create(d.system(), NewAPIKey{UserID: root.ID})
		fourth, err := d.RotateAPIKey(byKey, third.ID, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		want := map[string][2]string{
			first.ID: {root.ID, ""}, second.ID: {root.ID, first.ID}, third.ID: {"", ""}, fourth.Key.ID: {root.ID, first.ID},
		}
		keys, _, err := d.ListAPIKeys(t.Context(), root.ID, 10, "")
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
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		d := newDesk(t, db)
		user := d.holder("owner", "tollgate:keys:write", "orders:read")
		self := d.inPerson("owner")
		end := d.clock.Now().Add(time.Hour)
		if _, _, err := d.roles.Create(d.system(), "short", "", []string{"stock:read", "tollgate:users:write"}); err != nil {
			t.Fatal(err)
		}
		if _, _, err := d.roles.Assign(d.system(), "short", user.ID, end); err != nil {
			t.Fatal(err)
		}
		robot, _ := d.client("robot", []string{"stock:read"}, nil, time.Time{})
		plain := d.user("plain")
		forGood, _ := d.create(self, NewAPIKey{})
		_, ending := d.create(self, NewAPIKey{ExpiresAt: end})
		_, narrow := d.create(self, NewAPIKey{ExpiresAt: end, Scopes: []string{"tollgate:keys:write", "orders:read"}})
		token := d.as(Credential{AccessToken: d.clientTokenOf(ending).AccessToken})
		stock, orders := []string{"stock:read"}, []string{"orders:read"}
		for what, c := range map[string]struct {
			ctx context.Context
			in  NewAPIKey
		}{
			"an ending key, its like":             {ending, NewAPIKey{}},
			"an ending key, narrowed":             {ending, NewAPIKey{Scopes: orders}},
			"a narrow ending key":                 {narrow, NewAPIKey{Scopes: orders}},
			"a client's token":                    {token, NewAPIKey{Scopes: orders}},
			"an ending role":                      {self, NewAPIKey{Scopes: stock}},
			"an ending role, for another":         {self, NewAPIKey{Scopes: stock, UserID: robot.UserID}},
			"held for good, as long as one may":   {self, NewAPIKey{Scopes: orders, UserID: plain.ID}},
			"the same, by what manages the owner": {ending, NewAPIKey{Scopes: orders, UserID: plain.ID}},
		} {
			for _, late := range []time.Time{{}, end.Add(time.Second)} {
				c.in.Name, c.in.ExpiresAt = "a key", late
				_, _, _, err := d.CreateAPIKey(c.ctx, c.in)
				wantKeyFault(t, what, err, fault.Denied, "GRANT_EXCEEDS_OWN")
			}
			c.in.ExpiresAt = end
			if _, _, _, err := d.CreateAPIKey(c.ctx, c.in); err != nil {
				t.Errorf("%s, ending in time: %v", what, err)
			}
		}
		// A rotation does not prolong, and gives nobody else what lasts longer.
		_, err := d.RotateAPIKey(ending, forGood.ID, 0)
		wantRefusal(t, err, fault.Denied, "GRANT_EXCEEDS_OWN")
		if r, err := d.RotateAPIKey(self, forGood.ID, 0); err != nil || !r.Key.ExpiresAt.IsZero() {
			t.Errorf("one's own in person: %+v, %v", r, err)
		}
	})
}

func (d *desk) clientTokenOf(ctx context.Context) ClientGrant {
	d.t.Helper()
	g, err := d.ClientToken(ctx, "")
	if err != nil {
		d.t.Fatal(err)
	}
	return g
}

// TestATemporaryAdministratorBecomesNobody: what opens a way to sign in as
// somebody is given for good, so it takes rights that are held for as long as
// theirs.
func TestATemporaryAdministratorBecomesNobody(t *testing.T) {
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		d := newDesk(t, db)
		root, eve := d.user("root", roles.Administrator), d.user("eve")
		plain, brief := d.user("plain"), d.user("brief")
		end := d.clock.Now().Add(time.Hour)
		for user, end := range map[string]time.Time{eve.ID: end, brief.ID: end.Add(-time.Minute)} {
			if _, _, err := d.roles.Assign(d.system(), roles.Administrator, user, end); err != nil {
				t.Fatal(err)
			}
		}
		ctx := d.inPerson("eve")
		_, err := d.SetPassword(ctx, PasswordChange{UserID: root.ID})
		wantRefusal(t, err, fault.Denied, "GRANT_EXCEEDS_OWN")
		_, err = d.RemoveSecondFactor(ctx, root.ID, "")
		wantRefusal(t, err, fault.Denied, "GRANT_EXCEEDS_OWN")
		_, _, _, err = d.CreateAPIKey(ctx, NewAPIKey{UserID: root.ID, Name: "a key"})
		wantRefusal(t, err, fault.Denied, "GRANT_EXCEEDS_OWN")
		for _, user := range []User{plain, brief} {
			if _, err := d.SetPassword(ctx, PasswordChange{UserID: user.ID}); err != nil {
				t.Errorf("reset of %s, who holds nothing that lasts longer: %v", user.Username, err)
			}
		}
		if _, _, err := d.RevokeSessions(ctx, root.ID); err != nil {
			t.Errorf("what only takes away: %v", err)
		}
	})
}

// TestPromotedDuringAReset: who is given more while a weaker caller's new
// password is being hashed keeps the old one.
func TestPromotedDuringAReset(t *testing.T) {
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		d := newDesk(t, db)
		d.user("root", roles.Administrator)
		d.holder("clerk", "tollgate:users:write")
		ann := d.user("ann")
		clerk := d.inPerson("clerk")
		real := d.passwords.generate
		d.passwords.generate = func(password []byte, cost int) ([]byte, error) {
			if _, _, err := d.roles.Assign(d.system(), roles.Administrator, ann.ID, time.Time{}); err != nil {
				t.Error(err)
			}
			return real(password, cost)
		}
		_, err := d.SetPassword(clerk, PasswordChange{UserID: ann.ID, New: "another password"})
		wantRefusal(t, err, fault.Denied, "GRANT_EXCEEDS_OWN")
		d.passwords.generate = real
		d.login("ann") // with the old one
	})
}

// TestResetEndsKeys: a reset is for an account that somebody else may have had
// their hands on, who then has its keys, too.
func TestResetEndsKeys(t *testing.T) {
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		d := newDesk(t, db)
		d.user("root", roles.Administrator)
		ann := d.holder("ann", "tollgate:keys:write")
		root := d.inPerson("root")
		watcher := d.revocations.join()
		issue := func() (ids, secrets []string) {
			for range 2 {
				key, secret, _, err := d.CreateAPIKey(d.system(), NewAPIKey{UserID: ann.ID, Name: "a key"})
				if err != nil {
					t.Fatal(err)
				}
				ids, secrets = append(ids, key.ID), append(secrets, secret)
			}
			slices.Sort(ids)
			return ids, secrets
		}
		told := func() (ids []string) {
			for {
				select {
				case batch := <-watcher:
					ids = append(ids, batch.APIKeys...)
				default:
					slices.Sort(ids)
					return ids
				}
			}
		}
		events, current := 0, password
		for n, c := range []struct {
			what   string
			change func() (PasswordSet, error)
			ends   bool
		}{
			{"a reset", func() (PasswordSet, error) {
				return d.SetPassword(root, PasswordChange{UserID: ann.ID, New: "first new password"})
			}, true},
			{"a reset that keeps", func() (PasswordSet, error) {
				return d.SetPassword(root, PasswordChange{UserID: ann.ID, New: "second new password", RevokeAPIKeys: new(false)})
			}, false},
			{"by the command line", func() (PasswordSet, error) {
				return d.ResetPassword(t.Context(), "ann", "third new password", false)
			}, true},
			{"by the command line, keeping", func() (PasswordSet, error) {
				return d.ResetPassword(t.Context(), "ann", password, true)
			}, false},
			{"one's own", func() (PasswordSet, error) {
				return d.SetPassword(d.inPerson("ann"), PasswordChange{UserID: ann.ID, Current: password, New: "fifth new password"})
			}, false},
			{"one's own, ending", func() (PasswordSet, error) {
				g, err := d.Login(d.visitor(), "ann", current, "")
				if err != nil {
					return PasswordSet{}, err
				}
				return d.SetPassword(d.as(Credential{AccessToken: g.AccessToken}),
					PasswordChange{UserID: ann.ID, Current: current, New: "sixth new password", RevokeAPIKeys: new(true)})
			}, true},
		} {
			ids, secrets := issue()
			told()
			d.clock.Advance(time.Second) // events are read in the order of their time
			done, err := c.change()
			if err != nil {
				t.Fatal(c.what, err)
			}
			current = []string{"", "", "", password, "fifth new password", ""}[n]
			var want []string
			if c.ends {
				want = ids
			}
			for _, secret := range secrets {
				if got := d.keyReason(secret); (got == caller.ReasonCredentialRevoked) != c.ends {
					t.Errorf("%s: a key is verified as %s", c.what, got)
				}
			}
			recorded := d.recorded(audit.APIKeyRevoke)
			var ended []string
			for _, event := range recorded[events:] {
				ended = append(ended, strings.TrimPrefix(event.Resource, "api_keys/"))
			}
			events = len(recorded)
			slices.Sort(ended)
			if c.ends && n > 1 { // keys that were kept before end, too
				if done.RevokedAPIKeys < 2 || !contains(ended, want) || !contains(told(), want) {
					t.Errorf("%s: %d revoked, recorded %q, want %q among them", c.what, done.RevokedAPIKeys, ended, want)
				}
				continue
			}
			if got := told(); done.RevokedAPIKeys != len(want) || !slices.Equal(ended, want) || !slices.Equal(got, want) {
				t.Errorf("%s: %d revoked, recorded %q, told %q, want %q", c.what, done.RevokedAPIKeys, ended, got, want)
			}
		}
		last := d.recorded(audit.PasswordReset)[0]
		if last.Details["revoked_api_keys"] != "2" {
			t.Errorf("recorded %+v", last)
		}
	})
}

func contains(all, some []string) bool {
	return !slices.ContainsFunc(some, func(s string) bool { return !slices.Contains(all, s) })
}

// TestNoKeyAfterTheEnd: an instance that has not heard yet that a session or
// key was revoked makes no new key for it, which would outlive the revocation.
func TestNoKeyAfterTheEnd(t *testing.T) {
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		here := newDesk(t, db)
		there := deskAt(t, db, here.clock, testTTL)
		here.holder("ann", "tollgate:keys:write")
		if err := there.log.Sync(t.Context()); err != nil {
			t.Fatal(err)
		}
		g := here.login("ann")
		session := there.as(Credential{AccessToken: g.AccessToken})
		key, _ := there.create(session, NewAPIKey{})
		_, byKey := there.create(session, NewAPIKey{})
		if _, err := here.ResetPassword(t.Context(), "ann", "another password", false); err != nil {
			t.Fatal(err)
		}
		for _, ctx := range []context.Context{session, byKey} {
			_, _, _, err := there.CreateAPIKey(ctx, NewAPIKey{Name: "a key"})
			wantRefusal(t, err, fault.Unauthenticated, "CREDENTIAL_REVOKED")
			_, err = there.RotateAPIKey(ctx, key.ID, 0)
			wantRefusal(t, err, fault.Unauthenticated, "CREDENTIAL_REVOKED")
		}
	})
}
