package apikey

import (
	"github.com/tollgatehq/tollgate/server/internal/fault/faulttest"
	"github.com/tollgatehq/tollgate/server/internal/roles"

	"context"
	"strings"
	"testing"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/auth/authority"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/changes"
	"github.com/tollgatehq/tollgate/server/internal/clock"
	"github.com/tollgatehq/tollgate/server/internal/database"
	"github.com/tollgatehq/tollgate/server/internal/page"
)

// issued is when the tests begin.
var issued = time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)

// instance is one running Tollgate, as far as API keys go.
type instance struct {
	*Service
	roles *roles.Service
	clock *clock.Fake
}

// follower forgets keys when one changed.
type follower struct{ *Service }

func (f follower) Reset(context.Context) error { f.ForgetAll(); return nil }

func (f follower) Apply(_ context.Context, list []changes.Change) error {
	for _, c := range list {
		f.Forget(c.Subject)
	}
	return nil
}

func startInstance(t *testing.T, db *database.DB, fake *clock.Fake) instance {
	t.Helper()
	log := changes.New(db, changes.Options{Clock: fake.Clock()})
	pages := page.NewTokens([]byte(strings.Repeat("p", 32)))
	grants := roles.New(db, log, fake.Clock(), pages)
	s := NewService(db, log, grants, authority.New(grants, fake.Clock()), fake.Clock(), pages)
	log.Follow(grants)
	log.Follow(follower{s})
	backendtest.Must(t, log.Start(t.Context()))
	return instance{s, grants, fake}
}

// sync makes the instance read everything that was committed. Its clock goes on
// a little first, as clocks do.
func (i instance) sync(t *testing.T) {
	t.Helper()
	i.clock.Advance(time.Millisecond)
	backendtest.Must(t, i.log.Sync(t.Context()))
}

// onKeys runs test on each database with an instance and a user, "owner", who
// holds orders:* and tollgate:keys:*.
func onKeys(t *testing.T, test func(t *testing.T, i instance, db *database.DB)) {
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		i := startInstance(t, db, clock.NewFake(issued))
		i.addUser(t, "owner", "clerk", "orders:*", "tollgate:keys:*")
		test(t, i, db)
	})
}

// addUser adds a user whose id is name, who holds a role with the patterns.
func (i instance) addUser(t *testing.T, name, role string, patterns ...string) {
	t.Helper()
	ctx := caller.System(t.Context())
	backendtest.Must(t, faulttest.Err(i.db.Exec(ctx, `INSERT INTO users (id, username, kind, created_at, updated_at) VALUES ($1, $1, 'service', 1, 1)`, name)))
	if len(patterns) == 0 {
		return
	}
	backendtest.Must(t, faulttest.Err(i.roles.Create(ctx, roles.Role{Name: role, Permissions: patterns})))
	backendtest.Must(t, faulttest.Err(i.roles.Assign(ctx, role, name, time.Time{})))
}

// as is the context of a call by a user, with an API key when there are scopes.
func (i instance) as(t *testing.T, user string, scopes ...string) context.Context {
	t.Helper()
	roles, err := i.roles.RolesOf(t.Context(), user)
	backendtest.Must(t, err)
	p := &caller.Principal{UserID: user, Username: user, Roles: roles, Scopes: scopes}
	if len(scopes) > 0 {
		p.APIKeyID = "a key of " + user
		if _, err := i.db.Exec(t.Context(), `INSERT INTO api_keys (id, user_id, name, hash, scopes, created_at)
			VALUES ($1, $2, 'a key', $3, '[]', 1) ON CONFLICT DO NOTHING`, p.APIKeyID, user, []byte{1}); err != nil {
			t.Fatal(err)
		}
	}
	return caller.With(t.Context(), caller.Caller{Principal: p})
}

// issue makes a key of the owner's.
func (i instance) issue(t *testing.T, in New) (Key, string) {
	t.Helper()
	in.Name = "a key"
	made, err := i.Create(i.as(t, "owner"), in)
	backendtest.Must(t, err)
	return made.Key, made.Secret
}

func (i instance) expect(t *testing.T, what, key string, want caller.Reason) {
	t.Helper()
	p, got, err := i.Verify(t.Context(), key)
	if err != nil || got != want {
		t.Errorf("%s: %s (%v), want %s", what, got, err, want)
	}
	if got != caller.ReasonOK && p != nil {
		t.Errorf("%s: refused, but says %+v", what, p)
	}
}
