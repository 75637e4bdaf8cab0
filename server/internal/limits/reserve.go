package limits

import (
	"context"
	"errors"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/fault"
)

// A reservation counts what a call is expected to cost, until it is settled with what
// the call did cost. It is kept as little as can be: its id holds all that there is to
// know, authenticated, and beside the counter there is only the set of those that are
// open, so that each is settled at most once.
//
// What is given back must leave the counter at or above where it would be had the
// smaller cost been counted at once; then the limit holds for what calls did cost as
// it does for what they were expected to. Of a window that is the difference, while
// the window counts. Of GCRA, what was counted at t0 drains from the bucket by t as
// rate*(t-t0) at most, and the bucket that has counted only the smaller cost is not
// empty before that has drained: at least
//
//	min(charged-cost, charged-rate*(t-t0))
//
// of the difference is still there, whatever else was counted, given back or drained.
const (
	// openFor is how long a reservation can be settled.
	openFor = 24 * time.Hour
	// mostOpen is how many reservations of one key may be open.
	mostOpen = 4096
	// maxDebt is how much a counter holds at most, so that its numbers stay exact in
	// Redis: a cost that goes beyond it is cut.
	maxDebt = 1_000_000_000_000
)

// Reservation is what Reserve counted.
type Reservation struct {
	Result
	ID string // for Settle; empty when it was refused
}

// reservation is what a reservation's id says. Tollgate alone can make one.
type reservation struct {
	By      string `json:"b"` // user id of the only caller who may settle it
	Open    string `json:"o"` // its name among those that are open; empty: nothing was counted that could change
	Limit   string `json:"l"`
	Counter string `json:"c"`
	Key     []byte `json:"k"` // as it was counted
	Charged int64  `json:"n"`
	At      int64  `json:"t"` // see settle
	Until   int64  `json:"u"` // Unix microseconds
	Rate    int64  `json:"r"`
	Burst   int64  `json:"m"`
	Period  int64  `json:"p"`
}

// reservations is what reservations' ids are authenticated as.
const reservations = "limits/reservations"

// Reserve counts a cost against one limit under any key, as Check does, so that Settle
// can change it. It is Precondition for a limit with backoff, and Limited when 4,096
// reservations of the key are open.
func (s *Service) Reserve(ctx context.Context, name, key string, cost int64) (Reservation, error) {
	r, err := s.rule(ctx, name)
	if err != nil {
		return Reservation{}, err
	}
	if err := s.mayCheck(ctx, r.Permission); err != nil {
		return Reservation{}, err
	}
	if r.Algorithm == Backoff {
		return Reservation{}, fault.New(fault.Precondition, "LIMIT_NOT_RESERVABLE",
			"the limit %q counts calls for its backoff, whatever they cost; count with CheckLimit, or choose another algorithm", name)
	}
	m := r.named(key, cost)
	made := reservation{
		By: caller.From(ctx).UserID(), Open: s.clock.NewID(), Limit: name, Counter: m.Counter, Key: []byte(m.Count.Key),
		Charged: m.Cost, Until: s.clock.Now().Add(openFor).UnixMicro(), Rate: m.Rate, Burst: m.Burst, Period: m.Period,
	}
	began := s.clock.Now()
	o, err := s.backend.Reserve(ctx, m.Count, made.Open, made.By)
	outage := false
	switch {
	case errors.Is(err, errTooManyOpen):
		return Reservation{}, fault.New(fault.Limited, "TOO_MANY_RESERVATIONS",
			"%d reservations of this key are open, or too many of yours; settle those that are done", mostOpen).After(time.Second)
	case err == nil:
		s.observed(CountedOK, s.clock.Now().Sub(began))
		s.announce([]match{m}, []Outcome{o})
		made.At = o.now
		if m.Algorithm != GCRA {
			made.At = o.state.at
		}
		if o.Exceeded { // in shadow mode: it was not counted
			made.Open = ""
		}
	default:
		// Nothing knows which reservations are open: what is counted now stays.
		outcomes, refused, err := s.without(ctx, []match{m}, false, began, err)
		if err != nil {
			return Reservation{}, err
		}
		o, outage, made.Open = outcomes[0], refused, ""
	}
	result := Reservation{Result: result([]match{m}, []Outcome{o})}
	result.Outage = outage
	if result.Allowed {
		result.ID = s.pages.Sign(reservations, made)
	}
	return result, nil
}

// Settle makes a reservation of the context's caller count what it did cost, once.
func (s *Service) Settle(ctx context.Context, id string, cost int64) (Status, error) {
	var made reservation
	if !s.pages.Read(reservations, id, &made) || made.By != caller.From(ctx).UserID() || s.clock.Micros() >= made.Until {
		return Status{}, noReservation()
	}
	r, err := s.rule(ctx, made.Limit)
	if err != nil {
		return Status{}, err
	}
	if err := s.mayCheck(ctx, r.Permission); err != nil {
		return Status{}, err
	}
	m := r.match(string(made.Key), 1)
	if m.Counter != made.Counter {
		return Status{}, noReservation() // the limit was reset, or made anew
	}
	if made.Open == "" {
		result, err := s.take(ctx, []match{m}, true)
		if err != nil {
			return Status{}, err
		}
		return result.Limits[0], nil
	}
	change := settlement{open: made.Open, charged: made.Charged, cost: min(max(0, cost), maxRate), at: made.At}
	if m.Rate != made.Rate || m.Burst != made.Burst || m.Period != made.Period {
		change.keep = true
	}
	o, err := s.backend.Settle(ctx, m.Count, change)
	switch {
	case errors.Is(err, errNotOpen):
		return Status{}, noReservation()
	case err != nil && ctx.Err() != nil:
		return Status{}, err
	case err != nil:
		return Status{}, fault.Down("the store of the limits' counters", err)
	}
	s.announce([]match{m}, []Outcome{o})
	return result([]match{m}, []Outcome{o}).Limits[0], nil
}

func noReservation() error {
	return fault.New(fault.NotFound, "RESERVATION_NOT_FOUND",
		"there is no open reservation of yours with this id: it was settled already, is older than %s, or its limit or key was reset", openFor)
}

// What Reserve and Settle of a Backend may fail with although the counters are there.
var (
	errTooManyOpen = errors.New("too many reservations are open")
	errNotOpen     = errors.New("the reservation is not open")
)

// settlement is what Settle changes.
type settlement struct {
	open    string
	charged int64
	cost    int64
	at      int64 // the backend's time of the reservation (GCRA) or the start of its window
	keep    bool  // give nothing back
}

// settle changes an advanced state. redis_reserve.lua computes the same: change both
// or neither.
func (c Count) settle(s state, now int64, t settlement) state {
	if t.cost >= t.charged {
		s.count = min(s.count+t.cost-t.charged, max(s.count, maxDebt))
		return s
	}
	back := t.charged - t.cost
	switch {
	case t.keep:
	case c.Algorithm == GCRA:
		drained := ceil(max(0, now-t.at), c.Rate, 0, c.Period)
		s.count -= max(0, min(back, t.charged-drained, s.count))
	case s.at == t.at:
		s.count -= min(back, s.count)
	case c.Algorithm == SlidingWindow && s.at == t.at+c.Period:
		s.rest -= min(back, s.rest)
	}
	return s
}
