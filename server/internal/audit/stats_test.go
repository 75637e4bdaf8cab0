package audit

import (
	"testing"

	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/fault"
	"github.com/tollgatehq/tollgate/server/internal/fault/faulttest"
)

func TestStats(t *testing.T) {
	t.Parallel()
	db := backendtest.SQLite(t)
	s, _ := newService(db)
	waiting := enqueued(t, s, 3)
	backendtest.Equal(t, s.Stats(), (Stats{Queued: 3}), "before the writer runs")
	run(t, s)
	for _, e := range waiting {
		backendtest.Must(t, <-e.done)
	}
	backendtest.Equal(t, s.Stats(), (Stats{Events: 3, Commits: 1}), "after a commit of three")
	backendtest.Must(t, faulttest.Err(db.Exec(t.Context(), `ALTER TABLE audit_events RENAME TO lost`)))
	wantFault(t, s.Record(t.Context(), of(4)), fault.Unavailable, "AUDIT_UNAVAILABLE")
	backendtest.Equal(t, s.Stats(), (Stats{Events: 3, Commits: 1, Failures: 1}), "after a failure")
}
