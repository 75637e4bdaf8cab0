package app

import (
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/metrics"
)

// A flood of refused calls makes one line a reason with their number, however
// many there are.
func TestAFloodOfRefusedCallsIsALineAReason(t *testing.T) {
	t.Parallel()
	var log lines
	r := newRefused(metrics.New(), slog.New(slog.NewJSONHandler(&log, nil)))
	for range 10_290 {
		r.count(metrics.RefusedBusy, nil)
		r.count(metrics.RefusedLimited, nil)
		r.count(metrics.RefusedHungUp, nil)
		r.count(metrics.RefusedTimeout, errors.New("late"))
	}
	r.count(metrics.RefusedUnavailable, errors.New("first"))
	r.count(metrics.RefusedUnavailable, errors.New("no route to host"))
	if log.String() != "" {
		t.Errorf("lines before the interval is over: %s", log.String())
	}
	r.flush(t.Context())
	r.flush(t.Context()) // nothing is left to say
	got := strings.Split(strings.TrimSpace(log.String()), "\n")
	if len(got) != 2 {
		t.Fatalf("%d lines, want one for busy and one for unavailable: %s", len(got), log.String())
	}
	for i, want := range []struct {
		reason, cause string
		count         float64
	}{{"busy", "", 10_290}, {"unavailable", "no route to host", 2}} {
		var line map[string]any
		backendtest.Must(t, json.Unmarshal([]byte(got[i]), &line))
		cause, _ := line["last_error"].(string)
		if line["msg"] != "calls refused" || line["reason"] != want.reason || line["count"] != want.count || cause != want.cause {
			t.Errorf("line %s", got[i])
		}
	}
}
