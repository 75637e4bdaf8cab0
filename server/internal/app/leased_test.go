package app

import (
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	tollgate "github.com/tollgatehq/tollgate/sdk"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
)

// TestLeasedCallers: services that let calls pass by leases let pass what the limit
// does, in every interval, and some of it without asking.
func TestLeasedCallers(t *testing.T) {
	t.Parallel()
	const rate, burst = 400, 120
	i := startEmbedded(t)
	user, _ := i.newUser(t, "alice", "orders:read")
	i.call(t, "POST", "/v1/limits", i.admin, map[string]any{
		"name": "orders", "permission": "orders:*", "subject": "SUBJECT_USER", "rate": rate, "burst": burst, "period": "1s", "lease": true, "leaseTime": "0.1s",
	}).Want(t, 200)
	type pass struct{ from, to time.Time } // it was at a time between the two
	var mu sync.Mutex
	var passed []pass
	leased := 0 // which no limit counted there
	var running sync.WaitGroup
	for _, name := range []string{"one", "two"} {
		client := i.localService(t, name, http.DefaultClient, tollgate.LocalConfig{}, "tollgate:limits:check")
		running.Go(func() {
			for began := time.Now(); time.Since(began) < 1200*time.Millisecond; {
				from := time.Now()
				d, err := client.Authorize(t.Context(), tollgate.AuthorizeRequest{UserID: user, Permission: "orders:read"})
				if err != nil {
					t.Error(err)
					return
				}
				if d.Allowed {
					mu.Lock()
					passed = append(passed, pass{from, time.Now()})
					if d.Limits == nil {
						leased++
					}
					mu.Unlock()
				}
			}
		})
	}
	running.Wait()
	slices.SortFunc(passed, func(a, b pass) int { return a.to.Compare(b.to) })
	for i, first := range passed {
		n := 0
		for _, last := range passed[i:] {
			if last.from.Before(first.to) { // it may have been before the interval
				continue
			}
			if n++; float64(n) > burst+rate*last.to.Sub(first.to).Seconds() {
				t.Fatalf("%d calls in %s", n, last.to.Sub(first.to))
			}
		}
	}
	backendtest.Equal(t, len(passed) > rate, true, "most of the limit is used")
	if leased == 0 {
		t.Error("no call passed by a lease")
	}
	t.Logf("%d calls passed, %d of them by leases", len(passed), leased)
}
