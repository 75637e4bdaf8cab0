package audit

import (
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
	// keys are conditions that no event fulfills two of, and under each of which an
	// index has the events in the order of a list. None: no index does.
	keys []clause
	// span is set when the field asks for all values between two: the events are
	// ordered under each value, not under all.
	span *span
	// check is the condition on an event that something else has found.
	check clause
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

// key is the condition for one value of the span.
func (s span) key(value string) clause {
	if s.filled {
		return filled(s.column, value)
	}
	return equals(s.column, value)
}

func equals(column, value string) clause {
	return func(q *query) string { return column + " = " + q.arg(value) }
}

// filled is equals for a column whose index leaves out empty texts. The planner knows
// that only by the second condition.
func filled(column, value string) clause {
	return func(q *query) string { return column + " = " + q.arg(value) + " AND " + column + " <> ''" }
}

// criteria are the filter's fields but for its times, those first that most likely let
// the fewest events through.
func (f Filter) criteria(d database.Dialect) []criterion {
	var all []criterion
	one := func(value string, key clause) {
		if value != "" {
			all = append(all, criterion{from: inEvents, keys: []clause{key}, check: key})
		}
	}
	one(f.RequestID, filled("request_id", f.RequestID))
	one(f.SessionID, filled("session_id", f.SessionID))
	one(f.APIKeyID, filled("api_key_id", f.APIKeyID))
	if f.Network.IsValid() {
		all = append(all, networkCriterion(f))
	}
	if f.Resource != "" {
		all = append(all, textCriterion(asBytes(d, "resource"), f.Resource, resourceSeparator))
	}
	if f.Actor != "" {
		byID, name := equals("actor_id", f.Actor), equals("actor_name", f.Actor)
		byName := func(q *query) string { return name(q) + " AND actor_id <> " + q.arg(f.Actor) }
		all = append(all, criterion{from: inEvents, keys: []clause{byID, byName}, check: func(q *query) string {
			return "(" + byID(q) + " OR " + name(q) + ")"
		}})
	}
	one(f.Reason, filled("reason", f.Reason))
	if f.Action != "" {
		all = append(all, textCriterion("action", f.Action, actionSeparator)) // compared as bytes in both dialects
	}
	one(string(f.Outcome), equals("outcome", string(f.Outcome)))
	if f.RecordedBy != "" {
		all = append(all, criterion{from: inEvents, check: equals("recorded_by", f.RecordedBy)})
	}
	return all
}

// textCriterion is a text, or all that start with one.
func textCriterion(column, wanted, separator string) criterion {
	start, many := prefix(wanted, separator)
	if !many {
		return criterion{from: inEvents, keys: []clause{equals(column, wanted)}, check: equals(column, wanted)}
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
		// A query of its own for each event: as a join it would begin with all events
		// of the network.
		const address = "(SELECT address FROM audit_leaves WHERE event_id = found.id)"
		return address + " >= " + q.arg(first) + " AND " + address + " <= " + q.arg(last)
	}}
	if first == last {
		w.keys = []clause{filled("address", first)}
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

// times are the filter's times on a table's events.
func (f Filter) times(q *query, in table) string {
	var text string
	if after := bound(f.After); after != nil {
		text += " AND " + in.time + " >= " + q.arg(*after)
	}
	if before := bound(f.Before); before != nil {
		text += " AND " + in.time + " < " + q.arg(*before)
	}
	return text
}
