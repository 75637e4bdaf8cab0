package audit

import (
	"strings"
	"testing"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/database"
)

// TestOldOfAnActionIsReadByIt checks that looking for old events of an action, which were
// deleted the last time, does not read the old events of all others: a planner expects as
// many as there were.
func TestOldOfAnActionIsReadByIt(t *testing.T) {
	t.Parallel()
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		fillWithMany(t, db, 20_000)
		before := manyEnd.Add(-24 * time.Hour)
		_, err := db.Exec(t.Context(), `DELETE FROM audit_events WHERE action = 'auth.login' AND time < $1`, before.UnixMicro())
		backendtest.Must(t, err)
		for _, c := range []struct {
			before time.Time
			want   int
		}{{before, 0}, {manyEnd, 100}} {
			e := &explained{Queries: db, t: t, dialect: db.Dialect}
			old, err := listOld(t.Context(), e, db.Dialect, "auth.login", c.before, cursor{}, 100)
			backendtest.Must(t, err)
			backendtest.Equal(t, len(old), c.want, "old events")
			scans := strings.Join(e.plans[0].scans, ", ")
			if e.plans[0].read > 3*c.want || e.plans[0].sorted > 2*c.want || !strings.Contains(scans, "action") {
				t.Errorf("%d events are found by %q, %d rows, %d sorted", c.want, scans, e.plans[0].read, e.plans[0].sorted)
			}
			if c.want == 0 {
				continue
			}
			rest, err := listOld(t.Context(), db, db.Dialect, "auth.login", c.before, cursor{old[49].Time, old[49].ID}, 50)
			backendtest.Must(t, err)
			backendtest.Equal(t, rest[0].ID, old[50].ID, "the next one")
			backendtest.Equal(t, rest[49].ID, old[99].ID, "the last one")
		}
	})
}
