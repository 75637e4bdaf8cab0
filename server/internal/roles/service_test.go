package roles

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/fault"
	"github.com/tollgatehq/tollgate/server/internal/fault/faulttest"
	"github.com/tollgatehq/tollgate/server/internal/protoconv"
)

func TestRoleLifecycle(t *testing.T) {
	onDatabases(t, func(t *testing.T, i *instance) {
		h, ctx := NewHandler(i.Service), i.system()

		created, err := h.CreateRole(ctx, &tollgatev1.CreateRoleRequest{
			Name: "clerk", Description: "Takes orders.", Permissions: []string{"orders:write", "orders:read", "orders:read"},
		})
		i.must(err)
		backendtest.Equal(t, created.GetRole().GetPermissions(), []string{"orders:read", "orders:write"}, "permissions")
		if created.GetRevision() == 0 || i.log.Revision() < created.GetRevision() {
			t.Errorf("revision %d is not in force: at %d", created.GetRevision(), i.log.Revision())
		}
		faulttest.Want(t, faulttest.Err(h.CreateRole(ctx, &tollgatev1.CreateRoleRequest{Name: "clerk"})), fault.Exists, "ROLE_EXISTS")

		i.clock.Advance(time.Minute)
		description := "Reads orders."
		updated, err := h.UpdateRole(ctx, &tollgatev1.UpdateRoleRequest{Name: "clerk", Description: &description})
		i.must(err)
		if r := updated.GetRole(); r.GetDescription() != description || len(r.GetPermissions()) != 2 ||
			r.GetUpdatedAt().AsTime().Sub(r.GetCreatedAt().AsTime()) != time.Minute {
			t.Errorf("after a new description the role is %v", r)
		}
		updated, err = h.UpdateRole(ctx, &tollgatev1.UpdateRoleRequest{Name: "clerk", Permissions: []string{"orders:*"}})
		i.must(err)
		if r := updated.GetRole(); r.GetDescription() != description || !slices.Equal(r.GetPermissions(), []string{"orders:*"}) {
			t.Errorf("after new permissions the role is %v", r)
		}
		updated, err = h.UpdateRole(ctx, &tollgatev1.UpdateRoleRequest{Name: "clerk", ClearPermissions: true})
		i.must(err)
		if r := updated.GetRole(); len(r.GetPermissions()) != 0 {
			t.Errorf("after clearing the role is %v", r)
		}
		got, err := h.GetRole(ctx, &tollgatev1.GetRoleRequest{Name: "clerk"})
		i.must(err)
		backendtest.Equal(t, got.GetRole().String(), updated.GetRole().String(), "read after the updates")

		i.must(faulttest.Err(h.DeleteRole(ctx, &tollgatev1.DeleteRoleRequest{Name: "clerk"})))
		faulttest.Want(t, faulttest.Err(h.GetRole(ctx, &tollgatev1.GetRoleRequest{Name: "clerk"})), fault.NotFound, "ROLE_NOT_FOUND")

		for action, want := range map[string]int{"role.create": 4, "role.update": 3, "role.delete": 1} {
			backendtest.Equal(t, i.count(`SELECT COUNT(*) FROM audit_events WHERE action = $1 AND outcome = 'success'`, action), want, "number of events %s", action)
		}
	})
}

func TestMembership(t *testing.T) {
	onDatabases(t, func(t *testing.T, i *instance) {
		h, ctx := NewHandler(i.Service), i.system()
		i.role("clerk", "orders:read")
		ann := i.user("ann")
		began := i.clock.Now()

		assigned, err := h.AssignRole(ctx, &tollgatev1.AssignRoleRequest{Role: "clerk", UserId: ann})
		i.must(err)
		if m := assigned.GetMember(); m.GetRole() != "clerk" || m.GetUserId() != ann || m.GetUsername() != "ann" ||
			!m.GetAssignedAt().AsTime().Equal(began) || m.GetExpiresAt() != nil {
			t.Errorf("member is %v", m)
		}
		i.clock.Advance(time.Minute)
		end := i.clock.Now().Add(time.Hour)
		assigned, err = h.AssignRole(ctx, &tollgatev1.AssignRoleRequest{Role: "clerk", UserId: ann, ExpiresAt: timestamppb.New(end)})
		i.must(err)
		if m := assigned.GetMember(); !m.GetAssignedAt().AsTime().Equal(began) || !m.GetExpiresAt().AsTime().Equal(end) {
			t.Errorf("given again, the member is %v", m)
		}
		list, err := h.ListRoleMembers(ctx, &tollgatev1.ListRoleMembersRequest{Role: "clerk"})
		i.must(err)
		if len(list.GetMembers()) != 1 || list.GetMembers()[0].String() != assigned.GetMember().String() {
			t.Errorf("members are %v, want %v", list.GetMembers(), assigned.GetMember())
		}
		i.must(faulttest.Err(h.UnassignRole(ctx, &tollgatev1.UnassignRoleRequest{Role: "clerk", UserId: ann})))
		faulttest.Want(t, faulttest.Err(h.UnassignRole(ctx, &tollgatev1.UnassignRoleRequest{Role: "clerk", UserId: ann})), fault.NotFound, "ROLE_NOT_ASSIGNED")
		backendtest.Equal(t, i.rolesOf(ann), "", "roles after it was taken")
	})
}

func TestWritesRefused(t *testing.T) {
	onDatabases(t, func(t *testing.T, i *instance) {
		i.role("clerk", "orders:read")
		ann, nobody := i.user("ann"), "0198f000-0000-7000-8000-000000000000"
		ctx := i.system()
		text, nul := "x", "a\x00b"
		past := timestamppb.New(i.clock.Now())
		h := NewHandler(i.Service)
		before := i.log.Revision()
		events := i.count(`SELECT COUNT(*) FROM audit_events`)
		create := func(name, description string, permissions ...string) error {
			_, err := h.CreateRole(ctx, &tollgatev1.CreateRoleRequest{Name: name, Description: description, Permissions: permissions})
			return err
		}
		update := func(req *tollgatev1.UpdateRoleRequest) error {
			_, err := h.UpdateRole(ctx, req)
			return err
		}
		assign := func(role, user string, end *timestamppb.Timestamp) error {
			_, err := h.AssignRole(ctx, &tollgatev1.AssignRoleRequest{Role: role, UserId: user, ExpiresAt: end})
			return err
		}
		for _, c := range []struct {
			what   string
			err    error
			kind   fault.Kind
			reason string
			says   string
		}{
			{"create: bad pattern", create("new", "", "orders:read", "orders:*:read"), fault.Invalid, "INVALID_FIELD", "permissions[1]"},
			{"create: bad name", create("New", ""), fault.Invalid, "INVALID_FIELD", "name"},
			{"create: NUL", create("new", nul), fault.Invalid, "INVALID_FIELD", "description"},
			{"update: bad pattern", update(&tollgatev1.UpdateRoleRequest{Name: "clerk", Permissions: []string{"*:x"}}), fault.Invalid, "INVALID_FIELD", "permissions[0]"},
			{"update: both", update(&tollgatev1.UpdateRoleRequest{Name: "clerk", Permissions: []string{"a"}, ClearPermissions: true}), fault.Invalid, "INVALID_FIELD", "clearPermissions"},
			{"update: nothing", update(&tollgatev1.UpdateRoleRequest{Name: "clerk"}), fault.Invalid, "NOTHING_TO_UPDATE", "changes nothing"},
			{"update: NUL", update(&tollgatev1.UpdateRoleRequest{Name: "clerk", Description: &nul}), fault.Invalid, "INVALID_FIELD", "description"},
			{"update: unknown", update(&tollgatev1.UpdateRoleRequest{Name: "ghost", Description: &text}), fault.NotFound, "ROLE_NOT_FOUND", "ghost"},
			{"update: unstorable name", update(&tollgatev1.UpdateRoleRequest{Name: nul, Description: &text}), fault.NotFound, "ROLE_NOT_FOUND", ""},
			{"update: builtin", update(&tollgatev1.UpdateRoleRequest{Name: Auditor, Description: &text}), fault.Precondition, "BUILTIN_ROLE", Auditor},
			{"delete: builtin", faulttest.Err(i.Delete(ctx, ServiceRole)), fault.Precondition, "BUILTIN_ROLE", ServiceRole},
			{"delete: unknown", faulttest.Err(i.Delete(ctx, "ghost")), fault.NotFound, "ROLE_NOT_FOUND", "ghost"},
			{"assign: unknown role", assign("ghost", ann, nil), fault.NotFound, "ROLE_NOT_FOUND", "ghost"},
			{"assign: unknown user", assign("clerk", nobody, nil), fault.NotFound, "USER_NOT_FOUND", nobody},
			{"assign: past", assign("clerk", ann, past), fault.Invalid, "INVALID_FIELD", "expiresAt"},
			{"assign: not a time", assign("clerk", ann, &timestamppb.Timestamp{Seconds: 1 << 62}), fault.Invalid, "INVALID_FIELD", "expiresAt"},
			{"unassign: unknown role", faulttest.Err(i.Unassign(ctx, "ghost", ann)), fault.NotFound, "ROLE_NOT_FOUND", "ghost"},
			{"unassign: unknown user", faulttest.Err(i.Unassign(ctx, "clerk", nobody)), fault.NotFound, "ROLE_NOT_ASSIGNED", nobody},
			{"unassign: not held", faulttest.Err(i.Unassign(ctx, "clerk", ann)), fault.NotFound, "ROLE_NOT_ASSIGNED", ann},
			{"members: unknown role", faulttest.Err(i.Members(ctx, "ghost", 0, "")), fault.NotFound, "ROLE_NOT_FOUND", "ghost"},
		} {
			t.Run(c.what, func(t *testing.T) {
				f := faulttest.Want(t, c.err, c.kind, c.reason)
				if !strings.Contains(f.Message, c.says) {
					t.Errorf("message is %q, want one with %q", f.Message, c.says)
				}
			})
		}
		if i.log.Revision() != before || i.count(`SELECT COUNT(*) FROM audit_events`) != events {
			t.Error("a refused write left something behind")
		}
	})
}

func TestBounds(t *testing.T) {
	onDatabases(t, func(t *testing.T, i *instance) {
		_, err := i.db.Exec(t.Context(), `INSERT INTO roles (name, permissions, created_at, updated_at)
			WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < $1)
			SELECT 'bulk' || i, '[]', 0, 0 FROM n`, maxRoles-4)
		i.must(err)
		i.must(i.Reset(t.Context()))
		i.role("the-last-one")
		_, _, err = i.Create(i.system(), Role{Name: "one-more"})
		if f := faulttest.Want(t, err, fault.Precondition, "TOO_MANY_ROLES"); !strings.Contains(f.Message, "10000") {
			t.Errorf("message is %q, which does not say the bound", f.Message)
		}

		ann := i.user("ann")
		end := i.clock.Now().Add(time.Hour).UnixMicro()
		_, err = i.db.Exec(t.Context(), `INSERT INTO memberships (role, user_id, assigned_at, expires_at)
			WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < $1)
			SELECT 'bulk' || i, $2, 0, CASE WHEN i = 7 THEN CAST($3 AS BIGINT) END FROM n`, maxOfAUser, ann, end)
		i.must(err)
		faulttest.Want(t, faulttest.Err(i.Assign(i.system(), "the-last-one", ann, time.Time{})), fault.Precondition, "TOO_MANY_ROLES_OF_USER")
		_, _, err = i.Assign(i.system(), "bulk1", ann, time.Time{})
		i.must(err) // held already
		i.clock.Advance(2 * time.Hour)
		i.assign("the-last-one", ann) // bulk7 has ended
		backendtest.Equal(t, i.count(`SELECT COUNT(*) FROM memberships WHERE user_id = $1`, ann), maxOfAUser, "rows of the user")
	})
}

func TestListPages(t *testing.T) {
	onDatabases(t, func(t *testing.T, i *instance) {
		want := []string{Administrator, Auditor, ServiceRole}
		for n := range 4 {
			name := fmt.Sprintf("role%d", n)
			i.role(name)
			want = append(want, name)
		}
		slices.Sort(want)
		pages := backendtest.Pages(t, func(token string) ([]Role, string, error) { return i.List(t.Context(), 3, token) })
		got := protoconv.List(slices.Concat(pages...), func(r Role) string { return r.Name })
		if len(pages) != 3 || !slices.Equal(got, want) {
			t.Errorf("roles on %d pages are %q, want %q on 3", len(pages), got, want)
		}

		var users []string
		for n := range 5 {
			id := i.user(fmt.Sprintf("user%d", n))
			i.assign("role0", id)
			users = append(users, id)
		}
		slices.Sort(users)
		members := backendtest.Pages(t, func(token string) ([]Member, string, error) { return i.Members(t.Context(), "role0", 2, token) })
		got = protoconv.List(slices.Concat(members...), func(m Member) string { return m.UserID })
		if len(members) != 3 || !slices.Equal(got, users) {
			t.Errorf("members on %d pages are %q, want %q on 3", len(members), got, users)
		}
		_, token, err := i.Members(t.Context(), "role0", 2, "")
		i.must(err)
		faulttest.Want(t, faulttest.Err(i.Members(t.Context(), "role1", 2, token)), fault.Invalid, "INVALID_FIELD")
		faulttest.Want(t, faulttest.Err(i.List(t.Context(), 2, token)), fault.Invalid, "INVALID_FIELD")
	})
}
