package roles

import (
	"fmt"
	"runtime"
	"testing"

	"github.com/tollgatehq/tollgate/internal/condition"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/caller"
)

// BenchmarkJudge asks for a permission that is held without a condition, the same
// beside grants about other calls, and one that is held under a condition. What the
// condition reads is at hand.
func BenchmarkJudge(b *testing.B) {
	p := NewPolicy([]Role{
		{Name: "plain", Permissions: []string{"orders:*", "stock:read"}},
		{Name: "beside", Grants: []Grant{denyIf("secrets:*", ""), allowIf("docs:read", inOffice), allowIf("docs:write", byDay)}},
		{Name: "owner", Grants: []Grant{allowIf("orders:*", ofOwner)}},
		{Name: "heir", Inherits: []string{"plain"}},
	})
	f := &facts{user: "u1", its: map[string]any{"owner": "u1"}, ip: "10.1.2.3"}
	in := f.input()
	input := func(*condition.Condition) (*condition.Input, error) { return in, nil }
	for _, bench := range []struct {
		name  string
		roles []string
	}{
		{"Unconditional", []string{"plain"}}, {"Inherited", []string{"heir"}},
		{"BesideOthers", []string{"beside", "plain"}}, {"Condition", []string{"owner"}},
	} {
		b.Run(bench.name, func(b *testing.B) {
			who := &caller.Principal{UserID: "u1", Roles: bench.roles}
			b.ReportAllocs()
			for b.Loop() {
				if v, err := p.Judge(who, "orders:items:read", input); err != nil || v.Reason != caller.ReasonOK {
					b.Fatal(v, err)
				}
			}
		})
	}
}

// BenchmarkPolicyMemory compiles 1,000 roles of ten grants and reports what is kept
// for each grant: of conditions that differ, of the same ten in each role, and
// without a condition.
func BenchmarkPolicyMemory(b *testing.B) {
	const roles, grants = 1000, 10
	for name, text := range map[string]func(n int) string{
		"Different": func(n int) string {
			return fmt.Sprintf(`resource.attributes.owner == principal.id && context.tenant == "t%d"`, n)
		},
		"Shared": func(n int) string { return fmt.Sprintf(`context.tenant == "t%d"`, n%grants) },
		"None":   func(int) string { return "" },
	} {
		b.Run(name, func(b *testing.B) {
			var list []Role
			for r := range roles {
				role := Role{Name: fmt.Sprintf("role%d", r)}
				for g := range grants {
					n := r*grants + g
					role.Grants = append(role.Grants, allowIf(fmt.Sprintf("p%d:read", n), text(n)))
				}
				list = append(list, role)
			}
			for b.Loop() {
				before := heap()
				p := NewPolicy(list)
				b.ReportMetric(float64(heap()-before)/roles/grants, "bytes/grant")
				backendtest.Equal(b, len(p.roles), roles, "roles")
			}
		})
	}
}

// heap is how much of the heap is in use.
func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
