package limits

import (
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/clock"
)

// once is two counters of one call with an idempotency key.
func once(key, name string) []Count {
	list := []Count{slow(GCRA, name+"-a", 3), slow(FixedWindow, name+"-b", 2)}
	for i := range list {
		list[i].Once = key
	}
	return list
}

// TestOnce: the same call with the same key is counted once, and passes again also
// when nothing is left meanwhile. A key buys nothing for another call.
func TestOnce(t *testing.T) {
	t.Parallel()
	backends(t, func(t *testing.T, b Backend) {
		want := func(what string, list []Count, exceeded bool, left ...int64) {
			t.Helper()
			for i, o := range take(t, b, list...) {
				if o.Exceeded && !exceeded || o.Remaining != left[i] {
					t.Errorf("%s: counter %d %+v, want %d left", what, i, o, left[i])
				}
			}
		}
		want("first", once("svc\nk1", "once"), false, 2, 1)
		want("again", once("svc\nk1", "once"), false, 2, 1)
		want("another key", once("svc\nk2", "once"), false, 1, 0)
		want("again when nothing is left", once("svc\nk1", "once"), false, 1, 0)
		want("the key of another asker", once("other\nk1", "once"), true, 1, 0)
		want("without a key", once("", "once"), true, 1, 0)

		expensive := once("svc\nk1", "once")
		expensive[0].Cost = 2
		want("the key for a call that costs more", expensive, true, 1, 0)
		other := once("svc\nk1", "once")
		other[0].Key, other[1].Key = "mallory", "mallory"
		want("the key for another user", other, false, 2, 1)

		looked := once("svc\nk3", "looked")
		for _, o := range peek(t, b, looked...) {
			backendtest.Equal(t, o.Exceeded, false, "a look")
		}
		want("taken after a look", looked, false, 2, 1)
	})
}

// TestOnceRefused: a call that was refused is decided anew, and counts then.
func TestOnceRefused(t *testing.T) {
	t.Parallel()
	backends(t, func(t *testing.T, b Backend) {
		call := once("svc\nk", "refused")
		full := call[1]
		full.Once, full.Cost = "", full.Burst
		take(t, b, full)
		for range 2 {
			backendtest.Equal(t, take(t, b, call...)[1].Exceeded, true, "refused")
		}
		backendtest.Equal(t, peek(t, b, call[0])[0].Remaining, int64(3), "left of what did not refuse")
		backendtest.Must(t, b.Forget(t.Context(), []Count{full}))
		for range 2 {
			outcomes := take(t, b, call...)
			backendtest.Equal(t, outcomes[0].Exceeded || outcomes[1].Exceeded, false, "refused after there is some left")
			backendtest.Equal(t, outcomes[0].Remaining, int64(2), "left of the first")
			backendtest.Equal(t, outcomes[1].Remaining, int64(1), "left of the second")
		}
	})
}

// TestOnceAtTheSameTime: of many of the same call at once, one is counted and all
// pass.
func TestOnceAtTheSameTime(t *testing.T) {
	t.Parallel()
	backends(t, func(t *testing.T, b Backend) {
		call := once("svc\nk", "same-time")
		var all sync.WaitGroup
		for range 50 {
			all.Go(func() {
				outcomes, err := b.Take(t.Context(), call, false)
				if err != nil || outcomes[0].Exceeded || outcomes[1].Exceeded {
					t.Errorf("%+v, error %v", outcomes, err)
				}
			})
		}
		all.Wait()
		backendtest.Equal(t, peek(t, b, call[1])[0].Remaining, int64(1), "left after one call, 50 times")
	})
}

// TestOnceInACluster: a mark has the hash slot of its counter, whatever the key is.
func TestOnceInACluster(t *testing.T) {
	t.Parallel()
	tag := func(key string) string { // what Redis hashes
		_, after, found := strings.Cut(key, "{")
		inside, _, closed := strings.Cut(after, "}")
		if found && closed && inside != "" {
			return inside
		}
		return key
	}
	for _, prefix := range []string{"tollgate:", "{tollgate}:", ""} {
		r := NewRedis(nil, prefix, clock.Real(), nil)
		for _, key := range []string{"a", "a}b", "{a}", "a{b", "{}a", "}{"} {
			c := []Count{{Counter: "slots@1@gcra", Key: key, Once: "k"}}
			name := r.keys(c)[0]
			backendtest.Equal(t, tag(r.markKey(markOf(c), name)), tag(name), "what is hashed for the key %q", key)
		}
	}
}

// TestOnceEnds: a key is good for 10 seconds, and a flood of keys neither grows the
// memory nor lets a call pass uncounted.
func TestOnceEnds(t *testing.T) {
	t.Parallel()
	fake, clk := testClock()
	m := NewMemory(clk)
	call := slow(FixedWindow, "ends", 1_000_000)
	call.Once = "svc\nfirst"
	left := func() int64 { return take(t, m, call)[0].Remaining }
	backendtest.Equal(t, left(), int64(999_999), "first")
	fake.Advance(onceFor - 1)
	backendtest.Equal(t, left(), int64(999_999), "just before the end")
	fake.Advance(1)
	backendtest.Equal(t, left(), int64(999_998), "after it")

	for i := range 2 * memoryOnce {
		call.Once = "svc\n" + strconv.Itoa(i)
		take(t, m, call)
	}
	size := 0
	for i := range m.once {
		size += len(m.once[i].until)
	}
	if size > memoryOnce {
		t.Errorf("%d calls remembered, more than %d", size, memoryOnce)
	}
	call.Once = "svc\none more"
	before := left()
	backendtest.Equal(t, left(), before-1, "a call that there is no memory for is counted again")
	fake.Advance(onceFor)
	before = left()
	backendtest.Equal(t, left(), before, "later there is memory again")
}
