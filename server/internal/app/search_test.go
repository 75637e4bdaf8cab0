package app

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/apitest"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
)

// TestSearch: what services recorded is found by each filter over REST, an event by its
// id, and what no filter can be is refused with what would be one.
func TestSearch(t *testing.T) {
	t.Parallel()
	onDatabases(t, func(t *testing.T, i *instance) {
		admin := i.As(i.admin)
		service, token := i.newUser(t, "service", "tollgate:audit:record")
		var ids []string
		for _, e := range []apitest.Object{
			{"resource": "orders/1", "ip": "203.0.113.7", "reason": "out_of_stock", "requestId": "r1", "actor": apitest.Object{"userId": "mia", "sessionId": "s1"}},
			{"resource": "orders/2/lines/1", "ip": "203.0.113.200", "actor": apitest.Object{"username": "mia", "apiKeyId": "k1"}},
			{"resource": "stock/1", "ip": "2001:db8:7::1"},
		} {
			e["action"], e["outcome"] = "order.cancel", "OUTCOME_FAILURE"
			ids = append(ids, i.As(token).Call(t, "POST", "/v1/audit/events", e).Want(t, 200).Str("event", "id"))
		}
		find := func(query string) (found string) {
			for _, e := range admin.Events(t, "action=order.*&"+query) {
				found += " " + e["resource"].(string)
			}
			return strings.TrimSpace(found)
		}
		// Addresses are in the tree's rows, soon.
		apitest.Eventually(t, "events are found by their network", func() bool { return find("address=2001:db8::/32") != "" })
		for query, want := range map[string]string{
			"actor=mia": "orders/2/lines/1 orders/1", "resource=orders/*": "orders/2/lines/1 orders/1", "resource=orders/1": "orders/1", "resource=orders": "",
			"reason=out_of_stock": "orders/1", "address=203.0.113.7": "orders/1", "address=203.0.113.0/24": "orders/2/lines/1 orders/1",
			"address=203.0.113.0/25": "orders/1", "address=203.0.113.0/24&resource=orders/*&actor=mia&apiKeyId=k1": "orders/2/lines/1", "address=2001:db8::/32": "stock/1", "address=2001:db8::/48": "",
			"sessionId=s1": "orders/1", "session_id=s1": "orders/1", "apiKeyId=k1": "orders/2/lines/1", "requestId=r1": "orders/1", "requestId=r": "",
			"recordedBy=" + service + "&resource=stock/*": "stock/1", "recordedBy=mia": "",
		} {
			backendtest.Equal(t, find(query), want, "%s", query)
		}
		backendtest.Equal(t, admin.Get(t, "/v1/audit/events/"+ids[0]).Str("event", "resource"), "orders/1", "an event by its id")
		counted := admin.Get(t, "/v1/audit/summary?recordedBy="+service+"&resource=orders/*")
		if counts, _ := counted.At("counts").([]any); len(counts) != 1 || counts[0].(apitest.Object)["count"] != "2" ||
			counts[0].(apitest.Object)["action"] != "order.cancel" || counts[0].(apitest.Object)["outcome"] != "OUTCOME_FAILURE" || counted.Str("after") == "" {
			t.Errorf("summary %s", counted.Raw)
		}
		for path, want := range map[string]struct {
			status       int
			reason, says string
		}{
			"/v1/audit/events/" + strings.Repeat("0", 36):                  {404, "EVENT_NOT_FOUND", "list the events"},
			"/v1/audit/summary?after=2020-01-01T00:00:00Z":                 {400, "INVALID_FIELD", "days"},
			"/v1/audit/summary?bucket=SUMMARY_BUCKET_WEEK":                 {400, "", "bucket"},
			"/v1/audit/summary?address=localhost":                          {400, "INVALID_FIELD", "203.0.113.0/24"},
			"/v1/audit/events?address=localhost":                           {400, "INVALID_FIELD", "203.0.113.0/24"},
			"/v1/audit/events?address=203.0.113.0/33":                      {400, "INVALID_FIELD", "address"},
			"/v1/audit/events/watch?address=localhost":                     {400, "INVALID_FIELD", "203.0.113.0/24"},
			"/v1/audit/events/watch?session=1":                             {400, "INVALID_FIELD", "sessionId"},
			"/v1/audit/events/watch?lastEventId=1":                         {400, "INVALID_FIELD", "sessionId"},
			"/v1/audit/events/watch?session_id=1&sessionId=1":              {400, "INVALID_FIELD", "once"},
			"/v1/audit/events/watch?resource=" + strings.Repeat("x", 257):  {400, "INVALID_FIELD", "256"},
			"/v1/audit/events?requestId=" + strings.Repeat("x", 129):       {400, "INVALID_FIELD", "128"},
			"/v1/audit/events/" + url.PathEscape(strings.Repeat("x", 129)): {400, "INVALID_FIELD", "128"},
		} {
			a := admin.Call(t, "GET", path, nil).Want(t, want.status)
			if want.reason != "" && a.Reason() != want.reason || !strings.Contains(string(a.Raw), want.says) {
				t.Errorf("%s: %s", path, a.Raw)
			}
		}
		i.As(token).Call(t, "GET", "/v1/audit/events/"+ids[0], nil).Want(t, http.StatusForbidden)
		i.As(token).Call(t, "GET", "/v1/audit/summary", nil).Want(t, http.StatusForbidden)
	})
}

// TestWatchFilters: a stream over REST takes the filters of a list.
func TestWatchFilters(t *testing.T) {
	t.Parallel()
	i := startEmbedded(t)
	_, token := i.newUser(t, "service", "tollgate:audit:record")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, "GET", i.URL+"/v1/audit/events/watch?address=203.0.113.0/24&resource=orders/*&sessionId=s1", nil)
	backendtest.Must(t, err)
	req.Header.Set("Authorization", "Bearer "+i.admin)
	res, err := http.DefaultClient.Do(req)
	backendtest.Must(t, err)
	defer res.Body.Close()
	buffer := make([]byte, 4096)
	read := func() string {
		n, err := res.Body.Read(buffer)
		backendtest.Must(t, err)
		return string(buffer[:n])
	}
	backendtest.Equal(t, read(), ": watching\n\n", "the beginning")
	for n, e := range []apitest.Object{
		{"resource": "orders/1", "ip": "203.0.114.7", "actor": apitest.Object{"sessionId": "s1"}},
		{"resource": "orders/2", "ip": "203.0.113.7", "actor": apitest.Object{"sessionId": "s2"}},
		{"resource": "ordersx", "ip": "203.0.113.7", "actor": apitest.Object{"sessionId": "s1"}},
		{"resource": "orders/4", "ip": "203.0.113.7", "actor": apitest.Object{"sessionId": "s1"}},
	} {
		e["action"], e["outcome"] = "order.cancel", "OUTCOME_SUCCESS"
		i.As(token).Call(t, "POST", "/v1/audit/events", e).Want(t, 200)
		if n == 3 {
			if text := read(); !strings.Contains(text, "orders/4") || strings.Count(text, "data:") != 1 {
				t.Errorf("the watch gave %q", text)
			}
		}
	}
}
