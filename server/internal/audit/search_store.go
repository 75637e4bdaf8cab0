package audit

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/database"
)

// cursor is the last event of a page.
type cursor struct {
	Time int64  `json:"t" db:"time"`
	ID   string `json:"i" db:"id"`
}

func (c cursor) before(other cursor) bool {
	return c.Time < other.Time || c.Time == other.Time && c.ID < other.ID
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
	if len(l.keys) == 0 {
		return []string{"1 = 1" + l.between(q, l.from, below, end)}
	}
	low, high := l.filter.ends(below, end)
	where := make([]string, len(l.keys))
	for i, key := range l.keys {
		where[i] = key.where(q, l.from, low, high)
	}
	return where
}

// between is at the filter's times, below a cursor and from another on.
func (l *lead) between(q *query, in table, below, end cursor) string {
	low, high := l.filter.ends(below, end)
	place := "(" + in.time + ", " + in.id + ")"
	text := times(q, in, low, high)
	if low.Time != math.MinInt64 {
		text += " AND " + place + " >= (" + q.arg(low.Time) + ", " + q.arg(low.ID) + ")"
	}
	if high.Time != math.MaxInt64 {
		text += " AND " + place + " < (" + q.arg(high.Time) + ", " + q.arg(high.ID) + ")"
	}
	return text
}

// order is the order of the lead's i-th index: its events' newest first, a span's as
// they come.
func (l *lead) order(i int) string {
	switch {
	case l.span != nil:
		return " ORDER BY " + l.span.column + ", " + l.from.time + ", " + l.from.id
	case len(l.keys) > 0:
		return l.keys[i].newest(l.from)
	default:
		return " ORDER BY " + l.from.time + " DESC, " + l.from.id + " DESC"
	}
}

// next is the step of so many events from below a cursor on. It reads indexes only.
func (l *lead) next(ctx context.Context, below cursor, most int) (step, error) {
	s := step{below: below, most: most}
	if l.span != nil { // one statement reads them all
		s.last = true
		return s, nil
	}
	var q query
	limit := q.arg(most)
	var parts []string
	for i, where := range l.under(&q, below, cursor{}) {
		parts = append(parts, `SELECT * FROM (SELECT `+l.from.time+` AS time, `+l.from.id+` AS id FROM `+l.from.name+
			` WHERE `+where+l.order(i)+` LIMIT `+limit+`) AS part`)
	}
	var ends []struct {
		cursor
		N int `db:"n"`
	}
	err := l.db.Select(ctx, &ends, `WITH step AS (SELECT time, id FROM (`+strings.Join(parts, ` UNION ALL `)+`) AS parts
		ORDER BY time DESC, id DESC LIMIT `+limit+`)
		SELECT time, id, (SELECT COUNT(*) FROM step) AS n FROM step ORDER BY time, id LIMIT 1`, q.args...)
	if err != nil {
		return s, fmt.Errorf("find the end of a step of the audit log: %w", err)
	}
	if s.empty = len(ends) == 0; !s.empty {
		s.end, s.last = ends[0].cursor, ends[0].N < most
	}
	return s, nil
}

// read reads up to n of a step's events that pass the lead's checks.
func (l *lead) read(ctx context.Context, s step, n int) ([]row, error) {
	var q query
	most := n
	if l.checked() {
		most = 2 * s.most // so that events that come in meanwhile take no place away
	}
	parts := l.parts(&q, s, most)
	statement := parts[0]
	if len(parts) > 1 || l.checked() || l.span != nil {
		order := ` ORDER BY time DESC, id DESC`
		if len(l.keys) == 1 && l.from == inEvents { // the part's: it is read no further than needed
			order = l.order(0)
		}
		statement = `SELECT ` + columns + l.found(&q, parts, s, l.lookUp) + order + ` LIMIT ` + q.arg(n)
	}
	var rows []row
	if err := l.db.Select(ctx, &rows, statement, q.args...); err != nil {
		return nil, fmt.Errorf("read a page of the audit log: %w", err)
	}
	return rows, nil
}

// parts read up to so many of a step's events under each of the lead's keys.
func (l *lead) parts(q *query, s step, most int) (parts []string) {
	if l.span != nil {
		most = l.bounds.span
	}
	limit := q.arg(most)
	for i, where := range l.under(q, s.below, s.end) {
		parts = append(parts, l.part(where+l.order(i)+` LIMIT `+limit))
	}
	return parts
}

// found is those of the parts' events that pass the lead's checks, and more of them.
func (l *lead) found(q *query, parts []string, s step, more ...clause) string {
	for i, part := range parts {
		parts[i] = `SELECT * FROM (` + part + `) AS part`
	}
	passes := []string{"1 = 1"}
	if l.span != nil {
		passes[0] += l.between(q, inEvents, s.below, s.end)
	}
	for _, check := range append(slices.Clip(l.check), more...) {
		if check != nil {
			passes = append(passes, check(q))
		}
	}
	return ` FROM (` + strings.Join(parts, ` UNION ALL `) + `) AS found WHERE ` + strings.Join(passes, ` AND `)
}

// countRow is a Count as read.
type countRow struct {
	Bucket  int64   `db:"bucket"` // number of hours or days since 1970
	Action  Action  `db:"action"`
	Outcome Outcome `db:"outcome"`
	IP      string  `db:"ip"` // empty if no address is looked up
	Events  int64   `db:"events"`
}

// counts are the numbers of a step's events that pass the lead's checks, but for the
// look-up of addresses: its are by address, too.
func (l *lead) counts(ctx context.Context, s step, by time.Duration) ([]countRow, error) {
	var q query
	from := l.found(&q, l.parts(&q, s, 2*s.most), s)
	ip := `''`
	if l.lookUp != nil {
		ip = `ip`
	}
	var rows []countRow
	err := l.db.Select(ctx, &rows, `SELECT bucket, action, outcome, ip, COUNT(*) AS events FROM (
		SELECT time / `+strconv.FormatInt(by.Microseconds(), 10)+` AS bucket, action, outcome, `+ip+` AS ip`+from+`) AS counted
		GROUP BY bucket, action, outcome, ip`, q.args...)
	if err != nil {
		return nil, fmt.Errorf("count a step of the audit log: %w", err)
	}
	return rows, nil
}

// part reads the events that are selected in a table.
func (l *lead) part(selected string) string {
	if l.from == inEvents {
		return `SELECT ` + columns + ` FROM audit_events WHERE ` + selected
	}
	return `SELECT ` + eventColumns + ` FROM (SELECT time, event_id FROM audit_leaves WHERE ` + selected + `) AS leaf
		JOIN audit_events AS e ON e.id = leaf.event_id AND e.time = leaf.time ORDER BY leaf.time DESC, leaf.event_id DESC`
}

// eventColumns are columns of the table e.
var eventColumns = "e." + strings.Join(strings.Fields(columns), " e.")

// count counts the lead's events below a cursor, up to most of each key; all those of
// a span, whatever their times.
func (l *lead) count(ctx context.Context, below cursor, most int) (n int, err error) {
	var q query
	limit := q.arg(most)
	var parts []string
	for i, where := range l.under(&q, below, cursor{}) {
		parts = append(parts, `(SELECT COUNT(*) FROM (SELECT 1 FROM `+l.from.name+` WHERE `+where+l.order(i)+` LIMIT `+limit+`) AS part)`)
	}
	if err := l.db.Get(ctx, &n, `SELECT `+strings.Join(parts, ` + `), q.args...); err != nil {
		return 0, fmt.Errorf("count events for a search: %w", err)
	}
	return n, nil
}
