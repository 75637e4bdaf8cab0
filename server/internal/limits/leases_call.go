package limits

import (
	"context"

	"github.com/tollgatehq/tollgate/server/internal/clock"
)

// leasedCall is one Take of Leases.
type leasedCall struct {
	*Leases
	counts   []Count
	parts    []part
	outcomes []Outcome
	asked    clock.Instant
	waits    int
	mark     mark // of a call with an idempotency key
}

// part is what a call does with one count.
type part struct {
	holding *holding // nil: counted by the backend alone
	epoch   uint64
	from    taken
	missing int64         // what the backend is asked for; 0: all is here
	refused bool          // by what the backend said a moment ago
	leads   chan struct{} // others wait for what this one is granted
	more    int64         // to be leased with what is missing
	sure    int64
}

// here takes what is held, and decides the call when that is enough for all its
// counts or the rest is refused. Otherwise the call waits, and holds nothing
// meanwhile; or, when wait is nil, asks the backend for what is missing.
func (k *leasedCall) here(ctx context.Context) (wait <-chan struct{}, decided bool) {
	k.asked = k.clock.Instant()
	decided = true
	for i, c := range k.counts {
		k.parts[i] = part{missing: c.Cost}
		var h *holding
		if c.Lease > 0 && c.Cost <= c.Burst { // what never passes is not tried
			h = k.find(c, true)
		}
		if h == nil {
			decided = false
			continue
		}
		h.mu.Lock()
		leader, known := k.try(ctx, i, h)
		h.mu.Unlock()
		decided = decided && known
		if leader != nil {
			wait = leader
		}
	}
	switch {
	case wait != nil:
		k.waits++
		k.release()
		k.putBack(func(int) bool { return true })
	case decided:
		k.settle(func(i int) bool { return k.parts[i].refused })
	}
	return wait, decided
}

// try does one count with its holding, which is locked. It says whether the outcome
// is known, and whom to wait for when another asks already.
func (k *leasedCall) try(ctx context.Context, i int, h *holding) (leader <-chan struct{}, known bool) {
	c, p, now := k.counts[i], &k.parts[i], k.asked
	h.under(c)
	h.seen = now
	if k.waits == 0 {
		h.demand.add(now, c.Lease, c.Cost)
	}
	p.holding, p.epoch = h, h.epoch
	available := h.available(now)
	use := min(available, c.Cost)
	p.missing -= use
	if !c.Look {
		p.from = h.take(use)
		available -= use
	}
	if p.missing == 0 {
		k.outcomes[i] = h.outcome(c, now, false, available)
		k.restock(ctx, h, c, now, available)
		return nil, true
	}
	calls, cost := h.demand.inLease(c.Lease)
	if calls < hotCalls {
		return nil, false
	}
	c.Cost = p.missing
	if refused, wait := h.refuses(c, now, calls >= busyCalls); refused {
		p.refused = true
		k.outcomes[i] = h.outcome(c, now, true, available)
		k.outcomes[i].longer(wait)
		return nil, true
	}
	switch {
	case h.leader != nil:
		if k.waits < maxWaits {
			return h.leader, false
		}
	case !c.Look:
		p.leads = make(chan struct{})
		h.leader = p.leads
		p.more, p.sure = size(cost), sure(cost)
	}
	return nil, false
}

// ask takes what is missing from the backend, in one step.
func (k *leasedCall) ask(ctx context.Context) error {
	defer k.release()
	asks := make([]Count, 0, len(k.counts))
	places := make([]int, 0, len(k.counts))
	for i, c := range k.counts {
		if p := &k.parts[i]; p.missing > 0 {
			c.Cost, c.More, c.Sure = p.missing, p.more, p.sure
			if c.Once != "" { // only some of the call is asked for, and the key is good for that call alone
				c.Once += "\n" + string(k.mark[:])
			}
			asks, places = append(asks, c), append(places, i)
		}
	}
	k.Leases.asked.Add(1)
	outcomes, err := k.backend.Take(ctx, asks, false)
	if err != nil {
		k.putBack(func(int) bool { return true })
		return err
	}
	for j, place := range places {
		o, c, p := outcomes[j], k.counts[place], &k.parts[place]
		if h := p.holding; h != nil {
			h.mu.Lock()
			if p.more > 0 {
				k.grantedMore(o.More)
			}
			h.learn(c, o, k.asked, p.epoch)
			o.hold(c, h.available(k.asked))
			h.mu.Unlock()
		}
		o.More = 0
		k.outcomes[place] = o
	}
	k.settle(func(i int) bool { return k.outcomes[i].Exceeded })
	return nil
}

// settle puts back what the call took here when it is refused, and what a limit in
// shadow mode took when that one by itself is.
func (k *leasedCall) settle(exceeded func(int) bool) {
	refused := false
	for i, c := range k.counts {
		refused = refused || exceeded(i) && !c.Shadow
	}
	k.putBack(func(i int) bool { return exceeded(i) || refused && !k.counts[i].Shadow })
}

// counted says whether the call, by its idempotency key, was counted here before.
func (k *leasedCall) counted() bool {
	if k.mark == (mark{}) {
		return false
	}
	once := k.mark.of(&k.once)
	once.mu.Lock()
	defer once.mu.Unlock()
	return once.holds(k.mark, k.clock.Micros())
}

// remember keeps that the call passed, if it has an idempotency key.
func (k *leasedCall) remember() {
	if k.mark == (mark{}) {
		return
	}
	for i, o := range k.outcomes {
		if o.Exceeded && !k.counts[i].Shadow {
			return
		}
	}
	once := k.mark.of(&k.once)
	once.mu.Lock()
	defer once.mu.Unlock()
	once.add(k.mark, k.clock.Micros())
}

// putBack puts back what the chosen parts took.
func (k *leasedCall) putBack(chosen func(int) bool) {
	for i := range k.parts {
		p := &k.parts[i]
		if p.holding == nil || p.from == (taken{}) || !chosen(i) {
			continue
		}
		p.holding.mu.Lock()
		p.holding.putBack(p.from)
		k.outcomes[i].hold(k.counts[i], p.from.sum())
		p.holding.mu.Unlock()
		p.from = taken{}
	}
}

// release lets those go on who wait for what this call is granted.
func (k *leasedCall) release() {
	for i := range k.parts {
		p := &k.parts[i]
		if p.leads == nil {
			continue
		}
		p.holding.mu.Lock()
		p.holding.leader = nil
		p.holding.mu.Unlock()
		close(p.leads)
		p.leads = nil
	}
}
