package metrics

import (
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// The labels are the names of routes, of which there are not more than are told
// apart, and classes of statuses.
func TestGatewayHasABoundedSetOfRoutes(t *testing.T) {
	t.Parallel()
	m := New()
	g := m.Gateway(func() int64 { return 7 })
	for i := range maxGatewayRoutes + 100 {
		g.Ended(fmt.Sprintf("route-%d", i), 200)
	}
	g.Ended("route-1", 503)
	g.Ended("", 403)
	g.Ended("", 0)
	g.Began(time.Millisecond)
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	for _, want := range []string{
		`tollgate_gateway_requests_total{code="2xx",route="route-1"} 1`,
		`tollgate_gateway_requests_total{code="5xx",route="route-1"} 1`,
		`tollgate_gateway_requests_total{code="2xx",route="other"} 100`,
		`tollgate_gateway_requests_total{code="4xx",route="-"} 1`,
		`tollgate_gateway_requests_total{code="none",route="-"} 1`,
		`tollgate_gateway_requests_in_flight 7`,
		`tollgate_gateway_response_seconds_count 1`,
	} {
		if !strings.Contains(w.Body.String(), want+"\n") {
			t.Errorf("there is no %s", want)
		}
	}
	if n := strings.Count(w.Body.String(), "\ntollgate_gateway_requests_total{"); n > maxGatewayRoutes+4 {
		t.Errorf("%d series", n)
	}
}
