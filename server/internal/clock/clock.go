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
}

// Real returns the machine's clock.
func Real() Clock { return Clock{Now: time.Now} }

// Micros is the time as it is stored: microseconds since 1970, UTC.
func (c Clock) Micros() int64 { return c.Now().UnixMicro() }

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
	mu  sync.Mutex
	now time.Time
}

// NewFake returns a Fake that shows t.
func NewFake(t time.Time) *Fake { return &Fake{now: t} }

// Clock returns a Clock that shows the fake's time.
func (f *Fake) Clock() Clock { return Clock{Now: f.Now} }

// Now returns the fake's time.
func (f *Fake) Now() time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.now
}

// Advance moves the fake by d.
func (f *Fake) Advance(d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.now = f.now.Add(d)
}
