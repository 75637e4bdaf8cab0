package perm

import (
	"regexp"
	"strings"
	"testing"
)

var (
	permissionGrammar = regexp.MustCompile(`^[a-z0-9._-]+(:[a-z0-9._-]+){0,7}$`)
	patternGrammar    = regexp.MustCompile(`^(\*|[a-z0-9._-]+(:[a-z0-9._-]+){0,7}|[a-z0-9._-]+(:[a-z0-9._-]+){0,6}:\*)$`)
)

// FuzzMatch compares the grammar, Match, compiled patterns and Intersect with
// regular expressions and with the matcher that goes segment by segment.
func FuzzMatch(f *testing.F) {
	for _, seed := range [][2]string{
		{"orders:*", "orders:read"}, {"orders:*", "orders"}, {"orders:*", "orders:"}, {"orders:*", "orders:items:read"},
		{"*", "a"}, {"*", ""}, {"", ""}, {"a:*:b", "a:x:b"}, {"a*", "ab"}, {"A", "A"}, {"a:b", "a:b\n"}, {"a:\x00", "a:\x00"},
		{"a:b:c:d:e:f:g:*", "a:b:c:d:e:f:g:h"}, {"a:b:c:d:e:f:g:h:*", "a:b:c:d:e:f:g:h:i"}, {"é:*", "é:a"},
		{strings.Repeat("a", 128), strings.Repeat("a", 128)}, {strings.Repeat("a", 129), strings.Repeat("a", 129)},
	} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, pattern, permission string) {
		validPattern := len(pattern) <= 128 && patternGrammar.MatchString(pattern)
		validPermission := len(permission) <= 128 && permissionGrammar.MatchString(permission)
		equal(t, ValidPattern(pattern) == nil, validPattern, "ValidPattern(%q)", pattern)
		equal(t, ValidPermission(permission) == nil, validPermission, "ValidPermission(%q)", permission)
		want := validPattern && validPermission && matches(pattern, permission)
		equal(t, Match(pattern, permission), want, "Match(%q, %q)", pattern, permission)
		if !validPattern || !validPermission {
			return
		}
		equal(t, Compile([]string{pattern}).Covers(permission), want, "%q compiled covers %q", pattern, permission)
		equal(t, len(Intersect([]string{pattern}, []string{permission})) == 1, want, "%q and %q intersect", pattern, permission)
	})
}
