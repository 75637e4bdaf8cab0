package audit

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/clock"
	"github.com/tollgatehq/tollgate/server/internal/database"
	"github.com/tollgatehq/tollgate/server/internal/fault"
	"github.com/tollgatehq/tollgate/server/internal/page"
)

const (
	queueSize = 4096
	batchSize = 200             // events that share a commit, at most
	drainTime = 5 * time.Second // how long the writer goes on after Run's context ended
	// sweepEvery is how often the writer looks which windows of refusals ended.
	sweepEvery = time.Second
	// recordTimeout is how long Record waits for its commit: less than the second
	// within which its caller has an answer.
	recordTimeout = 950 * time.Millisecond
)

// Service writes the log, lists it and lets it be watched.
type Service struct {
	db    *database.DB
	clock clock.Clock
	pages page.Tokens
	log   *slog.Logger

	timeout    time.Duration // how long Record waits for its commit
	sweepEvery time.Duration // how often the writer writes what was counted
	prunePause time.Duration // between two steps of Prune

	queue  chan entry
	mu     sync.RWMutex // held for reading while something is put into queue
	closed bool         // nothing more is put into queue

	counters counters
	floods   *floods

	wake      chan struct{}
	joins     chan *Subscription
	unwatched chan struct{} // closed: watching has ended
}

// entry is an event that waits for its commit.
type entry struct {
	event Event
	done  chan error // buffers the one answer
	lost  func()     // called once when the event is not written, unless nil
}

// NewService makes a Service. Run must run for Record and Watch to work.
func NewService(db *database.DB, clk clock.Clock, pages page.Tokens, log *slog.Logger) *Service {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Service{
		db: db, clock: clk, pages: pages, log: log, timeout: recordTimeout, sweepEvery: sweepEvery, prunePause: prunePause,
		floods: newFloods(clk), queue: make(chan entry, queueSize), wake: make(chan struct{}, 1),
		joins: make(chan *Subscription), unwatched: make(chan struct{}),
	}
}

// Run writes what Record is given and feeds the watchers until ctx ends. Then
// it writes what is still queued, for at most five seconds, and refuses more.
// It runs once.
func (s *Service) Run(ctx context.Context) {
	var both sync.WaitGroup
	both.Go(func() { s.write(ctx) })
	both.Go(func() { s.tail(ctx) })
	both.Wait()
}

// List returns a page of the events that the filter lets through, newest
// first, and the token of the next page, empty on the last. Events recorded
// meanwhile move nothing on later pages.
func (s *Service) List(ctx context.Context, f Filter, size int32, token string) ([]Event, string, error) {
	f = f.stored()
	return page.List(s.pages, f.list(), size, token, func(after cursor, n int) ([]Event, error) {
		return listEvents(ctx, s.db, f, after, n)
	}, func(e Event) cursor { return cursor{e.Time.UnixMicro(), e.ID} })
}

// Latest returns the n newest events of an action, the newest first.
func (s *Service) Latest(ctx context.Context, action Action, n int) ([]Event, error) {
	list, err := listEvents(ctx, s.db, Filter{Action: string(action)}, cursor{}, n)
	if err != nil {
		return nil, fmt.Errorf("read the latest events: %w", err)
	}
	return list, nil
}

// recordFromService records what a downstream service reports and returns it as
// recorded, with the service beside the actor that it claims.
func (s *Service) recordFromService(ctx context.Context, e Event) (Event, error) {
	if service, _, _ := strings.Cut(string(e.Action), "."); e.Action.own() {
		return Event{}, fault.Field("action", "must not begin with %q, which is for Tollgate's own events; begin it with your service's name",
			service+".")
	}
	by := caller.From(ctx)
	e.ID, e.Time, e.RecordedBy = "", time.Time{}, by.UserID()
	if by.System {
		e.RecordedBy = SystemActor
	}
	return s.record(ctx, e, nil)
}

func unavailable() *fault.Error {
	return fault.New(fault.Unavailable, "AUDIT_UNAVAILABLE", "this cannot be recorded now, so it was not done; try again").After(time.Second)
}

func stopping() *fault.Error {
	return fault.New(fault.Unavailable, "SHUTTING_DOWN", "this instance is shutting down; try again").After(time.Second)
}
