package roles

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/tollgatehq/tollgate/internal/perm"
	"github.com/tollgatehq/tollgate/server/internal/fault"
)

// Declared is what Tollgate's own API knows by name: everything under
// "tollgate:" that a pattern can match. The zero Declared checks nothing.
type Declared struct {
	Permissions []string // what calls need
	Actions     []string // what only limits count
}

// Declare sets what new patterns of the "tollgate:" namespace are compared with.
// Call it before the first request.
func (s *Service) Declare(d Declared) { s.declared = d }

// CheckPattern is the fault of a field that holds a permission pattern to give
// to a user: one that is malformed, or under "tollgate:" and matches no
// permission there, which would look as if it gave something.
func (s *Service) CheckPattern(field, pattern string) error {
	return checkPattern(field, pattern, s.declared.Permissions)
}

// checkPatterns checks the permissions of a role but for those it has already.
func (s *Service) checkPatterns(patterns, had []string) error {
	for i, p := range patterns {
		if slices.Contains(had, p) {
			continue
		}
		if err := s.CheckPattern(fmt.Sprintf("permissions[%d]", i), p); err != nil {
			return err
		}
	}
	return nil
}

// CheckCounted is CheckPattern for what a limit counts, which may be an action.
func (s *Service) CheckCounted(field, pattern string) error {
	return checkPattern(field, pattern, slices.Concat(s.declared.Permissions, s.declared.Actions))
}

func checkPattern(field, pattern string, declared []string) error {
	if err := perm.ValidPattern(pattern); err != nil {
		return fault.Field(field, "%v", err)
	}
	if len(declared) == 0 || !strings.HasPrefix(pattern, "tollgate:") ||
		slices.ContainsFunc(declared, func(name string) bool { return perm.Covers(pattern, name) }) {
		return nil
	}
	return fault.Field(field, "%q matches nothing that Tollgate has; did you mean %s? Names of your own must not start with %q",
		pattern, strings.Join(nearest(pattern, declared), ", "), "tollgate:")
}

// nearest returns the three that take the fewest edits to reach: of the declared
// names and, for a pattern with "*", of the patterns that match some.
func nearest(pattern string, declared []string) []string {
	candidates := slices.Clone(declared)
	if strings.HasSuffix(pattern, "*") {
		for _, name := range declared {
			candidates = append(candidates, name[:strings.LastIndex(name, ":")+1]+"*")
		}
	}
	slices.Sort(candidates)
	candidates = slices.Compact(candidates)
	slices.SortStableFunc(candidates, func(a, b string) int { return cmp.Compare(edits(pattern, a), edits(pattern, b)) })
	names := candidates[:min(3, len(candidates))]
	for i, name := range names {
		names[i] = fmt.Sprintf("%q", name)
	}
	return names
}

// edits counts the insertions, removals, replacements and swaps of neighbors
// that make b of a.
func edits(a, b string) int {
	var before []int // the row before the last
	last := make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := range len(a) {
		row := make([]int, len(b)+1)
		row[0] = i + 1
		for j := range len(b) {
			replaced := last[j]
			if a[i] != b[j] {
				replaced++
			}
			row[j+1] = min(last[j+1]+1, row[j]+1, replaced)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
		before, last = last, row
	}
	return last[len(b)]
}
