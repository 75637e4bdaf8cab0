package limits

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/fault"
	"github.com/tollgatehq/tollgate/server/internal/fault/faulttest"
)

// asUser is the context of a caller who holds everything.
func (i *instance) asUser(id string) context.Context {
	c := caller.From(i.system())
	c.Principal = &caller.Principal{UserID: id}
	return caller.With(i.system(), c)
}

func (i *instance) reserve(as, name, key string, cost int64) Reservation {
	i.t.Helper()
	r, err := i.Reserve(i.asUser(as), name, key, cost)
	i.must(err)
	return r
}

func (i *instance) settle(as, id string, cost, want int64, what string) {
	i.t.Helper()
	status, err := i.Settle(i.asUser(as), id, cost)
	i.must(err)
	backendtest.Equal(i.t, status.Remaining, want, "remaining after %s", what)
}

func (i *instance) wantNoReservation(as, id, what string) {
	i.t.Helper()
	if _, err := i.Settle(i.asUser(as), id, 0); !fault.Is(err, fault.NotFound) {
		i.t.Errorf("%s: %v", what, err)
	}
}

// onReserving runs test on each backend.
func onReserving(t *testing.T, test func(t *testing.T, i *instance)) {
	t.Helper()
	t.Parallel()
	backends(t, func(t *testing.T, b Backend) { test(t, onSQLite(t, b)) })
}

func TestReserveAndSettle(t *testing.T) {
	onReserving(t, func(t *testing.T, i *instance) {
		for _, a := range rates {
			name := "l-" + string(a[:3])
			l := Limit{Name: name, Subject: SubjectCustom, ContextKey: "k", Rate: 100, Period: maxPeriod, Algorithm: a}
			i.create(l)
			less := i.reserve("a", name, "k", 60)
			if !less.Allowed || less.ID == "" || less.Limits[0].Remaining != 40 {
				t.Fatalf("%s: %+v", a, less)
			}
			refused := i.reserve("a", name, "k", 41)
			if refused.Allowed || refused.ID != "" || refused.RetryAfter == 0 {
				t.Fatalf("%s: more than there is: %+v", a, refused)
			}
			more, same, open := i.reserve("a", name, "k", 10), i.reserve("a", name, "k", 0), i.reserve("a", name, "k", 5)
			if open.ID == same.ID || open.ID == more.ID {
				t.Error("two reservations have one id")
			}
			i.settle("a", less.ID, 20, 64, "less than reserved")
			i.settle("a", same.ID, 1, 64, "as much as reserved")
			i.settle("a", more.ID, 30, 44, "more than reserved")
			i.wantNoReservation("a", less.ID, "settled before")
			i.settle("a", i.reserve("a", name, "k", 44).ID, 1, 43, "nearly nothing")
			i.settle("a", i.reserve("a", name, "k", 1).ID, 500, 0, "much more than there is")
			i.wantRemaining(name, "k", 0, "in debt")
			if i.check(name, "k", 1, false).Allowed {
				t.Errorf("%s: a call passed in debt", a)
			}
			i.wantRemaining(name, "other", 100, "of another key")
			i.settle("a", open.ID, 5, 0, "in debt")
		}
	})
}

// TestSettleOnce: of settlements that come at once, one counts.
func TestSettleOnce(t *testing.T) {
	onReserving(t, func(t *testing.T, i *instance) {
		i.create(Limit{Name: "l", Subject: SubjectCustom, ContextKey: "k", Rate: 1000, Period: maxPeriod, Algorithm: FixedWindow})
		i.check("l", "k", 500, false)
		id := i.reserve("a", "l", "k", 100).ID
		var settled atomic.Int32
		var all sync.WaitGroup
		for range 20 {
			all.Go(func() {
				switch _, err := i.Settle(i.asUser("a"), id, 0); {
				case err == nil:
					settled.Add(1)
				case !fault.Is(err, fault.NotFound):
					t.Error(err)
				}
			})
		}
		all.Wait()
		backendtest.Equal(t, settled.Load(), 1, "settlements that counted")
		i.wantRemaining("l", "k", 500, "of which nothing was given back twice")
	})
}

// TestReservationsOfOthers: an id is good for who has it from Reserve, and for nothing else.
func TestReservationsOfOthers(t *testing.T) {
	onReserving(t, func(t *testing.T, i *instance) {
		i.create(Limit{Name: "l", Subject: SubjectCustom, ContextKey: "k", Rate: 100, Period: maxPeriod})
		id := i.reserve("a", "l", "k", 50).ID
		i.wantNoReservation("b", id, "another caller's")
		i.wantNoReservation("", id, "a caller without an id")
		for _, forged := range []string{"", "x", id + "x", id[:len(id)-1], "!" + id[1:], string(id[0]^1) + id[1:], id[1:]} {
			i.wantNoReservation("a", forged, "forged: "+forged)
		}
		i.wantNoReservation("a", i.pages.Sign("another list", reservation{By: "a", Open: "x", Limit: "l"}), "what was signed for something else")
		i.wantRemaining("l", "k", 50, "after all that")

		i.must(i.ResetKey(i.system(), "l", "k"))
		i.check("l", "k", 70, false)
		i.wantNoReservation("a", id, "its key was reset")
		id = i.reserve("a", "l", "k", 10).ID
		i.clock.Advance(time.Second)
		i.must(faulttest.Err(i.ResetAll(i.system(), "l")))
		i.check("l", "k", 30, false)
		i.wantNoReservation("a", id, "its limit was reset")
		i.wantRemaining("l", "k", 70, "which nothing was given back of")
		id = i.reserve("a", "l", "k", 10).ID
		i.must(faulttest.Err(i.Delete(i.system(), "l")))
		faulttest.Want(t, faulttest.Err(i.Settle(i.asUser("a"), id, 0)), fault.NotFound, "LIMIT_NOT_FOUND")
	})
}

func TestReservationEnds(t *testing.T) {
	t.Parallel()
	i := onSQLite(t, nil)
	i.create(Limit{Name: "l", Subject: SubjectCustom, ContextKey: "k", Rate: 100, Period: maxPeriod, Algorithm: FixedWindow})
	first, second := i.reserve("a", "l", "k", 10).ID, i.reserve("a", "l", "k", 10).ID
	i.clock.Advance(openFor - time.Microsecond)
	i.settle("a", first, 0, 90, "a settlement just in time")
	i.clock.Advance(time.Microsecond)
	i.wantNoReservation("a", second, "too late")
	i.wantRemaining("l", "k", 90, "of which the one that is too late stays counted")
}

// TestSettleAfterAChange: what was counted under another rate is not given back: it may
// have drained already. More than was reserved still counts.
func TestSettleAfterAChange(t *testing.T) {
	onReserving(t, func(t *testing.T, i *instance) {
		i.create(Limit{Name: "l", Subject: SubjectCustom, ContextKey: "k", Rate: 100, Period: maxPeriod})
		less, more := i.reserve("a", "l", "k", 50).ID, i.reserve("a", "l", "k", 10).ID
		i.update("l", Edit{Rate: new(int64(99))})
		i.settle("a", less, 0, 39, "a settlement after a change")
		i.settle("a", more, 20, 29, "one of more")
	})
}

func TestReserveElsewhere(t *testing.T) {
	t.Parallel()
	broken := &failing{Backend: NewMemory(onSQLite(t, nil).Service.clock)}
	i := onSQLite(t, broken)
	i.create(Limit{Name: "here", Subject: SubjectCustom, ContextKey: "k", Rate: 100, Period: maxPeriod})
	i.create(Limit{Name: "closed", Subject: SubjectCustom, ContextKey: "k", Rate: 100, Period: maxPeriod, Outage: Closed})
	i.create(Limit{Name: "shadow", Subject: SubjectCustom, ContextKey: "k", Rate: 100, Period: maxPeriod, Mode: Shadow})
	i.create(Limit{Name: "backoff", Subject: SubjectCustom, ContextKey: "k", Rate: 100, Period: maxPeriod, Algorithm: Backoff})
	faulttest.Want(t, faulttest.Err(i.Reserve(i.asUser("a"), "backoff", "k", 1)), fault.Precondition, "LIMIT_NOT_RESERVABLE")
	faulttest.Want(t, faulttest.Err(i.Reserve(i.asUser("a"), "none", "k", 1)), fault.NotFound, "LIMIT_NOT_FOUND")

	over := i.reserve("a", "shadow", "k", 500)
	if !over.Allowed || !over.Limits[0].Exceeded {
		t.Errorf("in shadow mode: %+v", over)
	}
	i.settle("a", over.ID, 20, 100, "what was not counted")

	id := i.reserve("a", "here", "k", 10).ID
	broken.down.Store(true)
	faulttest.Want(t, faulttest.Err(i.Settle(i.asUser("a"), id, 0)), fault.Unavailable, "DEPENDENCY_DOWN")
	if r := i.reserve("a", "closed", "k", 1); r.Allowed || r.ID != "" || !r.Outage {
		t.Errorf("closed in an outage: %+v", r)
	}
	local := i.reserve("a", "here", "k", 60)
	if !local.Allowed || local.Limits[0].Remaining != 40 {
		t.Errorf("counted in this process: %+v", local)
	}
	i.settle("a", local.ID, 0, 40, "what is counted in this process, and stays")
	broken.down.Store(false)
	i.settle("a", local.ID, 0, 90, "the same again, which changes nothing")
	i.settle("a", id, 0, 100, "after the outage")
}

// failing is a backend that can be down.
type failing struct {
	Backend
	down atomic.Bool
}

func (f *failing) Take(ctx context.Context, counts []Count, peek bool) ([]Outcome, error) {
	if f.down.Load() {
		return nil, errors.New("down")
	}
	return f.Backend.Take(ctx, counts, peek)
}

func (f *failing) Reserve(ctx context.Context, c Count, open, by string) (Outcome, error) {
	if f.down.Load() {
		return Outcome{}, errors.New("down")
	}
	return f.Backend.Reserve(ctx, c, open, by)
}

func (f *failing) Settle(ctx context.Context, c Count, s settlement) (Outcome, error) {
	if f.down.Load() {
		return Outcome{}, errors.New("down")
	}
	return f.Backend.Settle(ctx, c, s)
}

// TestOpenReservationsAreBounded: one key's do not grow without end.
func TestOpenReservationsAreBounded(t *testing.T) {
	onReserving(t, func(t *testing.T, i *instance) {
		i.create(Limit{Name: "l", Subject: SubjectCustom, ContextKey: "k", Rate: maxRate, Period: maxPeriod, Algorithm: FixedWindow})
		var last string
		for n := range mostOpen {
			last = i.reserve("a", "l", "k", 1).ID
			if n == 0 {
				i.settle("a", last, 1, maxRate-1, "the first")
				last = i.reserve("a", "l", "k", 1).ID
			}
		}
		f := faulttest.Want(t, faulttest.Err(i.Reserve(i.asUser("a"), "l", "k", 1)), fault.Limited, "TOO_MANY_RESERVATIONS")
		if f.RetryAfter == 0 {
			t.Error("it does not say when to try again")
		}
		i.wantRemaining("l", "k", maxRate-mostOpen-1, "of which the refused one took nothing")
		i.reserve("a", "l", "another", 1)
		i.settle("a", last, 0, maxRate-mostOpen, "one of them")
		i.reserve("a", "l", "k", 1)
	})
}

func TestMemoryForgetsOldReservations(t *testing.T) {
	t.Parallel()
	fake, clk := testClock()
	m := NewMemory(clk)
	reserve := func(n int) error {
		c := Count{Counter: "c", Key: "k", Algorithm: FixedWindow, Rate: maxRate, Burst: maxRate, Period: longMicro, Cost: 1}
		return faulttest.Err(m.Reserve(t.Context(), c, strconv.Itoa(n), "a"))
	}
	for n := range mostOpen {
		backendtest.Must(t, reserve(n))
	}
	if err := reserve(mostOpen); !errors.Is(err, errTooManyOpen) {
		t.Errorf("one too many: %v", err)
	}
	fake.Advance(openFor)
	backendtest.Must(t, reserve(mostOpen))
	opened := 0
	for i := range m.shards {
		opened += m.shards[i].opened
	}
	backendtest.Equal(t, opened, 1, "open reservations")
}

// TestMemoryReservationsOfOneCaller: who never settles leaves half of them to others.
func TestMemoryReservationsOfOneCaller(t *testing.T) {
	t.Parallel()
	_, clk := testClock()
	m := NewMemory(clk)
	reserve := func(key int, open, by string) error {
		c := Count{Counter: "c", Key: strconv.Itoa(key), Algorithm: FixedWindow, Rate: maxRate, Burst: maxRate, Period: longMicro, Cost: 1}
		return faulttest.Err(m.Reserve(t.Context(), c, open, by))
	}
	refused := 0
	for i := range memoryOpen {
		if reserve(i/mostOpen*8+i%8, "a"+strconv.Itoa(i), "a") != nil {
			refused++
		}
	}
	if held := memoryOpen - refused; held > memoryOpen/2 {
		t.Errorf("one caller has %d reservations of %d", held, memoryOpen)
	}
	for i := range 1000 {
		backendtest.Must(t, reserve(1_000_000+i, "b", "b"))
	}
}
