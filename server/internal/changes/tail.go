package changes

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/clock"
	"github.com/tollgatehq/tollgate/server/internal/database"
	"github.com/tollgatehq/tollgate/server/internal/fault"
)

const (
	// pollEvery is how often the log is read without a notification: the bound on
	// how late a change arrives while notifications fail.
	pollEvery = 500 * time.Millisecond
	// catchUp is how long one call waits for the log.
	catchUp = 900 * time.Millisecond
	// tooLate is how long a call may have waited for another call's read and
	// still begin its own, which may take as long as the database may.
	tooLate = 100 * time.Millisecond
	// readAtOnce is how many changes one read takes.
	readAtOnce = 5000
	// keepFor is how long the log keeps changes: longer than any access token
	// lives. A tail that is further behind starts over, as at the start.
	keepFor = 25 * time.Hour
)

// Follower keeps something in memory that the log's changes make stale. Its
// methods are called one at a time.
type Follower interface {
	// Reset reads everything again, at the start and after the tail has missed
	// changes.
	Reset(ctx context.Context) error
	// Apply applies changes in order. After an error it is called again with the
	// same changes, or Reset is.
	Apply(ctx context.Context, changes []Change) error
}

// Notifier wakes the other instances' tails. It only makes changes arrive
// sooner: every tail polls as well.
type Notifier interface {
	// Notify says that there is something new. It does not wait.
	Notify()
	// Listen calls wake for every notification until ctx ends.
	Listen(ctx context.Context, wake func())
}

// Options are what a Log needs besides the database.
type Options struct {
	Clock     clock.Clock
	Log       *slog.Logger
	Notifier  Notifier      // nil: the only instance
	Staleness time.Duration // how old the last look at the log may be; 0: 5 s
	OnEvents  func()        // called after a commit that may hold audit events
}

// Log is the change log and this instance's tail of it.
type Log struct {
	db        *database.DB
	clock     clock.Clock
	log       *slog.Logger
	notifier  Notifier
	staleness time.Duration
	onEvents  func()
	followers []Follower
	atOnce    int // readAtOnce, fewer in tests

	failures atomic.Uint64

	wake chan struct{}

	reading chan struct{} // holds a token during a read of the log and its followers' calls
	started bool          // guarded by reading

	mu       sync.Mutex
	revision int64     // everything up to it has been applied
	seen     time.Time // when the log was last known to hold nothing newer
	failed   time.Time // when the last read that failed ended
	failure  error
}

// New makes a Log. Call Follow for each follower, then Start, before the first
// request.
func New(db *database.DB, options Options) *Log {
	if options.Staleness == 0 {
		options.Staleness = 5 * time.Second
	}
	if options.Log == nil {
		options.Log = slog.New(slog.DiscardHandler)
	}
	return &Log{
		db: db, clock: options.Clock, log: options.Log, notifier: options.Notifier,
		staleness: options.Staleness, onEvents: options.OnEvents, atOnce: readAtOnce,
		wake: make(chan struct{}, 1), reading: make(chan struct{}, 1),
	}
}

// Follow adds a follower. Not after Start.
func (l *Log) Follow(f Follower) { l.followers = append(l.followers, f) }

// Start fills the followers for the first time.
func (l *Log) Start(ctx context.Context) error { return l.Sync(ctx) }

// Run follows the log until ctx ends.
func (l *Log) Run(ctx context.Context) {
	if l.notifier != nil {
		go l.notifier.Listen(ctx, l.Wake)
	}
	ticker := time.NewTicker(pollEvery)
	defer ticker.Stop()
	prune := time.NewTicker(keepFor / 4)
	defer prune.Stop()
	var broken bool
	for {
		select {
		case <-ctx.Done():
			return
		case <-prune.C:
			l.prune(ctx)
			continue
		case <-ticker.C:
		case <-l.wake:
		}
		err := l.Sync(ctx)
		if err != nil && ctx.Err() == nil {
			l.failures.Add(1)
		}
		switch {
		case err != nil && ctx.Err() == nil && !broken:
			broken = true
			l.log.ErrorContext(ctx, "cannot follow the change log; retrying", "error", err)
		case err == nil && broken:
			broken = false
			l.log.InfoContext(ctx, "following the change log again", "revision", l.Revision())
		}
	}
}

// Wake schedules a read of the log.
func (l *Log) Wake() {
	select {
	case l.wake <- struct{}{}:
	default: // one is scheduled already
	}
}

func (l *Log) notify() {
	l.Wake()
	if l.notifier != nil {
		l.notifier.Notify()
	}
}

// Revision is the newest revision that is in force on this instance.
func (l *Log) Revision() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.revision
}

// Lag is how long ago this instance last knew that it had seen everything.
func (l *Log) Lag() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.clock.Now().Sub(l.seen)
}

// Failures is how often the tail could not read the log since the start.
func (l *Log) Failures() uint64 { return l.failures.Load() }

// Ensure returns when caches may be answered from: the log was read within the
// staleness bound, and up to minRevision. It costs nothing when that is so
// already; otherwise it reads the log now, and is Unavailable when that fails.
func (l *Log) Ensure(ctx context.Context, minRevision int64) error {
	l.mu.Lock()
	ok := l.revision >= minRevision && l.clock.Now().Sub(l.seen) < l.staleness
	l.mu.Unlock()
	if ok {
		return nil
	}
	if err := l.Sync(ctx); err != nil {
		return fault.Down("the database", err)
	}
	if l.Revision() < minRevision {
		return fault.New(fault.Unavailable, "REVISION_NOT_REACHED",
			"revision %d is newer than anything committed; give a revision that a write returned", minRevision).
			After(time.Second)
	}
	return nil
}

// Current returns the newest revision once it is in force here: what to answer
// with when another caller has made the change already, perhaps on an instance
// that this one lags behind.
func (l *Log) Current(ctx context.Context) (int64, error) {
	if err := l.Sync(ctx); err != nil {
		return 0, fault.Down("the database", err)
	}
	return l.Revision(), nil
}

// Sync reads the log to its end and applies what is new. When it returns nil,
// everything that was committed before the call is in force here. Calls that
// wait for the same read share its result, also a failure that took long.
func (l *Log) Sync(ctx context.Context) error {
	asked, caller := l.clock.Now(), ctx
	ctx, cancel := context.WithTimeout(ctx, catchUp)
	defer cancel()
	select {
	case l.reading <- struct{}{}:
		defer func() { <-l.reading }()
	case <-ctx.Done():
		return fmt.Errorf("wait for the change log: %w", ctx.Err())
	}
	l.mu.Lock()
	shared := l.started && l.seen.After(asked) // another call's read began after we asked
	failed, failure := l.failed, l.failure
	l.mu.Unlock()
	switch {
	case shared:
		return nil
	case failed.After(asked) && l.clock.Now().Sub(asked) > tooLate:
		return failure // the database hangs: another read would take as long again
	}
	err := l.read(ctx)
	if err != nil && caller.Err() == nil {
		l.mu.Lock()
		l.failed, l.failure = l.clock.Now(), err
		l.mu.Unlock()
	}
	return err
}

// read applies everything new. The caller holds reading.
func (l *Log) read(ctx context.Context) error {
	began := l.clock.Now()
	for {
		revision := l.Revision()
		var head struct {
			Revision int64 `db:"revision"`
			Oldest   int64 `db:"oldest"`
		}
		err := l.db.Get(ctx, &head, `SELECT revision, COALESCE((SELECT MIN(revision) FROM changes), 0) AS oldest FROM change_head WHERE id = 1`)
		if err != nil {
			return fmt.Errorf("read the head of the change log: %w", err)
		}
		lost := head.Revision > revision && (head.Oldest == 0 || head.Oldest > revision+1) || head.Revision < revision
		if !l.started || lost {
			// The head was read first, so the reset shows it or something newer.
			return l.reset(ctx, head.Revision, began)
		}
		if head.Revision == revision {
			l.advance(revision, began)
			return nil
		}
		var rows []struct {
			Revision int64  `db:"revision"`
			Kind     Kind   `db:"kind"`
			Subject  string `db:"subject"`
		}
		err = l.db.Select(ctx, &rows, `SELECT revision, kind, subject FROM changes
			WHERE revision > $1 AND revision <= $2 ORDER BY revision, position LIMIT $3`, revision, head.Revision, l.atOnce)
		if err != nil {
			return fmt.Errorf("read the change log after %d: %w", revision, err)
		}
		whole := head.Revision
		if len(rows) == l.atOnce {
			// The last revision may have been cut in two: take it next time.
			whole = rows[len(rows)-1].Revision - 1
		}
		if whole == revision { // one revision with more changes than we read at once
			return l.reset(ctx, head.Revision, began)
		}
		changes := make([]Change, 0, len(rows))
		for _, row := range rows {
			if row.Revision <= whole {
				changes = append(changes, Change{row.Kind, row.Subject, row.Revision})
			}
		}
		for _, f := range l.followers {
			if err := f.Apply(ctx, changes); err != nil {
				return fmt.Errorf("apply changes up to revision %d: %w", whole, err)
			}
		}
		if whole == head.Revision {
			l.advance(whole, began)
			return nil
		}
		l.advance(whole, time.Time{})
	}
}

// reset resets the followers, which are then at a revision at least.
func (l *Log) reset(ctx context.Context, revision int64, began time.Time) error {
	for _, f := range l.followers {
		if err := f.Reset(ctx); err != nil {
			return fmt.Errorf("read the present state: %w", err)
		}
	}
	l.started = true
	l.advance(revision, began)
	return nil
}

// advance publishes how far the tail is; a zero seen leaves that as it is.
func (l *Log) advance(revision int64, seen time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.revision = revision
	if !seen.IsZero() {
		l.seen = seen
	}
}

// prune deletes changes that no tail needs any more, only up to the first one
// that is needed: a tail would not notice a gap.
func (l *Log) prune(ctx context.Context) {
	before := l.clock.Now().Add(-keepFor).UnixMicro()
	if _, err := l.db.Exec(ctx, `DELETE FROM changes WHERE revision < COALESCE(
		(SELECT MIN(revision) FROM changes WHERE at >= $1),
		(SELECT revision + 1 FROM change_head WHERE id = 1))`, before); err != nil && !errors.Is(err, context.Canceled) {
		l.log.WarnContext(ctx, "cannot prune the change log", "error", err)
	}
}
