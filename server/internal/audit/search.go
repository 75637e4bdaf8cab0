package audit

import (
	"context"

	"github.com/tollgatehq/tollgate/server/internal/database"
)

// bounds are how much one search reads, so that no statement's time hangs on how the
// events that are wanted lie among the others.
type bounds struct {
	read   int // about how many events one call reads to fill its page
	step   int // how many one statement reads, to let those through that other fields ask for
	first  int // step of the first statement, which often is enough
	joined int // step for events that are found by another table
	values int // of a span that are looked up one by one
	span   int // how many events of a span are read and sorted for a page
	count  int // how far the events of a field are counted, to begin with the fewest
}

func searchBounds() bounds {
	return bounds{read: 100_000, step: 5000, first: 500, joined: 1000, values: 32, span: 5000, count: 1000}
}

// search looks for the events of a filter.
type search struct {
	bounds
	db     *database.DB
	filter Filter
}

// lead is how a search finds events: under keys, of which an index has the events in
// the order of a list, or all of a span. Without either it is all events by time.
type lead struct {
	search
	from  table
	keys  []clause
	span  *span
	check []clause // what else the filter asks for
}

// events reads up to n events that the filter lets through, newest first, from the
// newest or, if there is a cursor, from below it. It returns where it got to and
// whether there may be more.
func (s search) events(ctx context.Context, below cursor, n int) (found []Event, at cursor, more bool, err error) {
	l, err := s.lead(ctx, below)
	if err != nil || l == nil {
		return nil, below, false, err
	}
	step := min(s.first, l.steps())
	for read := 0; ; {
		var end cursor // the step's last event; none: the step is all there is
		if l.span == nil && len(l.check) > 0 {
			if end, err = l.end(ctx, below, step); err != nil {
				return nil, below, false, err
			}
		}
		// One more, to know whether there is a next page.
		rows, err := l.read(ctx, below, end, step, n+1-len(found))
		if err != nil {
			return nil, below, false, err
		}
		for i := range rows {
			found = append(found, rows[i].event())
		}
		if len(found) > n {
			last := &found[n-1]
			return found[:n], cursor{last.Time.UnixMicro(), last.ID}, true, nil
		}
		if end == (cursor{}) {
			return found, below, false, nil
		}
		below = end
		if read += step * max(1, len(l.keys)); read >= s.bounds.read {
			return found, below, true, nil
		}
		step = l.steps()
	}
}

// steps is how many events of each of the lead's keys one statement reads.
func (l *lead) steps() int {
	step := l.step
	if l.from == inLeaves {
		step = l.joined
	}
	return max(step/max(1, len(l.keys)), step/20, 1)
}

// lead chooses how to find the filter's events; nil: there are none.
func (s search) lead(ctx context.Context, below cursor) (*lead, error) {
	criteria := s.filter.criteria(s.db.Dialect)
	for i := range criteria {
		c := &criteria[i]
		if c.span == nil {
			continue
		}
		values, err := s.valuesOf(ctx, c.from, *c.span)
		if err != nil {
			return nil, err
		}
		if len(values) == 0 {
			return nil, nil
		}
		if len(values) <= s.values {
			for _, value := range values {
				c.keys = append(c.keys, c.span.key(value))
			}
			c.span = nil
		}
	}
	best, err := s.fewest(ctx, criteria, below)
	if err != nil {
		return nil, err
	}
	l := &lead{search: s, from: inEvents}
	for i, c := range criteria {
		if i == best {
			l.from, l.keys, l.span = c.from, c.keys, c.span
		} else {
			l.check = append(l.check, c.check)
		}
	}
	return l, nil
}

// fewest is the index of the criterion to begin with, -1 for none.
func (s search) fewest(ctx context.Context, criteria []criterion, below cursor) (int, error) {
	var ordered, spans []int
	for i, c := range criteria {
		switch {
		case c.span != nil:
			spans = append(spans, i)
		case len(c.keys) > 0:
			ordered = append(ordered, i)
		}
	}
	if len(ordered) == 1 && len(spans) == 0 {
		return ordered[0], nil
	}
	best, least := -1, 0
	for _, i := range append(ordered, spans...) {
		l := &lead{search: s, from: criteria[i].from, keys: criteria[i].keys, span: criteria[i].span}
		most := s.count
		if l.span != nil {
			most = s.bounds.span
		}
		n, err := l.count(ctx, below, most)
		if err != nil {
			return -1, err
		}
		// Of one that has more than most, no more is known.
		if n < most && (best < 0 || n < least) {
			best, least = i, n
		}
	}
	if best < 0 && len(ordered) > 0 {
		return ordered[0], nil
	}
	return best, nil
}
