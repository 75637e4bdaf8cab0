package roles

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/database"
	"github.com/tollgatehq/tollgate/server/internal/fault"
	"github.com/tollgatehq/tollgate/server/internal/fault/faulttest"
)

// heir makes a role that inherits others.
func (i *instance) heir(name string, from ...string) {
	i.t.Helper()
	i.must(faulttest.Err(i.Create(i.system(), Role{Name: name, Inherits: from})))
}

func TestInherit(t *testing.T) {
	onDatabases(t, func(t *testing.T, i *instance) {
		i.role("base", "a:read")
		i.heir("middle", "base")
		i.heir("top", "middle", "base", "middle")
		got, err := i.Get(t.Context(), "top")
		i.must(err)
		backendtest.Equal(t, got.Inherits, []string{"base", "middle"}, "inherits")
		backendtest.Equal(t, i.Check(&caller.Principal{Roles: []string{"top"}}, "a:read"), caller.ReasonOK, "by a role two levels up")

		set := func(name string, from ...string) error {
			return faulttest.Err(i.Update(i.system(), name, Edit{Inherits: from}))
		}
		for what, err := range map[string]error{
			"itself":           set("base", "base"),
			"its heir":         set("base", "middle"),
			"its heir's heir":  set("base", "top"),
			"a new one itself": faulttest.Err(i.Create(i.system(), Role{Name: "new", Inherits: []string{"new"}})),
		} {
			t.Run(what, func(t *testing.T) { faulttest.Want(t, err, fault.Precondition, "BAD_INHERITANCE") })
		}
		faulttest.Want(t, set("base", "ghost"), fault.NotFound, "ROLE_NOT_FOUND")
		faulttest.Want(t, set("base", "a\x00"), fault.NotFound, "ROLE_NOT_FOUND")
		faulttest.Want(t, faulttest.Err(i.Update(i.system(), "top", Edit{Inherits: []string{"base"}, ClearInherits: true})), fault.Invalid, "INVALID_FIELD")
		i.must(faulttest.Err(i.Update(i.system(), "top", Edit{ClearInherits: true})))
		backendtest.Equal(t, i.Check(&caller.Principal{Roles: []string{"top"}}, "a:read"), caller.ReasonPermissionMissing, "after it inherits nothing")
		i.must(set("base", "top")) // no circle any more

		backendtest.Equal(t, i.count(`SELECT COUNT(*) FROM audit_events WHERE action = 'role.update' AND details LIKE '%inherits_before%'`), 2, "events that tell what was inherited before")
	})
}

func TestInheritBounds(t *testing.T) {
	onDatabases(t, func(t *testing.T, i *instance) {
		line := func(n int) string { return fmt.Sprintf("line%02d", n) }
		i.role(line(1))
		for n := 2; n <= maxDeep; n++ {
			i.heir(line(n), line(n-1))
		}
		faulttest.Want(t, faulttest.Err(i.Create(i.system(), Role{Name: "one-more", Inherits: []string{line(maxDeep)}})), fault.Precondition, "BAD_INHERITANCE")
		i.role("below")
		// The line grows below as well, from a role in its middle on.
		f := faulttest.Want(t, faulttest.Err(i.Update(i.system(), line(1), Edit{Inherits: []string{"below"}})), fault.Precondition, "BAD_INHERITANCE")
		if !strings.Contains(f.Message, "16") || !strings.Contains(f.Message, "17") {
			t.Errorf("message is %q, without how deep it may be and would be", f.Message)
		}
		i.must(faulttest.Err(i.Update(i.system(), line(2), Edit{Inherits: []string{"below"}}))) // in place of line01

		var many []string
		for n := range maxInherits + 1 {
			many = append(many, fmt.Sprintf("many%02d", n))
			i.role(many[n])
		}
		f = faulttest.Want(t, faulttest.Err(i.Create(i.system(), Role{Name: "wide", Inherits: many})), fault.Invalid, "INVALID_FIELD")
		backendtest.Equal(t, strings.HasPrefix(f.Message, "inherits"), true, "the field of %q", f.Message)
		i.heir("wide", many[1:]...)
	})
}

func TestDeleteInherited(t *testing.T) {
	onDatabases(t, func(t *testing.T, i *instance) {
		i.role("base", "a:read")
		i.heir("heir", "base")
		f := faulttest.Want(t, faulttest.Err(i.Delete(i.system(), "base")), fault.Precondition, "ROLE_INHERITED")
		if !strings.Contains(f.Message, "heir") {
			t.Errorf("message is %q, without who inherits", f.Message)
		}
		i.must(faulttest.Err(i.Delete(i.system(), "heir")))
		i.must(faulttest.Err(i.Delete(i.system(), "base")))
	})
}

// atOnce runs two calls at once and returns how they ended.
func atOnce(one, other func() error) (first, second error) {
	var done sync.WaitGroup
	begin := make(chan struct{})
	done.Go(func() { <-begin; first = one() })
	done.Go(func() { <-begin; second = other() })
	close(begin)
	done.Wait()
	return first, second
}

// TestCircleConcurrently: two who together would make a circle do not both succeed.
func TestCircleConcurrently(t *testing.T) {
	t.Parallel()
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		here := start(t, db)
		there := here.another()
		for round := range 40 {
			w, x := fmt.Sprintf("w%d", round), fmt.Sprintf("x%d", round)
			y, z := fmt.Sprintf("y%d", round), fmt.Sprintf("z%d", round)
			here.role(y)
			here.heir(x, y)
			here.role(w)
			here.heir(z, w)
			// w, x, y, z and w again: neither touches a role that the other does.
			first, second := atOnce(
				func() error { return faulttest.Err(here.Update(here.system(), w, Edit{Inherits: []string{x}})) },
				func() error { return faulttest.Err(there.Update(there.system(), y, Edit{Inherits: []string{z}})) },
			)
			if (first == nil) == (second == nil) {
				t.Fatalf("round %d: %v and %v; want one of the two refused", round, first, second)
			}
			faulttest.Want(t, errors.Join(first, second), fault.Precondition, "BAD_INHERITANCE")
		}
	})
}

// TestDeleteInheritedConcurrently: no role goes while another comes that inherits it.
func TestDeleteInheritedConcurrently(t *testing.T) {
	t.Parallel()
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		here := start(t, db)
		there := here.another()
		for round := range 40 {
			base, heir := fmt.Sprintf("base%d", round), fmt.Sprintf("heir%d", round)
			here.role(base)
			here.role(heir)
			inherit := func() error { return faulttest.Err(there.Update(there.system(), heir, Edit{Inherits: []string{base}})) }
			if round%2 == 0 {
				inherit = func() error {
					return faulttest.Err(there.Create(there.system(), Role{Name: heir + "-new", Inherits: []string{base}}))
				}
			}
			gone, inherited := atOnce(func() error { return faulttest.Err(here.Delete(here.system(), base)) }, inherit)
			switch {
			case gone == nil:
				faulttest.Want(t, inherited, fault.NotFound, "ROLE_NOT_FOUND")
			case inherited == nil:
				faulttest.Want(t, gone, fault.Precondition, "ROLE_INHERITED")
			default:
				t.Fatalf("round %d: %v and %v; want one to succeed", round, gone, inherited)
			}
		}
	})
}

// TestInheritedChangesReachHeirs: what changes below is in force above, on other
// instances as well.
func TestInheritedChangesReachHeirs(t *testing.T) {
	t.Parallel()
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		here := start(t, db)
		there := here.another()
		here.role("base", "a:read")
		here.heir("middle", "base")
		here.heir("top", "middle")
		who := &caller.Principal{Roles: []string{"top"}}
		for _, step := range []struct {
			what string
			edit Edit
			want caller.Reason
		}{
			{"a description", Edit{Description: new("x")}, caller.ReasonOK},
			{"a deny", Edit{Grants: []Grant{denyIf("a:*", "")}}, caller.ReasonDeniedByGrant},
			{"a condition", Edit{Grants: []Grant{denyIf("a:*", "false")}}, caller.ReasonOK},
			{"no permissions", Edit{ClearPermissions: true}, caller.ReasonPermissionMissing},
			{"a condition that is false", Edit{Grants: []Grant{allowIf("a:*", "false")}}, caller.ReasonConditionFalse},
			{"a grant without a condition", Edit{Grants: []Grant{allowIf("a:*", "")}}, caller.ReasonOK},
		} {
			here.must(faulttest.Err(here.Update(here.system(), "base", step.edit)))
			here.must(there.log.Sync(t.Context()))
			for _, i := range []*instance{here, there} {
				v, err := i.Judge(who, "a:read", (&facts{}).asInput())
				here.must(err)
				backendtest.Equal(t, v.Reason, step.want, "after %s", step.what)
			}
		}
		here.must(faulttest.Err(here.Update(here.system(), "middle", Edit{ClearInherits: true})))
		here.must(there.log.Sync(t.Context()))
		backendtest.Equal(t, there.Check(who, "a:read"), caller.ReasonPermissionMissing, "cut off in the middle")
	})
}

// TestInheritExceedsOwn: a role gives what it inherits, to who makes it, changes it,
// removes it or gives it to somebody.
func TestInheritExceedsOwn(t *testing.T) {
	onDatabases(t, func(t *testing.T, i *instance) {
		eve, ctx := i.eve(allowIf("a:read", ""), allowIf("b:read", inOffice))
		ann := i.user("ann")
		i.role("reader", "a:read")
		i.role("writer", "a:read", "a:write")
		i.grants("indoors", allowIf("b:read", inOffice))
		i.heir("heir", "writer")
		i.heir("heir-of-heir", "heir")
		i.role("mine", "a:read")
		i.must(faulttest.Err(i.Create(ctx, Role{Name: "within", Inherits: []string{"reader", "indoors"}})))
		i.must(faulttest.Err(i.Update(ctx, "mine", Edit{Inherits: []string{"within"}})))
		i.must(faulttest.Err(i.Assign(ctx, "mine", ann, time.Time{})))
		for what, err := range map[string]error{
			"create":                     faulttest.Err(i.Create(ctx, Role{Name: "new", Inherits: []string{"writer"}})),
			"create, two levels":         faulttest.Err(i.Create(ctx, Role{Name: "new", Inherits: []string{"heir-of-heir"}})),
			"create, of everything":      faulttest.Err(i.Create(ctx, Role{Name: "new", Inherits: []string{Administrator}})),
			"update one's own":           faulttest.Err(i.Update(ctx, "manager", Edit{Inherits: []string{"writer"}})),
			"update, two levels":         faulttest.Err(i.Update(ctx, "mine", Edit{Inherits: []string{"heir"}})),
			"assign":                     faulttest.Err(i.Assign(ctx, "heir-of-heir", eve, time.Time{})),
			"change what inherits more":  faulttest.Err(i.Update(ctx, "heir", Edit{ClearInherits: true})),
			"delete what inherits more":  faulttest.Err(i.Delete(ctx, "heir-of-heir")),
			"put into what is inherited": faulttest.Err(i.Update(ctx, "reader", Edit{Permissions: []string{"a:read", "a:write"}})),
		} {
			wantExceeds(t, what, err)
		}
	})
}
