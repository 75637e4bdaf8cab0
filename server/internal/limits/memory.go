package limits

import (
	"context"
	"hash/maphash"
	"math/bits"
	"sync"

	"github.com/tollgatehq/tollgate/server/internal/clock"
)

const (
	shardCount = 64 // one bit each in the set of shards that a Take locks
	// memoryKeys is how many counters a Memory keeps: about 100 MB when full.
	memoryKeys = 1 << 19
	// sweepEach is how many counters each new one looks at to remove those
	// that have run out. Eight bound the useless ones to about one in eight.
	sweepEach = 8
	// fullSweepEvery is how long a full shard waits before it looks through
	// all its counters again, in microseconds.
	fullSweepEvery = 1_000_000
)

// Memory keeps the counters of one instance in memory.
//
// It holds a bounded number of counters and never forgets one that still
// counts: otherwise a flood of new keys would be a way to reset one's own.
// When it is full, new keys share one counter per limit and shard until old
// ones have run out, which is stricter for them, never laxer for the known.
type Memory struct {
	clock  clock.Clock
	seed   maphash.Seed
	max    int // of each shard
	shards [shardCount]shard
	once   [shardCount]marks
}

type shard struct {
	mu       sync.Mutex
	counters map[counter]*entry
	swept    int64 // when all counters were last looked through

	open      map[counter]map[string]opened // reservations that are open
	opened    int                           // how many
	openedBy  map[string]int                // by caller
	sweptOpen int64                         // when all of them were last looked through
}

type counter struct {
	limit string
	key   string
	spill bool // what new keys share in a full shard
}

type entry struct {
	state
	end int64 // from then on the same as an unused one
}

// NewMemory makes an empty Memory.
func NewMemory(clk clock.Clock) *Memory { return newMemory(clk, memoryKeys) }

func newMemory(clk clock.Clock, keys int) *Memory {
	m := &Memory{clock: clk, seed: maphash.MakeSeed(), max: max(1, keys/shardCount)}
	for i := range m.shards {
		m.shards[i].counters = map[counter]*entry{}
		m.shards[i].open, m.shards[i].openedBy = map[counter]map[string]opened{}, map[string]int{}
	}
	return m
}

// Take implements Backend. It does not fail.
func (m *Memory) Take(_ context.Context, counts []Count, peek bool) ([]Outcome, error) {
	names := make([]counter, len(counts))
	places := make([]int, len(counts))
	set := m.place(counts, names, places)
	call := markOf(counts)
	var once *marks // among which the call's is; nil: it has none
	if call != (mark{}) && !peek {
		once = call.of(&m.once)
		once.mu.Lock() // before the shards', always
		defer once.mu.Unlock()
	}
	m.lock(set)
	defer m.unlock(set)

	now := m.clock.Micros() // under the locks: a counter's time does not go back
	again := once != nil && once.holds(call, now)
	peek = peek || again
	states := make([]state, len(counts))
	outcomes := make([]Outcome, len(counts))
	refused := peek
	for i, c := range counts {
		names[i] = m.shards[places[i]].name(names[i], m.max, now)
		if e := m.shards[places[i]].counters[names[i]]; e != nil {
			states[i] = e.state
		}
		states[i] = c.advance(states[i], now)
		outcomes[i].Exceeded = c.exceeded(states[i], now) && (c.Shadow || !again)
		refused = refused || outcomes[i].Exceeded && !c.Shadow
	}
	for i, c := range counts {
		exceeded := outcomes[i].Exceeded
		if !peek && !c.Look && !exceeded && (c.Shadow || !refused) {
			more := c.more(states[i], now)
			states[i] = c.take(states[i], now)
			states[i].count += more
			outcomes[i].More = more
			states[i], outcomes[i].Reached = c.reach(states[i], false)
			m.shards[places[i]].put(names[i], entry{states[i], c.end(states[i])}, now)
		} else if exceeded && !peek && !c.Look {
			if states[i], outcomes[i].Reached = c.reach(states[i], true); outcomes[i].Reached != 0 {
				m.shards[places[i]].put(names[i], entry{states[i], c.end(states[i])}, now)
			}
		}
		more, reached := outcomes[i].More, outcomes[i].Reached
		outcomes[i] = c.outcome(states[i], now, exceeded)
		outcomes[i].Reached = reached
		if outcomes[i].More = more; c.Lease > 0 {
			outcomes[i].state, outcomes[i].now = states[i], now
		}
	}
	if once != nil && !refused {
		once.add(call, now)
	}
	return outcomes, nil
}

// Forget implements Backend. It does not fail. In a full shard it does not touch
// the shared counter.
func (m *Memory) Forget(_ context.Context, counts []Count) error {
	names := make([]counter, len(counts))
	places := make([]int, len(counts))
	set := m.place(counts, names, places)
	m.lock(set)
	defer m.unlock(set)
	for i, name := range names {
		s := &m.shards[places[i]]
		delete(s.counters, name)
		for open := range s.open[name] {
			s.forget(name, open)
		}
	}
	return nil
}

// place finds the counters' names and shards, and the set of all these shards.
func (m *Memory) place(counts []Count, names []counter, places []int) (set uint64) {
	for i, c := range counts {
		names[i] = counter{limit: c.Counter, key: shorten(c.Key)}
		places[i] = int(maphash.Comparable(m.seed, names[i]) % shardCount)
		set |= 1 << places[i]
	}
	return set
}

// lock locks the shards of the set in their order, so that two calls cannot
// deadlock.
func (m *Memory) lock(set uint64) {
	for ; set != 0; set &= set - 1 {
		m.shards[bits.TrailingZeros64(set)].mu.Lock()
	}
}

func (m *Memory) unlock(set uint64) {
	for ; set != 0; set &= set - 1 {
		m.shards[bits.TrailingZeros64(set)].mu.Unlock()
	}
}

// name is where to count: the counter's own place, or the shared one when it
// has none and the shard is full.
func (s *shard) name(n counter, max int, now int64) counter {
	if _, known := s.counters[n]; known || len(s.counters) < max {
		return n
	}
	if now-s.swept >= fullSweepEvery || now < s.swept {
		s.swept = now
		s.sweep(now, len(s.counters))
	}
	if len(s.counters) < max {
		return n
	}
	return counter{limit: n.limit, spill: true}
}

// put writes a counter. A new one removes some that have run out.
func (s *shard) put(n counter, e entry, now int64) {
	if old := s.counters[n]; old != nil {
		*old = e
		return
	}
	s.sweep(now, sweepEach)
	s.counters[n] = &e
}

// sweep removes those of some counters, chosen by the map's random order, that
// have run out.
func (s *shard) sweep(now int64, some int) {
	for n, e := range s.counters {
		if some == 0 {
			return
		}
		some--
		if e.end <= now {
			delete(s.counters, n)
		}
	}
}
