// Package metrics is what Tollgate counts about itself, for Prometheus. Every
// label has a closed set of values: nothing that a caller sends becomes one.
package metrics

import (
	"context"
	"database/sql"
	"net/http"
	"runtime"
	"time"

	"connectrpc.com/connect"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/tollgatehq/tollgate/server/internal/limits"
)

// Metrics is a registry and what is in it. It is a connect.Interceptor, which
// belongs outside of the guard.
type Metrics struct {
	registry  *prometheus.Registry
	requests  *prometheus.CounterVec
	durations *prometheus.HistogramVec
	counted   *prometheus.CounterVec
	counting  prometheus.Histogram
	refused   *prometheus.CounterVec
}

// New makes a registry of its own.
func New() *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		refused:  newRefused(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tollgate_requests_total", Help: "Calls answered, by procedure and Connect code.",
		}, []string{"procedure", "code"}),
		durations: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "tollgate_request_duration_seconds", Help: "How long calls took, by procedure.",
			Buckets: []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5},
		}, []string{"procedure"}),
		counted: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tollgate_limiter_calls_total", Help: "Calls that limits apply to, by where they were counted (ok: by the limiter's backend, local: in this process because the backend is down, down: not at all).",
		}, []string{"outcome"}),
		counting: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "tollgate_limiter_call_duration_seconds", Help: "How long the limiter's backend took to count a call, failures included.",
			Buckets: []float64{.000005, .00005, .0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1},
		}),
	}
	for _, where := range []limits.Counted{limits.CountedOK, limits.CountedLocal, limits.CountedDown} {
		m.counted.WithLabelValues(string(where)) // so that the first failure is a rise from 0
	}
	m.registry.MustRegister(m.requests, m.durations, m.counted, m.counting, m.refused,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// Handler serves /metrics.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{Registry: m.registry})
}

// CountedCall counts a call that limits apply to: where it was counted, of a
// closed set, and how long the counters took.
func (m *Metrics) CountedCall(where limits.Counted, took time.Duration) {
	m.counted.WithLabelValues(string(where)).Inc()
	m.counting.Observe(took.Seconds())
}

// Gauge adds a figure that is read when it is asked for and may go down.
func (m *Metrics) Gauge(name, help string, read func() float64) {
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, read))
}

// Counter adds a figure that is read when it is asked for and only grows. Its
// name ends in _total.
func (m *Metrics) Counter(name, help string, read func() float64) {
	m.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help}, read))
}

// Build says what runs.
func (m *Metrics) Build(version string) {
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "tollgate_build_info", Help: "Always 1; the labels say what runs.",
		ConstLabels: prometheus.Labels{"version": version, "go_version": runtime.Version()},
	}, func() float64 { return 1 }))
}

// Database adds a connection pool's figures.
func (m *Metrics) Database(stats func() sql.DBStats) {
	m.Gauge("tollgate_database_connections_max", "How many connections to the database there may be.",
		func() float64 { return float64(stats().MaxOpenConnections) })
	m.Gauge("tollgate_database_connections_open", "Connections to the database.",
		func() float64 { return float64(stats().OpenConnections) })
	m.Gauge("tollgate_database_connections_in_use", "Connections that are working.",
		func() float64 { return float64(stats().InUse) })
	m.Counter("tollgate_database_waits_total", "How often a call has waited for a connection.",
		func() float64 { return float64(stats().WaitCount) })
	m.Counter("tollgate_database_wait_seconds_total", "How long calls have waited for a connection, together.",
		func() float64 { return stats().WaitDuration.Seconds() })
}

// WrapUnary counts unary calls.
func (m *Metrics) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
		began := time.Now()
		res, err := next(ctx, req)
		m.answered(req.Spec().Procedure, began, err)
		return res, err
	}
}

// WrapStreamingHandler counts streams, each once, when it ends.
func (m *Metrics) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return func(ctx context.Context, conn connect.StreamingHandlerConn) error {
		began := time.Now()
		err := next(ctx, conn)
		m.answered(conn.Spec().Procedure, began, err)
		return err
	}
}

// WrapStreamingClient does nothing: these are a server's metrics.
func (m *Metrics) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return next
}

func (m *Metrics) answered(procedure string, began time.Time, err error) {
	code := "ok"
	if err != nil {
		code = connect.CodeOf(err).String()
	}
	m.requests.WithLabelValues(procedure, code).Inc()
	m.durations.WithLabelValues(procedure).Observe(time.Since(began).Seconds())
}
