package audit

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/tollgatehq/tollgate/server/internal/clock"
	"github.com/tollgatehq/tollgate/server/internal/database"
)

// columns are what an event is written to and read from, in the order of
// Append's arguments.
const columns = `id, time, actor_id, actor_name, session_id, api_key_id, action, outcome,
	reason, resource, ip, user_agent, request_id, details, recorded_by`

const columnCount = 15

// Append writes events inside a transaction, so that they are committed or rolled
// back with what they record. It gives an id and a time to those that have none, and
// cuts their texts to the bounds.
func Append(ctx context.Context, q database.Queries, clk clock.Clock, events ...Event) error {
	for i := range events {
		events[i].complete(clk)
	}
	return appendComplete(ctx, q, events)
}

// appendComplete is Append of events that are complete.
func appendComplete(ctx context.Context, q database.Queries, events []Event) error {
	args := make([]any, 0, len(events)*columnCount)
	for i := range events {
		e := &events[i]
		args = append(args, e.ID, e.Time.UnixMicro(), e.ActorID, e.ActorName, e.SessionID, e.APIKeyID,
			string(e.Action), string(e.Outcome), e.Reason, e.Resource, e.IP,
			e.UserAgent, e.RequestID, e.detailsText(), e.RecordedBy)
	}
	if err := q.Insert(ctx, "audit_events", columns, args); err != nil {
		return fmt.Errorf("append %d audit events: %w", len(events), err)
	}
	return nil
}

// insertArrays is the one statement that writes any number of events to PostgreSQL.
const insertArrays = `INSERT INTO audit_events (` + columns + `) SELECT * FROM unnest(
	$1::text[], $2::bigint[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[],
	$9::text[], $10::text[], $11::text[], $12::text[], $13::text[], $14::text[], $15::text[])`

// writeAll writes complete events in a transaction of their own: all or none.
func writeAll(ctx context.Context, db *database.DB, events []Event) error {
	if db.Dialect != database.PostgreSQL {
		return db.Write(ctx, func(ctx context.Context, tx *database.Tx) error {
			return appendComplete(ctx, tx, events)
		})
	}
	var arrays [columnCount]database.Array
	for i := range events {
		e := &events[i]
		for c, text := range [columnCount]string{
			e.ID, "", e.ActorID, e.ActorName, e.SessionID, e.APIKeyID, string(e.Action), string(e.Outcome),
			e.Reason, e.Resource, e.IP, e.UserAgent, e.RequestID, e.detailsText(), e.RecordedBy,
		} {
			if c == 1 {
				arrays[c].Number(e.Time.UnixMicro())
			} else {
				arrays[c].Text(text)
			}
		}
	}
	args := make([]any, columnCount)
	for c := range arrays {
		args[c] = arrays[c].Arg()
	}
	if err := db.WriteOne(ctx, insertArrays, args...); err != nil {
		return fmt.Errorf("insert %d audit events: %w", len(events), err)
	}
	return nil
}

// detailsText is the details as stored.
func (e *Event) detailsText() string {
	if len(e.Details) == 0 {
		return "{}"
	}
	text, err := json.Marshal(e.Details)
	if err != nil {
		panic("audit: " + err.Error()) // strings always encode
	}
	return string(text)
}
