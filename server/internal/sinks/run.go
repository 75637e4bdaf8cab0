package sinks

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/audit"
	"github.com/tollgatehq/tollgate/server/internal/clock"
	"github.com/tollgatehq/tollgate/server/internal/database"
)

const (
	pollEvery = time.Second // for new events
	// An instance drives a sink for lease, renews that below renewBelow, and every
	// renewEvery while it delivers.
	lease       = 10 * time.Second
	renewBelow  = 7 * time.Second
	renewEvery  = 3 * time.Second
	deliverTime = 20 * time.Second
	// Waits after failures double from firstWait to lastWait.
	firstWait = time.Second
	lastWait  = time.Minute

	readAtOnce = 500
)

// errTooLarge is for a batch that its receiver would take in smaller parts.
var errTooLarge = errors.New("the batch is too large")

// after is an error of a receiver that says when to try again.
type after struct {
	error
	wait time.Duration
}

func (a after) Unwrap() error { return a.error }

// runner drives one sink.
type runner struct {
	target Target
	store  store
	log    Log
	clock  clock.Clock
	logger *slog.Logger
	sink   Sink // nil: not open

	heldUntil time.Time
	waiting   time.Time // since when there are events that linger
	failures  int       // in a row
	retryAt   time.Time
	failed    time.Time // the first of them
	lost      error     // the database's last error, for one line of the log

	mu   sync.Mutex
	seen Status
}

func newRunner(o Options, target Target) *runner {
	return &runner{
		target: target, store: store{o.DB, target.Name, o.Clock.NewID()}, log: o.Log, clock: o.Clock, logger: o.Logger.With("sink", target.Name),
		seen: Status{Name: target.Name, Confirmed: o.Clock.Now()},
	}
}

func (r *runner) status() Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.seen
}

func (r *runner) see(change func(*Status)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change(&r.seen)
}

// run drives the sink whenever no other instance does, until ctx ends.
func (r *runner) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			r.stop()
			return
		case <-timer.C:
		}
		wait, err := r.step(ctx)
		switch {
		case ctx.Err() != nil:
		case err != nil && r.lost == nil:
			r.logger.ErrorContext(ctx, "cannot read how far an audit sink has come; trying again", "error", err)
		case err == nil && r.lost != nil:
			r.logger.InfoContext(ctx, "audit sink goes on: the database answers again")
		}
		r.lost = err
		timer.Reset(wait)
	}
}

// stop closes the sink and lets another instance go on at once.
func (r *runner) stop() {
	r.close()
	if r.heldUntil.IsZero() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	_ = r.store.release(ctx) // or its lease ends
}

func (r *runner) close() {
	if r.sink != nil {
		if err := r.sink.Close(); err != nil {
			r.logger.Warn("audit sink cannot be closed well", "error", err)
		}
		r.sink = nil
	}
}

// step delivers at most one batch, and says how long to wait for the next step. Its error
// is the database's; a delivery that fails is none.
func (r *runner) step(ctx context.Context) (wait time.Duration, err error) {
	size, err := r.log.Size(ctx)
	if err != nil {
		return pollEvery, err
	}
	at, held, err := r.hold(ctx, size)
	if err != nil {
		return pollEvery, err
	}
	r.see(func(s *Status) {
		s.Lag, s.Skipped, s.Failing = max(0, size-at.Next), at.Skipped, at.Failing != nil
		if s.Confirmed = time.UnixMicro(at.Confirmed); s.Lag == 0 {
			s.Confirmed = r.clock.Now()
		}
	})
	switch {
	case !held:
		r.close()
		return pollEvery, nil
	case r.clock.Now().Before(r.retryAt):
		return min(pollEvery, r.retryAt.Sub(r.clock.Now())), nil
	}
	batch, found, err := r.next(ctx, at, size)
	if err != nil || !found {
		return pollEvery, err
	}
	err = r.deliver(ctx, at, batch)
	switch {
	case errors.Is(err, errLost):
		r.heldUntil = time.Time{}
		return pollEvery, nil
	case err != nil:
		return pollEvery, err
	}
	return 0, nil
}

// hold reads the cursor, and drives the sink if no other instance does.
func (r *runner) hold(ctx context.Context, size int64) (at row, held bool, err error) {
	at, err = r.store.read(ctx)
	if errors.Is(err, database.ErrNoRows) {
		next := int64(0)
		if r.target.FromEnd {
			next = size
		}
		if err = r.store.create(ctx, next, r.clock.Now()); err == nil {
			at, err = r.store.read(ctx)
		}
	}
	if err != nil {
		return at, false, err
	}
	now := r.clock.Now()
	if at.Holder == r.store.me && r.heldUntil.Sub(now) >= renewBelow {
		return at, true, nil
	}
	if at.Holder != r.store.me && at.HeldUntil >= now.UnixMicro() {
		r.heldUntil = time.Time{}
		return at, false, nil
	}
	if held, err = r.store.take(ctx, now, lease); err != nil || !held {
		r.heldUntil = time.Time{}
		return at, false, err
	}
	if r.heldUntil = now.Add(lease); at.Holder != r.store.me {
		at, err = r.store.read(ctx) // the other one may have moved it
	}
	return at, err == nil, err
}

// next gathers the batch to deliver: the one that may have been sent, or the next one.
func (r *runner) next(ctx context.Context, at row, size int64) (b Batch, found bool, err error) {
	b = Batch{Sink: r.target.Name, From: at.Next, Until: at.Until, Repeated: at.Until > at.Next}
	end, bound := size, r.target.Size
	if b.Repeated {
		end, bound = at.Until, Size{Events: int(min(at.Until-at.Next, maxBatch))}
	} else if !r.due(size - at.Next) {
		return b, false, nil
	}
	bytes := 0
	for b.Until = at.Next; b.Until < end && len(b.Entries) < bound.Events && (bound.Bytes == 0 || bytes < bound.Bytes); {
		limit := min(readAtOnce, bound.Events-len(b.Entries))
		entries, next, err := r.log.Between(ctx, audit.Span{From: b.Until, Until: end}, limit)
		if err != nil {
			return b, false, err
		}
		for i := range entries {
			bytes += sizeOf(&entries[i].Event)
			b.Entries, b.Until = append(b.Entries, entries[i]), entries[i].Leaf+1
			if bound.Bytes != 0 && bytes >= bound.Bytes {
				return b, true, nil
			}
		}
		b.Until = next
	}
	return b, b.Until > b.From, nil
}

// due says whether enough events wait, or have waited long enough.
func (r *runner) due(events int64) bool {
	now := r.clock.Now()
	switch {
	case events <= 0:
		r.waiting = time.Time{}
		return false
	case r.target.Size.Linger == 0 || events >= int64(r.target.Size.Events):
		return true
	case r.waiting.IsZero():
		r.waiting = now
	}
	return now.Sub(r.waiting) >= r.target.Size.Linger
}

// deliver delivers a batch and moves the cursor past it.
func (r *runner) deliver(ctx context.Context, at row, b Batch) error {
	gone := b.Until - b.From - int64(len(b.Entries))
	skipped := gone
	if len(b.Entries) > 0 {
		if !b.Repeated || b.Until != at.Until {
			if err := r.store.intend(ctx, b.From, b.Until); err != nil {
				return err
			}
		}
		err := r.send(ctx, b)
		if refused, ok := errors.AsType[rejected](err); ok {
			r.logger.ErrorContext(ctx, "an audit sink's receiver rejects events for good; they are skipped", "count", refused.events, "reason", refused.reason,
				"from_leaf", b.From, "before_leaf", b.Until)
			skipped, err = skipped+refused.events, nil
		}
		switch {
		case err == nil:
			ctx = context.WithoutCancel(ctx) // also when the server stops
		case ctx.Err() != nil:
			return context.Cause(ctx)
		default:
			return r.fail(ctx, b, err)
		}
	}
	if err := r.store.confirm(ctx, b.From, b.Until, skipped, r.clock.Now()); err != nil {
		return err
	}
	r.waiting = time.Time{}
	if gone > 0 {
		r.logger.WarnContext(ctx, "events were removed from the log before an audit sink had them", "count", gone, "from_leaf", b.From, "before_leaf", b.Until)
	}
	if r.failures > 0 {
		r.logger.InfoContext(ctx, "audit sink delivers again", "after", r.clock.Now().Sub(r.failed).Round(time.Millisecond).String(), "failures", r.failures)
	}
	r.failures, r.retryAt = 0, time.Time{}
	r.see(func(s *Status) { s.Lag, s.Failing, s.Confirmed = max(0, s.Lag-(b.Until-b.From)), false, r.clock.Now() })
	return nil
}

func (r *runner) send(ctx context.Context, b Batch) (err error) {
	if r.sink == nil {
		if r.sink, err = r.target.Open(); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, deliverTime)
	defer cancel()
	delivered := make(chan struct{})
	var renewing sync.WaitGroup
	renewing.Go(func() { r.renew(ctx, cancel, delivered) })
	defer renewing.Wait()
	defer close(delivered)
	return r.sink.Deliver(ctx, b)
}

// renew keeps the lease while a batch is delivered, and stops that when it is lost.
func (r *runner) renew(ctx context.Context, lost func(), delivered <-chan struct{}) {
	ticker := time.NewTicker(renewEvery)
	defer ticker.Stop()
	for {
		select {
		case <-delivered:
			return
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		now := r.clock.Now()
		switch taken, err := r.store.take(ctx, now, lease); {
		case err != nil: // maybe the next time
		case taken:
			r.heldUntil = now.Add(lease)
		default:
			lost()
			return
		}
	}
}

// fail notes a delivery that failed, and when to try again.
func (r *runner) fail(ctx context.Context, b Batch, failure error) error {
	now := r.clock.Now()
	if r.failures++; r.failures == 1 {
		r.failed = now
		r.logger.ErrorContext(ctx, "audit sink fails; trying again until it takes the events", "error", failure, "from_leaf", b.From)
	}
	r.see(func(s *Status) { s.Failing = true; s.Failures++ })
	wait := min(firstWait<<min(r.failures-1, 10), lastWait)
	wait = wait/2 + rand.N(wait/2)
	if said, ok := errors.AsType[after](failure); ok {
		wait = min(max(wait, said.wait), 10*lastWait)
	}
	if errors.Is(failure, errTooLarge) && len(b.Entries) > 1 {
		wait = 0
		if err := r.store.intend(ctx, b.From, b.Entries[len(b.Entries)/2].Leaf); err != nil {
			return err
		}
	}
	r.retryAt = now.Add(wait)
	return r.store.failed(ctx, now)
}

// sizeOf is about how many bytes an event's line has.
func sizeOf(e *audit.Event) int {
	const names = 300 // and punctuation
	n := names + len(e.ActorID) + len(e.ActorName) + len(e.SessionID) + len(e.APIKeyID) + len(e.Action) + len(e.Reason) +
		len(e.Resource) + len(e.IP) + len(e.UserAgent) + len(e.RequestID) + len(e.RecordedBy)
	for key, value := range e.Details {
		n += len(key) + len(value) + 6
	}
	return n
}
