package limits

import (
	"strconv"
	"testing"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/clock"
)

func testClock() (*clock.Fake, clock.Clock) {
	fake := clock.NewFake(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))
	return fake, fake.Clock()
}

func (m *Memory) size() int {
	n := 0
	for i := range m.shards {
		n += len(m.shards[i].counters)
	}
	return n
}

// TestMemoryFlood: new keys without end neither grow the memory nor give a
// known key its allowance back.
func TestMemoryFlood(t *testing.T) {
	t.Parallel()
	fake, clk := testClock()
	m := newMemory(clk, 10*shardCount)
	victim := Count{Counter: "flood", Key: "victim", Algorithm: GCRA, Rate: 5, Burst: 5, Period: 60_000_000, Cost: 5}
	take(t, m, victim)
	victim.Cost = 1

	passed := 0
	flood := victim
	for i := range 20_000 {
		flood.Key = strconv.Itoa(i)
		if !take(t, m, flood)[0].Exceeded {
			passed++
		}
	}
	if n := m.size(); n > 11*shardCount {
		t.Errorf("%d counters, want at most 10 and the shared one in each of %d shards", n, shardCount)
	}
	if most := 10*shardCount + 5*shardCount; passed > most {
		t.Errorf("%d new keys passed, want at most %d", passed, most)
	}
	if !peek(t, m, victim)[0].Exceeded {
		t.Error("the flood gave a used up counter its allowance back")
	}

	fake.Advance(2 * time.Minute)
	for i := range 100 {
		flood.Key = "later" + strconv.Itoa(i)
		flood.Cost = 5
		if take(t, m, flood)[0].Exceeded {
			t.Fatal("exceeded although all counters have run out")
		}
	}
}

// TestMemoryShrinks: counters that have run out go away with the writes.
func TestMemoryShrinks(t *testing.T) {
	t.Parallel()
	fake, clk := testClock()
	m := NewMemory(clk)
	c := Count{Counter: "shrinks", Algorithm: GCRA, Rate: 60, Burst: 60, Period: 60_000_000, Cost: 1}
	for i := range 100_000 {
		c.Key = strconv.Itoa(i)
		take(t, m, c)
		fake.Advance(time.Millisecond) // each lives a second: a thousand do at once
	}
	if n := m.size(); n > 5000 {
		t.Errorf("%d counters, of which a thousand count", n)
	}
}
