package audit

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/tollgatehq/tollgate/internal/auditlog"
	"github.com/tollgatehq/tollgate/server/internal/database"
)

const (
	// keptAtMost is how many events of retentions are moved out of a month to drop it.
	keptAtMost = 10_000
	// droppedAtOnce is how many rows of dropped leaves one transaction deletes.
	droppedAtOnce = 5000
)

// errNotDropped says that a month cannot go as a whole: its events go one by one.
var errNotDropped = errors.New("something in the month is kept")

// dropMonths drops the partitions whose events all happened before a time, but those in
// which something is kept. It is busy when one is in use. It does nothing on SQLite.
func (s *Service) dropMonths(ctx context.Context, slow *database.DB, before time.Time) (deleted int64, busy bool, err error) {
	if s.db.Dialect != database.PostgreSQL {
		return 0, false, nil
	}
	all, err := listPartitions(ctx, slow)
	if err != nil {
		return 0, false, err
	}
	for _, p := range all {
		if p.fallback || p.to > before.UnixMicro() {
			continue
		}
		err := s.patiently(ctx, func(ctx context.Context) error {
			n, err := s.dropMonth(ctx, slow, p, before)
			deleted += n
			return err
		})
		switch {
		case err == nil:
			s.Wake()
		case errors.Is(err, errNotDropped):
		case database.IsLockTimeout(err):
			s.log.WarnContext(ctx, "a month of the audit log is in use and cannot be dropped; trying again in an hour", "partition", p.name)
			return deleted, true, s.deleteDroppedLeaves(ctx)
		default:
			return deleted, false, fmt.Errorf("drop the audit log's partition %s: %w", p.name, err)
		}
	}
	return deleted, false, s.deleteDroppedLeaves(ctx)
}

// dropMonth drops a partition in one transaction. What takes long it reads first, while
// the transaction holds no lock that anybody waits for: see that nothing has changed
// since, and the rest takes milliseconds. The rows of the events' leaves are deleted
// afterwards: without their events they are in no answer.
func (s *Service) dropMonth(ctx context.Context, db *database.DB, p partition, before time.Time) (deleted int64, err error) {
	err = db.Write(ctx, func(ctx context.Context, tx *database.Tx) error {
		if err := tx.BoundLocks(ctx, lockWait); err != nil {
			return err
		}
		began, err := readHorizon(ctx, tx)
		if err != nil {
			return err
		}
		kept, err := listHolds(ctx, tx)
		if err != nil {
			return err
		}
		if held, err := anyHeld(ctx, db, p, kept); err != nil || held {
			return errors.Join(err, errNotDropped)
		}
		events, err := countMonth(ctx, tx, p)
		if err != nil {
			return err
		}
		leaves, inTree, err := leavesOf(ctx, tx, p)
		if err != nil {
			return err
		}
		if s.tree != nil && inTree != events.Old || events.Kept > keptAtMost || len(auditlog.FormatRanges(leaves)) > rangesLength {
			return errNotDropped
		}

		if err := LockPruning(ctx, tx); err != nil {
			return err
		}
		if err := lockMonth(ctx, tx, p); err != nil {
			return err
		}
		now, err := listHolds(ctx, tx)
		if err != nil {
			return err
		}
		changed, err := began.changed(ctx, tx, p)
		if err != nil {
			return err
		}
		if changed || !reflect.DeepEqual(now, kept) {
			return errNotDropped // or in an hour
		}
		if err := dropPartition(ctx, tx, p); err != nil {
			return err
		}
		if deleted = events.Old; deleted == 0 {
			return nil
		}
		if err := addDroppedLeaves(ctx, tx, leaves); err != nil {
			return err
		}
		return s.recordRemoval(ctx, tx, deleted, before, leaves)
	})
	if err != nil {
		return 0, err
	}
	return deleted, nil
}

// anyHeld says whether an event of the partition is on hold.
func anyHeld(ctx context.Context, db *database.DB, p partition, kept holds) (bool, error) {
	for _, hold := range kept {
		f := hold.Filter
		if from := time.UnixMicro(p.from); p.from > minTime && from.After(f.After) {
			f.After = from
		}
		if to := time.UnixMicro(p.to); f.Before.IsZero() || to.Before(f.Before) {
			f.Before = to
		}
		s := search{searchBounds(), db, db.Dialect, f}
		for at, more := (cursor{}), true; more; {
			var found []Event
			var err error
			if found, at, more, err = s.events(ctx, at, 1); err != nil {
				return false, fmt.Errorf("look for what is on hold: %w", err)
			}
			if len(found) > 0 {
				return true, nil
			}
		}
	}
	return false, nil
}

// deleteDroppedLeaves deletes the rows of the leaves whose months were dropped, in small
// steps.
func (s *Service) deleteDroppedLeaves(ctx context.Context) error {
	more, err := anyDroppedLeaves(ctx, s.db)
	for more && err == nil {
		err = s.db.Write(ctx, func(ctx context.Context, tx *database.Tx) error {
			if err := LockPruning(ctx, tx); err != nil {
				return err
			}
			var err error
			more, err = deleteSomeDroppedLeaves(ctx, tx, droppedAtOnce)
			return err
		})
		if more && err == nil {
			err = s.pause(ctx, s.prunePause)
		}
	}
	if err != nil {
		return fmt.Errorf("delete the rows of dropped leaves: %w", err)
	}
	return nil
}
