package roles

import (
	"slices"
	"testing"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/database"
	"github.com/tollgatehq/tollgate/server/internal/fault"
	"github.com/tollgatehq/tollgate/server/internal/fault/faulttest"
)

// onSQLite is for tests that any database serves.
func onSQLite(t testing.TB) *instance {
	t.Helper()
	return start(t, backendtest.SQLite(t))
}

func TestCheck(t *testing.T) {
	t.Parallel()
	i := onSQLite(t)
	i.role("clerk", "orders:*", "stock:read")
	i.role("empty")
	for _, c := range []struct {
		what       string
		p          *caller.Principal
		permission string
		want       caller.Reason
	}{
		{"nobody", nil, "orders:read", caller.ReasonPermissionMissing},
		{"no roles", &caller.Principal{}, "orders:read", caller.ReasonPermissionMissing},
		{"a role that is gone", &caller.Principal{Roles: []string{"ghost"}}, "orders:read", caller.ReasonPermissionMissing},
		{"a role without permissions", &caller.Principal{Roles: []string{"empty"}}, "orders:read", caller.ReasonPermissionMissing},
		{"a wildcard", &caller.Principal{Roles: []string{"empty", "clerk"}}, "orders:items:read", caller.ReasonOK},
		{"exact", &caller.Principal{Roles: []string{"clerk"}}, "stock:read", caller.ReasonOK},
		{"another", &caller.Principal{Roles: []string{"clerk"}}, "stock:write", caller.ReasonPermissionMissing},
		{"everything", &caller.Principal{Roles: []string{Administrator}}, "stock:write", caller.ReasonOK},
		{"everything, but not a permission", &caller.Principal{Roles: []string{Administrator}}, "stock:*", caller.ReasonPermissionMissing},
		{"a prefix, but not a permission", &caller.Principal{Roles: []string{"clerk"}}, "orders:", caller.ReasonPermissionMissing},
		{"empty", &caller.Principal{Roles: []string{Administrator}}, "", caller.ReasonPermissionMissing},
		{"in scope", &caller.Principal{Roles: []string{"clerk"}, Scopes: []string{"stock:*"}}, "stock:read", caller.ReasonOK},
		{"out of scope", &caller.Principal{Roles: []string{"clerk"}, Scopes: []string{"stock:*"}}, "orders:read", caller.ReasonScopeMissing},
		{"in scope only", &caller.Principal{Roles: []string{"clerk"}, Scopes: []string{"stock:*"}}, "stock:write", caller.ReasonPermissionMissing},
		{"a scope that is not a pattern", &caller.Principal{Roles: []string{"clerk"}, Scopes: []string{"", "ord*"}}, "orders:read", caller.ReasonScopeMissing},
	} {
		backendtest.Equal(t, i.Check(c.p, c.permission), c.want, "%s: %q", c.what, c.permission)
	}
}

func TestCheckBeforeStart(t *testing.T) {
	t.Parallel()
	i := onSQLite(t)
	early := newInstance(t, i.db, i.clock)
	backendtest.Equal(t, early.Check(&caller.Principal{Roles: []string{Administrator}}, "orders:read"), caller.ReasonPermissionMissing, "an instance that has read no roles")
}

func TestPatterns(t *testing.T) {
	t.Parallel()
	i := onSQLite(t)
	i.role("clerk", "orders:*", "stock:read")
	i.role("helper", "stock:read", "shelf:open")
	ann := i.user("ann")
	i.assign("clerk", ann)
	i.assign("helper", ann)
	all := []string{"orders:*", "shelf:open", "stock:read"}
	backendtest.Equal(t, i.Patterns(i.principal(ann)), all, "patterns")
	if got, want := i.Patterns(i.principal(ann, "orders:read", "stock:*", "other")), []string{"orders:read", "stock:read"}; !slices.Equal(got, want) {
		t.Errorf("narrowed, patterns are %q, want %q", got, want)
	}
	if got := i.Patterns(nil); len(got) != 0 {
		t.Errorf("nobody has %q", got)
	}
}

func TestRolesOfAfterTheirEnd(t *testing.T) {
	onDatabases(t, func(t *testing.T, i *instance) {
		for _, name := range []string{"a", "b", "c"} {
			i.role(name, "x:"+name)
		}
		ann := i.user("ann")
		i.assign("a", ann)
		i.assign("c", ann)
		end := i.clock.Now().Add(time.Hour)
		i.must(faulttest.Err(i.Assign(i.system(), "b", ann, end)))
		backendtest.Equal(t, i.rolesOf(ann), "a b c", "roles")
		i.clock.Advance(time.Hour - time.Microsecond)
		backendtest.Equal(t, i.rolesOf(ann), "a b c", "just before the end, roles")
		i.clock.Advance(time.Microsecond)
		backendtest.Equal(t, i.rolesOf(ann), "a c", "at the end, roles")
		if list, _, err := i.Members(t.Context(), "b", 0, ""); err != nil || len(list) != 0 {
			t.Errorf("at the end, members are %v, %v", list, err)
		}
		faulttest.Want(t, faulttest.Err(i.Unassign(i.system(), "b", ann)), fault.NotFound, "ROLE_NOT_ASSIGNED")
		m, _, err := i.Assign(i.system(), "b", ann, time.Time{})
		i.must(err)
		if !m.AssignedAt.Equal(i.clock.Now()) {
			t.Errorf("given again after its end, it began at %v", m.AssignedAt)
		}
		backendtest.Equal(t, i.rolesOf(ann), "a b c", "given again, roles")
		i.must(faulttest.Err(i.Delete(i.system(), "c")))
		backendtest.Equal(t, i.rolesOf(ann), "a b", "after the role is gone, roles")
		i.role("c", "x:c")
		backendtest.Equal(t, i.rolesOf(ann), "a b", "a new role of a removed one's name: roles")
		backendtest.Equal(t, i.rolesOf(i.user("bob")), "", "roles of another user")
	})
}

// A write is in force when it has returned, here and, after one look at the
// log, everywhere.
func TestWritesAreInForceAtOnce(t *testing.T) {
	t.Parallel()
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		here := start(t, db)
		there := here.another()
		ann := here.user("ann")
		here.role("clerk", "orders:read")
		for _, step := range []struct {
			what  string
			write func() error
			want  caller.Reason
		}{
			{"assign", func() error { return faulttest.Err(here.Assign(here.system(), "clerk", ann, time.Time{})) }, caller.ReasonOK},
			{"edit", func() error {
				return faulttest.Err(here.Update(here.system(), "clerk", Edit{ClearPermissions: true}))
			}, caller.ReasonPermissionMissing},
			{"edit back", func() error {
				return faulttest.Err(here.Update(here.system(), "clerk", Edit{Permissions: []string{"orders:*"}}))
			}, caller.ReasonOK},
			{"unassign", func() error { return faulttest.Err(here.Unassign(here.system(), "clerk", ann)) }, caller.ReasonPermissionMissing},
			{"assign again", func() error { return faulttest.Err(here.Assign(here.system(), "clerk", ann, time.Time{})) }, caller.ReasonOK},
			{"delete", func() error { return faulttest.Err(here.Delete(here.system(), "clerk")) }, caller.ReasonPermissionMissing},
			{"create again", func() error {
				return faulttest.Err(here.Create(here.system(), Role{Name: "clerk", Permissions: []string{"orders:read"}}))
			}, caller.ReasonPermissionMissing},
		} {
			here.must(step.write())
			backendtest.Equal(t, here.Check(here.principal(ann), "orders:read"), step.want, "after %s here", step.what)
			here.must(there.log.Sync(t.Context()))
			backendtest.Equal(t, there.Check(there.principal(ann), "orders:read"), step.want, "after %s there", step.what)
		}
	})
}

// What happened between two looks at the log is taken in as a whole.
func TestApplyManyChanges(t *testing.T) {
	t.Parallel()
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		here := start(t, db)
		here.role("clerk", "orders:read")
		ann := here.user("ann")
		here.assign("clerk", ann)
		there := here.another()
		if got := there.Check(there.principal(ann), "orders:read"); got != caller.ReasonOK {
			t.Fatalf("at first: %s", got)
		}
		here.must(faulttest.Err(here.Delete(here.system(), "clerk")))
		here.role("clerk", "orders:read")
		for n := range reloadAll + 1 {
			here.role("r"+string(rune('a'+n/26))+string(rune('a'+n%26)), "r:x")
		}
		here.must(there.log.Sync(t.Context()))
		backendtest.Equal(t, there.Check(there.principal(ann), "orders:read"), caller.ReasonPermissionMissing, "a member of a removed role whose name is taken again")
		backendtest.Equal(t, len(there.policy.Load().roles), 3+1+reloadAll+1, "number of roles there")
	})
}

func TestCheckDoesNotAllocate(t *testing.T) {
	i, principals := checked(t)
	for what, p := range principals {
		backendtest.Equal(t, testing.AllocsPerRun(100, func() { i.Check(p, "orders:items:read") }), 0, "%s allocations", what)
	}
	ann := i.user("ann")
	i.assign("clerk", ann)
	i.rolesOf(ann)
	if n := testing.AllocsPerRun(100, func() { _, _ = i.RolesOf(t.Context(), ann) }); n > 2 {
		t.Errorf("the roles of a known user: %v allocations", n)
	}
}

func BenchmarkCheck(b *testing.B) {
	i, principals := checked(b)
	for what, p := range principals {
		b.Run(what, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				i.Check(p, "orders:items:read")
			}
		})
	}
}

func checked(t testing.TB) (*instance, map[string]*caller.Principal) {
	i := onSQLite(t)
	i.role("clerk", "orders:*", "stock:read")
	var scopes []string
	for n := range 99 {
		scopes = append(scopes, "scope:"+string(rune('a'+n%26)))
	}
	return i, map[string]*caller.Principal{
		"wildcard": {Roles: []string{Auditor, "clerk", ServiceRole}},
		"denied":   {Roles: []string{Auditor, ServiceRole}},
		"scoped":   {Roles: []string{"clerk"}, Scopes: append(scopes, "orders:*")},
	}
}
