package overview

import (
	"slices"
	"sync"
	"time"
)

// series is the counts of the last Window in buckets. What was counted since the
// sample before belongs to the bucket that was open then: take a sample at the end of
// each bucket.
type series struct {
	counts *Counts

	mu   sync.Mutex
	read tally
	done []bucket // complete, oldest first
	open bucket
}

type bucket struct {
	starts time.Time
	tally
}

func newSeries(counts *Counts, now time.Time) *series {
	return &series{counts: counts, read: counts.read(), open: bucket{now.Truncate(BucketLength), newTally()}}
}

// sample takes a sample. Close is when the open bucket ends.
func (s *series) sample(now time.Time) (closes time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sampleLocked(now)
}

func (s *series) sampleLocked(now time.Time) (closes time.Time) {
	read := s.counts.read()
	s.open.add(s.read, read)
	s.read = read
	current := now.Truncate(BucketLength)
	switch behind := current.Sub(s.open.starts); {
	case behind < -BucketLength || behind > Window: // the clock was set, or the machine slept
		s.done, s.open = nil, bucket{current, newTally()}
	default:
		for s.open.starts.Before(current) {
			s.done = append(s.done, s.open)
			s.open = bucket{s.open.starts.Add(BucketLength), newTally()}
		}
		if extra := len(s.done) - (buckets - 1); extra > 0 {
			s.done = slices.Clone(s.done[extra:])
		}
	}
	return s.open.starts.Add(BucketLength)
}

// since returns the buckets that begin at a time or later, after a sample.
func (s *series) since(from, now time.Time) []Bucket {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sampleLocked(now)
	var list []Bucket
	for _, b := range append(slices.Clip(s.done), s.open) {
		if !b.starts.Before(from) {
			list = append(list, b.public())
		}
	}
	return list
}

func (b bucket) public() Bucket {
	p := Bucket{StartsAt: b.starts, SignIns: b.signIns}
	for s := range b.decisions {
		for r, n := range b.decisions[s] {
			if n > 0 {
				p.Decisions = append(p.Decisions, DecisionCount{sources[s], reasons[r], n})
			}
		}
	}
	return p
}
