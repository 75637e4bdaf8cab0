package overview

import (
	"cmp"
	"slices"
	"sync"
	"time"
)

const (
	topSlots = 15  // parts of the window, each counted by itself
	topSize  = 256 // entries of a slot
	// topShare is how many entries of a slot one origin may have: what it does besides
	// is counted together, so that nobody's many names drive out the others'.
	topShare = topSize / 4

	slotLength = Window / topSlots
)

// top counts the most frequent keys of the window, in bounded memory: by the
// Space-Saving algorithm (Metwally, Agrawal and El Abbadi, 2005) in each slot. A key
// that is counted more often than a 256th of all is always among the entries.
type top[K comparable] struct {
	rest func(K) (origin, other K) // a key's origin, and what counts what is over its share

	mu    sync.Mutex
	slots [topSlots]slot[K]
}

type slot[K comparable] struct {
	number  int64 // since 1970
	total   uint64
	at      map[K]int
	entries []entry[K]
	origins map[K]int
}

type entry[K comparable] struct {
	key   K
	count uint64
	over  uint64 // of count, what may be other keys'
}

// add counts a key once.
func (t *top[K]) add(key K, now time.Time) {
	number := now.UnixNano() / int64(slotLength)
	t.mu.Lock()
	defer t.mu.Unlock()
	s := &t.slots[number%topSlots]
	if s.number != number {
		*s = slot[K]{number: number, at: map[K]int{}, origins: map[K]int{}}
	}
	s.total++
	if i, known := s.at[key]; known {
		s.entries[i].count++
		return
	}
	origin, other := t.rest(key)
	if s.origins[origin] >= topShare {
		if key = other; s.has(key) {
			s.entries[s.at[key]].count++
			return
		}
	}
	s.origins[origin]++
	if len(s.entries) < topSize {
		s.at[key] = len(s.entries)
		s.entries = append(s.entries, entry[K]{key: key, count: 1})
		return
	}
	least := s.least()
	gone := &s.entries[least]
	origin, _ = t.rest(gone.key)
	if s.origins[origin]--; s.origins[origin] == 0 {
		delete(s.origins, origin)
	}
	delete(s.at, gone.key)
	s.at[key] = least
	*gone = entry[K]{key: key, count: gone.count + 1, over: gone.count}
}

func (s *slot[K]) has(key K) bool { _, has := s.at[key]; return has }

// least is the entry with the smallest count.
func (s *slot[K]) least() int {
	least := 0
	for i, e := range s.entries {
		if e.count < s.entries[least].count {
			least = i
		}
	}
	return least
}

type ranked[K comparable] struct {
	key K
	Refusals
}

// most returns the keys counted most often in the window, and how much was counted in
// all.
func (t *top[K]) most(n int, now time.Time) (list []ranked[K], total uint64) {
	newest := now.UnixNano() / int64(slotLength)
	at := map[K]int{}
	var more []int64
	spilled := int64(0) // what a key may have been counted that is in no entry
	t.mu.Lock()
	for i := range t.slots {
		s := &t.slots[i]
		if s.number <= newest-topSlots || s.number > newest {
			continue
		}
		total += s.total
		missing := int64(0)
		if len(s.entries) == topSize {
			missing = int64(s.entries[s.least()].count)
		}
		spilled += missing
		for _, e := range s.entries {
			j, known := at[e.key]
			if !known {
				j = len(list)
				at[e.key] = j
				list, more = append(list, ranked[K]{key: e.key}), append(more, 0)
			}
			list[j].Count += e.count - e.over
			more[j] += int64(e.over) - missing // it is in this slot
		}
	}
	t.mu.Unlock()
	for i := range list {
		list[i].MaybeMore = uint64(more[i] + spilled)
	}
	slices.SortStableFunc(list, func(a, b ranked[K]) int { return cmp.Compare(b.Count, a.Count) })
	return list[:min(n, len(list))], total
}
