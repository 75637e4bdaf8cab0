package audit

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/database"
	"github.com/tollgatehq/tollgate/server/internal/fault"
)

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
