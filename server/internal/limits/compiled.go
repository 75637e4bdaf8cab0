package limits

import (
	"net/netip"
	"slices"
	"strconv"

	"github.com/tollgatehq/tollgate/internal/perm"
)

// Request is a call to be counted.
type Request struct {
	Permission string
	Also       []string          // other permissions that the call is counted under, once by each limit
	UserID     string            // empty: limits for each user, and each at each IP, do not apply
	APIKeyID   string            // empty: limits for each API key do not apply
	IP         netip.Addr        // invalid: limits for each IP, and each user at each, do not apply
	Context    map[string]string // what custom limits count by
	Cost       int64             // how much the call counts; below 1 means 1
	NeverDeny  bool              // count as limits in shadow mode do: each by itself, and refuse nothing
	Only       []Subject         // just the limits of these subjects; empty: all
	Once       string            // who asks, and the call's idempotency key; empty: none
}

// rules is all limits, compiled. It does not change.
type rules struct {
	list   []*rule // by name
	byName map[string]*rule
}

// rule is a limit as counting needs it.
type rule struct {
	Limit
	counter   string
	overrides map[string]Override // by key
	wide      []wide              // those for more keys than one, the longest first
	windows   *windows            // of a calendar limit
}

func compile(list []Limit) *rules {
	all := &rules{byName: make(map[string]*rule, len(list))}
	for _, l := range list {
		r := &rule{Limit: l, counter: counterOf(l), windows: newWindows(l), overrides: make(map[string]Override, len(l.Overrides))}
		for _, o := range l.Overrides {
			if w, many := l.wideOf(o); many {
				r.wide = append(r.wide, w)
			} else {
				r.overrides[o.Key] = o
			}
		}
		byLength(r.wide)
		all.list = append(all.list, r)
		all.byName[l.Name] = r
	}
	return all
}

// counterOf names a limit's counters. A limit that is removed and made again
// counts anew, as does one that was reset for all keys, or whose algorithm
// or calendar changes. The parts hold no "@" and no colon.
func counterOf(l Limit) string {
	since := l.CreatedAt
	if l.ResetAt.After(since) {
		since = l.ResetAt
	}
	return l.Name + "@" + strconv.FormatInt(since.UnixMicro(), 36) + "@" + string(l.Algorithm) + calendarOf(l)
}

// calendarOf is the part of a counter's name for what its windows are; empty for other
// limits.
func calendarOf(l Limit) string {
	if l.Algorithm != Calendar {
		return ""
	}
	return "-" + string(l.Calendar) + "-" + l.TimeZone
}

// match is one limit that counts a call.
type match struct {
	rule *rule
	Count
}

// matches are all limits that count the request.
func (all *rules) matches(r Request) []match {
	var list []match
	for _, rule := range all.list {
		if len(r.Only) > 0 && !slices.Contains(r.Only, rule.Subject) {
			continue
		}
		if !perm.Covers(rule.Permission, r.Permission) &&
			!slices.ContainsFunc(r.Also, func(also string) bool { return perm.Covers(rule.Permission, also) }) {
			continue
		}
		if key, ok := rule.key(r); ok {
			c := rule.match(key, r.Cost)
			c.Shadow, c.Once = c.Shadow || r.NeverDeny, r.Once
			list = append(list, c)
		}
	}
	return list
}

// key is whom the limit counts for this request; false when it does not apply.
func (r *rule) key(q Request) (string, bool) {
	switch r.Subject {
	case SubjectUser:
		return q.UserID, q.UserID != ""
	case SubjectAPIKey:
		return q.APIKeyID, q.APIKeyID != ""
	case SubjectIP:
		if !q.IP.IsValid() {
			return "", false
		}
		return IPKey(q.IP), true
	case SubjectUserIP:
		if q.UserID == "" || !q.IP.IsValid() {
			return "", false
		}
		return userIPKey(q.UserID, q.IP), true
	case SubjectCustom:
		return q.Context[r.ContextKey], true
	default:
		return "", true
	}
}

// named is the match for a key as a caller wrote it.
func (r *rule) named(key string, cost int64) match {
	if canonical, ok := r.Subject.canonical(key); ok {
		key = canonical
	}
	return r.match(key, cost)
}

func (r *rule) match(key string, cost int64) match {
	rate, burst := r.Rate, r.AtOnce()
	if o, ok := r.override(key); ok {
		rate, burst = o.Rate, atOnce(r.Algorithm, o.Rate, o.Burst)
	}
	// More than the greatest burst never passes, however much more.
	cost = min(max(1, cost), maxRate+1)
	if r.Algorithm == Backoff {
		cost = 1
	}
	var starts starts
	if r.windows != nil {
		starts = r.windows.starts()
	}
	return match{r, Count{
		Counter: r.counter, Key: key, Algorithm: r.Algorithm, Rate: rate, Burst: burst,
		Period: r.Period.Microseconds(), Starts: starts, Shadow: r.Mode == Shadow, Cost: cost,
	}.leased(r.Limit)}
}

func counts(matches []match) []Count {
	list := make([]Count, len(matches))
	for i, c := range matches {
		list[i] = c.Count
	}
	return list
}
