// Package limits answers "how often". A limit says which calls it counts, whom
// it counts and how many are allowed. All limits that apply to a call are taken
// from together: all or nothing.
package limits

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/tollgatehq/tollgate/internal/perm"
	"github.com/tollgatehq/tollgate/server/internal/fault"
	"github.com/tollgatehq/tollgate/server/internal/roles"
)

// Subject is whom a limit counts.
type Subject string

// The subjects. They are stored under these names, but for the last: see store.go.
const (
	SubjectUser   Subject = "user"
	SubjectIP     Subject = "ip"
	SubjectAPIKey Subject = "api_key"
	SubjectGlobal Subject = "global"  // all callers together
	SubjectCustom Subject = "custom"  // each value of one entry of the request's context
	SubjectUserIP Subject = "user_ip" // each user at each address
)

// Algorithm is how a limit counts.
type Algorithm string

// The algorithms, as stored.
const (
	GCRA          Algorithm = "gcra"
	FixedWindow   Algorithm = "fixed_window"
	SlidingWindow Algorithm = "sliding_window"
	// Backoff allows Burst calls at once; then each call doubles the wait for
	// the next, from a second up to the period. A period without a call after
	// the wait, and Forget, forget them. Refused calls are not counted and do
	// not make the wait longer. Neither rate nor cost matters. What remains are
	// the free calls: none is left when a call passes after its wait.
	Backoff Algorithm = "backoff"
	// Calendar allows Rate calls in each day, week or month of a time zone.
	Calendar Algorithm = "calendar"
)

// Mode is what a limit does when it is used up.
type Mode string

// The modes, as stored.
const (
	Enforce Mode = "enforce"
	Shadow  Mode = "shadow" // counts and reports, never refuses
)

// Outage is what a limit does while its counters cannot be reached.
type Outage string

// The outage modes, as stored.
const (
	// Local: each instance counts by itself with the limit's full rate, so n
	// instances together allow up to n times as much.
	Local  Outage = "local"
	Open   Outage = "open"   // calls pass
	Closed Outage = "closed" // calls are refused
)

const (
	maxRate      = 1_000_000_000
	minPeriod    = time.Millisecond
	maxPeriod    = 31 * 24 * time.Hour
	maxOverrides = 100
	// maxLimits is how many limits there may be, and maxApplying how many of
	// them may count the same call. Both are checked when a limit is created
	// or changed; every limit that exists is enforced.
	maxLimits   = 1000
	maxApplying = 32
)

// login is the permission that a sign-in is counted under.
const login = "tollgate:login"

// Anonymous is the permission that a refused call without a good credential is
// counted under, besides its own.
const Anonymous = "tollgate:anonymous"

// Limit allows Rate calls per Period, and with GCRA and Backoff Burst at once.
type Limit struct {
	Name        string
	Description string
	Subject     Subject
	Permission  string // pattern; "*" for all
	Rate        int64
	Period      time.Duration // whole microseconds; of calendar limits about what the calendar says
	Burst       int64         // GCRA and Backoff only; 0: the rate, also when the rate changes
	Algorithm   Algorithm
	Mode        Mode
	Outage      Outage
	ContextKey  string // SubjectCustom only
	Calendar    Unit   // Calendar only
	TimeZone    string // Calendar only: a name of the IANA's
	Overrides   []Override
	Builtin     bool
	CreatedAt   time.Time
	UpdatedAt   time.Time
	ResetAt     time.Time // when what it had counted was forgotten, for all keys; zero: never
	Lease       bool      // calls may be counted ahead of time, see lease.go
	LeaseTime   time.Duration
}

// Override gives one key its own allowance per the limit's period.
type Override struct {
	Key   string `json:"key"` // canonical; also of more keys than one, see wildcard.go
	Rate  int64  `json:"rate"`
	Burst int64  `json:"burst,omitempty"` // GCRA and Backoff only; 0: the rate
}

// AtOnce is how many calls pass at once when nothing is used.
func (l Limit) AtOnce() int64 { return atOnce(l.Algorithm, l.Rate, l.Burst) }

func atOnce(a Algorithm, rate, burst int64) int64 {
	if !a.bursts() || burst == 0 {
		return rate
	}
	return burst
}

// bursts says whether the calls at once are another number than the rate.
func (a Algorithm) bursts() bool { return a == GCRA || a == Backoff }

// normal fills in what an unset field means and brings the overrides' keys
// into the form they are compared in.
func (l Limit) normal() (Limit, error) {
	if l.Permission == "" {
		l.Permission = "*"
	}
	if l.Algorithm == "" {
		l.Algorithm = GCRA
	}
	if l.Mode == "" {
		l.Mode = Enforce
	}
	if l.Outage == "" {
		l.Outage = Local
	}
	if l.Algorithm == Calendar {
		if l.Period == 0 {
			l.Period = l.Calendar.length()
		}
		if l.TimeZone == "" {
			l.TimeZone = "UTC"
		}
	}
	if l.Lease && l.LeaseTime == 0 {
		l.LeaseTime = defaultLease
	}
	l.Overrides = slices.Clone(l.Overrides)
	for i, o := range l.Overrides {
		key, ok := l.Subject.OverrideKey(o.Key)
		if !ok {
			what := "an IP address, an IPv6 /64 or a larger network, because the limit counts IP addresses"
			if l.Subject == SubjectUserIP {
				what = "USER@ADDRESS, because the limit counts users at IP addresses"
			}
			return Limit{}, fault.Field(fmt.Sprintf("overrides[%d].key", i), "must be %s", what)
		}
		l.Overrides[i].Key = key
	}
	return l, nil
}

// check returns the fault of the first thing wrong with a normal limit.
func (l Limit) check() error {
	switch {
	case !roles.ValidName(l.Name):
		return fault.Field("name", `must be at most 64 characters: a lower-case letter, then lower-case letters, digits, "-", "_" or "."`)
	case !slices.Contains([]Subject{SubjectUser, SubjectIP, SubjectAPIKey, SubjectGlobal, SubjectCustom, SubjectUserIP}, l.Subject):
		return fault.Field("subject", "must be user, IP, API key, global, custom, or user and IP")
	case !slices.Contains([]Algorithm{GCRA, FixedWindow, SlidingWindow, Backoff, Calendar}, l.Algorithm):
		return fault.Field("algorithm", "must be GCRA, fixed window, sliding window, backoff or calendar")
	case l.Mode != Enforce && l.Mode != Shadow:
		return fault.Field("mode", "must be enforce or shadow")
	case l.Outage != Local && l.Outage != Open && l.Outage != Closed:
		return fault.Field("outage", "must be local, open or closed")
	case l.Period < minPeriod || l.Period > maxPeriod:
		return fault.Field("period", "must be 1 ms to 31 days")
	case l.Period%time.Microsecond != 0:
		return fault.Field("period", "must be whole microseconds")
	case l.Subject == SubjectCustom && l.ContextKey == "":
		return fault.Field("contextKey", "is needed for a custom subject: name the context entry to count by")
	case l.Subject != SubjectCustom && l.ContextKey != "":
		return fault.Field("contextKey", "is only for a custom subject; leave it out")
	case utf8.RuneCountInString(l.ContextKey) > 64 || strings.Contains(l.ContextKey, "\x00"):
		return fault.Field("contextKey", "must be at most 64 characters, without NUL")
	case utf8.RuneCountInString(l.Description) > 512 || strings.Contains(l.Description, "\x00"):
		return fault.Field("description", "must be at most 512 characters, without NUL")
	case len(l.Overrides) > maxOverrides:
		return fault.Field("overrides", "must be at most %d", maxOverrides)
	}
	if err := l.checkCalendar(); err != nil {
		return err
	}
	if err := perm.ValidPattern(l.Permission); err != nil {
		return fault.Field("permission", "%v", err)
	}
	if l.Outage == Open && perm.Match(l.Permission, login) {
		return fault.Field("outage", "must be local or closed: %q covers sign-ins (%s), whose limits may not open in an outage; "+
			"choose another outage mode or a narrower permission", l.Permission, login)
	}
	if err := l.checkAllowance("", l.Rate, l.Burst); err != nil {
		return err
	}
	seen := map[string]bool{}
	for i, o := range l.Overrides {
		at := fmt.Sprintf("overrides[%d].", i)
		if o.Key == "" || utf8.RuneCountInString(o.Key) > 256 {
			return fault.Field(at+"key", "must be 1 to 256 characters")
		}
		if err := l.checkWildcard(at+"key", o.Key); err != nil {
			return err
		}
		if seen[o.Key] {
			return fault.Field(at+"key", "appears twice; give one override for each key")
		}
		seen[o.Key] = true
		if err := l.checkAllowance(at, o.Rate, o.Burst); err != nil {
			return err
		}
	}
	if err := l.checkLease(); err != nil {
		return err
	}
	return l.checkSignIns()
}

func (l Limit) checkAllowance(at string, rate, burst int64) error {
	switch {
	case rate < 1 || rate > maxRate:
		return fault.Field(at+"rate", "must be 1 to %d", maxRate)
	case burst < 0 || burst > maxRate:
		return fault.Field(at+"burst", "must be 1 to %d, or 0 for the rate", maxRate)
	case burst != 0 && !l.Algorithm.bursts():
		return fault.Field(at+"burst", "is only for GCRA and backoff: a window allows its whole rate at once; leave it out")
	case rate > l.Period.Nanoseconds():
		return fault.Field(at+"rate", "is more than one call a nanosecond; lower it or lengthen the period")
	}
	return nil
}

// firstBuiltin cannot be removed, so writers lock its row to wait for each
// other.
const firstBuiltin = "sign-in-per-ip"

// builtins are the limits that every installation starts with.
func builtins() []Limit {
	return []Limit{
		{
			Name: "second-factor-per-user", Description: "Codes of one user's second factor.", Subject: SubjectUser,
			Permission: SecondFactor, Rate: 10, Period: 15 * time.Minute, Burst: 10,
			Algorithm: Backoff, Mode: Enforce, Outage: Local, Builtin: true,
		},
		{
			Name: firstBuiltin, Description: "Sign-ins from one address.", Subject: SubjectIP,
			Permission: login, Rate: 30, Period: time.Minute, Burst: 30,
			Algorithm: GCRA, Mode: Enforce, Outage: Local, Builtin: true,
		},
		{
			// The most wrong passwords in a row that NIST SP 800-63B §5.2.2 lets a
			// verifier accept.
			Name: "sign-in-per-user", Description: "Sign-ins as one user from all addresses together.", Subject: SubjectUser,
			Permission: login, Rate: 100, Period: 15 * time.Minute, Burst: 100,
			Algorithm: Backoff, Mode: Enforce, Outage: Local, Builtin: true,
		},
		{
			Name: "sign-in-per-user-and-ip", Description: "Sign-ins as one user from one address.", Subject: SubjectUserIP,
			Permission: login, Rate: 10, Period: 15 * time.Minute, Burst: 10,
			Algorithm: Backoff, Mode: Enforce, Outage: Local, Builtin: true,
		},
		{
			// Ten a second is more than the clients behind one address send
			// with tokens that have just expired.
			Name: "anonymous-refusals-per-ip", Description: "Refused calls without a good credential from one address.", Subject: SubjectIP,
			Permission: Anonymous, Rate: 600, Period: time.Minute, Burst: 600,
			Algorithm: GCRA, Mode: Enforce, Outage: Local, Builtin: true,
		},
	}
}
