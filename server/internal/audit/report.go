package audit

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/fault"
)

// batchedSize is how many events of services' batches are or wait to be written at
// once. One service alone may have half of them: four of the largest batches.
const batchedSize = 8000

// recordFromService records what a downstream service reports and returns it as
// recorded, with the service beside the actor that it claims.
func (s *Service) recordFromService(ctx context.Context, e Event) (Event, error) {
	if err := s.claim(ctx, "", &e); err != nil {
		return Event{}, err
	}
	return e, s.record(ctx, entry{event: e, shared: true, by: e.RecordedBy})
}

// recordAllFromService is recordFromService of many events, all or none, in a commit
// of their own. Batches wait for each other, not in the queue: they hold up no
// single event for longer than the database works on them.
func (s *Service) recordAllFromService(ctx context.Context, events []Event) error {
	for i := range events {
		if err := s.claim(ctx, fmt.Sprintf("events[%d].", i), &events[i]); err != nil {
			return err
		}
	}
	s.mu.RLock()
	closed := s.closed
	s.mu.RUnlock()
	if closed {
		return stopping()
	}
	by, n := events[0].RecordedBy, int64(len(events))
	if !s.batched.Acquire(by, n) {
		s.counters.refused.Add(uint64(n))
		return busy()
	}
	defer s.batched.Release(by, n)
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.timeout)
	defer cancel()
	select {
	case s.batches <- struct{}{}:
		defer func() { <-s.batches }()
	case <-ctx.Done():
		return fault.From(ctx.Err())
	case <-bounded.Done():
		return busy()
	}
	// From here on hanging up changes nothing.
	if err := s.insert(bounded, events); err != nil {
		return unavailable().Because(err)
	}
	return nil
}

// claim completes what the context's caller reports. The prefix is of the fields'
// names in errors.
func (s *Service) claim(ctx context.Context, prefix string, e *Event) error {
	if service, _, _ := strings.Cut(string(e.Action), "."); e.Action.own() {
		return fault.Field(prefix+"action", "must not begin with %q, which is for Tollgate's own events; begin it with your service's name",
			service+".")
	}
	by := caller.From(ctx)
	e.ID, e.Time, e.RecordedBy = "", time.Time{}, by.UserID()
	if by.System {
		e.RecordedBy = SystemActor
	}
	e.complete(s.clock)
	return nil
}
