package audit

import (
	"testing"

	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/fault"
)

func TestStats(t *testing.T) {
	t.Parallel()
	db := backendtest.SQLite(t)
	s, _ := newService(db)
	waiting := enqueued(t, s, 3)
	if got := s.Stats(); got != (Stats{Queued: 3}) {
		t.Errorf("before the writer runs: %+v", got)
	}
	run(t, s)
	for _, e := range waiting {
		backendtest.Must(t, <-e.done)
	}
	if got := s.Stats(); got != (Stats{Events: 3, Commits: 1}) {
		t.Errorf("after a commit of three: %+v", got)
	}
	backendtest.Must(t, second(db.Exec(t.Context(), `ALTER TABLE audit_events RENAME TO lost`)))
	wantFault(t, s.Record(t.Context(), of(4)), fault.Unavailable, "AUDIT_UNAVAILABLE")
	if got := s.Stats(); got != (Stats{Events: 3, Commits: 1, Failures: 1}) {
		t.Errorf("after a failure: %+v", got)
	}
}

func TestStatsOfAFullQueue(t *testing.T) {
	t.Parallel()
	s, _ := newService(nil) // and nobody writes
	enqueued(t, s, queueSize)
	wantFault(t, s.Record(t.Context(), of(0)), fault.Unavailable, "AUDIT_BUSY")
	if got := s.Stats(); got != (Stats{Refused: 1, Queued: queueSize}) {
		t.Errorf("%+v", got)
	}
}
