package recordings

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/fault"
	"github.com/tollgatehq/tollgate/server/internal/fault/faulttest"
)

// TestLife: a recording from its creation to its end, in force at once here, and on
// another instance when it has read the log.
func TestLife(t *testing.T) {
	onDatabases(t, func(t *testing.T, here *instance) {
		there := start(t, here.db)
		if here.Rules() != nil || here.All() != nil {
			t.Error("there are rules without a recording")
		}
		made := here.create(Recording{Name: "orders", Description: "for the auditors", Permission: "orders:*"})
		backendtest.Equal(t, made.Sample, int64(All), "sample that was not given")
		for permission, want := range map[string]bool{
			"orders:read": true, "orders:items:read": true, "orders": false, "bills:read": false, "": false,
		} {
			backendtest.Equal(t, here.records("u1", permission, "orders/1"), want, "%s", permission)
		}
		backendtest.Equal(t, there.records("u1", "orders:read", ""), false, "recorded elsewhere before the log is read")
		here.must(there.log.Sync(t.Context()))
		backendtest.Equal(t, there.records("u1", "orders:read", ""), true, "recorded elsewhere")

		here.clock.Advance(time.Minute)
		changed, _, err := here.Update(here.system(), "orders", Edit{Permission: new("bills:pay")})
		here.must(err)
		backendtest.Equal(t, changed.UpdatedAt.Sub(changed.CreatedAt), time.Minute, "changed after it was created")
		backendtest.Equal(t, here.records("u1", "bills:pay", ""), true, "recorded after the change")
		backendtest.Equal(t, here.records("u1", "orders:read", ""), false, "recorded after the change as before")
		got, err := here.Get(t.Context(), "orders")
		here.must(err)
		backendtest.Equal(t, got, changed, "recording as stored")
		found, there2 := here.Find("orders")
		backendtest.Equal(t, found, changed, "recording in force")
		backendtest.Equal(t, there2, true, "found")

		here.clock.Advance(time.Minute)
		here.must(faulttest.Err(here.Delete(here.system(), "orders")))
		if here.Rules() != nil {
			t.Error("there are rules after the last recording has gone")
		}
		here.must(there.log.Sync(t.Context()))
		backendtest.Equal(t, there.records("u1", "bills:pay", ""), false, "recorded elsewhere after the end")
		if _, found := there.Find("orders"); found {
			t.Error("found after the end")
		}

		var actions []string
		here.must(here.db.Select(t.Context(), &actions, `SELECT action || ' ' || resource || ' ' || details FROM audit_events ORDER BY time, id`))
		want := []string{
			`recording.create recordings/orders {"permission":"orders:*","sample":"1000000"}`,
			`recording.update recordings/orders {"permission":"bills:pay","permission_before":"orders:*","sample":"1000000"}`,
			`recording.delete recordings/orders {"permission":"bills:pay","sample":"1000000"}`,
		}
		if !slices.Equal(actions, want) {
			t.Errorf("recorded %q", actions)
		}
	})
}

// TestRefused: what is wrong with a call, and that nothing is changed by it.
func TestRefused(t *testing.T) {
	onDatabases(t, func(t *testing.T, i *instance) {
		i.create(Recording{Name: "a", Permission: "a:read", Sample: 10})
		i.create(Recording{Name: "own", Permission: "tollgate:users:*"})
		i.create(Recording{Name: "action", Permission: "tollgate:refresh"})
		create := func(r Recording) error { return faulttest.Err(i.Create(i.system(), r)) }
		update := func(name string, edit Edit) error { return faulttest.Err(i.Update(i.system(), name, edit)) }
		for what, c := range map[string]struct {
			err    error
			kind   fault.Kind
			reason string
		}{
			"no name":            {create(Recording{Permission: "a:b"}), fault.Invalid, "INVALID_FIELD"},
			"a bad name":         {create(Recording{Name: "A", Permission: "a:b"}), fault.Invalid, "INVALID_FIELD"},
			"no pattern":         {create(Recording{Name: "b"}), fault.Invalid, "INVALID_FIELD"},
			"a bad pattern":      {create(Recording{Name: "b", Permission: "a*"}), fault.Invalid, "INVALID_FIELD"},
			"not Tollgate's":     {create(Recording{Name: "b", Permission: "tollgate:user:read"}), fault.Invalid, "INVALID_FIELD"},
			"a negative sample":  {create(Recording{Name: "b", Permission: "a:b", Sample: -1}), fault.Invalid, "INVALID_FIELD"},
			"a large sample":     {create(Recording{Name: "b", Permission: "a:b", Sample: All + 1}), fault.Invalid, "INVALID_FIELD"},
			"a long description": {create(Recording{Name: "b", Permission: "a:b", Description: strings.Repeat("é", 513)}), fault.Invalid, "INVALID_FIELD"},
			"a name taken":       {create(Recording{Name: "a", Permission: "b:read"}), fault.Exists, "RECORDING_EXISTS"},
			"nothing":            {update("a", Edit{}), fault.Invalid, "NOTHING_TO_UPDATE"},
			"update of none":     {update("gone", Edit{Sample: new(int64(1))}), fault.NotFound, "RECORDING_NOT_FOUND"},
			"update to a bad":    {update("a", Edit{Permission: new("tollgate:user:read")}), fault.Invalid, "INVALID_FIELD"},
			"update to a sample": {update("a", Edit{Sample: new(int64(-1))}), fault.Invalid, "INVALID_FIELD"},
			"delete of none":     {faulttest.Err(i.Delete(i.system(), "gone")), fault.NotFound, "RECORDING_NOT_FOUND"},
			"delete of NUL":      {faulttest.Err(i.Delete(i.system(), "a\x00")), fault.NotFound, "RECORDING_NOT_FOUND"},
			"get of none":        {faulttest.Err(i.Get(t.Context(), "gone")), fault.NotFound, "RECORDING_NOT_FOUND"},
		} {
			t.Run(what, func(t *testing.T) { faulttest.Want(t, c.err, c.kind, c.reason) })
		}
		list, next, err := i.List(t.Context(), 10, "")
		i.must(err)
		if len(list) != 3 || next != "" || list[1].Name != "action" {
			t.Errorf("list %v, %q", list, next)
		}
	})
}

// TestMost: there are never more than there may be, however many are created at once.
func TestMost(t *testing.T) {
	onDatabases(t, func(t *testing.T, i *instance) {
		i.must(faulttest.Err(i.db.Exec(t.Context(), `INSERT INTO recordings (name, permission, sample, created_at, updated_at)
			WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < $1)
			SELECT 'bulk' || i, 'bulk:' || i, 1000000, 0, 0 FROM n`, maxRecordings-2)))
		made := make(chan error, 6)
		for n := range cap(made) {
			go func() {
				made <- faulttest.Err(i.Create(i.system(), Recording{Name: fmt.Sprintf("new%d", n), Permission: "a:b"}))
			}()
		}
		refused := 0
		for range cap(made) {
			if err := <-made; err != nil {
				refused++
				faulttest.Want(t, err, fault.Precondition, "TOO_MANY_RECORDINGS")
			}
		}
		backendtest.Equal(t, refused, 4, "refused")
		backendtest.Equal(t, len(i.All()), maxRecordings, "recordings in force")
		backendtest.Equal(t, i.records("u1", "bulk:7", ""), true, "recorded by one of many")
	})
}
