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
	joined int // step for events that are looked up in another table
	values int // of a span that are looked up one by one
	span   int // how many events of a span are read and sorted for a page
	count  int // how far the events of a field are counted, to begin with the fewest

	counted int // how many events one statement of a summary counts, or a quarter if another table finds them
	summary int // about how many events one summary reads
	counts  int // how many counts a summary has
}

func searchBounds() bounds {
	return bounds{read: 20_000, step: 5000, first: 500, joined: 1000, values: 32, span: 5000, count: 1000, counted: 20_000, summary: 1_000_000, counts: 10_000}
}

// search looks for the events of a filter.
type search struct {
	bounds
	db      database.Queries
	dialect database.Dialect
	filter  Filter
}

// step is a part of what a search reads: below a cursor, if there is one, down to an end,
// if there is one.
type step struct {
	below, end cursor
	most       int
	last       bool // nothing comes after it
	empty      bool
}

// lead is how a search finds events: under keys, of which an index has the events in
// the order of a list, or all of a span. Without either it is all events by time.
type lead struct {
	search
	from  table
	keys  []key
	span  *span
	check []clause // what else the filter asks for
	// lookUp is the check of the address, which looks each event up in another table;
	// nil: there is none.
	lookUp clause
}

// checked says whether more is asked of the lead's events.
func (l *lead) checked() bool { return len(l.check) > 0 || l.lookUp != nil }

// events reads up to n events that the filter lets through, newest first, from the
// newest or, if there is a cursor, from below it. It returns where it got to and
// whether there may be more.
func (s search) events(ctx context.Context, below cursor, n int) (found []Event, at cursor, more bool, err error) {
	l, err := s.lead(ctx, below)
	if err != nil || l == nil {
		return nil, below, false, err
	}
	for read, most := 0, min(s.first, l.steps()); ; most = l.steps() {
		rest := n + 1 - len(found)             // one more, to know whether there is a next page
		part := step{below: below, last: true} // one statement reads what there is
		if l.checked() {
			if part, err = l.next(ctx, below, most); err != nil {
				return nil, below, false, err
			}
		}
		if part.empty {
			return found, below, false, nil
		}
		rows, err := l.read(ctx, part, rest)
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
		if part.last {
			return found, below, false, nil
		}
		below = part.end
		if read += most * max(1, len(l.keys)); read >= s.bounds.read {
			return found, below, true, nil
		}
	}
}

// steps is how many events of each of the lead's keys one statement reads.
func (l *lead) steps() int {
	step := l.step
	if l.from == inLeaves || l.lookUp != nil {
		step = l.joined
	}
	return max(step/max(1, len(l.keys)), step/20, 1)
}

// lead chooses how to find the filter's events; nil: there are none.
func (s search) lead(ctx context.Context, below cursor) (*lead, error) {
	criteria := s.filter.criteria(s.dialect)
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
				c.keys = append(c.keys, key{column: c.span.column, value: value, filled: c.span.filled})
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
		switch {
		case i == best:
			l.from, l.keys, l.span = c.from, c.keys, c.span
		case c.from == inLeaves:
			l.lookUp = c.check
		default:
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
