package app

import (
	"net/http"
	"testing"

	"github.com/tollgatehq/tollgate/server/internal/apitest"
)

// TestHolds: holds over REST, from creation to deletion, and who may do that.
func TestHolds(t *testing.T) {
	t.Parallel()
	i := startEmbedded(t)
	admin := i.As(i.admin)
	made := admin.Post(t, "/v1/audit/holds", apitest.Object{
		"name": "case-17", "actor": "ann", "resource": "orders/*", "after": "2026-01-01T00:00:00Z", "reason": "a court said so",
	})
	if made.Str("hold", "createdBy") == "" || made.Str("hold", "createdAt") == "" || made.Str("hold", "after") != "2026-01-01T00:00:00Z" {
		t.Errorf("made %v", made.Body)
	}
	_, auditor := i.newUser(t, "auditor", "tollgate:audit:read")
	_, keeper := i.newUser(t, "keeper", "tollgate:audit:hold")
	for _, c := range []struct {
		method, path, token string
		body                any
		want                int
	}{
		{"GET", "/v1/audit/holds", auditor, nil, http.StatusOK},
		{"GET", "/v1/audit/holds", keeper, nil, http.StatusForbidden},
		{"POST", "/v1/audit/holds", auditor, apitest.Object{"name": "mine"}, http.StatusForbidden},
		{"DELETE", "/v1/audit/holds/case-17", auditor, nil, http.StatusForbidden},
		{"POST", "/v1/audit/holds", keeper, apitest.Object{"name": "all"}, http.StatusOK},
		{"POST", "/v1/audit/holds", keeper, apitest.Object{"name": "all"}, http.StatusConflict},
		{"POST", "/v1/audit/holds", keeper, apitest.Object{"name": "bad", "action": "auth*"}, http.StatusBadRequest},
		{"DELETE", "/v1/audit/holds/case-17", keeper, nil, http.StatusOK},
		{"DELETE", "/v1/audit/holds/case-17", keeper, nil, http.StatusNotFound},
	} {
		i.call(t, c.method, c.path, c.token, c.body).Want(t, c.want)
	}
	if list := admin.All(t, "/v1/audit/holds?", "holds"); len(list) != 1 || list[0]["name"] != "all" {
		t.Errorf("list %v", list)
	}
	if n := len(admin.Events(t, "action=tollgate.audit_release&resource=holds/case-17")); n != 1 {
		t.Errorf("%d events tell of the release, want 1", n)
	}
}
