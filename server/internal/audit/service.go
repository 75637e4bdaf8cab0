package audit

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/audit/tree"
	"github.com/tollgatehq/tollgate/server/internal/clock"
	"github.com/tollgatehq/tollgate/server/internal/database"
	"github.com/tollgatehq/tollgate/server/internal/fault"
	"github.com/tollgatehq/tollgate/server/internal/inflight"
	"github.com/tollgatehq/tollgate/server/internal/page"
)

// Service writes the log, lists it and lets it be watched.
type Service struct {
	db    *database.DB
	clock clock.Clock
	pages page.Tokens
	log   *slog.Logger
	tree  *tree.Tree // nil: the log has none

	timeout     time.Duration // how long Record waits for its commit
	sweepEvery  time.Duration // how often the writer writes what was counted
	prunePause  time.Duration // between two steps of Prune
	bounds      bounds        // of a search
	summaries   chan struct{} // holds a token for each summary that is counted
	summaryWait time.Duration // how long others wait for one
	summaryTime time.Duration // for one

	sequenceEvery time.Duration             // how often the sequencer looks for events
	bundles       *inflight.Limiter[string] // bundles of entries that are read, by user id

	queue    chan entry
	mu       sync.RWMutex              // held for reading while something is put into queue
	closed   bool                      // nothing more is put into queue
	commits  chan struct{}             // holds a token for each commit of the queue under way
	reported *inflight.Limiter[string] // events in queue of RecordEvent and RecordFor, by user id
	batches  chan struct{}             // holds a token for each batch of a service that is being written
	batched  *inflight.Limiter[string] // events of batches that are or wait to be written, by user id
	broken   atomic.Bool               // the last commit failed

	counters counters
	floods   *floods

	wake      chan struct{}
	joins     chan *Subscription
	unwatched chan struct{} // closed: watching has ended
}

// NewService makes a Service. Run must run for Record and Watch to work.
func NewService(db *database.DB, clk clock.Clock, pages page.Tokens, log *slog.Logger) *Service {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Service{
		db: db, clock: clk, pages: pages, log: log, timeout: recordTimeout, sweepEvery: sweepEvery, prunePause: prunePause,
		sequenceEvery: sequenceEvery, bundles: inflight.New[string](bundlesAtOnce), bounds: searchBounds(), summaries: make(chan struct{}, summariesAtOnce), summaryWait: summaryWait, summaryTime: summaryTime,
		queue: make(chan entry, queueSize), commits: make(chan struct{}, committers(db)), reported: inflight.New[string](reportedSize),
		batches: make(chan struct{}, committers(db)), batched: inflight.New[string](batchedSize),
		floods: newFloods(clk), wake: make(chan struct{}, 1),
		joins: make(chan *Subscription), unwatched: make(chan struct{}),
	}
}

// Run writes what Record is given, feeds the watchers, and puts events into the tree
// until ctx ends. Then it writes what is still queued, for at most five seconds, and
// refuses more. It runs once.
func (s *Service) Run(ctx context.Context) {
	var all sync.WaitGroup
	all.Go(func() { s.write(ctx) })
	all.Go(func() { s.tail(ctx) })
	all.Go(func() { s.sequence(ctx) })
	all.Wait()
}

// List returns a page of the events that the filter lets through, newest
// first, and the token of the next page, empty on the last. Events recorded
// meanwhile move nothing on later pages. A page of rare events may be short, even
// empty: one call reads only so many events to find them.
func (s *Service) List(ctx context.Context, f Filter, size int32, token string) ([]Event, string, error) {
	f = f.stored()
	return page.Scan(s.pages, f.list(), size, token, func(after cursor, n int) ([]Event, cursor, bool, error) {
		return s.search(f).events(ctx, after, n)
	})
}

func (s *Service) search(f Filter) search { return search{s.bounds, s.db, s.db.Dialect, f} }

// Latest returns the n newest events of an action, the newest first.
func (s *Service) Latest(ctx context.Context, action Action, n int) ([]Event, error) {
	list, _, _, err := s.search(Filter{Action: string(action)}).events(ctx, cursor{}, n)
	if err != nil {
		return nil, fmt.Errorf("read the latest events: %w", err)
	}
	return list, nil
}

// Get returns an event; it is NotFound, EVENT_NOT_FOUND, when the log does not hold it.
func (s *Service) Get(ctx context.Context, id string) (Event, error) {
	e, err := getEvent(ctx, s.db, text(id, nameSize))
	switch {
	case errors.Is(err, database.ErrNoRows):
		return Event{}, fault.New(fault.NotFound, "EVENT_NOT_FOUND",
			"the audit log holds no event of the id (any more); list the events to find it")
	case err != nil:
		return Event{}, fmt.Errorf("read an event: %w", err)
	}
	return e, nil
}
