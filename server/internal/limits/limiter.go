package limits

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/changes"
	"github.com/tollgatehq/tollgate/server/internal/clock"
	"github.com/tollgatehq/tollgate/server/internal/database"
	"github.com/tollgatehq/tollgate/server/internal/fault"
	"github.com/tollgatehq/tollgate/server/internal/page"
	"github.com/tollgatehq/tollgate/server/internal/roles"
)

// Service keeps limits and counts calls against them. It is a
// changes.Follower: until the log has started it counts nothing and lets
// nothing pass.
type Service struct {
	db      *database.DB
	log     *changes.Log
	roles   *roles.Service
	clock   clock.Clock
	pages   page.Tokens
	backend Backend
	local   *Memory // counts while the backend cannot be reached

	observe func(where Counted, took time.Duration) // nil: nobody

	rules atomic.Pointer[rules]
}

// New makes the service. The caller has the log follow it.
func New(db *database.DB, log *changes.Log, r *roles.Service, clk clock.Clock, pages page.Tokens, backend Backend) *Service {
	return &Service{db: db, log: log, roles: r, clock: clk, pages: pages, backend: backend, local: NewMemory(clk)}
}

// Reset reads all limits again.
func (s *Service) Reset(ctx context.Context) error {
	list, err := allLimits(ctx, s.db)
	if err != nil {
		return fmt.Errorf("read all limits: %w", err)
	}
	s.rules.Store(compile(list))
	return nil
}

// Apply reads all limits again when one of them changed: there are few, and
// they change seldom.
func (s *Service) Apply(ctx context.Context, list []changes.Change) error {
	if slices.ContainsFunc(list, func(c changes.Change) bool { return c.Kind == changes.Limit }) {
		return s.Reset(ctx)
	}
	return nil
}

// Status is where one counted key stands with one limit.
type Status struct {
	Name      string
	Subject   Subject
	Limit     int64         // calls at once when nothing is used
	Remaining int64         // calls that would pass now
	Reset     time.Duration // until nothing is used
	Exceeded  bool          // refused this call, or would have but for shadow mode
	Shadow    bool          // only watches
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
// when all have room, against none otherwise. Limits in shadow mode count by
// themselves. A call that no limit applies to is allowed. The error is
// Unavailable before the limits are known, or the context's.
func (s *Service) Take(ctx context.Context, r Request) (Result, error) {
	all := s.rules.Load()
	if all == nil {
		return Result{}, unknownLimits()
	}
	return s.take(ctx, all.claims(r), false)
}

// Forget forgets what Take has counted for the same request. It is Unavailable
// when the counters cannot be reached.
func (s *Service) Forget(ctx context.Context, r Request) error {
	all := s.rules.Load()
	if all == nil {
		return unknownLimits()
	}
	return s.forget(ctx, counts(all.claims(r)))
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

func (s *Service) take(ctx context.Context, claims []claim, peek bool) (Result, error) {
	if len(claims) == 0 {
		return Result{Allowed: true}, nil
	}
	began := s.clock.Now()
	outcomes, err := s.backend.Take(ctx, counts(claims), peek)
	took := s.clock.Now().Sub(began)
	if err == nil {
		s.observed(CountedOK, took)
		return result(claims, outcomes), nil
	}
	if ctx.Err() != nil {
		return Result{}, err
	}
	where := CountedDown
	if slices.ContainsFunc(claims, func(c claim) bool { return c.rule.Outage != Open && c.rule.Outage != Closed }) {
		where = CountedLocal
	}
	s.observed(where, took)
	outcomes, outage, err := s.outage(ctx, claims, peek)
	if err != nil {
		return Result{}, err
	}
	r := result(claims, outcomes)
	r.Outage = outage
	return r, nil
}

// retryOutage is when to try again what is refused for an outage.
const retryOutage = time.Second

// outage decides without the backend, each limit as it says itself, and still
// all or nothing. The flag says that the outage itself refuses the call.
func (s *Service) outage(ctx context.Context, claims []claim, peek bool) (outcomes []Outcome, refused bool, err error) {
	outcomes = make([]Outcome, len(claims))
	var here []Count
	var places []int
	for i, c := range claims {
		switch c.rule.Outage {
		case Open:
			outcomes[i] = Outcome{Remaining: c.Burst}
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
func result(claims []claim, outcomes []Outcome) Result {
	r := Result{Allowed: true, Limits: make([]Status, len(claims))}
	never := false
	for i, c := range claims {
		o := outcomes[i]
		r.Limits[i] = Status{
			Name: c.rule.Name, Subject: c.rule.Subject, Limit: c.Burst, Remaining: o.Remaining, Reset: o.Reset,
			Exceeded: o.Exceeded, Shadow: c.Shadow,
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
