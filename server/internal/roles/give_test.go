package roles

import (
	"context"
	"testing"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/changes"
	"github.com/tollgatehq/tollgate/server/internal/fault"
	"github.com/tollgatehq/tollgate/server/internal/fault/faulttest"
)

const (
	inOffice = `cidr("10.0.0.0/8").containsIP(ip)`
	byDay    = `now.getHours() >= 8 && now.getHours() < 18`
	ofOwner  = `resource.attributes.owner == principal.id`
)

func allowIf(pattern, condition string) Grant {
	return Grant{Permission: pattern, Condition: condition, Effect: Allow}
}

func denyIf(pattern, condition string) Grant {
	return Grant{Permission: pattern, Condition: condition, Effect: Deny}
}

// grants makes a role of grants alone.
func (i *instance) grants(name string, grants ...Grant) {
	i.t.Helper()
	i.must(faulttest.Err(i.Create(i.system(), Role{Name: name, Grants: grants})))
}

// eve is a manager of roles who holds what these grants give besides.
func (i *instance) eve(grants ...Grant) (string, context.Context) {
	i.t.Helper()
	i.role("manager", "tollgate:roles:*")
	i.grants("own", grants...)
	id := i.user("eve")
	i.assign("manager", id)
	i.assign("own", id)
	return id, i.as(id)
}

func wantExceeds(t *testing.T, what string, err error) {
	t.Helper()
	t.Run(what, func(t *testing.T) {
		t.Helper()
		faulttest.Want(t, err, fault.Denied, "GRANT_EXCEEDS_OWN")
	})
}

// TestGiveUnderConditions: what is held under a condition is given under no weaker
// one, and not at all when the condition is about who holds it.
func TestGiveUnderConditions(t *testing.T) {
	onDatabases(t, func(t *testing.T, i *instance) {
		_, ctx := i.eve(allowIf("a:*", inOffice), allowIf("b:read", ofOwner), allowIf("c:read", byDay), allowIf("c:read", inOffice))
		n := 0
		create := func(r Role) error {
			n++
			r.Name = "new" + string(rune('a'+n))
			return faulttest.Err(i.Create(ctx, r))
		}
		for what, g := range map[string]Grant{
			"without a condition":                  allowIf("a:read", ""),
			"under another condition":              allowIf("a:read", byDay),
			"under a wider condition":              allowIf("a:read", inOffice+` || `+byDay),
			"under its opposite":                   allowIf("a:read", `!(`+inOffice+`)`),
			"under half of it":                     allowIf("c:read", `now.getHours() < 18`),
			"a wider pattern":                      allowIf("*", inOffice),
			"about the principal":                  allowIf("b:read", ofOwner),
			"about the principal, narrower":        allowIf("b:read", ofOwner+` && `+inOffice),
			"a deny of what is held conditionally": denyIf("a:read", inOffice),
		} {
			wantExceeds(t, what, create(Role{Grants: []Grant{g}}))
		}
		wantExceeds(t, "as a permission", create(Role{Permissions: []string{"a:read"}}))
		for what, g := range map[string]Grant{
			"under the same":                   allowIf("a:read", inOffice),
			"under the same, written else":     allowIf("a:*", `cidr('10.0.0.0/8') . containsIP( ip )`),
			"under a narrower":                 allowIf("a:read", byDay+` && `+inOffice),
			"narrower, and about the receiver": allowIf("a:read", `principal.kind == "person" && `+inOffice),
			"under one of two":                 allowIf("c:read", byDay),
		} {
			if err := create(Role{Grants: []Grant{g}}); err != nil {
				t.Errorf("%s: %v", what, err)
			}
		}
	})
}

// TestDenies: who lacks something, or is denied it, neither denies it to others nor
// gives it back.
func TestDenies(t *testing.T) {
	onDatabases(t, func(t *testing.T, i *instance) {
		eve, ctx := i.eve(allowIf("a:*", ""), denyIf("a:secret:*", ""), denyIf("b:*", inOffice))
		ann := i.user("ann")
		i.grants("denies-a-read", denyIf("a:read", ""))
		i.grants("denies-secret", denyIf("a:secret:x", inOffice))
		i.grants("denies-all", denyIf("*", inOffice))
		for _, role := range []string{"denies-a-read", "denies-secret", "denies-all"} {
			i.assign(role, ann)
		}
		text := "x"
		for what, err := range map[string]error{
			"give what is denied":                faulttest.Err(i.Create(ctx, Role{Name: "new", Permissions: []string{"a:secret:x"}})),
			"give more than what is denied":      faulttest.Err(i.Create(ctx, Role{Name: "new", Permissions: []string{"a:*"}})),
			"give it under a condition":          faulttest.Err(i.Create(ctx, Role{Name: "new", Grants: []Grant{allowIf("a:*", byDay)}})),
			"deny what one is denied":            faulttest.Err(i.Create(ctx, Role{Name: "new", Grants: []Grant{denyIf("a:secret:x", "")}})),
			"deny what one lacks":                faulttest.Err(i.Create(ctx, Role{Name: "new", Grants: []Grant{denyIf("c:x", "")}})),
			"deny everything":                    faulttest.Err(i.Create(ctx, Role{Name: "new", Grants: []Grant{denyIf("*", "")}})),
			"remove a deny":                      faulttest.Err(i.Update(ctx, "denies-secret", Edit{ClearGrants: true})),
			"replace a deny":                     faulttest.Err(i.Update(ctx, "denies-secret", Edit{Grants: []Grant{denyIf("a:secret:x", "false")}})),
			"describe":                           faulttest.Err(i.Update(ctx, "denies-secret", Edit{Description: &text})),
			"delete":                             faulttest.Err(i.Delete(ctx, "denies-secret")),
			"unassign":                           faulttest.Err(i.Unassign(ctx, "denies-secret", ann)),
			"let it end":                         faulttest.Err(i.Assign(ctx, "denies-secret", ann, i.clock.Now().Add(time.Hour))),
			"assign":                             faulttest.Err(i.Assign(ctx, "denies-all", eve, time.Time{})),
			"unassign one's own":                 faulttest.Err(i.Unassign(ctx, "own", eve)),
			"change one's own":                   faulttest.Err(i.Update(ctx, "own", Edit{Grants: []Grant{allowIf("a:*", "")}})),
			"inherit it":                         faulttest.Err(i.Create(ctx, Role{Name: "new", Inherits: []string{"denies-secret"}})),
			"replace an inherited deny's holder": faulttest.Err(i.Update(ctx, "denies-all", Edit{Inherits: []string{"manager"}})),
		} {
			wantExceeds(t, what, err)
		}
		for what, err := range map[string]error{
			"give beside what is denied": faulttest.Err(i.Create(ctx, Role{Name: "new", Permissions: []string{"a:read"}})),
			"deny what one holds":        faulttest.Err(i.Create(ctx, Role{Name: "new2", Grants: []Grant{denyIf("a:write", "")}})),
			"assign a deny":              faulttest.Err(i.Assign(ctx, "denies-a-read", ann, time.Time{})),
			"remove a deny":              faulttest.Err(i.Update(ctx, "denies-a-read", Edit{ClearGrants: true})),
			"Tollgate's own":             faulttest.Err(i.Create(ctx, Role{Name: "new3", Permissions: []string{"tollgate:roles:*"}})),
		} {
			if err != nil {
				t.Errorf("%s: %v", what, err)
			}
		}
	})
}

// TestNobodyLocksThemselvesOut: who holds "*" takes back every deny, their own
// included.
func TestNobodyLocksThemselvesOut(t *testing.T) {
	onDatabases(t, func(t *testing.T, i *instance) {
		root := i.user("root")
		i.assign(Administrator, root)
		ctx := i.as(root)
		i.must(faulttest.Err(i.Create(ctx, Role{Name: "nothing", Grants: []Grant{denyIf("*", "")}})))
		i.must(faulttest.Err(i.Assign(ctx, "nothing", root, time.Time{})))
		backendtest.Equal(t, i.Check(i.principal(root), "a:read"), caller.ReasonDeniedByGrant, "a denied administrator")
		backendtest.Equal(t, i.Check(i.principal(root), "tollgate:roles:write"), caller.ReasonOK, "the same, of Tollgate's own")
		i.must(faulttest.Err(i.Update(ctx, "nothing", Edit{Grants: []Grant{denyIf("*", "true")}})))
		i.must(faulttest.Err(i.Unassign(i.as(root), "nothing", root)))
		backendtest.Equal(t, i.Check(i.principal(root), "a:read"), caller.ReasonOK, "after it was taken back")
		i.must(faulttest.Err(i.Delete(ctx, "nothing")))
	})
}

// TestDeniesTakeNoEnd: who holds something for a time does not take away what denies
// it, which would last for longer.
func TestDeniesTakeNoEnd(t *testing.T) {
	onDatabases(t, func(t *testing.T, i *instance) {
		eve, ctx := i.eve()
		ann := i.user("ann")
		i.role("reader", "a:read")
		end := i.clock.Now().Add(time.Hour)
		i.must(faulttest.Err(i.Assign(i.system(), "reader", eve, end)))
		i.must(faulttest.Err(i.Create(i.system(), Role{Name: "kept", Permissions: []string{"a:read"}, Grants: []Grant{denyIf("a:read", ""), denyIf("a:read", inOffice)}})))
		i.grants("turned", denyIf("a:read", ""))
		i.assign("kept", ann)
		for what, err := range map[string]error{
			"remove the denies": faulttest.Err(i.Update(ctx, "kept", Edit{ClearGrants: true})),
			"remove one":        faulttest.Err(i.Update(ctx, "kept", Edit{Grants: []Grant{denyIf("a:read", "")}})),
			"make it an allow":  faulttest.Err(i.Update(ctx, "turned", Edit{Permissions: []string{"a:read"}, ClearGrants: true})),
			"add an allow":      faulttest.Err(i.Update(ctx, "turned", Edit{Grants: []Grant{denyIf("a:read", "false"), allowIf("a:read", "")}})),
			"unassign":          faulttest.Err(i.Unassign(ctx, "kept", ann)),
			"shorten":           faulttest.Err(i.Assign(ctx, "kept", ann, end.Add(-time.Minute))),
			"delete":            faulttest.Err(i.Delete(ctx, "kept")),
			"put one":           faulttest.Err(i.Create(ctx, Role{Name: "new", Grants: []Grant{denyIf("a:read", "")}})),
		} {
			wantExceeds(t, what, err)
		}
		i.must(faulttest.Err(i.Assign(ctx, "reader", ann, end))) // for as long as it is held
	})
}

// TestFactsOfConditions: who changes what a condition reads of somebody holds what it
// guards.
func TestFactsOfConditions(t *testing.T) {
	onDatabases(t, func(t *testing.T, i *instance) {
		eve, ctx := i.eve(allowIf("b:read", `"tag" in principal.roles`), allowIf("c:read", inOffice))
		i.role("tag")
		i.role("other")
		i.grants("by-role", allowIf("a:read", `principal.roles.exists(r, r == "tag")`))
		i.grants("by-name", denyIf("a:read", `principal.username == "ann"`))
		i.grants("by-attribute", allowIf("c:read", `principal.attributes.level > 3`))
		i.role("reader", "a:read", "b:read", "c:read")
		ann, bob, cid := i.user("ann"), i.user("bob"), i.user("cid")
		i.assign("by-role", ann)
		i.assign("tag", ann)
		i.assign("by-name", bob)
		i.assign("by-attribute", bob)
		in := func(ctx context.Context, do func(context.Context, *changes.Tx) error) error {
			return faulttest.Err(i.log.Write(ctx, do))
		}
		rename := func(ctx context.Context, id string) error {
			return in(ctx, func(ctx context.Context, tx *changes.Tx) error { return i.MayRenameIn(ctx, tx, id) })
		}
		describe := func(ctx context.Context, id string) error {
			return in(ctx, func(ctx context.Context, tx *changes.Tx) error { return i.MayDescribeIn(ctx, tx, id) })
		}
		for what, err := range map[string]error{
			"assign to oneself":     faulttest.Err(i.Assign(ctx, "tag", eve, time.Time{})),
			"assign":                faulttest.Err(i.Assign(ctx, "other", ann, time.Time{})),
			"unassign":              faulttest.Err(i.Unassign(ctx, "tag", ann)),
			"delete the role":       faulttest.Err(i.Delete(ctx, "tag")),
			"rename":                rename(ctx, bob),
			"describe":              describe(ctx, bob),
			"rename, by no one":     rename(t.Context(), bob),
			"describe, by no one":   describe(t.Context(), cid),
			"assign, by a narrowed": faulttest.Err(i.Assign(i.as(eve, "tollgate:roles:*"), "tag", ann, time.Time{})),
		} {
			wantExceeds(t, what, err)
		}
		for what, err := range map[string]error{
			"assign to somebody else": faulttest.Err(i.Assign(ctx, "tag", cid, time.Time{})),
			"rename somebody else":    rename(ctx, ann),
			"describe somebody else":  describe(ctx, ann),
			"rename, by the system":   rename(i.system(), bob),
		} {
			if err != nil {
				t.Errorf("%s: %v", what, err)
			}
		}
		end := i.clock.Now().Add(time.Hour)
		i.must(faulttest.Err(i.Assign(i.system(), "reader", eve, end)))
		wantExceeds(t, "assign, by who holds it for a time", faulttest.Err(i.Assign(ctx, "other", ann, time.Time{})))
		wantExceeds(t, "describe, by who holds it for a time", describe(ctx, bob))
		i.assign("reader", eve)
		i.must(faulttest.Err(i.Assign(ctx, "other", ann, time.Time{})))
		i.must(rename(ctx, bob))
		i.must(describe(ctx, bob))
		i.must(faulttest.Err(i.Delete(ctx, "tag")))
	})
}

// TestKeepUnderConditions: scopes of one's own key may be what is held under a
// condition, or denied: the conditions and denies go on to hold.
func TestKeepUnderConditions(t *testing.T) {
	onDatabases(t, func(t *testing.T, i *instance) {
		eve, ctx := i.eve(allowIf("a:*", ofOwner), allowIf("b:*", ""), denyIf("b:x", inOffice))
		keep := func(ctx context.Context, patterns ...string) error {
			if err := i.MayKeep(ctx, patterns); err != nil {
				return err
			}
			return faulttest.Err(i.log.Write(ctx, func(ctx context.Context, tx *changes.Tx) error {
				return i.MayKeepIn(ctx, tx, patterns, time.Time{})
			}))
		}
		i.must(keep(ctx, "a:read", "b:*", "tollgate:roles:write"))
		wantExceeds(t, "what is not held", keep(ctx, "c:read"))
		wantExceeds(t, "a wider pattern", keep(ctx, "*"))
		wantExceeds(t, "beyond the scopes of the key that asks", keep(i.as(eve, "a:read"), "a:write"))
		wantExceeds(t, "for others, what is held under a condition", i.MayGrant(ctx, []string{"a:read"}))
		wantExceeds(t, "for others, what is denied", i.MayGrant(ctx, []string{"b:*"}))
	})
}
