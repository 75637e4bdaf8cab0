package app

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/apitest"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
)

// BenchmarkForwardAuth asks about a request by the table of 1,000 routes, and
// reports it as a multiple of Authorize over the same transport, HTTP/1.1, on the
// same server in the same run ("x-authorize").
func BenchmarkForwardAuth(b *testing.B) {
	p := startProxied(b)
	for n := range 1000 {
		p.route(b, fmt.Sprintf("r%d", n), fmt.Sprintf("/service-%d/orders/{id}", n), apitest.Object{"permission": "orders:read", "resource": "orders/{id}"})
	}
	call := func(method, path, body string, header ...string) func() {
		return func() {
			req, err := http.NewRequestWithContext(context.Background(), method, p.URL+path, strings.NewReader(body))
			backendtest.Must(b, err)
			for i := 0; i < len(header); i += 2 {
				req.Header.Set(header[i], header[i+1])
			}
			res, err := p.HTTP.Do(req)
			backendtest.Must(b, err)
			_, err = io.Copy(io.Discard, res.Body)
			backendtest.Must(b, err)
			res.Body.Close()
			if res.StatusCode != http.StatusOK {
				b.Fatalf("%s: %d", path, res.StatusCode)
			}
		}
	}
	authorize := call("POST", "/v1/authorize", fmt.Sprintf(`{"accessToken":%q,"permission":"orders:read","resource":"orders/42"}`, p.alice),
		"Authorization", "Bearer "+p.key, "Content-Type", "application/json")
	forward := call("GET", forwardAuth, "", "X-Tollgate-Key", p.key, "Authorization", "Bearer "+p.alice,
		"X-Forwarded-Method", "GET", "X-Forwarded-Host", "orders.example", "X-Forwarded-Uri", "/service-500/orders/42?page=2", "X-Forwarded-For", "192.0.2.7")
	versus(b, authorize, forward, "x-authorize")
}

// versus reports how many times as long a call takes as another, which takes turns
// with it so that both meet the same machine.
func versus(b *testing.B, base, call func(), unit string) {
	b.Helper()
	var bases, calls time.Duration
	for range b.N {
		began := time.Now()
		base()
		middle := time.Now()
		call()
		bases += middle.Sub(began)
		calls += time.Since(middle)
	}
	b.ReportMetric(float64(calls)/float64(bases), unit)
}
