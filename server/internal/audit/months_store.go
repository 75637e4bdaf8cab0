package audit

import (
	"context"
	"fmt"
	"math"
	"regexp"
	"strings"

	"github.com/tollgatehq/tollgate/server/internal/database"
)

// The times between which every event is.
const (
	minTime = math.MinInt64
	maxTime = math.MaxInt64
)

// listPartitions are the log's, the oldest first.
func listPartitions(ctx context.Context, q database.Queries) ([]partition, error) {
	type found struct {
		Name   string `db:"name"`
		Bounds string `db:"bounds"`
	}
	// One that another instance drops at this moment has no bounds.
	partitions, err := database.Select(ctx, q, func(f found) (partition, error) { return parsePartition(f.Name, f.Bounds) },
		`SELECT name, bounds FROM (SELECT c.relname AS name, pg_get_expr(c.relpartbound, c.oid) AS bounds
			FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
			WHERE i.inhparent = to_regclass('audit_events') OFFSET 0) AS found
		WHERE bounds IS NOT NULL ORDER BY name`)
	if err != nil {
		return nil, fmt.Errorf("list the audit log's partitions: %w", err)
	}
	return partitions, nil
}

// makeMonth makes the partition of a month in a transaction. It makes the table first and
// attaches it then, which locks neither the log nor its other partitions but the default
// one.
func makeMonth(ctx context.Context, db *database.DB, m partition) error {
	err := db.Write(ctx, func(ctx context.Context, tx *database.Tx) error {
		if err := tx.BoundLocks(ctx, lockWait); err != nil {
			return err
		}
		exec := func(query string, args ...any) (n int64, err error) {
			return tx.Exec(ctx, strings.ReplaceAll(query, "NEW", m.name), args...)
		}
		if _, err := exec(`CREATE TABLE NEW (LIKE audit_events INCLUDING DEFAULTS, PRIMARY KEY (id))`); err != nil {
			return err
		}
		var stray int
		if err := tx.Get(ctx, &stray, `SELECT COUNT(*) FROM (SELECT 1 FROM audit_events_default
			WHERE time >= $1 AND time < $2 LIMIT $3) AS stray`, m.from, m.to, moveAtMost+1); err != nil {
			return err
		}
		if stray > moveAtMost {
			return fmt.Errorf("the default partition has more than %d events of the month, which stay there", moveAtMost)
		}
		if stray > 0 {
			if _, err := exec(`LOCK TABLE audit_events_default IN ACCESS EXCLUSIVE MODE`); err != nil {
				return err
			}
			if _, err := exec(`INSERT INTO NEW SELECT * FROM audit_events_default WHERE time >= $1 AND time < $2`, m.from, m.to); err != nil {
				return err
			}
			if _, err := exec(`DELETE FROM audit_events_default WHERE time >= $1 AND time < $2`, m.from, m.to); err != nil {
				return err
			}
		}
		_, err := exec(fmt.Sprintf(`ALTER TABLE audit_events ATTACH PARTITION NEW FOR VALUES FROM (%d) TO (%d)`, m.from, m.to))
		return err
	})
	if err != nil {
		return fmt.Errorf("make the partition %s: %w", m.name, err)
	}
	return nil
}

// lackingIndex is an index of the log that one of its partitions lacks.
type lackingIndex struct {
	Partition  string `db:"partition"`
	Parent     string `db:"parent"`
	Definition string `db:"definition"`
}

// name is what the partition's index is called.
func (i lackingIndex) name() string {
	return i.Partition + strings.TrimPrefix(i.Parent, "audit_events")
}

func lackingIndexes(ctx context.Context, q database.Queries) (list []lackingIndex, err error) {
	if err := q.Select(ctx, &list, `SELECT p.relname AS partition, c.relname AS parent, pg_get_indexdef(c.oid) AS definition
		FROM pg_inherits i JOIN pg_class p ON p.oid = i.inhrelid
		JOIN pg_index x ON x.indrelid = i.inhparent JOIN pg_class c ON c.oid = x.indexrelid
		WHERE i.inhparent = to_regclass('audit_events') AND NOT EXISTS (
			SELECT 1 FROM pg_inherits h JOIN pg_index y ON y.indexrelid = h.inhrelid
			WHERE h.inhparent = c.oid AND y.indrelid = p.oid)
		ORDER BY p.relname, c.relname`); err != nil {
		return nil, fmt.Errorf("list the audit log's indexes: %w", err)
	}
	return list, nil
}

// indexed is the beginning of an index's definition, up to what it is on.
var indexed = regexp.MustCompile(`^CREATE INDEX \S+ ON ONLY \S+ USING `)

// build builds the index without a lock that keeps writers out, unless it is there.
func (i lackingIndex) build(ctx context.Context, db *database.DB) error {
	on := indexed.FindStringIndex(i.Definition)
	if on == nil {
		return fmt.Errorf("its definition is not one that Tollgate made: %s", i.Definition)
	}
	var valid []bool
	if err := db.Select(ctx, &valid, `SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass($1)`, i.name()); err != nil {
		return err
	}
	if len(valid) == 1 && valid[0] {
		return nil
	}
	// What an interrupted build left is of no use.
	if _, err := db.Exec(ctx, `DROP INDEX CONCURRENTLY IF EXISTS `+i.name()); err != nil {
		return err
	}
	_, err := db.Exec(ctx, `CREATE INDEX CONCURRENTLY `+i.name()+` ON `+i.Partition+` USING `+i.Definition[on[1]:])
	return err
}

// attach makes the index part of the log's.
func (i lackingIndex) attach(ctx context.Context, db *database.DB) error {
	return db.Write(ctx, func(ctx context.Context, tx *database.Tx) error {
		if err := tx.BoundLocks(ctx, lockWait); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `ALTER INDEX `+i.Parent+` ATTACH PARTITION `+i.name())
		return err
	})
}

// dropReplacedIndex drops the index on resources in the order of words, which only the
// oldest partition has: the log's is in the order of bytes.
func dropReplacedIndex(ctx context.Context, db *database.DB) error {
	if _, err := db.Exec(ctx, `DROP INDEX CONCURRENTLY IF EXISTS audit_events_start_by_resource`); err != nil {
		return fmt.Errorf("drop the index that another replaces: %w", err)
	}
	return nil
}
