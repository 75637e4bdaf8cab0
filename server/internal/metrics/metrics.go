// Package metrics is what Tollgate counts about itself, for Prometheus. Every
// label has a closed set of values: nothing that a caller sends becomes one.
package metrics

import (
	"context"
	"database/sql"
	"net/http"
	"time"

	"connectrpc.com/connect"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/tollgatehq/tollgate/server/internal/caller"
)

// Metrics is a registry and what is in it. It is a connect.Interceptor, which
// belongs outside of the guard.
type Metrics struct {
	registry  *prometheus.Registry
	requests  *prometheus.CounterVec
	durations *prometheus.HistogramVec
	decisions *prometheus.CounterVec
}

// New makes a registry of its own.
func New() *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tollgate_requests_total", Help: "Calls answered, by procedure and Connect code.",
		}, []string{"procedure", "code"}),
		durations: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "tollgate_request_duration_seconds", Help: "How long calls took, by procedure.",
			Buckets: []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5},
		}, []string{"procedure"}),
		decisions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tollgate_decisions_total", Help: "Decisions, by whom they were made for (api: Tollgate's own calls, service: Authorize) and reason.",
		}, []string{"door", "reason"}),
	}
	m.registry.MustRegister(m.requests, m.durations, m.decisions,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// Handler serves /metrics.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{Registry: m.registry})
}

// Decided counts a decision.
func (m *Metrics) Decided(door string, reason caller.Reason) {
	m.decisions.WithLabelValues(door, string(reason)).Inc()
}

// Gauge adds a figure that is read when it is asked for.
func (m *Metrics) Gauge(name, help string, read func() float64) {
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, read))
}

// Database adds a connection pool's figures.
func (m *Metrics) Database(stats func() sql.DBStats) {
	gauges := []struct {
		name, help string
		read       func(sql.DBStats) float64
	}{
		{"tollgate_database_connections_open", "Connections to the database.", func(s sql.DBStats) float64 { return float64(s.OpenConnections) }},
		{"tollgate_database_connections_in_use", "Connections that are working.", func(s sql.DBStats) float64 { return float64(s.InUse) }},
		{"tollgate_database_waits", "How often a call has waited for a connection.", func(s sql.DBStats) float64 { return float64(s.WaitCount) }},
	}
	for _, g := range gauges {
		m.Gauge(g.name, g.help, func() float64 { return g.read(stats()) })
	}
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
