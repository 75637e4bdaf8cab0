package audit

import (
	"context"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tollgatehq/tollgate/internal/auditlog"
	"github.com/tollgatehq/tollgate/server/internal/audit/tree"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/clock"
	"github.com/tollgatehq/tollgate/server/internal/database"
)

// TestVerifyManyEvents puts a large log into the tree and verifies it, and prints how fast
// and in how much memory.
func TestVerifyManyEvents(t *testing.T) {
	onTrees(t, func(t *testing.T, s *Service, fake *clock.Fake) {
		n := manyEvents(t)
		fillWithMany(t, s.db, n)
		exec(t, s, `DELETE FROM audit_leaves`)
		settle(t, s)
		fake.Advance(signEvery)
		began := time.Now()
		backendtest.Must(t, s.Sequence(t.Context()))
		sequenced := time.Since(began)

		var most atomic.Uint64
		measure := func(int64, int64) {
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			most.Store(max(most.Load(), m.HeapAlloc))
		}
		began = time.Now()
		report, err := auditlog.Verification{Source: s.Source(), Keys: keysOf(t, s), Tell: measure}.Verify(t.Context())
		backendtest.Must(t, err)
		verified := time.Since(began)
		backendtest.Equal(t, report.Checkpoint.Size, int64(n), "size")
		backendtest.Equal(t, len(report.Findings), 0, "findings")
		t.Logf("%d events: into the tree in %s (%.0f/s), verified in %s (%.0f/s) with at most %d MB of heap", n,
			sequenced.Round(time.Millisecond), float64(n)/sequenced.Seconds(), verified.Round(time.Millisecond), float64(n)/verified.Seconds(), most.Load()>>20)
	})
}

// TestMovedManyEvents checks that a large log goes on that was dumped and restored on
// another PostgreSQL server, though it takes longer than a statement may.
func TestMovedManyEvents(t *testing.T) {
	t.Parallel()
	address := backendtest.PostgreSQLURL(t)
	db := backendtest.Open(t, address)
	n, ahead := manyEvents(t), int64(1)<<40
	fillWithMany(t, db, n)
	backendtest.Must(t, db.Alone(t.Context(), 1, true, func(ctx context.Context, slow *database.DB) error {
		_, err := slow.Exec(ctx, `UPDATE audit_events SET writer = writer + $1`, ahead)
		return err
	}))
	hurried, err := database.OpenWithin(address, 250*time.Millisecond)
	backendtest.Must(t, err)
	defer hurried.Close()
	began := time.Now()
	rows, next, err := unsequenced(t.Context(), hurried, tree.Head{Size: int64(n), Writer: ahead, Position: int64(n)}, sequenceAtOnce)
	backendtest.Must(t, err)
	t.Logf("%d events of another server: looked at in %s", n, time.Since(began).Round(time.Millisecond))
	backendtest.Equal(t, len(rows), 0, "events that are not in the tree")
	backendtest.Equal(t, next, tree.Head{Size: int64(n), Floor: int64(n)}, "where the tree goes on")
}
