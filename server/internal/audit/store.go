package audit

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/tollgatehq/tollgate/server/internal/database"
	"github.com/tollgatehq/tollgate/server/internal/world"
)

// columns are what an event is written to and read from, in the order of
// insertArgs.
const columns = `id, time, actor_id, actor_name, session_id, api_key_id, action, outcome,
	reason, resource, ip, user_agent, request_id, details, recorded_by`

const columnCount = 15

// Append writes events inside a transaction, so that they stand or fall with
// what they record. It gives an id and a time to those that have none.
func Append(ctx context.Context, q database.Queries, w world.World, events ...Event) error {
	if len(events) == 0 {
		return nil
	}
	var rows strings.Builder
	args := make([]any, 0, len(events)*columnCount)
	for i := range events {
		e := &events[i]
		if e.ID == "" {
			e.ID = w.NewID()
		}
		if e.Time.IsZero() {
			e.Time = w.Now()
		}
		if i > 0 {
			rows.WriteByte(',')
		}
		rows.WriteByte('(')
		for c := range columnCount {
			if c > 0 {
				rows.WriteByte(',')
			}
			fmt.Fprintf(&rows, "$%d", i*columnCount+c+1)
		}
		rows.WriteByte(')')
		details, err := json.Marshal(e.Details)
		if err != nil {
			return fmt.Errorf("encode details of event %s: %w", e.Action, err)
		}
		if e.Details == nil {
			details = []byte("{}")
		}
		args = append(args, e.ID, e.Time.UnixMicro(), e.ActorID, text(e.ActorName, 128), e.SessionID, e.APIKeyID,
			string(e.Action), string(e.Outcome), text(e.Reason, 256), text(e.Resource, 256), e.IP,
			text(e.UserAgent, 512), text(e.RequestID, 128), string(details), e.RecordedBy)
	}
	if _, err := q.Exec(ctx, `INSERT INTO audit_events (`+columns+`) VALUES `+rows.String(), args...); err != nil {
		return fmt.Errorf("append %d audit events: %w", len(events), err)
	}
	return nil
}

// text makes s fit for storing: at most limit bytes of valid UTF-8 without
// NUL, which PostgreSQL refuses.
func text(s string, limit int) string {
	if len(s) > limit {
		s = s[:limit]
	}
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}
