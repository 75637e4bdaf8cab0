package app

import (
	"net/http"
	"net/url"
	"slices"
	"testing"
	"time"

	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
	"github.com/tollgatehq/tollgate/server/internal/apitest"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/clock"
	"google.golang.org/protobuf/encoding/protojson"
)

func (i *instance) look(t *testing.T, query string) *tollgatev1.GetOverviewResponse {
	t.Helper()
	o := &tollgatev1.GetOverviewResponse{}
	backendtest.Must(t, protojson.Unmarshal(i.As(i.admin).Get(t, "/v1/overview"+query).Raw, o))
	return o
}

// decided adds up decisions by reason, for one source.
func decided(o *tollgatev1.GetOverviewResponse, source tollgatev1.DecisionSource) map[tollgatev1.Reason]int64 {
	counts := map[tollgatev1.Reason]int64{}
	for _, b := range o.GetBuckets() {
		for _, d := range b.GetDecisions() {
			if d.GetSource() == source {
				counts[d.GetReason()] += d.GetCount()
			}
		}
	}
	return counts
}

// TestOverview: what happens on an instance is in its overview at once, for those who
// may see it.
func TestOverview(t *testing.T) {
	t.Parallel()
	clk, fake := fakeClock(time.Now())
	i := start(t, testConfig(backendtest.SQLiteURL(t)), clk)
	admin := i.As(i.admin)
	if parts := i.look(t, "").GetParts(); len(parts) != 5 || slices.ContainsFunc(parts, func(p *tollgatev1.Part) bool {
		return p.GetState() != tollgatev1.PartState_PART_STATE_OK || p.GetDetail() == ""
	}) {
		t.Errorf("parts: %v", parts)
	}

	user := admin.NewUser(t, "alice", "alice password")
	alice := i.SignedIn(t, "alice", "alice password")
	for range 3 {
		alice.Call(t, "GET", "/v1/users", nil).Want(t, http.StatusForbidden)
	}
	alice.Call(t, "GET", "/v1/overview", nil).Want(t, http.StatusForbidden)
	i.Call(t, "GET", "/v1/users", nil).Want(t, http.StatusUnauthorized)
	i.Call(t, "POST", "/v1/auth/login", apitest.Object{"username": "alice", "password": "wrong"}).Want(t, http.StatusUnauthorized)
	admin.Post(t, "/v1/authorize", apitest.Object{"userId": user, "permission": "orders:read"})

	o := i.look(t, "")
	if got := decided(o, tollgatev1.DecisionSource_DECISION_SOURCE_API); got[tollgatev1.Reason_REASON_PERMISSION_MISSING] != 4 ||
		got[tollgatev1.Reason_REASON_CREDENTIAL_MISSING] != 1 || got[tollgatev1.Reason_REASON_OK] < 5 {
		t.Errorf("decisions: %v", got)
	}
	if got := decided(o, tollgatev1.DecisionSource_DECISION_SOURCE_SERVICE); got[tollgatev1.Reason_REASON_PERMISSION_MISSING] != 1 {
		t.Errorf("a service's decisions: %v", got)
	}
	var signIns, failed int64
	for _, b := range o.GetBuckets() {
		signIns, failed = signIns+b.GetSignIns(), failed+b.GetSignInsFailed()
	}
	if signIns != 2 || failed != 1 {
		t.Errorf("%d sign-ins, %d failed", signIns, failed)
	}
	if o.GetRefused() != 6 {
		t.Errorf("%d refused", o.GetRefused())
	}
	if p := o.GetRefusedPermissions(); p[0].GetPermission() != "tollgate:users:read" || p[0].GetCount() != 4 || p[0].GetMaybeMore() != 0 ||
		!slices.ContainsFunc(p, func(p *tollgatev1.RefusedPermission) bool {
			return p.GetPermission() == "orders:read" && p.GetAskedBy() == i.user && p.GetSource() == tollgatev1.DecisionSource_DECISION_SOURCE_SERVICE
		}) {
		t.Errorf("permissions: %v", p)
	}
	if c := o.GetRefusedCallers(); c[0].GetUserId() != user || c[0].GetUsername() != "alice" || c[0].GetCount() != 5 ||
		!slices.ContainsFunc(c, func(c *tollgatev1.RefusedCaller) bool { return c.GetIp() == "127.0.0.1" && c.GetCount() == 1 }) {
		t.Errorf("callers: %v", c)
	}

	// A poll gets the buckets from the last one on that it has.
	all := o.GetBuckets()
	last := all[len(all)-1].GetStartsAt().AsTime()
	fake.Advance(12 * time.Second)
	next := i.look(t, "?since="+url.QueryEscape(last.Format(time.RFC3339))).GetBuckets()
	if len(next) < 3 || len(next) > 4 || !next[0].GetStartsAt().AsTime().Equal(last) {
		t.Errorf("since %s: %v", last, next)
	}
}

// TestOverviewOfLimits: a key that is near the end of its limit is listed, until nothing
// of it is used any more.
func TestOverviewOfLimits(t *testing.T) {
	t.Parallel()
	clk, fake := fakeClock(time.Now())
	i := start(t, testConfig(backendtest.SQLiteURL(t)), clk)
	admin := i.As(i.admin)
	admin.Post(t, "/v1/limits", apitest.Object{
		"name": "few", "subject": "SUBJECT_CUSTOM", "contextKey": "tenant", "permission": "orders:*", "rate": 10, "period": "60s",
	})
	for key, n := range map[string]int{"green": 3, "blue": 8, "red": 12} {
		for range n {
			admin.Post(t, "/v1/limits/check", apitest.Object{"limit": "few", "key": key})
		}
	}
	uses := i.look(t, "").GetLimits()
	if len(uses) != 2 || uses[0].GetKey() != "red" || !uses[0].GetExceeded() || uses[0].GetRemaining() != 0 ||
		uses[1].GetKey() != "blue" || uses[1].GetExceeded() || uses[1].GetRemaining() != 2 || uses[1].GetQuota() != 10 {
		t.Errorf("limits: %v", uses)
	}
	fake.Advance(2 * time.Minute)
	if uses := i.look(t, "").GetLimits(); len(uses) != 0 {
		t.Errorf("after their time: %v", uses)
	}
}

func TestOverviewAfterARestart(t *testing.T) {
	t.Parallel()
	config := testConfig(backendtest.SQLiteURL(t))
	before := start(t, config, clock.Real()).look(t, "").GetInstance()
	if after := start(t, config, clock.Real()).look(t, "").GetInstance(); after.GetId() == before.GetId() {
		t.Errorf("both are instance %s", after)
	}
}
