package roles

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/audit"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/changes"
	"github.com/tollgatehq/tollgate/server/internal/clock"
	"github.com/tollgatehq/tollgate/server/internal/database"
	"github.com/tollgatehq/tollgate/server/internal/fault"
	"github.com/tollgatehq/tollgate/server/internal/fault/faulttest"
)

func TestMayGrant(t *testing.T) {
	t.Parallel()
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
			faulttest.Want(t, err, fault.Denied, "GRANT_EXCEEDS_OWN")
		}
	}
}

func clerk(scopes ...string) caller.Caller {
	return caller.Caller{Principal: &caller.Principal{Roles: []string{"clerk"}, Scopes: scopes}}
}

// A manager of roles who holds little gets no further by any path.
func TestGrantExceedsOwn(t *testing.T) {
	onDatabases(t, func(t *testing.T, i *instance) {
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
			"create":               faulttest.Err(i.Create(ctx, Role{Name: "new", Permissions: []string{"orders:read", "orders:write"}})),
			"create everything":    faulttest.Err(i.Create(ctx, Role{Name: "new", Permissions: []string{"*"}})),
			"edit up":              faulttest.Err(i.Update(ctx, "reader", Edit{Permissions: []string{"orders:*"}})),
			"edit own role up":     faulttest.Err(i.Update(ctx, "manager", Edit{Permissions: []string{"*"}})),
			"edit down":            faulttest.Err(i.Update(ctx, "writer", Edit{Permissions: []string{"orders:read"}})),
			"clear":                faulttest.Err(i.Update(ctx, "writer", Edit{ClearPermissions: true})),
			"describe":             faulttest.Err(i.Update(ctx, "writer", Edit{Description: &text})),
			"delete":               faulttest.Err(i.Delete(ctx, "writer")),
			"assign":               faulttest.Err(i.Assign(ctx, "writer", eve, time.Time{})),
			"assign administrator": faulttest.Err(i.Assign(ctx, Administrator, eve, time.Time{})),
			"shorten":              faulttest.Err(i.Assign(ctx, "writer", ann, i.clock.Now().Add(time.Second))),
			"unassign":             faulttest.Err(i.Unassign(ctx, "writer", ann)),
			"unassign admin":       faulttest.Err(i.Unassign(ctx, Administrator, ann)),
			"by a narrowed key":    faulttest.Err(i.Assign(i.as(ann, "tollgate:roles:*"), "reader", eve, time.Time{})),
			"by nobody":            faulttest.Err(i.Assign(t.Context(), "reader", eve, time.Time{})),
		} {
			t.Run(what, func(t *testing.T) { faulttest.Want(t, err, fault.Denied, "GRANT_EXCEEDS_OWN") })
		}
		backendtest.Equal(t, i.log.Revision(), before, "revision after refused grants")
		for what, err := range map[string]error{
			"create": faulttest.Err(i.Create(ctx, Role{Name: "new", Permissions: []string{"orders:read"}})),
			"assign": faulttest.Err(i.Assign(ctx, "reader", ann, time.Time{})),
			"edit":   faulttest.Err(i.Update(ctx, "reader", Edit{Permissions: []string{"tollgate:roles:read"}})),
		} {
			if err != nil {
				t.Errorf("%s within one's own: %v", what, err)
			}
		}
	})
}

func TestLastAdministrator(t *testing.T) {
	onDatabases(t, func(t *testing.T, i *instance) {
		ctx := i.system()
		ann, bob, cid := i.user("ann"), i.user("bob"), i.user("cid")
		i.assign(Administrator, ann)
		later := i.clock.Now().Add(time.Hour)
		keep := func(leaving string) error {
			return faulttest.Err(i.log.Write(ctx, func(ctx context.Context, tx *changes.Tx) error {
				return i.EnsureAdministratorRemains(ctx, tx, leaving)
			}))
		}
		last := func(err error) {
			t.Helper()
			faulttest.Want(t, err, fault.Precondition, "LAST_ADMINISTRATOR")
		}
		last(faulttest.Err(i.Unassign(ctx, Administrator, ann)))
		last(faulttest.Err(i.Assign(ctx, Administrator, ann, later)))
		last(keep(ann))
		i.must(keep(cid)) // not an administrator

		_, _, err := i.Assign(ctx, Administrator, bob, later) // an end does not count
		i.must(err)
		last(keep(ann))
		i.assign(Administrator, bob)
		i.must(keep(ann))
		i.must(faulttest.Err(i.db.Exec(t.Context(), `UPDATE users SET disabled_at = 1 WHERE id = $1`, bob)))
		last(keep(ann)) // nor does one who is disabled
		i.must(keep(bob))

		i.must(faulttest.Err(i.db.Exec(t.Context(), `UPDATE users SET disabled_at = NULL WHERE id = $1`, bob)))
		i.must(faulttest.Err(i.Unassign(ctx, Administrator, ann)))
		last(faulttest.Err(i.Unassign(ctx, Administrator, bob)))
	})
}

// TestLastAdministratorIsAPerson: the last administrator is a person who can sign
// in, so nobody is locked out by a machine that stays.
func TestLastAdministratorIsAPerson(t *testing.T) {
	onDatabases(t, func(t *testing.T, i *instance) {
		ann, robot, mute := i.user("ann"), i.user("robot"), i.user("mute")
		for id, change := range map[string]string{robot: `kind = 'service', password_hash = ''`, mute: `password_hash = ''`} {
			i.must(faulttest.Err(i.db.Exec(t.Context(), `UPDATE users SET `+change+` WHERE id = $1`, id)))
		}
		for _, id := range []string{ann, robot, mute} {
			i.assign(Administrator, id)
		}
		faulttest.Want(t, faulttest.Err(i.Unassign(i.system(), Administrator, ann)), fault.Precondition, "LAST_ADMINISTRATOR")
		faulttest.Want(t, faulttest.Err(i.Assign(i.system(), Administrator, ann, i.clock.Now().Add(time.Hour))), fault.Precondition, "LAST_ADMINISTRATOR")
		i.must(faulttest.Err(i.Unassign(i.system(), Administrator, robot)))
		i.must(faulttest.Err(i.Unassign(i.system(), Administrator, mute)))
		bob := i.user("bob")
		i.assign(Administrator, bob)
		i.must(faulttest.Err(i.Unassign(i.system(), Administrator, ann)))
	})
}

// TestGrantEndsWithItsGiver: nobody gives what they hold for longer than they
// hold it, by any path, themselves included.
func TestGrantEndsWithItsGiver(t *testing.T) {
	onDatabases(t, func(t *testing.T, i *instance) {
		i.role("manager", "tollgate:roles:*")
		i.role("clerk", "orders:read")
		i.role("twin", "orders:read")
		eve, ann := i.user("eve"), i.user("ann")
		end := i.clock.Now().Add(time.Hour)
		i.assign("manager", eve)
		i.must(faulttest.Err(i.Assign(i.system(), Administrator, eve, end)))
		i.must(faulttest.Err(i.Assign(i.system(), "clerk", eve, end.Add(-time.Minute))))
		ctx := i.as(eve)
		byKey := func(end time.Time) context.Context {
			p := i.principal(eve)
			p.APIKeyID, p.KeyExpiresAt = "a key", end
			return caller.With(t.Context(), caller.Caller{Principal: p})
		}
		for what, err := range map[string]error{
			"extend one's own":          faulttest.Err(i.Assign(ctx, Administrator, eve, time.Time{})),
			"extend a little":           faulttest.Err(i.Assign(ctx, Administrator, eve, end.Add(time.Microsecond))),
			"give for good":             faulttest.Err(i.Assign(ctx, "clerk", ann, time.Time{})),
			"give for longer":           faulttest.Err(i.Assign(ctx, "clerk", ann, end.Add(time.Second))),
			"put into one's own role":   faulttest.Err(i.Update(ctx, "manager", Edit{Permissions: []string{"*"}})),
			"put into another role":     faulttest.Err(i.Update(ctx, "twin", Edit{Permissions: []string{"orders:*"}})),
			"put into a new role":       faulttest.Err(i.Create(ctx, Role{Name: "new", Permissions: []string{"orders:read"}})),
			"by a key beyond its end":   faulttest.Err(i.Assign(byKey(end.Add(-time.Second)), "clerk", ann, end)),
			"by a key, nothing, beyond": faulttest.Err(i.Assign(byKey(end.Add(-time.Second)), "manager", ann, time.Time{})),
		} {
			t.Run(what, func(t *testing.T) {
				f := faulttest.Want(t, err, fault.Denied, "GRANT_EXCEEDS_OWN")
				if !strings.Contains(f.Message, "2026-01-02T04:0") {
					t.Errorf("told %q, without when it ends", f.Message)
				}
			})
		}
		for what, err := range map[string]error{
			"as long, by the longer role": faulttest.Err(i.Assign(ctx, "clerk", ann, end)),
			"shorten one's own":           faulttest.Err(i.Assign(ctx, Administrator, eve, end.Add(-time.Second))),
			"what is held for good":       faulttest.Err(i.Create(ctx, Role{Name: "new", Permissions: []string{"tollgate:roles:read"}})),
			"give what is held for good":  faulttest.Err(i.Assign(ctx, "manager", ann, time.Time{})),
			"narrow":                      faulttest.Err(i.Update(ctx, "twin", Edit{ClearPermissions: true})),
			"by a key within its end":     faulttest.Err(i.Assign(byKey(end), "twin", ann, end)),
			"take away":                   faulttest.Err(i.Unassign(ctx, "manager", ann)),
		} {
			if err != nil {
				t.Errorf("%s: %v", what, err)
			}
		}
		i.clock.Advance(2 * time.Hour)
		backendtest.Equal(t, i.rolesOf(ann)+i.rolesOf(eve), "manager", "after the end, roles of ann and eve")
	})
}

// TestMayGrantInReadsTheDatabase: an instance that has not heard yet that its caller
// was demoted or disabled gives nothing for them.
func TestMayGrantInReadsTheDatabase(t *testing.T) {
	t.Parallel()
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		here := start(t, db)
		here.role("clerk", "orders:read")
		eve, bob, ann := here.user("eve"), here.user("bob"), here.user("ann")
		for _, id := range []string{eve, bob, ann} {
			here.assign(Administrator, id)
		}
		there := here.another()
		ctx, other := there.as(eve), there.as(bob)
		here.must(faulttest.Err(here.Unassign(here.system(), Administrator, eve)))
		here.must(faulttest.Err(db.Exec(t.Context(), `UPDATE users SET disabled_at = 1 WHERE id = $1`, bob)))
		for _, ctx := range []context.Context{ctx, other} {
			faulttest.Want(t, faulttest.Err(there.Assign(ctx, "clerk", ann, time.Time{})), fault.Denied, "GRANT_EXCEEDS_OWN")
		}
	})
}

// TestCreateReservedName: services that look at a role's name, and roles that later
// versions bring, are not confused by a role that somebody made.
func TestCreateReservedName(t *testing.T) {
	t.Parallel()
	i := onSQLite(t)
	for _, name := range []string{"tollgate", "tollgate-admin", "tollgateadmin"} {
		faulttest.Want(t, faulttest.Err(i.Create(i.system(), Role{Name: name})), fault.Invalid, "INVALID_FIELD")
	}
	faulttest.Want(t, faulttest.Err(i.Create(i.system(), Role{Name: Administrator})), fault.Exists, "ROLE_EXISTS")
	i.role("my-tollgate")
}

// Two administrators who remove each other at once never both succeed, however
// they go about it.
func TestLastAdministratorConcurrently(t *testing.T) {
	t.Parallel()
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		here := start(t, db)
		there := here.another()
		ann, bob := here.user("ann"), here.user("bob")
		end := here.clock.Now().Add(time.Hour)
		disable := func(i *instance, ctx context.Context, userID string) error {
			return faulttest.Err(i.log.Write(ctx, func(ctx context.Context, tx *changes.Tx) error {
				if err := i.EnsureAdministratorRemains(ctx, tx, userID); err != nil {
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
				return faulttest.Err(i.Unassign(ctx, Administrator, userID))
			},
			disable,
			func(i *instance, ctx context.Context, userID string) error {
				return faulttest.Err(i.Assign(ctx, Administrator, userID, end))
			},
		}
		for round := range 50 {
			here.must(faulttest.Err(db.Exec(t.Context(), `UPDATE users SET disabled_at = NULL`)))
			here.assign(Administrator, ann)
			here.assign(Administrator, bob)
			here.must(there.log.Sync(t.Context()))
			// By the system: who was removed may not remove, which would hide
			// the count.
			byAnn, byBob := here.system(), there.system()

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
					faulttest.Want(t, err, fault.Precondition, "LAST_ADMINISTRATOR")
					failed++
				}
			}
			if failed != 1 {
				t.Fatalf("round %d: %v; want one of the two refused", round, errs)
			}
		}
	})
}

func TestEnsureBuiltinsConcurrently(t *testing.T) {
	t.Parallel()
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		fake := clock.NewFake(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))
		instances := make([]*instance, 10)
		errs := make([]error, len(instances))
		var all sync.WaitGroup
		for n := range instances {
			instances[n] = newInstance(t, db, fake)
			all.Go(func() { errs[n] = instances[n].EnsureBuiltins(t.Context()) })
		}
		all.Wait()
		for n, i := range instances {
			i.must(errs[n])
			i.must(i.log.Start(t.Context()))
			backendtest.Equal(t, i.Check(&caller.Principal{Roles: []string{Administrator}}, "x:y"), caller.ReasonOK, "an administrator on instance %d", n)
		}
		i := instances[0]
		backendtest.Equal(t, i.count(`SELECT COUNT(*) FROM changes`), len(builtins), "number of changes")
		backendtest.Equal(t, i.count(`SELECT COUNT(*) FROM audit_events`), len(builtins), "number of events")
		for _, r := range builtins {
			got, err := i.Get(t.Context(), r.Name)
			i.must(err)
			if !got.Builtin || !slices.Equal(got.Permissions, r.Permissions) {
				t.Errorf("role %s is %+v", r.Name, got)
			}
		}
		i.must(faulttest.Err(db.Exec(t.Context(), `UPDATE roles SET permissions = '["*"]' WHERE name = $1`, Auditor)))
		i.must(i.EnsureBuiltins(t.Context()))
		backendtest.Equal(t, i.Check(&caller.Principal{Roles: []string{Auditor}}, "x:y"), caller.ReasonPermissionMissing, "an auditor, after the permissions were written again")
	})
}
