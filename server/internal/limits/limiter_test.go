package limits

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
	"github.com/tollgatehq/tollgate/gen/tollgate/v1/tollgatev1connect"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/clock"
	"github.com/tollgatehq/tollgate/server/internal/fault"
	"github.com/tollgatehq/tollgate/server/internal/fault/faulttest"
	"google.golang.org/protobuf/types/known/durationpb"
)

var _ tollgatev1connect.LimitsServiceHandler = (*Handler)(nil)

func names(r Result) string {
	var list []string
	for _, s := range r.Limits {
		list = append(list, s.Name)
	}
	return strings.Join(list, " ")
}

func TestTakeMatches(t *testing.T) {
	t.Parallel()
	i := onSQLite(t, nil)
	for _, l := range []Limit{
		{Name: "a-user", Subject: SubjectUser, Permission: "orders:*"},
		{Name: "b-ip", Subject: SubjectIP, Permission: "*"},
		{Name: "c-key", Subject: SubjectAPIKey, Permission: "orders:read"},
		{Name: "d-global", Subject: SubjectGlobal, Permission: "orders:write"},
		{Name: "f-user-ip", Subject: SubjectUserIP, Permission: "*"},
		{Name: "e-custom", Subject: SubjectCustom, ContextKey: "tenant", Permission: "orders:*"},
	} {
		l.Rate = 100
		i.create(l)
	}
	ip := netip.MustParseAddr("192.0.2.1")
	for _, c := range []struct {
		what string
		r    Request
		want string
	}{
		{"everything known", Request{Permission: "orders:read", UserID: "u", APIKeyID: "k", IP: ip}, "a-user b-ip c-key e-custom f-user-ip"},
		{"nothing known", Request{Permission: "orders:write"}, "d-global e-custom"},
		{"a user nowhere", Request{Permission: "orders:write", UserID: "u"}, "a-user d-global e-custom"},
		{"another permission", Request{Permission: "stock:read", UserID: "u", IP: ip}, "b-ip f-user-ip"},
		{"not a permission", Request{Permission: "ORDERS", UserID: "u", IP: ip}, "b-ip f-user-ip"},
		{"an empty last segment", Request{Permission: "orders:", IP: ip}, "b-ip e-custom"},
		{"under another permission too", Request{Permission: "stock:read", Also: []string{"orders:read"}, UserID: "u", IP: ip}, "a-user b-ip e-custom f-user-ip"},
		{"nothing applies", Request{Permission: "stock:read"}, ""},
		{"only one subject", Request{Permission: "orders:read", UserID: "u", IP: ip, Only: []Subject{SubjectUser}}, "a-user"},
		{"two subjects", Request{Permission: "orders:read", UserID: "u", IP: ip, Only: []Subject{SubjectUser, SubjectUserIP}}, "a-user f-user-ip"},
		{"only one subject, unknown", Request{Permission: "orders:read", IP: ip, Only: []Subject{SubjectUser}}, ""},
	} {
		r := i.take(c.r)
		slices.SortFunc(r.Limits, func(a, b Status) int { return strings.Compare(a.Name, b.Name) })
		if !r.Allowed || names(r) != c.want {
			t.Errorf("%s: %v %q, want %q", c.what, r.Allowed, names(r), c.want)
		}
	}
}

func TestTakeCountsBySubject(t *testing.T) {
	t.Parallel()
	ip := netip.MustParseAddr
	for _, c := range []struct {
		what     string
		limit    Limit
		one, two Request
		together bool
	}{
		{"one IPv6 network", Limit{Subject: SubjectIP}, Request{IP: ip("2001:db8::1")}, Request{IP: ip("2001:db8::ffff:1")}, true},
		{"two IPv6 networks", Limit{Subject: SubjectIP}, Request{IP: ip("2001:db8::1")}, Request{IP: ip("2001:db8:0:1::1")}, false},
		{"IPv4 written as IPv6", Limit{Subject: SubjectIP}, Request{IP: ip("192.0.2.1")}, Request{IP: ip("::ffff:192.0.2.1")}, true},
		{"two of those", Limit{Subject: SubjectIP}, Request{IP: ip("::ffff:192.0.2.2")}, Request{IP: ip("::ffff:192.0.2.1")}, false},
		{"two zones", Limit{Subject: SubjectIP}, Request{IP: ip("fe80::1%a")}, Request{IP: ip("fe80::1%b")}, true},
		{"one user, two keys", Limit{Subject: SubjectUser}, Request{UserID: "u", APIKeyID: "a"}, Request{UserID: "u", APIKeyID: "b"}, true},
		{"one user, two permissions", Limit{Subject: SubjectUser}, Request{UserID: "u", Permission: "tests:a"}, Request{UserID: "u", Permission: "tests:b"}, true},
		{"two users", Limit{Subject: SubjectUser}, Request{UserID: "u"}, Request{UserID: "v"}, false},
		{"a user at one network", Limit{Subject: SubjectUserIP}, Request{UserID: "u", IP: ip("2001:db8::1")}, Request{UserID: "u", IP: ip("2001:db8::2")}, true},
		{"a user at two networks", Limit{Subject: SubjectUserIP}, Request{UserID: "u", IP: ip("192.0.2.1")}, Request{UserID: "u", IP: ip("192.0.2.2")}, false},
		{"two users at one address", Limit{Subject: SubjectUserIP}, Request{UserID: "u", IP: ip("192.0.2.1")}, Request{UserID: "v", IP: ip("192.0.2.1")}, false},
		{"two API keys", Limit{Subject: SubjectAPIKey}, Request{APIKeyID: "a"}, Request{APIKeyID: "b"}, false},
		{"everybody", Limit{Subject: SubjectGlobal}, Request{UserID: "u"}, Request{IP: ip("192.0.2.1")}, true},
		{"two custom values", Limit{Subject: SubjectCustom, ContextKey: "t"}, Request{Context: map[string]string{"t": "a"}}, Request{Context: map[string]string{"t": "b"}}, false},
		{"no custom value", Limit{Subject: SubjectCustom, ContextKey: "t"}, Request{UserID: "u"}, Request{Context: map[string]string{"x": "b"}}, true},
	} {
		t.Run(c.what, func(t *testing.T) {
			i := onSQLite(t, nil)
			c.limit.Name, c.limit.Rate = "l", 1
			i.create(c.limit)
			if !i.take(c.one).Allowed {
				t.Fatal("the first call is refused")
			}
			if i.take(c.two).Allowed == c.together {
				t.Errorf("counted together: %v", !c.together)
			}
		})
	}
}

func TestTakeResult(t *testing.T) {
	t.Parallel()
	i := onSQLite(t, nil)
	i.create(Limit{Name: "wide", Subject: SubjectGlobal, Rate: 100})
	i.create(Limit{Name: "narrow", Subject: SubjectUser, Rate: 4})
	i.create(Limit{Name: "hourly", Subject: SubjectUser, Rate: 4, Period: time.Hour, Algorithm: FixedWindow})
	i.create(Limit{Name: "watching", Subject: SubjectUser, Rate: 1, Mode: Shadow})
	r := i.take(Request{UserID: "u", Cost: 3})
	if !r.Allowed || names(r) != "hourly narrow wide watching" || r.Limits[0].Remaining != 1 || r.Limits[0].Limit != 4 ||
		!r.Limits[3].Exceeded || !r.Limits[3].Shadow {
		t.Fatalf("%+v", r)
	}
	r = i.take(Request{UserID: "u", Cost: 2})
	if r.Allowed || names(r) != "hourly narrow wide watching" || r.Name != "hourly" || r.Key != "u" {
		t.Fatalf("%+v", r)
	}
	if want := 55*minute + 55*time.Second; r.RetryAfter != want { // it is 03:04:05
		t.Errorf("retry after %s, want the longest, %s", r.RetryAfter, want)
	}
	if r := i.take(Request{UserID: "u", Cost: 5}); r.Allowed || r.RetryAfter != 0 {
		t.Errorf("more than can ever pass: %+v", r)
	}
	if r := i.take(Request{UserID: "u", Cost: 1 << 62}); r.Allowed || r.RetryAfter != 0 {
		t.Errorf("far more than can ever pass: %+v", r)
	}
	backendtest.Equal(t, i.take(Request{UserID: "v", Cost: -7}).Limits[0].Remaining, 3, "remaining after a cost below one, which is one")
}

func TestTakeOverrides(t *testing.T) {
	t.Parallel()
	i := onSQLite(t, nil)
	i.create(Limit{Name: "l", Subject: SubjectIP, Rate: 1, Overrides: []Override{{Key: "2001:db8::1", Rate: 7}, {Key: "192.0.2.1", Rate: 5, Burst: 3}}})
	for address, want := range map[string]int64{"2001:db8::2": 7, "::ffff:192.0.2.1": 3, "192.0.2.2": 1} {
		backendtest.Equal(t, i.take(Request{IP: netip.MustParseAddr(address)}).Limits[0].Limit, want, "limit of %s", address)
	}
}

func TestForget(t *testing.T) {
	t.Parallel()
	i := onSQLite(t, nil)
	i.must(i.EnsureBuiltins(t.Context()))
	r := Request{Permission: login, UserID: "u", IP: netip.MustParseAddr("192.0.2.1")}
	for range 10 {
		if !i.take(r).Allowed {
			t.Fatal("refused too soon")
		}
	}
	if got := i.take(r); got.Allowed || got.Name != "sign-in-per-user-and-ip" || got.Key != "u@192.0.2.1" {
		t.Fatalf("%+v", got)
	}
	only := r
	only.Only = []Subject{SubjectUserIP}
	i.must(i.Forget(t.Context(), only))
	if got := i.take(r); !got.Allowed || names(got) != "sign-in-per-ip sign-in-per-user sign-in-per-user-and-ip" {
		t.Errorf("the user's count at the address is not forgotten, or another is: %+v", got)
	}
}

func TestCheckAndReset(t *testing.T) {
	t.Parallel()
	i := onSQLite(t, nil)
	i.create(Limit{Name: "ips", Subject: SubjectIP, Rate: 2})
	i.create(Limit{Name: "watching", Subject: SubjectGlobal, Permission: "x", Rate: 1, Mode: Shadow})
	i.take(Request{IP: netip.MustParseAddr("2001:db8::1")})
	if r := i.check("ips", "2001:db8::7", 1, false); !r.Allowed || r.Limits[0].Remaining != 0 {
		t.Errorf("an address counts under another form: %+v", r)
	}
	if r := i.check("ips", "2001:db8::/64", 1, true); r.Allowed || r.RetryAfter != 30*time.Second {
		t.Errorf("used up: %+v", r)
	}
	if r := i.check("ips", "anything", 1, false); !r.Allowed {
		t.Errorf("a key that is no address: %+v", r)
	}
	i.must(i.ResetKey(i.system(), "ips", "2001:db8::9"))
	if r := i.check("ips", "2001:db8::1", 2, true); !r.Allowed {
		t.Errorf("after the reset: %+v", r)
	}
	backendtest.Equal(t, fmt.Sprint(i.events("ips")), "[limit.create limit.reset]", "audit")
	i.check("watching", "k", 1, false)
	if r := i.check("watching", "k", 1, false); !r.Allowed || !r.Limits[0].Exceeded || r.RetryAfter != 0 {
		t.Errorf("shadow: %+v", r)
	}
}

// TestCheckOnAnotherInstance: what one instance writes, another knows when asked for
// the limit by name, even when nothing told it.
func TestCheckOnAnotherInstance(t *testing.T) {
	t.Parallel()
	one := onSQLite(t, nil)
	two := startOn(t, one.db, nil)
	one.create(Limit{Name: "new", Subject: SubjectGlobal, Rate: 1})
	if r := two.check("new", "k", 1, false); !r.Allowed || len(r.Limits) != 1 {
		t.Errorf("%+v", r)
	}
}

func TestTakeBeforeStart(t *testing.T) {
	t.Parallel()
	s := New(nil, nil, nil, clock.Real(), onSQLite(t, nil).pages, NewMemory(clock.Real()))
	faulttest.Want(t, faulttest.Err(s.Take(t.Context(), Request{})), fault.Unavailable, "STARTING")
	faulttest.Want(t, s.Forget(t.Context(), Request{}), fault.Unavailable, "STARTING")
}

func TestTakeCanceled(t *testing.T) {
	t.Parallel()
	r := testRedis(t)
	i := onSQLite(t, r)
	i.create(Limit{Name: "l", Subject: SubjectGlobal, Rate: 1})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range 3 {
		if _, err := i.Take(ctx, Request{Permission: "tests:call"}); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	}
	if r.Down() {
		t.Error("a caller that hung up counts as a failure of Redis")
	}
	if !i.take(Request{}).Allowed {
		t.Error("a call that was canceled before it began is counted")
	}
}

func TestRPC(t *testing.T) {
	t.Parallel()
	i := onSQLite(t, nil)
	h := NewHandler(i.Service)
	ctx := i.system()
	created, err := h.CreateLimit(ctx, &tollgatev1.CreateLimitRequest{
		Name: "l", Subject: tollgatev1.Subject_SUBJECT_CUSTOM, ContextKey: "tenant", Permission: "a:b", Rate: 2, Period: durationpb.New(minute),
		Overrides: []*tollgatev1.Override{{Key: "big", Rate: 9}},
	})
	i.must(err)
	if l := created.GetLimit(); l.GetBurst() != 2 || l.GetPermission() != "a:b" || l.GetAlgorithm() != tollgatev1.Algorithm_ALGORITHM_GCRA ||
		l.GetMode() != tollgatev1.Mode_MODE_ENFORCE || l.GetOutage() != tollgatev1.Outage_OUTAGE_LOCAL ||
		l.GetSubject() != tollgatev1.Subject_SUBJECT_CUSTOM || l.GetOverrides()[0].GetBurst() != 9 || created.GetRevision() == 0 {
		t.Errorf("%v", created)
	}
	checked, err := h.CheckLimit(ctx, &tollgatev1.CheckLimitRequest{Limit: "l", Key: "k", Cost: 2})
	i.must(err)
	if !checked.GetAllowed() || checked.GetRetryAfter() != nil || checked.GetStatus().GetRemaining() != 0 ||
		checked.GetStatus().GetReset_().AsDuration() != minute {
		t.Errorf("%v", checked)
	}
	checked, err = h.CheckLimit(ctx, &tollgatev1.CheckLimitRequest{Limit: "l", Key: "k", Peek: true})
	i.must(err)
	if checked.GetAllowed() || checked.GetRetryAfter().AsDuration() != 30*time.Second || !checked.GetStatus().GetExceeded() {
		t.Errorf("%v", checked)
	}
	i.must(faulttest.Err(h.ResetLimit(ctx, &tollgatev1.ResetLimitRequest{Name: "l", Key: "k"})))
	updated, err := h.UpdateLimit(ctx, &tollgatev1.UpdateLimitRequest{
		Name: "l", Algorithm: new(tollgatev1.Algorithm_ALGORITHM_FIXED_WINDOW), Mode: new(tollgatev1.Mode_MODE_SHADOW),
		Outage: new(tollgatev1.Outage_OUTAGE_CLOSED), Period: durationpb.New(time.Hour),
	})
	i.must(err)
	if l := updated.GetLimit(); l.GetBurst() != 0 || l.GetAlgorithm() != tollgatev1.Algorithm_ALGORITHM_FIXED_WINDOW ||
		l.GetMode() != tollgatev1.Mode_MODE_SHADOW || l.GetOutage() != tollgatev1.Outage_OUTAGE_CLOSED ||
		l.GetPeriod().AsDuration() != time.Hour || l.GetRate() != 2 {
		t.Errorf("%v", updated)
	}
	got, err := h.GetLimit(ctx, &tollgatev1.GetLimitRequest{Name: "l"})
	i.must(err)
	list, err := h.ListLimits(ctx, &tollgatev1.ListLimitsRequest{})
	i.must(err)
	if len(list.GetLimits()) != 1 || list.GetLimits()[0].String() != got.GetLimit().String() {
		t.Errorf("%v", list)
	}
	i.must(faulttest.Err(h.DeleteLimit(ctx, &tollgatev1.DeleteLimitRequest{Name: "l"})))
	faulttest.Want(t, faulttest.Err(h.GetLimit(ctx, &tollgatev1.GetLimitRequest{Name: "l"})), fault.NotFound, "LIMIT_NOT_FOUND")
}
