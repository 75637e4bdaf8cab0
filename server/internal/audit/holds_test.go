package audit

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/clock"
	"github.com/tollgatehq/tollgate/server/internal/database"
)

// hold makes a hold as the API does, and calls meanwhile before it commits.
func hold(t *testing.T, s *Service, f Filter, meanwhile func()) {
	t.Helper()
	backendtest.Must(t, s.db.Write(context.Background(), func(ctx context.Context, tx *database.Tx) error {
		if err := LockPruning(ctx, tx); err != nil {
			return err
		}
		err := CreateHold(ctx, tx, Hold{Name: fmt.Sprint("hold-", s.clock.NewID()), Filter: f, CreatedAt: s.clock.Now()})
		meanwhile()
		return err
	}))
}

// What a hold lets through stays, whatever its age, until the hold is gone.
func TestHolds(t *testing.T) {
	for name, f := range map[string]Filter{
		"actor id":   {Actor: "user-1"},
		"actor name": {Actor: "ann"},
		"action":     {Action: "order.cancel"},
		"actions":    {Action: "order.*"},
		"resource":   {Resource: "orders/7"},
		"resources":  {Resource: "orders/*"},
		"times":      {After: start.Add(time.Hour), Before: start.Add(2 * time.Hour)},
	} {
		t.Run(name, func(t *testing.T) {
			onTrees(t, func(t *testing.T, s *Service, fake *clock.Fake) {
				s.prunePause = 0
				held := Event{
					Action: "order.cancel", Outcome: Success, Resource: "orders/7", ActorID: "user-1", ActorName: "ann",
					Time: start.Add(time.Hour),
				}
				add(t, s, append(things(5), held)...)
				grow(t, s, fake)
				fake.Advance(1000 * time.Hour)
				hold(t, s, f, func() {})
				if deleted, err := s.Prune(t.Context(), Retentions{Default: 24 * time.Hour}); err != nil || deleted != 5 {
					t.Errorf("deleted %d, %v; want 5", deleted, err)
				}
				backendtest.Equal(t, resources(all(t, s, Filter{}, 10))[1:], []string{"orders/7"}, "events but the retention's")
				exec(t, s, `DELETE FROM audit_holds`)
				if deleted, err := s.Prune(t.Context(), Retentions{Default: 24 * time.Hour}); err != nil || deleted != 1 {
					t.Errorf("deleted %d without the hold, %v; want 1", deleted, err)
				}
			})
		})
	}
}

// A hold that is made while events are deleted counts when its making returns.
func TestHoldMeanwhile(t *testing.T) {
	onTrees(t, func(t *testing.T, s *Service, fake *clock.Fake) {
		s.prunePause = 0
		add(t, s, things(50)...)
		grow(t, s, fake)
		fake.Advance(1000 * time.Hour)
		pruned := make(chan int64, 1)
		hold(t, s, Filter{Resource: "things/*"}, func() {
			go func() {
				n, err := s.Prune(context.Background(), Retentions{Default: 24 * time.Hour})
				if err != nil {
					t.Error(err)
				}
				pruned <- n
			}()
			select {
			case n := <-pruned:
				pruned <- n // without having waited
			case <-time.After(300 * time.Millisecond):
			}
		})
		backendtest.Equal(t, <-pruned, 0, "number of deleted events on hold")
	})
}
