package recordings

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
	"github.com/tollgatehq/tollgate/server/internal/page"
	"github.com/tollgatehq/tollgate/server/internal/roles"
)

// instance is one Tollgate as far as this package goes.
type instance struct {
	*Service
	t     testing.TB
	log   *changes.Log
	db    *database.DB
	clock *clock.Fake
}

// start makes an instance that has read the recordings there are.
func start(t testing.TB, db *database.DB) *instance {
	t.Helper()
	fake := clock.NewFake(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))
	log := changes.New(db, changes.Options{Clock: fake.Clock()})
	pages := page.NewTokens([]byte(strings.Repeat("k", 32)))
	declared := roles.New(db, log, fake.Clock(), pages)
	declared.Declare(roles.Declared{Permissions: []string{"tollgate:users:read"}, Actions: []string{"tollgate:refresh"}})
	s := New(db, log, declared.CheckCounted, fake.Clock(), pages)
	log.Follow(s)
	i := &instance{Service: s, t: t, log: log, db: db, clock: fake}
	i.must(log.Start(t.Context()))
	return i
}

// onDatabases runs test in parallel with others, once on each database.
func onDatabases(t *testing.T, test func(t *testing.T, i *instance)) {
	t.Helper()
	t.Parallel()
	backendtest.Databases(t, func(t *testing.T, db *database.DB) { test(t, start(t, db)) })
}

func (i *instance) must(err error) {
	i.t.Helper()
	backendtest.Must(i.t, err)
}

func (i *instance) system() context.Context { return caller.System(i.t.Context()) }

func (i *instance) create(r Recording) Recording {
	i.t.Helper()
	made, _, err := i.Create(i.system(), r)
	i.must(err)
	return made
}

// records says whether an allowed call is recorded here.
func (i *instance) records(userID, permission, resource string) bool {
	rules := i.Rules()
	if rules == nil {
		return false
	}
	_, recorded := rules.Sample(userID, []string{permission}, resource)
	return recorded
}
