package app

import (
	"testing"

	"github.com/tollgatehq/tollgate/server/internal/backendtest"
)

// TestThresholdEvent: who follows the audit log is told that a key has used a quota.
func TestThresholdEvent(t *testing.T) {
	t.Parallel()
	onDatabases(t, func(t *testing.T, i *instance) {
		i.call(t, "POST", "/v1/limits", i.admin, map[string]any{
			"name": "monthly", "subject": "SUBJECT_CUSTOM", "contextKey": "tenant", "permission": "model:use", "rate": 10,
			"algorithm": "ALGORITHM_CALENDAR", "calendar": "CALENDAR_MONTH", "timeZone": "Europe/Berlin",
		}).Want(t, 200)
		check := map[string]any{"limit": "monthly", "key": "acme", "cost": 9}
		i.call(t, "POST", "/v1/limits/check", i.admin, check).Want(t, 200)
		i.call(t, "POST", "/v1/limits/check", i.admin, check).Want(t, 200)
		var got []string
		for range 100 { // commits later, and nobody waits for it: each event recorded meanwhile gives it time
			i.call(t, "POST", "/v1/audit/events", i.admin, map[string]any{"action": "order.cancel", "outcome": "OUTCOME_SUCCESS"}).Want(t, 200)
			got = nil
			for _, e := range i.As(i.admin).Events(t, "action=limit.threshold") {
				details := e["details"].(map[string]any)
				got = append(got, details["key"].(string)+" "+details["percent"].(string)+" "+details["per"].(string)+" "+e["resource"].(string))
			}
			if len(got) == 2 {
				break
			}
		}
		backendtest.Equal(t, len(got), 2, "number of events: %v", got)
		for _, one := range got {
			if one != "acme 80 month in Europe/Berlin limits/monthly" && one != "acme 100 month in Europe/Berlin limits/monthly" {
				t.Errorf("event %s", one)
			}
		}
	})
}
