package overview

import (
	"sync/atomic"

	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/decision"
)

// Counts are what happened since the start. Counting a decision is one atomic
// addition.
type Counts struct {
	decisions [][]atomic.Uint64 // by source, then reason; the last of each counts what is none
	signIns   [signIns]atomic.Uint64
}

// NewCounts makes counts that are all 0.
func NewCounts() *Counts {
	c := &Counts{decisions: make([][]atomic.Uint64, len(sources)+1)}
	for i := range c.decisions {
		c.decisions[i] = make([]atomic.Uint64, len(reasons)+1)
	}
	return c
}

var (
	sourceIndex = index(sources)
	reasonIndex = index(reasons)
)

func index[T comparable](list []T) map[T]int {
	at := make(map[T]int, len(list))
	for i, v := range list {
		at[v] = i
	}
	return at
}

// Decided counts a decision.
func (c *Counts) Decided(source decision.Source, reason caller.Reason) {
	s, known := sourceIndex[source]
	if !known {
		s = len(sources)
	}
	r, known := reasonIndex[reason]
	if !known {
		r = len(reasons)
	}
	c.decisions[s][r].Add(1)
}

// SignedIn counts a sign-in.
func (c *Counts) SignedIn(how SignIn) { c.signIns[how].Add(1) }

// Each calls fn for every kind of decision that there was.
func (c *Counts) Each(fn func(source decision.Source, reason caller.Reason, count uint64)) {
	for s := range sources {
		for r := range reasons {
			if n := c.decisions[s][r].Load(); n > 0 {
				fn(sources[s], reasons[r], n)
			}
		}
	}
}

// tally is a reading of Counts, or the difference of two.
type tally struct {
	decisions [][]uint64
	signIns   [signIns]uint64
}

func (c *Counts) read() tally {
	t := newTally()
	for s := range t.decisions {
		for r := range t.decisions[s] {
			t.decisions[s][r] = c.decisions[s][r].Load()
		}
	}
	for i := range t.signIns {
		t.signIns[i] = c.signIns[i].Load()
	}
	return t
}

func newTally() tally {
	t := tally{decisions: make([][]uint64, len(sources))}
	for s := range t.decisions {
		t.decisions[s] = make([]uint64, len(reasons))
	}
	return t
}

// add adds what has been counted between two readings.
func (t *tally) add(before, now tally) {
	for s := range t.decisions {
		for r := range t.decisions[s] {
			t.decisions[s][r] += now.decisions[s][r] - before.decisions[s][r]
		}
	}
	for i := range t.signIns {
		t.signIns[i] += now.signIns[i] - before.signIns[i]
	}
}
