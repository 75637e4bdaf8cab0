package metrics

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/decision"
)

// decisions reads what is counted elsewhere, so that a decision is counted once.
type decisions struct {
	about *prometheus.Desc
	each  func(func(source decision.Source, reason caller.Reason, count uint64))
}

// Decisions adds the counts of decisions, of closed sets of sources and reasons.
func (m *Metrics) Decisions(each func(func(source decision.Source, reason caller.Reason, count uint64))) {
	m.registry.MustRegister(&decisions{prometheus.NewDesc("tollgate_decisions_total",
		"Decisions, by source (api: Tollgate's own calls, service: Authorize, forward_auth, ext_authz, gateway) and reason.",
		[]string{"source", "reason"}, nil), each})
}

// Describe implements prometheus.Collector.
func (d *decisions) Describe(out chan<- *prometheus.Desc) { out <- d.about }

// Collect implements prometheus.Collector.
func (d *decisions) Collect(out chan<- prometheus.Metric) {
	d.each(func(source decision.Source, reason caller.Reason, count uint64) {
		out <- prometheus.MustNewConstMetric(d.about, prometheus.CounterValue, float64(count), string(source), string(reason))
	})
}
