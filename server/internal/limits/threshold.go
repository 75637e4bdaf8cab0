package limits

import (
	"strconv"

	"github.com/tollgatehq/tollgate/server/internal/audit"
)

// The thresholds of a quota that are recorded, once for each key and window: as bits,
// which a calendar limit's counter keeps where others have the rest. Exactly one take
// sets a bit, wherever it is taken.
const (
	nearlyUsed = 1 << iota // 80 %
	allUsed                // 100 %, or a refusal from 80 % on
)

// reach marks the thresholds that an advanced state has reached, or at which it
// refuses, and returns those that it had not reached before. redis.lua computes the
// same: change both or neither.
func (c Count) reach(s state, refuses bool) (state, int64) {
	if c.Algorithm != Calendar {
		return s, 0
	}
	reached := int64(0)
	switch nearly := s.count*5 >= c.Burst*4; {
	case s.count >= c.Burst, nearly && refuses:
		reached = nearlyUsed | allUsed
	case nearly:
		reached = nearlyUsed
	}
	fresh := reached &^ s.rest
	s.rest |= reached
	return s, fresh
}

// Announce calls note with an event for each threshold of a calendar limit that a key
// reaches. note must not block. Call it before the first Take.
func (s *Service) Announce(note func(audit.Event) bool) { s.note = note }

// announce has the thresholds recorded that a call reached. They are the system's
// events: who made the call is not what they are about.
func (s *Service) announce(matches []match, outcomes []Outcome) {
	if s.note == nil {
		return
	}
	for i, o := range outcomes {
		m := matches[i]
		for _, t := range []struct {
			bit     int64
			percent string
		}{{nearlyUsed, "80"}, {allUsed, "100"}} {
			if o.Reached&t.bit == 0 {
				continue
			}
			e := audit.Event{Action: audit.LimitThreshold, Outcome: audit.Success, ActorName: audit.SystemActor, Resource: "limits/" + m.rule.Name}
			s.note(e.With("key", m.Count.Key).With("percent", t.percent).With("limit", strconv.FormatInt(m.Burst, 10)).
				With("per", m.rule.Per()).With("mode", string(m.rule.Mode)))
		}
	}
}
