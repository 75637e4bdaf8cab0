package audit

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/tollgatehq/tollgate/server/internal/clock"
	"github.com/tollgatehq/tollgate/server/internal/database"
)

// columns are what an event is written to and read from, in the order of
// Append's arguments.
const columns = `id, time, actor_id, actor_name, session_id, api_key_id, action, outcome,
	reason, resource, ip, user_agent, request_id, details, recorded_by`

const columnCount = 15

// rowsAtOnce is how many events one statement writes. SQLite looks every $n up
// among those before it, so one long statement costs it much more than several
// short ones; for PostgreSQL each is a round trip.
const rowsAtOnce = 25

// Append writes events inside a transaction, so that they are committed or rolled
// back with what they record. It gives an id and a time to those that have none, and
// cuts their texts to the bounds.
func Append(ctx context.Context, q database.Queries, clk clock.Clock, events ...Event) error {
	for part := range slices.Chunk(events, rowsAtOnce) {
		if err := appendPart(ctx, q, clk, part); err != nil {
			return fmt.Errorf("append %d audit events: %w", len(events), err)
		}
	}
	return nil
}

func appendPart(ctx context.Context, q database.Queries, clk clock.Clock, events []Event) error {
	var rows strings.Builder
	args := make([]any, 0, len(events)*columnCount)
	for i := range events {
		e := &events[i]
		e.complete(clk)
		details, err := json.Marshal(e.Details)
		if err != nil {
			return fmt.Errorf("encode details of %s: %w", e.Action, err)
		}
		if i > 0 {
			rows.WriteByte(',')
		}
		for c := range columnCount {
			rows.WriteByte("(,"[min(c, 1)])
			rows.WriteByte('$')
			rows.WriteString(strconv.Itoa(len(args) + c + 1))
		}
		rows.WriteByte(')')
		args = append(args, e.ID, e.Time.UnixMicro(), e.ActorID, e.ActorName, e.SessionID, e.APIKeyID,
			string(e.Action), string(e.Outcome), e.Reason, e.Resource, e.IP,
			e.UserAgent, e.RequestID, string(details), e.RecordedBy)
	}
	_, err := q.Exec(ctx, `INSERT INTO audit_events (`+columns+`) VALUES `+rows.String(), args...)
	return err
}
