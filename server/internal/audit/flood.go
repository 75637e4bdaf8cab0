package audit

import (
	ordered "container/list"
	"context"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/clock"
)

// The bounds of what is kept about refusals that are counted.
const (
	// floodWindow is for how long refusals of one kind and key make one event.
	floodWindow = 10 * time.Second
	// floodsOpen is how many kinds and keys are counted separately: about 10 MB.
	floodsOpen = 10_000
	// How many of them one origin may have. Further ones are counted together
	// under the origin, so that one origin's flood does not displace others.
	floodsPerAddress = 16
	floodsPerNetwork = 64   // an IPv6 /48, which one customer gets
	floodsPerActor   = 64   // an authenticated caller
	floodsAnonymous  = 2000 // all unauthenticated callers
)

// RecordRefusal is Record for a refusal, of which there may be a flood: the
// first of its kind and key is recorded at once; those of the next ten seconds
// become one event, which has their number as its detail "refused" and the time
// of the first as "since". So the number of refusals is the sum of "refused",
// where an event without it stands for one. What is counted and not yet written
// is lost only when the process is killed.
//
// Of an origin with very many kinds and keys the further ones are counted
// together; their event has the origin as its detail "from".
func (s *Service) RecordRefusal(ctx context.Context, e Event, kind, key string) error {
	e.fit() // it is kept
	first, evicted := s.floods.add(e, floodKey{kind, key})
	for _, f := range evicted {
		summary := entry{event: f.summary(), lost: func() { s.floods.restore(f) }}
		summary.event.complete(s.clock)
		if err := s.record(ctx, summary); err != nil {
			return err
		}
	}
	if !first {
		return nil
	}
	// One that was not written is forgotten, so that the next one is the first. A
	// caller that hangs up is not: each of a flood of them would be the first.
	e.complete(s.clock)
	return s.record(ctx, entry{event: e, lost: func() { s.floods.forget(floodKey{kind, key}) }})
}

// Flush writes what was counted, also of windows that have not ended. Run does
// so when it ends.
func (s *Service) Flush(ctx context.Context) error {
	if s.sweep(ctx, true) {
		return unavailable()
	}
	return nil
}

// Origin is who a refused call is counted under: the actor or, of an unknown
// caller, the address, of IPv6 its /64.
func (e Event) Origin() string {
	if e.ActorID != "" {
		return e.ActorID
	}
	return network(e.IP, 64)
}

// network is caller.Network, empty for what is no address.
func network(address string, bits int) string {
	ip, err := netip.ParseAddr(address)
	if err != nil {
		return ""
	}
	return caller.Network(ip, bits)
}

// origin is a group of floods with a bound of its own.
type origin struct {
	name string
	most int
}

// origins are what the event's caller is part of, the narrowest first.
func (e Event) origins() []origin {
	if e.ActorID != "" {
		return []origin{{"user " + e.ActorID, floodsPerActor}}
	}
	all := []origin{{"address " + network(e.IP, 64), floodsPerAddress}}
	if ip, err := netip.ParseAddr(e.IP); err == nil && !ip.Unmap().Is4() {
		all = append(all, origin{"network " + network(e.IP, 48), floodsPerNetwork})
	}
	return append(all, origin{"many addresses", floodsAnonymous})
}

// floods counts refusals by kind and key.
type floods struct {
	clock clock.Clock
	mu    sync.Mutex
	open  map[floodKey]*ordered.Element // of *flood
	order *ordered.List                 // the one whose window ends first in front
	sizes map[string]int                // open floods by the name of an origin
}

type floodKey struct{ kind, key string }

type flood struct {
	floodKey
	origins []origin // that it counts for
	event   Event    // the newest refusal
	since   time.Time
	until   time.Time
	count   int // refusals that are not recorded yet
}

func newFloods(clk clock.Clock) *floods {
	return &floods{clock: clk, open: map[floodKey]*ordered.Element{}, order: ordered.New(), sizes: map[string]int{}}
}

// add counts a refusal, unless it is the first: the caller records that one as it
// is, and the evicted floods.
func (f *floods) add(e Event, k floodKey) (first bool, evicted []*flood) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := f.clock.Now()
	var origins []origin
	found := f.open[k]
	if found == nil {
		origins = e.origins()
		for _, o := range origins {
			if f.sizes[o.name] >= o.most {
				k, origins, e = floodKey{"from " + string(e.Action), o.name}, nil, e.from(o.name)
				found = f.open[k]
				break
			}
		}
	}
	if found != nil {
		found.Value.(*flood).add(e, now, 1)
		return false, nil
	}
	if len(f.open) >= floodsOpen {
		if oldest := f.remove(f.order.Front()); oldest.count > 0 {
			evicted = append(evicted, oldest)
		}
	}
	f.insert(&flood{floodKey: k, origins: origins, event: e, until: now.Add(floodWindow)})
	return true, evicted
}

func (f *flood) add(e Event, at time.Time, n int) {
	if f.count == 0 {
		f.since = at
	}
	f.event, f.count = e, f.count+n
}

func (f *floods) insert(one *flood) {
	f.open[one.floodKey] = f.order.PushBack(one)
	for _, o := range one.origins {
		f.sizes[o.name]++
	}
}

func (f *floods) remove(at *ordered.Element) *flood {
	one := f.order.Remove(at).(*flood)
	delete(f.open, one.floodKey)
	for _, o := range one.origins {
		if f.sizes[o.name]--; f.sizes[o.name] == 0 {
			delete(f.sizes, o.name)
		}
	}
	return one
}

// ended returns up to most floods whose window has ended and that have something
// to record, and forgets the others. A flood that goes on gets another window,
// so that it makes one event a window. With everything, all windows have ended.
func (f *floods) ended(everything bool, most int) []*flood {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := f.clock.Now()
	var due []*flood
	for front := f.order.Front(); front != nil && len(due) < most; front = f.order.Front() {
		one := front.Value.(*flood)
		// A clock that was put back must not keep a window open.
		if now.Before(one.until) && !one.until.After(now.Add(floodWindow)) && !everything {
			break
		}
		f.remove(front)
		if one.count == 0 {
			continue
		}
		due = append(due, one)
		if !everything {
			f.insert(&flood{floodKey: one.floodKey, origins: one.origins, event: one.event, until: now.Add(floodWindow)})
		}
	}
	return due
}

// forget closes a flood that nothing was counted of.
func (f *floods) forget(k floodKey) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if at := f.open[k]; at != nil && at.Value.(*flood).count == 0 {
		f.remove(at)
	}
}

// restore counts again what could not be recorded.
func (f *floods) restore(one *flood) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if at := f.open[one.floodKey]; at != nil {
		again := at.Value.(*flood)
		again.add(again.event, one.since, one.count)
		again.since = one.since
		return
	}
	one.until = f.clock.Now().Add(floodWindow)
	f.insert(one)
}

// counted is how many refusals are not recorded yet.
func (f *floods) counted() (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, at := range f.open {
		n += at.Value.(*flood).count
	}
	return n
}

// summary is the event that stands for the counted refusals.
func (f *flood) summary() Event {
	return f.event.With("refused", strconv.Itoa(f.count)).With("since", f.since.UTC().Format(time.RFC3339))
}

// from is the event of refusals that have no more in common than their origin.
func (e Event) from(origin string) Event {
	return Event{Action: e.Action, Outcome: e.Outcome, Reason: e.Reason, ActorID: e.ActorID, ActorName: e.ActorName}.With("from", origin)
}
