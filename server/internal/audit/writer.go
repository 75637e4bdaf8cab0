package audit

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/database"
	"github.com/tollgatehq/tollgate/server/internal/fault"
)

const (
	queueSize = 4096
	// batchSize and batchBytes are how many events share a commit, at most, and from
	// which size of their texts on no other joins them: so that a statement takes no
	// longer than the database's bound, whatever callers have recorded.
	batchSize  = 500
	batchBytes = 1 << 20
	// reportedSize is how many events of RecordEvent and RecordFor wait at once: half of
	// the queue, so that Tollgate's own always find a place. A user may hold as many as
	// that leaves free.
	reportedSize = queueSize / 2
	// commitsAtOnce is how many commits are under way: while one waits for the disk, the
	// next is on its way. SQLite has one writer.
	commitsAtOnce = 2
	drainTime     = 5 * time.Second // how long the writer goes on after Run's context ended
	// sweepEvery is how often the writer looks which windows of refusals ended.
	sweepEvery = time.Second
	// recordTimeout is how long Record waits for its commit: less than the second
	// within which its caller has an answer.
	recordTimeout = 950 * time.Millisecond
)

// entry is an event that waits for its commit.
type entry struct {
	event  Event
	done   chan error // buffers the one answer
	lost   func()     // called once when the event is not written, unless nil
	shared bool       // it counts against the user's share of the queue until it was written
	by     string     // the user
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
	e.complete(s.clock)
	return s.record(ctx, entry{event: e})
}

// RecordFor is Record for what a user may cause as often as they like: it is AUDIT_BUSY
// while as many such events of the user's wait as may.
func (s *Service) RecordFor(ctx context.Context, userID string, e Event) error {
	written, err := s.StartFor(userID, e)
	if err != nil {
		return err
	}
	return written(ctx)
}

// StartFor is RecordFor that does not wait: written does, and returns what RecordFor
// would, within a second of StartFor. So several events can be on their way at once.
func (s *Service) StartFor(userID string, e Event) (written func(context.Context) error, err error) {
	e.complete(s.clock)
	waiting := entry{event: e, shared: true, by: userID, done: make(chan error, 1)}
	if err := s.enqueue(waiting); err != nil {
		return nil, err
	}
	end := time.Now().Add(s.timeout)
	return func(ctx context.Context) error {
		err := s.await(ctx, waiting, time.Until(end))
		if err == nil {
			s.counters.allowed.Add(1)
		}
		return err
	}, nil
}

// Note is Record for what nobody waits for, such as news: it returns at once, and the
// event is lost when half of the queue is taken or the commit fails. It says whether the
// event was taken.
func (s *Service) Note(e Event) bool {
	e.complete(s.clock)
	if len(s.queue) < queueSize/2 && s.enqueue(entry{event: e, done: make(chan error, 1)}) == nil {
		return true
	}
	s.counters.dropped.Add(1)
	return false
}

// record writes an entry whose event is complete. It calls lost, unless nil, once
// when the event was not written or its commit took too long, but not when ctx
// ended: such an event is still written.
func (s *Service) record(ctx context.Context, e entry) error {
	if e.lost != nil {
		e.lost = sync.OnceFunc(e.lost)
	}
	e.done = make(chan error, 1)
	if err := s.enqueue(e); err != nil {
		e.gone()
		return err
	}
	return s.await(ctx, e, s.timeout)
}

// await waits for the commit of an entry that is queued.
func (s *Service) await(ctx context.Context, e entry, most time.Duration) error {
	timer := time.NewTimer(most)
	defer timer.Stop()
	select {
	case err := <-e.done:
		if err != nil {
			return unavailable().Because(err)
		}
		return nil
	case <-ctx.Done():
		return fault.From(ctx.Err())
	case <-timer.C:
		e.gone()
		return unavailable().Because(fmt.Errorf("no commit within %s", s.timeout))
	}
}

func (e entry) gone() {
	if e.lost != nil {
		e.lost()
	}
}

func (s *Service) enqueue(e entry) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return stopping()
	}
	if e.shared && !s.reported.Acquire(e.by, 1) {
		s.counters.refused.Add(1)
		return busy()
	}
	select {
	case s.queue <- e:
		return nil
	default:
		s.answered(e)
		s.counters.refused.Add(1)
		return busy()
	}
}

func busy() error {
	return fault.New(fault.Unavailable, "AUDIT_BUSY", "the audit log is busy, so this was not done; try again").After(time.Second)
}

// answered gives back what an entry held of the queue.
func (s *Service) answered(e entry) {
	if e.shared {
		s.reported.Release(e.by, 1)
	}
}

// write commits what is queued: what gathers while commits are under way is the next
// one's.
func (s *Service) write(ctx context.Context) {
	ticker := time.NewTicker(s.sweepEvery)
	defer ticker.Stop()
	for {
		select {
		case first := <-s.queue:
			s.commits <- struct{}{}
			batch := s.gather(first)
			go func() {
				defer func() { <-s.commits }()
				s.commit(context.WithoutCancel(ctx), batch)
			}()
		case <-ticker.C:
			s.sweep(context.WithoutCancel(ctx), false)
		case <-ctx.Done():
			s.mu.Lock()
			s.closed = true
			s.mu.Unlock()
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTime)
			defer cancel()
			for len(s.queue) > 0 {
				s.commit(ctx, s.gather(<-s.queue))
			}
			s.sweep(ctx, true)
			for range cap(s.commits) { // those under way have ended
				s.commits <- struct{}{}
			}
			return
		}
	}
}

// gather takes what is queued, as far as it fits into one commit.
func (s *Service) gather(first entry) []entry {
	batch := append(make([]entry, 0, 1+min(len(s.queue), batchSize)), first)
	for bytes := first.event.size(); len(batch) < batchSize && bytes < batchBytes; {
		select {
		case e := <-s.queue:
			batch = append(batch, e)
			bytes += e.event.size()
		default:
			return batch
		}
	}
	return batch
}

// sweep writes the counts of the floods whose window has ended, or of all, until
// a commit fails, after which they are counted on. It says whether one did.
func (s *Service) sweep(ctx context.Context, everything bool) (failed bool) {
	for {
		due := s.floods.ended(everything, batchSize)
		if len(due) == 0 {
			return false
		}
		batch := make([]entry, len(due))
		for i, f := range due {
			batch[i] = entry{event: f.summary(), done: make(chan error, 1)}
			batch[i].event.complete(s.clock)
		}
		if failed := s.commit(ctx, batch); failed {
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
func (s *Service) commit(ctx context.Context, batch []entry) (failed bool) {
	events := make([]Event, len(batch))
	for i := range batch {
		events[i] = batch[i].event
	}
	err := s.insert(ctx, events)
	for i := range batch {
		if err != nil {
			batch[i].gone()
		}
		s.answered(batch[i])
		batch[i].done <- err
	}
	return err != nil
}

// insert writes complete events, all or none, and counts and logs how it went.
func (s *Service) insert(ctx context.Context, events []Event) error {
	err := writeAll(ctx, s.db, events)
	s.counters.committed(len(events), err)
	if err == nil {
		s.Wake()
	}
	switch was := s.broken.Swap(err != nil); {
	case err != nil && !was:
		s.log.ErrorContext(ctx, "cannot write the audit log; what needs it is refused", "error", err)
	case err == nil && was:
		s.log.InfoContext(ctx, "writing the audit log again")
	}
	return err
}

// committers is how many commits may be under way on a database.
func committers(db *database.DB) int {
	if db == nil || db.Dialect == database.SQLite {
		return 1
	}
	return commitsAtOnce
}

func unavailable() *fault.Error {
	return fault.New(fault.Unavailable, "AUDIT_UNAVAILABLE", "this cannot be recorded now, so it was not done; try again").After(time.Second)
}

func stopping() *fault.Error {
	return fault.New(fault.Unavailable, "SHUTTING_DOWN", "this instance is shutting down; try again").After(time.Second)
}
