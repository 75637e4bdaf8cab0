package audit

import (
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tollgatehq/tollgate/internal/auditlog"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/clock"
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
