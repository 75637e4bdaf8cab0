package main_test

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/apitest"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
)

// TestChaosRedisFaults checks that a failing Redis adds at most 50 ms to a
// call, that limits follow their outage mode, and that the server uses Redis
// again soon after it is back.
func TestChaosRedisFaults(t *testing.T) {
	t.Parallel()
	for _, m := range []backendtest.Mode{backendtest.Refuse, backendtest.Hang, backendtest.Reset} {
		t.Run(m.String(), func(t *testing.T) {
			b := newBackends(t)
			c := startCluster(t, 1, settings(b.postgres, b.redisProxy.URL))
			s := c.on(0)
			limit := func(name, outage string, allowance int) {
				s.Post(t, "/v1/limits", object{"name": name, "subject": "SUBJECT_CUSTOM", "contextKey": "who", "permission": "orders:*",
					"rate": allowance, "period": "3600s", "burst": allowance, "outage": outage})
			}
			limit("wide", "OUTAGE_LOCAL", 1000000)
			limit("local", "OUTAGE_LOCAL", 5)
			limit("open", "OUTAGE_OPEN", 1)
			limit("closed", "OUTAGE_CLOSED", 1000000)
			check := func(limit string) (allowed bool, took time.Duration) {
				began := time.Now()
				a := s.Post(t, "/v1/limits/check", object{"limit": limit, "key": "one"})
				return a.At("allowed") == true, time.Since(began)
			}
			passed := func(limit string, n int) (passed int) {
				for range n {
					if ok, _ := check(limit); ok {
						passed++
					}
				}
				return passed
			}
			usual := make([]time.Duration, often(50, 500))
			for i := range usual {
				_, usual[i] = check("wide")
			}
			s.Patch(t, "/v1/limits/sign-in-per-user", object{"rate": 10, "burst": 10})

			b.redisProxy.Set(t, m)
			times := make([]time.Duration, often(200, 2000))
			shared(4, len(times), func(i int) { _, times[i] = check("wide") })
			added, d := make([]time.Duration, len(times)), spread(usual)
			for i := range times {
				added[i] = max(0, times[i]-d.p50)
			}
			with := spread(added)
			// What is over 50 ms is the machine's own: the call waited for a processor.
			promise(t, "Redis "+m.String()+": what it adds to a request is at most 50 ms and scheduling",
				!chaos || with.p99 <= 60*time.Millisecond, "added: %s; usual: %s", with, d)
			open, closed, local := passed("open", 20), passed("closed", 20), passed("local", 20)
			limited := 0
			for range 20 {
				if s.As("").Call(t, "POST", "/v1/auth/login", object{"username": "nobody", "password": "wrong"}).Status == http.StatusTooManyRequests {
					limited++
				}
			}
			promise(t, "Redis "+m.String()+": limits go by their outage mode, and sign-ins stay limited",
				open == 20 && closed == 0 && local == 5 && limited >= 9,
				"of 20 calls passed: open %d, closed %d, local with 5 allowed %d; of 20 sign-ins with 10 allowed refused %d", open, closed, local, limited)
			if a := s.Call(t, "PATCH", "/v1/limits/sign-in-per-user", object{"outage": "OUTAGE_OPEN"}); a.Status != http.StatusBadRequest {
				t.Errorf("a sign-in limit that opens: %d %s", a.Status, a.Raw)
			}

			b.redisProxy.Set(t, backendtest.Pass)
			back := time.Now()
			apitest.Eventually(t, "limits are counted in Redis again", func() bool { ok, _ := check("closed"); return ok })
			bound(t, "Redis "+m.String()+", then is back: it is used again without a restart", []time.Duration{time.Since(back)}, 5*time.Second)
		})
	}
}

// TestChaosPostgreSQLFaults checks that without PostgreSQL credentials are
// verified for as long as the staleness bound, and that calls that need the
// database are unavailable within a second and have no effect.
func TestChaosPostgreSQLFaults(t *testing.T) {
	t.Parallel()
	for _, m := range []backendtest.Mode{backendtest.Refuse, backendtest.Hang, backendtest.Reset} {
		t.Run(m.String(), func(t *testing.T) {
			t.Parallel()
			staleness := time.Duration(often(2, 5)) * time.Second
			b := newBackends(t)
			c := startCluster(t, 1, settings(b.postgresProxy.URL, b.redis, "TOLLGATE_STALENESS="+staleness.String()))
			s := c.on(0)
			key := s.NewService(t, "shop")
			verify := object{"apiKey": key}
			s.Post(t, "/v1/auth/verify", verify)

			b.postgresProxy.Set(t, m)
			down := time.Now()
			w := newWorkers(t)
			var mu sync.Mutex
			var firstRefusal, lastAnswer time.Duration
			var took []time.Duration
			w.work(20*time.Millisecond, func(int) {
				asked := time.Since(down)
				a, err := s.As(key).Try(context.Background(), "POST", "/v1/auth/verify", verify)
				answered := time.Since(down)
				mu.Lock()
				defer mu.Unlock()
				took = append(took, answered-asked)
				switch {
				case err == nil && a.Status == http.StatusOK:
					lastAnswer = asked
				case err != nil || a.Status != http.StatusServiceUnavailable || a.Header.Get("Retry-After") == "":
					t.Errorf("verify: %d %s, %v", a.Status, a.Raw, err)
				case firstRefusal == 0:
					firstRefusal = asked
				}
			})
			wrong := 0
			needs := []struct {
				method, path string
				body         any
			}{
				{"POST", "/v1/users", object{"username": "mia", "password": "a password of mia"}},
				{"POST", "/v1/auth/login", object{"username": "admin", "password": adminPassword}},
				{"POST", "/v1/roles", object{"name": "packer", "permissions": []string{"orders:pack"}}},
				{"POST", "/v1/audit/events", object{"action": "orders.ship", "resource": "orders/1", "outcome": "OUTCOME_SUCCESS"}},
				{"POST", "/v1/authorize", object{"apiKey": key, "permission": "orders:read"}}, // a refusal, which is recorded
				{"GET", "/v1/users", nil},
			}
			for time.Since(down) < staleness+time.Second {
				together(len(needs), func(i int) {
					began := time.Now()
					a, err := s.Try(context.Background(), needs[i].method, needs[i].path, needs[i].body)
					mu.Lock()
					defer mu.Unlock()
					took = append(took, time.Since(began))
					if err != nil || a.Status != http.StatusServiceUnavailable || a.Header.Get("Retry-After") == "" {
						wrong++
						t.Logf("%s %s: %d %s, %v", needs[i].method, needs[i].path, a.Status, a.Raw, err)
					}
				})
			}
			apitest.Eventually(t, "verify is refused", func() bool {
				mu.Lock()
				defer mu.Unlock()
				return firstRefusal > 0
			})
			w.end()
			promise(t, "PostgreSQL "+m.String()+": Verify answers within the staleness bound, then it is unavailable",
				firstRefusal > staleness/2 && lastAnswer <= staleness,
				"staleness %s: answered until %s, refused from %s", staleness,
				lastAnswer.Round(time.Millisecond), firstRefusal.Round(time.Millisecond))
			promise(t, "PostgreSQL "+m.String()+": what reads or writes the truth is Unavailable with Retry-After", wrong == 0, "otherwise answered: %d", wrong)
			bound(t, "PostgreSQL "+m.String()+": every answer, of Verify too, within 1 s", took, time.Second)

			b.postgresProxy.Set(t, backendtest.Pass)
			back := time.Now()
			apitest.Eventually(t, "writes succeed again", func() bool {
				return s.Call(t, "POST", "/v1/roles", object{"name": fmt.Sprintf("back-%d", time.Since(back)), "permissions": []string{"orders:read"}}).Status == http.StatusOK
			})
			bound(t, "PostgreSQL "+m.String()+", then is back: it is used again without a restart", []time.Duration{time.Since(back)}, 5*time.Second)

			happened := len(s.Get(t, "/v1/users?username=mia").List("users"))
			if s.Call(t, "GET", "/v1/roles/packer", nil).Status == http.StatusOK {
				happened++
			}
			happened += len(s.Events(t, "action=orders.ship"))
			promise(t, "PostgreSQL "+m.String()+": what could not be recorded did not happen", happened == 0, "%d of 3 things happened", happened)
		})
	}
}
