package audit

import (
	"context"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/clock"
	"github.com/tollgatehq/tollgate/server/internal/database"
)

// TestDropMonthUnderLoad drops a month of TOLLGATE_AUDIT_ROWS events while others are
// recorded, and says how long one waited at most: `make audit-months`.
func TestDropMonthUnderLoad(t *testing.T) {
	rows := 5000
	if text := os.Getenv("TOLLGATE_AUDIT_ROWS"); text != "" {
		var err error
		rows, err = strconv.Atoi(text)
		backendtest.Must(t, err)
	}
	onMonths(t, 1, func(t *testing.T, s *Service, _ *clock.Fake, _ string) {
		s.prunePause = prunePause
		month := ahead(t, s).UnixMicro()
		backendtest.Must(t, s.db.Alone(t.Context(), 1, true, func(ctx context.Context, slow *database.DB) error {
			_, err := slow.Exec(ctx, `INSERT INTO audit_events (id, time, actor_id, actor_name, action, outcome, resource, request_id)
				SELECT 'old ' || i, $2::bigint + i, 'user-' || i % 1000, 'name-' || i % 1000, 'order.read', 'success', 'orders/' || i, 'request-' || i
				FROM generate_series(1, $1::int) AS i`, rows, month)
			if err == nil {
				_, err = slow.Exec(ctx, `INSERT INTO audit_leaves (leaf, event_id, time, salt)
					SELECT i, 'old ' || i, $2::bigint + i, 'sixteen bytes...' FROM generate_series(1, $1::int) AS i`, rows, month)
			}
			return err
		}))
		ctx, stop := context.WithCancel(t.Context())
		var recording sync.WaitGroup
		var longest time.Duration
		var recorded int
		recording.Go(func() {
			for ; ctx.Err() == nil; recorded++ {
				began := time.Now()
				if err := commit(s, of(recorded)); err != nil {
					t.Error(err)
				}
				longest = max(longest, time.Since(began))
			}
		})
		began := time.Now()
		deleted, _, err := drop(s)
		took := time.Since(began)
		stop()
		recording.Wait()
		if err != nil || deleted != int64(rows)+1 {
			t.Errorf("deleted %d, %v; want %d", deleted, err, rows+1)
		}
		backendtest.WantCount(t, s.db, 0, `SELECT COUNT(*) FROM audit_leaves`)
		t.Logf("%d events dropped, and the rows of their leaves deleted, in %s; of %d events recorded meanwhile one waited %s at most",
			deleted, took.Round(time.Millisecond), recorded, longest.Round(time.Millisecond))
		if longest > 900*time.Millisecond {
			t.Errorf("an event waited %s, longer than servers wait", longest)
		}
	})
}
