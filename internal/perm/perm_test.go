package perm

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestMatch(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		pattern         string
		matches, others []string
	}{
		{"orders:read", []string{"orders:read"}, []string{"orders:write", "orders", "orders:read:all"}},
		{"orders:*", []string{"orders:read", "orders:items:read"}, []string{"orders", "orders:", "orders2:read", "orders:*"}},
		{"orders:items:*", []string{"orders:items:read"}, []string{"orders:read"}},
		{"*", []string{"orders", "orders:items:read"}, []string{"", "Orders:read", "orders::read"}},
		{"orders*", nil, []string{"orders*", "orders2"}}, // not a pattern
		{"*:read", nil, []string{"orders:read"}},
		{"", nil, []string{""}},
	} {
		for _, permission := range slices.Concat(c.matches, c.others) {
			equal(t, Match(c.pattern, permission), slices.Contains(c.matches, permission), "Match(%q, %q)", c.pattern, permission)
		}
	}
}

func TestValidPattern(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("a", 128)
	for message, texts := range map[string][]string{ // part of the message; empty: valid
		"":              {"orders", "orders:items.v2:read_all-now", "a:b:c:d:e:f:g:h", "a:b:c:d:e:f:g:*", long, "*", "orders:*"},
		"8 segments":    {"a:b:c:d:e:f:g:h:i", "a:b:c:d:e:f:g:h:*"},
		"128 bytes":     {long + "a"},
		"empty":         {""},
		"empty segment": {":", "orders:", ":orders", "orders::read"},
		"last segment":  {"*:read", "orders:*:read", "orders:re*", "orders:**", "**"},
		"lower-case":    {"Orders:read", "orders read", "órders", "orders\x00"},
	} {
		for _, text := range texts {
			if err := ValidPattern(text); (err == nil) != (message == "") || err != nil && !strings.Contains(err.Error(), message) {
				t.Errorf("ValidPattern(%q) = %v, want one with %q", text, err, message)
			}
			equal(t, ValidPermission(text) == nil, message == "" && !strings.Contains(text, "*"), "ValidPermission(%q)", text)
		}
	}
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

// A pattern is covered exactly when it matches nothing that is not matched
// already. What it matches most of all is a segment that nobody else names.
func TestCoversAgainstModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		patterns, q := somePatterns.Draw(t, "patterns"), somePattern.Draw(t, "q")
		permission := somePermission.Draw(t, "permission")
		got := Compile(patterns).Covers(q)
		if got && matches(q, permission) && !anyMatches(patterns, permission) {
			t.Fatalf("%q covers %q but does not match %q", patterns, q, permission)
		}
		if witness := strings.Replace(q, "*", "other", 1); got != anyMatches(patterns, witness) {
			t.Fatalf("%q covers %q: %v, but %q says otherwise", patterns, q, got, witness)
		}
		if single := slices.ContainsFunc(patterns, func(p string) bool { return Covers(p, q) }); got != single {
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

func equal(t *testing.T, got, want bool, format string, args ...any) {
	t.Helper()
	if got != want {
		t.Errorf(format+": %v, want %v", append(args, got, want)...)
	}
}
