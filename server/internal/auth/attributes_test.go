package auth

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/audit"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/database"
	"github.com/tollgatehq/tollgate/server/internal/fault"
	"github.com/tollgatehq/tollgate/server/internal/fault/faulttest"
	"github.com/tollgatehq/tollgate/server/internal/roles"
)

// describes is the update that sets attributes.
func describes(values map[string]any) UserUpdate { return UserUpdate{Attributes: &values} }

// wantAttributes checks what conditions read of a user here.
func (d *fixture) wantAttributes(userID string, want map[string]any) {
	d.t.Helper()
	v, err := d.Verify(d.t.Context(), Credential{UserID: userID})
	backendtest.Must(d.t, err)
	if got := v.Principal.Attributes; !reflect.DeepEqual(got, want) {
		d.t.Errorf("attributes %v, want %v", got, want)
	}
}

// TestAttributes: an update replaces them as a whole; every instance verifies by the
// new ones once it has read the log; the record has their names only.
func TestAttributes(t *testing.T) {
	t.Parallel()
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		clock := newClock()
		here, there := fixtureAt(t, db, clock), fixtureAt(t, db, clock)
		ann := here.user("ann")
		sync := func() {
			t.Helper()
			backendtest.Must(t, there.log.Sync(t.Context()))
		}
		sync()
		there.wantAttributes(ann.ID, nil)
		for _, step := range []struct{ set, want map[string]any }{
			{map[string]any{"department": "payroll", "level": 3.0}, map[string]any{"department": "payroll", "level": 3.0}},
			{map[string]any{"level": 3.0, "tags": []any{"a"}}, map[string]any{"level": 3.0, "tags": []any{"a"}}},
			{map[string]any{}, nil},
		} {
			changed, _, err := here.UpdateUser(here.system(), ann.ID, describes(step.set))
			backendtest.Must(t, err)
			if !reflect.DeepEqual(changed.Attributes, step.want) {
				t.Errorf("changed to %v, want %v", changed.Attributes, step.want)
			}
			read, err := here.GetUser(t.Context(), ann.ID)
			if err != nil || !reflect.DeepEqual(read.Attributes, step.want) {
				t.Errorf("read %v, %v, want %v", read.Attributes, err, step.want)
			}
			here.wantAttributes(ann.ID, step.want)
			sync()
			there.wantAttributes(ann.ID, step.want)
		}
		backendtest.Must(t, faulttest.Err(here.UpdateUser(here.system(), ann.ID, describes(map[string]any{"a": true}))))
		backendtest.Must(t, faulttest.Err(here.UpdateUser(here.system(), ann.ID, UserUpdate{DisplayName: new("Ann")})))
		here.wantAttributes(ann.ID, map[string]any{"a": true})

		var names []string
		for _, e := range here.recorded(audit.UserUpdate) {
			names = append(names, e.Details["attributes"])
		}
		backendtest.Equal(t, len(names), 5, "updates recorded")
		for _, want := range []string{`["department","level"]`, `["department","tags"]`, `["level","tags"]`, `["a"]`, ``} {
			if !strings.Contains("\n"+strings.Join(names, "\n")+"\n", "\n"+want+"\n") {
				t.Errorf("recorded %q, want one %q", names, want)
			}
		}
		backendtest.WantCount(t, db, 0, `SELECT COUNT(*) FROM audit_events WHERE details LIKE '%payroll%'`)

		for _, bad := range []map[string]any{{"": 1.0}, {"a": strings.Repeat("x", 8<<10)}} {
			faulttest.WantField(t, faulttest.Err(here.UpdateUser(here.system(), ann.ID, describes(bad))), "attributes")
		}
		here.wantAttributes(ann.ID, map[string]any{"a": true})

		// What only another program can have written refuses, and can be mended.
		backendtest.Must(t, faulttest.Err(db.Exec(t.Context(), `UPDATE users SET attributes = 'rubbish' WHERE id = $1`, ann.ID)))
		here.users.Clear()
		if v, err := here.Verify(t.Context(), Credential{UserID: ann.ID}); err == nil {
			t.Errorf("verified by rubbish: %+v", v)
		}
		backendtest.Must(t, faulttest.Err(here.UpdateUser(here.system(), ann.ID, describes(nil))))
		here.wantAttributes(ann.ID, nil)
	})
}

// TestAttributesOfConditions: who may write users sets no attributes, of others or of
// themself, that a condition of what they do not hold reads.
func TestAttributesOfConditions(t *testing.T) {
	t.Parallel()
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		d := newFixture(t, db)
		role := func(name string, r roles.Role) {
			t.Helper()
			r.Name = name
			backendtest.Must(t, faulttest.Err(d.roles.Create(d.system(), r)))
		}
		const inIT = `has(principal.attributes.department) && principal.attributes.department == "it"`
		role("clerk", roles.Role{Permissions: []string{"tollgate:users:write", "orders:read"}})
		role("holder", roles.Role{Permissions: []string{"docs:*"}})
		role("by-department", roles.Role{Grants: []roles.Grant{{Permission: "docs:write", Condition: inIT, Effect: roles.Allow}}})
		role("heir", roles.Role{Inherits: []string{"by-department"}})
		role("not-it", roles.Role{Grants: []roles.Grant{{Permission: "orders:*", Condition: inIT, Effect: roles.Deny}}})
		role("by-time", roles.Role{Grants: []roles.Grant{{Permission: "docs:write", Condition: `now < timestamp("2040-01-01T00:00:00Z")`, Effect: roles.Allow}}})

		it := describes(map[string]any{"department": "it"})
		clerk := d.user("clerk", "clerk")
		as := func() func(userID string, u UserUpdate) error {
			ctx := d.inPerson("clerk")
			return func(userID string, u UserUpdate) error { return faulttest.Err(d.UpdateUser(ctx, userID, u)) }
		}
		plain := d.user("plain")
		backendtest.Must(t, as()(plain.ID, it))
		backendtest.Must(t, as()(clerk.ID, it)) // no condition reads them

		// Others: to act on who may hold docs:write takes holding it, whatever is changed;
		// a deny is only in the way of their attributes.
		for _, name := range []string{"by-department", "heir", "not-it"} {
			user := d.user("with-"+name, name)
			for _, u := range []UserUpdate{it, describes(nil), {DisplayName: new("x"), Attributes: it.Attributes}} {
				faulttest.Want(t, as()(user.ID, u), fault.Denied, "GRANT_EXCEEDS_OWN")
			}
			d.wantAttributes(user.ID, nil)
		}

		// Themself: nobody else's rights are in the way of their display name.
		for _, name := range []string{"by-department", "heir", "not-it"} {
			backendtest.Must(t, faulttest.Err(d.roles.Assign(d.system(), name, clerk.ID, time.Time{})))
			faulttest.Want(t, as()(clerk.ID, describes(map[string]any{"department": "hr"})), fault.Denied, "GRANT_EXCEEDS_OWN")
			backendtest.Must(t, as()(clerk.ID, UserUpdate{DisplayName: new("still mine")}))
			d.wantAttributes(clerk.ID, map[string]any{"department": "it"})
			backendtest.Must(t, faulttest.Err(d.roles.Unassign(d.system(), name, clerk.ID)))
		}
		backendtest.Must(t, faulttest.Err(d.roles.Assign(d.system(), "by-time", clerk.ID, time.Time{})))
		backendtest.Must(t, as()(clerk.ID, it)) // it is not about attributes

		// Who holds what the condition allows may make it true.
		backendtest.Must(t, faulttest.Err(d.roles.Assign(d.system(), "by-department", clerk.ID, time.Time{})))
		backendtest.Must(t, faulttest.Err(d.roles.Assign(d.system(), "holder", clerk.ID, time.Time{})))
		backendtest.Must(t, as()(clerk.ID, it))
		user, err := d.FindUser(t.Context(), "with-heir")
		backendtest.Must(t, err)
		backendtest.Must(t, as()(user.ID, it))
		d.wantAttributes(user.ID, *it.Attributes)
	})
}
