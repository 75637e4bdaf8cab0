package routes

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/changes"
	"github.com/tollgatehq/tollgate/server/internal/clock"
	"github.com/tollgatehq/tollgate/server/internal/database"
	"github.com/tollgatehq/tollgate/server/internal/fault"
	"github.com/tollgatehq/tollgate/server/internal/fault/faulttest"
	"github.com/tollgatehq/tollgate/server/internal/limits"
	"github.com/tollgatehq/tollgate/server/internal/page"
	"github.com/tollgatehq/tollgate/server/internal/roles"
)

func TestBeforeTheStart(t *testing.T) {
	t.Parallel()
	s := New(nil, nil, clock.Real(), page.Tokens{})
	table, err := s.Table()
	if f := faulttest.Want(t, err, fault.Unavailable, "STARTING"); table != nil || f.RetryAfter == 0 {
		t.Errorf("%v, %v", table, f.RetryAfter)
	}
}

// What one instance writes is in force on another after it has read the log: one
// route at a time, many at once, and one that took the place of another.
func TestFollow(t *testing.T) {
	onDatabases(t, func(t *testing.T, here *instance) {
		there := start(t, here.db)
		sync := func() {
			t.Helper()
			here.must(there.log.Sync(t.Context()))
		}
		here.create(Route{Name: "a", Path: "/a"})
		backendtest.Equal(t, there.has("GET", "", "/a"), "-", "route elsewhere before the log is read")
		sync()
		backendtest.Equal(t, there.has("GET", "", "/a"), "a", "route elsewhere")
		before, err := there.log.Current(t.Context())
		here.must(err)

		// The other instance reads b as it is after the second change, and a as
		// it was.
		here.create(Route{Name: "b", Path: "/b"})
		here.must(faulttest.Err(here.Update(here.system(), "a", Edit{Path: new("/c")})))
		here.must(faulttest.Err(here.Update(here.system(), "b", Edit{Path: new("/a")})))
		here.must(there.Apply(t.Context(), []changes.Change{{Kind: changes.Route, Subject: "b"}}))
		backendtest.Equal(t, there.has("GET", "", "/a")+there.has("GET", "", "/c"), "ba", "routes that changed places")
		backendtest.Equal(t, there.log.Revision(), before, "revision")

		for n := range reloadAll + 1 {
			here.create(Route{Name: fmt.Sprintf("many%d", n), Path: fmt.Sprintf("/many/%d", n)})
		}
		here.must(faulttest.Err(here.Delete(here.system(), "a")))
		sync()
		backendtest.Equal(t, there.has("GET", "", "/c")+there.has("GET", "", "/many/50"), "-many50", "routes after many changes")
		here.must(faulttest.Err(here.Delete(here.system(), "many50")))
		sync()
		backendtest.Equal(t, there.has("GET", "", "/many/50"), "-", "route that was removed elsewhere")
	})
}

// counted counts the rows that are read.
type counted struct {
	database.Queries
	rows int
}

func (c *counted) Get(ctx context.Context, dest any, query string, args ...any) error {
	c.rows++
	return c.Queries.Get(ctx, dest, query, args...)
}

func (c *counted) Select(ctx context.Context, dest any, query string, args ...any) error {
	err := c.Queries.Select(ctx, dest, query, args...)
	c.rows += reflect.ValueOf(dest).Elem().Len()
	return err
}

// Of many routes the other instance reads those that changed, and not all.
func TestFollowManyRoutes(t *testing.T) {
	onDatabases(t, func(t *testing.T, here *instance) {
		const many = 1000
		here.bulk(many)
		there := start(t, here.db)
		read := &counted{Queries: here.db}
		there.Service.db = read
		for n := range 4 {
			here.create(Route{Name: fmt.Sprintf("new%d", n), Path: fmt.Sprintf("/new/%d", n)})
			here.must(there.log.Sync(t.Context()))
			backendtest.Equal(t, there.has("GET", "", fmt.Sprintf("/new/%d", n)), fmt.Sprintf("new%d", n), "route elsewhere")
			backendtest.Equal(t, read.rows, n+1, "routes read")
		}
		here.must(there.Reset(t.Context()))
		backendtest.Equal(t, read.rows, 4+many+4, "routes read with all of them")
	})
}

// Rows that only another program can have written leave no table: without one of
// them its requests could have a wider route. The API that removes it works.
func TestRowsThatCannotBeCompiled(t *testing.T) {
	onDatabases(t, func(t *testing.T, i *instance) {
		i.create(Route{Name: "wide", Path: "/{rest...}"})
		i.create(Route{Name: "narrow", Path: "/admin", Permission: "admin:read"})
		for what, statement := range map[string]string{
			"a path":      `UPDATE routes SET path = '/{' WHERE name = 'narrow'`,
			"a conflict":  `UPDATE routes SET path = '/{all...}' WHERE name = 'narrow'`,
			"a parameter": `UPDATE routes SET path = '/admin', resource = '{gone}' WHERE name = 'narrow'`,
		} {
			i.must(faulttest.Err(i.db.Exec(t.Context(), statement)))
			i.must(i.Apply(t.Context(), []changes.Change{{Kind: changes.Route, Subject: "narrow"}}))
			table, err := i.Table()
			if f := fault.From(err); table != nil || f == nil || f.Kind != fault.Internal || strings.Contains(f.Message, "narrow") {
				t.Errorf("%s: %v, %v", what, table, err)
			}
		}
		i.must(faulttest.Err(i.Delete(i.system(), "narrow")))
		backendtest.Equal(t, i.has("GET", "", "/admin"), "wide", "route after the mending")
	})
}

// TestUpgrade: routes come to a database of the version before, with data, beside
// an instance of that version, whose followers do not know them.
func TestUpgrade(t *testing.T) {
	t.Parallel()
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		clk, pages := clock.Real(), page.NewTokens([]byte(strings.Repeat("k", 32)))
		log := changes.New(db, changes.Options{Clock: clk})
		old := limits.New(db, log, roles.New(db, log, clk, pages), clk, pages, limits.NewMemory(clk))
		log.Follow(old)
		backendtest.Must(t, log.Start(t.Context()))
		system := (&instance{t: t}).system()
		backendtest.Must(t, old.EnsureBuiltins(t.Context()))

		steps, err := db.MigrationStatus(t.Context())
		backendtest.Must(t, err)
		before := slices.IndexFunc(steps, func(m database.Migration) bool { return m.ID == "0006_routes.sql" })
		backendtest.Must(t, faulttest.Err(db.MigrateDown(t.Context(), len(steps)-before)))
		backendtest.Must(t, faulttest.Err(db.MigrateUp(t.Context())))
		i := start(t, db)
		backendtest.Equal(t, i.has("GET", "", "/a"), "-", "route of a new table")
		_, revision, err := i.Create(system, Route{Name: "a", Path: "/a", Permission: "orders:read"})
		backendtest.Must(t, err)
		backendtest.Must(t, log.Sync(t.Context()))
		backendtest.Equal(t, log.Revision(), revision, "revision of the instance of the version before")
		const from = "sign-in-per-ip" // before
		backendtest.Must(t, faulttest.Err(old.Get(t.Context(), from)))
		_, _, err = old.Update(system, from, limits.Edit{Rate: new(int64(40))})
		backendtest.Must(t, err)
		backendtest.Must(t, i.log.Sync(t.Context()))
		backendtest.Equal(t, i.has("GET", "", "/a"), "a", "route after the other's write")

		backendtest.Must(t, faulttest.Err(db.MigrateDown(t.Context(), len(steps)-before)))
		var left int
		backendtest.Must(t, db.Get(t.Context(), &left, `SELECT COUNT(*) FROM limits WHERE name = $1`, from))
		backendtest.Equal(t, left, 1, "limits of the name after the way back")
	})
}
