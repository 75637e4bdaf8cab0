package app

import (
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	tollgate "github.com/tollgatehq/tollgate/sdk"
	"github.com/tollgatehq/tollgate/sdk/conditions"
	"github.com/tollgatehq/tollgate/server/internal/apitest"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
)

// asking counts the calls that a client asks about.
type asking struct{ n atomic.Int64 }

func (a *asking) RoundTrip(r *http.Request) (*http.Response, error) {
	if strings.Contains(r.URL.Path, "Authorize") {
		a.n.Add(1)
	}
	return http.DefaultTransport.RoundTrip(r)
}

// TestLocalCallersAskAboutWhatIsRecorded: a service that decides calls by itself has each
// call recorded that a recording matches, whatever allows it, and goes on to decide the
// others, and all when the recording has gone. Nothing in the SDK is about recordings: it
// holds for versions that do not know them.
func TestLocalCallersAskAboutWhatIsRecorded(t *testing.T) {
	t.Parallel()
	i := startEmbedded(t)
	admin := i.As(i.admin)
	id, token := i.newUser(t, "alice", "orders:*", "bills:read")
	admin.Post(t, "/v1/roles", apitest.Object{"name": "owners", "grants": []apitest.Object{
		{"permission": "docs:read", "condition": `resource.id == "42"`},
	}})
	admin.Assign(t, "owners", id)
	var asked asking
	client := i.localService(t, "local", &http.Client{Transport: &asked}, tollgate.LocalConfig{Conditions: conditions.Evaluator()}, "tollgate:policy:conditions")
	waits := func(revision string) {
		t.Helper()
		n, err := strconv.ParseInt(revision, 10, 64)
		backendtest.Must(t, err)
		backendtest.Must(t, client.WaitPolicy(t.Context(), n))
	}
	calls := map[string]tollgate.AuthorizeRequest{
		"a role":      {Permission: "orders:read"},
		"a condition": {Permission: "docs:read", Resource: "docs/42"},
		"self":        {Permission: "orders:none", Self: id},
		"self only":   {Permission: "orders:none", Self: id, SelfOnly: true},
		"any caller":  {Permission: "orders:none", Authenticated: true},
		"one of":      {AnyOf: []string{"bills:read", "orders:read"}},
		"all of":      {AllOf: []string{"bills:read", "orders:read"}},
	}
	authorize := func(what string, r tollgate.AuthorizeRequest, wantAsked, wantRecorded int) {
		t.Helper()
		r.Credential = token
		before, events := asked.n.Load(), len(i.allowed(t, "access.allowed"))
		for range 2 {
			d, err := client.Authorize(t.Context(), r)
			backendtest.Must(t, err)
			if !d.Allowed {
				t.Errorf("%s: %s", what, d.Reason)
			}
		}
		backendtest.Equal(t, int(asked.n.Load()-before), wantAsked, "%s: calls that were asked about", what)
		backendtest.Equal(t, len(i.allowed(t, "access.allowed"))-events, wantRecorded, "%s: events", what)
	}
	_, err := client.Authorize(t.Context(), tollgate.AuthorizeRequest{Credential: token, Permission: "bills:read"})
	backendtest.Must(t, err)
	for what, call := range calls {
		authorize(what+", before", call, 0, 0)
	}
	waits(admin.Post(t, "/v1/audit/recordings", apitest.Object{"name": "orders", "permission": "orders:*"}).Str("revision"))
	waits(admin.Post(t, "/v1/audit/recordings", apitest.Object{"name": "docs", "permission": "docs:read"}).Str("revision"))
	for what, call := range calls {
		authorize(what, call, 2, 2)
	}
	authorize("not recorded", tollgate.AuthorizeRequest{Permission: "bills:read"}, 0, 0)
	// A client that comes now is told, too.
	late := i.localService(t, "late", &http.Client{Transport: &asked}, tollgate.LocalConfig{})
	before := len(i.allowed(t, "access.allowed"))
	for range 3 {
		_, err := late.Authorize(t.Context(), tollgate.AuthorizeRequest{Credential: token, Permission: "orders:read"})
		backendtest.Must(t, err)
	}
	backendtest.Equal(t, len(i.allowed(t, "access.allowed"))-before, 3, "events of a client that came later")

	waits(admin.Patch(t, "/v1/audit/recordings/docs", apitest.Object{"permission": "others:*"}).Str("revision"))
	waits(admin.Call(t, "DELETE", "/v1/audit/recordings/orders", nil).Want(t, http.StatusOK).Str("revision"))
	for what, call := range calls {
		authorize(what+", after", call, 0, 0)
	}
}
