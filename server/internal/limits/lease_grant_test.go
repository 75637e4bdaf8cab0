package limits

import (
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/clock"
	"github.com/tollgatehq/tollgate/server/internal/database"
	"github.com/tollgatehq/tollgate/server/internal/fault"
	"github.com/tollgatehq/tollgate/server/internal/fault/faulttest"
)

// leasedLimit is 100 a second, and 40 at once of which leases set 10 aside.
func leasedLimit(name string) Limit {
	return Limit{Name: name, Subject: SubjectCustom, ContextKey: "k", Rate: 100, Period: time.Second, Burst: 40, Lease: true}
}

func (i *instance) grant(name, key string, want int64) Grant {
	i.t.Helper()
	g, err := i.Grant(i.system(), name, key, want)
	i.must(err)
	return g
}

func TestLeaseIsKept(t *testing.T) {
	onDatabases(t, func(t *testing.T, i *instance) {
		made := i.create(leasedLimit("l"))
		backendtest.Equal(t, made.LeaseTime, 100*time.Millisecond, "lease time when none is given")
		i.create(Limit{Name: "other", Subject: SubjectGlobal, Rate: 5})
		for _, step := range []struct {
			what string
			edit Edit
			want time.Duration
		}{
			{"another time", Edit{LeaseTime: new(50 * time.Millisecond)}, 50 * time.Millisecond},
			{"something else", Edit{Description: new("d")}, 50 * time.Millisecond},
			{"no lease", Edit{Lease: new(false)}, 0},
			{"a lease again", Edit{Lease: new(true)}, 100 * time.Millisecond},
		} {
			l := i.update("l", step.edit)
			backendtest.Equal(t, l.LeaseTime, step.want, "lease time after %s", step.what)
			backendtest.Equal(t, i.get("l").LeaseTime, step.want, "lease time as stored after %s", step.what)
			backendtest.Equal(t, i.get("l").Lease, step.want != 0, "lease after %s", step.what)
		}
		backendtest.Equal(t, i.get("other").Lease, false, "lease of another limit")
	})
}

func TestLeaseIsRefusedWhereItCannotHold(t *testing.T) {
	t.Parallel()
	i := onSQLite(t, nil)
	for _, c := range []struct {
		what, field string
		edit        func(*Limit)
	}{
		{"sliding window", "lease", func(l *Limit) { l.Algorithm, l.Burst = SlidingWindow, 0 }},
		{"backoff", "lease", func(l *Limit) { l.Algorithm = Backoff }},
		{"a small burst", "lease", func(l *Limit) { l.Burst = 19 }},
		{"a long lease", "lease", func(l *Limit) { l.LeaseTime = 201 * time.Millisecond }},
		{"an override", "overrides[1].burst", func(l *Limit) {
			l.Overrides = []Override{{Key: "a", Rate: 100, Burst: 20}, {Key: "b", Rate: 101, Burst: 20}}
		}},
		{"too short", "leaseTime", func(l *Limit) { l.LeaseTime = 9 * time.Millisecond }},
		{"too long", "leaseTime", func(l *Limit) { l.LeaseTime, l.Burst = 1001*time.Millisecond, 1000 }},
		{"no lease", "leaseTime", func(l *Limit) { l.Lease, l.LeaseTime = false, time.Second }},
	} {
		l := leasedLimit("l")
		l.Permission = "tests:*"
		c.edit(&l)
		_, _, err := i.Create(i.system(), l)
		faulttest.WantField(t, err, c.field)
	}
	fixed := leasedLimit("fixed")
	fixed.Algorithm, fixed.Burst = FixedWindow, 0
	i.create(fixed)
	i.create(leasedLimit("l"))
	faulttest.WantField(t, faulttest.Err(i.Update(i.system(), "l", Edit{Rate: new(int64(201))})), "lease")
	faulttest.WantField(t, faulttest.Err(i.Update(i.system(), "l", Edit{Algorithm: new(SlidingWindow)})), "lease")
	i.create(Limit{Name: "plain", Subject: SubjectGlobal, Rate: 5})
	faulttest.Want(t, faulttest.Err(i.Grant(i.system(), "plain", "", 1)), fault.Precondition, "LIMIT_NOT_LEASED")
	faulttest.Want(t, faulttest.Err(i.Grant(i.system(), "nothing", "", 1)), fault.NotFound, "LIMIT_NOT_FOUND")
}

// TestLeaseOfOlderServer: a server that does not know of leases may lower a burst
// below what they need.
func TestLeaseOfOlderServer(t *testing.T) {
	t.Parallel()
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		i := startOn(t, db, nil)
		i.create(leasedLimit("l"))
		i.must(faulttest.Err(db.Exec(t.Context(), `UPDATE limits SET burst = 5 WHERE name = 'l'`)))
		i.must(i.Reset(t.Context()))
		backendtest.Equal(t, i.check("l", "k", 1, true).Limits[0].Limit, 5, "calls at once")
		faulttest.Want(t, faulttest.Err(i.Grant(i.system(), "l", "k", 1)), fault.Precondition, "LIMIT_NOT_LEASED")
	})
}

// TestGrant: leases and other calls come from one counter, which keeps the lease's
// part of the burst back from both.
func TestGrant(t *testing.T) {
	t.Parallel()
	for _, b := range []string{"memory", "redis", "redis one key a script"} {
		t.Run(b, func(t *testing.T) {
			var backend Backend
			if b != "memory" {
				r := testRedis(t)
				r.split = b != "redis"
				backend = r
			}
			i := onSQLite(t, backend)
			l := leasedLimit("l")
			l.Rate, l.Period, l.Burst, l.LeaseTime = 1, 100*time.Second, 10, time.Second // nothing leaks in the test
			i.create(l)
			i.wantRemaining("l", "k", 9, "of a burst of 10 less 1")
			g := i.grant("l", "k", 4)
			if g.Granted != 4 || g.ValidFor != 990*time.Millisecond || g.Limits[0].Remaining != 5 || g.RetryAfter != 0 || !g.Allowed {
				t.Errorf("4 of 9: %+v", g)
			}
			backendtest.Equal(t, i.check("l", "k", 2, false).Limits[0].Remaining, 3, "remaining after a call that costs 2")
			if g = i.grant("l", "k", 1000); g.Granted != 3 || g.Limits[0].Remaining != 0 || g.Limits[0].Exceeded {
				t.Errorf("1000 of 3: %+v", g)
			}
			g = i.grant("l", "k", 1)
			if g.Granted != 0 || g.ValidFor != 0 || g.Allowed || !g.Limits[0].Exceeded || g.RetryAfter <= 90*time.Second {
				t.Errorf("of nothing: %+v", g)
			}
			backendtest.Equal(t, i.check("l", "k", 1, false).Allowed, false, "a call when all is leased")
			backendtest.Equal(t, i.grant("l", "another", 0).Granted, 1, "granted of another key, when none is asked for")
			i.must(i.ResetKey(i.system(), "l", "k"))
			backendtest.Equal(t, i.grant("l", "k", 9).Granted, 9, "granted after a reset")
			i.update("l", Edit{Mode: new(Shadow)})
			if g = i.grant("l", "k", 7); g.Granted != 7 || !g.Allowed || g.RetryAfter != 0 || g.ValidFor == 0 {
				t.Errorf("of a limit that only watches: %+v", g)
			}
		})
	}
}

// TestGrantEndsWithItsWindow: of a fixed window nothing is set aside, and what is
// granted near its end is good for what is left of it.
func TestGrantEndsWithItsWindow(t *testing.T) {
	t.Parallel()
	i := onSQLite(t, nil)
	l := leasedLimit("l")
	l.Algorithm, l.Rate, l.Burst, l.LeaseTime = FixedWindow, 8, 0, 500*time.Millisecond
	i.create(l)
	i.clock.Advance(time.Second - i.clock.Now().Sub(i.clock.Now().Truncate(time.Second)))
	backendtest.Equal(t, i.grant("l", "k", 1).ValidFor, 495*time.Millisecond, "at the window's start")
	i.clock.Advance(800 * time.Millisecond)
	g := i.grant("l", "k", 10)
	backendtest.Equal(t, g.ValidFor, 198*time.Millisecond, "200 ms before its end")
	backendtest.Equal(t, g.Granted, 7, "granted of the 8 of the window")
	i.clock.Advance(200 * time.Millisecond)
	backendtest.Equal(t, i.grant("l", "k", 10).Granted, 8, "granted of the next window")
}

// TestGrantInOutage goes by the outage mode.
func TestGrantInOutage(t *testing.T) {
	t.Parallel()
	for outage, want := range map[Outage]int64{Local: 20, Open: 20, Closed: 0} {
		t.Run(string(outage), func(t *testing.T) {
			t.Parallel()
			i := onSQLite(t, NewRedis(redis.NewClient(&redis.Options{Addr: "127.0.0.1:1"}), "", clock.Real(), nil))
			l := leasedLimit("l")
			l.Outage = outage
			i.create(l)
			g := i.grant("l", "k", 20)
			backendtest.Equal(t, g.Granted, want, "granted")
			backendtest.Equal(t, g.RetryAfter > 0, want == 0, "told to wait")
			backendtest.Equal(t, g.ValidFor > 0, want != 0, "may be used")
		})
	}
}

// TestGrantIsNotFromWhatIsHeld: an instance's own lease may be older than the caller's
// question.
func TestGrantIsNotFromWhatIsHeld(t *testing.T) {
	t.Parallel()
	i := onSQLite(t, NewLeases(testRedis(t), clock.Real()))
	l := leasedLimit("l")
	l.Rate, l.Burst, l.LeaseTime = 1, 200, time.Second
	i.create(l)
	var held Status
	for n := 0; held.Leased < 2; n++ {
		if n == 40 {
			t.Fatal("40 calls in a moment are worth no lease")
		}
		held = i.check("l", "k", 1, false).Limits[0]
	}
	g := i.grant("l", "k", 1000)
	if g.Granted != held.Remaining-held.Leased || g.Limits[0].Remaining != 0 {
		t.Errorf("%d remain, %d of them held: %+v", held.Remaining, held.Leased, g)
	}
	now := i.check("l", "k", 1, true).Limits[0]
	backendtest.Equal(t, [2]int64{now.Leased, now.Remaining}, [2]int64{held.Leased, held.Leased}, "held and remaining after that")
	i.must(i.ResetKey(i.system(), "l", "k"))
	now = i.check("l", "k", 1, true).Limits[0]
	backendtest.Equal(t, [3]int64{now.Leased, now.Remaining, now.Limit}, [3]int64{0, 199, 199}, "held, remaining and limit after a reset")
}
