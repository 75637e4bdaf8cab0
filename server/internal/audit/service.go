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

// Record writes an event that belongs to no transaction. It returns nil when
// the event is durable, and otherwise, within a second, a fault: of kind
// Unavailable, or, when ctx ended first, Canceled or Timeout. Concurrent calls
// share a commit.
//
// After an error the event may be written all the same: an event that was
// taken is not withdrawn when ctx ends, so that hanging up keeps nothing out
// of the log. For the same reason a ctx that has ended already is no obstacle.
func (s *Service) Record(ctx context.Context, e Event) error {
	_, err := s.record(ctx, e, nil)
	return err
}

// record returns the event as it was written. It calls lost, unless nil, once
// when the event was not written or its commit took too long, but not when ctx
// ended: such an event is still written.
func (s *Service) record(ctx context.Context, e Event, lost func()) (Event, error) {
	if lost == nil {
		lost = func() {}
	}
	lost = sync.OnceFunc(lost)
	e.complete(s.clock)
	waiting := entry{event: e, done: make(chan error, 1), lost: lost}
	if err := s.enqueue(waiting); err != nil {
		lost()
		return Event{}, err
	}
	timer := time.NewTimer(s.timeout)
	defer timer.Stop()
	select {
	case err := <-waiting.done:
		if err != nil {
			return Event{}, unavailable().Because(err)
		}
		return e, nil
	case <-ctx.Done():
		return Event{}, fault.From(ctx.Err())
	case <-timer.C:
		lost()
		return Event{}, unavailable().Because(fmt.Errorf("no commit within %s", s.timeout))
	}
}

func (s *Service) enqueue(e entry) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return stopping()
	}
	select {
	case s.queue <- e:
		return nil
	default:
		s.counters.refused.Add(1)
		return fault.New(fault.Unavailable, "AUDIT_BUSY", "the audit log is busy, so this was not done; try again").After(time.Second)
	}
}

// write commits what is queued, one commit after the other: what gathers
// during one is the next one's.
func (s *Service) write(ctx context.Context) {
	var broken bool
	ticker := time.NewTicker(s.sweepEvery)
	defer ticker.Stop()
	for {
		select {
		case first := <-s.queue:
			broken = s.commit(context.WithoutCancel(ctx), s.gather(first), broken)
		case <-ticker.C:
			broken = s.sweep(context.WithoutCancel(ctx), false, broken)
		case <-ctx.Done():
			s.mu.Lock()
			s.closed = true
			s.mu.Unlock()
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTime)
			defer cancel()
			for len(s.queue) > 0 {
				broken = s.commit(ctx, s.gather(<-s.queue), broken)
			}
			s.sweep(ctx, true, broken)
			return
		}
	}
}

// gather takes what is queued, as far as it fits into one commit.
func (s *Service) gather(first entry) []entry {
	batch := []entry{first}
	for len(batch) < batchSize {
		select {
		case e := <-s.queue:
			batch = append(batch, e)
		default:
			return batch
		}
	}
	return batch
}

// sweep writes the counts of the floods whose window has ended, or of all, until
// a commit fails, after which they are counted on. It says whether one did.
func (s *Service) sweep(ctx context.Context, everything, broken bool) bool {
	for {
		due := s.floods.ended(everything, batchSize)
		if len(due) == 0 {
			return broken
		}
		batch := make([]entry, len(due))
		for i, f := range due {
			batch[i] = entry{event: f.summary(), done: make(chan error, 1)}
		}
		if broken = s.commit(ctx, batch, broken); broken {
			for _, f := range due {
				s.floods.restore(f)
			}
			if everything {
				s.log.ErrorContext(ctx, "refusals that were counted could not be recorded", "refused", s.floods.counted())
			}
			return true
		}
	}
}

// commit writes a batch and answers its callers. It says whether it failed.
func (s *Service) commit(ctx context.Context, batch []entry, broken bool) bool {
	events := make([]Event, len(batch))
	for i := range batch {
		events[i] = batch[i].event
	}
	err := s.db.Write(ctx, func(ctx context.Context, tx *database.Tx) error {
		return Append(ctx, tx, s.clock, events...)
	})
	s.counters.committed(len(batch), err)
	for i := range batch {
		if err != nil && batch[i].lost != nil {
			batch[i].lost()
		}
		batch[i].done <- err
	}
	if err == nil {
		s.Wake()
	}
	switch {
	case err != nil && !broken:
		s.log.ErrorContext(ctx, "cannot write the audit log; what needs it is refused", "error", err)
	case err == nil && broken:
		s.log.InfoContext(ctx, "writing the audit log again")
	}
	return err != nil
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
