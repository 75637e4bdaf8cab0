package routes

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
)

// instance is one Tollgate as far as this package goes.
type instance struct {
	*Service
	t     testing.TB
	log   *changes.Log
	db    *database.DB
	clock *clock.Fake
}

// start makes an instance that has read the routes there are.
func start(t testing.TB, db *database.DB) *instance {
	t.Helper()
	fake := clock.NewFake(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))
	log := changes.New(db, changes.Options{Clock: fake.Clock()})
	s := New(db, log, fake.Clock(), page.NewTokens([]byte(strings.Repeat("k", 32))))
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

// create adds a route, which is public unless it says something else.
func (i *instance) create(r Route) Route {
	i.t.Helper()
	r.Public = r.Permission == "" && !r.Authenticated
	made, _, err := i.Create(i.system(), r)
	i.must(err)
	return made
}

// has is the name of the route that a request has here; "-" for none.
func (i *instance) has(method, host, path string) string {
	i.t.Helper()
	table, err := i.Table()
	i.must(err)
	m, ok, err := table.Match(method, host, path)
	i.must(err)
	if !ok {
		return "-"
	}
	return m.Route.Name
}

// bulk adds n routes with SQL: /bulk/1 and on.
func (i *instance) bulk(n int) {
	i.t.Helper()
	_, err := i.db.Exec(i.t.Context(), `INSERT INTO routes (name, methods, path, shape, public, context, created_at, updated_at)
		WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < $1)
		SELECT 'bulk' || i, '["GET"]', '/bulk/' || i, '/bulk/' || i, 1, '{}', 0, 0 FROM n`, n)
	i.must(err)
	i.must(i.Reset(i.t.Context()))
}
