package audit

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/clock"
	"github.com/tollgatehq/tollgate/server/internal/fault"
	"github.com/tollgatehq/tollgate/server/internal/fault/faulttest"
)

// asService is the context of a service's call.
func asService(t *testing.T, service string) context.Context {
	t.Helper()
	return caller.With(t.Context(), caller.Caller{Principal: &caller.Principal{UserID: service}})
}

// orders are n events of a service.
func orders(n int) []Event {
	events := things(n)
	for i := range events {
		events[i].Action = "order.cancel"
	}
	return events
}

func TestRecordAll(t *testing.T) {
	onDatabases(t, func(t *testing.T, s *Service, _ *clock.Fake) {
		s.timeout = time.Minute // this is not about speed
		run(t, s)
		watch, err := s.Subscribe(t.Context(), Filter{Action: "order.*"})
		backendtest.Must(t, err)
		defer watch.Close()
		events := orders(1000)
		events[0].ID, events[0].RecordedBy, events[0].Time = "chosen", "somebody", start.Add(-time.Hour)
		backendtest.Must(t, s.recordAllFromService(asService(t, "svc-1"), events))
		logged := all(t, s, Filter{}, 250)
		backendtest.Equal(t, len(logged), 1000, "number of events")
		known := map[string]Event{}
		for _, e := range logged {
			known[e.ID] = e
		}
		for i, e := range events {
			if fmt.Sprint(known[e.ID]) != fmt.Sprint(e) || e.RecordedBy != "svc-1" || !e.Time.Equal(start) {
				t.Fatalf("answered %+v, logged %+v", e, known[e.ID])
			}
			if i < watcherBuffer/2 {
				if got := <-watch.Events(); got.Resource != e.Resource {
					t.Fatalf("watched %s, want %s: the events are in their order", got.Resource, e.Resource)
				}
			}
		}
		backendtest.Equal(t, s.Stats(), Stats{Events: 1000, Commits: 1}, "stats")
	})
}

// Nothing of a batch is recorded when one of its events is refused, by us or by the
// database.
func TestRecordAllOrNothing(t *testing.T) {
	onDatabases(t, func(t *testing.T, s *Service, _ *clock.Fake) {
		events := orders(100)
		events[70].Action = "auth.login"
		f := faulttest.Want(t, s.recordAllFromService(asService(t, "svc-1"), events), fault.Invalid, "INVALID_FIELD")
		if !strings.HasPrefix(f.Message, "events[70].action: ") {
			t.Errorf("said %q", f.Message)
		}
		events = orders(100)
		for i := range events {
			events[i].complete(s.clock)
		}
		events[99].ID = events[0].ID
		if err := writeAll(t.Context(), s.db, events); err == nil {
			t.Error("one id twice was written")
		}
		backendtest.Equal(t, len(all(t, s, Filter{}, 0)), 0, "number of events")
	})
}

// Both statements that write events store the same, whatever the texts are.
func TestHostileTexts(t *testing.T) {
	onDatabases(t, func(t *testing.T, s *Service, _ *clock.Fake) {
		var events []Event
		for i, text := range []string{"", "NULL", `"`, `\`, `a\"b`, "{", "}", "{}", ",", `","`, `"},{"`, "'; --", "$1", " a ", "\n\t\r", "\x00", "\xff", "\u2028<&>", "\U0001F600"} {
			e := of(i)
			e.ActorName, e.Reason, e.UserAgent, e.RequestID, e.Details = text, text, text+text, text, map[string]string{"k" + text: text}
			events = append(events, e)
		}
		add(t, s, events...) // completes them
		for i := range events {
			events[i].ID = s.clock.NewID()
			events[i].Resource += "/again"
		}
		backendtest.Must(t, writeAll(t.Context(), s.db, events))
		logged := map[string]Event{}
		for _, e := range all(t, s, Filter{}, 250) {
			logged[e.Resource] = e
		}
		backendtest.Equal(t, len(logged), 2*len(events), "number of events")
		for _, want := range events {
			other := logged[strings.TrimSuffix(want.Resource, "/again")]
			other.ID, other.Resource = want.ID, want.Resource
			for _, got := range []Event{logged[want.Resource], other} {
				if fmt.Sprintf("%q", got) != fmt.Sprintf("%q", want) {
					t.Errorf("logged %q, want %q", got, want)
				}
			}
		}
	})
}

// A service that reports as much as it can leaves something free for others, and
// for what Tollgate records itself.
func TestReportsShareTheQueue(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, _ := newService(nil) // and nobody writes
		report := func(service string) error {
			return faulttest.Err(s.recordFromService(asService(t, service), orders(1)[0]))
		}
		answers := make(chan error, 3*queueSize)
		for range queueSize {
			go func() { answers <- report("greedy") }()
		}
		synctest.Wait()
		backendtest.Equal(t, s.Stats(), Stats{Refused: queueSize - reportedSize/2, Queued: reportedSize / 2}, "with all of one service's reports")
		for range queueSize {
			go func() { answers <- report("second") }()
		}
		synctest.Wait()
		began := time.Now()
		wantFault(t, report("greedy"), fault.Unavailable, "AUDIT_BUSY")
		backendtest.Equal(t, time.Since(began), 0, "time that one too many waited")
		for range queueSize / 2 {
			go func() { answers <- s.Record(t.Context(), of(1)) }()
		}
		wantFault(t, report("third"), fault.Unavailable, "AUDIT_UNAVAILABLE")
		backendtest.Equal(t, time.Since(began), recordTimeout, "time that a third service's report waited for its commit")
		for range cap(answers) - queueSize/2 {
			if err := <-answers; !fault.Is(err, fault.Unavailable) {
				t.Errorf("with nobody who writes: %v", err)
			}
		}
	})
}

// What one user's allowed calls have recorded leaves a place for another's, and for what
// Tollgate records itself.
func TestUsersShareTheQueue(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, _ := newService(nil) // and nobody writes
		answers := make(chan error, queueSize)
		for range cap(answers) {
			go func() { answers <- s.RecordFor(t.Context(), "greedy", of(1)) }()
		}
		synctest.Wait()
		backendtest.Equal(t, s.Stats(), Stats{Refused: queueSize - reportedSize/2, Queued: reportedSize / 2}, "with all of one user's")
		began := time.Now()
		wantFault(t, s.RecordFor(t.Context(), "greedy", of(1)), fault.Unavailable, "AUDIT_BUSY")
		backendtest.Equal(t, time.Since(began), 0, "time that one too many waited")
		wantFault(t, s.RecordFor(t.Context(), "other", of(1)), fault.Unavailable, "AUDIT_UNAVAILABLE")
		backendtest.Equal(t, time.Since(began), recordTimeout, "time that another user's waited for its commit")
		for range cap(answers) {
			if err := <-answers; !fault.Is(err, fault.Unavailable) {
				t.Errorf("with nobody who writes: %v", err)
			}
		}
	})
}

// Batches wait in a place of their own, and one service alone has at most half of it.
func TestBatchesShareTheirTurns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, _ := newService(nil)
		s.batches <- struct{}{} // the only turn is taken
		answers := make(chan error, 5)
		batch := func(service string) { answers <- s.recordAllFromService(asService(t, service), orders(1000)) }
		for range 4 {
			go batch("greedy")
		}
		synctest.Wait()
		began := time.Now()
		wantFault(t, s.recordAllFromService(asService(t, "greedy"), orders(1)), fault.Unavailable, "AUDIT_BUSY")
		backendtest.Equal(t, time.Since(began), 0, "time that one too many waited")
		backendtest.Equal(t, s.Stats().Queued, 0, "single events' queue")
		go batch("other")
		synctest.Wait()
		backendtest.Equal(t, s.batched.Used(), 5000, "events that wait for their turn")
		for range 5 {
			wantFault(t, <-answers, fault.Unavailable, "AUDIT_BUSY")
		}
		backendtest.Equal(t, time.Since(began), recordTimeout, "time that batches waited for their turn")
		backendtest.Equal(t, s.batched.Used(), 0, "events that wait for their turn")
	})
}

func TestRecordAllAtTheEnd(t *testing.T) {
	onDatabases(t, func(t *testing.T, s *Service, _ *clock.Fake) {
		run(t, s)()
		wantFault(t, s.recordAllFromService(asService(t, "svc-1"), orders(1)), fault.Unavailable, "SHUTTING_DOWN")
	})
}

// Large events do not make a statement that the database has no time for.
func TestGatherIsBoundedInBytes(t *testing.T) {
	t.Parallel()
	s, _ := newService(nil)
	for range 200 {
		e := of(1)
		e.Details = map[string]string{}
		for i := range detailPairs {
			e.Details[fmt.Sprint(i)] = strings.Repeat("x", detailValue)
		}
		backendtest.Must(t, s.enqueue(entry{event: e}))
	}
	if n := len(s.gather(<-s.queue)); n < batchBytes/(detailPairs*detailValue+1000) || n > batchBytes/(detailPairs*detailValue)+1 {
		t.Errorf("%d events in a batch", n)
	}
}

// Note never waits, and leaves half of the queue to what somebody waits for.
func TestNote(t *testing.T) {
	onDatabases(t, func(t *testing.T, s *Service, _ *clock.Fake) {
		for n := range queueSize/2 + 3 {
			backendtest.Equal(t, s.Note(of(n)), n < queueSize/2, "note %d was taken", n)
		}
		backendtest.Equal(t, s.Stats(), Stats{Dropped: 3, Queued: queueSize / 2}, "with half of a queue")
		backendtest.Must(t, s.enqueue(entry{event: of(1), done: make(chan error, 1)}))
		<-s.queue
		for range queueSize/2 - 1 {
			<-s.queue
		}
		run(t, s)
		backendtest.Must(t, s.Record(t.Context(), of(9)))
		if logged := all(t, s, Filter{}, 0); len(logged) != 2 {
			t.Errorf("logged %v", logged)
		}
	})
}
