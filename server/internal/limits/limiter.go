package limits

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/audit"
	"github.com/tollgatehq/tollgate/server/internal/changes"
	"github.com/tollgatehq/tollgate/server/internal/fault"
	"github.com/tollgatehq/tollgate/server/internal/roles"
)

// Status is where one counted key stands with one limit.
type Status struct {
	Name      string
	Subject   Subject
	Limit     int64 // calls at once when nothing is used
	Rate      int64 // calls in each Period
	Period    time.Duration
	Remaining int64         // calls that would pass now
	Reset     time.Duration // until nothing is used
	Exceeded  bool          // refused this call, or would have but for shadow mode
	Shadow    bool          // only watches
	Leased    int64         // of Remaining, what this instance holds
}

// Result is whether a call is within its limits.
type Result struct {
	Allowed bool
	// Limits are all that counted the call, the most restrictive first: those
	// in force before those in shadow mode, in both the exceeded ones first,
	// then by the share that remains.
	Limits []Status
	// RetryAfter is how long to wait when not allowed, in whole milliseconds.
	// 0: a call of this cost never passes.
	RetryAfter time.Duration
	Name       string // the limit that refused, the one to wait longest for
	Key        string // whom it counted
	Outage     bool   // refused because the counters cannot be reached
}

// Take counts a call against every limit that applies: against all of them
// when none is exceeded, against none otherwise. Limits in shadow mode count by
// themselves. A call that no limit applies to is allowed. The error is
// Unavailable before the limits are known, or the context's.
func (s *Service) Take(ctx context.Context, r Request) (Result, error) {
	all := s.rules.Load()
	if all == nil {
		return Result{}, unknownLimits()
	}
	return s.take(ctx, all.matches(r), false)
}

// Peek is Take that counts nothing.
func (s *Service) Peek(ctx context.Context, r Request) (Result, error) {
	all := s.rules.Load()
	if all == nil {
		return Result{}, unknownLimits()
	}
	return s.take(ctx, all.matches(r), true)
}

// Forget forgets what Take has counted for the same request. It is Unavailable
// when the counters cannot be reached.
func (s *Service) Forget(ctx context.Context, r Request) error {
	all := s.rules.Load()
	if all == nil {
		return unknownLimits()
	}
	return s.forget(ctx, counts(all.matches(r)))
}

// Check counts a call against one limit under any key, or with peek only
// looks. An address is brought into the form that Take counts it under.
func (s *Service) Check(ctx context.Context, name, key string, cost int64, peek bool) (Result, error) {
	return s.CheckOnce(ctx, name, key, cost, peek, "")
}

// CheckOnce is Check that counts a call once, as Request.Once says.
func (s *Service) CheckOnce(ctx context.Context, name, key string, cost int64, peek bool, once string) (Result, error) {
	r, err := s.rule(ctx, name)
	if err != nil {
		return Result{}, err
	}
	if err := s.mayCheck(ctx, r.Permission); err != nil {
		return Result{}, err
	}
	m := r.named(key, cost)
	m.Once = once
	return s.take(ctx, []match{m}, peek)
}

// ResetKey forgets what a limit has counted for a key; a user's may be the id or
// the name. The audit event is durable before anything is forgotten; when the
// counters cannot be reached it stays and the call may be made again.
func (s *Service) ResetKey(ctx context.Context, name, key string) error {
	r, err := s.rule(ctx, name)
	if err != nil {
		return err
	}
	if err := s.mayManage(ctx, s.db, r.Permission); err != nil { // before a user is looked for, and again after
		return err
	}
	matches, err := s.keysToForget(ctx, r, key)
	if err != nil {
		return err
	}
	_, err = s.log.Write(ctx, func(ctx context.Context, tx *changes.Tx) error {
		if err := s.mayManage(ctx, tx, r.Permission); err != nil {
			return err
		}
		tx.Record(audit.New(ctx, audit.LimitReset, audit.Success, "limits/"+name).With("key", matches[0].Key))
		return nil
	})
	if err != nil {
		return fmt.Errorf("record the reset of limit %q: %w", name, err)
	}
	return s.forget(ctx, counts(matches))
}

// rule finds a limit in memory. One that is not there may be too new: it reads
// the log before it says so.
func (s *Service) rule(ctx context.Context, name string) (*rule, error) {
	if err := s.log.Ensure(ctx, 0); err != nil {
		return nil, err
	}
	for try := range 2 {
		all := s.rules.Load()
		if all == nil {
			return nil, unknownLimits()
		}
		if r := all.byName[name]; r != nil {
			return r, nil
		}
		if try > 0 || !roles.ValidName(name) {
			break
		}
		if err := s.log.Sync(ctx); err != nil {
			return nil, fault.Down("the database", err)
		}
	}
	return nil, missing(name)
}

func (s *Service) forget(ctx context.Context, list []Count) error {
	if err := s.local.Forget(ctx, list); err != nil {
		return err
	}
	if err := s.backend.Forget(ctx, list); err != nil {
		if ctx.Err() != nil {
			return err
		}
		return fault.Down("the store of the limits' counters", err)
	}
	return nil
}

func (s *Service) take(ctx context.Context, matches []match, peek bool) (Result, error) {
	outcomes, outage, err := s.count(ctx, matches, peek)
	if err != nil {
		return Result{}, err
	}
	r := result(matches, outcomes)
	r.Outage = outage
	return r, nil
}

// count counts the matches in one round trip, or without the backend; the flag says
// that its outage refuses the call.
func (s *Service) count(ctx context.Context, matches []match, peek bool) (outcomes []Outcome, outage bool, err error) {
	if len(matches) == 0 {
		return nil, false, nil
	}
	began := s.clock.Now()
	outcomes, err = s.backend.Take(ctx, counts(matches), peek)
	if err == nil {
		s.observed(CountedOK, s.clock.Now().Sub(began))
		s.announce(matches, outcomes)
		s.tell(matches, outcomes)
		return outcomes, false, nil
	}
	return s.without(ctx, matches, peek, began, err)
}

// without is count after the backend failed.
func (s *Service) without(ctx context.Context, matches []match, peek bool, began time.Time, err error) (outcomes []Outcome, outage bool, _ error) {
	took := s.clock.Now().Sub(began)
	if ctx.Err() != nil {
		return nil, false, err
	}
	where := CountedDown
	if slices.ContainsFunc(matches, func(c match) bool { return c.rule.Outage != Open && c.rule.Outage != Closed }) {
		where = CountedLocal
	}
	s.observed(where, took)
	outcomes, outage, err = s.outage(ctx, matches, peek)
	if err == nil {
		s.announce(matches, outcomes)
		s.tell(matches, outcomes)
	}
	return outcomes, outage, err
}

// retryOutage is when to try again what is refused for an outage.
const retryOutage = time.Second

// outage decides without the backend, each limit as it says itself, and still
// all or nothing. The flag says that the outage itself refuses the call.
func (s *Service) outage(ctx context.Context, matches []match, peek bool) (outcomes []Outcome, refused bool, err error) {
	outcomes = make([]Outcome, len(matches))
	var here []Count
	var places []int
	for i, c := range matches {
		switch c.rule.Outage {
		case Open:
			outcomes[i] = Outcome{Remaining: c.Burst, More: min(c.More, c.Burst)}
		case Closed:
			outcomes[i] = Outcome{Exceeded: true, RetryAfter: retryOutage}
			refused = refused || !c.Shadow
		default:
			here, places = append(here, c.Count), append(places, i)
		}
	}
	local, err := s.local.Take(ctx, here, peek || refused)
	if err != nil {
		return nil, false, err
	}
	for i, place := range places {
		outcomes[place] = local[i]
	}
	return outcomes, refused, nil
}

// result puts the outcomes of all limits together.
func result(matches []match, outcomes []Outcome) Result {
	r := Result{Allowed: true, Limits: make([]Status, len(matches))}
	never := false
	for i, c := range matches {
		o := outcomes[i]
		r.Limits[i] = Status{
			Name: c.rule.Name, Subject: c.rule.Subject, Limit: c.Burst, Rate: c.Rate, Period: c.rule.Period, Remaining: o.Remaining, Reset: o.Reset,
			Exceeded: o.Exceeded, Shadow: c.Shadow, Leased: o.Leased,
		}
		if !o.Exceeded || c.Shadow {
			continue
		}
		forever := o.RetryAfter == 0
		if r.Allowed || !never && (forever || o.RetryAfter > r.RetryAfter) {
			r.Name, r.Key, r.RetryAfter = c.rule.Name, c.Key, o.RetryAfter
		}
		r.Allowed = false
		never = never || forever
	}
	if rest := r.RetryAfter % time.Millisecond; rest > 0 {
		r.RetryAfter += time.Millisecond - rest
	}
	slices.SortStableFunc(r.Limits, func(a, b Status) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a.Remaining*b.Limit, b.Remaining*a.Limit))
	})
	return r
}

func rank(s Status) int {
	n := 0
	if s.Shadow {
		n = 2
	}
	if !s.Exceeded {
		n++
	}
	return n
}

func unknownLimits() error {
	return fault.New(fault.Unavailable, "STARTING", "the limits are not read yet; try again").After(time.Second)
}

// Counted is where a call was counted.
type Counted string

// The places. The set is closed: it is used as a metric's label.
const (
	CountedOK    Counted = "ok"    // by the backend
	CountedLocal Counted = "local" // in this process, because the backend is down
	CountedDown  Counted = "down"  // nowhere: the backend is down, and the limits are open or closed then
)

// Observe calls fn for every call that limits apply to, with where it was counted
// and how long the backend took. Call it before the first Take. fn must not
// block.
func (s *Service) Observe(fn func(where Counted, took time.Duration)) { s.observe = fn }

func (s *Service) observed(where Counted, took time.Duration) {
	if s.observe != nil {
		s.observe(where, took)
	}
}
