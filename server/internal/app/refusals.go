package app

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"

	"github.com/tollgatehq/tollgate/server/internal/metrics"
)

// refused counts the calls that were turned away, and writes of those that our
// own state turned away one line a reason and interval to the log: a flood must
// not become a flood of lines.
type refused struct {
	metrics *metrics.Metrics
	log     *slog.Logger

	mu    sync.Mutex
	since map[string]tally // by reason, since the last flush
}

type tally struct {
	count int
	cause error // the latest that is known
}

func newRefused(m *metrics.Metrics, log *slog.Logger) *refused {
	return &refused{metrics: m, log: log, since: map[string]tally{}}
}

// count counts a call that was turned away for one of the reasons in metrics;
// cause, which may be nil, is for the log only.
func (r *refused) count(reason string, cause error) {
	r.metrics.Refused(reason)
	if reason == metrics.RefusedLimited || reason == metrics.RefusedHungUp || reason == metrics.RefusedTimeout {
		return // the caller's doing: a figure is enough
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	t := r.since[reason]
	t.count++
	if cause != nil {
		t.cause = cause
	}
	r.since[reason] = t
}

// flush writes what was counted since the last time. Call it every ten seconds
// and at the end.
func (r *refused) flush(ctx context.Context) {
	r.mu.Lock()
	since := r.since
	r.since = map[string]tally{}
	r.mu.Unlock()
	for _, reason := range slices.Sorted(maps.Keys(since)) {
		t := since[reason]
		r.log.WarnContext(ctx, "calls refused", "reason", reason, "count", t.count, "last_error", t.cause)
	}
}
