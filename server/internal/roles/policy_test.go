package roles

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
	"github.com/tollgatehq/tollgate/internal/condition"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/clock"
	"github.com/tollgatehq/tollgate/server/internal/database"
	"github.com/tollgatehq/tollgate/server/internal/fault"
	"github.com/tollgatehq/tollgate/server/internal/fault/faulttest"
)

func TestGrantsLifecycle(t *testing.T) {
	onDatabases(t, func(t *testing.T, i *instance) {
		h, ctx := NewHandler(i.Service), i.system()
		grants := []*tollgatev1.Grant{
			{Permission: "a:*", Condition: inOffice, Description: `"<b>&`},
			{Permission: "a:secret", Effect: tollgatev1.Effect_EFFECT_DENY},
		}
		i.role("base")
		created, err := h.CreateRole(ctx, &tollgatev1.CreateRoleRequest{Name: "clerk", Grants: grants, Inherits: []string{"base"}})
		i.must(err)
		got, err := h.GetRole(ctx, &tollgatev1.GetRoleRequest{Name: "clerk"})
		i.must(err)
		backendtest.Equal(t, got.GetRole().String(), created.GetRole().String(), "read after it was created")
		backendtest.Equal(t, len(got.GetRole().GetGrants()), 2, "grants")
		backendtest.Equal(t, got.GetRole().GetGrants()[0].GetEffect(), tollgatev1.Effect_EFFECT_ALLOW, "the effect that was not given")

		text := "x"
		updated, err := h.UpdateRole(ctx, &tollgatev1.UpdateRoleRequest{Name: "clerk", Description: &text})
		i.must(err)
		backendtest.Equal(t, len(updated.GetRole().GetGrants())+len(updated.GetRole().GetInherits()), 3, "grants and heirs after another edit")
		updated, err = h.UpdateRole(ctx, &tollgatev1.UpdateRoleRequest{Name: "clerk", ClearGrants: true, ClearInherits: true})
		i.must(err)
		backendtest.Equal(t, len(updated.GetRole().GetGrants())+len(updated.GetRole().GetInherits()), 0, "grants and heirs after clearing")
		for details, want := range map[string]int{
			`%grants_before%secret%`: 1, `%inherits_before%base%`: 1, `%"<b>&%`: 0,
		} {
			backendtest.Equal(t, i.count(`SELECT COUNT(*) FROM audit_events WHERE details LIKE $1`, details), want, "events with %s", details)
		}
	})
}

func TestGrantsRefused(t *testing.T) {
	onDatabases(t, func(t *testing.T, i *instance) {
		i.Declare(Declared{Permissions: []string{"tollgate:users:read", "tollgate:users:write"}})
		before := i.log.Revision()
		ok := allowIf("a:read", "")
		many := make([]Grant, maxGrants+1)
		for n := range many {
			many[n] = allowIf(fmt.Sprintf("a:n%d", n), "")
		}
		large := make([]Grant, 17)
		for n := range large {
			large[n] = allowIf("a:read", `resource.id == "`+strings.Repeat("x", condition.MaxSize-20)+fmt.Sprintf("%02d", n)+`"`)
		}
		for _, c := range []struct {
			what        string
			grants      []Grant
			field, says string
		}{
			{"an unknown name, on its line", []Grant{ok, allowIf("a:read", "true &&\n  subject.id == \"x\"")}, "grants[1].condition", "line 2, column 3: undeclared reference to 'subject'; known are principal.id"},
			{"unfinished", []Grant{allowIf("a:read", "principal.id ==")}, "grants[0].condition", "line 1, column 16"},
			{"of another type", []Grant{denyIf("a:read", "principal.id")}, "grants[0].condition", "must say true or false"},
			{"of a mixed type", []Grant{allowIf("a:read", "principal.id == 3")}, "grants[0].condition", "line 1, column 14"},
			{"too long", []Grant{allowIf("a:read", strings.Repeat(" ", condition.MaxSize)+"true")}, "grants[0].condition", "4096"},
			{"too costly", []Grant{allowIf("a:read", `principal.roles.exists(a, principal.roles.exists(b, principal.roles.exists(c, a + b == c)))`)}, "grants[0].condition", "may cost"},
			{"a bad pattern", []Grant{ok, ok, allowIf("a:*:b", "")}, "grants[2].permission", "last segment"},
			{"an unknown permission of Tollgate's", []Grant{allowIf("tollgate:user:read", "")}, "grants[0].permission", `did you mean "tollgate:users:read"`},
			{"a deny of Tollgate's", []Grant{denyIf("tollgate:users:read", "")}, "grants[0].permission", "must not deny"},
			{"a deny of all of Tollgate's", []Grant{denyIf("tollgate:*", "")}, "grants[0].permission", "must not deny"},
			{"no effect", []Grant{{Permission: "a:read"}}, "grants[0].effect", "EFFECT_ALLOW"},
			{"another effect", []Grant{{Permission: "a:read", Effect: "DENY"}}, "grants[0].effect", "EFFECT_DENY"},
			{"a description with NUL", []Grant{{Permission: "a:read", Effect: Allow, Description: "a\x00"}}, "grants[0].description", "NUL"},
			{"a long description", []Grant{{Permission: "a:read", Effect: Allow, Description: strings.Repeat("x", 4*maxDescription+1)}}, "grants[0].description", "512"},
			{"too many", many, "grants", "at most 100"},
			{"too large", large, "grants", "65536"},
		} {
			t.Run(c.what, func(t *testing.T) {
				f := faulttest.Want(t, faulttest.Err(i.Create(i.system(), Role{Name: "new", Grants: c.grants})), fault.Invalid, "INVALID_FIELD")
				if len(f.Violations) != 1 || f.Violations[0].Field != c.field || !strings.Contains(f.Violations[0].Message, c.says) {
					t.Errorf("violations are %+v, want %s with %q", f.Violations, c.field, c.says)
				}
			})
		}
		backendtest.Equal(t, i.log.Revision(), before, "revision after what was refused")
		i.must(faulttest.Err(i.Create(i.system(), Role{Name: "new", Grants: many[1:]})))
		i.must(faulttest.Err(i.Update(i.system(), "new", Edit{Grants: large[1:]})))
		f := faulttest.Want(t, faulttest.Err(i.Update(i.system(), "new", Edit{Grants: []Grant{allowIf("a:read", "x")}})), fault.Invalid, "INVALID_FIELD")
		backendtest.Equal(t, f.Violations[0].Field, "grants[0].condition", "the field in an update")
	})
}

func TestJudge(t *testing.T) {
	t.Parallel()
	p := NewPolicy([]Role{
		{Name: "all", Permissions: []string{"*"}},
		{Name: "reader", Permissions: []string{"a:read"}},
		{Name: "office", Grants: []Grant{allowIf("a:*", inOffice), allowIf("a:write", byDay)}},
		{Name: "owner", Grants: []Grant{allowIf("a:read", ofOwner)}},
		{Name: "no-write", Grants: []Grant{denyIf("a:write", "")}},
		{Name: "not-outside", Grants: []Grant{denyIf("*", `!`+inOffice)}},
		{Name: "heir", Inherits: []string{"reader", "no-write"}},
		{Name: "mixed", Permissions: []string{"b:*"}, Inherits: []string{"heir"}},
		{Name: "deny-own", Grants: []Grant{denyIf("tollgate:*", ""), denyIf("*", "")}},
		{Name: "bad-allow", Permissions: []string{"b:x"}, Grants: []Grant{allowIf("*", "no.such")}},
		{Name: "bad-deny", Grants: []Grant{denyIf("a:*", "no.such")}},
		{Name: "round", Inherits: []string{"trip"}}, {Name: "trip", Permissions: []string{"c:x"}, Inherits: []string{"round", "ghost"}},
	})
	inside := &condition.Input{IP: netip.MustParseAddr("10.1.2.3"), Now: time.Date(2026, 11, 30, 10, 0, 0, 0, time.UTC)}
	outside := &condition.Input{IP: netip.MustParseAddr("192.0.2.1"), Now: time.Date(2026, 11, 30, 22, 0, 0, 0, time.UTC)}
	unknown := &condition.Input{Now: inside.Now}
	for _, c := range []struct {
		roles, permission string
		in                *condition.Input
		want              caller.Reason
		by                string
	}{
		{"reader", "a:read", outside, caller.ReasonOK, "reader"},
		{"office", "a:read", inside, caller.ReasonOK, "office: allow a:* if " + inOffice},
		{"office", "a:read", outside, caller.ReasonConditionFalse, "office: allow a:* if " + inOffice},
		{"office", "a:read", unknown, caller.ReasonConditionFailed, "office: allow a:* if " + inOffice},
		{"office", "a:write", unknown, caller.ReasonOK, "office: allow a:write if " + byDay},
		{"office", "b:read", inside, caller.ReasonPermissionMissing, ""},
		{"office", "a:*", inside, caller.ReasonPermissionMissing, ""},
		{"owner office", "a:read", inside, caller.ReasonOK, "office: allow a:* if " + inOffice},
		{"owner office", "a:read", outside, caller.ReasonConditionFailed, "owner: allow a:read if " + ofOwner},
		{"owner reader", "a:read", outside, caller.ReasonOK, "reader"},
		{"all no-write", "a:write", inside, caller.ReasonDeniedByGrant, "no-write: deny a:write"},
		{"no-write all", "a:write", inside, caller.ReasonDeniedByGrant, "no-write: deny a:write"},
		{"all no-write", "a:read", inside, caller.ReasonOK, "all"},
		{"all not-outside", "a:read", inside, caller.ReasonOK, "all"},
		{"all not-outside", "a:read", outside, caller.ReasonDeniedByGrant, "not-outside: deny * if !" + inOffice},
		{"all not-outside", "a:read", unknown, caller.ReasonConditionFailed, "not-outside: deny * if !" + inOffice},
		{"all not-outside deny-own", "tollgate:roles:write", outside, caller.ReasonOK, "all"},
		{"all deny-own", "tollgate", outside, caller.ReasonDeniedByGrant, "deny-own: deny *"},
		{"heir", "a:read", inside, caller.ReasonOK, "heir"},
		{"heir all", "a:write", inside, caller.ReasonDeniedByGrant, "no-write: deny a:write"},
		{"mixed all", "a:write", inside, caller.ReasonDeniedByGrant, "no-write: deny a:write"},
		{"mixed", "b:x", inside, caller.ReasonOK, "mixed"},
		{"bad-allow", "a:read", inside, caller.ReasonConditionFailed, "bad-allow: allow * if no.such"},
		{"bad-allow", "b:x", inside, caller.ReasonOK, "bad-allow"},
		{"bad-allow reader", "a:read", inside, caller.ReasonOK, "reader"},
		{"all bad-deny", "a:read", inside, caller.ReasonConditionFailed, "bad-deny: deny a:* if no.such"},
		{"all bad-deny", "b:read", inside, caller.ReasonOK, "all"},
		{"round", "c:x", inside, caller.ReasonOK, "round"},
		{"ghost", "c:x", inside, caller.ReasonPermissionMissing, ""},
	} {
		for _, scope := range []string{"", "*", "z:*"} {
			who := &caller.Principal{Roles: strings.Fields(c.roles)}
			want := c.want
			if scope != "" {
				who.Scopes = []string{scope}
			}
			if scope == "z:*" && want == caller.ReasonOK {
				want = caller.ReasonScopeMissing
			}
			v, err := p.Judge(who, c.permission, func(*condition.Condition) (*condition.Input, error) { return c.in, nil })
			backendtest.Must(t, err)
			by := v.String()
			if by == "" {
				by = v.Role
			}
			if v.Reason != want || by != c.by {
				t.Errorf("%s, %s, scope %q: %s by %q, want %s by %q", c.roles, c.permission, scope, v.Reason, by, want, c.by)
			}
		}
	}
}

// TestJudgeReadsOnlyWhatItNeeds: what conditions read is made when one does, and what
// cannot be read is an error, which is no verdict.
func TestJudgeReadsOnlyWhatItNeeds(t *testing.T) {
	t.Parallel()
	p := NewPolicy([]Role{
		{Name: "reader", Permissions: []string{"a:read"}, Grants: []Grant{allowIf("a:read", inOffice), denyIf("b:*", inOffice), denyIf("c:*", "")}},
	})
	down := errors.New("down")
	fails := func(*condition.Condition) (*condition.Input, error) { return nil, down }
	who := &caller.Principal{Roles: []string{"reader"}}
	for permission, want := range map[string]caller.Reason{
		"a:read": caller.ReasonOK, "c:x": caller.ReasonDeniedByGrant, "d:x": caller.ReasonPermissionMissing, "b:*": caller.ReasonPermissionMissing,
	} {
		v, err := p.Judge(who, permission, fails)
		backendtest.Must(t, err)
		backendtest.Equal(t, v.Reason, want, "%s", permission)
	}
	if v, err := p.Judge(who, "b:x", fails); !errors.Is(err, down) || v.Reason != "" {
		t.Errorf("with nothing to read: %+v, %v", v, err)
	}
}

func TestVerdictIsShort(t *testing.T) {
	t.Parallel()
	v := Verdict{Role: "r", Grant: &Grant{Permission: "a", Effect: Deny, Condition: strings.Repeat("ü", 1000)}}
	if text := v.String(); len(text) > maxVerdict+len("…") || !strings.HasSuffix(text, "ü…") {
		t.Errorf("%d bytes: %s", len(text), text)
	}
}

// TestUpgradeToGrants: roles of the version before may what they might, and what that
// version changes is read. Built-in roles have no grants, whoever wrote some.
func TestUpgradeToGrants(t *testing.T) {
	t.Parallel()
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		steps, err := db.MigrationStatus(t.Context())
		backendtest.Must(t, err)
		back := len(steps) - 6 // to before 0007
		backendtest.Must(t, faulttest.Err(db.MigrateDown(t.Context(), back)))
		const insert = `INSERT INTO roles (name, description, permissions, builtin, created_at, updated_at) VALUES ($1,'','["a:*"]',0,1,1)`
		backendtest.Must(t, faulttest.Err(db.Exec(t.Context(), insert, "clerk")))
		backendtest.Must(t, faulttest.Err(db.MigrateUp(t.Context())))
		i := newInstance(t, db, clock.NewFake(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)))
		i.must(i.EnsureBuiltins(t.Context()))
		i.must(i.Reset(t.Context()))
		r, err := i.Get(t.Context(), "clerk")
		i.must(err)
		backendtest.Equal(t, len(r.Grants)+len(r.Inherits), 0, "grants and heirs after the upgrade")
		clerk := &caller.Principal{Roles: []string{"clerk"}}
		backendtest.Equal(t, i.Check(clerk, "a:read"), caller.ReasonOK, "after the upgrade")
		i.must(faulttest.Err(i.Update(i.system(), "clerk", Edit{Grants: []Grant{denyIf("a:read", "")}})))
		backendtest.Equal(t, i.Check(clerk, "a:read"), caller.ReasonDeniedByGrant, "with a deny")
		// As a server of the version before writes.
		i.must(faulttest.Err(db.Exec(t.Context(), insert, "late")))
		i.must(faulttest.Err(db.Exec(t.Context(), `UPDATE roles SET permissions = '["a:*","b:*"]' WHERE name = 'clerk'`)))
		i.must(i.Reset(t.Context()))
		backendtest.Equal(t, i.Check(&caller.Principal{Roles: []string{"late"}}, "a:read"), caller.ReasonOK, "a role that the version before made")
		backendtest.Equal(t, i.Check(clerk, "a:read"), caller.ReasonDeniedByGrant, "a deny after the version before changed its role")

		for _, change := range []string{`grants = '[{"permission":"*","effect":"allow"}]'`, `inherits = '["administrator"]'`} {
			i.must(faulttest.Err(db.Exec(t.Context(), `UPDATE roles SET `+change+` WHERE name = $1`, Auditor)))
			i.must(i.EnsureBuiltins(t.Context()))
			i.must(i.Reset(t.Context()))
			backendtest.Equal(t, i.Check(&caller.Principal{Roles: []string{Auditor}}, "x:y"), caller.ReasonPermissionMissing, "an auditor, after %s", change)
		}
		revision := i.log.Revision()
		i.must(i.EnsureBuiltins(t.Context()))
		backendtest.Equal(t, i.log.Revision(), revision, "revision after nothing differed")
	})
}

// TestDenyEndsWithItsAssignment: the principal's roles end, and with them what they deny.
func TestDenyEndsWithItsAssignment(t *testing.T) {
	onDatabases(t, func(t *testing.T, i *instance) {
		i.role("reader", "a:read")
		i.grants("kept-out", denyIf("a:*", ""))
		ann := i.user("ann")
		i.assign("reader", ann)
		i.must(faulttest.Err(i.Assign(i.system(), "kept-out", ann, i.clock.Now().Add(time.Hour))))
		backendtest.Equal(t, i.Check(i.principal(ann), "a:read"), caller.ReasonDeniedByGrant, "before the end")
		i.clock.Advance(time.Hour)
		backendtest.Equal(t, i.Check(i.principal(ann), "a:read"), caller.ReasonOK, "at the end")
	})
}
