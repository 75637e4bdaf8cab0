package overview

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/limits"
)

const (
	maxUses = 256
	// usesShare is how many keys of one limit are kept: a flood of one limit's keys
	// drives out no other's.
	usesShare = maxUses / 4
)

// LimitUse is a limit and a key of it that was counted lately, near its end.
type LimitUse struct {
	limits.Use

	CountedAt time.Time
	ResetsAt  time.Time
}

// uses are those that have the least left.
type uses struct {
	mu   sync.Mutex
	at   map[useKey]int
	list []LimitUse
	of   map[string]int // how many of a limit
}

type useKey struct{ limit, key string }

func (u LimitUse) id() useKey { return useKey{u.Limit, u.Key} }

// counted takes notice of a counter. It waits for nobody: of counts at the same time
// one is enough.
func (u *uses) counted(use limits.Use, now time.Time) {
	if !u.mu.TryLock() {
		return
	}
	defer u.mu.Unlock()
	use.Key = cut(use.Key)
	in := LimitUse{use, now, now.Add(use.Reset)}
	if i, known := u.at[in.id()]; known {
		u.list[i] = in
		return
	}
	full, crowded := len(u.list) == maxUses, u.of[use.Limit] >= usesShare
	if full || crowded {
		gone, found := u.victim(now, crowded, use.Limit)
		if !found || u.list[gone].ResetsAt.After(now) && !less(in, u.list[gone]) {
			return // it has more left than all of these
		}
		u.drop(gone)
	}
	if u.at == nil {
		u.at, u.of = map[useKey]int{}, map[string]int{}
	}
	u.at[in.id()] = len(u.list)
	u.of[use.Limit]++
	u.list = append(u.list, in)
}

// victim is the entry that is missed least: one that is over, or else the one with the
// most left, of one limit or of all.
func (u *uses) victim(now time.Time, ofOne bool, limit string) (at int, found bool) {
	for i, e := range u.list {
		switch {
		case ofOne && e.Limit != limit:
		case !e.ResetsAt.After(now):
			return i, true
		case !found || less(u.list[at], e):
			at, found = i, true
		}
	}
	return at, found
}

func (u *uses) drop(i int) {
	gone := u.list[i]
	delete(u.at, gone.id())
	if u.of[gone.Limit]--; u.of[gone.Limit] == 0 {
		delete(u.of, gone.Limit)
	}
	last := len(u.list) - 1
	if i != last {
		u.list[i] = u.list[last]
		u.at[u.list[i].id()] = i
	}
	u.list = u.list[:last]
}

// least returns those that have the least left.
func (u *uses) least(n int, now time.Time) []LimitUse {
	u.mu.Lock()
	list := slices.DeleteFunc(slices.Clone(u.list), func(e LimitUse) bool {
		return !e.ResetsAt.After(now) || e.CountedAt.Before(now.Add(-Window))
	})
	u.mu.Unlock()
	slices.SortFunc(list, func(a, b LimitUse) int {
		switch {
		case less(a, b):
			return -1
		case less(b, a):
			return 1
		}
		return cmp.Or(b.CountedAt.Compare(a.CountedAt), cmp.Compare(a.Limit, b.Limit), cmp.Compare(a.Key, b.Key))
	})
	return list[:min(n, len(list))]
}

// less says whether a has a smaller share of its quota left than b.
func less(a, b LimitUse) bool {
	if a.Exceeded != b.Exceeded {
		return a.Exceeded
	}
	return a.Remaining*b.Quota < b.Remaining*a.Quota // both are at most 1e9
}
