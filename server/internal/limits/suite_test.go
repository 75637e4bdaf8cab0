package limits

import (
	"context"
	"crypto/rand"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/clock"
	"pgregory.net/rapid"
)

func testRedis(t testing.TB) *Redis {
	t.Helper()
	client, prefix := backendtest.Redis(t)
	r := NewRedis(client, prefix, clock.Real(), nil)
	r.timeout = 10 * time.Second // the test machine may be busy
	return r
}

// backends runs test on every way to count.
func backends(t *testing.T, test func(t *testing.T, b Backend)) {
	t.Run("memory", func(t *testing.T) { test(t, NewMemory(clock.Real())) })
	t.Run("redis", func(t *testing.T) { test(t, testRedis(t)) })
	t.Run("redis one key a script", func(t *testing.T) {
		r := testRedis(t)
		r.split = true
		test(t, r)
	})
	t.Run("leases", func(t *testing.T) { test(t, newLeaseAll(t)) })
}

// leaseAll counts as if all limits that can have leases had them.
type leaseAll struct {
	*Leases
	refills *sync.WaitGroup // that are under way in the background
}

func newLeaseAll(t *testing.T) leaseAll {
	l := leaseAll{NewLeases(testRedis(t), clock.Real()), new(sync.WaitGroup)}
	l.refill = l.refills.Go
	return l
}

func (l leaseAll) Take(ctx context.Context, counts []Count, peek bool) ([]Outcome, error) {
	counts = slices.Clone(counts)
	for i, c := range counts {
		if c.Algorithm == GCRA || c.Algorithm == FixedWindow {
			counts[i].Lease = time.Second
		}
	}
	if peek { // what is on its way is neither here nor there
		l.refills.Wait()
	}
	return l.Leases.Take(ctx, counts, peek)
}

// slow is a counter whose period is so long that the test does not see it end.
func slow(a Algorithm, name string, burst int64) Count {
	c := Count{Counter: name, Key: "k", Algorithm: a, Rate: burst, Burst: burst, Period: longMicro, Cost: 1}
	if a == GCRA {
		c.Rate = 1
	}
	return c
}

func take(t *testing.T, b Backend, list ...Count) []Outcome {
	t.Helper()
	outcomes, err := b.Take(t.Context(), list, false)
	backendtest.Must(t, err)
	return outcomes
}

func peek(t *testing.T, b Backend, list ...Count) []Outcome {
	t.Helper()
	outcomes, err := b.Take(t.Context(), list, true)
	backendtest.Must(t, err)
	return outcomes
}

func TestBackends(t *testing.T) {
	t.Parallel()
	backends(t, func(t *testing.T, b Backend) {
		for _, a := range allAlgorithms {
			t.Run(string(a), func(t *testing.T) { suite(t, b, a) })
		}
	})
}

// suite is what every backend does with every algorithm. Tests count under
// names of their own, so they share the backend.
func suite(t *testing.T, b Backend, a Algorithm) {
	name := func(t *testing.T) string { return strings.ReplaceAll(t.Name(), "/", "-") }

	t.Run("used up", func(t *testing.T) {
		c := slow(a, name(t), 3)
		for left := int64(2); left >= 0; left-- {
			o := take(t, b, c)[0]
			if o.Exceeded || o.Remaining != left || o.RetryAfter != 0 || o.Reset <= 0 || o.Reset > 3*micros(longMicro) {
				t.Fatalf("with %d left: %+v", left, o)
			}
		}
		o := take(t, b, c)[0]
		if !o.Exceeded || o.Remaining != 0 || o.RetryAfter <= 0 || o.RetryAfter > 2*micros(longMicro) {
			t.Fatalf("used up: %+v", o)
		}
		if a == GCRA && o.RetryAfter < micros(longMicro)-time.Minute {
			t.Errorf("retry after %s, want one interval", o.RetryAfter)
		}
		other := c
		other.Key = "another"
		if take(t, b, other)[0].Exceeded {
			t.Error("another key is refused")
		}
	})

	t.Run("cost", func(t *testing.T) {
		if a == Backoff {
			t.Skip("a call is a call")
		}
		c := slow(a, name(t), 10)
		c.Cost = 7
		if o := take(t, b, c)[0]; o.Exceeded || o.Remaining != 3 {
			t.Fatalf("7 of 10: %+v", o)
		}
		if o := take(t, b, c)[0]; !o.Exceeded || o.Remaining != 3 || o.RetryAfter <= 0 {
			t.Fatalf("7 of 3: %+v", o)
		}
		c.Cost = 11
		if o := take(t, b, c)[0]; !o.Exceeded || o.RetryAfter != 0 {
			t.Fatalf("11 of 10 never passes: %+v", o)
		}
		c.Cost = 3
		if o := take(t, b, c)[0]; o.Exceeded || o.Remaining != 0 {
			t.Fatalf("3 of 3: %+v", o)
		}
	})

	t.Run("peek counts nothing", func(t *testing.T) {
		c := slow(a, name(t), 1)
		for range 3 {
			if o := peek(t, b, c)[0]; o.Exceeded || o.Remaining != 1 {
				t.Fatalf("unused: %+v", o)
			}
		}
		take(t, b, c)
		if o := peek(t, b, c)[0]; !o.Exceeded || o.RetryAfter <= 0 {
			t.Fatalf("used up: %+v", o)
		}
	})

	t.Run("all or nothing", func(t *testing.T) {
		wide, narrow := slow(a, name(t)+"wide", 5), slow(a, name(t)+"narrow", 1)
		if o := take(t, b, wide, narrow); o[0].Exceeded || o[1].Exceeded {
			t.Fatalf("first: %+v", o)
		}
		for range 3 {
			if o := take(t, b, wide, narrow); o[0].Exceeded || !o[1].Exceeded || o[0].Remaining != 4 {
				t.Fatalf("narrow is used up: %+v", o)
			}
		}
		backendtest.Equal(t, peek(t, b, wide)[0].Remaining, 4, "remaining of the other limit")
	})

	t.Run("shadow", func(t *testing.T) {
		watch, enforced := slow(a, name(t)+"watch", 2), slow(a, name(t)+"enforced", 1)
		watch.Shadow = true
		take(t, b, watch, enforced)
		if o := take(t, b, watch, enforced); o[0].Exceeded || o[0].Remaining != 0 || !o[1].Exceeded {
			t.Fatalf("counts by itself: %+v", o)
		}
		if o := take(t, b, watch, slow(a, name(t)+"more", 5)); !o[0].Exceeded || o[1].Exceeded || o[1].Remaining != 4 {
			t.Fatalf("does not refuse: %+v", o)
		}
	})

	t.Run("forget", func(t *testing.T) {
		c, other := slow(a, name(t), 1), slow(a, name(t)+"other", 1)
		take(t, b, c, other)
		backendtest.Must(t, b.Forget(t.Context(), []Count{c}))
		if o := peek(t, b, c, other); o[0].Exceeded || !o[1].Exceeded {
			t.Errorf("%+v", o)
		}
	})

	t.Run("keys do not run together", func(t *testing.T) {
		one := slow(a, name(t), 1)
		long := strings.Repeat("x", 300)
		keys := []string{"", "a", "ab", "=a", "#a", ":", "{a}", long, long + "x", shorten(long), shorten("a"), "\x00", "é"}
		slices.Sort(keys)
		keys = slices.Compact(keys)
		for _, key := range keys {
			one.Key = key
			if o := take(t, b, one)[0]; o.Exceeded {
				t.Errorf("key %q shares a counter", key)
			}
		}
	})

	t.Run("a changed rate keeps the count", func(t *testing.T) {
		c := slow(a, name(t), 5)
		for range 4 {
			take(t, b, c)
		}
		c.Burst = 7
		if a != GCRA {
			c.Rate = 7
		}
		backendtest.Equal(t, peek(t, b, c)[0].Remaining, 3, "remaining when 4 of 7 are used")
	})

	t.Run("at the same time", func(t *testing.T) {
		const callers = 200
		c, beside := slow(a, name(t), 10), slow(a, name(t)+"beside", 1000)
		l, leases := b.(leaseAll)
		lost := func() int64 { // of leases that ended while a refused call had taken from them
			if leases {
				return int64(l.Stats().Lost)
			}
			return 0
		}
		lostBefore := lost()
		var passed atomic.Int64
		var wg sync.WaitGroup
		began := time.Now()
		for i := range callers {
			wg.Go(func() {
				list := []Count{c, beside}
				if i%2 == 0 { // locks taken in the order of the list would meet
					list = []Count{beside, c}
				}
				outcomes, err := b.Take(t.Context(), list, false)
				if err != nil {
					t.Error(err)
				} else if !outcomes[0].Exceeded && !outcomes[1].Exceeded {
					passed.Add(1)
				}
			})
		}
		wg.Wait()
		most := int64(10)
		if a == Backoff { // on a slow machine waits end
			most += int64(math.Log2(1 + time.Since(began).Seconds()))
		}
		n := passed.Load()
		left := peek(t, b, beside)[0].Remaining
		gone := lost() - lostBefore
		unused := int64(0) // a call that was refused may have had it when another asked for it
		if leases {
			unused = peek(t, b, c)[0].Remaining
		}
		if n+unused+gone < 10 || n > most {
			t.Errorf("%d calls passed, want 10", n)
		}
		if left > 1000-n || left < 1000-n-gone {
			t.Errorf("remaining of the limit beside: got %d, want %d", left, 1000-n)
		}
	})
}

// TestRedisScriptAgainstGo runs the script on states of every age and
// compares with algorithm.go.
func TestRedisScriptAgainstGo(t *testing.T) {
	t.Parallel()
	r := testRedis(t)
	ctx := t.Context()
	backendtest.Must(t, r.batch.script.Load(ctx, r.client).Err())
	serial := 0
	rapid.Check(t, func(t *rapid.T) {
		clock, err := r.client.Time(ctx).Result()
		backendtest.Must(t, err)
		serial++
		c := someCount(t, allAlgorithms)
		c.Counter, c.Key = "same", strconv.Itoa(serial)
		c.Cost = c.someCost(t, c.Burst+1, "cost")
		if c.Algorithm != Backoff && rapid.Bool().Draw(t, "lease") {
			c.Cost = rapid.Int64Range(0, 2).Draw(t, "cost beside a lease")
			c.More = rapid.OneOf(rapid.Int64Range(0, 20), rapid.Int64Range(0, c.Burst)).Draw(t, "more")
			c.Sure = rapid.Int64Range(0, c.More).Draw(t, "sure")
		}
		period := c.Period
		if rapid.IntRange(0, 3).Draw(t, "other period") == 0 {
			period = rapid.Int64Range(1000, longMicro).Draw(t, "stored period")
		}
		before := state{
			at:     clock.UnixMicro() - rapid.Int64Range(-2*period, 5*period).Draw(t, "age"),
			count:  rapid.OneOf(rapid.Int64Range(0, 30), rapid.Int64Range(0, c.Burst)).Draw(t, "count"),
			period: period,
		}
		switch c.Algorithm {
		case GCRA:
			before.rest = rapid.Int64Range(0, period-1).Draw(t, "rest")
		case Backoff:
			before.count = max(0, c.Burst+rapid.Int64Range(-3, 40).Draw(t, "beyond the burst"))
			if rapid.Bool().Draw(t, "about a wait ago") {
				before.at = clock.UnixMicro() - c.wait(before) - rapid.Int64Range(-2000, 2000).Draw(t, "about")
			}
		case SlidingWindow:
			before.rest = rapid.Int64Range(0, c.Rate).Draw(t, "before")
			fallthrough
		default:
			before.at -= before.at % period
		}
		key := r.keys([]Count{c})[0]
		text := fmt.Sprintf("%d %d %d %d", before.at, before.count, before.rest, before.period)
		backendtest.Must(t, r.client.Set(ctx, key, text, time.Hour).Err())
		// One transaction: a counter may live for less than a millisecond.
		pipe := r.client.TxPipeline()
		reply := r.batch.script.EvalSha(ctx, pipe, []string{key}, args("take", []Count{c})...)
		stored, left := pipe.Get(ctx, key), pipe.PTTL(ctx, key)
		_, _ = pipe.Exec(ctx) // each command has its error
		numbers, err := reply.Int64Slice()
		backendtest.Must(t, err)
		got := state{at: numbers[2], count: numbers[3], rest: numbers[4], period: c.Period}
		now := numbers[0]
		want := c.advance(before, now)
		exceeded := c.exceeded(want, now)
		more := int64(0)
		if !exceeded {
			more = c.more(want, now)
			want = c.take(want, now)
			want.count += more
		}
		if exceeded != (numbers[1] == 1) || got != want || more != numbers[5] {
			t.Fatalf("%+v from %+v at %d: the script says %v %+v %d, we say %v %+v %d",
				c, before, now, numbers[1] == 1, got, numbers[5], exceeded, want, more)
		}
		if exceeded || want.count == 0 && want.rest == 0 {
			return
		}
		if written := fmt.Sprintf("%d %d %d %d", want.at, want.count, want.rest, want.period); stored.Val() != written {
			t.Fatalf("stored %q (%v), want %q", stored.Val(), stored.Err(), written)
		}
		full := micros(c.end(want) - now)
		if lives := left.Val(); full < 100*365*24*time.Hour && (lives > full+2*time.Millisecond || lives < full-time.Minute) {
			t.Fatalf("%+v: lives %s, want %s", c, lives, full)
		}
	})
}

func BenchmarkTakeMemory(b *testing.B) { benchmark(b, NewMemory(clock.Real())) }

func BenchmarkTakeRedis(b *testing.B) { benchmark(b, testRedis(b)) }

// benchmark takes from three limits, as a call by a user typically does.
func benchmark(b *testing.B, backend Backend) {
	seed := rand.Text()
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for i := 0; pb.Next(); i++ {
			list := make([]Count, 3)
			for n, counter := range []string{"user", "ip", "all"} {
				list[n] = Count{Counter: counter, Key: seed + strconv.Itoa(i%1000), Algorithm: GCRA,
					Rate: maxRate, Burst: maxRate, Period: 1_000_000, Cost: 1}
			}
			if _, err := backend.Take(b.Context(), list, false); err != nil {
				b.Fatal(err)
			}
		}
	})
}
