// Package inflight bounds what is under way at one time, in all and per caller.
package inflight

import (
	"net/netip"
	"sync"
)

// Limiter shares a capacity among callers: places, bytes or connections. A
// caller may hold as much as it leaves free. One caller alone gets at most half
// of the capacity, two get a third each, and however many there are, the next
// caller that holds nothing finds something free. This is the dynamic threshold
// of A. K. Choudhury and E. L. Hahne, "Dynamic Queue Length Thresholds for
// Shared-Memory Packet Switches" (1998), with a factor of 1.
//
// A Limiter is safe for concurrent use.
type Limiter[K comparable] struct {
	capacity int64

	mu   sync.Mutex
	used int64
	held map[K]int64
}

// New makes a Limiter of a capacity of at least 1.
func New[K comparable](capacity int64) *Limiter[K] {
	return &Limiter[K]{capacity: max(capacity, 1), held: map[K]int64{}}
}

// Acquire takes n for a caller if that leaves the caller within its share, and
// says whether it did. Release it once.
func (l *Limiter[K]) Acquire(caller K, n int64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	held := l.held[caller]
	if held+n > l.capacity-l.used {
		return false
	}
	l.used += n
	l.held[caller] = held + n
	return true
}

// Fits says whether Acquire of 1 would succeed at this moment.
func (l *Limiter[K]) Fits(caller K) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.held[caller]+1 <= l.capacity-l.used
}

// Release gives back n that a caller acquired.
func (l *Limiter[K]) Release(caller K, n int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.used -= n
	if held := l.held[caller] - n; held > 0 {
		l.held[caller] = held
	} else {
		delete(l.held, caller)
	}
}

// Capacity is what all callers together may hold.
func (l *Limiter[K]) Capacity() int64 { return l.capacity }

// Used is what all callers together hold.
func (l *Limiter[K]) Used() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.used
}

// Address identifies the client at an address: IPv4 by itself, IPv6 by its /64,
// which is the least that one customer gets.
func Address(ip netip.Addr) netip.Addr {
	ip = ip.Unmap().WithZone("")
	if !ip.Is6() {
		return ip
	}
	network, _ := ip.Prefix(64) // fails only for an invalid address
	return network.Addr()
}
