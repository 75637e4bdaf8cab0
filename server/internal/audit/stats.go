package audit

import (
	"sync/atomic"
	"time"
)

// Stats is what the writer has done since the start.
type Stats struct {
	Events   uint64 // written for Record
	Commits  uint64 // that wrote them
	Failures uint64 // events that Record could not write
	Refused  uint64 // events that Record did not take: too many were waiting
	Dropped  uint64 // events that Note did not take
	Allowed  uint64 // written for RecordFor, which are of Events, too
	Queued   int    // events that wait now
	Bytes    int64  // that the log took up at the last Measure; of SQLite the whole database

	Lag    time.Duration // age of the oldest event that was not in the tree when it was last looked
	Forked bool          // the tree in the database does not continue what was signed
}

// Capacity is how many events may wait.
const Capacity = queueSize

type counters struct {
	events, commits, failures, refused, dropped, allowed atomic.Uint64
	bytes, lag                                           atomic.Int64
	forked                                               atomic.Bool
}

// Stats counts.
func (s *Service) Stats() Stats {
	return Stats{
		Events: s.counters.events.Load(), Commits: s.counters.commits.Load(),
		Failures: s.counters.failures.Load(), Refused: s.counters.refused.Load(),
		Dropped: s.counters.dropped.Load(), Queued: len(s.queue), Bytes: s.counters.bytes.Load(),
		Allowed: s.counters.allowed.Load(), Lag: time.Duration(s.counters.lag.Load()), Forked: s.counters.forked.Load(),
	}
}

func (c *counters) committed(events int, err error) {
	if err != nil {
		c.failures.Add(uint64(events))
		return
	}
	c.commits.Add(1)
	c.events.Add(uint64(events))
}
