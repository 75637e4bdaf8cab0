package limits

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/database"
	"github.com/tollgatehq/tollgate/server/internal/fault"
	"github.com/tollgatehq/tollgate/server/internal/fault/faulttest"
	"github.com/tollgatehq/tollgate/server/internal/protoconv"
)

const minute = time.Minute

func TestCreateUpdateDelete(t *testing.T) {
	onDatabases(t, func(t *testing.T, i *instance) {
		made := i.create(Limit{
			Name: "orders", Description: "Orders.", Subject: SubjectIP, Permission: "orders:*", Rate: 10, Burst: 3,
			Overrides: []Override{{Key: "2001:db8::9", Rate: 100}, {Key: "::ffff:192.0.2.1", Rate: 5, Burst: 2}},
		})
		want := []Override{{Key: "2001:db8::/64", Rate: 100}, {Key: "192.0.2.1", Rate: 5, Burst: 2}}
		if !slices.Equal(made.Overrides, want) || made.Algorithm != GCRA || made.Mode != Enforce || made.Outage != Local {
			t.Errorf("made %+v", made)
		}
		got := i.get("orders")
		backendtest.Equal(t, fmt.Sprint(got), fmt.Sprint(made), "read after it was made")
		faulttest.Want(t, faulttest.Err(i.Create(i.system(), Limit{Name: "orders", Subject: SubjectIP, Rate: 1, Period: minute})), fault.Exists, "LIMIT_EXISTS")

		i.clock.Advance(minute)
		edited, revision, err := i.Update(i.system(), "orders", Edit{Rate: new(int64(20)), Mode: new(Shadow), ClearOverrides: true})
		i.must(err)
		if edited.Rate != 20 || edited.Burst != 3 || edited.Mode != Shadow || len(edited.Overrides) != 0 ||
			edited.Description != "Orders." || !edited.UpdatedAt.After(edited.CreatedAt) || revision == 0 {
			t.Errorf("edited %+v at %d", edited, revision)
		}
		got = i.get("orders")
		backendtest.Equal(t, fmt.Sprint(got), fmt.Sprint(edited), "read after it was edited")

		faulttest.Want(t, faulttest.Err(i.Update(i.system(), "orders", Edit{Overrides: []Override{}})), fault.Invalid, "NOTHING_TO_UPDATE")

		i.must(faulttest.Err(i.Delete(i.system(), "orders")))
		for what, err := range map[string]error{
			"get":         faulttest.Err(i.Get(i.system(), "orders")),
			"update":      faulttest.Err(i.Update(i.system(), "orders", Edit{Rate: new(int64(1))})),
			"delete":      faulttest.Err(i.Delete(i.system(), "orders")),
			"check":       faulttest.Err(i.Check(i.system(), "orders", "k", 1, false)),
			"reset":       i.ResetKey(i.system(), "orders", "k"),
			"get a NUL":   faulttest.Err(i.Get(i.system(), "\x00")),
			"check a NUL": faulttest.Err(i.Check(i.system(), "\x00", "k", 1, false)),
		} {
			if !fault.Is(err, fault.NotFound) {
				t.Errorf("%s after the removal: %v", what, err)
			}
		}
		backendtest.Equal(t, fmt.Sprint(i.events("orders")), "[limit.create limit.update limit.delete]", "audit")
	})
}

func TestList(t *testing.T) {
	onDatabases(t, func(t *testing.T, i *instance) {
		var want []string
		for n := range 7 {
			name := fmt.Sprintf("limit-%d", n)
			i.create(Limit{Name: name, Subject: SubjectGlobal, Permission: name, Rate: 1})
			want = append(want, name)
		}
		pages := backendtest.Pages(t, func(token string) ([]Limit, string, error) { return i.List(i.system(), 3, token) })
		got := protoconv.List(slices.Concat(pages...), func(l Limit) string { return l.Name })
		if len(pages) != 3 || !slices.Equal(got, want) {
			t.Errorf("limits on %d pages are %q, want %q on 3", len(pages), got, want)
		}
		faulttest.WantField(t, faulttest.Err(i.List(i.system(), 3, "forged")), "pageToken")
	})
}

func TestCreateInvalid(t *testing.T) {
	t.Parallel()
	i := onSQLite(t, nil)
	good := Limit{Name: "good", Subject: SubjectUser, Permission: "a:b", Rate: 5, Period: minute}
	for _, c := range []struct {
		field  string
		change func(*Limit)
	}{
		{"name", func(l *Limit) { l.Name = "Bad" }},
		{"subject", func(l *Limit) { l.Subject = "" }},
		{"permission", func(l *Limit) { l.Permission = "a:*:b" }},
		{"permission", func(l *Limit) { l.Permission = "A" }},
		{"description", func(l *Limit) { l.Description = "\x00" }},
		{"rate", func(l *Limit) { l.Rate = 0 }},
		{"rate", func(l *Limit) { l.Rate = maxRate + 1 }},
		{"rate", func(l *Limit) { l.Rate, l.Period = 1_000_001, time.Millisecond }},
		{"period", func(l *Limit) { l.Period = 999 * time.Microsecond }},
		{"period", func(l *Limit) { l.Period = maxPeriod + time.Microsecond }},
		{"period", func(l *Limit) { l.Period = time.Second + time.Nanosecond }},
		{"burst", func(l *Limit) { l.Burst = -1 }},
		{"burst", func(l *Limit) { l.Burst, l.Algorithm = 5, FixedWindow }},
		{"burst", func(l *Limit) { l.Burst, l.Algorithm = 5, SlidingWindow }},
		{"algorithm", func(l *Limit) { l.Algorithm = "x" }},
		{"mode", func(l *Limit) { l.Mode = "x" }},
		{"outage", func(l *Limit) { l.Outage = "x" }},
		{"outage", func(l *Limit) { l.Outage, l.Permission = Open, "" }},
		{"outage", func(l *Limit) { l.Outage, l.Permission = Open, "tollgate:*" }},
		{"outage", func(l *Limit) { l.Outage, l.Permission = Open, "tollgate:login" }},
		{"contextKey", func(l *Limit) { l.Subject = SubjectCustom }},
		{"contextKey", func(l *Limit) { l.ContextKey = "tenant" }},
		{"overrides[0].key", func(l *Limit) { l.Overrides = []Override{{Key: "", Rate: 1}} }},
		{"overrides[1].key", func(l *Limit) { l.Overrides = []Override{{Key: "a", Rate: 1}, {Key: "a", Rate: 2}} }},
		{"overrides[0].rate", func(l *Limit) { l.Overrides = []Override{{Key: "a"}} }},
		{"overrides[0].burst", func(l *Limit) {
			l.Algorithm, l.Overrides = FixedWindow, []Override{{Key: "a", Rate: 1, Burst: 1}}
		}},
		{"overrides[0].key", func(l *Limit) { l.Subject, l.Overrides = SubjectIP, []Override{{Key: "alice", Rate: 1}} }},
		{"overrides[1].key", func(l *Limit) {
			l.Subject, l.Overrides = SubjectIP, []Override{{Key: "2001:db8::1", Rate: 1}, {Key: "2001:db8::/64", Rate: 1}}
		}},
		{"overrides", func(l *Limit) { l.Overrides = make([]Override, 101) }},
	} {
		l := good
		c.change(&l)
		faulttest.WantField(t, faulttest.Err(i.Create(i.system(), l)), c.field)
	}
	i.create(good)
	for _, c := range []struct {
		field string
		edit  Edit
	}{
		{"clearOverrides", Edit{ClearOverrides: true, Overrides: []Override{{Key: "a", Rate: 1}}}},
		{"burst", Edit{Algorithm: new(FixedWindow), Burst: new(int64(5))}},
		{"rate", Edit{Period: new(time.Millisecond), Rate: new(int64(2_000_000))}},
	} {
		faulttest.WantField(t, faulttest.Err(i.Update(i.system(), "good", c.edit)), c.field)
	}
	i.update("good", Edit{Outage: new(Open)})
	faulttest.WantField(t, faulttest.Err(i.Update(i.system(), "good", Edit{Permission: new("*")})), "outage")
}

func TestUpdateAlgorithm(t *testing.T) {
	t.Parallel()
	i := onSQLite(t, nil)
	i.create(Limit{Name: "l", Subject: SubjectGlobal, Rate: 5, Burst: 2, Overrides: []Override{{Key: "a", Rate: 3, Burst: 1}}})
	i.check("l", "k", 2, false)
	l := i.update("l", Edit{Algorithm: new(Backoff)})
	backendtest.Equal(t, [2]int64{l.Burst, l.Overrides[0].Burst}, [2]int64{2, 1}, "bursts of a backoff that was GCRA")
	l = i.update("l", Edit{Algorithm: new(SlidingWindow)})
	if l.Burst != 0 || l.AtOnce() != 5 || l.Overrides[0].Burst != 0 {
		t.Errorf("a window keeps bursts: %+v", l)
	}
	i.wantRemaining("l", "k", 5, "another algorithm counts anew")
	i.update("l", Edit{Rate: new(int64(9))})
	backendtest.Equal(t, i.check("l", "k", 1, true).Limits[0].Limit, 9, "limit, whose burst follows the rate")
}

func TestUpdateKeepsCounts(t *testing.T) {
	t.Parallel()
	for _, a := range allAlgorithms {
		t.Run(string(a), func(t *testing.T) {
			i := onSQLite(t, nil)
			i.create(Limit{Name: "l", Subject: SubjectGlobal, Rate: 5, Algorithm: a})
			for range 4 {
				i.check("l", "k", 1, false)
			}
			i.update("l", Edit{Rate: new(int64(10)), Period: new(2 * minute)})
			i.wantRemaining("l", "k", 6, "4 of 10 are used")
			// A limit that is made again is a new one.
			i.must(faulttest.Err(i.Delete(i.system(), "l")))
			i.clock.Advance(time.Microsecond)
			i.create(Limit{Name: "l", Subject: SubjectGlobal, Rate: 5, Algorithm: a})
			i.wantRemaining("l", "k", 5, "a new limit remembers")
		})
	}
}

func TestTooManyLimitsApply(t *testing.T) {
	onDatabases(t, func(t *testing.T, i *instance) {
		i.must(i.EnsureBuiltins(t.Context()))
		i.create(Limit{Name: "elsewhere", Subject: SubjectGlobal, Permission: "b:x", Rate: 1})
		i.create(Limit{Name: "everything", Subject: SubjectGlobal, Permission: "*", Rate: 60})
		i.create(Limit{Name: "half", Subject: SubjectGlobal, Permission: "a:*", Rate: 1})

		// 30 fit besides the two that cover them. The last are made at once; a
		// busy machine's database may refuse some of those for the time being.
		made := 0
		add := func() error {
			made++
			_, _, err := i.Create(i.system(), Limit{Name: fmt.Sprintf("same-%d", made), Subject: SubjectGlobal,
				Permission: "a:b", Rate: 1, Period: minute})
			return err
		}
		for range 28 {
			i.must(add())
		}
		var wg sync.WaitGroup
		for n := range 12 {
			wg.Go(func() {
				_, _, err := i.Create(i.system(), Limit{Name: fmt.Sprintf("last-%d", n), Subject: SubjectGlobal,
					Permission: "a:b", Rate: 1, Period: minute})
				if err != nil && !fault.Is(err, fault.Unavailable) && !strings.Contains(err.Error(), "more than 32 limits") {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		for add() == nil {
		}
		var all int
		i.must(i.db.Get(t.Context(), &all, `SELECT COUNT(*) FROM limits WHERE permission = 'a:b'`))
		backendtest.Equal(t, all, 30, "number of limits made")
		faulttest.Want(t, faulttest.Err(i.Create(i.system(), Limit{Name: "another", Subject: SubjectGlobal, Rate: 60, Period: minute})), fault.Precondition, "TOO_MANY_LIMITS_APPLY")
		faulttest.Want(t, faulttest.Err(i.Update(i.system(), "elsewhere", Edit{Permission: new("a:b")})), fault.Precondition, "TOO_MANY_LIMITS_APPLY")
		i.create(Limit{Name: "another", Subject: SubjectGlobal, Permission: "b:*", Rate: 1})
	})
}

func TestBuiltins(t *testing.T) {
	t.Parallel()
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		instances := make([]*instance, 10)
		for n := range instances {
			instances[n] = startOn(t, db, nil)
		}
		var wg sync.WaitGroup
		for _, i := range instances {
			wg.Go(func() {
				if err := i.EnsureBuiltins(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		i := instances[0]
		list, _, err := i.List(i.system(), 10, "")
		i.must(err)
		if len(list) != 5 || list[0].Name != "anonymous-refusals-per-ip" || list[1].Name != "second-factor-per-user" ||
			list[2].Name != "sign-in-per-ip" || !list[2].Builtin ||
			list[3].Name != "sign-in-per-user" || list[4].Subject != SubjectUserIP || list[4].ContextKey != "" {
			t.Fatalf("%+v", list)
		}
		backendtest.Equal(t, i.events("sign-in-per-ip"), []string{"limit.create"}, "audit")
		var revision int64
		i.must(db.Get(t.Context(), &revision, `SELECT revision FROM change_head`))
		if revision != 1 && revision != 2 {
			t.Errorf("%d revisions, want one for each insert at most", revision)
		}

		faulttest.Want(t, faulttest.Err(i.Delete(i.system(), "sign-in-per-ip")), fault.Precondition, "BUILTIN_LIMIT")
		faulttest.WantField(t, faulttest.Err(i.Update(i.system(), "sign-in-per-ip", Edit{Outage: new(Open)})), "outage")
		i.update("sign-in-per-ip", Edit{Rate: new(int64(99))})
		i.must(i.EnsureBuiltins(t.Context()))
		l := i.get("sign-in-per-ip")
		backendtest.Equal(t, l.Rate, 99, "an edited rate after EnsureBuiltins")
	})
}
