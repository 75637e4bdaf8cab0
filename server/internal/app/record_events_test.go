package app

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/tollgatehq/tollgate/server/internal/apitest"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
)

// TestRecordEvents: a batch counts against limits once for each event, so that it
// is no way around a limit of RecordEvent.
func TestRecordEvents(t *testing.T) {
	t.Parallel()
	onDatabases(t, func(t *testing.T, i *instance) {
		i.call(t, "POST", "/v1/limits", i.admin, map[string]any{
			"name": "reports", "subject": "SUBJECT_USER", "permission": "tollgate:audit:record", "rate": 10, "period": "86400s",
		}).Want(t, 200)
		_, token := i.newUser(t, "service", "tollgate:audit:record")
		record := func(n int, more ...any) apitest.Answer {
			events := slices.Repeat([]any{map[string]any{"action": "order.cancel", "outcome": "OUTCOME_SUCCESS"}}, n)
			return i.call(t, "POST", "/v1/audit/events/batch", token, map[string]any{"events": append(events, more...)})
		}
		a := record(11).Want(t, http.StatusTooManyRequests)
		if a.Reason() != "LIMITED" {
			t.Errorf("%s", a.Raw)
		}
		ids, _ := record(9).Want(t, 200).At("ids").([]any)
		backendtest.Equal(t, len(ids), 9, "number of ids")
		record(2).Want(t, http.StatusTooManyRequests)
		record(0, map[string]any{"action": "order.cancel", "outcome": "OUTCOME_SUCCESS"}).Want(t, 200)
		record(1).Want(t, http.StatusTooManyRequests)

		logged := i.As(i.admin).Events(t, "action=order.cancel")
		backendtest.Equal(t, len(logged), 10, "number of events")
		for _, id := range ids {
			if !slices.ContainsFunc(logged, func(e apitest.Object) bool { return e["id"] == id }) {
				t.Errorf("%s is not in the log", id)
			}
		}
		large := map[string]any{"action": "order.cancel", "outcome": "OUTCOME_SUCCESS", "reason": strings.Repeat("x", 300<<10)}
		a = record(0, large).Want(t, http.StatusRequestEntityTooLarge)
		backendtest.Equal(t, a.Reason(), "TOO_LARGE", "reason of what is too large")
	})
}
