package limits

import (
	"sort"
	"sync/atomic"
	"time"
	_ "time/tzdata" // for machines without time zones

	"github.com/tollgatehq/tollgate/server/internal/fault"
)

// Unit is what a calendar limit counts anew with.
type Unit string

// The units, as stored.
const (
	Day   Unit = "day"
	Week  Unit = "week" // from Monday, as in ISO 8601
	Month Unit = "month"
)

// length is how long the unit is, more or less: its period, for those who want to
// know one.
func (u Unit) length() time.Duration {
	const day = 24 * time.Hour
	switch u {
	case Day:
		return day
	case Week:
		return 7 * day
	default:
		return maxPeriod
	}
}

// Per is the limit's period for people.
func (l Limit) Per() string {
	if l.Algorithm == Calendar {
		return string(l.Calendar) + " in " + l.TimeZone
	}
	return l.Period.String()
}

// zoneOf is the time zone of a name of the IANA's; false when there is none. "Local"
// would be another one on each machine.
func zoneOf(name string) (*time.Location, bool) {
	if name == "" || name == "Local" || len(name) > 64 {
		return nil, false
	}
	zone, err := time.LoadLocation(name)
	return zone, err == nil
}

// checkCalendar returns the fault of what a calendar limit, or another, cannot have.
func (l Limit) checkCalendar() error {
	switch {
	case l.Algorithm != Calendar && l.Calendar != "":
		return fault.Field("calendar", "is only for the calendar algorithm; leave it out, or set the algorithm")
	case l.Algorithm != Calendar && l.TimeZone != "":
		return fault.Field("timeZone", "is only for the calendar algorithm; leave it out, or set the algorithm")
	case l.Algorithm != Calendar:
		return nil
	case l.Calendar != Day && l.Calendar != Week && l.Calendar != Month:
		return fault.Field("calendar", "must be day, week or month")
	case l.Period != l.Calendar.length():
		return fault.Field("period", "is not for calendar limits, whose periods are those of the calendar; leave it out")
	}
	if _, ok := zoneOf(l.TimeZone); !ok {
		return fault.Field("timeZone", `must be a name of the IANA time zone database, such as "Europe/Berlin" or "UTC"`)
	}
	return nil
}

// windows are the windows of a calendar limit, by this instance's clock. Which one it
// is by the counters' clock, Redis's, is for those to say: they are given the starts
// of four, so that clocks may differ by as much as a window.
type windows struct {
	unit  Unit
	zone  *time.Location
	now   func() time.Time
	known atomic.Pointer[starts]
}

// starts are when the window before this one, this one, and the two after it begin, in
// Unix microseconds.
type starts [4]int64

func newWindows(l Limit) *windows {
	if l.Algorithm != Calendar {
		return nil
	}
	zone, ok := zoneOf(l.TimeZone)
	if !ok {
		zone = time.UTC // an instance of another version made it
	}
	return &windows{unit: l.Calendar, zone: zone, now: time.Now}
}

// starts are those of this moment.
func (w *windows) starts() starts {
	now := w.now()
	at := now.UnixMicro()
	if known := w.known.Load(); known != nil && known[1] <= at && at < known[2] {
		return *known
	}
	var s starts
	for i := range s {
		s[i] = w.start(now, i-1).UnixMicro()
	}
	w.known.Store(&s)
	return s
}

// start is when the window begins that is n after the one of a moment.
func (w *windows) start(of time.Time, n int) time.Time {
	year, month, day := of.In(w.zone).Date()
	switch w.unit {
	case Week:
		weekday := int(time.Date(year, month, day, 0, 0, 0, 0, time.UTC).Weekday()+6) % 7
		day += 7*n - weekday
	case Month:
		month, day = month+time.Month(n), 1
	default:
		day += n
	}
	return dayStart(year, month, day, w.zone)
}

// dayStart is the first moment at which the clocks of a zone show a date or a later one:
// midnight, the first of two, or the end of the gap that it is in. It looks at each hour
// rather than for the zone's next change: for some zones, Time.ZoneBounds is no later
// than the time that it is asked about.
func dayStart(year int, month time.Month, day int, zone *time.Location) time.Time {
	midnight := time.Date(year, month, day, 0, 0, 0, 0, time.UTC)
	offset := func(at time.Time) time.Duration {
		_, seconds := at.In(zone).Zone()
		return time.Duration(seconds) * time.Second
	}
	// first is when midnight is shown, from a moment on, up to another one.
	first := func(from, to time.Time) (time.Time, bool) {
		shown := midnight.Add(-offset(from))
		if shown.Before(from) {
			shown = from
		}
		return shown, shown.Before(to)
	}
	hour := midnight.Add(-36 * time.Hour) // no zone is that far from UTC
	for hour.Before(midnight.Add(36 * time.Hour)) {
		next := hour.Add(time.Hour)
		seconds := sort.Search(3600, func(n int) bool { return offset(hour.Add(time.Duration(n)*time.Second)) != offset(hour) })
		change := hour.Add(time.Duration(seconds) * time.Second) // of the clocks, within the hour; or its end
		if shown, ok := first(hour, change); ok {
			return shown
		}
		if shown, ok := first(change, next); ok {
			return shown
		}
		hour = next
	}
	return midnight
}

// at is the start of the window that a moment is in. Before the first and after the
// last that are known, it is the nearest.
func (s starts) at(now int64) int64 {
	start := s[0]
	for _, next := range s[1:] {
		if next <= now {
			start = next
		}
	}
	return start
}

// after is when the window ends that began then.
func (s starts) after(start, period int64) int64 {
	for _, next := range s {
		if next > start {
			return next
		}
	}
	return start + period
}

// advanceCalendar is advance for calendar limits.
func (c Count) advanceCalendar(s state, now int64) state {
	start := c.Starts.at(now)
	switch {
	case s.period == 0 || start > s.at:
		return state{at: start, period: c.Period}
	case s.at > now+c.Period: // the clock stepped back
		s.at = start
	}
	return s
}
