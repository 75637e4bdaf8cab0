package tollgate_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"
	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
	tollgate "github.com/tollgatehq/tollgate/sdk"
	"github.com/tollgatehq/tollgate/sdk/sdktest"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/protobuf/types/known/durationpb"
)

// hot is how many calls make a key hot: one to learn of the caller, and 8.
const hot = 9

// setLimits sets limits on what alice reads, and waits until the client knows.
func (f *localFixture) setLimits(limits ...sdktest.Limit) {
	f.t.Helper()
	for _, l := range limits {
		l.Permission = "orders:*"
		f.SetLimit(l)
	}
	f.heard(f.KeepAlive())
}

// calls makes calls of alice's that are all to be decided here or there, and has each
// lease come that they ask for.
func (f *localFixture) calls(n int, reason tollgate.Reason, asked bool) {
	f.t.Helper()
	for range n {
		f.want(aliceReads, reason, asked)
		tollgate.WaitLeases(f.client)
	}
}

func (f *localFixture) leased(limit string, want int64) {
	f.t.Helper()
	if n, _ := tollgate.Leased(f.client, limit); n != want {
		f.t.Errorf("%d calls of %s are held, want %d", n, limit, want)
	}
}

// newLeased returns a fixture with one limit, whose lease of 32 calls the client has.
func newLeased(t testing.TB, answers ...answerFunc) *localFixture {
	t.Helper()
	f := newLocal(t, tollgate.LocalConfig{}, answers...)
	f.setLimits(sdktest.Limit{Name: "l", Calls: 1000, Lease: 100 * time.Millisecond})
	f.calls(hot, tollgate.ReasonOK, there)
	return f
}

func TestLeaseLimit(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.SetLimit(sdktest.Limit{Name: "l", Calls: 10, RetryAfter: time.Second, Lease: 100 * time.Millisecond})
	f.SetLimit(sdktest.Limit{Name: "plain", Calls: 10})
	c := f.client(t)
	f.intercept(func(r *http.Request) (*http.Response, error) {
		f.add(60 * time.Millisecond) // what the way takes is a part of ValidFor
		return f.next.RoundTrip(r)
	})
	lease, err := c.LeaseLimit(t.Context(), tollgate.LeaseLimitRequest{Limit: "l", Key: "acme", Want: 7})
	must(t, err)
	if lease.Granted != 7 || lease.ValidFor != 99*time.Millisecond || lease.Status.Remaining != 3 || lease.Err() != nil || !lease.Valid() {
		t.Errorf("%+v", lease)
	}
	if f.add(39*time.Millisecond - 1); !lease.Valid() {
		t.Error("it ended too early")
	}
	if f.add(1); lease.Valid() {
		t.Error("it did not end")
	}
	lease, err = c.LeaseLimit(t.Context(), tollgate.LeaseLimitRequest{Limit: "l", Key: "acme", Want: 7})
	if must(t, err); lease.Granted != 3 {
		t.Errorf("the rest: %+v", lease)
	}
	lease, err = c.LeaseLimit(t.Context(), tollgate.LeaseLimitRequest{Limit: "l", Key: "acme"})
	if must(t, err); lease.Granted != 0 || lease.Valid() || lease.Err() == nil || lease.RetryAfter != time.Second {
		t.Errorf("refused: %+v", lease)
	}
	_, err = c.LeaseLimit(t.Context(), tollgate.LeaseLimitRequest{Limit: "plain"})
	if e := wantError(t, err, connect.CodeFailedPrecondition); e.Reason != "LIMIT_NOT_LEASED" {
		t.Errorf("reason %s", e.Reason)
	}
	if (&tollgate.Lease{Granted: 1, ValidFor: time.Second}).Valid() {
		t.Error("one that nobody granted is valid")
	}
}

// TestLocalLease: a hot key's calls pass here until the lease ends, and no later.
func TestLocalLease(t *testing.T) {
	t.Parallel()
	f := newLeased(t)
	f.leased("l", 32)
	f.add(99*time.Millisecond - 1)
	f.want(aliceReads, tollgate.ReasonOK, here)
	tollgate.WaitLeases(f.client)

	f = newLeased(t)
	f.add(99 * time.Millisecond)
	f.want(aliceReads, tollgate.ReasonOK, there)

	f = newLeased(t)
	before := f.Calls("LimitsService/LeaseLimit")
	f.calls(22, tollgate.ReasonOK, here) // 10 of 32 are left
	if n := f.Calls("LimitsService/LeaseLimit"); n != before {
		t.Errorf("%d more leases", n-before)
	}
	f.calls(1, tollgate.ReasonOK, here)
	if n := f.Calls("LimitsService/LeaseLimit"); n != before+1 {
		t.Errorf("%d more leases at 30 %%, want 1", n-before)
	}
	f.client.Close()
	f.calls(2*hot, tollgate.ReasonOK, there)
}

// TestLocalLeaseOnTheWay: a lease is measured from before it was asked for, and one
// that comes too late is none.
func TestLocalLeaseOnTheWay(t *testing.T) {
	t.Parallel()
	for _, way := range []time.Duration{60, 99} {
		f := newLocal(t, tollgate.LocalConfig{})
		f.setLimits(sdktest.Limit{Name: "l", Calls: 1000, Lease: 100 * time.Millisecond})
		f.intercept(func(r *http.Request) (*http.Response, error) {
			if strings.HasSuffix(r.URL.Path, "/LeaseLimit") {
				f.add(way * time.Millisecond)
			}
			return f.next.RoundTrip(r)
		})
		f.calls(hot, tollgate.ReasonOK, there)
		if way == 99 {
			f.calls(2*hot, tollgate.ReasonOK, there)
			if n := f.Calls("LimitsService/LeaseLimit"); n != 1 {
				t.Errorf("asked %d times though they come too late", n)
			}
			continue
		}
		f.leased("l", 32)
		f.add(39*time.Millisecond - 1)
		f.leased("l", 32)
		f.add(1)
		f.want(aliceReads, tollgate.ReasonOK, there)
		tollgate.WaitLeases(f.client)
	}
}

// TestLocalLeases: all limits or none, and what was taken for nothing is put back.
func TestLocalLeases(t *testing.T) {
	t.Parallel()
	f := newLocal(t, tollgate.LocalConfig{})
	f.setLimits(sdktest.Limit{Name: "wide", Calls: 1000, Lease: 100 * time.Millisecond},
		sdktest.Limit{Name: "narrow", Calls: 20, Lease: 100 * time.Millisecond})
	var counted sync.Mutex // a lease is granted after the call that asks for it was counted
	f.intercept(func(r *http.Request) (*http.Response, error) {
		if strings.HasSuffix(r.URL.Path, "/LeaseLimit") {
			counted.Lock()
			defer counted.Unlock()
		}
		return f.next.RoundTrip(r)
	})
	for range hot {
		counted.Lock()
		f.want(aliceReads, tollgate.ReasonOK, there)
		counted.Unlock()
		tollgate.WaitLeases(f.client)
	}
	f.leased("wide", 32)
	f.leased("narrow", 11)
	f.calls(11, tollgate.ReasonOK, here)
	f.calls(20, tollgate.ReasonLimited, there)
	f.leased("wide", 21)
	if n := f.Calls("LimitsService/LeaseLimit"); n != 3 {
		t.Errorf("asked for %d leases, want 3: one was refused", n)
	}
	f.setLimits(sdktest.Limit{Name: "narrow", Calls: 1000, Lease: 100 * time.Millisecond})
	if _, keys := tollgate.Leased(f.client, "narrow"); keys != 0 {
		t.Errorf("%d keys of a limit of before are kept", keys)
	}
	f.leased("wide", 21) // another's change is nothing to it
	f.setLimits(sdktest.Limit{Name: "plain", Calls: 1000})
	f.calls(2*hot, tollgate.ReasonOK, there)
	f.leased("wide", 21)
}

// TestLocalLeaseChanged: a change of the limit ends its leases, also one on its way.
func TestLocalLeaseChanged(t *testing.T) {
	t.Parallel()
	f := newLeased(t)
	f.setLimits(sdktest.Limit{Name: "l", Lease: 100 * time.Millisecond})
	f.calls(hot, tollgate.ReasonLimited, there)

	f = newLocal(t, tollgate.LocalConfig{})
	f.setLimits(sdktest.Limit{Name: "l", Calls: 1000, Lease: 100 * time.Millisecond})
	f.intercept(func(r *http.Request) (*http.Response, error) {
		res, err := f.next.RoundTrip(r)
		if strings.HasSuffix(r.URL.Path, "/LeaseLimit") {
			f.setLimits(sdktest.Limit{Name: "l", Lease: 100 * time.Millisecond})
		}
		return res, err
	})
	f.calls(hot-1, tollgate.ReasonOK, there)
	_, err := f.client.Authorize(t.Context(), aliceReads) // before the change or after it
	must(t, err)
	tollgate.WaitLeases(f.client)
	f.want(aliceReads, tollgate.ReasonLimited, there)

	f = newLeased(t) // what happened between two streams is not known
	f.reconnect(f.next.RoundTrip, func() {})
	f.heard(f.KeepAlive())
	f.leased("l", 0)
	f.want(aliceReads, tollgate.ReasonOK, there) // to learn of alice again
	f.want(aliceReads, tollgate.ReasonOK, there)
}

// TestLocalLeaseRefused: who gets no leases does not ask for them again and again.
func TestLocalLeaseRefused(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		err           error
		second, later int64 // asked after a second, and after a change of the limit
		logged        int
	}{
		"for a while":     {nil, 1, 2, 0},
		"without leases":  {refusal(connect.CodeFailedPrecondition, "LIMIT_NOT_LEASED"), 1, 2, 0},
		"may not":         {refusal(connect.CodePermissionDenied, "PERMISSION_MISSING"), 1, 1, 1},
		"Tollgate's own":  {refusal(connect.CodePermissionDenied, "LIMITS_TOLLGATE"), 1, 2, 0},
		"Tollgate is ill": {refusal(connect.CodeInternal, ""), 2, 3, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var asked atomic.Int64
			f := newLocal(t, tollgate.LocalConfig{}, answering(func(*tollgatev1.LeaseLimitRequest) (*tollgatev1.LeaseLimitResponse, error) {
				asked.Add(1)
				return &tollgatev1.LeaseLimitResponse{RetryAfter: durationpb.New(5 * time.Second)}, c.err
			}))
			var log bytes.Buffer
			f.client = f.fixture.client(t, tollgate.WithLocalDecisions(tollgate.LocalConfig{FeedBound: time.Hour}),
				tollgate.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
			t.Cleanup(f.client.Close)
			limit := sdktest.Limit{Name: "l", Calls: 1000, Lease: 100 * time.Millisecond}
			check := func(when string, want int64) {
				t.Helper()
				f.calls(2*hot, tollgate.ReasonOK, there)
				if n := asked.Load(); n != want {
					t.Errorf("%s: asked %d times, want %d", when, n, want)
				}
			}
			f.setLimits(limit)
			check("at first", 1)
			f.add(time.Second)
			check("after a second", c.second)
			f.setLimits(limit)
			check("after a change", c.later)
			if n := strings.Count(log.String(), "tollgate:limits:check"); n != c.logged {
				t.Errorf("logged %d times: %s", n, log.String())
			}
		})
	}
}

// refusal is an error with a reason.
func refusal(code connect.Code, reason string) error {
	err := connect.NewError(code, fmt.Errorf("no"))
	if detail, failed := connect.NewErrorDetail(&errdetails.ErrorInfo{Reason: reason, Domain: "tollgate"}); failed == nil {
		err.AddDetail(detail)
	}
	return err
}

// BenchmarkAuthorizeLeased is a decision in this process that a limit counts.
func BenchmarkAuthorizeLeased(b *testing.B) {
	f := newLocal(b, tollgate.LocalConfig{})
	f.setLimits(sdktest.Limit{Name: "l", Calls: 1 << 60, Lease: time.Second})
	real := f.Server.Client(tollgate.WithLocalDecisions(tollgate.LocalConfig{FeedBound: time.Hour}), tollgate.WithClock(time.Now),
		tollgate.WithHTTPClient(&http.Client{Transport: f.next}))
	defer real.Close()
	must(b, real.WaitPolicy(b.Context(), 0))
	r := tollgate.AuthorizeRequest{Credential: f.Token("alice"), Permission: "orders:read"}
	ctx := b.Context()
	for range 1000 {
		_, err := real.Authorize(ctx, r)
		must(b, err)
		tollgate.WaitLeases(real)
	}
	before, n := len(f.Decisions()), 0
	b.ReportAllocs()
	for b.Loop() {
		n++
		if d, err := real.Authorize(ctx, r); err != nil || !d.Allowed {
			b.Fatal(d, err)
		}
	}
	b.ReportMetric(float64(len(f.Decisions())-before)/float64(n), "asked/op")
}
