// Package perm reads the names of permissions and the patterns that match them,
// once for server and SDK.
package perm

import (
	"errors"
	"slices"
	"strings"
)

const (
	maxBytes    = 128
	maxSegments = 8
)

// ValidPermission says what is wrong with the name of a permission: one to
// eight segments of lower-case letters, digits, ".", "_" and "-", separated by
// colons, at most 128 bytes.
func ValidPermission(permission string) error {
	if message := problem(permission, false); message != "" {
		return errors.New(message)
	}
	return nil
}

// ValidPattern says what is wrong with a pattern: a permission whose last
// segment may be "*".
func ValidPattern(pattern string) error {
	if message := problem(pattern, true); message != "" {
		return errors.New(message)
	}
	return nil
}

// IsPermission says whether ValidPermission returns nil, and does not allocate.
func IsPermission(text string) bool { return problem(text, false) == "" }

// IsPattern is IsPermission for ValidPattern.
func IsPattern(text string) bool { return problem(text, true) == "" }

// Match says whether a pattern matches a permission. A final "*" stands for
// one or more segments: "orders:*" matches "orders:read" and
// "orders:items:read", not "orders". What is not a permission or not a pattern
// matches nothing.
func Match(pattern, permission string) bool {
	return IsPermission(permission) && IsPattern(pattern) && Covers(pattern, permission)
}

// Own says whether a permission is one of Tollgate's own API, or a pattern
// matches one that is.
func Own(pattern string) bool { return pattern == "*" || strings.HasPrefix(pattern, "tollgate:") }

// problem does not allocate: it is on the way of every decision.
func problem(text string, wildcard bool) string {
	if text == "" {
		return "must not be empty"
	}
	if len(text) > maxBytes {
		return "must be at most 128 bytes long"
	}
	segments, start := 1, 0
	for i := range len(text) {
		switch c := text[i]; {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '.', c == '_', c == '-':
		case c == ':':
			if i == start {
				return "must not have an empty segment"
			}
			segments++
			start = i + 1
		case c == '*' && !wildcard:
			return `must name one permission, without "*"`
		case c == '*':
			if i != start || i != len(text)-1 {
				return `may have "*" only as the whole last segment, as in "orders:*"`
			}
		default:
			return `may only have lower-case letters, digits, ".", "_", "-" and ":" between segments`
		}
	}
	if start == len(text) {
		return "must not have an empty segment"
	}
	if segments > maxSegments {
		return "must have at most 8 segments"
	}
	return ""
}

// Covers says whether everything that q matches, p matches too. The pattern p is
// valid; q may be a permission, and unlike Match it does not ask whether q is
// valid: no call passes by a limit because its permission is misspelled.
func Covers(p, q string) bool {
	if p == q || p == "*" {
		return true
	}
	prefix, wild := strings.CutSuffix(p, "*")
	return wild && strings.HasPrefix(q, prefix)
}

// Set is patterns compiled for looking up: a permission as it is, a wildcard
// as its prefix, "orders:" for "orders:*" and "" for "*". No valid permission
// ends in a colon, so that the two do not mix.
type Set map[string]struct{}

// Compile makes a Set of patterns, which are valid.
func Compile(patterns []string) Set {
	s := make(Set, len(patterns))
	for _, p := range patterns {
		s[strings.TrimSuffix(p, "*")] = struct{}{}
	}
	return s
}

// Covers is the function Covers for any pattern of the set, in as many
// look-ups as q has segments.
func (s Set) Covers(q string) bool {
	if _, ok := s[q]; ok {
		return true
	}
	if _, ok := s[""]; ok {
		return true
	}
	for i := range len(q) {
		if q[i] != ':' {
			continue
		}
		if _, ok := s[q[:i+1]]; ok {
			return true
		}
	}
	return false
}

// Within says whether each pattern is covered by one of the others.
func Within(patterns, others []string) bool { return len(Beyond(patterns, others)) == 0 }

// Beyond returns what the patterns match and none of the others does.
func Beyond(patterns, others []string) (more []string) {
	covered := Compile(others)
	for _, p := range patterns {
		if !covered.Covers(p) {
			more = append(more, p)
		}
	}
	return more
}

// Intersect returns the patterns that match what both sides match. Two
// patterns overlap only when one covers the other, so that the narrower ones
// are all there is.
func Intersect(a, b []string) []string {
	inA, inB := Compile(a), Compile(b)
	var both []string
	for _, p := range a {
		if inB.Covers(p) {
			both = append(both, p)
		}
	}
	for _, p := range b {
		if inA.Covers(p) {
			both = append(both, p)
		}
	}
	return Tidy(both)
}

// Tidy sorts a list of its own and drops what is there twice. It never
// returns nil.
func Tidy(patterns []string) []string {
	sorted := append([]string{}, patterns...)
	slices.Sort(sorted)
	return slices.Compact(sorted)
}
