package audit

import (
	"context"
	"fmt"
	"time"

	"github.com/tollgatehq/tollgate/internal/auditlog"
	"github.com/tollgatehq/tollgate/server/internal/database"
)

// oldEvent is what a retention needs to know of an event.
type oldEvent struct {
	ID        string `db:"id"`
	Time      int64  `db:"time"`
	ActorID   string `db:"actor_id"`
	ActorName string `db:"actor_name"`
	Action    Action `db:"action"`
	Resource  string `db:"resource"`
	Leaf      *int64 `db:"leaf"` // nil: not in the tree
}

// event has what holds look at.
func (o *oldEvent) event() Event {
	return Event{
		ID: o.ID, Time: time.UnixMicro(o.Time).UTC(), ActorID: o.ActorID, ActorName: o.ActorName,
		Action: o.Action, Resource: o.Resource,
	}
}

// listOld reads up to limit events from before a time, of one action or of all, after a
// cursor, the oldest first.
func listOld(ctx context.Context, q database.Queries, d database.Dialect, action string, before time.Time, after cursor, limit int) (old []oldEvent, err error) {
	var args query
	if after == (cursor{}) {
		after.Time = minTime
	}
	where := ` WHERE time < ` + args.arg(before.UnixMicro()) + ` AND time >= ` + args.arg(after.Time)
	order := ` ORDER BY time, id`
	switch {
	case action == "":
		where += ` AND (time, id) > (` + args.arg(after.Time) + `, ` + args.arg(after.ID) + `)`
	case d == database.PostgreSQL:
		// By places in the index of actions, as key.where says: what was deleted just now is
		// still in the statistics, and the planner would look for it in the whole log.
		value := args.arg(action)
		where += ` AND (action, time, id) > (` + value + `, ` + args.arg(after.Time) + `, ` + args.arg(after.ID) + `)` +
			` AND (action, time, id) < (` + value + `, ` + args.arg(before.UnixMicro()) + `, '')`
		order = ` ORDER BY action, time, id`
	default:
		where += ` AND action = ` + args.arg(action) + ` AND (time, id) > (` + args.arg(after.Time) + `, ` + args.arg(after.ID) + `)`
	}
	// A query of its own for each leaf: as a join it could begin with all of them.
	err = q.Select(ctx, &old, `SELECT id, time, actor_id, actor_name, action, resource,
		(SELECT leaf FROM audit_leaves WHERE event_id = old.id) AS leaf
		FROM (SELECT id, time, actor_id, actor_name, action, resource FROM audit_events`+where+order+`
			LIMIT `+args.arg(limit)+`) AS old ORDER BY time, id`, args.args...)
	return old, err
}

// listActions are those of all events, each looked up after the one before.
func listActions(ctx context.Context, q database.Queries) (actions []string, err error) {
	for last := ""; ; {
		var next *string
		if err := q.Get(ctx, &next, `SELECT MIN(action) FROM audit_events WHERE action > $1`, last); err != nil {
			return nil, fmt.Errorf("list the audit log's actions: %w", err)
		}
		if next == nil {
			return actions, nil
		}
		last = *next
		actions = append(actions, last)
	}
}

// deleteEvents deletes events by their ids, whose times are from oldest to newest.
func deleteEvents(ctx context.Context, q database.Queries, d database.Dialect, ids []string, oldest, newest int64) (int64, error) {
	list := database.JSON(ids)
	if d == database.PostgreSQL {
		var array database.Array
		for _, id := range ids {
			array.Text(id)
		}
		list = array.Arg()
	}
	return q.Exec(ctx, `DELETE FROM audit_events WHERE `+among(d, "id", "text")+` AND time >= $2 AND time <= $3`, list, oldest, newest)
}

// deleteLeaves deletes the leaves' rows; their hashes stay.
func deleteLeaves(ctx context.Context, q database.Queries, d database.Dialect, leaves []int64) error {
	list := database.JSON(leaves)
	if d == database.PostgreSQL {
		var array database.Array
		for _, leaf := range leaves {
			array.Number(leaf)
		}
		list = array.Arg()
	}
	_, err := q.Exec(ctx, `DELETE FROM audit_leaves WHERE `+among(d, "leaf", "bigint"), list)
	return err
}

// among is the condition that a column is one of the first argument's values.
func among(d database.Dialect, column, kind string) string {
	if d == database.PostgreSQL {
		return column + ` = ANY ($1::` + kind + `[])`
	}
	return column + ` IN (SELECT value FROM json_each($1))`
}

// addDroppedLeaves remembers that the rows of these leaves are still to be deleted.
func addDroppedLeaves(ctx context.Context, q database.Queries, leaves []auditlog.Range) error {
	var first, last database.Array
	for _, r := range leaves {
		first.Number(r.First)
		last.Number(r.Last)
	}
	_, err := q.Exec(ctx, `INSERT INTO audit_dropped_leaves (first_leaf, last_leaf) SELECT * FROM unnest($1::bigint[], $2::bigint[])`,
		first.Arg(), last.Arg())
	return err
}

func anyDroppedLeaves(ctx context.Context, q database.Queries) (bool, error) {
	var n int
	err := q.Get(ctx, &n, `SELECT COUNT(*) FROM (SELECT 1 FROM audit_dropped_leaves LIMIT 1) AS one`)
	return n > 0, err
}

// deleteSomeDroppedLeaves deletes up to n rows of dropped leaves, and says whether there
// may be more.
func deleteSomeDroppedLeaves(ctx context.Context, q database.Queries, n int64) (more bool, err error) {
	var ranges []struct {
		First int64 `db:"first_leaf"`
		Last  int64 `db:"last_leaf"`
	}
	if err := q.Select(ctx, &ranges, `SELECT first_leaf, last_leaf FROM audit_dropped_leaves ORDER BY first_leaf LIMIT $1`, 100); err != nil {
		return false, err
	}
	for _, r := range ranges {
		end := min(r.Last, r.First+n-1)
		if _, err := q.Exec(ctx, `DELETE FROM audit_leaves WHERE leaf >= $1 AND leaf <= $2`, r.First, end); err != nil {
			return false, err
		}
		if end < r.Last {
			_, err := q.Exec(ctx, `UPDATE audit_dropped_leaves SET first_leaf = $2 WHERE first_leaf = $1`, r.First, end+1)
			return true, err
		}
		if _, err := q.Exec(ctx, `DELETE FROM audit_dropped_leaves WHERE first_leaf = $1`, r.First); err != nil {
			return false, err
		}
		if n -= end - r.First + 1; n <= 0 {
			return true, nil
		}
	}
	return len(ranges) > 0, nil
}
