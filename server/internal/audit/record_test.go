package audit

import (
	"context"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/clock"
	"github.com/tollgatehq/tollgate/server/internal/database"
	"github.com/tollgatehq/tollgate/server/internal/fault"
	"github.com/tollgatehq/tollgate/server/internal/fault/faulttest"
)

func TestRecordSharesCommits(t *testing.T) {
	onDatabases(t, func(t *testing.T, s *Service, _ *clock.Fake) {
		s.timeout = time.Minute // this is not about speed
		run(t, s)
		const n = 500
		var recording sync.WaitGroup
		for i := range n {
			recording.Go(func() {
				e := of(i)
				if err := s.Record(t.Context(), e); err != nil {
					t.Errorf("record %d: %v", i, err)
					return
				}
				// Durable before the answer: the log has it at once.
				found, _, err := s.List(t.Context(), Filter{Resource: e.Resource}, 1, "")
				if err != nil || len(found) != 1 {
					t.Errorf("event %d was acknowledged and is not in the log: %v", i, err)
				}
			})
		}
		recording.Wait()
		backendtest.Equal(t, len(all(t, s, Filter{}, 250)), n, "number of events")
		if s.db.Dialect == database.PostgreSQL {
			var commits int
			backendtest.Must(t, s.db.Get(t.Context(), &commits, `SELECT COUNT(DISTINCT writer) FROM audit_events`))
			if commits > n/4 {
				t.Errorf("%d commits for %d events", commits, n)
			}
			t.Logf("%d commits for %d events", commits, n)
		}
	})
}

func TestGatherTakesABatch(t *testing.T) {
	onDatabases(t, func(t *testing.T, s *Service, _ *clock.Fake) {
		waiting := enqueued(t, s, 1100)
		for _, want := range []int{500, 500, 100} {
			batch := s.gather(<-s.queue)
			backendtest.Equal(t, len(batch), want, "size of a batch")
			s.commit(t.Context(), batch)
		}
		for i, e := range waiting {
			if err := <-e.done; err != nil {
				t.Errorf("event %d: %v", i, err)
			}
		}
	})
}

func enqueued(t *testing.T, s *Service, n int) []entry {
	t.Helper()
	var waiting []entry
	for _, event := range things(n) {
		e := entry{event: event, done: make(chan error, 1)}
		e.event.complete(s.clock)
		backendtest.Must(t, s.enqueue(e))
		waiting = append(waiting, e)
	}
	return waiting
}

func TestRecordWithAStuckDatabase(t *testing.T) {
	t.Parallel()
	stuck := func(t *testing.T, s *Service, release func()) {
		run(t, s)
		began := time.Now()
		err := s.Record(t.Context(), of(1))
		if waited := time.Since(began); waited > 1500*time.Millisecond {
			t.Errorf("waited %s", waited)
		}
		wantFault(t, err, fault.Unavailable, "AUDIT_UNAVAILABLE")
		release()
		for range 5 { // what was stuck may take one commit more to give up
			if err = s.Record(t.Context(), of(2)); err == nil {
				return
			}
		}
		t.Errorf("after the release: %v", err)
	}
	t.Run("sqlite", func(t *testing.T) {
		db, err := database.Open(backendtest.SQLiteURL(t))
		backendtest.Must(t, err)
		t.Cleanup(func() { db.Close() })
		backendtest.Must(t, faulttest.Err(db.MigrateUp(t.Context())))
		s, _ := newService(db)
		held, release := make(chan struct{}), make(chan struct{})
		var holding sync.WaitGroup
		holding.Go(func() {
			_ = db.Write(context.Background(), func(context.Context, *database.Tx) error {
				close(held)
				<-release
				return nil
			})
		})
		<-held
		stuck(t, s, func() { close(release); holding.Wait() })
	})
	t.Run("postgres", func(t *testing.T) {
		onPostgres(t, func(t *testing.T, s *Service, begin func() openTx) {
			lock := begin()
			backendtest.Must(t, faulttest.Err(lock.Exec(t.Context(), `LOCK TABLE audit_events`)))
			stuck(t, s, func() { lock.Rollback() })
		})
	})
}

func TestRecordTimeout(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, _ := newService(nil) // and nobody writes
		began := time.Now()
		wantFault(t, s.Record(t.Context(), of(1)), fault.Unavailable, "AUDIT_UNAVAILABLE")
		if waited := time.Since(began); waited == 0 || waited > time.Second {
			t.Errorf("waited %s", waited)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		began = time.Now()
		wantFault(t, s.Record(ctx, of(2)), fault.Timeout, "DEADLINE_EXCEEDED")
		backendtest.Equal(t, time.Since(began), 100*time.Millisecond, "time waited with a ctx that ends")
	})
}

func TestRecordWithAFullQueue(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, _ := newService(nil)
		enqueued(t, s, queueSize)
		began := time.Now()
		wantFault(t, s.Record(t.Context(), of(1)), fault.Unavailable, "AUDIT_BUSY")
		backendtest.Equal(t, time.Since(began), 0, "time waited")
		backendtest.Equal(t, s.Stats(), (Stats{Refused: 1, Queued: queueSize}), "with a full queue")
	})
}

func TestRecordAfterCancel(t *testing.T) {
	onDatabases(t, func(t *testing.T, s *Service, _ *clock.Fake) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		wantFault(t, s.Record(ctx, of(1)), fault.Canceled, "CANCELED")
		stop := run(t, s)
		stop()
		backendtest.Equal(t, len(all(t, s, Filter{}, 0)), 1, "number of events")
	})
}

func TestShutdownWritesTheQueue(t *testing.T) {
	onDatabases(t, func(t *testing.T, s *Service, _ *clock.Fake) {
		waiting := enqueued(t, s, 300)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		s.Run(ctx)
		for i, e := range waiting {
			select {
			case err := <-e.done:
				if err != nil {
					t.Fatalf("event %d: %v", i, err)
				}
			default:
				t.Fatalf("event %d was left in the queue", i)
			}
		}
		backendtest.Equal(t, len(all(t, s, Filter{}, 250)), 300, "number of events")
		wantFault(t, s.Record(t.Context(), of(1)), fault.Unavailable, "SHUTTING_DOWN")
	})
}

// Whatever is acknowledged around a shutdown is in the log; everything else is
// answered at once, not left waiting.
func TestShutdownWhileRecording(t *testing.T) {
	onDatabases(t, func(t *testing.T, s *Service, _ *clock.Fake) {
		s.timeout = time.Minute
		stop := run(t, s)
		var (
			mu           sync.Mutex
			acknowledged []string
			recording    sync.WaitGroup
		)
		some := make(chan struct{})
		var once sync.Once
		for i := range 20 {
			recording.Go(func() {
				for n := 0; ; n++ {
					e := of(i*1_000_000 + n)
					began := time.Now()
					if err := s.Record(context.Background(), e); err != nil {
						if !fault.Is(err, fault.Unavailable) || time.Since(began) > s.timeout/2 {
							t.Errorf("refused after %s: %v", time.Since(began), err)
						}
						return
					}
					mu.Lock()
					acknowledged = append(acknowledged, e.Resource)
					if len(acknowledged) > 100 {
						once.Do(func() { close(some) })
					}
					mu.Unlock()
				}
			})
		}
		<-some
		stop()
		recording.Wait()
		logged := resources(all(t, s, Filter{}, 250))
		slices.Sort(logged)
		for _, resource := range acknowledged {
			if _, found := slices.BinarySearch(logged, resource); !found {
				t.Errorf("%s was acknowledged and is not in the log", resource)
			}
		}
	})
}

func TestRecordFromService(t *testing.T) {
	onDatabases(t, func(t *testing.T, s *Service, _ *clock.Fake) {
		run(t, s)
		ctx := caller.With(t.Context(), caller.Caller{Principal: &caller.Principal{UserID: "svc-1"}})
		got, err := s.recordFromService(ctx, Event{
			ID: "chosen", Time: start.Add(-time.Hour), RecordedBy: "somebody", ActorID: "u1", Action: "order.cancel", Outcome: Denied,
		})
		backendtest.Must(t, err)
		if got.RecordedBy != "svc-1" || got.ID == "chosen" || !got.Time.Equal(start) || got.ActorID != "u1" {
			t.Errorf("recorded %+v", got)
		}
		if logged := all(t, s, Filter{}, 0); len(logged) != 1 || fmt.Sprint(logged[0]) != fmt.Sprint(got) {
			t.Errorf("answered %+v, logged %+v", got, logged)
		}
		for _, action := range append(ownActions(t), "tollgate.anything", "auth.made_up", "auth") {
			wantFault(t, faulttest.Err(s.recordFromService(ctx, Event{Action: action, Outcome: Success})), fault.Invalid, "INVALID_FIELD")
		}
	})
}

// ownActions are all constants of type Action.
func ownActions(t *testing.T) []Action {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "event.go", nil, 0)
	backendtest.Must(t, err)
	var actions []Action
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if kind, ok := spec.Type.(*ast.Ident); ok && kind.Name == "Action" {
			name, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
			backendtest.Must(t, err)
			actions = append(actions, Action(name))
		}
		return true
	})
	if len(actions) < 20 {
		t.Fatalf("found only %v", actions)
	}
	return actions
}
