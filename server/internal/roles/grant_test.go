package roles

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/audit"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/changes"
	"github.com/tollgatehq/tollgate/server/internal/database"
	"github.com/tollgatehq/tollgate/server/internal/fault"
	"github.com/tollgatehq/tollgate/server/internal/world"
)

func TestMayGrant(t *testing.T) {
	i := onSQLite(t)
	i.role("clerk", "orders:*", "stock:read")
	for _, c := range []struct {
		what     string
		c        caller.Caller
		patterns []string
		want     bool
	}{
		{"the system", caller.Caller{System: true}, []string{"*"}, true},
		{"nobody", caller.Caller{}, nil, false},
		{"nothing", caller.Caller{Principal: &caller.Principal{}}, nil, true},
		{"no roles", caller.Caller{Principal: &caller.Principal{}}, []string{"a"}, false},
		{"the same", clerk(), []string{"orders:*", "stock:read"}, true},
		{"narrower", clerk(), []string{"orders:items:*", "orders:read"}, true},
		{"one too many", clerk(), []string{"orders:read", "stock:write"}, false},
		{"wider", clerk(), []string{"stock:*"}, false},
		{"the parent", clerk(), []string{"orders"}, false},
		{"everything", clerk(), []string{"*"}, false},
		{"in scope", clerk("orders:read"), []string{"orders:read"}, true},
		{"out of scope", clerk("orders:read"), []string{"orders:*"}, false},
		{"a scope does not add", clerk("*"), []string{"stock:write"}, false},
	} {
		err := i.MayGrant(caller.With(t.Context(), c.c), c.patterns)
		if c.want && err != nil {
			t.Errorf("%s: %v", c.what, err)
		}
		if !c.want {
			refused(t, err, fault.Denied, "GRANT_EXCEEDS_OWN")
		}
	}
}

func clerk(scopes ...string) caller.Caller {
	return caller.Caller{Principal: &caller.Principal{Roles: []string{"clerk"}, Scopes: scopes}}
}

// A manager of roles who holds little gets no further by any path.
func TestNoPathGrantsMore(t *testing.T) {
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		i := start(t, db)
		i.role("manager", "tollgate:roles:*", "orders:read")
		i.role("reader", "orders:read")
		i.role("writer", "orders:read", "orders:write")
		eve, ann := i.user("eve"), i.user("ann")
		i.assign("manager", eve)
		i.assign("writer", ann)
		i.assign(Administrator, ann)
		ctx := i.as(eve)
		text := "x"
		before := i.log.Revision()
		for what, err := range map[string]error{
			"create":               third(i.Create(ctx, "new", "", []string{"orders:read", "orders:write"})),
			"create everything":    third(i.Create(ctx, "new", "", []string{"*"})),
			"edit up":              third(i.Update(ctx, "reader", Edit{Permissions: []string{"orders:*"}})),
			"edit own role up":     third(i.Update(ctx, "manager", Edit{Permissions: []string{"*"}})),
			"edit down":            third(i.Update(ctx, "writer", Edit{Permissions: []string{"orders:read"}})),
			"clear":                third(i.Update(ctx, "writer", Edit{ClearPermissions: true})),
			"describe":             third(i.Update(ctx, "writer", Edit{Description: &text})),
			"delete":               second(i.Delete(ctx, "writer")),
			"assign":               third(i.Assign(ctx, "writer", eve, time.Time{})),
			"assign administrator": third(i.Assign(ctx, Administrator, eve, time.Time{})),
			"shorten":              third(i.Assign(ctx, "writer", ann, i.clock.Now().Add(time.Second))),
			"unassign":             second(i.Unassign(ctx, "writer", ann)),
			"unassign admin":       second(i.Unassign(ctx, Administrator, ann)),
			"by a narrowed key":    third(i.Assign(i.as(ann, "tollgate:roles:*"), "reader", eve, time.Time{})),
			"by nobody":            third(i.Assign(t.Context(), "reader", eve, time.Time{})),
		} {
			t.Run(what, func(t *testing.T) { refused(t, err, fault.Denied, "GRANT_EXCEEDS_OWN") })
		}
		if i.log.Revision() != before {
			t.Error("a refused grant changed something")
		}
		for what, err := range map[string]error{
			"create": third(i.Create(ctx, "new", "", []string{"orders:read"})),
			"assign": third(i.Assign(ctx, "reader", ann, time.Time{})),
			"edit":   third(i.Update(ctx, "reader", Edit{Permissions: []string{"tollgate:roles:read"}})),
		} {
			if err != nil {
				t.Errorf("%s within one's own: %v", what, err)
			}
		}
	})
}

func TestTheLastAdministratorStays(t *testing.T) {
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		i := start(t, db)
		ctx := i.system()
		ann, bob, cid := i.user("ann"), i.user("bob"), i.user("cid")
		i.assign(Administrator, ann)
		later := i.clock.Now().Add(time.Hour)
		keep := func(leaving string) error {
			return second(i.log.Write(ctx, func(ctx context.Context, tx *changes.Tx) error {
				return i.KeepAnAdministrator(ctx, tx, leaving)
			}))
		}
		last := func(err error) {
			t.Helper()
			refused(t, err, fault.Precondition, "LAST_ADMINISTRATOR")
		}
		last(second(i.Unassign(ctx, Administrator, ann)))
		last(third(i.Assign(ctx, Administrator, ann, later)))
		last(keep(ann))
		i.must(keep(cid)) // not an administrator

		_, _, err := i.Assign(ctx, Administrator, bob, later) // an end does not count
		i.must(err)
		last(keep(ann))
		i.assign(Administrator, bob)
		i.must(keep(ann))
		_, err = db.Exec(t.Context(), `UPDATE users SET disabled_at = 1 WHERE id = $1`, bob)
		i.must(err)
		last(keep(ann)) // nor does one who is disabled
		i.must(keep(bob))

		_, err = db.Exec(t.Context(), `UPDATE users SET disabled_at = NULL WHERE id = $1`, bob)
		i.must(err)
		i.must(second(i.Unassign(ctx, Administrator, ann)))
		last(second(i.Unassign(ctx, Administrator, bob)))
	})
}

// Two administrators who remove each other at once never both succeed, however
// they go about it.
func TestAdministratorsRemoveEachOther(t *testing.T) {
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		here := start(t, db)
		there := here.another()
		ann, bob := here.user("ann"), here.user("bob")
		end := here.clock.Now().Add(time.Hour)
		disable := func(i *instance, ctx context.Context, userID string) error {
			return second(i.log.Write(ctx, func(ctx context.Context, tx *changes.Tx) error {
				if err := i.KeepAnAdministrator(ctx, tx, userID); err != nil {
					return err
				}
				_, err := tx.Exec(ctx, `UPDATE users SET disabled_at = 1 WHERE id = $1`, userID)
				tx.Record(audit.New(ctx, audit.UserUpdate, audit.Success, "users/"+userID))
				tx.Changed(changes.User, userID)
				return err
			}))
		}
		ways := []func(i *instance, ctx context.Context, userID string) error{
			func(i *instance, ctx context.Context, userID string) error {
				return second(i.Unassign(ctx, Administrator, userID))
			},
			disable,
			func(i *instance, ctx context.Context, userID string) error {
				return third(i.Assign(ctx, Administrator, userID, end))
			},
		}
		for round := range 50 {
			_, err := db.Exec(t.Context(), `UPDATE users SET disabled_at = NULL`)
			here.must(err)
			here.assign(Administrator, ann)
			here.assign(Administrator, bob)
			here.must(there.log.Sync(t.Context()))
			byAnn, byBob := here.as(ann), there.as(bob)

			var errs [2]error
			var both sync.WaitGroup
			begin := make(chan struct{})
			both.Go(func() { <-begin; errs[0] = ways[round%len(ways)](here, byAnn, bob) })
			both.Go(func() { <-begin; errs[1] = ways[round/len(ways)%len(ways)](there, byBob, ann) })
			close(begin)
			both.Wait()

			var failed int
			for _, err := range errs {
				if err != nil {
					refused(t, err, fault.Precondition, "LAST_ADMINISTRATOR")
					failed++
				}
			}
			if failed != 1 {
				t.Fatalf("round %d: %v; want one of the two refused", round, errs)
			}
		}
	})
}

func TestEnsureBuiltinsTogether(t *testing.T) {
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		clock := world.NewClock(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))
		instances := make([]*instance, 10)
		errs := make([]error, len(instances))
		var all sync.WaitGroup
		for n := range instances {
			instances[n] = newInstance(t, db, clock)
			all.Go(func() { errs[n] = instances[n].EnsureBuiltins(t.Context()) })
		}
		all.Wait()
		for n, i := range instances {
			i.must(errs[n])
			i.must(i.log.Start(t.Context()))
			if got := i.Check(&caller.Principal{Roles: []string{Administrator}}, "x:y"); got != caller.ReasonOK {
				t.Errorf("on instance %d an administrator is told %s", n, got)
			}
		}
		i := instances[0]
		if n := i.count(`SELECT COUNT(*) FROM changes`); n != len(builtins) {
			t.Errorf("%d changes, want one for each of %d roles", n, len(builtins))
		}
		if n := i.count(`SELECT COUNT(*) FROM audit_events`); n != len(builtins) {
			t.Errorf("%d events, want one for each of %d roles", n, len(builtins))
		}
		for _, r := range builtins {
			got, err := i.Get(t.Context(), r.Name)
			i.must(err)
			if !got.Builtin || !slices.Equal(got.Permissions, r.Permissions) {
				t.Errorf("role %s is %+v", r.Name, got)
			}
		}
		_, err := db.Exec(t.Context(), `UPDATE roles SET permissions = '["*"]' WHERE name = $1`, Auditor)
		i.must(err)
		i.must(i.EnsureBuiltins(t.Context()))
		if got := i.Check(&caller.Principal{Roles: []string{Auditor}}, "x:y"); got != caller.ReasonPermissionMissing {
			t.Errorf("put right again, an auditor is told %s", got)
		}
	})
}
