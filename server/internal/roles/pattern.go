// Package roles answers "may they": roles bundle permission patterns, users
// hold roles, and a compiled snapshot of all roles in memory decides without
// asking the database.
package roles

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

// Match says whether a pattern matches a permission. A final "*" stands for
// one or more segments: "orders:*" matches "orders:read" and
// "orders:items:read", not "orders". What is not a permission or not a pattern
// matches nothing.
func Match(pattern, permission string) bool {
	return problem(permission, false) == "" && problem(pattern, true) == "" && Covers(pattern, permission)
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

// set is patterns compiled for looking up: a permission as it is, a wildcard
// as its prefix, "orders:" for "orders:*" and "" for "*". No valid permission
// ends in a colon, so that the two do not mix.
type set map[string]struct{}

func compile(patterns []string) set {
	s := make(set, len(patterns))
	for _, p := range patterns {
		s[strings.TrimSuffix(p, "*")] = struct{}{}
	}
	return s
}

// covers is Covers for any pattern of the set, in as many
// look-ups as q has segments.
func (s set) covers(q string) bool {
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
func Within(patterns, others []string) bool { return len(beyond(patterns, others)) == 0 }

// Intersect returns the patterns that match what both sides match. Two
// patterns overlap only when one covers the other, so that the narrower ones
// are all there is.
func Intersect(a, b []string) []string {
	inA, inB := compile(a), compile(b)
	var both []string
	for _, p := range a {
		if inB.covers(p) {
			both = append(both, p)
		}
	}
	for _, p := range b {
		if inA.covers(p) {
			both = append(both, p)
		}
	}
	return tidy(both)
}

// tidy sorts a list of its own and drops what is there twice. It never
// returns nil.
func tidy(patterns []string) []string {
	sorted := append([]string{}, patterns...)
	slices.Sort(sorted)
	return slices.Compact(sorted)
}
