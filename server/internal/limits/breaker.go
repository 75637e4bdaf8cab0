package limits

import (
	"sync"
	"time"
)

// How long the breaker stays open after a failure: the first time, and at most.
const (
	minOpen = 250 * time.Millisecond
	maxOpen = 2 * time.Second
)

// slowCalls is how many calls in a row must be too slow to open the breaker: one
// may only have met a busy machine.
const slowCalls = 3

// breaker is a circuit breaker. A failure opens it for an interval, after which
// it is half-open: one call at a time probes the backend. A probe that fails
// doubles the interval, one that succeeds closes the breaker.
type breaker struct {
	now func() time.Time

	mu       sync.Mutex
	interval time.Duration // how long it is open; 0: closed
	until    time.Time     // when it becomes half-open
	probing  bool
	slow     int // calls in a row that were too slow
}

// Allow says whether a call may be made, and whether it is the probe. Every call
// that may be made ends with Record.
func (b *breaker) Allow() (ok, probe bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.interval == 0 {
		return true, false
	}
	if b.probing || b.now().Before(b.until) {
		return false, false
	}
	b.probing = true
	return true, true
}

// verdict is what a call says about the backend.
type verdict int

const (
	unknown verdict = iota // the caller hung up
	up
	late // no answer in time
	down // refused, or hung up on
)

// Record ends a call and says whether it opened or closed the breaker.
func (b *breaker) Record(probe bool, v verdict) (changed bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if probe {
		b.probing = false
	} else if b.interval != 0 {
		return false // began before the breaker opened
	}
	switch v {
	case up:
		b.slow = 0
		if probe {
			b.interval = 0
			return true
		}
	case late:
		if b.slow++; b.slow < slowCalls && !probe {
			return false
		}
		fallthrough
	case down:
		changed = b.interval == 0
		b.interval = min(max(minOpen, 2*b.interval), maxOpen)
		b.until = b.now().Add(b.interval)
	}
	return changed
}

// IsOpen says whether the last call failed; a half-open breaker is open.
func (b *breaker) IsOpen() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.interval != 0
}
