package roles

import (
	"slices"
	"strings"
	"testing"

	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"pgregory.net/rapid"
)

func TestMatch(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		pattern, permission string
		want                bool
	}{
		{"orders:read", "orders:read", true},
		{"orders:read", "orders:write", false},
		{"orders:read", "orders", false},
		{"orders:read", "orders:read:all", false},
		{"orders:*", "orders:read", true},
		{"orders:*", "orders:items:read", true},
		{"orders:*", "orders", false},
		{"orders:*", "orders:", false},
		{"orders:*", "orders2:read", false},
		{"orders:items:*", "orders:read", false},
		{"orders:items:*", "orders:items:read", true},
		{"*", "orders", true},
		{"*", "orders:items:read", true},
		{"*", "", false},
		{"*", "Orders:read", false},     // not a permission
		{"*", "orders::read", false},    // not a permission
		{"orders:*", "orders:*", false}, // a pattern is not a permission
		{"orders*", "orders*", false},
		{"orders*", "orders2", false},
		{"*:read", "orders:read", false},
		{"", "", false},
	} {
		backendtest.Equal(t, Match(c.pattern, c.permission), c.want, "Match(%q, %q)", c.pattern, c.permission)
	}
}

func TestValidPattern(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("a", 128)
	for _, c := range []struct {
		text, message string // part of it; empty: valid
		permission    bool   // also a valid permission
	}{
		{"orders", "", true},
		{"orders:items.v2:read_all-now", "", true},
		{"a:b:c:d:e:f:g:h", "", true},
		{"a:b:c:d:e:f:g:*", "", false},
		{"a:b:c:d:e:f:g:h:i", "8 segments", false},
		{"a:b:c:d:e:f:g:h:*", "8 segments", false},
		{long, "", true},
		{long + "a", "128 bytes", false},
		{"*", "", false},
		{"orders:*", "", false},
		{"", "empty", false},
		{":", "empty segment", false},
		{"orders:", "empty segment", false},
		{":orders", "empty segment", false},
		{"orders::read", "empty segment", false},
		{"*:read", "last segment", false},
		{"orders:*:read", "last segment", false},
		{"orders:re*", "last segment", false},
		{"orders:**", "last segment", false},
		{"**", "last segment", false},
		{"Orders:read", "lower-case", false},
		{"orders read", "lower-case", false},
		{"órders", "lower-case", false},
		{"orders\x00", "lower-case", false},
	} {
		err := ValidPattern(c.text)
		switch {
		case c.message == "" && err != nil:
			t.Errorf("ValidPattern(%q) = %v, want nil", c.text, err)
		case c.message != "" && (err == nil || !strings.Contains(err.Error(), c.message)):
			t.Errorf("ValidPattern(%q) = %v, want one with %q", c.text, err, c.message)
		}
		if err := ValidPermission(c.text); (err == nil) != c.permission {
			t.Errorf("ValidPermission(%q) = %v, want valid: %v", c.text, err, c.permission)
		}
	}
}

func TestValidPatternAgainstGrammar(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringMatching(`[a-cA0._:*é-]{0,20}`).Draw(t, "text")
		if got, want := ValidPermission(text) == nil, permissionGrammar.MatchString(text); got != want {
			t.Fatalf("ValidPermission(%q): %v, want %v", text, got, want)
		}
		if got, want := ValidPattern(text) == nil, patternGrammar.MatchString(text); got != want {
			t.Fatalf("ValidPattern(%q): %v, want %v", text, got, want)
		}
	})
}

var (
	// So few segments that patterns and permissions meet often.
	somePermission = rapid.StringMatching(`[ab]{1,2}(:[ab]{1,2}){0,3}`)
	somePattern    = rapid.OneOf(somePermission,
		rapid.Map(somePermission, func(p string) string { return p + ":*" }), rapid.Just("*"))
	somePatterns = rapid.SliceOfN(somePattern, 0, 5)
)

// matches is Match said another way.
func matches(pattern, permission string) bool {
	p, q := strings.Split(pattern, ":"), strings.Split(permission, ":")
	for i, segment := range p {
		if i == len(q) {
			return false
		}
		if segment == "*" {
			return true
		}
		if segment != q[i] {
			return false
		}
	}
	return len(p) == len(q)
}

func anyMatches(patterns []string, permission string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return matches(p, permission) })
}

func TestMatchAgainstModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		pattern, permission := somePattern.Draw(t, "pattern"), somePermission.Draw(t, "permission")
		if got, want := Match(pattern, permission), matches(pattern, permission); got != want {
			t.Fatalf("Match(%q, %q) = %v, want %v", pattern, permission, got, want)
		}
	})
}

// A pattern is covered exactly when it matches nothing that is not matched
// already. What it matches most of all is a segment that nobody else names.
func TestCoversAgainstModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		patterns, q := somePatterns.Draw(t, "patterns"), somePattern.Draw(t, "q")
		permission := somePermission.Draw(t, "permission")
		got := compile(patterns).covers(q)
		if got && matches(q, permission) && !anyMatches(patterns, permission) {
			t.Fatalf("%q covers %q but does not match %q", patterns, q, permission)
		}
		if witness := strings.Replace(q, "*", "other", 1); got != anyMatches(patterns, witness) {
			t.Fatalf("%q covers %q: %v, but %q says otherwise", patterns, q, got, witness)
		}
		if single := slices.ContainsFunc(patterns, func(p string) bool { return covers(p, q) }); got != single {
			t.Fatalf("%q covers %q: %v as a set, %v one by one", patterns, q, got, single)
		}
	})
}

func TestIntersectAgainstModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		a, b := somePatterns.Draw(t, "a"), somePatterns.Draw(t, "b")
		permission := somePermission.Draw(t, "permission")
		both := Intersect(a, b)
		if got, want := anyMatches(both, permission), anyMatches(a, permission) && anyMatches(b, permission); got != want {
			t.Fatalf("%q with %q is %q, which matches %q: %v, want %v", a, b, both, permission, got, want)
		}
		if !slices.IsSorted(both) || len(slices.Compact(slices.Clone(both))) != len(both) {
			t.Fatalf("%q is not sorted, or has some twice", both)
		}
	})
}

func TestValidName(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]bool{
		"a": true, "sign-in_2.x": true, "": false, "A": false, "1a": false, "a b": false, "aé": false, "a:b": false, "a@b": false,
	} {
		if ValidName(name) != want {
			t.Errorf("%q: %v", name, !want)
		}
	}
}
