package limits

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"
)

// flaky is a backend that can be down.
type flaky struct {
	Backend
	down bool
}

func (f *flaky) Take(ctx context.Context, counts []Count, peek bool) ([]Outcome, error) {
	if f.down {
		return nil, errors.New("down")
	}
	return f.Backend.Take(ctx, counts, peek)
}

func TestObserve(t *testing.T) {
	t.Parallel()
	_, clk := testClock()
	backend := &flaky{Backend: NewMemory(clk)}
	i := onSQLite(t, backend)
	var seen []Counted
	i.Observe(func(where Counted, _ time.Duration) { seen = append(seen, where) })
	i.create(Limit{Name: "open", Subject: SubjectGlobal, Permission: "open:*", Rate: 5, Outage: Open})
	i.create(Limit{Name: "closed", Subject: SubjectGlobal, Permission: "closed:*", Rate: 5, Outage: Closed})
	i.create(Limit{Name: "local", Subject: SubjectGlobal, Permission: "local:*", Rate: 5, Outage: Local})

	i.take(Request{Permission: "open:it", Cost: 1})
	i.take(Request{Permission: "none:it", Cost: 1}) // no limit applies: nothing to count
	backend.down = true
	for _, permission := range []string{"open:it", "closed:it", "local:it"} {
		i.take(Request{Permission: permission, Cost: 1})
	}
	if want := []Counted{CountedOK, CountedDown, CountedDown, CountedLocal}; !slices.Equal(seen, want) {
		t.Errorf("seen %v, want %v", seen, want)
	}
}
