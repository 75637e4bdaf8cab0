package audit

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/database"
	"github.com/tollgatehq/tollgate/server/internal/fault"
)

const (
	pollEvery     = 500 * time.Millisecond // without a Wake
	readAtOnce    = 200
	watcherBuffer = 256                    // events that a watcher may be behind
	watcherGrace  = 250 * time.Millisecond // how long one whose buffer is full delays the others
	joinTime      = 5 * time.Second
	maxMissed     = 10_000 // newer events that a resumed watch reads
)

// Subscription is a watch that has begun.
type Subscription struct {
	filter Filter
	begun  mark
	events chan *Event
	err    error // set before events is closed

	resumes     bool
	from, until place // what a resumed watch has missed

	joined chan error // buffers the one answer
	gone   chan struct{}
	once   sync.Once
}

// Events gives every event that the filter lets through and that committed
// after Subscribe returned, once each, in an order of commits. It is closed
// when the watch ends; Err then says why. Other watchers are given the same
// events: do not change them.
func (w *Subscription) Events() <-chan *Event { return w.events }

// Err is why Events was closed, a fault of kind Unavailable.
func (w *Subscription) Err() error { return w.err }

// Close ends the watch from the watcher's side. Events is not closed by it.
func (w *Subscription) Close() { w.once.Do(func() { close(w.gone) }) }

// Subscribe begins a watch. The caller must Close it, and must not fall more
// than 256 events behind: then the watch ends with WATCHER_TOO_SLOW.
//
// On PostgreSQL an event is given once every transaction older than its own
// has ended, so a transaction left open on that server holds watches up.
func (s *Service) Subscribe(ctx context.Context, f Filter) (*Subscription, error) {
	return s.subscribe(ctx, newSubscription(f))
}

// Resume is Subscribe for a watch that has received the events up to one, by its
// id, empty for none: Missed gives those since then. It is Precondition, LAST_EVENT_UNKNOWN, when
// the log does not hold it.
func (s *Service) Resume(ctx context.Context, f Filter, lastID string) (*Subscription, error) {
	w := newSubscription(f)
	if lastID == "" {
		return s.subscribe(ctx, w)
	}
	last, err := placeOf(ctx, s.db, text(lastID, nameSize))
	switch {
	case errors.Is(err, database.ErrNoRows):
		return nil, fault.New(fault.Precondition, "LAST_EVENT_UNKNOWN",
			"the audit log has no event of the id that this watch would resume after; list the events, then watch without one")
	case err != nil:
		return nil, fault.Down("the audit log", err)
	}
	w.resumes, w.from = true, last.next()
	w.begun = mark{start: w.from, end: w.from}
	return s.subscribe(ctx, w)
}

// Missed gives send the events between the last one received and what Events
// gives, in the order of a watch. It is Precondition, LAST_EVENT_TOO_OLD, after
// 10,000 events.
func (s *Service) Missed(ctx context.Context, w *Subscription, send func(*Event) error) error {
	for from, read := w.from, 0; w.resumes && from.before(w.until); {
		rows, err := since(ctx, s.db, s.db.Dialect, from, 0, readAtOnce)
		if err != nil {
			return fault.Down("the audit log", err)
		}
		for i := range rows {
			if !rows[i].place.before(w.until) {
				return nil
			}
			e := rows[i].event()
			if !w.filter.match(&e) {
				continue
			}
			if err := send(&e); err != nil {
				return err
			}
		}
		if len(rows) < readAtOnce {
			return nil
		}
		if read += len(rows); read >= maxMissed {
			return fault.New(fault.Precondition, "LAST_EVENT_TOO_OLD",
				"more than %d events are newer than the last one received; list the events, then watch without it", maxMissed)
		}
		from = rows[len(rows)-1].next()
	}
	return nil
}

func newSubscription(f Filter) *Subscription {
	return &Subscription{
		filter: f.stored(), events: make(chan *Event, watcherBuffer),
		joined: make(chan error, 1), gone: make(chan struct{}),
	}
}

func (s *Service) subscribe(ctx context.Context, w *Subscription) (*Subscription, error) {
	timer := time.NewTimer(joinTime)
	defer timer.Stop()
	select {
	case s.joins <- w:
	case <-s.unwatched:
		return nil, stopping()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-timer.C:
		return nil, fault.Down("the audit log", nil)
	}
	select {
	case err := <-w.joined:
		if err != nil {
			return nil, err
		}
		return w, nil
	case <-ctx.Done():
		w.Close()
		return nil, context.Cause(ctx)
	}
}

// Wake schedules a read of the log for the watchers.
func (s *Service) Wake() {
	select {
	case s.wake <- struct{}{}:
	default: // one is scheduled already
	}
}

// tail reads the log for all watchers. Its goroutine alone adds watchers and
// reads, so that neither can miss the other: a watcher's mark is taken between
// two reads, and what a read returns goes to all who joined before it.
type tail struct {
	*Service
	watchers map[*Subscription]struct{}
	at       place // means nothing while there are no watchers
	broken   bool
}

func (s *Service) tail(ctx context.Context) {
	t := tail{Service: s, watchers: map[*Subscription]struct{}{}}
	defer func() {
		close(s.unwatched)
		for w := range t.watchers {
			t.end(w, stopping())
		}
	}()
	ticker := time.NewTicker(pollEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case w := <-s.joins:
			w.joined <- t.join(ctx, w)
			continue
		case <-ticker.C:
		case <-s.wake:
		}
		if ctx.Err() == nil {
			t.poll(ctx)
		}
	}
}

// join adds a watcher. With the first one, reading begins at its mark.
func (t *tail) join(ctx context.Context, w *Subscription) error {
	t.sweep()
	begun, err := now(ctx, t.db)
	if err != nil {
		return fault.Down("the audit log", err)
	}
	if len(t.watchers) == 0 {
		t.at = begun.start
	}
	if w.resumes {
		w.until = t.at
	} else {
		w.begun = begun
	}
	t.watchers[w] = struct{}{}
	return nil
}

// poll sends the watchers everything new. After an error the next poll goes on
// from the same place.
func (t *tail) poll(ctx context.Context) {
	for t.sweep(); len(t.watchers) > 0; t.sweep() {
		rows, err := since(ctx, t.db, t.db.Dialect, t.at, 0, readAtOnce)
		if err != nil {
			if !t.broken && ctx.Err() == nil {
				t.broken = true
				t.log.ErrorContext(ctx, "cannot read the audit log for its watchers; retrying", "error", err)
			}
			return
		}
		if t.broken {
			t.broken = false
			t.log.InfoContext(ctx, "reading the audit log for its watchers again")
		}
		t.send(ctx, rows)
		if len(rows) > 0 {
			t.at = rows[len(rows)-1].next()
		}
		if len(rows) < readAtOnce {
			return
		}
	}
}

// send sends the rows to the watchers whose filter lets them through. Those whose
// buffer is full share one grace period.
func (t *tail) send(ctx context.Context, rows []row) {
	var grace context.Context
	for i := range rows {
		e := rows[i].event()
		for w := range t.watchers {
			if w.begun.includes(rows[i].place) || !w.filter.match(&e) {
				continue
			}
			select {
			case w.events <- &e:
				continue
			default:
			}
			if grace == nil {
				var cancel context.CancelFunc
				grace, cancel = context.WithTimeout(ctx, watcherGrace) //nolint:fatcontext // at most once: it is nil before
				defer cancel()
			}
			select {
			case w.events <- &e:
			case <-w.gone:
				delete(t.watchers, w)
			case <-grace.Done():
				if ctx.Err() != nil {
					return // all watches are ending
				}
				t.end(w, tooSlow())
			}
		}
	}
}

// sweep removes watchers that are gone.
func (t *tail) sweep() {
	for w := range t.watchers {
		select {
		case <-w.gone:
			delete(t.watchers, w)
		default:
		}
	}
}

// end ends a watch with an error.
func (t *tail) end(w *Subscription, err error) {
	delete(t.watchers, w)
	w.err = err
	close(w.events)
}

func tooSlow() *fault.Error {
	return fault.New(fault.Unavailable, "WATCHER_TOO_SLOW",
		"this watch fell %d events behind; list the events after the last one received, then watch again", watcherBuffer)
}
