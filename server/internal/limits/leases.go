package limits

import (
	"context"
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/clock"
)

const (
	holders = 64 // shards
	// maxHoldings is how many keys there may be leases of: about 5 MB. Others are
	// counted call by call.
	maxHoldings = 1 << 14
	// maxRefills is how many leases are asked for at once, off the path of calls.
	maxRefills = 64
	// maxWaits is how often a call waits for another's answer before it asks itself.
	maxWaits = 3
	// longestHeld is the longest key that there are leases of.
	longestHeld = 256
)

// Leases counts on another Backend, and answers counts that have a Lease from calls
// that it was granted ahead of time: the backend is asked once for many calls. Why
// that stays within the limit is in lease.go.
//
// A key is worth a lease once hotCalls came in a lease time. It is then granted with a
// call that asks the backend anyway, or in the background when 30 % are left, and
// sized by the demand; of what little is left in the counter an instance takes a
// quarter, or what it will use at once. While a key is hot, calls that find nothing
// wait for the one that asks instead of asking too, and a refusal is repeated until the
// counter lets a call pass. A call over several limits takes what is held of each and
// the rest in one step from the backend; if that refuses, what it took goes back to
// leases that still run.
//
// When the backend cannot be reached, leases run to their end, and then calls fail.
type Leases struct {
	backend Backend
	clock   clock.Clock
	seed    maphash.Seed
	shards  [holders]holderShard
	refills chan struct{}
	refill  func(fn func()) // runs fn in the background
	once    [shardCount]marks
	counters
}

type holderShard struct {
	mu   sync.RWMutex
	held map[held]*holding
}

// held names a counter.
type held struct{ counter, key string }

// counters are what LeaseStats are read from.
type counters struct{ asked, granted, refused, lost, answered atomic.Uint64 }

// LeaseStats is what leases have come to.
type LeaseStats struct {
	Asked    uint64 // calls to the backend for keys with leases
	Granted  uint64 // calls granted ahead of time
	Refused  uint64 // times that nothing was granted ahead of time
	Lost     uint64 // calls granted and not used in time
	Answered uint64 // calls answered without the backend
}

// NewLeases holds leases from a backend.
func NewLeases(backend Backend, clk clock.Clock) *Leases {
	l := &Leases{
		backend: backend, clock: clk, seed: maphash.MakeSeed(), refills: make(chan struct{}, maxRefills),
		refill: func(fn func()) { go fn() },
	}
	for i := range l.shards {
		l.shards[i].held = map[held]*holding{}
	}
	return l
}

// Stats is what leases have come to since the start.
func (l *Leases) Stats() LeaseStats {
	return LeaseStats{l.asked.Load(), l.granted.Load(), l.refused.Load(), l.lost.Load(), l.answered.Load()}
}

// Take implements Backend.
func (l *Leases) Take(ctx context.Context, counts []Count, peek bool) ([]Outcome, error) {
	if len(counts) == 1 && !peek {
		if o, held := l.one(ctx, counts[0]); held {
			return []Outcome{o}, nil
		}
	}
	leased := false
	for _, c := range counts {
		if c.More > 0 { // a lease for a caller never comes from what is held here
			return l.backend.Take(ctx, counts, peek)
		}
		leased = leased || c.Lease > 0
	}
	switch {
	case !leased:
		return l.backend.Take(ctx, counts, peek)
	case peek:
		return l.peek(ctx, counts)
	}
	call := leasedCall{
		Leases: l, counts: counts, parts: make([]part, len(counts)), outcomes: make([]Outcome, len(counts)), mark: markOf(counts),
	}
	if call.counted() {
		return l.again(ctx, counts)
	}
	for {
		wait, decided := call.here(ctx)
		switch {
		case decided:
			l.answered.Add(1)
			call.remember()
			return call.outcomes, nil
		case wait == nil:
			if err := call.ask(ctx); err != nil {
				return nil, err
			}
			call.remember()
			return call.outcomes, nil
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// one takes a single count from what is held, if that is enough; it is what try does,
// for the call that comes most.
func (l *Leases) one(ctx context.Context, c Count) (o Outcome, held bool) {
	if c.Lease == 0 || c.More > 0 || c.Look || c.Once != "" || c.Cost > c.Burst {
		return Outcome{}, false
	}
	h := l.find(c, false)
	if h == nil {
		return Outcome{}, false
	}
	now := l.clock.Instant()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.under(c)
	available := h.available(now)
	if available < c.Cost {
		return Outcome{}, false
	}
	h.seen = now
	h.demand.add(now, c.Lease, c.Cost)
	h.use(c.Cost)
	available -= c.Cost
	o = h.outcome(c, now, false, available)
	l.restock(ctx, h, c, now, available)
	l.answered.Add(1)
	return o, true
}

// Forget implements Backend. It also drops the leases that this instance holds.
func (l *Leases) Forget(ctx context.Context, counts []Count) error {
	err := l.backend.Forget(ctx, counts)
	for _, c := range counts {
		if h := l.find(c, false); h != nil { // after: what was asked for before is void
			h.mu.Lock()
			h.drop()
			h.mu.Unlock()
		}
	}
	return err
}

// Reserve implements Backend: what is held has no part in reservations.
func (l *Leases) Reserve(ctx context.Context, c Count, open, by string) (Outcome, error) {
	return l.backend.Reserve(ctx, c, open, by)
}

// Settle implements Backend.
func (l *Leases) Settle(ctx context.Context, c Count, t settlement) (Outcome, error) {
	return l.backend.Settle(ctx, c, t)
}

// again is a call that was counted here before.
func (l *Leases) again(ctx context.Context, counts []Count) ([]Outcome, error) {
	outcomes, err := l.peek(ctx, counts)
	for i := range outcomes {
		if !counts[i].Shadow {
			outcomes[i].Exceeded, outcomes[i].RetryAfter = false, 0
		}
	}
	return outcomes, err
}

// peek asks the backend and adds what is held, as it was before: a lease that is
// granted meanwhile must not count as left here and there.
func (l *Leases) peek(ctx context.Context, counts []Count) ([]Outcome, error) {
	available := make([]int64, len(counts))
	for i, c := range counts {
		h := l.find(c, false)
		if h == nil || c.Lease == 0 {
			continue
		}
		h.mu.Lock()
		h.under(c)
		available[i] = h.available(l.clock.Instant())
		h.mu.Unlock()
	}
	outcomes, err := l.backend.Take(ctx, counts, true)
	if err != nil {
		return nil, err
	}
	for i, c := range counts {
		if available[i] == 0 {
			continue
		}
		outcomes[i].hold(c, available[i])
		if outcomes[i].Exceeded && c.Cost <= outcomes[i].Remaining {
			outcomes[i].Exceeded, outcomes[i].RetryAfter = false, 0
		}
	}
	return outcomes, nil
}

// find returns the holding of a counter, nil when there is none, or no place for
// one that is to be made.
func (l *Leases) find(c Count, make bool) *holding {
	if len(c.Key) > longestHeld {
		return nil
	}
	name := held{c.Counter, c.Key}
	shard := &l.shards[maphash.String(l.seed, c.Key)%holders]
	shard.mu.RLock()
	h := shard.held[name]
	shard.mu.RUnlock()
	if h != nil || !make {
		return h
	}
	now := l.clock.Instant()
	shard.mu.Lock()
	defer shard.mu.Unlock()
	if h = shard.held[name]; h != nil {
		return h
	}
	shard.sweep(now, sweepEach)
	if len(shard.held) >= maxHoldings/holders {
		return nil
	}
	h = &holding{lost: &l.counters, terms: termsOf(c), seen: now}
	shard.held[name] = h
	return h
}

// sweep removes those of some holdings, chosen by the map's random order, that
// nobody has asked for in two lease times: all their leases have ended.
func (s *holderShard) sweep(now clock.Instant, some int) {
	for name, h := range s.held {
		if some == 0 {
			return
		}
		some--
		h.mu.Lock()
		if now.Since(h.seen) > 2*max(h.terms.lease, minLease) {
			h.drop()
			delete(s.held, name)
		}
		h.mu.Unlock()
	}
}

// restock asks for a lease in the background when the one there is runs low. The
// holding is locked.
func (l *Leases) restock(ctx context.Context, h *holding, c Count, now clock.Instant, available int64) {
	calls, cost := h.demand.inLease(c.Lease)
	target := size(cost)
	if calls < hotCalls || h.refills || h.leader != nil || available*10 > target*3 {
		return
	}
	if h.fails && now.Since(h.failed) < c.Lease/8 {
		return
	}
	c.Cost, c.More, c.Sure = 1, 0, 0
	if refused, _ := h.refuses(c, now, calls >= busyCalls); refused {
		return
	}
	select {
	case l.refills <- struct{}{}:
	default:
		return
	}
	c.Cost, c.More, c.Sure = 0, target-available, sure(cost)
	c.Shadow, c.Look, c.Once = false, false, ""
	h.refills = true
	epoch := h.epoch
	ctx = context.WithoutCancel(ctx)
	l.refill(func() {
		defer func() { <-l.refills }()
		asked := l.clock.Instant()
		l.asked.Add(1)
		outcomes, err := l.backend.Take(ctx, []Count{c}, false)
		h.mu.Lock()
		defer h.mu.Unlock()
		h.refills = false
		if h.fails = err != nil; h.fails {
			h.failed = l.clock.Instant()
			return
		}
		l.grantedMore(outcomes[0].More)
		h.learn(c, outcomes[0], asked, epoch)
	})
}

func (l *Leases) grantedMore(more int64) {
	if more == 0 {
		l.refused.Add(1)
	}
	l.granted.Add(uint64(more))
}

// longer adds to the wait of a refusal that can pass.
func (o *Outcome) longer(wait time.Duration) {
	if o.Exceeded && o.RetryAfter > 0 {
		o.RetryAfter = max(o.RetryAfter, wait)
	}
}
