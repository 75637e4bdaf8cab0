package audit

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/tollgatehq/tollgate/internal/auditlog"
	"github.com/tollgatehq/tollgate/server/internal/database"
)

const (
	// pruneAtOnce is how many events one transaction deletes, and prunePause the
	// pause between two, so that deleting years of events slows no caller down.
	pruneAtOnce = 1000
	prunePause  = 100 * time.Millisecond
	// queriesAtOnce is how many queries look for them.
	queriesAtOnce = 50
	// rangesLength is how long the text of a removal's ranges of leaves may be, so that it
	// fits into one event's details.
	rangesLength = 12_000
)

// Prune deletes the events that are older than they are kept, the oldest first, and
// returns how many. A month of PostgreSQL's log in which nothing is kept goes as a whole;
// of everything else a transaction deletes at most 1,000. Each deletion is an event of the
// action Retention: its details say how many events went ("deleted"), from before what
// time ("before"), and which leaves of the tree they were ("leaves", "leaves.2", …), signed
// by the tree's key ("signature"). Several instances may prune at once: with PostgreSQL one
// does, and the others return at once.
//
// It keeps what is on hold, what is not in the tree yet, and for good the events of the
// action Retention, without which nobody could tell a deletion from tampering.
//
// Watches and pages work while events are deleted: a watch never reads events
// that are that old, and a page token names a time.
func (s *Service) Prune(ctx context.Context, keep Retentions) (deleted int64, err error) {
	if s.db.Dialect != database.PostgreSQL {
		return s.prune(ctx, s.db, keep)
	}
	// One instance at a time: others would delete one by one what it drops as a whole.
	err = s.db.Alone(ctx, pruneWork, false, func(ctx context.Context, slow *database.DB) error {
		deleted, err = s.prune(ctx, slow, keep)
		return err
	})
	return deleted, err
}

// prune is Prune by one instance; slow has no bound on how long a statement takes.
func (s *Service) prune(ctx context.Context, slow *database.DB, keep Retentions) (deleted int64, err error) {
	if err := s.deleteDroppedLeaves(ctx); err != nil {
		return 0, err
	}
	prunings, cutoff, err := s.prunings(ctx, keep)
	if err != nil {
		return 0, err
	}
	busy := false
	if !cutoff.IsZero() {
		if deleted, busy, err = s.dropMonths(ctx, slow, cutoff); err != nil {
			return deleted, err
		}
	}
	for _, p := range prunings {
		if busy && p.actions == nil {
			continue // the month is dropped an hour later
		}
		n, err := s.run(ctx, p)
		deleted += n
		if err != nil {
			return deleted, err
		}
	}
	return deleted, nil
}

// pruning goes once over the events from before a time: all of them, or those of some
// actions, one action after the other.
type pruning struct {
	before  time.Time
	actions []string // nil: all
	at      int      // in actions
	after   cursor
	done    bool
}

// prunings are what there is to go over, and from before which time no event is kept by its
// age; zero when some are for good.
func (s *Service) prunings(ctx context.Context, keep Retentions) (list []pruning, cutoff time.Time, err error) {
	now := s.clock.Now()
	longest := keep.longest()
	if longest > 0 {
		cutoff = ago(now, longest)
		list = append(list, pruning{before: cutoff})
	}
	if len(keep.For) == 0 {
		return list, cutoff, nil
	}
	actions, err := listActions(ctx, s.db)
	if err != nil {
		return nil, cutoff, err
	}
	by := map[time.Duration][]string{}
	for _, action := range actions {
		if d := keep.of(action); d > 0 && d != longest {
			by[d] = append(by[d], action)
		}
	}
	for d, actions := range by {
		list = append(list, pruning{before: ago(now, d), actions: actions})
	}
	slices.SortFunc(list, func(a, b pruning) int { return a.before.Compare(b.before) })
	return list, cutoff, nil
}

// ago is to the second, as the log says it.
func ago(now time.Time, d time.Duration) time.Time { return now.Add(-d).UTC().Truncate(time.Second) }

func (s *Service) run(ctx context.Context, p pruning) (deleted int64, err error) {
	for !p.done {
		var n int
		if n, p, err = s.step(ctx, p); err != nil {
			return deleted, fmt.Errorf("delete old audit events: %w", err)
		}
		if deleted += int64(n); n > 0 {
			s.Wake()
			if p.done {
				break
			}
			if err := s.pause(ctx, s.prunePause); err != nil {
				return deleted, err
			}
		}
	}
	return deleted, nil
}

// step deletes what is to go of the next events of a pruning, and returns how far it got.
func (s *Service) step(ctx context.Context, p pruning) (deleted int, next pruning, err error) {
	// What is kept is passed over without a transaction.
	seen, next, err := s.candidates(ctx, s.db, p)
	if err != nil || len(seen) == 0 {
		return 0, next, err
	}
	err = s.db.Write(ctx, func(ctx context.Context, tx *database.Tx) error {
		deleted = 0
		if err := LockPruning(ctx, tx); err != nil {
			return err
		}
		var old []oldEvent
		if old, next, err = s.candidates(ctx, tx, p); err != nil || len(old) == 0 {
			return err
		}
		deleted = len(old)
		return s.remove(ctx, tx, p.before, old)
	})
	return deleted, next, err
}

// candidates are those of the next events of a pruning that may go, and where the pruning goes
// on after them. It looks at no more than pruneAtOnce events.
func (s *Service) candidates(ctx context.Context, q database.Queries, p pruning) (old []oldEvent, next pruning, err error) {
	kept, err := listHolds(ctx, q)
	if err != nil {
		return nil, p, err
	}
	next = p
	for read, queries := 0, 0; !next.done && read < pruneAtOnce && queries < queriesAtOnce; queries++ {
		action := ""
		if p.actions != nil {
			action = p.actions[next.at]
		}
		rows, err := listOld(ctx, q, s.db.Dialect, action, p.before, next.after, pruneAtOnce-read)
		if err != nil {
			return nil, p, err
		}
		for i := range rows {
			r := &rows[i]
			next.after = cursor{r.Time, r.ID}
			if e := r.event(); e.Action != Retention && (s.tree == nil || r.Leaf != nil) && !kept.keep(&e) {
				old = append(old, *r)
			}
		}
		if read += len(rows); read < pruneAtOnce {
			next.at, next.after = next.at+1, cursor{}
			next.done = next.at >= len(p.actions)
		}
	}
	return old, next, nil
}

// remove deletes events, with their rows in audit_leaves, and records that.
func (s *Service) remove(ctx context.Context, tx *database.Tx, before time.Time, old []oldEvent) error {
	var leaves []int64
	ids, oldest, newest := make([]string, len(old)), old[0].Time, old[0].Time
	for i, e := range old {
		ids[i], oldest, newest = e.ID, min(oldest, e.Time), max(newest, e.Time)
		if e.Leaf != nil {
			leaves = append(leaves, *e.Leaf)
		}
	}
	n, err := deleteEvents(ctx, tx, s.db.Dialect, ids, oldest, newest)
	if err != nil {
		return err
	}
	if n != int64(len(ids)) {
		return errors.New("an older version of Tollgate, or somebody else, deletes the same events")
	}
	if err := deleteLeaves(ctx, tx, s.db.Dialect, leaves); err != nil {
		return err
	}
	return s.recordRemoval(ctx, tx, int64(len(ids)), before, rangesOf(leaves))
}

// recordRemoval records that n events were deleted, of these leaves.
func (s *Service) recordRemoval(ctx context.Context, tx *database.Tx, n int64, before time.Time, leaves []auditlog.Range) error {
	e := New(ctx, Retention, Success, "")
	e.ActorName = SystemActor
	e.Details = map[string]string{auditlog.DetailBefore: before.Format(time.RFC3339)}
	if s.tree != nil && len(leaves) > 0 {
		removal := auditlog.Removal{Before: before, Leaves: leaves}
		signature, err := s.tree.SignRemoval(ctx, tx, removal)
		if err != nil {
			return err
		}
		e.Details = removal.Details(signature)
	}
	return Append(ctx, tx, s.clock, e.With("deleted", strconv.FormatInt(n, 10)))
}

// rangesOf are leaves as ranges.
func rangesOf(leaves []int64) (ranges []auditlog.Range) {
	slices.Sort(leaves)
	for _, leaf := range leaves {
		if n := len(ranges); n > 0 && ranges[n-1].Last == leaf-1 {
			ranges[n-1].Last = leaf
		} else {
			ranges = append(ranges, auditlog.Range{First: leaf, Last: leaf})
		}
	}
	return ranges
}

// pause waits, unless ctx ends.
func (s *Service) pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Measure reads how much the log takes up, for Stats. Call it now and then.
func (s *Service) Measure(ctx context.Context) error {
	bytes, err := size(ctx, s.db)
	if err != nil {
		return fmt.Errorf("measure the audit log: %w", err)
	}
	s.counters.bytes.Store(bytes)
	return nil
}
