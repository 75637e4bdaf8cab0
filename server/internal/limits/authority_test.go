package limits

import (
	"context"
	"fmt"
	"github.com/tollgatehq/tollgate/server/internal/roles"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/database"
	"github.com/tollgatehq/tollgate/server/internal/fault"
	"github.com/tollgatehq/tollgate/server/internal/fault/faulttest"
)

// as is the context of a user with a role that holds the permissions, who calls
// with an API key of these scopes, if there are any.
func (i *instance) as(name string, permissions []string, scopes ...string) context.Context {
	i.t.Helper()
	i.must(faulttest.Err(i.db.Exec(i.t.Context(), `INSERT INTO users (id, username, kind, created_at, updated_at) VALUES ($1, $1, 'person', 1, 1)`, name)))
	i.must(faulttest.Err(i.roles.Create(i.system(), roles.Role{Name: name, Permissions: permissions})))
	i.must(faulttest.Err(i.roles.Assign(i.system(), name, name, time.Time{})))
	return caller.With(i.t.Context(), caller.Caller{Principal: &caller.Principal{
		UserID: name, Username: name, Roles: []string{name}, Scopes: scopes,
	}})
}

// TestMayManage: limits on calls of Tollgate's own are for who holds "*",
// whatever is done with them; others are for whom the guard lets in.
func TestMayManage(t *testing.T) {
	onDatabases(t, func(t *testing.T, i *instance) {
		i.must(i.EnsureBuiltins(t.Context()))
		clerk := i.as("clerk", []string{"tollgate:*", "orders:*"})
		key := i.as("key", []string{"*"}, "tollgate:*")
		admin, adminKey := i.as("admin", []string{"*"}), i.as("admin-key", []string{"*"}, "*")

		i.create(Limit{Name: "mine", Subject: SubjectUser, Permission: "orders:*", Rate: 5})
		i.create(Limit{Name: "all", Subject: SubjectUser, Permission: "*", Rate: 5})
		before := i.get("all")
		limit := func(permission string) Limit {
			return Limit{Name: "new", Subject: SubjectIP, Permission: permission, Rate: 5, Period: minute}
		}
		for name, ctx := range map[string]context.Context{"clerk": clerk, "key": key, "nobody": t.Context()} {
			for what, err := range map[string]error{
				"create *":              faulttest.Err(i.Create(ctx, limit(""))),
				"create tollgate:*":     faulttest.Err(i.Create(ctx, limit("tollgate:*"))),
				"create tollgate:login": faulttest.Err(i.Create(ctx, limit("tollgate:login"))),
				"create one in shadow": faulttest.Err(i.Create(ctx, Limit{Name: "new", Subject: SubjectIP, Rate: 1, Period: minute,
					Permission: "tollgate:verify", Mode: Shadow})),
				"widen":            faulttest.Err(i.Update(ctx, "mine", Edit{Permission: new("tollgate:users:*")})),
				"narrow":           faulttest.Err(i.Update(ctx, "all", Edit{Permission: new("orders:*")})),
				"ease":             faulttest.Err(i.Update(ctx, "sign-in-per-user", Edit{Mode: new(Shadow)})),
				"tighten":          faulttest.Err(i.Update(ctx, "sign-in-per-ip", Edit{Overrides: []Override{{Key: "192.0.2.1", Rate: 1}}})),
				"delete":           faulttest.Err(i.Delete(ctx, "all")),
				"delete a builtin": faulttest.Err(i.Delete(ctx, "sign-in-per-ip")),
				"check":            faulttest.Err(i.Check(ctx, "sign-in-per-user", "vic", 1, false)),
				"look":             faulttest.Err(i.Check(ctx, "all", "vic", 1, true)),
				"lease":            faulttest.Err(i.Grant(ctx, "all", "vic", 1)),
				"reset":            i.ResetKey(ctx, "sign-in-per-user-and-ip", "vic@192.0.2.1"),
				"reset all":        faulttest.Err(i.ResetAll(ctx, "all")),
				"restore":          faulttest.Err(i.Restore(ctx, "sign-in-per-ip")),
			} {
				if f := fault.From(err); f == nil || f.Kind != fault.Denied || f.Reason != "LIMITS_TOLLGATE" || !strings.Contains(f.Message, "ask an administrator") {
					t.Errorf("%s: %s: %v", name, what, err)
				}
			}
		}
		after := i.get("all")
		if fmt.Sprint(before) != fmt.Sprint(after) || i.check("sign-in-per-user", "vic", 1, true).Limits[0].Remaining != 100 {
			t.Errorf("what was refused was done: %+v", after)
		}
		// Whose role was taken away a moment ago, unknown yet to this instance.
		late := i.as("late", []string{"*"})
		i.must(faulttest.Err(i.db.Exec(t.Context(), `DELETE FROM memberships WHERE user_id = 'late'`)))
		faulttest.Want(t, faulttest.Err(i.Create(late, limit(""))), fault.Denied, "LIMITS_TOLLGATE")
		faulttest.Want(t, faulttest.Err(i.Delete(late, "all")), fault.Denied, "LIMITS_TOLLGATE")
		faulttest.Want(t, i.ResetKey(late, "all", "vic"), fault.Denied, "LIMITS_TOLLGATE")

		faulttest.Want(t, faulttest.Err(i.Update(clerk, "nothing", Edit{Rate: new(int64(1))})), fault.NotFound, "LIMIT_NOT_FOUND")

		for name, ctx := range map[string]context.Context{"clerk": clerk, "key": key, "admin": admin, "admin's key": adminKey} {
			for what, err := range map[string]error{
				"update": faulttest.Err(i.Update(ctx, "mine", Edit{Rate: new(int64(7))})),
				"check":  faulttest.Err(i.Check(ctx, "mine", "u", 1, false)),
				"reset":  i.ResetKey(ctx, "mine", "u"),
				"create": faulttest.Err(i.Create(ctx, limit("orders:read"))),
			} {
				if err != nil {
					t.Errorf("%s: %s: %v", name, what, err)
				}
			}
			if _, err := i.Delete(ctx, "new"); err != nil {
				t.Errorf("%s: delete: %v", name, err)
			}
		}
		for _, ctx := range []context.Context{admin, adminKey} {
			i.must(faulttest.Err(i.Create(ctx, limit(""))))
			i.must(faulttest.Err(i.Update(ctx, "sign-in-per-user", Edit{Rate: new(int64(50))})))
			i.must(faulttest.Err(i.Check(ctx, "sign-in-per-user", "u", 1, false)))
			i.must(i.ResetKey(ctx, "sign-in-per-user", "u"))
			i.must(faulttest.Err(i.Delete(ctx, "new")))
		}
	})
}

// TestSignInLimitsThatLockOut: what keeps people from signing in for long is refused
// when it is saved, as long as it would do so.
func TestSignInLimitsThatLockOut(t *testing.T) {
	t.Parallel()
	i := onSQLite(t, nil)
	const day = 24 * time.Hour
	good := Limit{Name: "l", Subject: SubjectUser, Permission: "*", Rate: 1, Period: minute}
	for _, c := range []struct {
		field  string
		change func(*Limit)
	}{
		{"rate", func(l *Limit) { l.Subject, l.Period = SubjectGlobal, 31*day }},
		{"rate", func(l *Limit) { l.Subject, l.Rate = SubjectGlobal, 59 }},
		{"rate", func(l *Limit) { l.Subject, l.ContextKey, l.Rate = SubjectCustom, "tenant", 59 }},
		{"rate", func(l *Limit) { l.Subject, l.Algorithm, l.Permission = SubjectGlobal, FixedWindow, "tollgate:login" }},
		{"period", func(l *Limit) { l.Subject, l.Algorithm, l.Rate, l.Period = SubjectGlobal, SlidingWindow, 1e6, day }},
		{"algorithm", func(l *Limit) { l.Subject, l.Algorithm, l.Rate = SubjectGlobal, Backoff, 1000 }},
		{"rate", func(l *Limit) { l.Period, l.Permission = 16*minute, "tollgate:*" }},
		{"rate", func(l *Limit) { l.Subject, l.Period, l.Burst = SubjectIP, day, 1000 }},
		{"period", func(l *Limit) { l.Subject, l.Period, l.Algorithm = SubjectUserIP, 16*minute, Backoff }},
		{"period", func(l *Limit) { l.Rate, l.Period, l.Algorithm = 1000, day, FixedWindow }},
		{"overrides[1].rate", func(l *Limit) {
			l.Rate, l.Period, l.Overrides = 1000, day, []Override{{Key: "a", Rate: 96}, {Key: "admin", Rate: 1}}
		}},
	} {
		l := good
		c.change(&l)
		err := faulttest.Err(i.Create(i.system(), l))
		faulttest.WantField(t, err, c.field)
		if !strings.Contains(err.Error(), "covers sign-ins") {
			t.Errorf("the message does not say why: %v", err)
		}
		l.Mode = Shadow
		i.create(l)
		faulttest.WantField(t, faulttest.Err(i.Update(i.system(), "l", Edit{Mode: new(Enforce)})), c.field)
		i.must(faulttest.Err(i.Delete(i.system(), "l")))
		l.Mode, l.Permission = Enforce, "orders:*"
		i.create(l)
		i.must(faulttest.Err(i.Delete(i.system(), "l")))
	}
	i.create(good)
	i.create(Limit{Name: "shared", Subject: SubjectGlobal, Permission: "*", Rate: 60})
	i.create(Limit{Name: "keys", Subject: SubjectAPIKey, Permission: "*", Rate: 1, Period: day})
}

// TestLimitsOfOlderVersions: a limit that would be refused now and is there already
// is in force, may be eased and removed, and denies nothing to a call that no
// limit may deny.
func TestLimitsOfOlderVersions(t *testing.T) {
	t.Parallel()
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		_, err := db.Exec(t.Context(), `INSERT INTO limits (name, description, subject, permission, rate, period, burst, algorithm,
			mode, outage, context_key, overrides, builtin, created_at, updated_at)
			VALUES ('typo', '', 'global', '*', 1, 2678400000000, 0, 'gcra', 'enforce', 'local', '', '[]', 0, 1, 1)`)
		backendtest.Must(t, err)
		i := startOn(t, db, nil)
		r := Request{Permission: "tollgate:limits:write"}
		if !i.take(r).Allowed || i.take(r).Allowed {
			t.Error("the limit is not in force")
		}
		r.NeverDeny = true
		if got := i.take(r); !got.Allowed || !got.Limits[0].Exceeded {
			t.Errorf("a call that no limit may deny: %+v", got)
		}
		i.must(faulttest.Err(i.ResetAll(i.system(), "typo")))
		if got := i.take(r); !got.Allowed || got.Limits[0].Remaining != 0 {
			t.Errorf("a call that no limit may deny is not counted: %+v", got)
		}
		i.update("typo", Edit{Rate: new(int64(31 * 86400))})
		i.must(faulttest.Err(i.Delete(i.system(), "typo")))
	})
}

// TestResetAll forgets every key's count, on every instance, and nothing else.
func TestResetAll(t *testing.T) {
	t.Parallel()
	backends(t, func(t *testing.T, b Backend) {
		i := onSQLite(t, b)
		i.create(Limit{Name: "l", Subject: SubjectUser, Rate: 1, Period: time.Hour})
		i.create(Limit{Name: "other", Subject: SubjectIP, Rate: 1, Period: time.Hour})
		ip := netip.MustParseAddr("192.0.2.1")
		i.take(Request{UserID: "u"})
		i.take(Request{UserID: "v", IP: ip})
		i.clock.Advance(time.Second)
		i.must(faulttest.Err(i.ResetAll(i.system(), "l")))
		for _, user := range []string{"u", "v"} {
			if got := i.take(Request{UserID: user}); !got.Allowed {
				t.Errorf("%s: %+v", user, got)
			}
			if got := i.take(Request{UserID: user}); got.Allowed {
				t.Errorf("%s is not counted any more: %+v", user, got)
			}
		}
		if i.take(Request{IP: ip}).Allowed {
			t.Error("another limit was reset")
		}
		backendtest.Equal(t, fmt.Sprint(i.events("l")), "[limit.create limit.reset]", "audit")
		faulttest.Want(t, faulttest.Err(i.ResetAll(i.system(), "nothing")), fault.NotFound, "LIMIT_NOT_FOUND")
	})
}

func TestRestore(t *testing.T) {
	onDatabases(t, func(t *testing.T, i *instance) {
		i.must(i.EnsureBuiltins(t.Context()))
		i.create(Limit{Name: "mine", Subject: SubjectUser, Rate: 1})
		for _, want := range builtins() {
			_, _, err := i.Update(i.system(), want.Name, Edit{
				Description: new("x"), Permission: new("a:b"), Rate: new(int64(3)), Burst: new(int64(2)), Period: new(time.Second),
				Mode: new(Shadow), Outage: new(Closed), Algorithm: new(GCRA), Overrides: []Override{{Key: "u@192.0.2.1", Rate: 1}},
			})
			if want.Subject == SubjectIP {
				_, _, err = i.Update(i.system(), want.Name, Edit{Rate: new(int64(3)), Permission: new("a:b"), Mode: new(Shadow)})
			}
			i.must(err)
			i.must(faulttest.Err(i.Restore(i.system(), want.Name)))
			got := i.get(want.Name)
			got.CreatedAt, got.UpdatedAt = want.CreatedAt, want.UpdatedAt
			backendtest.Equal(t, fmt.Sprint(got), fmt.Sprint(want), "restored")
		}
		faulttest.Want(t, faulttest.Err(i.Restore(i.system(), "mine")), fault.Precondition, "NOT_BUILTIN")
		faulttest.Want(t, faulttest.Err(i.Restore(i.system(), "nothing")), fault.NotFound, "LIMIT_NOT_FOUND")
	})
}
