package audit

import (
	"context"
	"fmt"

	"github.com/tollgatehq/tollgate/server/internal/audit/tree"
	"github.com/tollgatehq/tollgate/server/internal/database"
)

// Entry is an event with its place in the tree.
type Entry struct {
	Leaf int64 // from 0 on, without gaps
	Salt []byte
	Event
}

// Bytes are what the tree hashes of the entry.
func (e *Entry) Bytes() []byte { return e.leaf(e.Salt) }

type entryRow struct {
	Leaf int64  `db:"leaf"`
	Salt []byte `db:"salt"`
	row
}

// entryColumns are an event's with the leaf's.
const entryColumns = `l.leaf, l.salt, e.id, e.time, e.actor_id, e.actor_name, e.session_id, e.api_key_id, e.action, e.outcome,
	e.reason, e.resource, e.ip, e.user_agent, e.request_id, e.details, e.recorded_by`

// entriesFrom is leaves with their events. PostgreSQL looks each event up in the month of
// its leaf, and in the others only when it is not there, because somebody edited its time.
func entriesFrom(d database.Dialect, leaves string) string {
	if d == database.PostgreSQL {
		return leaves + ` l CROSS JOIN LATERAL (
			SELECT * FROM audit_events WHERE id = l.event_id AND time = l.time
			UNION ALL SELECT * FROM audit_events WHERE id = l.event_id LIMIT 1) e`
	}
	return leaves + ` l JOIN audit_events e ON e.id = l.event_id`
}

// listEntries reads the events of n leaves from one on, in the order of leaves. Those that
// were removed are left out.
func listEntries(ctx context.Context, db *database.DB, from int64, n int) ([]Entry, error) {
	entries, err := database.Select(ctx, db, func(r entryRow) (Entry, error) {
		return Entry{r.Leaf, r.Salt, r.event()}, nil
	}, `SELECT `+entryColumns+` FROM `+entriesFrom(db.Dialect, "audit_leaves")+`
		WHERE l.leaf >= $1 AND l.leaf < $2 ORDER BY l.leaf`, from, from+int64(n))
	if err != nil {
		return nil, fmt.Errorf("read the audit log from leaf %d on: %w", from, err)
	}
	return entries, nil
}

// unsequenced reads up to limit settled events that come after head, in the order in
// which they go into the tree, and returns where the head is after them.
func unsequenced(ctx context.Context, db *database.DB, head tree.Head, limit int) (rows []row, next tree.Head, err error) {
	next = head
	if db.Dialect == database.PostgreSQL {
		present, err := now(ctx, db)
		if err != nil {
			return nil, next, err
		}
		if head.Writer >= present.end.Writer {
			// It reads the places of all events: one instance at a time, for as long as it takes.
			err := db.Alone(ctx, movedWork, false, func(ctx context.Context, slow *database.DB) (err error) {
				rows, next, err = moved(ctx, slow, head, present.end.Writer, limit)
				return err
			})
			return rows, next, err
		}
	}
	if rows, err = since(ctx, db, db.Dialect, place{head.Writer, head.Position}.next(), head.Floor, limit); err != nil {
		return nil, next, err
	}
	if len(rows) > 0 {
		last := rows[len(rows)-1].place
		next.Writer, next.Position = last.Writer, last.Position
	}
	return rows, next, nil
}

// moved is unsequenced on a PostgreSQL server that counts its transactions anew, because
// the database was restored there from a dump: all events of the server before have
// committed, whatever their writer says. First come those of them that are not in the
// tree; then only positions above theirs are to come.
func moved(ctx context.Context, db *database.DB, head tree.Head, end int64, limit int) (rows []row, next tree.Head, err error) {
	next = head
	if err = db.Select(ctx, &rows, `SELECT `+columns+`, writer, position FROM audit_events e
		WHERE writer >= $1 AND position > $2 AND NOT EXISTS (SELECT 1 FROM audit_leaves WHERE event_id = e.id)
		ORDER BY writer, position LIMIT $3`, end, head.Position-movedReach, limit); err != nil {
		return nil, next, fmt.Errorf("read the audit log of another server: %w", err)
	}
	if len(rows) < limit {
		next.Writer, next.Position = 0, 0
		if err = db.Get(ctx, &next.Floor, `SELECT COALESCE(MAX(position), $2) FROM audit_events WHERE writer >= $1`, end, head.Position); err != nil {
			return nil, head, fmt.Errorf("read the audit log of another server: %w", err)
		}
	}
	return rows, next, nil
}

// entryOf is an event with its place; ErrNoRows when it has none, or is not there.
func entryOf(ctx context.Context, db *database.DB, id string) (Entry, error) {
	return database.Get(ctx, db, func(r entryRow) (Entry, error) { return Entry{r.Leaf, r.Salt, r.event()}, nil },
		`SELECT `+entryColumns+` FROM `+entriesFrom(db.Dialect, "audit_leaves")+` WHERE l.event_id = $1`, id)
}
