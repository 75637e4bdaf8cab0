package main_test

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/apitest"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
)

// TestChaosOverload checks that a server with all its calls in flight refuses
// more at once and still answers health checks.
func TestChaosOverload(t *testing.T) {
	t.Parallel()
	b := newBackends(t)
	const most = 16 // of one address, which gets half of the places
	c := startCluster(t, 1, settings(b.postgresProxy.URL, b.redis, "TOLLGATE_MAX_IN_FLIGHT=32"))
	s := c.on(0)
	b.postgresProxy.Set(t, backendtest.Hang)
	var mu sync.Mutex
	var shed, health []time.Duration
	other, calls := 0, often(200, 1000)
	w := newWorkers(t)
	w.work(20*time.Millisecond, func(int) {
		began := time.Now()
		a, err := s.As("").Try(context.Background(), "GET", "/healthz", nil)
		mu.Lock()
		defer mu.Unlock()
		health = append(health, time.Since(began))
		if err != nil || a.Status != http.StatusOK {
			t.Errorf("healthz: %d %s, %v", a.Status, a.Raw, err)
		}
	})
	shared(100, calls, func(int) {
		began := time.Now()
		a, err := s.Try(context.Background(), "POST", "/v1/users", object{"username": "mia", "kind": "USER_KIND_SERVICE"})
		mu.Lock()
		defer mu.Unlock()
		switch {
		case err != nil || a.Status != http.StatusServiceUnavailable || a.Header.Get("Retry-After") != "1":
			t.Errorf("a call of too many: %d %s, %v", a.Status, a.Raw, err)
		case a.Reason() == "OVERLOADED":
			shed = append(shed, time.Since(began))
		default:
			other++ // taken in, and the database hangs
		}
	})
	w.end()
	d := spread(shed)
	promise(t, "an overloaded instance refuses at once instead of queueing (Unavailable, Retry-After 1)",
		len(shed) > 0 && other >= most && (!chaos || d.p99 < 250*time.Millisecond),
		"%d calls at %d places: refused %s; healthz: %s", calls, most, d, spread(health))
	a := s.Call(t, "POST", "/v1/auth/whoami", strings.Repeat(" ", 1<<10))
	if a.Status == http.StatusServiceUnavailable {
		t.Errorf("places were not given back: %s", a.Raw)
	}
}

// TestChaosLoginFlood checks that a flood of sign-ins does not slow down
// Verify.
func TestChaosLoginFlood(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, "TOLLGATE_BCRYPT_COST=12")
	s := c.on(0)
	verify := func() distribution {
		times := make([]time.Duration, often(300, 5000))
		shared(2, len(times), func(i int) {
			began := time.Now()
			a, err := s.Try(context.Background(), "POST", "/v1/auth/verify", object{"accessToken": c.admin})
			times[i] = time.Since(began)
			if err != nil || a.Status != http.StatusOK {
				t.Errorf("verify: %d %s, %v", a.Status, a.Raw, err)
			}
		})
		return spread(times)
	}
	verify() // everything is warm
	alone := verify()
	w := newWorkers(t)
	var mu sync.Mutex
	statuses := map[int]int{}
	for range 32 {
		w.work(time.Millisecond, func(int) {
			a, err := s.As("").Try(context.Background(), "POST", "/v1/auth/login", object{"username": "admin", "password": "wrong"})
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				statuses[a.Status]++
			}
		})
	}
	apitest.Eventually(t, "the flood is there", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return statuses[http.StatusServiceUnavailable]+statuses[http.StatusUnauthorized] > 5
	})
	flooded := verify()
	w.end()
	ratio := func(a, b time.Duration) float64 { return float64(a) / float64(b) }
	promise(t, "a flood of sign-ins (32 at once, bcrypt 12) leaves Verify alone: median at most 2 times as long, 99 of 100 at most 4 times",
		!chaos || ratio(flooded.p50, alone.p50) <= 2 && ratio(flooded.p99, alone.p99) <= 4,
		"alone: %s; flooded: %s; p50 ×%.1f, p99 ×%.1f; sign-ins checked %d, refused as busy %d",
		alone, flooded, ratio(flooded.p50, alone.p50), ratio(flooded.p99, alone.p99), statuses[http.StatusUnauthorized], statuses[http.StatusServiceUnavailable])
}
