package audit

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/fault"
)

// Bucket is over how long each number of a summary counts, in UTC.
type Bucket time.Duration

// The buckets.
const (
	Hourly = Bucket(time.Hour)
	Daily  = Bucket(24 * time.Hour)
)

const (
	// summariesAtOnce is how many calls count at the same time, and summaryWait how long
	// more of them wait.
	summariesAtOnce = 2
	summaryWait     = time.Second
	// summaryTime is for one: an answer has 20 s to be sent.
	summaryTime = 10 * time.Second
)

// span is the longest time that a summary covers, and the time when none is named.
func (b Bucket) span() (longest, usual time.Duration) {
	const day = 24 * time.Hour
	if b == Daily {
		return 366 * day, 30 * day
	}
	return 31 * day, day
}

// Count is how many events of an action and outcome there were in an hour or day.
type Count struct {
	Time    time.Time // when the hour or day began
	Action  Action
	Outcome Outcome
	Events  int64
}

// Summary counts events from After on and before Before.
type Summary struct {
	After, Before time.Time
	Counts        []Count // by time, action and outcome
}

// Summary counts the events that the filter lets through. It is Invalid for a time that
// is longer than buckets allow, and Precondition, SUMMARY_TOO_LARGE, when there are too
// many counts or events.
func (s *Service) Summary(ctx context.Context, f Filter, by Bucket) (Summary, error) {
	longest, usual := by.span()
	f = f.stored()
	if f.Before.IsZero() {
		f.Before = s.clock.Now()
	}
	if f.After.IsZero() {
		f.After = f.Before.Add(-usual)
		if f.After.Year() < 1 { // which no answer can say
			f.After = time.Time{}
		}
	}
	switch {
	case !f.After.Before(f.Before):
		return Summary{}, fault.Field("after", "must be earlier than before")
	case f.Before.Sub(f.After) > longest:
		return Summary{}, fault.Field("after", "must be at most %d days earlier than before, by the hour 31 and by the day 366; ask for a shorter time or for days",
			int(longest.Hours()/24))
	}
	done, err := s.summarize(ctx)
	if err != nil {
		return Summary{}, err
	}
	defer done()
	ctx, cancel := context.WithTimeoutCause(ctx, s.summaryTime, tooLarge("counting takes longer than %s", summaryTime))
	defer cancel()
	counts, err := s.search(f).summary(ctx, time.Duration(by))
	if err != nil {
		if late, is := errors.AsType[*fault.Error](context.Cause(ctx)); is {
			return Summary{}, late.Because(err)
		}
		return Summary{}, err
	}
	return Summary{f.After, f.Before, counts}, nil
}

// summarize takes a place among the calls that count; done gives it back.
func (s *Service) summarize(ctx context.Context) (done func(), err error) {
	timer := time.NewTimer(s.summaryWait)
	defer timer.Stop()
	select {
	case s.summaries <- struct{}{}:
		return func() { <-s.summaries }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-timer.C:
		return nil, fault.New(fault.Unavailable, "SUMMARY_BUSY",
			"as many summaries as may be are being counted; try again").After(summaryWait)
	}
}

// summary counts the search's events a step at a time.
func (s search) summary(ctx context.Context, by time.Duration) ([]Count, error) {
	l, err := s.lead(ctx, cursor{})
	if err != nil || l == nil {
		return nil, err
	}
	most := s.counted
	if l.from == inLeaves {
		most /= 4
	}
	most = max(most/max(1, len(l.keys)), 1)
	found := map[Count]int64{}
	for below, read := (cursor{}), 0; ; {
		part, err := l.next(ctx, below, most)
		if err != nil {
			return nil, err
		}
		if part.empty {
			break
		}
		if read += part.most; read > s.bounds.summary {
			return nil, tooLarge("more than %d events would have to be read", s.bounds.summary)
		}
		rows, err := l.counts(ctx, part, by)
		if err != nil {
			return nil, err
		}
		for _, r := range rows {
			if l.lookUp != nil && !s.filter.Network.Contains(address(r.IP)) {
				continue
			}
			found[Count{time.UnixMicro(r.Bucket * by.Microseconds()).UTC(), r.Action, r.Outcome, 0}] += r.Events
		}
		if len(found) > s.counts {
			return nil, tooLarge("there are more than %d different counts", s.counts)
		}
		if part.last {
			break
		}
		below = part.end
	}
	counts := make([]Count, 0, len(found))
	for c, n := range found {
		c.Events = n
		counts = append(counts, c)
	}
	slices.SortFunc(counts, func(a, b Count) int {
		return cmp.Or(a.Time.Compare(b.Time), cmp.Compare(a.Action, b.Action), cmp.Compare(a.Outcome, b.Outcome))
	})
	return counts, nil
}

func tooLarge(format string, args ...any) *fault.Error {
	return fault.New(fault.Precondition, "SUMMARY_TOO_LARGE", format+"; ask for a shorter time, for days, or with a filter", args...)
}
