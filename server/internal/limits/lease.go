package limits

import (
	"context"
	"fmt"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/fault"
)

// A limit with leases counts calls ahead of time: who is granted n calls, in one
// step of the counter, may let n calls pass by itself within L, the limit's lease
// time. Still never more than burst + rate*(b-a) pass in any interval (a, b]:
//
// The counter, which all calls of the limit go to, leased or not, runs with
//
//	burst' = burst - ⌈rate*L⌉
//
// so that it grants at most burst' + rate*(b-a) in (a, b] (GCRA). A call that
// passes at u was granted in (u-L, u]. So what passes in (a, b] was granted in
// (a-L, b], which is at most burst' + rate*(b-a+L) <= burst + rate*(b-a). ∎
//
// It needs one L for everybody who holds calls of the limit, and that nobody uses a
// call later than L after it was granted: a holder measures from before it asked,
// by a monotonic clock, and 1 % short. Calls that are not used are lost. A fixed
// window needs no smaller burst, because a lease also ends with its window: what
// passes in a window was granted in it.
//
// While a limit changes the two allowances overlap for one lease time: in an interval
// that holds the change as many pass as the greater burst and rate let pass. After a
// reset, calls that were granted before it pass until they run out, on top.
const (
	defaultLease = 100 * time.Millisecond
	minLease     = 10 * time.Millisecond
	maxLease     = time.Second
)

// shorter is how long a lease of this time is used: clocks that measure intervals
// differ by far less than 1 %.
func shorter(lease time.Duration) time.Duration { return lease - lease/100 }

// setAside is how much of the burst leases of this time take: ⌈rate*L⌉.
func setAside(a Algorithm, rate int64, period, lease time.Duration) int64 {
	if a != GCRA {
		return 0
	}
	return ceil(rate, lease.Microseconds(), 0, period.Microseconds())
}

// bears says whether leases leave at least half of a burst.
func bears(a Algorithm, rate, burst int64, period, lease time.Duration) bool {
	return setAside(a, rate, period, lease) <= burst/2
}

// checkLease returns the fault of a lease that the limit cannot have.
func (l Limit) checkLease() error {
	switch {
	case !l.Lease && l.LeaseTime != 0:
		return fault.Field("leaseTime", "is only with lease; set lease or leave it out")
	case !l.Lease:
		return nil
	case l.Algorithm == Calendar:
		return fault.Field("lease", "is not for calendar limits; leave it out")
	case l.Algorithm != GCRA && l.Algorithm != FixedWindow:
		return fault.Field("lease", "is only for GCRA and fixed windows: how many calls a %s lets pass depends on when each of them comes; "+
			"choose another algorithm or leave it out", l.Algorithm)
	case l.LeaseTime < minLease || l.LeaseTime > maxLease || l.LeaseTime%time.Microsecond != 0:
		return fault.Field("leaseTime", "must be 10 ms to 1 s in whole microseconds")
	}
	tooSmall := func(field string, rate, burst int64) error {
		if burst = atOnce(l.Algorithm, rate, burst); bears(l.Algorithm, rate, burst, l.Period, l.LeaseTime) {
			return nil
		}
		needed := setAside(l.Algorithm, rate, l.Period, l.LeaseTime)
		return fault.Field(field, "needs a burst of at least %d, twice the %d calls that leases of %s set aside, and it is %d; "+
			"raise the burst, shorten leaseTime or leave lease out", 2*needed, needed, l.LeaseTime, burst)
	}
	if err := tooSmall("lease", l.Rate, l.Burst); err != nil {
		return err
	}
	for i, o := range l.Overrides {
		if err := tooSmall(fmt.Sprintf("overrides[%d].burst", i), o.Rate, o.Burst); err != nil {
			return err
		}
	}
	return nil
}

// leased is a count of the limit with what its leases set aside. A server of the
// version before may have left a burst that does not bear them: there are none then.
func (c Count) leased(l Limit) Count {
	if l.Lease && (l.Algorithm == GCRA || l.Algorithm == FixedWindow) && bears(l.Algorithm, c.Rate, c.Burst, l.Period, l.LeaseTime) {
		c.Burst -= setAside(l.Algorithm, c.Rate, l.Period, l.LeaseTime)
		c.Lease = l.LeaseTime
	}
	return c
}

// validFor is how long after it was asked for what an outcome granted may be used.
func (c Count) validFor(o Outcome) time.Duration {
	lease := c.Lease
	if c.Algorithm == FixedWindow {
		lease = min(lease, micros(max(0, o.state.at+c.Period-o.now)))
	}
	return shorter(lease)
}

// Grant is calls that a caller may let pass.
type Grant struct {
	Result
	Granted  int64
	ValidFor time.Duration // from before it was asked for
}

// Grant counts up to want calls against one limit under any key, as Check does, and
// leaves them to the caller. It is Precondition when the limit has no leases.
//
// It asks the backend, and never gives away what this instance holds itself: the
// caller measures from before it asked, which may be later than that was granted.
func (s *Service) Grant(ctx context.Context, name, key string, want int64) (Grant, error) {
	r, err := s.rule(ctx, name)
	if err != nil {
		return Grant{}, err
	}
	if err := s.mayCheck(ctx, r.Permission); err != nil {
		return Grant{}, err
	}
	m := r.named(key, 1)
	if m.Lease == 0 {
		return Grant{}, fault.New(fault.Precondition, "LIMIT_NOT_LEASED",
			"the limit %q has no leases; set lease on it, or count each call with CheckLimit", name)
	}
	want = min(max(1, want), maxRate)
	m.Cost, m.More, m.Sure = 0, want, want
	outcomes, outage, err := s.count(ctx, []match{m}, false)
	if err != nil {
		return Grant{}, err
	}
	m.Cost = 1
	o := outcomes[0]
	granted := o.More
	if granted == 0 && !outage {
		outcomes[0] = m.outcome(o.state, o.now, true)
	}
	if m.Shadow {
		granted = want
	}
	g := Grant{Result: result([]match{m}, outcomes), Granted: granted}
	g.Outage = outage
	if granted > 0 {
		g.ValidFor = m.validFor(o)
	}
	return g, nil
}
