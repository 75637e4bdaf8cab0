// Package world is what a program cannot compute: the time, and randomness.
// Everything that needs them is given a World, so that tests decide both.
package world

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"io"
	"sync"
	"time"
)

// World gives the time and randomness.
type World struct {
	Now    func() time.Time
	Random io.Reader // never runs dry; crypto/rand outside of tests
}

// Real is the machine's clock and crypto/rand.
func Real() World {
	return World{Now: time.Now, Random: rand.Reader}
}

// Micros is the time as it is stored: microseconds since 1970, UTC.
func (w World) Micros() int64 { return w.Now().UnixMicro() }

// Bytes returns n random bytes. Like crypto/rand, it does not fail: a machine
// without randomness must not go on.
func (w World) Bytes(n int) []byte {
	b := make([]byte, n)
	if _, err := io.ReadFull(w.Random, b); err != nil {
		panic("no randomness: " + err.Error())
	}
	return b
}

// NewID returns a UUIDv7 (RFC 9562 §5.7) whose rand_a bits hold the fraction
// of the millisecond (§6.2, method 3), so that ids sort by time to about 250 ns.
func (w World) NewID() string {
	now := w.Now()
	ms := now.UnixMilli()
	fraction := uint64(now.UnixNano()-ms*1_000_000) * 4096 / 1_000_000

	var id [16]byte
	binary.BigEndian.PutUint64(id[:8], uint64(ms)<<16|0x7000|fraction)
	copy(id[8:], w.Bytes(8))
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

// Clock is a clock that stands still until a test moves it. It is safe for
// concurrent use.
type Clock struct {
	mu  sync.Mutex
	now time.Time
}

// NewClock starts a clock at t.
func NewClock(t time.Time) *Clock { return &Clock{now: t} }

// Now is the clock's time.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// Advance moves the clock.
func (c *Clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}
