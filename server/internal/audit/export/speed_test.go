package export

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/database"
)

// TestExportSpeed exports TOLLGATE_EXPORT_EVENTS events (make export-speed: a million) in
// each format, and prints how fast, and the most memory that the heap had.
func TestExportSpeed(t *testing.T) {
	events, measured := 3000, false
	if text := os.Getenv("TOLLGATE_EXPORT_EVENTS"); text != "" {
		var err error
		events, err = strconv.Atoi(text)
		backendtest.Must(t, err)
		measured = true
	}
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		f := newFixture(db)
		f.fill(t, events)
		for _, format := range Formats() {
			lines, sent := 0, 0
			began, peak := time.Now(), watchHeap(measured)
			backendtest.Must(t, f.export.Export(as(t.Context(), "u1"), Query{Format: format}, func(p Part) error {
				lines += bytes.Count(p.Lines, []byte{'\n'})
				sent += len(p.Lines)
				return nil
			}))
			took, heap := time.Since(began), peak()
			if format == CSV {
				lines-- // the header
			}
			backendtest.Equal(t, lines, events, "%s", format)
			rate := float64(events) / took.Seconds()
			if measured {
				fmt.Printf("%-8s  %-6s  %9d events  %7.1f s  %8.0f events/s  %6.1f MB/s  heap at most %3d MiB\n",
					db.Dialect, format, events, took.Seconds(), rate, float64(sent)/1e6/took.Seconds(), heap>>20)
			}
			if measured && format == NDJSON && rate < 50_000 {
				t.Errorf("%s: %.0f events/s", db.Dialect, rate)
			}
		}
	})
}

// watchHeap returns a func that says how large the heap has been since.
func watchHeap(on bool) (peak func() uint64) {
	var most uint64
	var watching sync.WaitGroup
	done := make(chan struct{})
	read := func() {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		most = max(most, m.HeapInuse)
	}
	if on {
		runtime.GC()
		watching.Go(func() {
			for ticker := time.NewTicker(20 * time.Millisecond); ; {
				select {
				case <-ticker.C:
					read()
				case <-done:
					ticker.Stop()
					return
				}
			}
		})
	}
	return func() uint64 {
		close(done)
		watching.Wait()
		return most
	}
}

// fill puts events into the log and its tree, as a busy server's are: sign-ins, refusals
// and what services record.
func (f *fixture) fill(t *testing.T, n int) {
	t.Helper()
	numbers := `SELECT value AS i FROM generate_series(CAST($1 AS BIGINT), CAST($2 AS BIGINT)) AS series(value)`
	if f.db.Dialect == database.SQLite {
		numbers = `WITH RECURSIVE series(value) AS (SELECT $1 UNION ALL SELECT value + 1 FROM series WHERE value < $2) SELECT value AS i FROM series`
	}
	id := func(prefix string) string {
		return "'" + prefix + "' || CAST(1000000000 + i AS TEXT) || '5323-7bb8-b589-54f'"
	}
	const step = 5000 // a statement may take 900 ms
	for from := 0; from < n; from += step {
		backendtest.Must(t, f.db.Write(t.Context(), func(ctx context.Context, tx *database.Tx) error {
			for _, statement := range []string{
				`INSERT INTO audit_events (id, time, actor_id, actor_name, session_id, action, outcome, reason, resource, ip, user_agent, request_id, details)
				SELECT ` + id("01a22ce5") + `, 1772366400000000 + i * 1001, ` + id("01a22ce6") + `, 'anna.miller', ` + id("01a22ce7") + `,
					CASE i % 3 WHEN 0 THEN 'auth.login' WHEN 1 THEN 'access.denied' ELSE 'order.cancel' END,
					CASE i % 3 WHEN 1 THEN 'denied' ELSE 'success' END, CASE i % 3 WHEN 1 THEN 'permission_missing' ELSE '' END,
					'orders/' || CAST(i AS TEXT), '192.0.2.17', 'Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0', ` + id("01a22ce8") + `,
					CASE i % 3 WHEN 1 THEN '{"permission":"orders:cancel","service":"orders"}' ELSE '{}' END FROM (` + numbers + `) AS n`,
				`INSERT INTO audit_leaves (leaf, event_id, time, salt) SELECT i, ` + id("01a22ce5") + `, 1772366400000000 + i * 1001, '0123456789abcdef' FROM (` + numbers + `) AS n`,
			} {
				if _, err := tx.Exec(ctx, statement, from, min(from+step, n)-1); err != nil {
					return err
				}
			}
			_, err := tx.Exec(ctx, `UPDATE audit_head SET size = CAST($1 AS BIGINT)`, n)
			return err
		}))
	}
	f.written = n
}
