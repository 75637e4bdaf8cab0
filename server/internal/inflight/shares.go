package inflight

import "net/netip"

const (
	// defaultCalls is how many calls may run at once: many more than the
	// processors and the database are good for, few enough that each still gets
	// its answer in time.
	defaultCalls = 1024
	// probeCalls is how many health checks may run at once. They have places of
	// their own: a probe must tell a busy server from a dead one.
	probeCalls = 64
	// reflectionStreams is how many reflection streams may be open at once. One
	// answer of a few bytes' question has 200 kB.
	reflectionStreams = 32

	// RequestMemory is what one request is taken to hold, in bytes, from its first
	// header to the last byte of its answer: its headers (32 KiB at most) or its
	// goroutine, buffers and a body of up to SmallBody. A larger body is counted on
	// top.
	RequestMemory = 32 << 10
	// SmallBody is the size in bytes up to which a body is part of RequestMemory.
	SmallBody = 8 << 10
	// minMemory is the least that all requests together may hold.
	minMemory = 64 << 20
)

// Shares bound what is under way at all ports of the API together, in all and per
// client address.
type Shares struct {
	Memory     *Limiter[netip.Addr] // bytes that requests hold, whatever they wait for
	Calls      *Limiter[netip.Addr] // calls whose handler runs
	Probes     *Limiter[netip.Addr]
	Reflection *Limiter[netip.Addr]
}

// NewShares makes the limiters for so many calls at once; 0: 1024.
func NewShares(calls int) *Shares {
	if calls <= 0 {
		calls = defaultCalls
	}
	return &Shares{
		Memory:     New[netip.Addr](max(minMemory, int64(calls)*2*RequestMemory)),
		Calls:      New[netip.Addr](int64(calls)),
		Probes:     New[netip.Addr](probeCalls),
		Reflection: New[netip.Addr](reflectionStreams),
	}
}

// Lease is the memory that one request holds. It is not safe for concurrent use.
type Lease struct {
	limiter *Limiter[netip.Addr]
	client  netip.Addr
	size    int64
}

// Lease makes the lease of a client's request, of nothing yet.
func (s *Shares) Lease(client netip.Addr) Lease { return Lease{limiter: s.Memory, client: client} }

// Client is whose request it is.
func (l *Lease) Client() netip.Addr { return l.client }

// Grow makes the lease at least size bytes, if the client's share allows it.
func (l *Lease) Grow(size int64) bool {
	if size <= l.size {
		return true
	}
	if !l.limiter.Acquire(l.client, size-l.size) {
		return false
	}
	l.size = size
	return true
}

// Shrink makes the lease at most size bytes.
func (l *Lease) Shrink(size int64) {
	if size < l.size {
		l.limiter.Release(l.client, l.size-size)
		l.size = size
	}
}
