package database

import (
	"context"
	"fmt"
	"time"
)

// aloneTimeout is how long one statement or transaction of Alone may take.
const aloneTimeout = 12 * time.Hour

// Alone calls fn with connections of their own, whose statements may take hours, for work
// on PostgreSQL's tables while servers run. One instance at a time does work of the same
// number: with wait, it waits for another to end; otherwise it does nothing when another
// is at it. Statements that take locks should be bounded: see BoundLocks.
func (db *DB) Alone(ctx context.Context, work int64, wait bool, fn func(ctx context.Context, slow *DB) error) error {
	slow, err := OpenWithin(db.url, aloneTimeout)
	if err != nil {
		return err
	}
	defer slow.Close()
	// The lock belongs to a transaction, as that of migrations does, and to this schema.
	return slow.Write(ctx, func(ctx context.Context, tx *Tx) error {
		// A statement with arguments would keep its snapshot until the next, and builds of
		// indexes would wait for that.
		lock := fmt.Sprintf(`SELECT pg_try_advisory_xact_lock(hashtextextended(current_schema(), %d))`, work)
		if wait {
			lock = fmt.Sprintf(`SELECT pg_advisory_xact_lock(hashtextextended(current_schema(), %d)) IS NOT NULL`, work)
		}
		var got bool
		if err := tx.Get(ctx, &got, lock); err != nil {
			return fmt.Errorf("wait for other instances: %w", err)
		}
		if !got {
			return nil
		}
		return fn(ctx, slow)
	})
}

// BoundLocks has the rest of a PostgreSQL transaction give up waiting for a lock after a
// time, with an error that IsLockTimeout knows: who comes after it in the lock's queue
// waits no longer than that.
func (tx *Tx) BoundLocks(ctx context.Context, most time.Duration) error {
	_, err := tx.Exec(ctx, `SELECT set_config('lock_timeout', $1, true)`, fmt.Sprintf("%dms", most.Milliseconds()))
	return err
}
