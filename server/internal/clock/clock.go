// Package clock gives the time and the ids that sort by it. Everything that
// needs the time is given a Clock, so that tests decide it. Randomness is
// crypto/rand's; a test that must repeat it uses testing/cryptotest.
package clock

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"sync"
	"time"
)

// Clock gives the time. The zero value is not usable.
type Clock struct {
	Now func() time.Time

	instant func() Instant // nil: what Now says
}

// Real returns the machine's clock.
func Real() Clock { return Clock{Now: time.Now, instant: realInstant} }

// began is what the machine's monotonic clock is read against.
var began = time.Now()

func realInstant() Instant {
	now := time.Now() // one reading of both
	return Instant{wall: now.UnixNano(), mono: int64(now.Sub(began))}
}

// Instant is a reading of the wall clock and of the monotonic clock, in nanoseconds.
// It tells how much time has passed, not what time it is.
type Instant struct{ wall, mono int64 }

// Instant reads both clocks.
func (c Clock) Instant() Instant {
	if c.instant != nil {
		return c.instant()
	}
	now := c.Now().UnixNano()
	return Instant{now, now}
}

// Since is how much time has passed at most: what the monotonic clock says, which is
// never set but on most systems stands while the machine sleeps, or what the wall
// clock says when that is more. A wall clock that is set back changes nothing.
func (i Instant) Since(earlier Instant) time.Duration {
	return time.Duration(max(i.mono-earlier.mono, i.wall-earlier.wall))
}

// Micros is the time as it is stored: microseconds since 1970, UTC.
func (c Clock) Micros() int64 { return c.Now().UnixMicro() }

// Stored is the time as it is read back from the database: to the microsecond, UTC.
func (c Clock) Stored() time.Time { return time.UnixMicro(c.Micros()).UTC() }

// Reached says whether a time that may be unset has come.
func Reached(t, now time.Time) bool { return !t.IsZero() && !now.Before(t) }

// NewID returns a UUIDv7 (RFC 9562 §5.7) whose rand_a bits hold the fraction
// of the millisecond (§6.2, method 3), so that ids sort by time to about 250 ns.
func (c Clock) NewID() string {
	now := c.Now()
	ms := now.UnixMilli()
	fraction := uint64(now.UnixNano()-ms*1_000_000) * 4096 / 1_000_000

	var id [16]byte
	binary.BigEndian.PutUint64(id[:8], uint64(ms)<<16|0x7000|fraction)
	rand.Read(id[8:])
	id[8] = id[8]&0x3f | 0x80

	var text [36]byte
	hex.Encode(text[:8], id[:4])
	hex.Encode(text[9:13], id[4:6])
	hex.Encode(text[14:18], id[6:8])
	hex.Encode(text[19:23], id[8:10])
	hex.Encode(text[24:], id[10:])
	text[8], text[13], text[18], text[23] = '-', '-', '-', '-'
	return string(text[:])
}

// Fake stands still until a test moves it. It is safe for concurrent use.
type Fake struct {
	mu   sync.Mutex
	now  time.Time
	mono int64
}

// NewFake returns a Fake that shows t.
func NewFake(t time.Time) *Fake { return &Fake{now: t} }

// Clock returns a Clock that shows the fake's time.
func (f *Fake) Clock() Clock { return Clock{Now: f.Now, instant: f.instant} }

// Now returns the fake's time.
func (f *Fake) Now() time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.now
}

func (f *Fake) instant() Instant {
	f.mu.Lock()
	defer f.mu.Unlock()
	return Instant{f.now.UnixNano(), f.mono}
}

// Advance moves the fake by d.
func (f *Fake) Advance(d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.now = f.now.Add(d)
	f.mono += int64(d)
}

// Set sets the wall clock forward or back by d; the monotonic clock stays. Forward,
// it is also what a machine that slept for d sees.
func (f *Fake) Set(d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.now = f.now.Add(d)
}
