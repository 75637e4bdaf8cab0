package limits

import (
	"context"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/clock"
	"pgregory.net/rapid"
)

// fleet is instances that hold leases, callers that do, and the backend that all of
// them ask, each with a clock of its own. Everything happens one after another.
type fleet struct {
	t         rapid.TB
	count     Count
	time      time.Duration
	counters  *Memory
	clocks    []*clock.Fake // the backend's is first
	instances []*lessee
	callers   []callerLease
	uses      []use
	resets    []time.Duration
	changes   []change
}

// use is calls that passed.
type use struct {
	at   time.Duration
	cost int64
}

// change is the terms from then on.
type change struct {
	at time.Duration
	Count
}

// callerLease is what LeaseLimit granted to a caller, who goes by a clock.
type callerLease struct {
	clock clock.Clock
	asked clock.Instant
	valid time.Duration
	calls int64
}

// lessee is an instance. As a Backend it is the way to the counters.
type lessee struct {
	*fleet
	Backend // for reservations, which there are none of
	leases  *Leases
	clock   *clock.Fake
	waiting []func() // what it does in the background
	slow    func() (before, after time.Duration)
	asks    int
	cost    int64 // what the counters took for the call itself
}

func newFleet(t rapid.TB, c Count, instances int) *fleet {
	f := &fleet{t: t, count: c, changes: []change{{0, c}}}
	began := time.UnixMicro(start)
	first := clock.NewFake(began)
	f.clocks = append(f.clocks, first)
	f.counters = NewMemory(first.Clock())
	for range instances {
		i := &lessee{fleet: f, clock: clock.NewFake(began), slow: func() (a, b time.Duration) { return 0, 0 }}
		f.clocks = append(f.clocks, i.clock)
		f.instances = append(f.instances, i)
		i.start()
	}
	return f
}

// start is also what follows a kill: all that it held is gone.
func (i *lessee) start() {
	i.waiting = nil
	i.leases = NewLeases(i, i.clock.Clock())
	i.leases.refill = func(fn func()) { i.waiting = append(i.waiting, fn) }
}

// pass lets time go by for everybody.
func (f *fleet) pass(d time.Duration) {
	f.time += d
	for _, c := range f.clocks {
		c.Advance(d)
	}
}

// Take implements Backend: time passes before the counters are asked and after.
func (i *lessee) Take(ctx context.Context, counts []Count, peek bool) ([]Outcome, error) {
	before, after := i.slow()
	i.pass(before)
	i.asks++
	outcomes, err := i.counters.Take(ctx, counts, peek)
	if !outcomes[0].Exceeded && !peek {
		i.used(counts[0].Cost)
		i.cost += counts[0].Cost
	}
	i.pass(after)
	return outcomes, err
}

// Forget implements Backend.
func (i *lessee) Forget(ctx context.Context, counts []Count) error {
	i.resets = append(i.resets, i.time)
	return i.counters.Forget(ctx, counts)
}

func (f *fleet) used(cost int64) {
	if cost > 0 {
		f.uses = append(f.uses, use{f.time, cost})
	}
}

// call takes a cost and says whether it passed. What came from a lease passed when
// the instance looked at its clock, the rest when the counters were asked.
func (i *lessee) call(cost int64) bool {
	c := i.count
	c.Cost, i.cost = cost, 0
	at := i.time
	outcomes, err := i.leases.Take(context.Background(), []Count{c}, false)
	backendtest.Must(i.t, err)
	if o := outcomes[0]; o.Leased > o.Remaining || o.Remaining > c.Burst || o.Remaining < 0 || o.RetryAfter < 0 || o.Exceeded && o.RetryAfter == 0 && cost <= c.Burst {
		i.t.Fatalf("%+v", o)
	}
	if outcomes[0].Exceeded {
		return false
	}
	if here := cost - i.cost; here > 0 {
		last := len(i.uses)
		if i.cost > 0 {
			last--
		}
		i.uses = append(i.uses[:last:last], append([]use{{at, here}}, i.uses[last:]...)...)
	}
	return true
}

// background does what the instance has begun to do.
func (i *lessee) background() {
	for len(i.waiting) > 0 {
		fn := i.waiting[0]
		i.waiting = i.waiting[1:]
		fn()
	}
}

// grant asks for calls as LeaseLimit does, for a caller that goes by the clock of an
// instance.
func (i *lessee) grant(want int64) {
	c := i.count
	c.Cost, c.More, c.Sure = 0, want, want
	l := callerLease{clock: i.clock.Clock(), asked: i.clock.Clock().Instant()}
	outcomes, err := i.leases.Take(context.Background(), []Count{c}, false)
	backendtest.Must(i.t, err)
	l.calls, l.valid = outcomes[0].More, c.validFor(outcomes[0])
	i.callers = append(i.callers, l)
}

// spend uses what callers hold, if it may be used.
func (f *fleet) spend(most int64) {
	for i := range f.callers {
		l := &f.callers[i]
		if n := min(l.calls, most); n > 0 && l.clock.Instant().Since(l.asked) < l.valid {
			l.calls -= n
			f.used(n)
		}
	}
}

// level is the plain definition: in any interval of length t at most burst + rate*t
// pass, which is that a bucket that leaks at the rate never holds more than the burst.
type level struct {
	rate, burst, period int64
	level, at           int64 // level in 1/period
}

func (l *level) add(t rapid.TB, u use, what string) {
	at := u.at.Microseconds()
	l.level = max(0, l.level-(at-l.at)*l.rate)
	l.at = at
	l.level += u.cost * l.period
	if l.level > l.burst*l.period {
		t.Fatalf("%s: by %s, %d/%d more passed than %d + %d in %d µs", what, u.at, l.level-l.burst*l.period, l.period, l.burst, l.rate, l.period)
	}
}

// judge holds what passed against the limits as they were, burst being the whole one:
// strictly but for one lease time after a change or a reset; and after a change
// against the wider of the two, with what may still be used of the one before.
func (f *fleet) judge(whole func(Count) int64) {
	lease := f.count.Lease
	for n, c := range f.changes {
		from, until := c.at+lease, time.Duration(1<<62)
		if n == 0 {
			from = 0
		}
		if n+1 < len(f.changes) {
			until = f.changes[n+1].at
		}
		f.within(level{rate: c.Rate, burst: whole(c.Count), period: c.Period}, from, until, lease, "as it is")
	}
	wide := level{period: f.count.Period}
	for _, c := range f.changes {
		wide.rate, wide.burst = max(wide.rate, c.Rate), max(wide.burst, whole(c.Count))
	}
	wide.burst += setAside(GCRA, wide.rate, micros(wide.period), lease)
	f.within(wide, 0, 1<<62, lease, "over all changes")
}

// within judges what passed in an interval, anew after each reset.
func (f *fleet) within(l level, from, until, lease time.Duration, what string) {
	fresh := l
	resets := f.resets
	for _, u := range f.uses {
		for len(resets) > 0 && u.at >= resets[0] {
			from = max(from, resets[0]+lease)
			resets = resets[1:]
			l = fresh
		}
		if u.at >= from && u.at < until {
			l.add(f.t, u, what)
		}
	}
}
