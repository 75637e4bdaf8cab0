package main_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/apitest"
)

// drainDelay is longer than the balancer takes to see that a server ends, also where
// another one does not answer it.
const drainDelay = "TOLLGATE_DRAIN_DELAY=3s"

// balancer sends requests in turn to the servers that are ready, or to their
// gateways. It checks them every 50 ms and retries nothing.
type balancer struct {
	*httptest.Server
	mu    sync.Mutex
	ready []*httputil.ReverseProxy
	next  atomic.Int64
}

func newBalancer(t *testing.T, servers func() []*tollgate, address func(*tollgate) string) *balancer {
	t.Helper()
	b := &balancer{}
	proxies := map[string]*httputil.ReverseProxy{}
	look := func(int) {
		var ready []*httputil.ReverseProxy
		for _, s := range servers() {
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			a, err := s.Try(ctx, "GET", "/readyz", nil)
			cancel()
			if err != nil || a.Status != http.StatusOK {
				continue
			}
			if proxies[s.URL] == nil {
				to, err := url.Parse(address(s))
				if err != nil {
					t.Error(err)
					return
				}
				proxies[s.URL] = &httputil.ReverseProxy{
					Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(to) },
					Transport: &http.Transport{MaxIdleConnsPerHost: 64},
				}
			}
			ready = append(ready, proxies[s.URL])
		}
		b.mu.Lock()
		defer b.mu.Unlock()
		b.ready = ready
	}
	look(0)
	b.Server = httptest.NewServer(b)
	t.Cleanup(b.Close)
	newWorkers(t).work(50*time.Millisecond, look)
	return b
}

func (b *balancer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	// A response may begin before the end of the request's body was read: net/http
	// would close the body then, and the transport the connection with the response.
	if err := http.NewResponseController(w).EnableFullDuplex(); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	b.mu.Lock()
	ready := b.ready
	b.mu.Unlock()
	if len(ready) == 0 {
		http.Error(w, "no server is ready", http.StatusBadGateway)
		return
	}
	ready[int(b.next.Add(1))%len(ready)].ServeHTTP(w, r)
}

// TestChaosRollingRestart checks that a rolling restart behind a balancer fails
// no request.
func TestChaosRollingRestart(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, drainDelay)
	r := &roster{servers: append([]*tollgate(nil), c.servers...), admin: c.admin}
	b := newBalancer(t, func() []*tollgate {
		r.mu.Lock()
		defer r.mu.Unlock()
		return append([]*tollgate(nil), r.servers...)
	}, func(s *tollgate) string { return s.URL })
	front := apitest.New(t, b.URL).As(c.admin)
	front.HTTP.Transport = &http.Transport{MaxIdleConnsPerHost: 64}

	var good, bad atomic.Int64
	var first sync.Once
	w := newWorkers(t)
	began := time.Now()
	for side := range 8 {
		w.work(20*time.Millisecond, func(i int) {
			method, path, body := "GET", "/v1/auth/whoami", any(nil)
			switch i % 4 {
			case 1:
				method, path, body = "POST", "/v1/users", object{"username": fmt.Sprintf("user-%d-%d", side, i), "kind": "USER_KIND_SERVICE"}
			case 2:
				method, path, body = "POST", "/v1/authorize", object{"accessToken": c.admin, "permission": "orders:read"}
			case 3:
				method, path, body = "POST", "/v1/audit/events", object{"action": "orders.ship", "resource": "orders/1", "outcome": "OUTCOME_SUCCESS"}
			}
			a, err := front.Try(context.Background(), method, path, body)
			if err == nil && a.Status == http.StatusOK {
				good.Add(1)
				return
			}
			bad.Add(1)
			first.Do(func() { t.Logf("the first failure: %s %s: %d %s, %v", method, path, a.Status, a.Raw, err) })
		})
	}
	rounds := often(1, 5)
	for range rounds {
		for i, old := range append([]*tollgate(nil), r.servers...) {
			before := good.Load()
			apitest.Eventually(t, "work goes on", func() bool { return good.Load() > before+20 })
			old.stop(t)
			r.replace(i, c.add(t))
		}
	}
	w.end()
	promise(t, fmt.Sprintf("%d restarts, one after the other, of 3 instances behind a balancer that tries nothing twice: no failed request", 3*rounds),
		bad.Load() == 0, "%d requests (%.0f/s), failed %d", good.Load()+bad.Load(), float64(good.Load())/time.Since(began).Seconds(), bad.Load())
}
