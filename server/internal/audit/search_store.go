package audit

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/tollgatehq/tollgate/server/internal/database"
)

// cursor is the last event of a page.
type cursor struct {
	Time int64  `json:"t" db:"time"`
	ID   string `json:"i" db:"id"`
}

// getEvent reads an event by its id; ErrNoRows when there is none.
func getEvent(ctx context.Context, db database.Queries, id string) (Event, error) {
	var r row
	if err := db.Get(ctx, &r, `SELECT `+columns+` FROM audit_events WHERE id = $1`, id); err != nil {
		return Event{}, err
	}
	return r.event(), nil
}

// valuesOf are the first values of a span that there are, up to one more than are
// looked up one by one. Each is found in the column's index after the one before.
func (s search) valuesOf(ctx context.Context, from table, in span) ([]string, error) {
	var q query
	least := `SELECT MIN(` + in.column + `) FROM ` + from.name + ` WHERE ` + in.column
	statement := `WITH RECURSIVE found (value, n) AS (
		SELECT (` + least + ` >= ` + q.arg(in.low) + in.upTo(&q) + `), 1
		UNION ALL
		SELECT (` + least + ` > found.value` + in.upTo(&q) + `), n + 1 FROM found
			WHERE found.value IS NOT NULL AND n <= ` + strconv.Itoa(s.values) + `)
		SELECT value FROM found WHERE value IS NOT NULL`
	var values []string
	if err := s.db.Select(ctx, &values, statement, q.args...); err != nil {
		return nil, fmt.Errorf("look up what begins with %q: %w", in.low, err)
	}
	return values, nil
}

// under writes what the lead's events are selected by, once for each key: at the
// filter's times, below a cursor and from another on, if there are any. A span's
// events are in no order of times; between selects among them.
func (l *lead) under(q *query, below, end cursor) []string {
	if l.span != nil {
		return []string{l.span.within(q)}
	}
	keys := l.keys
	if len(keys) == 0 {
		keys = []clause{func(*query) string { return "1 = 1" }}
	}
	where := make([]string, len(keys))
	for i, key := range keys {
		where[i] = key(q) + l.between(q, l.from, below, end)
	}
	return where
}

// between is at the filter's times, below a cursor and from another on.
func (l *lead) between(q *query, in table, below, end cursor) string {
	place := "(" + in.time + ", " + in.id + ")"
	where := l.filter.times(q, in)
	if below != (cursor{}) {
		where += " AND " + place + " < (" + q.arg(below.Time) + ", " + q.arg(below.ID) + ")"
	}
	if end != (cursor{}) {
		where += " AND " + place + " >= (" + q.arg(end.Time) + ", " + q.arg(end.ID) + ")"
	}
	return where
}

// newest orders a table's events as a list has them.
func (s table) newest() string { return " ORDER BY " + s.time + " DESC, " + s.id + " DESC" }

// end is the place of the last event of a step from below a cursor on, none when fewer
// events are left. It reads indexes only.
func (l *lead) end(ctx context.Context, below cursor, step int) (cursor, error) {
	var q query
	most := q.arg(step)
	var parts []string
	for _, where := range l.under(&q, below, cursor{}) {
		parts = append(parts, `SELECT * FROM (SELECT `+l.from.time+` AS time, `+l.from.id+` AS id FROM `+l.from.name+
			` WHERE `+where+l.from.newest()+` LIMIT `+most+`) AS part`)
	}
	statement := `SELECT time, id FROM (` + strings.Join(parts, ` UNION ALL `) + `) AS step
		ORDER BY time DESC, id DESC LIMIT 1 OFFSET ` + q.arg(step-1)
	var ends []cursor
	if err := l.db.Select(ctx, &ends, statement, q.args...); err != nil {
		return cursor{}, fmt.Errorf("find the end of a step of the audit log: %w", err)
	}
	if len(ends) == 0 {
		return cursor{}, nil
	}
	return ends[0], nil
}

// read reads up to n of the events below a cursor, from end on if there is one, that
// pass the lead's checks. Each key's index gives up to twice a step: events that come
// in meanwhile take no place away.
func (l *lead) read(ctx context.Context, below, end cursor, step, n int) ([]row, error) {
	var q query
	most := n
	if len(l.check) > 0 {
		most = 2 * step
	}
	limit := q.arg(most)
	var parts []string
	for _, where := range l.under(&q, below, end) {
		parts = append(parts, l.part(where, limit))
	}
	statement := parts[0]
	if len(parts) > 1 || len(l.check) > 0 || l.span != nil {
		for i, part := range parts {
			parts[i] = `SELECT * FROM (` + part + `) AS part`
		}
		statement = `SELECT ` + columns + ` FROM (` + strings.Join(parts, ` UNION ALL `) + `) AS found WHERE 1 = 1`
		if l.span != nil {
			statement += l.between(&q, inEvents, below, end)
		}
		for _, check := range l.check {
			statement += ` AND ` + check(&q)
		}
		statement += ` ORDER BY time DESC, id DESC LIMIT ` + q.arg(n)
	}
	var rows []row
	if err := l.db.Select(ctx, &rows, statement, q.args...); err != nil {
		return nil, fmt.Errorf("read a page of the audit log: %w", err)
	}
	return rows, nil
}

// part reads the events of one key, in order, or those of a span.
func (l *lead) part(where, limit string) string {
	if l.from == inEvents {
		if l.span != nil {
			// In the order of the span's index, so that it is used.
			return `SELECT ` + columns + ` FROM audit_events WHERE ` + where +
				` ORDER BY ` + l.span.column + `, time, id LIMIT ` + strconv.Itoa(l.bounds.span)
		}
		return `SELECT ` + columns + ` FROM audit_events WHERE ` + where + l.from.newest() + ` LIMIT ` + limit
	}
	order := l.from.newest()
	if l.span != nil {
		order, limit = ` ORDER BY address, time, event_id`, strconv.Itoa(l.bounds.span)
	}
	return `SELECT ` + eventColumns + ` FROM (SELECT time, event_id FROM audit_leaves WHERE ` + where + order + ` LIMIT ` + limit + `) AS leaf
		JOIN audit_events AS e ON e.id = leaf.event_id AND e.time = leaf.time ORDER BY leaf.time DESC, leaf.event_id DESC`
}

// eventColumns are columns of the table e.
var eventColumns = "e." + strings.Join(strings.Fields(columns), " e.")

// count counts the lead's events below a cursor, up to most of each key; all those of
// a span, whatever their times.
func (l *lead) count(ctx context.Context, below cursor, most int) (n int, err error) {
	var q query
	limit := q.arg(most)
	order := l.from.newest()
	if l.span != nil {
		order = ` ORDER BY ` + l.span.column + `, ` + l.from.time + `, ` + l.from.id
	}
	var parts []string
	for _, where := range l.under(&q, below, cursor{}) {
		parts = append(parts, `(SELECT COUNT(*) FROM (SELECT 1 FROM `+l.from.name+` WHERE `+where+order+` LIMIT `+limit+`) AS part)`)
	}
	if err := l.db.Get(ctx, &n, `SELECT `+strings.Join(parts, ` + `), q.args...); err != nil {
		return 0, fmt.Errorf("count events for a search: %w", err)
	}
	return n, nil
}
