package app

import (
	"fmt"
	"slices"
	"testing"

	"github.com/tollgatehq/tollgate/server/internal/apitest"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
)

// TestPreviewReplaysWhatWasAllowed: who would lose what they use is answered from the
// record: each question once, whatever several permissions it named, and with how many
// recorded calls were decided again.
func TestPreviewReplaysWhatWasAllowed(t *testing.T) {
	t.Parallel()
	onDatabases(t, func(t *testing.T, i *instance) {
		admin := i.As(i.admin)
		admin.Post(t, "/v1/roles", apitest.Object{"name": "clerk", "permissions": []string{"orders:read", "orders:write"}, "grants": []apitest.Object{
			{"permission": "orders:audit", "condition": `context.reason != ""`}, {"permission": "orders:pack", "condition": `ip == "192.0.2.7"`},
		}})
		alice := admin.NewUser(t, "alice", "a password of alice", "clerk")
		bob := admin.NewUser(t, "bob", "a password of bob", "clerk")
		i.recording(t, "orders", "orders:*", 0)
		may := func(request apitest.Object) { t.Helper(); i.wantDecision(t, "a call", request, "OK") }
		for range 3 {
			may(apitest.Object{"userId": alice, "permission": "orders:write", "resource": "orders/1"})
		}
		may(apitest.Object{"userId": alice, "permission": "orders:read", "resource": "orders/1"})
		may(apitest.Object{"userId": bob, "anyOf": []string{"bills:read", "orders:write"}})
		may(apitest.Object{"userId": bob, "allOf": []string{"orders:read", "orders:write"}})
		may(apitest.Object{"userId": bob, "permission": "orders:pack"})
		may(apitest.Object{"userId": bob, "permission": "orders:audit", "context": apitest.Object{"reason": "4711"}}) // which is not on record
		may(apitest.Object{"userId": bob, "permission": "orders:none", "self": bob, "selfOnly": true})
		i.wantDecision(t, "refused", apitest.Object{"userId": bob, "permission": "bills:read"}, "PERMISSION_MISSING")

		preview := func(replay int) (refusals, allows any, replayed []string) {
			t.Helper()
			a := admin.Post(t, "/v1/roles/clerk/preview", apitest.Object{"replay": replay, "update": apitest.Object{
				"permissions": []string{"orders:read", "bills:*"}, "grants": []apitest.Object{{"permission": "orders:pack", "condition": `ip == "192.0.2.8"`}},
			}})
			for _, r := range a.List("replayed") {
				name := map[any]string{alice: "alice", bob: "bob"}[r["userId"]]
				replayed = append(replayed, fmt.Sprintf("%s %s %s: %s %s", name, r["permission"], r["resource"], r["before"], r["after"]))
			}
			slices.Sort(replayed)
			return a.At("replayedRefusals"), a.At("replayedAllows"), replayed
		}
		refusals, allows, replayed := preview(100)
		backendtest.Equal(t, fmt.Sprint(refusals, allows), "1 7", "decided again")
		backendtest.Equal(t, replayed, []string{
			"alice orders:write orders/1: REASON_OK REASON_PERMISSION_MISSING",
			"bob all of orders:read, orders:write : REASON_OK REASON_PERMISSION_MISSING",
			"bob bills:read : REASON_PERMISSION_MISSING REASON_OK",
			"bob orders:pack : REASON_OK REASON_CONDITION_FALSE",
		}, "decided otherwise")
		refusals, allows, replayed = preview(0)
		backendtest.Equal(t, fmt.Sprint(refusals, allows, replayed), "0 0 []", "without")
		_, allows, _ = preview(3)
		backendtest.Equal(t, fmt.Sprint(allows), "1", "of the latest three, with two that cannot be decided again")
	})
}
