package audit

import (
	"context"
	"fmt"

	"github.com/tollgatehq/tollgate/internal/auditlog"
	"github.com/tollgatehq/tollgate/server/internal/database"
)

// monthCount is how many events a partition has, and how many of them tell of retentions.
type monthCount struct {
	Old  int64 `db:"old"`
	Kept int64 `db:"kept"`
}

func countMonth(ctx context.Context, q database.Queries, p partition) (c monthCount, err error) {
	err = q.Get(ctx, &c, `SELECT COUNT(*) FILTER (WHERE action <> $1) AS old, COUNT(*) FILTER (WHERE action = $1) AS kept
		FROM `+p.name, string(Retention))
	return c, err
}

// horizon is a moment before a partition was read.
type horizon struct {
	Writer int64 `db:"writer"` // all transactions before this one had ended
	Told   int64 `db:"told"`   // how many events told of deletions
}

func readHorizon(ctx context.Context, q database.Queries) (h horizon, err error) {
	err = q.Get(ctx, &h, `SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS writer,
		(SELECT COUNT(*) FROM audit_events WHERE action = $1) AS told`, string(Retention))
	return h, err
}

// changed says whether an event may have come into the partition or gone from it since.
// It reads no more than an index: nothing waits for it long.
func (h horizon) changed(ctx context.Context, q database.Queries, p partition) (changed bool, err error) {
	err = q.Get(ctx, &changed, `SELECT EXISTS (SELECT 1 FROM `+p.name+` WHERE writer >= $1)
		OR (SELECT COUNT(*) FROM audit_events WHERE action = $3) <> $2`, h.Writer, h.Told, string(Retention))
	return changed, err
}

// leavesOf are the leaves of a partition's events, but for those of retentions, and how
// many they are.
func leavesOf(ctx context.Context, q database.Queries, p partition) (leaves []auditlog.Range, n int64, err error) {
	var rows []struct {
		First int64 `db:"first"`
		Last  int64 `db:"last"`
	}
	// More ranges than fit into an event's details need not be read.
	err = q.Select(ctx, &rows, `SELECT MIN(leaf) AS first, MAX(leaf) AS last FROM (
			SELECT l.leaf, l.leaf - ROW_NUMBER() OVER (ORDER BY l.leaf) AS island
			FROM `+p.name+` e JOIN audit_leaves l ON l.event_id = e.id WHERE e.action <> $1) AS numbered
		GROUP BY island ORDER BY 1 LIMIT $2`, string(Retention), rangesLength)
	for _, r := range rows {
		leaves = append(leaves, auditlog.Range{First: r.First, Last: r.Last})
		n += r.Last - r.First + 1
	}
	return leaves, n, err
}

// lockMonth keeps writers out of a partition for the rest of the transaction.
func lockMonth(ctx context.Context, q database.Queries, p partition) error {
	_, err := q.Exec(ctx, `LOCK TABLE `+p.name+` IN SHARE MODE`)
	return err
}

// dropPartition drops a partition but for what tells of retentions, which the default
// partition gets.
func dropPartition(ctx context.Context, q database.Queries, p partition) error {
	if _, err := q.Exec(ctx, `ALTER TABLE audit_events DETACH PARTITION `+p.name); err != nil {
		return err
	}
	all := columns + `, writer, position`
	if _, err := q.Exec(ctx, `INSERT INTO audit_events (`+all+`) SELECT `+all+` FROM `+p.name+` WHERE action = $1`, string(Retention)); err != nil {
		return fmt.Errorf("keep what tells of retentions: %w", err)
	}
	_, err := q.Exec(ctx, `DROP TABLE `+p.name)
	return err
}
