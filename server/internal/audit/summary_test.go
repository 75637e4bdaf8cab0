package audit

import (
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/clock"
	"github.com/tollgatehq/tollgate/server/internal/database"
	"github.com/tollgatehq/tollgate/server/internal/fault"
	"github.com/tollgatehq/tollgate/server/internal/fault/faulttest"
)

// A summary counts what a list would give, whatever is asked for.
func TestSummaryCountsWhatAListGives(t *testing.T) {
	t.Parallel()
	const seed, size = 11, 300
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		random := rand.New(rand.NewPCG(seed, 2))
		s, fake := newService(db)
		events := randomEvents(random, size)
		for i := range events { // over days
			events[i].Time = events[i].Time.Add(time.Duration(i) * 17 * time.Minute)
		}
		fake.Advance(40 * 24 * time.Hour)
		add(t, s, events...)
		find(t, db, events)
		for i := range 150 {
			f := randomFilter(random, size)
			f.After, f.Before = start.Add(time.Duration(random.IntN(60))*time.Hour), time.Time{}
			by := []Bucket{Hourly, Daily}[random.IntN(2)]
			if by == Hourly || i%2 == 0 {
				f.Before = f.After.Add(time.Duration(1+random.IntN(60)) * time.Hour)
			}
			if s.bounds = searchBounds(); i%4 > 0 {
				s.bounds = narrow(random)
				s.bounds.counted, s.bounds.summary, s.bounds.counts = 1+random.IntN(60), 100_000, 10_000
			}
			want := map[Count]int64{}
			for _, e := range all(t, s, f, 250) {
				want[Count{e.Time.Truncate(time.Duration(by)), e.Action, e.Outcome, 0}]++
			}
			summary, err := s.Summary(t.Context(), f, by)
			backendtest.Must(t, err)
			got := map[Count]int64{}
			for _, c := range summary.Counts {
				n := c.Events
				c.Events = 0
				got[c] = n
			}
			if !reflect.DeepEqual(got, want) || len(got) != len(summary.Counts) {
				t.Fatalf("%+v with %+v:\ngot  %v\nwant %v", f, s.bounds, got, want)
			}
		}
	})
}

func TestSummaryIsBounded(t *testing.T) {
	onDatabases(t, func(t *testing.T, s *Service, fake *clock.Fake) {
		add(t, s, things(20)...)
		fake.Advance(time.Second)
		summary, err := s.Summary(t.Context(), Filter{}, Hourly)
		if err != nil || len(summary.Counts) != 1 || summary.Counts[0] != (Count{start, "test.event", Success, 20}) ||
			!summary.Before.Equal(start.Add(time.Second)) || summary.Before.Sub(summary.After) != 24*time.Hour {
			t.Errorf("got %+v, %v", summary, err)
		}
		early, err := s.Summary(t.Context(), Filter{Before: time.Time{}.Add(time.Hour)}, Daily)
		if err != nil || early.After.Year() != 1 {
			t.Errorf("a day before the year 1 is in no answer: got %+v, %v", early, err)
		}
		for name, c := range map[string]struct {
			filter Filter
			by     Bucket
		}{
			"hours of more than 31 days": {Filter{After: start.Add(-32 * 24 * time.Hour)}, Hourly},
			"more than a year":           {Filter{After: start.Add(-367 * 24 * time.Hour)}, Daily},
			"no time":                    {Filter{After: start, Before: start}, Hourly},
			"backwards":                  {Filter{After: start, Before: start.Add(-time.Hour)}, Hourly},
			"from the future":            {Filter{After: start.Add(time.Hour)}, Hourly},
		} {
			_, err := s.Summary(t.Context(), c.filter, c.by)
			if f := fault.From(err); err == nil || f.Kind != fault.Invalid || f.Violations[0].Field != "after" {
				t.Errorf("%s: %v", name, err)
			}
		}
		s.bounds.counted, s.bounds.summary = 10, 15
		wantFault(t, faulttest.Err(s.Summary(t.Context(), Filter{}, Hourly)), fault.Precondition, "SUMMARY_TOO_LARGE")
		s.bounds = searchBounds()
		other := of(1)
		other.Outcome = Denied
		add(t, s, other)
		fake.Advance(time.Second)
		s.bounds.counts = 1
		wantFault(t, faulttest.Err(s.Summary(t.Context(), Filter{}, Hourly)), fault.Precondition, "SUMMARY_TOO_LARGE")
		s.bounds = searchBounds()
		s.summaryTime = 0
		wantFault(t, faulttest.Err(s.Summary(t.Context(), Filter{}, Hourly)), fault.Precondition, "SUMMARY_TOO_LARGE")
	})
}

// While as many summaries as may be are counted, more wait and are refused.
func TestSummariesAtOnce(t *testing.T) {
	onDatabases(t, func(t *testing.T, s *Service, _ *clock.Fake) {
		s.summaryWait = time.Millisecond
		for range summariesAtOnce {
			s.summaries <- struct{}{}
		}
		wantFault(t, faulttest.Err(s.Summary(t.Context(), Filter{}, Hourly)), fault.Unavailable, "SUMMARY_BUSY")
		<-s.summaries
		_, err := s.Summary(t.Context(), Filter{}, Hourly)
		backendtest.Must(t, err)
		backendtest.Equal(t, len(s.summaries), summariesAtOnce-1, "places taken after a summary")
	})
}
