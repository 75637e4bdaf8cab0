package roles

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/changes"
	"github.com/tollgatehq/tollgate/server/internal/clock"
	"github.com/tollgatehq/tollgate/server/internal/database"
	"github.com/tollgatehq/tollgate/server/internal/fault/faulttest"
	"github.com/tollgatehq/tollgate/server/internal/page"
)

// instance is one Tollgate as far as this package goes.
type instance struct {
	*Service
	t     testing.TB
	log   *changes.Log
	db    *database.DB
	clock *clock.Fake
}

func newInstance(t testing.TB, db *database.DB, fake *clock.Fake) *instance {
	clk := fake.Clock()
	log := changes.New(db, changes.Options{Clock: clk})
	s := New(db, log, clk, page.NewTokens([]byte(strings.Repeat("k", 32))))
	log.Follow(s)
	return &instance{Service: s, t: t, log: log, db: db, clock: fake}
}

// start makes an instance with the built-in roles.
func start(t testing.TB, db *database.DB) *instance {
	t.Helper()
	i := newInstance(t, db, clock.NewFake(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)))
	i.must(i.EnsureBuiltins(t.Context()))
	return i
}

// another instance on the same database, caught up.
func (i *instance) another() *instance {
	i.t.Helper()
	other := newInstance(i.t, i.db, i.clock)
	i.must(other.log.Start(i.t.Context()))
	return other
}

func (i *instance) must(err error) {
	i.t.Helper()
	backendtest.Must(i.t, err)
}

func (i *instance) system() context.Context { return caller.System(i.t.Context()) }

// user adds a person who can sign in and returns the id.
func (i *instance) user(name string) string {
	i.t.Helper()
	clk := i.clock.Clock()
	id := clk.NewID()
	_, err := i.db.Exec(i.t.Context(), `INSERT INTO users (id, username, kind, password_hash, created_at, updated_at) VALUES ($1,$2,'person','a hash',$3,$3)`,
		id, name, clk.Micros())
	i.must(err)
	return id
}

func (i *instance) role(name string, permissions ...string) {
	i.t.Helper()
	i.must(faulttest.Err(i.Create(i.system(), Role{Name: name, Permissions: permissions})))
}

func (i *instance) assign(role, userID string) {
	i.t.Helper()
	i.must(faulttest.Err(i.Assign(i.system(), role, userID, time.Time{})))
}

func (i *instance) rolesOf(userID string) string {
	i.t.Helper()
	names, err := i.RolesOf(i.t.Context(), userID)
	i.must(err)
	return strings.Join(names, " ")
}

// principal is the user as a good credential gives them.
func (i *instance) principal(userID string, scopes ...string) *caller.Principal {
	i.t.Helper()
	names, err := i.RolesOf(i.t.Context(), userID)
	i.must(err)
	return &caller.Principal{UserID: userID, Username: "u-" + userID, Kind: caller.Person, Roles: names, Scopes: scopes}
}

// as is the context of a call by the user.
func (i *instance) as(userID string, scopes ...string) context.Context {
	i.t.Helper()
	return caller.With(i.t.Context(), caller.Caller{Principal: i.principal(userID, scopes...)})
}

func (i *instance) count(query string, args ...any) (n int) {
	i.t.Helper()
	i.must(i.db.Get(i.t.Context(), &n, query, args...))
	return n
}

// onDatabases runs test in parallel with others, once on each database.
func onDatabases(t *testing.T, test func(t *testing.T, i *instance)) {
	t.Helper()
	t.Parallel()
	backendtest.Databases(t, func(t *testing.T, db *database.DB) { test(t, start(t, db)) })
}
