package main_test

import (
	"log/slog"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	sdk "github.com/tollgatehq/tollgate/sdk"
	"github.com/tollgatehq/tollgate/sdk/conditions"
	"github.com/tollgatehq/tollgate/server/internal/apitest"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
)

// decisionCounter counts how often Tollgate is asked to decide.
type decisionCounter struct{ asked atomic.Int64 }

func (c *decisionCounter) RoundTrip(r *http.Request) (*http.Response, error) {
	if strings.Contains(r.URL.Path, "Authorize") {
		c.asked.Add(1)
	}
	return http.DefaultTransport.RoundTrip(r)
}

// TestLocalConditions has a service decide by conditions of a real Tollgate: what is
// surely true is decided in the service, a change of it counts, and a service that
// may not know conditions any more asks.
func TestLocalConditions(t *testing.T) {
	t.Parallel()
	s := serve(t, t.TempDir(), "TOLLGATE_ADMIN_PASSWORD="+adminPassword)
	s.Token = s.Login(t, "admin", adminPassword).Str("accessToken")
	id := s.Post(t, "/v1/users", object{"username": "docs", "kind": "USER_KIND_SERVICE"}).Str("user", "id")
	s.Post(t, "/v1/roles", object{"name": "decides", "permissions": []string{"tollgate:authorize", "tollgate:policy:watch"}})
	s.Post(t, "/v1/roles", object{"name": "conditions", "permissions": []string{"tollgate:policy:conditions"}})
	s.Assign(t, "decides", id)
	s.Assign(t, "conditions", id)
	key := s.Post(t, "/v1/api-keys", object{"name": "docs", "userId": id}).Str("secret")
	grants := func(condition string) object {
		return object{"grants": []object{
			{"permission": "docs:*", "condition": condition},
			{"permission": "docs:delete", "effect": "EFFECT_DENY", "condition": `has(resource.attributes.hold) && resource.attributes.hold`},
		}}
	}
	role := grants(`context.tenant == "acme" && resource.type == "docs" && cidr("10.0.0.0/8").containsIP(ip)`)
	role["name"] = "author"
	s.Post(t, "/v1/roles", role)
	s.NewUser(t, "alice", "a password of alice", "author")
	alice := s.Login(t, "alice", "a password of alice").Str("accessToken")

	var counter decisionCounter
	client, err := sdk.New(s.URL, sdk.WithAPIKey(key), sdk.WithTimeout(10*time.Second), sdk.WithLogger(slog.New(slog.DiscardHandler)),
		sdk.WithHTTPClient(&http.Client{Transport: &counter}), sdk.WithLocalDecisions(sdk.LocalConfig{Conditions: conditions.Evaluator()}))
	backendtest.Must(t, err)
	t.Cleanup(client.Close)
	backendtest.Must(t, client.WaitPolicy(t.Context(), 0))
	decide := func(permission, ip string) (d *sdk.Decision, asked bool) {
		t.Helper()
		before := counter.asked.Load()
		d, err := client.Authorize(t.Context(), sdk.AuthorizeRequest{
			Credential: alice, Permission: permission, Resource: "docs/plan", IP: netip.MustParseAddr(ip), Context: map[string]string{"tenant": "acme"},
		})
		backendtest.Must(t, err)
		return d, counter.asked.Load() > before
	}
	want := func(permission, ip string, reason sdk.Reason, asks bool) {
		t.Helper()
		d, asked := decide(permission, ip)
		if d.Reason != reason || asked != asks || d.Allowed && !strings.HasPrefix(d.Grant, "author: allow docs:* if ") {
			t.Errorf("%s from %s: %+v, asked %v", permission, ip, d, asked)
		}
	}
	want("docs:read", "10.1.2.3", sdk.ReasonOK, true)
	want("docs:read", "10.1.2.3", sdk.ReasonOK, false)
	want("docs:read", "192.0.2.1", sdk.ReasonConditionFalse, true)
	want("docs:delete", "10.1.2.3", sdk.ReasonOK, true) // what is registered of docs/plan is not known

	changed := s.Patch(t, "/v1/roles/author", grants(`context.tenant == "other"`))
	inForce(t, client, changed)
	want("docs:read", "10.1.2.3", sdk.ReasonConditionFalse, true)
	inForce(t, client, s.Patch(t, "/v1/roles/author", grants(`context.tenant == "acme"`)))
	want("docs:read", "10.1.2.3", sdk.ReasonOK, false)

	s.Call(t, "DELETE", "/v1/roles/conditions/members/"+id, nil).Want(t, http.StatusOK)
	apitest.Eventually(t, "it decides by no condition that it may not know any more", func() bool {
		_, first := decide("docs:read", "10.1.2.3")
		_, second := decide("docs:read", "10.1.2.3")
		return first && second
	})
}

// inForce waits until the client decides by a write.
func inForce(t *testing.T, client *sdk.Client, written apitest.Answer) {
	t.Helper()
	revision, err := strconv.ParseInt(written.Str("revision"), 10, 64)
	backendtest.Must(t, err)
	backendtest.Must(t, client.WaitPolicy(t.Context(), revision))
}
