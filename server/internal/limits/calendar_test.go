package limits

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/fault"
	"github.com/tollgatehq/tollgate/server/internal/fault/faulttest"
	"pgregory.net/rapid"
)

func inZone(t testing.TB, name string) *time.Location {
	t.Helper()
	zone, ok := zoneOf(name)
	if !ok {
		t.Fatalf("there is no zone %s", name)
	}
	return zone
}

func TestCalendarWindows(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		unit              Unit
		zone, now         string
		start, end, after string
		hours             float64
	}{
		{Day, "UTC", "2026-02-28T23:59:59Z", "2026-02-28T00:00:00Z", "2026-03-01T00:00:00Z", "2026-03-02T00:00:00Z", 24},
		{Day, "UTC", "2028-02-28T12:00:00Z", "2028-02-28T00:00:00Z", "2028-02-29T00:00:00Z", "2028-03-01T00:00:00Z", 24},
		{Day, "Europe/Berlin", "2026-03-29T10:00:00Z", "2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z", "2026-03-30T22:00:00Z", 23},
		{Day, "Europe/Berlin", "2026-10-25T10:00:00Z", "2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z", "2026-10-26T23:00:00Z", 25},
		{Day, "Asia/Kathmandu", "2026-01-01T18:14:59Z", "2025-12-31T18:15:00Z", "2026-01-01T18:15:00Z", "2026-01-02T18:15:00Z", 24},
		{Day, "Australia/Lord_Howe", "2026-04-05T00:00:00Z", "2026-04-04T13:00:00Z", "2026-04-05T13:30:00Z", "2026-04-06T13:30:00Z", 24.5},
		{Day, "America/Santiago", "2026-09-06T12:00:00Z", "2026-09-06T04:00:00Z", "2026-09-07T03:00:00Z", "2026-09-08T03:00:00Z", 23}, // no midnight: 00:00 is 01:00
		{Day, "America/Havana", "2026-11-01T12:00:00Z", "2026-11-01T04:00:00Z", "2026-11-02T05:00:00Z", "2026-11-03T05:00:00Z", 25},   // two midnights
		{Day, "Pacific/Apia", "2011-12-30T09:00:00Z", "2011-12-29T10:00:00Z", "2011-12-30T10:00:00Z", "2011-12-30T10:00:00Z", 24},     // December 30 never was
		{Week, "Europe/Berlin", "2026-03-29T10:00:00Z", "2026-03-22T23:00:00Z", "2026-03-29T22:00:00Z", "2026-04-05T22:00:00Z", 167},
		{Week, "UTC", "2027-01-01T00:00:00Z", "2026-12-28T00:00:00Z", "2027-01-04T00:00:00Z", "2027-01-11T00:00:00Z", 168},
		{Month, "UTC", "2028-02-29T23:59:59Z", "2028-02-01T00:00:00Z", "2028-03-01T00:00:00Z", "2028-04-01T00:00:00Z", 29 * 24},
		{Month, "America/New_York", "2026-03-31T23:00:00Z", "2026-03-01T05:00:00Z", "2026-04-01T04:00:00Z", "2026-05-01T04:00:00Z", 31*24 - 1},
		{Month, "UTC", "2026-12-31T23:59:59Z", "2026-12-01T00:00:00Z", "2027-01-01T00:00:00Z", "2027-02-01T00:00:00Z", 31 * 24},
	} {
		now, err := time.Parse(time.RFC3339, c.now)
		backendtest.Must(t, err)
		w := &windows{unit: c.unit, zone: inZone(t, c.zone), now: func() time.Time { return now }}
		var got []string
		s := w.starts()
		for _, at := range s[1:] {
			got = append(got, time.UnixMicro(at).UTC().Format(time.RFC3339))
		}
		backendtest.Equal(t, fmt.Sprint(got), fmt.Sprint([]string{c.start, c.end, c.after}), "%s in %s at %s", c.unit, c.zone, c.now)
		backendtest.Equal(t, float64(s[2]-s[1])/3.6e9, c.hours, "hours of the %s in %s at %s", c.unit, c.zone, c.now)
	}
}

// TestCalendarModel compares with what a clock on the wall shows: a window is the
// moments with one date, week or month.
func TestCalendarModel(t *testing.T) {
	t.Parallel()
	zones := strings.Fields("UTC Europe/Berlin America/New_York America/Sao_Paulo America/Santiago America/Havana Africa/Cairo Asia/Beirut " +
		"Asia/Kathmandu Asia/Tehran Australia/Lord_Howe Pacific/Auckland Pacific/Apia Pacific/Kiritimati Antarctica/Troll Africa/Casablanca")
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.SampledFrom(zones).Draw(t, "zone")
		zone, _ := zoneOf(name)
		w := &windows{unit: rapid.SampledFrom([]Unit{Day, Week, Month}).Draw(t, "unit"), zone: zone}
		shown := func(micros int64) string {
			at := time.UnixMicro(micros).In(zone)
			switch year, week := at.ISOWeek(); w.unit {
			case Week:
				return fmt.Sprint(year, "-", week)
			case Month:
				return at.Format("2006-01")
			default:
				return at.Format(time.DateOnly)
			}
		}
		now := time.Date(2015, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro() + rapid.Int64Range(0, 30*365*day).Draw(t, "at")
		if rapid.Bool().Draw(t, "near a boundary") {
			w.now = func() time.Time { return time.UnixMicro(now) }
			now = w.starts()[2] + rapid.Int64Range(-2, 2).Draw(t, "off")
		}
		w.now = func() time.Time { return time.UnixMicro(now) }
		w.known.Store(nil)
		s := w.starts()
		if s[1] > now || now >= s[2] || s.at(now) != s[1] || s.after(s[1], 0) != s[2] {
			t.Fatalf("%d is not in the window of %v", now, s)
		}
		for i := range 3 {
			if shown(s[i]) != shown(s[i+1]-1) || shown(s[i]) == shown(s[i+1]) {
				t.Fatalf("%s: from %s to %s is more or less than one %s", name, shown(s[i]), shown(s[i+1]-1), w.unit)
			}
		}
		if again := w.starts(); again != s {
			t.Fatalf("remembered %v, was %v", again, s)
		}
	})
}

// TestCalendarCountsByTheModel counts at random times, by a counter whose clock is not
// the instance's, and compares with a count for each window.
func TestCalendarCountsByTheModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		zone, _ := zoneOf(rapid.SampledFrom([]string{"Europe/Berlin", "America/Havana", "Asia/Kathmandu"}).Draw(t, "zone"))
		unit := rapid.SampledFrom([]Unit{Day, Week, Month}).Draw(t, "unit")
		c := Count{Algorithm: Calendar, Rate: 10, Burst: 10, Period: unit.length().Microseconds()}
		used := map[int64]int64{} // by the window's start
		var s state
		now := start
		for range rapid.IntRange(1, 60).Draw(t, "calls") {
			now += rapid.Int64Range(0, c.Period/3).Draw(t, "later")
			skew := rapid.Int64Range(-20*3600*1_000_000, 20*3600*1_000_000).Draw(t, "skew")
			w := &windows{unit: unit, zone: zone, now: func() time.Time { return time.UnixMicro(now + skew) }}
			c.Starts = w.starts()
			c.Cost = rapid.Int64Range(1, 4).Draw(t, "cost")
			window := (&windows{unit: unit, zone: zone}).start(time.UnixMicro(now), 0).UnixMicro()
			s = c.advance(s, now)
			exceeded := used[window]+c.Cost > 10
			if c.exceeded(s, now) != exceeded || s.at != window {
				t.Fatalf("exceeded %v at %d of the window of %d, want %v, %d", !exceeded, s.at, now, exceeded, window)
			}
			next := (&windows{unit: unit, zone: zone}).start(time.UnixMicro(now), 1).UnixMicro()
			if o := c.outcome(s, now, exceeded); o.Remaining != 10-used[window] || used[window] > 0 && o.Reset != micros(next-now) || exceeded && o.RetryAfter != micros(next-now) {
				t.Fatalf("%+v with %d used, %d before the end", o, used[window], next-now)
			}
			if !exceeded {
				s = c.take(s, now)
				used[window] += c.Cost
			}
		}
	})
}

// TestRedisCountsCalendarsTheSame runs the script on counters of any age and compares
// it with calendar.go at Redis's own time.
func TestRedisCountsCalendarsTheSame(t *testing.T) {
	t.Parallel()
	r := testRedis(t)
	zone := inZone(t, "Europe/Berlin")
	for n := range 300 {
		unit := []Unit{Day, Week, Month}[rand.IntN(3)]
		skew := time.Duration(rand.Int64N(int64(3*unit.length()))) - 3*unit.length()/2
		w := &windows{unit: unit, zone: zone, now: func() time.Time { return time.Now().Add(skew) }}
		rate := 1 + rand.Int64N(1000)
		c := Count{
			Counter: fmt.Sprint("c", n), Key: "k", Algorithm: Calendar, Rate: rate, Burst: rate, Period: unit.length().Microseconds(),
			Starts: w.starts(), Cost: 1 + rand.Int64N(rate), Lease: 1, // so that the outcome has the state
		}
		before := state{at: c.Starts[rand.IntN(4)], count: rand.Int64N(2 * rate), period: c.Period}
		key := r.keys([]Count{c})[0]
		backendtest.Must(t, r.client.Set(t.Context(), key, fmt.Sprintf("%d %d %d %d", before.at, before.count, before.rest, before.period), time.Hour).Err())
		o := take(t, r, c)[0]
		want := c.advance(before, o.now)
		backendtest.Equal(t, o.Exceeded, c.exceeded(want, o.now), "%+v exceeded", c)
		if !o.Exceeded {
			want, _ = c.reach(c.take(want, o.now), false)
			left := time.Duration(max(0, c.Starts.after(want.at, c.Period)-o.now)) * time.Microsecond
			ttl, err := r.client.PTTL(t.Context(), key).Result()
			backendtest.Must(t, err)
			if ttl > left+2*time.Millisecond || ttl < left-time.Minute {
				t.Errorf("%+v is kept for %s, want %s", c, ttl, left)
			}
		}
		if o.Exceeded {
			want, _ = c.reach(want, true)
		}
		backendtest.Equal(t, o.state, want, "%+v", c)
	}
}

// TestCalendarWithAClockFarBehind: an instance whose clock is more than two windows behind
// the counters' refuses too much rather than too little.
func TestCalendarWithAClockFarBehind(t *testing.T) {
	t.Parallel()
	r := testRedis(t)
	w := &windows{unit: Day, zone: time.UTC, now: func() time.Time { return time.Now().Add(-100 * 24 * time.Hour) }}
	c := Count{Counter: "c", Key: "k", Algorithm: Calendar, Rate: 2, Burst: 2, Period: Day.length().Microseconds(), Starts: w.starts(), Cost: 2}
	take(t, r, c)
	ttl, err := r.client.PTTL(t.Context(), r.keys([]Count{c})[0]).Result()
	backendtest.Must(t, err)
	if ttl < time.Hour || !take(t, r, c)[0].Exceeded {
		t.Errorf("what was counted is forgotten after %s", ttl)
	}
}

func TestCalendarLimit(t *testing.T) {
	onDatabases(t, func(t *testing.T, i *instance) {
		berlin := inZone(t, "Europe/Berlin")
		to := func(year int, month time.Month, day, hour int) {
			i.clock.Advance(time.Date(year, month, day, hour, 0, 0, 0, berlin).Sub(i.clock.Now()))
		}
		to(2026, 3, 28, 12)
		made, _, err := i.Create(i.system(), Limit{
			Name: "daily", Subject: SubjectCustom, ContextKey: "k", Permission: "tests:*", Rate: 10, Algorithm: Calendar, Calendar: Day, TimeZone: "Europe/Berlin",
			Overrides: []Override{{Key: "big-*", Rate: 100}},
		})
		i.must(err)
		if got := i.get("daily"); fmt.Sprint(got) != fmt.Sprint(made) || got.Calendar != Day || got.TimeZone != "Europe/Berlin" || got.Period != 24*time.Hour {
			t.Errorf("stored %+v, made %+v", got, made)
		}
		i.check("daily", "k", 10, false)
		r := i.check("daily", "k", 1, false)
		backendtest.Equal(t, r.RetryAfter, 12*time.Hour, "time until midnight in Berlin")
		backendtest.Equal(t, r.Allowed, false, "the eleventh call")
		backendtest.Equal(t, i.check("daily", "big-1", 1, false).Limits[0].Remaining, 99, "remaining of an override")
		to(2026, 3, 29, 0) // a day of 23 hours
		backendtest.Equal(t, i.check("daily", "k", 10, false).Limits[0].Reset, 23*time.Hour, "time until the next midnight")
		to(2026, 3, 29, 23)
		backendtest.Equal(t, i.check("daily", "k", 1, false).Allowed, false, "a call in the last hour")
		to(2026, 3, 30, 0)
		backendtest.Equal(t, i.check("daily", "k", 1, false).Allowed, true, "a call of the next day")

		// Another calendar counts anew.
		l := i.update("daily", Edit{Calendar: new(Month)})
		backendtest.Equal(t, l.Period, maxPeriod, "period of a month")
		i.wantRemaining("daily", "k", 10, "of the month")
		i.check("daily", "k", 3, false)
		to(2026, 3, 31, 23)
		i.wantRemaining("daily", "k", 7, "on its last day")
		to(2026, 4, 1, 0)
		i.wantRemaining("daily", "k", 10, "of the next month")
		i.update("daily", Edit{TimeZone: new("America/New_York")})
		backendtest.Equal(t, i.check("daily", "k", 1, false).Limits[0].Reset, 6*time.Hour, "time until April in New York")
		i.update("daily", Edit{Rate: new(int64(20))})
		i.wantRemaining("daily", "k", 19, "at another rate, what was counted stays")

		// And another algorithm has no calendar.
		l = i.update("daily", Edit{Algorithm: new(FixedWindow), Period: new(time.Hour)})
		if l.Calendar != "" || l.TimeZone != "" || l.Period != time.Hour {
			t.Errorf("as a fixed window %+v", l)
		}
		l = i.update("daily", Edit{Algorithm: new(Calendar), Calendar: new(Week)})
		if l.Calendar != Week || l.TimeZone != "UTC" || l.Period != 7*24*time.Hour {
			t.Errorf("as a week %+v", l)
		}
	})
}

func TestCalendarLimitsThatCannotBe(t *testing.T) {
	t.Parallel()
	i := onSQLite(t, nil)
	for _, c := range []struct {
		field string
		limit Limit
	}{
		{"calendar", Limit{Algorithm: Calendar}},
		{"calendar", Limit{Algorithm: Calendar, Calendar: "year"}},
		{"calendar", Limit{Algorithm: FixedWindow, Calendar: Day, Period: minute}},
		{"timeZone", Limit{Algorithm: GCRA, TimeZone: "UTC", Period: minute}},
		{"timeZone", Limit{Algorithm: Calendar, Calendar: Day, TimeZone: "Local"}},
		{"timeZone", Limit{Algorithm: Calendar, Calendar: Day, TimeZone: "Mars/Olympus"}},
		{"timeZone", Limit{Algorithm: Calendar, Calendar: Day, TimeZone: "../../etc/passwd"}},
		{"timeZone", Limit{Algorithm: Calendar, Calendar: Day, TimeZone: strings.Repeat("x", 65)}},
		{"period", Limit{Algorithm: Calendar, Calendar: Day, Period: minute}},
		{"period", Limit{Algorithm: FixedWindow}},
		{"burst", Limit{Algorithm: Calendar, Calendar: Day, Burst: 5}},
		{"lease", Limit{Algorithm: Calendar, Calendar: Day, Lease: true}},
		{"algorithm", Limit{Algorithm: Calendar, Calendar: Day, Permission: "*"}},
	} {
		l := c.limit
		l.Name, l.Subject, l.Rate = "few", SubjectUser, 10
		if l.Permission == "" {
			l.Permission = "tests:*"
		}
		_, _, err := i.Create(i.system(), l)
		if f := faulttest.Want(t, err, fault.Invalid, "INVALID_FIELD"); !strings.HasPrefix(f.Message, c.field+": ") {
			t.Errorf("%+v: %s", c.limit, f.Message)
		}
	}
}
