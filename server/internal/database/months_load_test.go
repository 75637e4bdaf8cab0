package database_test

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/database"
	"github.com/tollgatehq/tollgate/server/internal/fault/faulttest"
)

// recorders record an event after the other until stop is called, which returns how long
// each waited, the longest last.
func recorders(t *testing.T, db *database.DB, name string) (stop func() []time.Duration) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	var mu sync.Mutex
	var waits []time.Duration
	for r := range 4 {
		all.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				began := time.Now()
				_, err := db.Exec(context.Background(), `INSERT INTO audit_events (id, time, action, outcome, resource, request_id)
					VALUES ($1, $2, 'test.event', 'success', $1, $1)`, fmt.Sprint(name, r, " ", n), began.UnixMicro())
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				waits = append(waits, time.Since(began))
				mu.Unlock()
			}
		})
	}
	return func() []time.Duration {
		cancel()
		all.Wait()
		slices.Sort(waits)
		return waits
	}
}

// TestMonthsUnderLoad migrates a table with TOLLGATE_AUDIT_ROWS events while others are
// recorded, and says how long one waited at most: `make audit-months`.
func TestMonthsUnderLoad(t *testing.T) {
	t.Parallel()
	rows := 20_000
	if text := os.Getenv("TOLLGATE_AUDIT_ROWS"); text != "" {
		var err error
		rows, err = strconv.Atoi(text)
		backendtest.Must(t, err)
	}
	address := backendtest.PostgreSQLURL(t)
	db := backendtest.Open(t, address)
	downTo(t, db, months)
	slow, err := database.OpenWithin(address, 30*time.Minute)
	backendtest.Must(t, err)
	defer slow.Close()
	backendtest.Must(t, faulttest.Err(slow.Exec(t.Context(), `INSERT INTO audit_events
		(id, time, actor_id, actor_name, session_id, action, outcome, reason, resource, ip, user_agent, request_id, details)
		SELECT 'old ' || i, $2::bigint - i::bigint * 1000000, 'user-' || i % 1000, 'name-' || i % 1000, 'session-' || i % 10000, 'order.read', 'success', '',
			'orders/' || i, '192.0.2.1', 'curl/8.0', 'request-' || i, '{}' FROM generate_series(1, $1::int) AS i`, rows, time.Now().UnixMicro())))

	stop := recorders(t, db, "before ")
	var bytes int64
	backendtest.Must(t, db.Get(t.Context(), &bytes, `SELECT pg_total_relation_size('audit_events')`))
	for began := time.Now(); time.Since(began) < 3*time.Second; {
		backendtest.Must(t, db.Ping(t.Context()))
	}
	before := stop()

	stop = recorders(t, db, "meanwhile ")
	began := time.Now()
	backendtest.Must(t, faulttest.Err(db.MigrateUp(t.Context())))
	took := time.Since(began)
	during := stop()
	recorded := len(before) + len(during)
	backendtest.WantCount(t, slow, rows+recorded, `SELECT COUNT(*) FROM audit_events`)
	report := func(what string, waits []time.Duration) {
		t.Logf("%s: %d events, median %s, p99 %s, longest %s", what, len(waits), waits[len(waits)/2].Round(10*time.Microsecond),
			waits[len(waits)*99/100].Round(10*time.Microsecond), waits[len(waits)-1].Round(10*time.Microsecond))
	}
	t.Logf("%d events of %d MB, migrated in %s", rows, bytes>>20, took.Round(time.Millisecond))
	report("before the migration", before)
	report("during the migration", during)
	if longest := during[len(during)-1]; longest > 900*time.Millisecond {
		t.Errorf("an event waited %s, longer than servers wait", longest)
	}
}
