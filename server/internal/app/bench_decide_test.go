package app

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/tollgatehq/tollgate/server/internal/apitest"
	"github.com/tollgatehq/tollgate/server/internal/auth"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/decision"
)

// BenchmarkDecide asks in the process, without a client's or a transport's share, for
// a warm user whose roles allow the call without a condition, under one, and by two
// roles of which one denies something else; then without a condition where other calls
// are recorded, and where this one is but is not in the sample.
func BenchmarkDecide(b *testing.B) {
	i := startEmbedded(b)
	admin := i.As(i.admin)
	admin.Post(b, "/v1/roles", apitest.Object{"name": "one", "grants": []apitest.Object{
		{"permission": "docs:read", "condition": `resource.id == "42" && principal.kind == "person"`},
	}})
	admin.Post(b, "/v1/roles", apitest.Object{"name": "others", "grants": []apitest.Object{
		{"permission": "other:read", "condition": `context.tenant == "acme"`, "effect": "EFFECT_DENY"},
	}})
	_, plain := i.newUser(b, "alice", "orders:read")
	bob, under := i.newUser(b, "bob")
	admin.Assign(b, "one", bob)
	carol, beside := i.newUser(b, "carol", "orders:read")
	admin.Assign(b, "others", carol)
	decisions := i.decisions()
	for _, bench := range []struct{ name, token, permission, recorded string }{
		{"Unconditional", plain, "orders:read", ""},
		{"UnconditionalBesideOthers", beside, "orders:read", ""},
		{"Condition", under, "docs:read", ""},
		{"OthersRecorded", plain, "orders:read", "other:*"},
		{"NotInTheSample", plain, "orders:read", "orders:*"},
	} {
		if bench.recorded != "" {
			i.recording(b, strings.ToLower(bench.name), bench.recorded, 1)
		}
		b.Run(bench.name, func(b *testing.B) {
			b.ReportAllocs()
			r := decision.Request{
				Credential: auth.Credential{AccessToken: bench.token}, Rule: decision.Rule{Permission: bench.permission}, Resource: "docs/42",
				Context: map[string]string{"tenant": "acme"}, IP: netip.MustParseAddr("192.0.2.1"), Source: decision.SourceService,
			}
			for b.Loop() {
				d, err := decisions.Decide(b.Context(), r)
				backendtest.Must(b, err)
				if !d.Allowed {
					b.Fatal(d.Reason)
				}
			}
		})
	}
}
