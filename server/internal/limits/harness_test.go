package limits

import (
	"context"
	"strings"
	"testing"

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
	db    *database.DB
	clock *clock.Fake
}

// startOn makes an instance that has read the limits there are. A nil backend is
// a Memory on the instance's clock.
func startOn(t testing.TB, db *database.DB, backend Backend) *instance {
	t.Helper()
	fake, clk := testClock()
	if backend == nil {
		backend = NewMemory(clk)
	}
	log := changes.New(db, changes.Options{Clock: clk})
	pages := page.NewTokens([]byte(strings.Repeat("k", 32)))
	grants := roles.New(db, log, clk, pages)
	s := New(db, log, grants, clk, pages, backend)
	log.Follow(grants)
	log.Follow(s)
	i := &instance{Service: s, t: t, db: db, clock: fake}
	i.must(log.Start(t.Context()))
	return i
}

// onSQLite is for tests in which the database has no part.
func onSQLite(t testing.TB, backend Backend) *instance {
	t.Helper()
	return startOn(t, backendtest.SQLite(t), backend)
}

func (i *instance) must(err error) {
	i.t.Helper()
	backendtest.Must(i.t, err)
}

func (i *instance) system() context.Context { return caller.System(i.t.Context()) }

// create adds a limit, which counts the calls of take when its permission is
// empty. A limit on all calls would be one on sign-ins, too, which may not be
// as strict.
func (i *instance) create(l Limit) Limit {
	i.t.Helper()
	if l.Permission == "" {
		l.Permission = "tests:*"
	}
	if l.Period == 0 {
		l.Period = minute
	}
	made, _, err := i.Create(i.system(), l)
	i.must(err)
	return made
}

func (i *instance) get(name string) Limit {
	i.t.Helper()
	l, err := i.Get(i.system(), name)
	i.must(err)
	return l
}

func (i *instance) update(name string, edit Edit) Limit {
	i.t.Helper()
	l, _, err := i.Update(i.system(), name, edit)
	i.must(err)
	return l
}

func (i *instance) take(r Request) Result {
	i.t.Helper()
	if r.Permission == "" {
		r.Permission = "tests:call"
	}
	result, err := i.Take(i.t.Context(), r)
	i.must(err)
	return result
}

func (i *instance) check(name, key string, cost int64, peek bool) Result {
	i.t.Helper()
	result, err := i.Check(i.system(), name, key, cost, peek)
	i.must(err)
	return result
}

// wantRemaining looks at what a limit leaves a key.
func (i *instance) wantRemaining(name, key string, want int64, what string) {
	i.t.Helper()
	backendtest.Equal(i.t, i.check(name, key, 1, true).Limits[0].Remaining, want, "remaining, %s", what)
}

// events are the actions recorded about a limit, oldest first.
func (i *instance) events(name string) []string {
	i.t.Helper()
	var actions []string
	i.must(i.db.Select(i.t.Context(), &actions, `SELECT action FROM audit_events WHERE resource = $1 ORDER BY position`, "limits/"+name))
	return actions
}

// onDatabases runs test in parallel with others, once on each database.
func onDatabases(t *testing.T, test func(t *testing.T, i *instance)) {
	t.Helper()
	t.Parallel()
	backendtest.Databases(t, func(t *testing.T, db *database.DB) { test(t, startOn(t, db, nil)) })
}
