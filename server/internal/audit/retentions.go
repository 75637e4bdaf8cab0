package audit

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"time"
)

// Retentions say how long events are kept, by their action. The zero value keeps all for
// good.
type Retentions struct {
	Default time.Duration            // 0: for good
	For     map[string]time.Duration // by an action, or "auth.*" for all that start with "auth."; 0: for good
}

// shortestRetention is how long events are kept at least.
const shortestRetention = 24 * time.Hour

var retainedActions = regexp.MustCompile(`^[a-z][a-z0-9_-]*(\.[a-z][a-z0-9_-]*)*(\.\*)?$`)

// Check returns an error that says which retention is none.
func (r Retentions) Check() error {
	long := func(d time.Duration) bool { return d == 0 || d >= shortestRetention }
	if !long(r.Default) {
		return fmt.Errorf("must be 0, to keep the audit log for good, or at least 24h, not %s", r.Default)
	}
	for _, pattern := range slices.Sorted(maps.Keys(r.For)) {
		switch d := r.For[pattern]; {
		case len(pattern) > nameSize || !retainedActions.MatchString(pattern):
			return fmt.Errorf("%q is neither an action, such as access.denied, nor the beginning of actions, such as auth.*", pattern)
		case matchText(pattern, actionSeparator, string(Retention)):
			return fmt.Errorf("%q would delete events of %s, which are kept for good: they explain what is not in the log any more", pattern, Retention)
		case !long(d):
			return fmt.Errorf("%s must be 0, to keep these events for good, or at least 24h, not %s", pattern, d)
		}
	}
	return nil
}

// Delete says whether there are events that are not kept for good.
func (r Retentions) Delete() bool {
	for _, d := range r.For {
		if d > 0 {
			return true
		}
	}
	return r.Default > 0
}

// of is how long events of an action are kept: as the action itself says, or else the
// longest beginning of it that is there.
func (r Retentions) of(action string) time.Duration {
	if d, ok := r.For[action]; ok {
		return d
	}
	kept, longest := r.Default, ""
	for pattern, d := range r.For {
		if len(pattern) > len(longest) && matchText(pattern, actionSeparator, action) {
			kept, longest = d, pattern
		}
	}
	return kept
}

// longest is after which time no event is kept; 0 when some are kept for good.
func (r Retentions) longest() time.Duration {
	longest := r.Default
	for _, d := range r.For {
		if d == 0 || longest == 0 {
			return 0
		}
		longest = max(longest, d)
	}
	return longest
}
