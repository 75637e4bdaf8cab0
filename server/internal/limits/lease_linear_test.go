package limits

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
)

// takes is the model of a counter from which nothing leaks: its state is how many
// calls are used.
var takes = porcupine.Model{
	Init: func() any { return int64(0) },
	Step: func(state, input, output any) (bool, any) {
		used, c, o := state.(int64), input.(Count), output.(Outcome)
		left := c.Burst - used
		if c.Cost > left {
			return o.Exceeded && o.More == 0 && o.Remaining == left, used
		}
		left -= c.Cost
		more := min(c.More, left, max(c.Sure, left/4))
		left -= more
		return !o.Exceeded && o.More == more && o.Remaining == left, c.Burst - left
	},
}

// TestLeaseIsOneStep: takes with and without a lease, at the same time, are as if one
// came after the other.
func TestLeaseIsOneStep(t *testing.T) {
	t.Parallel()
	backends(t, func(t *testing.T, b Backend) {
		if _, held := b.(leaseAll); held {
			return // knows of what it holds itself, and not what others took a moment ago
		}
		for round := range 20 {
			var mu sync.Mutex
			var history []porcupine.Operation
			var clients sync.WaitGroup
			began := time.Now()
			for client := range 6 {
				clients.Go(func() {
					for range 8 {
						c := slow(GCRA, t.Name(), 60)
						c.Key = string(rune('a' + round))
						c.Cost, c.More = rand.Int64N(3), rand.Int64N(12)
						c.Sure = rand.Int64N(c.More + 1)
						c.Lease = time.Second
						call := time.Since(began)
						outcomes, err := b.Take(context.Background(), []Count{c}, false)
						backendtest.Must(t, err)
						mu.Lock()
						history = append(history, porcupine.Operation{
							ClientId: client, Input: c, Output: outcomes[0], Call: int64(call), Return: int64(time.Since(began)),
						})
						mu.Unlock()
					}
				})
			}
			clients.Wait()
			if !porcupine.CheckOperations(takes, history) {
				t.Fatalf("no order explains %+v", history)
			}
		}
	})
}
