package metrics

import "github.com/prometheus/client_golang/prometheus"

// Kind is what a figure does.
type Kind = prometheus.ValueType

// The kinds.
const (
	Counter = prometheus.CounterValue // it only grows
	Gauge   = prometheus.GaugeValue
)

// By adds figures with a label that has a closed set of values, read when they are asked
// for.
func (m *Metrics) By(label string, kind Kind, name, help string, read func() map[string]float64) {
	m.registry.MustRegister(&labeled{prometheus.NewDesc(name, help, []string{label}, nil), kind, read})
}

// labeled is a prometheus.Collector.
type labeled struct {
	desc *prometheus.Desc
	kind Kind
	read func() map[string]float64
}

func (l *labeled) Describe(to chan<- *prometheus.Desc) { to <- l.desc }

func (l *labeled) Collect(to chan<- prometheus.Metric) {
	for value, figure := range l.read() {
		to <- prometheus.MustNewConstMetric(l.desc, l.kind, figure, value)
	}
}
