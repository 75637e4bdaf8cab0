package policyfeed

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/contract"
	"github.com/tollgatehq/tollgate/server/internal/database"
	"github.com/tollgatehq/tollgate/server/internal/fault"
	"github.com/tollgatehq/tollgate/server/internal/fault/faulttest"
	"github.com/tollgatehq/tollgate/server/internal/roles"
)

// TestWatchConditions: who asks for conditions gets each grant that has one, and
// others do not at the same time; who loses the permission loses the stream before it
// tells of another.
func TestWatchConditions(t *testing.T) {
	t.Parallel()
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		f := open(t, db)
		_, err := db.Exec(t.Context(), `INSERT INTO users (id, username, kind, password_hash, created_at, updated_at) VALUES ($1,'orders','service','',1,1)`, watcherID)
		backendtest.Must(t, err)
		f.role(roles.Role{Name: "sees", Permissions: []string{contract.PermissionConditions}})
		grants := []roles.Grant{
			{Permission: "b:plain", Effect: roles.Allow},
			{Permission: "c:read", Effect: roles.Allow, Condition: `ip == "192.0.2.1"`, Description: "the office"},
			{Permission: "c:delete", Effect: roles.Deny},
			{Permission: "c:refund", Effect: roles.Deny, Condition: `ip == "192.0.2.2"`},
		}
		f.role(roles.Role{Name: "clerk", Grants: grants})

		_, ended := f.watch(f.watcher(), true)
		faulttest.Want(t, <-ended, fault.Denied, "PERMISSION_MISSING")
		narrowed := caller.With(t.Context(), caller.Caller{Principal: &caller.Principal{UserID: watcherID, Scopes: []string{"tollgate:policy:watch"}}})
		_, revision, err := f.roles.Assign(f.system(), "sees", watcherID, time.Time{})
		backendtest.Must(t, err)
		_, ended = f.watch(narrowed, true)
		faulttest.Want(t, <-ended, fault.Denied, "PERMISSION_MISSING")

		messages, ended := f.watch(f.watcher(), true)
		without, _ := f.watch(f.watcher(), false)
		const told = `[b:plain] [c:delete] [{c:read ip == "192.0.2.1" allow } {c:refund ip == "192.0.2.2" deny }]`
		const hidden = `[b:plain] [c:delete c:refund] []`
		clerk := func(m Message) string {
			for _, o := range m.Roles {
				if o.Name == "clerk" {
					return fmt.Sprint(o.Allows, o.Denies, o.Conditional)
				}
			}
			return "no clerk"
		}
		backendtest.Equal(t, clerk(next(t, messages, revision)), told, "the snapshot")
		backendtest.Equal(t, clerk(next(t, without, revision)), hidden, "the snapshot without conditions")
		_, revision, err = f.roles.Update(f.system(), "clerk", roles.Edit{Grants: grants, Permissions: []string{"d"}})
		backendtest.Must(t, err)
		backendtest.Equal(t, clerk(next(t, without, revision)), `[d b:plain] [c:delete c:refund] []`, "a change without conditions")
		backendtest.Equal(t, clerk(next(t, messages, revision)), `[d b:plain] [c:delete] [{c:read ip == "192.0.2.1" allow } {c:refund ip == "192.0.2.2" deny }]`, "a change")

		_, err = f.roles.Unassign(f.system(), "sees", watcherID)
		backendtest.Must(t, err)
		f.role(roles.Role{Name: "later", Grants: []roles.Grant{{Permission: "e", Effect: roles.Allow, Condition: "true"}}})
		for {
			select {
			case m := <-messages:
				if len(m.Roles) > 0 {
					t.Fatalf("told after the permission was taken away: %+v", m)
				}
				continue
			case err := <-ended:
				faulttest.Want(t, err, fault.Denied, "PERMISSION_MISSING")
			}
			return
		}
	})
}

// TestWatchConditionsNobody: a context without a caller sees none.
func TestWatchConditionsNobody(t *testing.T) {
	t.Parallel()
	f := open(t, backendtest.SQLite(t))
	faulttest.Want(t, f.Watch(context.Background(), true, func(Message) error { return nil }), fault.Denied, "PERMISSION_MISSING")
	backendtest.Must(t, f.maySeeConditions(f.system()))
}
