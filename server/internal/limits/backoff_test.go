package limits

import (
	"fmt"
	"testing"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"pgregory.net/rapid"
)

// naive is backoff as it is told to people.
type naive struct {
	burst  int
	period time.Duration
	calls  []time.Time // since the last time they were forgotten
}

// wait is how long after the last call the next may come.
func (n *naive) wait() time.Duration {
	if len(n.calls) < n.burst {
		return 0
	}
	wait := time.Second
	for range len(n.calls) - n.burst {
		if wait *= 2; wait > n.period {
			break
		}
	}
	return min(wait, n.period)
}

// look is the outcome of a call at a time, and whether it passes.
func (n *naive) look(now time.Time) (Outcome, bool) {
	if len(n.calls) == 0 {
		return Outcome{Remaining: int64(n.burst)}, true
	}
	next := n.calls[len(n.calls)-1].Add(n.wait())
	if !now.Before(next.Add(n.period)) {
		n.calls = nil
		return n.look(now)
	}
	o := Outcome{Remaining: int64(max(0, n.burst-len(n.calls))), Reset: next.Add(n.period).Sub(now)}
	if now.Before(next) {
		o.Exceeded, o.RetryAfter = true, next.Sub(now)
	}
	return o, !o.Exceeded
}

// TestBackoffModel makes calls at all distances and compares Memory with what
// people are told.
func TestBackoffModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		fake, clk := testClock()
		m := NewMemory(clk)
		n := naive{
			burst:  rapid.IntRange(1, 12).Draw(t, "burst"),
			period: rapid.SampledFrom([]time.Duration{time.Millisecond, 700 * time.Millisecond, time.Second, 3 * time.Second, 15 * time.Minute}).Draw(t, "period"),
		}
		c := Count{Counter: "c", Key: "k", Algorithm: Backoff, Rate: 1, Burst: int64(n.burst), Period: n.period.Microseconds(), Cost: 1}
		take := func(peek bool) Outcome {
			outcomes, err := m.Take(t.Context(), []Count{c}, peek)
			backendtest.Must(t, err)
			return outcomes[0]
		}
		for range rapid.IntRange(1, 80).Draw(t, "steps") {
			want, pass := n.look(fake.Now())
			what := rapid.SampledFrom([]string{"take", "take", "take", "peek", "wait", "almost", "calm", "some", "forget"}).Draw(t, "step")
			switch what {
			case "take":
				if pass {
					n.calls = append(n.calls, fake.Now())
					want, _ = n.look(fake.Now())
					want.Exceeded, want.RetryAfter = false, 0
				}
				if got := take(false); got != want {
					t.Fatalf("a call after %d: %+v, want %+v", len(n.calls), got, want)
				}
			case "wait":
				fake.Advance(want.RetryAfter)
			case "almost":
				fake.Advance(max(0, want.RetryAfter-time.Microsecond))
			case "calm":
				fake.Advance(want.Reset - time.Duration(rapid.IntRange(0, 1).Draw(t, "less"))*min(want.Reset, time.Microsecond))
			case "some":
				fake.Advance(time.Duration(rapid.Int64Range(0, 2*c.Period).Draw(t, "later")) * time.Microsecond)
			case "forget":
				backendtest.Must(t, m.Forget(t.Context(), []Count{c}))
				n.calls = nil
			}
			want, _ = n.look(fake.Now())
			if got := take(true); got != want {
				t.Fatalf("a look after %s and %d calls: %+v, want %+v", what, len(n.calls), got, want)
			}
		}
	})
}

// TestBackoffForADay: a day of guessing whenever it is allowed gets nowhere.
func TestBackoffForADay(t *testing.T) {
	t.Parallel()
	fake, clk := testClock()
	m := NewMemory(clk)
	c := Count{Counter: "c", Key: "k", Algorithm: Backoff, Rate: 10, Burst: 10, Period: 15 * minute.Microseconds(), Cost: 1}
	guesses, began := 0, fake.Now()
	var waits []time.Duration
	for fake.Now().Sub(began) < 24*time.Hour {
		if o := take(t, m, c)[0]; o.Exceeded {
			waits = append(waits, o.RetryAfter)
			fake.Advance(o.RetryAfter)
		} else {
			guesses++
		}
	}
	backendtest.Equal(t, fmt.Sprint(waits[:12]), "[1s 2s 4s 8s 16s 32s 1m4s 2m8s 4m16s 8m32s 15m0s 15m0s]", "waits")
	if guesses > 10+10+24*4 {
		t.Errorf("%d guesses in a day", guesses)
	}
}

// TestBackoffLimit: costs do not matter, overrides give another number of free
// calls, and the burst is the rate when it is not set.
func TestBackoffLimit(t *testing.T) {
	t.Parallel()
	i := onSQLite(t, nil)
	i.create(Limit{Name: "l", Subject: SubjectUser, Algorithm: Backoff, Rate: 3,
		Overrides: []Override{{Key: "many", Rate: 1, Burst: 5}, {Key: "few", Rate: 1}}})
	for user, free := range map[string]int{"any": 3, "many": 5, "few": 1} {
		r := Request{UserID: user, Cost: 1000}
		for range free {
			if got := i.take(r); !got.Allowed || got.Limits[0].Limit != int64(free) {
				t.Errorf("%s: %+v", user, got)
			}
		}
		if got := i.take(r); got.Allowed || got.RetryAfter != time.Second {
			t.Errorf("%s: %+v", user, got)
		}
	}
	i.clock.Advance(time.Second)
	if got := i.take(Request{UserID: "any"}); !got.Allowed || got.Limits[0].Remaining != 0 {
		t.Errorf("after the wait: %+v", got)
	}
	backendtest.Equal(t, i.take(Request{UserID: "any"}).RetryAfter, 2*time.Second, "the next wait")
	i.must(i.ResetKey(i.system(), "l", "any"))
	if got := i.take(Request{UserID: "any"}); !got.Allowed || got.Limits[0].Remaining != 2 {
		t.Errorf("after a reset: %+v", got)
	}
}
