package audit

import (
	"math"
	"strconv"
	"strings"

	"github.com/tollgatehq/tollgate/server/internal/database"
)

// query gathers a statement's arguments.
type query struct{ args []any }

// arg returns the placeholder of a new argument.
func (q *query) arg(v any) string {
	q.args = append(q.args, v)
	return "$" + strconv.Itoa(len(q.args))
}

// clause is a condition, written into a statement.
type clause func(q *query) string

// table is where events are found, and its columns of their times and ids.
type table struct{ name, time, id string }

var (
	inEvents = table{"audit_events", "time", "id"}
	inLeaves = table{"audit_leaves", "time", "event_id"} // by address
)

// criterion is one of a filter's fields in SQL.
type criterion struct {
	from table
	// keys are values of columns whose index has the events of one value in the order
	// of a list; no event has two. None: there is no such index.
	keys []key
	// span is set when the field asks for all values between two: the events are
	// ordered under each value, not under all.
	span *span
	// check is the condition on an event that something else has found.
	check clause
}

// key is a value of a column.
type key struct {
	column, value string
	filled        bool   // the column's index leaves out empty texts
	also          clause // nil: nothing
}

// where is the condition that an event is under the key, from low on and below high.
// It compares places in the column's index, and newest orders by them: a planner that
// knew the value to be one would take the index of times when it expects enough events
// of the value there, and read half the log when they are old. With < instead of <= and <>
// it would expect none.
func (k key) where(q *query, in table, low, high cursor) string {
	place := "(" + k.column + ", " + in.time + ", " + in.id + ")"
	text := place + " >= (" + q.arg(k.value) + ", " + q.arg(low.Time) + ", " + q.arg(low.ID) + ")" +
		" AND " + place + " <= (" + q.arg(k.value) + ", " + q.arg(high.Time) + ", " + q.arg(high.ID) + ")" +
		" AND " + in.id + " <> " + q.arg(high.ID) + times(q, in, low, high)
	if k.filled { // the planner knows that the index serves only when it is told
		text += " AND " + k.column + " <> ''"
	}
	if k.also != nil {
		text += " AND " + k.also(q)
	}
	return text
}

// newest is the order of the key's index, backwards: by time under the key.
func (k key) newest(in table) string {
	return " ORDER BY " + k.column + " DESC, " + in.time + " DESC, " + in.id + " DESC"
}

// span is the values of a column from low up to high, which the column's order as
// bytes decides.
type span struct {
	column    string
	low, high string
	below     string // the comparison with high: < or <=
	filled    bool   // the column's index leaves out empty texts
}

func (s span) within(q *query) string {
	return s.column + " >= " + q.arg(s.low) + s.upTo(q)
}

func (s span) upTo(q *query) string {
	text := " AND " + s.column + " " + s.below + " " + q.arg(s.high)
	if s.filled {
		text += " AND " + s.column + " <> ''"
	}
	return text
}

func equals(column, value string) clause {
	return func(q *query) string { return column + " = " + q.arg(value) }
}

// criteria are the filter's fields but for its times, those first that most likely let
// the fewest events through.
func (f Filter) criteria(d database.Dialect) []criterion {
	var all []criterion
	one := func(k key) {
		if k.value != "" {
			all = append(all, criterion{from: inEvents, keys: []key{k}, check: equals(k.column, k.value)})
		}
	}
	one(key{column: "request_id", value: f.RequestID, filled: true})
	one(key{column: "session_id", value: f.SessionID, filled: true})
	one(key{column: "api_key_id", value: f.APIKeyID, filled: true})
	if f.Network.IsValid() {
		all = append(all, networkCriterion(f))
	}
	if f.Resource != "" {
		all = append(all, textCriterion(asBytes(d, "resource"), f.Resource, resourceSeparator))
	}
	if f.Actor != "" {
		byID, byName := equals("actor_id", f.Actor), equals("actor_name", f.Actor)
		notID := func(q *query) string { return "actor_id <> " + q.arg(f.Actor) }
		all = append(all, criterion{
			from:  inEvents,
			keys:  []key{{column: "actor_id", value: f.Actor}, {column: "actor_name", value: f.Actor, also: notID}},
			check: func(q *query) string { return "(" + byID(q) + " OR " + byName(q) + ")" },
		})
	}
	one(key{column: "reason", value: f.Reason, filled: true})
	if f.Action != "" {
		all = append(all, textCriterion("action", f.Action, actionSeparator)) // compared as bytes in both dialects
	}
	one(key{column: "outcome", value: string(f.Outcome)})
	if f.RecordedBy != "" {
		all = append(all, criterion{from: inEvents, check: equals("recorded_by", f.RecordedBy)})
	}
	return all
}

// textCriterion is a text, or all that start with one.
func textCriterion(column, wanted, separator string) criterion {
	start, many := prefix(wanted, separator)
	if !many {
		return criterion{from: inEvents, keys: []key{{column: column, value: wanted}}, check: equals(column, wanted)}
	}
	// From "auth." up to "auth/", which is the next byte after the dot.
	next := string(separator[0] + 1)
	between := span{column, start, strings.TrimSuffix(start, separator) + next, "<", false}
	return criterion{from: inEvents, span: &between, check: between.within}
}

// networkCriterion is the network's events.
func networkCriterion(f Filter) criterion {
	first, last := endsOf(f.Network)
	between := span{"address", first, last, "<=", true}
	w := criterion{from: inLeaves, check: func(q *query) string {
		// Looked up for each event, which OFFSET makes PostgreSQL do: as a join it would
		// begin with all events of the network.
		return "EXISTS (SELECT 1 FROM audit_leaves WHERE event_id = found.id AND address >= " + q.arg(first) +
			" AND address <= " + q.arg(last) + " LIMIT 1 OFFSET 0)"
	}}
	if first == last {
		w.keys = []key{{column: "address", value: first, filled: true}}
	} else {
		w.span = &between
	}
	return w
}

// asBytes compares a column of texts as bytes, for filters by prefix.
func asBytes(d database.Dialect, column string) string {
	if d == database.PostgreSQL {
		return column + ` COLLATE "C"`
	}
	return column
}

// ends are from which place on and below which one the filter's events are, below a cursor
// and from another on, if there are any. No event has the empty id.
func (f Filter) ends(below, end cursor) (low, high cursor) {
	low, high = cursor{Time: math.MinInt64}, cursor{Time: math.MaxInt64}
	if after := bound(f.After); after != nil {
		low.Time = *after
	}
	if before := bound(f.Before); before != nil {
		high.Time = *before
	}
	if end != (cursor{}) && low.before(end) {
		low = end
	}
	if below != (cursor{}) && below.before(high) {
		high = below
	}
	return low, high
}

// times are the ends' times, which say the same as their places: PostgreSQL leaves out
// months by them, and SQLite looks into an index by a time rather than by a place.
func times(q *query, in table, low, high cursor) string {
	var text string
	if low.Time != math.MinInt64 {
		text += " AND " + in.time + " >= " + q.arg(low.Time)
	}
	if high.Time != math.MaxInt64 {
		text += " AND " + in.time + " <= " + q.arg(high.Time)
	}
	return text
}
