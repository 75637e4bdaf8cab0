package audit

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/database"
)

const (
	// pruneAtOnce is how many events one transaction deletes, and prunePause the
	// pause between two, so that deleting years of events slows no caller down.
	pruneAtOnce = 1000
	prunePause  = 100 * time.Millisecond
)

// Prune deletes the events from before a time, the oldest first, and returns
// how many. Each transaction deletes at most 1,000 and records an event of the
// action Retention, whose details say how many ("deleted") and from before what
// time ("before"). Several instances may prune at once.
//
// Watches and pages work while events are deleted: a watch never reads events
// that are that old, and a page token names a time.
func (s *Service) Prune(ctx context.Context, before time.Time) (deleted int64, err error) {
	for {
		n, err := s.pruneSome(ctx, before)
		deleted += n
		if err != nil || n < pruneAtOnce {
			return deleted, err
		}
		if err := s.pause(ctx, s.prunePause); err != nil {
			return deleted, err
		}
	}
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

func (s *Service) pruneSome(ctx context.Context, before time.Time) (n int64, err error) {
	err = s.db.Write(ctx, func(ctx context.Context, tx *database.Tx) error {
		var err error
		if n, err = deleteBefore(ctx, tx, before.UnixMicro(), pruneAtOnce); err != nil || n == 0 {
			return err
		}
		e := New(ctx, Retention, Success, "").
			With("deleted", strconv.FormatInt(n, 10)).With("before", before.UTC().Format(time.RFC3339))
		e.ActorName = SystemActor
		return Append(ctx, tx, s.clock, e)
	})
	if err != nil {
		return 0, fmt.Errorf("delete old audit events: %w", err)
	}
	if n > 0 {
		s.Wake()
	}
	return n, nil
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
