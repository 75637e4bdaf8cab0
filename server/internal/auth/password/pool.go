// Package password hashes and compares passwords, a few at a time, and decides
// which ones are good enough.
package password

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"runtime"
	"strings"
	"sync/atomic"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/fault"
	"github.com/tollgatehq/tollgate/server/internal/inflight"
	"golang.org/x/crypto/bcrypt"
)

const (
	defaultCost = 12
	// queuePerWorker bounds how many wait for a worker, and maxWait for how
	// long: enough to take a burst, not a flood.
	queuePerWorker = 8
	maxWait        = 2 * time.Second
	// busyDelay is how long the answer BUSY is held back, and defaultHeld how
	// many are at once: a client that tries again at every answer would take
	// the processors that the queue leaves to others.
	busyDelay   = 500 * time.Millisecond
	defaultHeld = 128
)

// Options are what a Pool can be given; zero values have defaults.
type Options struct {
	Cost       int // of new hashes; 0: 12
	Workers    int // how many bcrypt runs at once; 0: half the processors
	MaxWaiting int // how many callers run or wait for a worker; 0: nine per worker
	MaxHeld    int // how many refusals are held back at once; 0: 128

	MaxWait   time.Duration // for a worker; 0: 2 s
	BusyDelay time.Duration // how long a refusal is held back; 0: 500 ms

	Compare  func(hash, password []byte) error               // nil: bcrypt's
	Generate func(password []byte, cost int) ([]byte, error) // nil: bcrypt's
}

// Pool hashes and compares. At most a fixed number of bcrypt runs are under way
// at once, so that sign-ins leave the other work its processors.
type Pool struct {
	Options
	dummy   string                        // a hash that costs as much as a real one to compare with, and fits no password
	running chan struct{}                 // holds a token per run
	waiting *inflight.Limiter[netip.Addr] // calls by client address, those that run included
	held    chan struct{}                 // holds a token per BUSY that is held back
	refused atomic.Uint64
}

// NewPool makes a Pool.
func NewPool(o Options) *Pool {
	o.Cost = min(max(cmp.Or(o.Cost, defaultCost), bcrypt.MinCost), bcrypt.MaxCost)
	o.Workers = cmp.Or(o.Workers, max(1, runtime.GOMAXPROCS(0)/2))
	o.MaxWait, o.BusyDelay = cmp.Or(o.MaxWait, maxWait), cmp.Or(o.BusyDelay, busyDelay)
	if o.Compare == nil {
		o.Compare = bcrypt.CompareHashAndPassword
	}
	if o.Generate == nil {
		o.Generate = bcrypt.GenerateFromPassword
	}
	return &Pool{
		Options: o,
		dummy:   dummyHash(o.Cost),
		running: make(chan struct{}, o.Workers),
		waiting: inflight.New[netip.Addr](int64(cmp.Or(o.MaxWaiting, o.Workers*(1+queuePerWorker)))),
		held:    make(chan struct{}, cmp.Or(o.MaxHeld, defaultHeld)),
	}
}

// Matches says whether the password is the one that was hashed. With an empty
// hash, or a password that no hash was ever made of, the answer is no, after
// the same work.
//
// A hash of a lower cost than today's takes less work to compare with. A no is
// made to take as much work as any other: bcrypt doubles its work with each step of the
// cost, so comparisons at the costs from the hash's to the one below today's
// are, together with the first, exactly the work of one at today's. A yes needs
// none of that: it tells who knows the password, and its hash is made anew. A
// hash of a higher cost, from before the cost was lowered, takes longer until
// its password is changed.
func (p *Pool) Matches(ctx context.Context, hash, password string) (bool, error) {
	cost, err := bcrypt.Cost([]byte(hash))
	possible := err == nil && password != "" && len(password) <= maxLength && !holdsNUL(password)
	if !possible {
		hash, cost = p.dummy, p.Cost
	}
	matched := false
	work := func() {
		matched = p.Compare([]byte(hash), []byte(password)) == nil && possible
		for ; !matched && cost < p.Cost; cost++ {
			_ = p.Compare([]byte(dummyHash(cost)), []byte(password)) // for its work only
		}
	}
	if busy := p.run(ctx, work); busy != nil {
		return false, busy
	}
	return matched, nil
}

// dummyHash is a hash of a cost that fits no password: salt and sum in bcrypt's
// base64, where "." is 0.
func dummyHash(cost int) string { return fmt.Sprintf("$2a$%02d$%s", cost, strings.Repeat(".", 53)) }

// Hash refuses nothing; Check does.
func (p *Pool) Hash(ctx context.Context, password string) (string, error) {
	var hash []byte
	var err error
	if busy := p.run(ctx, func() { hash, err = p.Generate([]byte(password), p.Cost) }); busy != nil {
		return "", busy
	}
	if err != nil {
		return "", fmt.Errorf("hash password: %w", err)
	}
	return string(hash), nil
}

// Outdated says whether the hash was made at a lower cost than today's.
func (p *Pool) Outdated(hash string) bool {
	cost, err := bcrypt.Cost([]byte(hash))
	return err == nil && cost < p.Cost
}

// Ready returns nil when one more of the caller's address may wait for a worker
// at this moment, and otherwise BUSY. Ask before doing anything for a sign-in: then one of too many
// costs nothing but its answer.
func (p *Pool) Ready(ctx context.Context) error {
	if p.waiting.Fits(client(ctx)) {
		return nil
	}
	return p.refuse(ctx)
}

// run calls work when a worker is free, or returns Unavailable, BUSY, when too
// many wait already or the wait gets too long.
func (p *Pool) run(ctx context.Context, work func()) error {
	from := client(ctx)
	if !p.waiting.Acquire(from, 1) {
		return p.refuse(ctx)
	}
	defer p.waiting.Release(from, 1)
	timer := time.NewTimer(p.MaxWait)
	defer timer.Stop()
	select {
	case p.running <- struct{}{}:
		defer func() { <-p.running }()
	case <-timer.C:
		p.refused.Add(1)
		return busy()
	case <-ctx.Done():
		return fmt.Errorf("wait to hash: %w", ctx.Err())
	}
	work()
	return nil
}

// refuse holds the answer BUSY back for a moment, unless too many are held back
// already or the caller leaves.
func (p *Pool) refuse(ctx context.Context) error {
	p.refused.Add(1)
	select {
	case p.held <- struct{}{}:
		defer func() { <-p.held }()
	default:
		return busy()
	}
	timer := time.NewTimer(p.BusyDelay)
	defer timer.Stop()
	select {
	case <-timer.C:
		return busy()
	case <-ctx.Done():
		return fmt.Errorf("wait to be refused: %w", ctx.Err())
	}
}

// client is whom the queue shares its places among: one address cannot keep
// others from signing in.
func client(ctx context.Context) netip.Addr { return inflight.Address(caller.From(ctx).IP) }

func busy() error {
	return fault.New(fault.Unavailable, "BUSY", "too many sign-ins at the moment; try again").After(time.Second)
}

// Stats is how busy the workers are.
type Stats struct {
	Workers int    // how many may run at once
	Running int    // run now
	Waiting int    // wait for a worker now
	Refused uint64 // were refused since the start: too many waited, or for too long
}

// Stats counts.
func (p *Pool) Stats() Stats {
	running := len(p.running)
	return Stats{
		Workers: cap(p.running), Running: running,
		Waiting: max(0, int(p.waiting.Used())-running), Refused: p.refused.Load(),
	}
}
