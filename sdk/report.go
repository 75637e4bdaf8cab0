package tollgate

import (
	"context"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// Bad credentials that are refused in this process are reported to Tollgate,
// which counts and records them, at a bounded rate for each address and in all.
const (
	addressBurst, addressEvery = 10, time.Second
	reportsBurst, reportsEvery = 100, 20 * time.Millisecond

	maxAddresses = 10_000      // that have a count of their own
	maxHeldOff   = time.Minute // without reports about an address over a limit
)

// reports bounds reports of bad credentials.
type reports struct {
	mu        sync.Mutex
	addresses generations[netip.Addr, *address]
	all       allowance

	failing atomic.Bool // the latest report failed
}

type address struct {
	allowance
	heldOff time.Time // over a limit until then
}

// allowance refills over time (GCRA).
type allowance struct{ whole time.Time }

func (a *allowance) take(now time.Time, burst int, every time.Duration) bool {
	whole := now
	if a.whole.After(now) {
		whole = a.whole
	}
	if whole.Sub(now) > time.Duration(burst-1)*every {
		return false
	}
	a.whole = whole.Add(every)
	return true
}

func newReports() *reports { return &reports{addresses: newGenerations[netip.Addr, *address]()} }

// take reports whether a report about an address may be made now, and for how
// long the address is still over a limit.
func (r *reports) take(ip netip.Addr, now time.Time) (ok bool, heldOff time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	a := r.find(ip)
	if wait := a.heldOff.Sub(now); wait > 0 {
		return false, wait
	}
	return a.take(now, addressBurst, addressEvery) && r.all.take(now, reportsBurst, reportsEvery), 0
}

func (r *reports) holdOff(ip netip.Addr, until time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.find(ip).heldOff = until
}

// find returns the address's entry, a new one if need be. The lock is held.
func (r *reports) find(ip netip.Addr) *address {
	if ip = ip.Unmap(); ip.Is6() { // a host has 2^64 of them
		ip = netip.PrefixFrom(ip.WithZone(""), 64).Masked().Addr()
	}
	a, known := r.addresses.get(ip)
	if !known {
		a = &address{}
	}
	if len(r.addresses.young) >= maxAddresses/2 {
		r.addresses.rotate()
	}
	r.addresses.set(ip, a)
	return a
}

// report sends a credential that was refused here to Tollgate, and returns the
// decision to answer with: the refusal, or that the caller is over a limit. It
// never allows, whatever Tollgate answers.
func (c *Client) report(ctx context.Context, q AuthorizeRequest, reason Reason) *Decision {
	refused := &Decision{Reason: reason}
	now := c.now()
	ok, heldOff := c.reports.take(q.IP, now)
	switch {
	case heldOff > 0:
		return &Decision{Reason: ReasonLimited, RetryAfter: heldOff}
	case !ok:
		return refused
	}
	q.Authenticated, q.OnUnavailable = true, FailClosed
	// A caller who hangs up is counted as well.
	d, err := c.Authorize(context.WithoutCancel(ctx), q)
	if err != nil {
		if !c.reports.failing.Swap(true) {
			c.log.ErrorContext(ctx, "tollgate: bad credentials are refused, but Tollgate does not count and record them", "error", err)
		}
		return refused
	}
	c.reports.failing.Store(false)
	if d.Reason != ReasonLimited {
		return refused
	}
	c.reports.holdOff(q.IP, now.Add(min(d.RetryAfter, maxHeldOff)))
	return d
}
