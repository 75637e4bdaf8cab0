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

// TestResetEndsKeys: a reset is for an account that somebody else may have had
// their hands on, who then has its keys, too.
func TestResetEndsKeys(t *testing.T) {
	t.Parallel()
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		d := newFixture(t, db)
		d.user("root", roles.Administrator)
		ann := d.holder("ann", "tollgate:keys:write")
		root := d.inPerson("root")
		watcher := d.feed.Join()
		issue := func() (ids, secrets []string) {
			for range 2 {
				made := d.createKey(d.system(), apikey.New{UserID: ann.ID, Name: "a key"})
				ids, secrets = append(ids, made.Key.ID), append(secrets, made.Secret)
			}
			slices.Sort(ids)
			return ids, secrets
		}
		sent := func() (ids []string) {
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
		events, current := 0, goodPassword
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
				return d.ResetPassword(t.Context(), "ann", goodPassword, true)
			}, false},
			{"one's own", func() (PasswordSet, error) {
				return d.SetPassword(d.inPerson("ann"), PasswordChange{UserID: ann.ID, Current: goodPassword, New: "fifth new password"})
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
			sent()
			d.clock.Advance(time.Second) // events are read in the order of their time
			done, err := c.change()
			if err != nil {
				t.Fatal(c.what, err)
			}
			current = []string{"", "", "", goodPassword, "fifth new password", ""}[n]
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
				if done.RevokedAPIKeys < 2 || !contains(ended, want) || !contains(sent(), want) {
					t.Errorf("%s: %d revoked, recorded %q, want %q among them", c.what, done.RevokedAPIKeys, ended, want)
				}
				continue
			}
			if got := sent(); done.RevokedAPIKeys != len(want) || !slices.Equal(ended, want) || !slices.Equal(got, want) {
				t.Errorf("%s: %d revoked, recorded %q, sent %q, want %q", c.what, done.RevokedAPIKeys, ended, got, want)
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

// TestNoKeyAfterTheTokensEnd: as TestNoKeyAfterTheEnd, for a client's token that
// was revoked by itself; its key stays good.
func TestNoKeyAfterTheTokensEnd(t *testing.T) {
	t.Parallel()
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		here := newFixture(t, db)
		there := fixtureAt(t, db, here.clock)
		here.holder("ann", "tollgate:keys:write")
		session := here.as(Credential{AccessToken: here.login("ann").AccessToken})
		made, err := here.APIKeys.Create(session, apikey.New{Name: "a key"})
		backendtest.Must(t, err)
		backendtest.Must(t, there.log.Sync(t.Context()))
		byKey := there.as(Credential{APIKey: made.Secret})
		token := here.clientToken(made.Secret, "").AccessToken
		byToken := there.as(Credential{AccessToken: token})
		backendtest.Must(t, here.RevokeToken(here.as(Credential{APIKey: made.Secret}), token))
		faulttest.Want(t, faulttest.Err(there.APIKeys.Create(byToken, apikey.New{Name: "a key"})), fault.Unauthenticated, "CREDENTIAL_REVOKED")
		faulttest.Want(t, faulttest.Err(there.APIKeys.Rotate(byToken, made.Key.ID, 0)), fault.Unauthenticated, "CREDENTIAL_REVOKED")
		there.create(byKey, apikey.New{})
	})
}

// TestNoKeyAfterTheEnd: an instance that has not heard yet that a session or
// key was revoked makes no new key for it, which would outlive the revocation.
func TestNoKeyAfterTheEnd(t *testing.T) {
	t.Parallel()
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		here := newFixture(t, db)
		there := fixtureAt(t, db, here.clock)
		here.holder("ann", "tollgate:keys:write")
		backendtest.Must(t, there.log.Sync(t.Context()))
		g := here.login("ann")
		session := there.as(Credential{AccessToken: g.AccessToken})
		key, _ := there.create(session, apikey.New{})
		_, byKey := there.create(session, apikey.New{})
		backendtest.Must(t, faulttest.Err(here.ResetPassword(t.Context(), "ann", "another password", false)))
		for _, ctx := range []context.Context{session, byKey} {
			faulttest.Want(t, faulttest.Err(there.APIKeys.Create(ctx, apikey.New{Name: "a key"})), fault.Unauthenticated, "CREDENTIAL_REVOKED")
			faulttest.Want(t, faulttest.Err(there.APIKeys.Rotate(ctx, key.ID, 0)), fault.Unauthenticated, "CREDENTIAL_REVOKED")
		}
	})
}
