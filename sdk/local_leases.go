package tollgate

import (
	"cmp"
	"context"
	"log/slog"
	"math"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"connectrpc.com/connect"
	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
	"github.com/tollgatehq/tollgate/internal/subnet"
)

const (
	maxStocks   = 16_384 // keys that are remembered
	maxAsking   = 64     // leases that are asked for at once
	maxCounting = 8      // limits that count one call; Tollgate counts those with more
	maxWant     = 1_000_000

	hotCalls   = 8 // within hotFor; keys with fewer calls have no leases
	hotFor     = time.Second
	firstLease = 100 * time.Millisecond // how long a limit's leases are valid, until one has come
	afterError = time.Second            // until a lease is asked for again
)

// leases are calls that Tollgate has counted ahead of time. A call passes here when
// each limit that counts it has a lease that covers it. All others are asked about,
// and take nothing from leases: Tollgate counts them.
//
// A lease belongs to a limit as the policy has it, by its pointer: one of before a
// change is never found after it.
type leases struct {
	now   func() time.Time
	ask   func(context.Context, LeaseLimitRequest) (*Lease, error)
	start func(func()) // runs it in the background
	ctx   context.Context
	log   *slog.Logger

	mu      sync.RWMutex // taken before that of a stock
	stocks  generations[stockKey, *stock]
	without map[*tollgatev1.PolicyLimit]struct{} // limits of which this service gets none
	asking  int
	denied  bool // this service may not lease
	told    bool // and the log says so
	closed  bool
}

func newLeases(ctx context.Context, client *Client, start func(func())) *leases {
	return &leases{
		now: client.now, ask: client.LeaseLimit, start: start, ctx: ctx, log: client.log,
		stocks: newGenerations[stockKey, *stock](), without: map[*tollgatev1.PolicyLimit]struct{}{},
	}
}

// stockKey is whom a limit counts.
type stockKey struct {
	limit   *tollgatev1.PolicyLimit
	text    string
	network netip.Prefix
}

// stockKeyOf is whom the limit counts for a call; false when that is not known here.
func stockKeyOf(l *tollgatev1.PolicyLimit, who *known, r *AuthorizeRequest) (key stockKey, ok bool) {
	key.limit = l
	switch l.GetSubject() {
	case tollgatev1.Subject_SUBJECT_USER:
		key.text = who.principal.UserID
	case tollgatev1.Subject_SUBJECT_API_KEY:
		key.text = who.principal.APIKeyID
	case tollgatev1.Subject_SUBJECT_IP:
		key.network = subnet.Of(r.IP, subnet.Client)
	case tollgatev1.Subject_SUBJECT_USER_IP:
		key.text, key.network = who.principal.UserID, subnet.Of(r.IP, subnet.Client)
	case tollgatev1.Subject_SUBJECT_CUSTOM:
		key.text = r.Context[l.GetContextKey()]
	case tollgatev1.Subject_SUBJECT_GLOBAL:
	default:
		return key, false
	}
	return key, l.GetLease()
}

// name is the key as LeaseLimit takes it.
func (k stockKey) name() string {
	switch k.limit.GetSubject() {
	case tollgatev1.Subject_SUBJECT_IP:
		return k.network.Addr().String()
	case tollgatev1.Subject_SUBJECT_USER_IP:
		return k.text + "@" + k.network.Addr().String()
	default:
		return k.text
	}
}

// counting are the limits that count a call, each once.
type counting struct {
	limits [maxCounting]*tollgatev1.PolicyLimit
	n      int
	more   bool
}

func (c *counting) add(l *tollgatev1.PolicyLimit) {
	if slices.Contains(c.limits[:c.n], l) {
		return
	}
	if c.n == len(c.limits) {
		c.more = true
		return
	}
	c.limits[c.n] = l
	c.n++
}

// pass reports whether the call may pass by leases of all limits that count it, and
// takes it from them. Otherwise it takes nothing.
func (l *leases) pass(of *counting, who *known, r *AuthorizeRequest, now time.Time) bool {
	if of.n == 0 || of.more {
		return !of.more
	}
	var keys [maxCounting]stockKey
	for i, limit := range of.limits[:of.n] {
		var ok bool
		if keys[i], ok = stockKeyOf(limit, who, r); !ok {
			return false
		}
	}
	cost, all, hopeless := max(1, r.Cost), true, false
	var taken [maxCounting]*granted
	var stocks [maxCounting]*stock
	var wants [maxCounting]int64
	for i, key := range keys[:of.n] {
		stocks[i] = l.stock(key)
		var waits bool
		taken[i], wants[i], waits = stocks[i].take(cost, now)
		all, hopeless = all && taken[i] != nil, hopeless || waits
	}
	for i, want := range wants[:of.n] {
		if want > 0 && !hopeless {
			l.order(stocks[i], want, now)
		}
	}
	// This process may have been stopped since it looked at the clock.
	for i, now := 0, l.now(); i < of.n && all; i++ {
		all = taken[i].valid(now)
	}
	if !all {
		for _, from := range taken[:of.n] {
			from.giveBack(cost)
		}
	}
	return all
}

// stock returns what is held for a key. Keys that were not used for long are
// forgotten, with what is held for them.
func (l *leases) stock(key stockKey) *stock {
	l.mu.RLock()
	s := l.stocks.young[key]
	l.mu.RUnlock()
	if s != nil {
		return s
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	s, found := l.stocks.get(key)
	if !found {
		key.text = strings.Clone(key.text) // it may be a part of a large request
		s = &stock{key: key, lasts: firstLease}
	}
	if len(l.stocks.young) >= maxStocks/2 {
		l.stocks.rotate()
	}
	delete(l.stocks.old, key)
	l.stocks.set(s.key, s)
	return s
}

// order asks for a lease in the background, unless too many are asked for.
func (l *leases) order(s *stock, want int64, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !s.begin(now) {
		return
	}
	_, none := l.without[s.key.limit]
	if l.closed || l.denied || none || l.asking >= maxAsking {
		s.refused(afterError, now)
		return
	}
	l.asking++
	l.start(func() { l.fetch(s, want) })
}

func (l *leases) fetch(s *stock, want int64) {
	lease, err := l.ask(l.ctx, LeaseLimitRequest{Limit: s.key.limit.GetName(), Key: s.key.name(), Want: want})
	switch {
	case err != nil:
		s.refused(afterError, l.now())
	case lease.Granted <= 0:
		s.refused(cmp.Or(lease.RetryAfter, afterError), l.now())
	case !lease.Valid(): // the way here takes too long, and the calls are lost
		s.refused(afterError, l.now())
	default:
		s.hold(lease)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.asking--; err != nil {
		l.failed(s.key.limit, toError(err))
	}
}

// failed remembers what does not change by itself. The lock is held.
func (l *leases) failed(limit *tollgatev1.PolicyLimit, err *Error) {
	switch err.Code {
	case connect.CodePermissionDenied:
		if err.Reason == "LIMITS_TOLLGATE" { // about this limit
			l.without[limit] = struct{}{}
			return
		}
		if l.denied = true; !l.told {
			l.told = true
			l.log.Warn("tollgate: this service may not lease limits, so each call that one counts is asked about; give it tollgate:limits:check", "error", err)
		}
	case connect.CodeFailedPrecondition, connect.CodeNotFound, connect.CodeInvalidArgument, connect.CodeUnimplemented:
		l.without[limit] = struct{}{}
	}
}

// keep drops what belongs to limits that have changed or gone. After another snapshot
// that is everything, and what this service may do is not known.
func (l *leases) keep(p *policy, first bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.denied = l.denied && !first
	for _, half := range [...]map[stockKey]*stock{l.stocks.young, l.stocks.old} {
		for key := range half {
			if p.limits[key.limit.GetName()] != key.limit {
				delete(half, key)
			}
		}
	}
	for limit := range l.without {
		if p.limits[limit.GetName()] != limit {
			delete(l.without, limit)
		}
	}
}

// close lets no lease be asked for any more.
func (l *leases) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
}

// granted is what is left of a lease.
type granted struct {
	stock    *stock
	began    instant
	validFor time.Duration
	all      int64
	left     int64 // the stock's lock is held
}

func (g *granted) valid(now time.Time) bool {
	return g != nil && g.began.age(now) < g.validFor
}

// giveBack undoes a take.
func (g *granted) giveBack(cost int64) {
	if g != nil {
		g.stock.mu.Lock()
		defer g.stock.mu.Unlock()
		g.left += cost
	}
}

// stock is what is held for one key, and how much it is used.
type stock struct {
	key stockKey

	mu     sync.Mutex
	held   [2]*granted // the older first
	lasts  time.Duration
	asking bool
	from   instant // from then on nothing is asked for
	wait   time.Duration

	calls  int
	recent [hotCalls]int64 // when they were
	since  time.Time
	demand int64 // since then
}

// take takes a call from what is held: nil when that is not enough. want is how many
// calls to ask for, 0 for none; waits, that there will be none for a while.
func (s *stock) take(cost int64, now time.Time) (from *granted, want int64, waits bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	hot := s.note(cost, now)
	var all, left int64
	ending := true
	for _, g := range s.held {
		if !g.valid(now) {
			continue
		}
		if from == nil && g.left >= cost {
			g.left -= cost
			from = g
		}
		all, left = all+g.all, left+g.left
		ending = g.began.age(now) >= g.validFor/10*7
	}
	waits = from == nil && s.from.age(now) < s.wait
	if !hot || s.asking || s.from.age(now) < s.wait || left*10 > all*3 && !ending {
		return from, 0, waits
	}
	return from, s.want(cost, left, now), false
}

// begin reports whether to ask for a lease now; not twice at once.
func (s *stock) begin(now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.asking {
		return false
	}
	s.asking, s.since, s.demand = true, now, 0
	return true
}

// note counts a call, and reports whether the key is hot.
func (s *stock) note(cost int64, now time.Time) bool {
	if age := now.Sub(s.since); age < 0 || age > hotFor {
		s.since, s.demand = now, 0
	}
	s.demand += cost
	s.recent[s.calls%hotCalls] = now.UnixNano()
	s.calls++
	return s.calls >= hotCalls && now.UnixNano()-s.recent[s.calls%hotCalls] <= int64(hotFor)
}

// want is what will be used within a lease, but for what is left, and no less than
// this call.
func (s *stock) want(cost, left int64, now time.Time) int64 {
	measured := max(now.Sub(s.since), s.lasts/4)
	used := math.Ceil(float64(s.demand) * float64(s.lasts) / float64(measured))
	return int64(min(max(used-float64(left), float64(cost)), maxWant))
}

// refused is that nothing was granted, and for how long nothing is asked for.
func (s *stock) refused(wait time.Duration, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asking, s.from, s.wait = false, instantOf(now), wait
}

// hold keeps a lease, and of those before only the latest.
func (s *stock) hold(l *Lease) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asking, s.lasts = false, max(l.ValidFor, time.Millisecond)
	s.held[0], s.held[1] = s.held[1], &granted{stock: s, began: l.began, validFor: l.ValidFor, all: l.Granted, left: l.Granted}
}
