package limits

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/clock"
	"github.com/tollgatehq/tollgate/server/internal/fault"
	"github.com/tollgatehq/tollgate/server/internal/fault/faulttest"
)

// overProxy makes an instance that reaches Redis by a proxy. The time that the
// breaker goes by is the instance's.
func overProxy(t *testing.T) (*instance, *Redis, *backendtest.Proxy) {
	t.Helper()
	proxy := backendtest.NewProxy(t, backendtest.RedisURL(t))
	options, err := redis.ParseURL(proxy.URL)
	backendtest.Must(t, err)
	_, prefix := backendtest.Redis(t) // removes the keys under it
	client := redis.NewClient(options)
	t.Cleanup(func() { client.Close() })
	fake, clk := testClock()
	r := NewRedis(client, prefix, clk, nil)
	i := onSQLite(t, r)
	i.clock = fake // moves the breaker's time
	return i, r, proxy
}

// quick fails the test when fn takes anywhere near what Redis clients wait by
// themselves: three seconds and several tries.
func quick(t *testing.T, fn func()) {
	t.Helper()
	began := time.Now()
	fn()
	if took := time.Since(began); took > 2500*time.Millisecond {
		t.Errorf("took %s", took)
	}
}

func TestOutageModes(t *testing.T) {
	t.Parallel()
	i, r, proxy := overProxy(t)
	i.create(Limit{Name: "local", Subject: SubjectGlobal, Permission: "local", Rate: 2})
	i.create(Limit{Name: "open", Subject: SubjectGlobal, Permission: "open", Rate: 2, Outage: Open})
	i.create(Limit{Name: "closed", Subject: SubjectGlobal, Permission: "closed", Rate: 2, Outage: Closed})
	i.create(Limit{Name: "closed-shadow", Subject: SubjectGlobal, Permission: "shadow", Rate: 2, Outage: Closed, Mode: Shadow})
	i.create(Limit{Name: "both-local", Subject: SubjectGlobal, Permission: "both", Rate: 2})
	i.create(Limit{Name: "both-closed", Subject: SubjectGlobal, Permission: "both", Rate: 2, Outage: Closed})
	proxy.Set(t, backendtest.Hang)

	quick(t, func() {
		for n := range 4 {
			if got := i.take(Request{Permission: "local"}); got.Allowed != (n < 2) || got.Outage {
				t.Errorf("local, call %d: %+v", n, got)
			}
		}
	})
	if !r.Down() {
		t.Fatal("Redis hangs and is not down")
	}
	quick(t, func() {
		for range 5 {
			if got := i.take(Request{Permission: "open"}); !got.Allowed {
				t.Errorf("open: %+v", got)
			}
			if got := i.take(Request{Permission: "closed"}); got.Allowed || !got.Outage || got.Name != "closed" || got.RetryAfter != time.Second {
				t.Errorf("closed: %+v", got)
			}
			if got := i.take(Request{Permission: "shadow"}); !got.Allowed || got.Outage {
				t.Errorf("closed in shadow: %+v", got)
			}
			got := i.take(Request{Permission: "both"})
			if got.Allowed || got.Name != "both-closed" || got.Limits[1].Remaining != 2 {
				t.Errorf("what is refused took from the local limit: %+v", got)
			}
		}
		faulttest.Want(t, i.ResetKey(i.system(), "closed", "k"), fault.Unavailable, "DEPENDENCY_DOWN")
	})
}

func TestOutageRecovery(t *testing.T) {
	t.Parallel()
	i, r, proxy := overProxy(t)
	i.create(Limit{Name: "l", Subject: SubjectGlobal, Rate: 3, Period: maxPeriod})
	proxy.Set(t, backendtest.Hang)
	i.take(Request{})
	for range 5 { // probes that fail
		i.clock.Advance(3 * time.Second)
		quick(t, func() { i.take(Request{}) })
	}
	if !r.Down() {
		t.Fatal("Redis hangs and is not down")
	}
	proxy.Set(t, backendtest.Pass)
	r.timeout = 10 * time.Second // the test machine may be busy
	i.take(Request{})
	if !r.Down() {
		t.Error("the breaker is half-open too early")
	}
	// It is open for at most two seconds. Connections that died in the outage
	// may cost more probes.
	for range 5 {
		i.clock.Advance(maxOpen)
		i.take(Request{})
		if !r.Down() {
			break
		}
	}
	if r.Down() {
		t.Fatal("Redis answers and is down")
	}
	if got := i.check("l", "", 1, true); got.Limits[0].Remaining != 2 {
		t.Errorf("counted in Redis again, from where that was: %+v", got)
	}
}

func TestOutageRefusedConnection(t *testing.T) {
	t.Parallel()
	client := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1"})
	t.Cleanup(func() { client.Close() })
	i := onSQLite(t, NewRedis(client, "x:", clock.Real(), nil))
	i.create(Limit{Name: "l", Subject: SubjectGlobal, Rate: 1})
	quick(t, func() {
		if !i.take(Request{}).Allowed || i.take(Request{}).Allowed {
			t.Error("does not count by itself")
		}
	})
}

// TestOutageIsNotACanceledCall: a caller that gives up says nothing about Redis.
func TestOutageIsNotACanceledCall(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	backendtest.Must(t, err)
	defer listener.Close()
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		if conn, err := listener.Accept(); err == nil {
			cancel()
			_, _ = io.Copy(io.Discard, conn)
		}
	}()
	client := redis.NewClient(&redis.Options{Addr: listener.Addr().String()})
	t.Cleanup(func() { client.Close() })
	r := NewRedis(client, "x:", clock.Real(), nil)
	r.timeout = 10 * time.Second // the test machine may be busy
	if _, err := r.Take(ctx, []Count{slow(GCRA, "hang-up", 1)}, false); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if r.Down() {
		t.Error("Redis counts as down")
	}
}

func TestBreaker(t *testing.T) {
	t.Parallel()
	fake := clock.NewFake(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))
	b := &breaker{now: fake.Now}
	allow := func(wantOK, wantProbe bool) {
		t.Helper()
		if ok, probe := b.Allow(); ok != wantOK || probe != wantProbe {
			t.Fatalf("Allow: %v %v, want %v %v", ok, probe, wantOK, wantProbe)
		}
	}
	allow(true, false)
	allow(true, false)
	if !b.Record(false, down) || b.Record(false, down) {
		t.Error("two calls that failed together open it twice")
	}
	allow(false, false)
	fake.Advance(minOpen)
	allow(true, true)
	allow(false, false) // one at a time
	b.Record(true, unknown)
	allow(true, true) // the caller hung up: the next may probe at once
	b.Record(true, down)
	fake.Advance(minOpen)
	allow(false, false) // the interval is longer now
	for range 10 {
		fake.Advance(maxOpen) // and never longer than this
		allow(true, true)
		b.Record(true, down)
	}
	fake.Advance(maxOpen)
	allow(true, true)
	if b.Record(false, up) || !b.IsOpen() {
		t.Error("a call from before the outage ends it")
	}
	if !b.Record(true, up) || b.IsOpen() {
		t.Error("a call that came through does not end the outage")
	}
	allow(true, false)
}
