package audit

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/database"
)

// row is an event as stored.
type row struct {
	ID         string  `db:"id"`
	Time       int64   `db:"time"`
	ActorID    string  `db:"actor_id"`
	ActorName  string  `db:"actor_name"`
	SessionID  string  `db:"session_id"`
	APIKeyID   string  `db:"api_key_id"`
	Action     Action  `db:"action"`
	Outcome    Outcome `db:"outcome"`
	Reason     string  `db:"reason"`
	Resource   string  `db:"resource"`
	IP         string  `db:"ip"`
	UserAgent  string  `db:"user_agent"`
	RequestID  string  `db:"request_id"`
	Details    string  `db:"details"`
	RecordedBy string  `db:"recorded_by"`
	place
}

func (r *row) event() Event {
	var details map[string]string
	if err := json.Unmarshal([]byte(r.Details), &details); err != nil {
		// Not written by Append. The event is worth more than its form.
		details = map[string]string{"unreadable": r.Details}
	}
	return Event{
		ID: r.ID, Time: time.UnixMicro(r.Time).UTC(),
		ActorID: r.ActorID, ActorName: r.ActorName, SessionID: r.SessionID, APIKeyID: r.APIKeyID,
		Action: r.Action, Outcome: r.Outcome, Reason: r.Reason, Resource: r.Resource,
		IP: r.IP, UserAgent: r.UserAgent, RequestID: r.RequestID,
		Details: details, RecordedBy: r.RecordedBy,
	}
}

// place is an event's position in the order in which the tail reads.
type place struct {
	Writer   int64 `db:"writer"`
	Position int64 `db:"position"`
}

// mark is a moment of the log, between commits.
type mark struct {
	start place   // every event that commits after the moment comes after it
	end   place   // no event that committed before the moment is at it or after it
	open  []int64 // the writers between them that had not committed
}

// includes says whether the event at p had committed.
func (m mark) includes(p place) bool {
	if p.before(m.end) {
		return p.before(m.start) || !slices.Contains(m.open, p.Writer)
	}
	return false
}

func (p place) before(other place) bool {
	return p.Writer < other.Writer || p.Writer == other.Writer && p.Position < other.Position
}

// next is the first place after p.
func (p place) next() place { return place{p.Writer, p.Position + 1} }

// placeOf returns where an event is; ErrNoRows when there is none of the id.
func placeOf(ctx context.Context, db *database.DB, id string) (p place, err error) {
	err = db.Get(ctx, &p, `SELECT writer, position FROM audit_events WHERE id = $1`, id)
	return p, err
}

// now marks the present moment.
func now(ctx context.Context, db *database.DB) (mark, error) {
	switch db.Dialect {
	case database.PostgreSQL:
		var snapshot string // "xmin:xmax:xip,xip"
		if err := db.Get(ctx, &snapshot, `SELECT pg_current_snapshot()::text`); err != nil {
			return mark{}, fmt.Errorf("mark the end of the audit log: %w", err)
		}
		return parseSnapshot(snapshot)
	default:
		// SQLite has one writer at a time: events commit in their order.
		var last int64
		if err := db.Get(ctx, &last, `SELECT COALESCE(MAX(position), 0) FROM audit_events`); err != nil {
			return mark{}, fmt.Errorf("mark the end of the audit log: %w", err)
		}
		return mark{start: place{0, last + 1}, end: place{0, last + 1}}, nil
	}
}

func parseSnapshot(snapshot string) (mark, error) {
	var m mark
	numbers := strings.FieldsFunc(snapshot, func(r rune) bool { return r == ':' || r == ',' })
	for i, number := range numbers {
		n, err := strconv.ParseInt(number, 10, 64)
		if err != nil {
			return mark{}, fmt.Errorf("read snapshot %q: %w", snapshot, err)
		}
		switch i {
		case 0:
			m.start.Writer = n
		case 1:
			m.end.Writer = n
		default:
			m.open = append(m.open, n)
		}
	}
	return m, nil
}

// since reads up to limit events from the place on, of positions above floor, in an order
// in which no event ever appears before one already read.
func since(ctx context.Context, q database.Queries, d database.Dialect, from place, floor int64, limit int) ([]row, error) {
	// SQLite's writer is the same for all, and it does not search an index by a pair.
	settled := `writer = $1 AND position >= $2`
	if d == database.PostgreSQL {
		// Transactions commit out of order. Those older than every open one
		// have all ended, so what they wrote is all there.
		settled = `(writer, position) >= ($1, $2) AND writer < pg_snapshot_xmin(pg_current_snapshot())::text::bigint`
	}
	var rows []row
	err := q.Select(ctx, &rows, `SELECT `+columns+`, writer, position FROM audit_events
		WHERE `+settled+` AND position > $3 ORDER BY writer, position LIMIT $4`,
		from.Writer, from.Position, floor, limit)
	if err != nil {
		return nil, fmt.Errorf("read the audit log after %d/%d: %w", from.Writer, from.Position, err)
	}
	return rows, nil
}

// size is how many bytes the log and its indexes take up; for SQLite, which has
// no size by table, the whole database's. It reads no row.
func size(ctx context.Context, db *database.DB) (int64, error) {
	statement := `SELECT COALESCE(SUM(pg_total_relation_size(relid)), 0)::bigint FROM pg_partition_tree('audit_events') WHERE isleaf`
	if db.Dialect == database.SQLite {
		statement = `SELECT (p.page_count - f.freelist_count) * s.page_size
			FROM pragma_page_count AS p, pragma_freelist_count AS f, pragma_page_size AS s`
	}
	var bytes int64
	err := db.Get(ctx, &bytes, statement)
	return bytes, err
}
