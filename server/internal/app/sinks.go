package app

import (
	"context"
	"fmt"

	"github.com/tollgatehq/tollgate/server/internal/fault"
	"github.com/tollgatehq/tollgate/server/internal/metrics"
	"github.com/tollgatehq/tollgate/server/internal/sinks"
)

// checkpoint is the newest signed checkpoint, empty before there is one.
func (a *App) checkpoint(ctx context.Context) (size int64, note string, err error) {
	signed, err := a.audit.Checkpoint(ctx)
	if fault.Is(err, fault.NotFound) {
		return 0, "", nil
	}
	return signed.Size, string(signed.Note), err
}

// openSinks makes the sinks of the audit log, nil when none is configured. Only servers
// have them: a command may not be able to read their secrets.
func (a *App) openSinks() (*sinks.Service, error) {
	targets, err := sinks.Parse(a.config.AuditSinks, sinks.Env{Version: a.config.Version, Clock: a.clock, Checkpoint: a.checkpoint})
	if err != nil {
		return nil, fmt.Errorf("--audit-sink: %w", err)
	}
	if len(targets) == 0 {
		return nil, nil
	}
	s := sinks.New(sinks.Options{DB: a.db, Log: a.audit, Targets: targets, Clock: a.clock, Logger: a.out.Log})
	by := func(read func(sinks.Status) float64) func() map[string]float64 {
		return func() map[string]float64 {
			figures := map[string]float64{}
			for _, status := range s.Status() {
				figures[status.Name] = read(status)
			}
			return figures
		}
	}
	m := a.metrics
	m.By("sink", metrics.Gauge, "tollgate_audit_sink_lag_events", "Events that an audit sink has not confirmed. The same for every instance.",
		by(func(s sinks.Status) float64 { return float64(s.Lag) }))
	m.By("sink", metrics.Gauge, "tollgate_audit_sink_last_success_timestamp_seconds", "When an audit sink last confirmed events, or had them all.",
		by(func(s sinks.Status) float64 { return float64(s.Confirmed.UnixMilli()) / 1000 }))
	m.By("sink", metrics.Counter, "tollgate_audit_sink_failures_total", "Deliveries of this instance to an audit sink that failed; they are repeated.",
		by(func(s sinks.Status) float64 { return float64(s.Failures) }))
	m.By("sink", metrics.Counter, "tollgate_audit_sink_skipped_events_total", "Events that were removed from the log before an audit sink had them. The same for every instance.",
		by(func(s sinks.Status) float64 { return float64(s.Skipped) }))
	return s, nil
}
