package app

import (
	"net/http"
	"testing"

	"github.com/tollgatehq/tollgate/server/internal/apitest"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
)

// TestReserve counts a language model's tokens: first what a call may take, then what
// it did take.
func TestReserve(t *testing.T) {
	t.Parallel()
	onDatabases(t, func(t *testing.T, i *instance) {
		i.call(t, "POST", "/v1/limits", i.admin, map[string]any{
			"name": "tokens", "subject": "SUBJECT_CUSTOM", "contextKey": "tenant", "permission": "model:use", "rate": 1000, "period": "2678400s",
			"algorithm": "ALGORITHM_FIXED_WINDOW", "overrides": []any{map[string]any{"key": "acme-*", "rate": 5000}},
		}).Want(t, 200)
		_, token := i.newUser(t, "service", "tollgate:limits:check")
		_, other := i.newUser(t, "another", "tollgate:limits:check")
		service := i.As(token)
		reserve := func(cost int) apitest.Answer {
			return service.Call(t, "POST", "/v1/limits/reserve", map[string]any{"limit": "tokens", "key": "acme-eu", "cost": cost})
		}
		made := reserve(4000).Want(t, 200)
		id := made.Str("reservationId")
		backendtest.Equal(t, made.Str("status", "remaining"), "1000", "remaining after a reservation")
		refused := reserve(1001).Want(t, 200)
		if refused.At("allowed") == true || refused.Str("reservationId") != "" {
			t.Errorf("%s", refused.Raw)
		}
		settle := func(as, id string) apitest.Answer {
			return i.call(t, "POST", "/v1/limits/settle", as, map[string]any{"reservationId": id, "cost": 700})
		}
		backendtest.Equal(t, settle(other, id).Want(t, http.StatusNotFound).Reason(), "RESERVATION_NOT_FOUND", "reason for another service")
		backendtest.Equal(t, settle(token, id).Want(t, 200).Str("status", "remaining"), "4300", "remaining after the settlement")
		backendtest.Equal(t, settle(token, id).Want(t, http.StatusNotFound).Reason(), "RESERVATION_NOT_FOUND", "reason for a second settlement")

		// Limits of Tollgate's own API are counted by administrators only.
		a := service.Call(t, "POST", "/v1/limits/reserve", map[string]any{"limit": "sign-in-per-ip", "key": "192.0.2.1", "cost": 30})
		backendtest.Equal(t, a.Want(t, http.StatusForbidden).Reason(), "LIMITS_TOLLGATE", "reason for a limit on sign-ins")
	})
}
