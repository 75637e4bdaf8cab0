package main_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/apitest"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/database"
)

// TestChaosKillSequencer kills the instances that put 500 events a second into the tree.
// There is one history at every checkpoint, without gaps, and events are in it in time.
func TestChaosKillSequencer(t *testing.T) {
	t.Parallel()
	url := backendtest.PostgreSQLURL(t)
	c := startCluster(t, 3, settings(url, backendtest.EmptyRedisURL(t)))
	r := &roster{servers: append([]*tollgate(nil), c.servers...), admin: c.admin}
	db, err := database.Open(url)
	backendtest.Must(t, err)
	defer db.Close()
	checkpoints := func() (n int) {
		backendtest.Must(t, db.Get(t.Context(), &n, `SELECT COUNT(*) FROM audit_checkpoints`))
		return n
	}
	var mu sync.Mutex
	recorded := map[string]bool{}
	var acknowledged atomic.Int64
	w := newWorkers(t)
	for side := range 10 {
		w.work(20*time.Millisecond, func(i int) {
			to, ok := r.pick(i + side)
			if !ok {
				return
			}
			a, err := to.Try(context.Background(), "POST", "/v1/audit/events", object{"action": "order.cancel", "outcome": "OUTCOME_SUCCESS"})
			if err == nil && a.Status == http.StatusOK {
				acknowledged.Add(1)
				mu.Lock()
				recorded[a.Str("event", "id")] = true
				mu.Unlock()
			}
		})
	}
	began := time.Now()
	kills := often(2, 50)
	for n := range kills {
		before, until := checkpoints(), acknowledged.Load()+rand.Int64N(500) // any moment of the making of a checkpoint
		apitest.Eventually(t, "checkpoints are signed", func() bool { return checkpoints() > before && acknowledged.Load() >= until })
		r.servers[n%len(r.servers)].kill(t)
		r.replace(n%len(r.servers), c.add(t))
	}
	w.end()
	took := time.Since(began)
	apitest.Eventually(t, "every event is in the tree", func() bool {
		var outside int
		backendtest.Must(t, db.Get(t.Context(), &outside, `SELECT COUNT(*) FROM audit_events WHERE id NOT IN (SELECT event_id FROM audit_leaves)`))
		return outside == 0
	})

	sh := newShell(t, r.servers[0].URL, "TOLLGATE_API_KEY="+r.servers[0].Post(t, "/v1/api-keys", object{"name": "verify"}).Str("secret"))
	code, verified, said := sh.try(t, "", "audit", "verify")
	var ids []string
	backendtest.Must(t, db.Select(t.Context(), &ids, `SELECT event_id FROM audit_leaves`))
	for _, id := range ids {
		delete(recorded, id)
	}
	promise(t, fmt.Sprintf("kill -9 of an instance that puts events into the audit log's tree, %d times: one history at each of its checkpoints, without gaps, with every acknowledged event", kills),
		code == 0 && strings.Contains(verified, "whole") && len(recorded) == 0,
		"%d events in %s (%.0f/s), %d checkpoints; %d events missing; %s %s", acknowledged.Load(), took.Round(time.Second),
		float64(acknowledged.Load())/took.Seconds(), checkpoints(), len(recorded), strings.TrimSpace(verified), said)

	var waits []int64
	backendtest.Must(t, db.Select(t.Context(), &waits, `SELECT (SELECT c.at FROM audit_checkpoints c WHERE c.size > l.leaf ORDER BY c.size LIMIT 1) - l.time
		FROM audit_leaves l JOIN audit_events e ON e.id = l.event_id WHERE e.action = 'order.cancel'`))
	times := make([]time.Duration, len(waits))
	for i, wait := range waits {
		times[i] = time.Duration(wait) * time.Microsecond
	}
	bound(t, "an event is under a signed checkpoint, while instances are killed", times, 2*time.Second)
}
