package metrics

import (
	"fmt"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// maxGatewayRoutes is how many routes are told apart, those that are gone since
// the start included.
const maxGatewayRoutes = 1000

// The routes of requests that are counted together.
const (
	noRoute    = "-"     // there was none
	otherRoute = "other" // one beyond those that are told apart
)

// Gateway counts the gateway's requests.
type Gateway struct {
	requests *prometheus.CounterVec
	begins   prometheus.Histogram

	mu     sync.Mutex
	routes map[string]bool // those that have their own series
}

// Gateway adds the gateway's figures. inFlight is how many requests are under way.
func (m *Metrics) Gateway(inFlight func() int64) *Gateway {
	g := &Gateway{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tollgate_gateway_requests_total", Help: "Requests that the gateway answered, by route (- without one, other beyond 1000) and class of status.",
		}, []string{"route", "code"}),
		begins: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "tollgate_gateway_response_seconds", Help: "How long the gateway's requests took until their response began, refusals included.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 10, 60},
		}),
		routes: map[string]bool{},
	}
	m.registry.MustRegister(g.requests, g.begins)
	m.Gauge("tollgate_gateway_requests_in_flight", "Requests of the gateway that are under way, streams included.",
		func() float64 { return float64(inFlight()) })
	return g
}

// Began observes how long a request took until its response began.
func (g *Gateway) Began(took time.Duration) { g.begins.Observe(took.Seconds()) }

// Ended counts a request by the name of its route, empty for none, and the status
// of its response, 0 for none.
func (g *Gateway) Ended(route string, status int) {
	code := "none"
	if status >= 100 && status < 600 {
		code = fmt.Sprintf("%dxx", status/100)
	}
	g.requests.WithLabelValues(g.label(route), code).Inc()
}

// label keeps the number of series bounded. The names are those of routes, never
// what a client sent.
func (g *Gateway) label(route string) string {
	if route == "" {
		return noRoute
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.routes[route] {
		if len(g.routes) >= maxGatewayRoutes {
			return otherRoute
		}
		g.routes[route] = true
	}
	return route
}
