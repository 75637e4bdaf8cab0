package audit

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/database"
)

const (
	// monthsAhead is how many months' partitions are there before their time, after this
	// month's.
	monthsAhead = 2
	// moveAtMost is how many events are moved from the default partition to a new month's.
	moveAtMost = 10_000
	// lockWait is how long work on the tables waits for a lock, and with it those who come
	// after it; it then tries again lockTries times.
	lockWait  = 200 * time.Millisecond
	lockTries = 8
	lockPause = 250 * time.Millisecond
)

// The numbers of database.Alone's work on months, on their indexes, on old events and on
// those of another server: arbitrary, and the same in every version.
const (
	monthsWork  = 7_655_283_400_002
	indexesWork = 7_655_283_400_003
	pruneWork   = 7_655_283_400_004
	movedWork   = 7_655_283_400_005
)

// partition is one of PostgreSQL's partitions of the log.
type partition struct {
	name     string
	from, to int64 // to is not in it; the earliest and the latest time where it has no end
	fallback bool  // what no other partition takes
}

// partitionBounds is a partition's as PostgreSQL writes them.
var partitionBounds = regexp.MustCompile(`^FOR VALUES FROM \((?:MINVALUE|'(-?\d+)')\) TO \((?:MAXVALUE|'(-?\d+)')\)$`)

func parsePartition(name, definition string) (partition, error) {
	p := partition{name: name, from: minTime, to: maxTime}
	if definition == "DEFAULT" {
		p.fallback = true
		return p, nil
	}
	m := partitionBounds.FindStringSubmatch(definition)
	if m == nil {
		return partition{}, fmt.Errorf("the audit log's partition %s has bounds %q, which Tollgate did not make", name, definition)
	}
	var err error
	if m[1] != "" {
		p.from, err = strconv.ParseInt(m[1], 10, 64)
	}
	if m[2] != "" && err == nil {
		p.to, err = strconv.ParseInt(m[2], 10, 64)
	}
	return p, err
}

// month is the partition of the month, in UTC, that begins at or before a time.
func month(at time.Time, after int) partition {
	at = at.UTC()
	from := time.Date(at.Year(), at.Month()+time.Month(after), 1, 0, 0, 0, 0, time.UTC)
	return partition{
		name: "audit_events_" + from.Format("2006_01"),
		from: from.UnixMicro(), to: from.AddDate(0, 1, 0).UnixMicro(),
	}
}

func (p partition) overlaps(other partition) bool {
	return !p.fallback && !other.fallback && p.from < other.to && other.from < p.to
}

// missingMonths are those of now and the next that no partition has.
func missingMonths(now time.Time, existing []partition) (missing []partition) {
next:
	for after := range monthsAhead + 1 {
		m := month(now, after)
		for _, p := range existing {
			if m.overlaps(p) {
				continue next
			}
		}
		missing = append(missing, m)
	}
	return missing
}

// MakeMonths makes PostgreSQL's partitions of this and the next two months that are not
// there yet, with what the default partition has of them. Any number of instances may do
// so at once; nobody who records events waits for it longer than 200 ms. It does nothing
// on SQLite. An event finds a partition also when it fails.
func (s *Service) MakeMonths(ctx context.Context) error {
	if s.db.Dialect != database.PostgreSQL {
		return nil
	}
	existing, err := listPartitions(ctx, s.db)
	if err != nil || len(missingMonths(s.clock.Now(), existing)) == 0 {
		return err
	}
	return s.db.Alone(ctx, monthsWork, true, func(ctx context.Context, slow *database.DB) error {
		existing, err := listPartitions(ctx, slow) // another instance may have made some
		if err != nil {
			return err
		}
		var errs []error
		for _, m := range missingMonths(s.clock.Now(), existing) {
			err := s.patiently(ctx, func(ctx context.Context) error { return makeMonth(ctx, slow, m) })
			if errs = append(errs, err); database.IsLockTimeout(err) {
				break // nor would the next
			}
		}
		return errors.Join(errs...)
	})
}

// patiently tries again what gave up waiting for a lock.
func (s *Service) patiently(ctx context.Context, do func(context.Context) error) error {
	for try := 1; ; try++ {
		err := do(ctx)
		if !database.IsLockTimeout(err) || try == lockTries {
			return err
		}
		if err := s.pause(ctx, lockPause); err != nil {
			return err
		}
	}
}

// BuildIndexes builds the indexes that a partition lacks because it is older than they
// are, one after the other, while events are recorded. It may take hours; what was built
// stays when ctx ends. One instance at a time does so, others return at once.
func (s *Service) BuildIndexes(ctx context.Context) (built []string, err error) {
	if s.db.Dialect != database.PostgreSQL {
		return nil, nil
	}
	if lacking, err := lackingIndexes(ctx, s.db); err != nil || len(lacking) == 0 {
		return nil, err
	}
	err = s.db.Alone(ctx, indexesWork, false, func(ctx context.Context, slow *database.DB) error {
		lacking, err := lackingIndexes(ctx, slow)
		if err != nil {
			return err
		}
		for _, index := range lacking {
			if err := index.build(ctx, slow); err != nil {
				return fmt.Errorf("build the index %s: %w", index.name(), err)
			}
			if err := s.patiently(ctx, func(ctx context.Context) error { return index.attach(ctx, slow) }); err != nil {
				return fmt.Errorf("attach the index %s: %w", index.name(), err)
			}
			built = append(built, index.name())
		}
		return dropReplacedIndex(ctx, slow)
	})
	return built, err
}
