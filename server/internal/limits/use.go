package limits

import "time"

// Use is a counter of a limit as a call left it.
type Use struct {
	Limit     string
	Subject   Subject
	Key       string
	Quota     int64         // calls at once when nothing is used
	Remaining int64         // calls that would pass now
	Reset     time.Duration // until nothing is used
	Exceeded  bool
	Shadow    bool
}

// nearEnd is the share of a quota, as its denominator, from which a counter is near
// its end.
const nearEnd = 5

// WatchUse calls fn for every counter that a call leaves with at most a fifth of its
// quota. Call it before the first Take. fn must not block.
func (s *Service) WatchUse(fn func(Use)) { s.nearEnd = fn }

func (s *Service) tell(matches []match, outcomes []Outcome) {
	if s.nearEnd == nil {
		return
	}
	for i, o := range outcomes {
		m := &matches[i]
		if o.Remaining > m.Burst/nearEnd && !o.Exceeded {
			continue
		}
		s.nearEnd(Use{
			Limit: m.rule.Name, Subject: m.rule.Subject, Key: m.Count.Key, Quota: m.Burst, Remaining: o.Remaining,
			Reset: o.Reset, Exceeded: o.Exceeded, Shadow: m.Shadow,
		})
	}
}
