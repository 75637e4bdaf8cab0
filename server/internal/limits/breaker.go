package limits

import (
	"sync"
	"time"
)

// How long a backend that failed is left alone: the first time, and at most.
const (
	firstPause  = 250 * time.Millisecond
	longestWait = 2 * time.Second
)

// slowCalls is how many calls in a row must be too slow for the backend to
// count as down: one may only have met a busy machine.
const slowCalls = 3

// breaker keeps calls from a backend that is down: after a failure for a
// pause, then one call at a time may try, and each that fails doubles the
// pause.
type breaker struct {
	now func() time.Time

	mu     sync.Mutex
	pause  time.Duration // 0: the backend is up
	until  time.Time
	trying bool
	slow   int // calls in a row that were too slow
}

// enter says whether a call may go ahead, and whether it is the one that
// tries. Every call that may go ahead ends with leave.
func (b *breaker) enter() (ok, try bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.pause == 0 {
		return true, false
	}
	if b.trying || b.now().Before(b.until) {
		return false, false
	}
	b.trying = true
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

// leave ends a call and says whether the backend went down or came back by it.
func (b *breaker) leave(try bool, v verdict) (changed bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if try {
		b.trying = false
	} else if b.pause != 0 {
		return false // began before the backend went down: no news
	}
	switch v {
	case up:
		b.slow = 0
		if try {
			b.pause = 0
			return true
		}
	case late:
		if b.slow++; b.slow < slowCalls && !try {
			return false
		}
		fallthrough
	case down:
		changed = b.pause == 0
		b.pause = min(max(firstPause, 2*b.pause), longestWait)
		b.until = b.now().Add(b.pause)
	}
	return changed
}

// isDown says whether the last that is known is a failure.
func (b *breaker) isDown() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.pause != 0
}
