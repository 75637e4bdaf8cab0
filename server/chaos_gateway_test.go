package main_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/apitest"
)

var gatewayServes = regexp.MustCompile(`the gateway is serving","address":"([^"]+)"`)

// gatewayURL is where a server's gateway listens.
func gatewayURL(t *testing.T, s *tollgate) string {
	t.Helper()
	m := gatewayServes.FindStringSubmatch(s.stderr.String()) // said before the greeting's server answers
	if m == nil {
		t.Error("the server does not say where its gateway is")
		return ""
	}
	return "http://" + m[1]
}

// TestChaosGatewayRollingRestart checks that a rolling restart of gateways behind a
// balancer fails no request, also none that takes long.
func TestChaosGatewayRollingRestart(t *testing.T) {
	t.Parallel()
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || r.Header.Get("Tollgate-Assertion") == "" {
			w.WriteHeader(http.StatusTeapot)
			return
		}
		if strings.HasSuffix(r.URL.Path, "/slow") {
			<-time.After(300 * time.Millisecond)
		}
		w.Write(body)
	}))
	t.Cleanup(upstream.Close)
	c := newCluster(t, 2, drainDelay, "TOLLGATE_GATEWAY_LISTEN=127.0.0.1:0", "TOLLGATE_GATEWAY_UPSTREAM="+upstream.URL)
	c.on(0).Post(t, "/v1/routes", object{"name": "orders", "path": "/orders/{rest...}", "permission": "orders:read"})
	r := &roster{servers: append([]*tollgate(nil), c.servers...), admin: c.admin}
	b := newBalancer(t, func() []*tollgate {
		r.mu.Lock()
		defer r.mu.Unlock()
		return append([]*tollgate(nil), r.servers...)
	}, func(s *tollgate) string { return gatewayURL(t, s) })
	front := apitest.New(t, b.URL).As(c.admin)
	front.HTTP.Transport = &http.Transport{MaxIdleConnsPerHost: 64}
	apitest.Eventually(t, "the route is in force everywhere", func() bool {
		for _, s := range c.servers {
			if a, err := apitest.New(t, gatewayURL(t, s)).As(c.admin).Try(t.Context(), "GET", "/orders/1", nil); err != nil || a.Status != http.StatusOK {
				return false
			}
		}
		return true
	})

	var good, bad atomic.Int64
	var first sync.Once
	w := newWorkers(t)
	began := time.Now()
	large := strings.Repeat("x", 64<<10)
	for range 8 {
		w.work(20*time.Millisecond, func(i int) {
			method, path, body := "GET", "/orders/1", ""
			switch i % 4 {
			case 1:
				method, body = "POST", large
			case 2:
				path = "/orders/slow"
			case 3:
				method, body, path = "PUT", large, "/orders/slow"
			}
			a, err := front.Try(context.Background(), method, path, body)
			if err == nil && a.Status == http.StatusOK && string(a.Raw) == body {
				good.Add(1)
				return
			}
			bad.Add(1)
			first.Do(func() { t.Logf("the first failure: %s %s: %d %.200s, %v", method, path, a.Status, a.Raw, err) })
		})
	}
	restarts := often(3, 12)
	for i := range restarts {
		r.mu.Lock()
		old := r.servers[i%2]
		r.mu.Unlock()
		before := good.Load()
		apitest.Eventually(t, "work goes on", func() bool { return good.Load() > before+20 })
		old.stop(t)
		r.replace(i%2, c.add(t))
	}
	w.end()
	promise(t, fmt.Sprintf("%d restarts, one after the other, of 2 gateways behind a balancer that tries nothing twice: no failed request", restarts),
		bad.Load() == 0, "%d requests (%.0f/s), failed %d", good.Load()+bad.Load(), float64(good.Load())/time.Since(began).Seconds(), bad.Load())
}
