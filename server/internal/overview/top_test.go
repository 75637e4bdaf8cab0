package overview

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/limits"
	"pgregory.net/rapid"
)

var start = time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)

type name struct{ origin, text string }

func newTop() *top[name] {
	return &top[name]{rest: func(k name) (origin, other name) { return name{origin: k.origin}, name{origin: k.origin} }}
}

func (t *top[K]) counted(key K, now time.Time) Refusals {
	list, _ := t.most(topSlots*topSize, now)
	for _, r := range list {
		if r.key == key {
			return r.Refusals
		}
	}
	return Refusals{}
}

// TestFloodOfNames: whoever makes up names gets a share of the entries, and hides
// neither others' nor what they do themselves.
func TestFloodOfNames(t *testing.T) {
	t.Parallel()
	counts := newTop()
	for i := range 10 {
		for range 5 {
			counts.add(name{"honest", fmt.Sprint("permission", i)}, start)
		}
	}
	for i := range 100_000 {
		counts.add(name{"attacker", fmt.Sprint("made-up", i)}, start)
	}
	counts.add(name{"late", "permission"}, start)
	for i := range 10 {
		if got := counts.counted(name{"honest", fmt.Sprint("permission", i)}, start); got.Count != 5 {
			t.Errorf("permission%d: %+v", i, got)
		}
	}
	backendtest.Equal(t, counts.counted(name{"late", "permission"}, start), Refusals{Count: 1}, "what came after the flood")
	list, total := counts.most(3, start)
	if list[0].key != (name{origin: "attacker"}) || list[0].Count != 100_000-topShare || total != 100_051 {
		t.Errorf("the flood itself: %+v of %d", list, total)
	}
}

// TestFloodOfAddresses: more origins than there are entries drive out those that are
// counted seldom, and no other; what that leaves open is said.
func TestFloodOfAddresses(t *testing.T) {
	t.Parallel()
	counts := newTop()
	heavy := name{"10.0.0.0/24", "10.0.0.1"}
	for i := range 20_000 {
		counts.add(name{fmt.Sprint("network", i), "address"}, start)
		if i%100 == 0 {
			counts.add(heavy, start)
		}
	}
	got := counts.counted(heavy, start)
	if got.Count > 200 || got.Count+got.MaybeMore < 200 || got.Count < 100 {
		t.Errorf("counted 200 times: %+v", got)
	}
	if list, _ := counts.most(1, start); list[0].key != heavy {
		t.Errorf("the most: %+v", list)
	}
}

// TestTopBounds compares with exact counts: none is too high, over the whole window, and
// memory is bounded.
func TestTopBounds(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		counts, now := newTop(), start
		type event struct {
			key  name
			slot int64
		}
		exact := map[event]uint64{}
		random := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		names := rapid.IntRange(1, 600).Draw(t, "names")
		origins := rapid.IntRange(1, 300).Draw(t, "origins")
		for range rapid.IntRange(1, 3000).Draw(t, "events") {
			if random.IntN(100) == 0 {
				now = now.Add(time.Duration(random.Int64N(int64(3 * time.Minute))))
			}
			key := name{fmt.Sprint(random.IntN(origins)), fmt.Sprint(random.IntN(names) * random.IntN(names))}
			counts.add(key, now)
			exact[event{key, now.UnixNano() / int64(slotLength)}]++
		}
		newest := now.UnixNano() / int64(slotLength)
		want, all := map[name]uint64{}, uint64(0)
		for e, n := range exact {
			if e.slot > newest-topSlots {
				want[e.key] += n
				all += n
			}
		}
		list, total := counts.most(topSlots*topSize, now)
		if total != all {
			t.Fatalf("%d in all, want %d", total, all)
		}
		for _, r := range list {
			if r.key.text == "" {
				continue // an origin's rest
			}
			if r.Count > want[r.key] {
				t.Fatalf("%v: %+v, and it was %d", r.key, r.Refusals, want[r.key])
			}
		}
		for i := range counts.slots {
			if s := &counts.slots[i]; len(s.entries) > topSize || len(s.at) != len(s.entries) {
				t.Fatalf("%d entries, %d in the map", len(s.entries), len(s.at))
			}
		}
	})
}

func TestTopForgets(t *testing.T) {
	t.Parallel()
	counts, key := newTop(), name{"a", "b"}
	counts.add(key, start)
	backendtest.Equal(t, counts.counted(key, start.Add(Window-slotLength)), Refusals{Count: 1}, "before the end")
	backendtest.Equal(t, counts.counted(key, start.Add(Window)), Refusals{}, "at the end")
	backendtest.Equal(t, counts.counted(key, start.Add(-Window)), Refusals{}, "with a clock that was set back")
	counts.add(key, start.Add(Window))
	backendtest.Equal(t, counts.counted(key, start.Add(Window)), Refusals{Count: 1}, "in the same place")
}

// TestFloodOfKeys: a flood of one limit's keys drives out no other limit's, and what has
// the least left is what is kept.
func TestFloodOfKeys(t *testing.T) {
	t.Parallel()
	var u uses
	use := func(limit, key string, remaining int64) limits.Use {
		return limits.Use{Limit: limit, Key: key, Quota: 100, Remaining: remaining, Reset: time.Minute}
	}
	u.counted(use("orders", "alice", 1), start)
	for i := range 10_000 {
		u.counted(use("custom", fmt.Sprint("key", i), int64(i%20)), start)
	}
	u.counted(use("orders", "bob", 15), start)
	list := u.least(maxUses, start)
	kept := map[string]int{}
	for _, e := range list {
		kept[e.Limit]++
		if e.Limit == "custom" && e.Remaining > 0 {
			t.Fatalf("%s has %d left and is kept", e.Key, e.Remaining)
		}
	}
	if kept["orders"] != 2 || kept["custom"] != usesShare {
		t.Errorf("kept %v", kept)
	}
	u.counted(limits.Use{Limit: "other", Key: "late", Quota: 100, Remaining: 20, Reset: time.Hour}, start)
	if list := u.least(maxUses, start.Add(2*time.Minute)); len(list) != 0 && (len(list) != 1 || list[0].Key != "late") {
		t.Errorf("after their time: %v", list)
	}
	if len(u.list) != len(u.at) {
		t.Errorf("%d entries, %d in the map", len(u.list), len(u.at))
	}
}

func TestCut(t *testing.T) {
	t.Parallel()
	for n := range 8 {
		text := cut(fmt.Sprintf("%*s", n, "") + "ééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééé")
		if len(text) > maxName || len(text) < maxName-1 {
			t.Errorf("%d bytes", len(text))
		}
		for _, r := range text {
			if r == '\ufffd' {
				t.Errorf("cut inside of a character: %q", text)
			}
		}
	}
}
