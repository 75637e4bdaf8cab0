package recordings

import (
	"fmt"
	"math"
	"testing"

	"github.com/tollgatehq/tollgate/internal/perm"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"pgregory.net/rapid"
)

// TestSampleIsStable: a sample is the same on every instance and whenever it is asked,
// has about the share that it should have, and all that a smaller one has.
func TestSampleIsStable(t *testing.T) {
	onDatabases(t, func(t *testing.T, here *instance) {
		here.create(Recording{Name: "tenth", Permission: "orders:*", Sample: All / 10})
		here.create(Recording{Name: "other", Permission: "bills:*", Sample: 1})
		there := start(t, here.db)
		const n = 20_000
		in := map[string]bool{}
		for q := range n {
			user, resource := fmt.Sprintf("u%d", q%200), fmt.Sprintf("orders/%d", q/200)
			recorded := here.records(user, "orders:read", resource)
			if recorded != there.records(user, "orders:read", resource) || recorded != here.records(user, "orders:read", resource) {
				t.Fatalf("%s %s is not always recorded or never", user, resource)
			}
			if recorded {
				in[user+" "+resource] = true
			}
		}
		// Four standard deviations of a binomial distribution.
		if off := math.Abs(float64(len(in) - n/10)); off > 4*math.Sqrt(n*0.1*0.9) {
			t.Errorf("%d of %d questions are in a sample of a tenth", len(in), n)
		}
		here.must(here.sample("tenth", All/5))
		more := 0
		for q := range n {
			user, resource := fmt.Sprintf("u%d", q%200), fmt.Sprintf("orders/%d", q/200)
			switch recorded := here.records(user, "orders:read", resource); {
			case recorded:
				more++
			case in[user+" "+resource]:
				t.Fatalf("%s %s is in the smaller sample only", user, resource)
			}
		}
		if more < len(in)*3/2 {
			t.Errorf("%d questions are in a sample of a fifth, and %d in one of a tenth", more, len(in))
		}
	})
}

func (i *instance) sample(name string, sample int64) error {
	_, _, err := i.Update(i.system(), name, Edit{Sample: &sample})
	return err
}

// TestSampleIsSecret: which questions are in a sample differs from server to server.
func TestSampleIsSecret(t *testing.T) {
	onDatabases(t, func(t *testing.T, here *instance) {
		there := start(t, backendtest.SQLite(t))
		same := 0
		for _, i := range []*instance{here, there} {
			i.create(Recording{Name: "half", Permission: "*", Sample: All / 2})
		}
		for q := range 1000 {
			resource := fmt.Sprint(q)
			if here.records("u", "a:b", resource) == there.records("u", "a:b", resource) {
				same++
			}
		}
		if same > 600 {
			t.Errorf("%d of 1000 questions are in both samples or in neither", same)
		}
	})
}

// TestMatch compares with the naive way: every recording, one after the other.
func TestMatch(t *testing.T) {
	t.Parallel()
	segment := rapid.SampledFrom([]string{"a", "b", "orders"})
	rapid.Check(t, func(t *rapid.T) {
		name := func(label string) string {
			text := segment.Draw(t, label)
			for range rapid.IntRange(0, 2).Draw(t, label+" more") {
				text += ":" + segment.Draw(t, label)
			}
			return text
		}
		all := map[string]Recording{}
		for n := range rapid.IntRange(0, 5).Draw(t, "recordings") {
			pattern := name("pattern")
			switch rapid.IntRange(0, 3).Draw(t, "kind") {
			case 0:
				pattern += ":*"
			case 1:
				pattern = "*"
			}
			all[fmt.Sprint(n)] = Recording{Permission: pattern, Sample: rapid.Int64Range(-1, All+1).Draw(t, "sample")}
		}
		permission, want := name("permission"), int64(0)
		for _, r := range all {
			if r.Sample < 1 || r.Sample > All {
				r.Sample = All
			}
			if perm.Match(r.Permission, permission) {
				want = max(want, r.Sample)
			}
		}
		if got := newRules("seed", all).sampleOf(permission); got != want {
			t.Fatalf("%s by %v: %d, want %d", permission, all, got, want)
		}
	})
}
