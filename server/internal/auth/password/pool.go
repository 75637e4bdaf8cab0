package auth

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/fault"
	"github.com/tollgatehq/tollgate/server/internal/inflight"
	"github.com/trustelem/zxcvbn/frequency"
	"golang.org/x/crypto/bcrypt"
)

const (
	minPassword = 8  // characters
	maxPassword = 72 // bytes; bcrypt ignores what follows

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

// passwords hashes and compares. At most a fixed number of bcrypt runs are
// under way at once, so that sign-ins leave the other work its processors.
type passwords struct {
	cost    int
	dummy   string                        // a hash that costs as much as a real one to compare with, and fits no password
	running chan struct{}                 // holds a token per run
	waiting *inflight.Limiter[netip.Addr] // calls by client address, those that run included
	held    chan struct{}                 // holds a token per BUSY that is held back
	wait    time.Duration
	delay   time.Duration
	refused atomic.Uint64
	compare func(hash, password []byte) error // bcrypt's, but for tests

	generate func(password []byte, cost int) ([]byte, error) // the same
}

// newPasswords takes a cost, a number of workers, and how many refusals are
// held back at once; 0 means the default.
func newPasswords(cost, workers, held int) *passwords {
	if cost == 0 {
		cost = defaultCost
	}
	cost = min(max(cost, bcrypt.MinCost), bcrypt.MaxCost)
	if workers <= 0 {
		workers = max(1, runtime.GOMAXPROCS(0)/2)
	}
	return &passwords{
		cost:    cost,
		dummy:   dummyHash(cost),
		running: make(chan struct{}, workers),
		waiting: inflight.New[netip.Addr](int64(workers * (1 + queuePerWorker))),
		held:    make(chan struct{}, cmp.Or(held, defaultHeld)),
		wait:    maxWait,
		delay:   busyDelay,
		compare: bcrypt.CompareHashAndPassword,

		generate: bcrypt.GenerateFromPassword,
	}
}

// matches says whether the password is the one that was hashed. With an empty
// hash, or a password that no hash was ever made of, the answer is no, after
// the same work.
//
// A hash of a lower cost than today's takes less work to compare with. A no is
// made as dear as any other: bcrypt doubles its work with each step of the
// cost, so comparisons at the costs from the hash's to the one below today's
// are, together with the first, exactly the work of one at today's. A yes needs
// none of that: it tells who knows the password, and its hash is made anew. A
// hash of a higher cost, from before the cost was lowered, takes longer until
// its password is changed.
func (p *passwords) matches(ctx context.Context, hash, password string) (bool, error) {
	cost, err := bcrypt.Cost([]byte(hash))
	possible := err == nil && password != "" && len(password) <= maxPassword && !holdsNUL(password)
	if !possible {
		hash, cost = p.dummy, p.cost
	}
	matched := false
	work := func() {
		matched = p.compare([]byte(hash), []byte(password)) == nil && possible
		for ; !matched && cost < p.cost; cost++ {
			_ = p.compare([]byte(dummyHash(cost)), []byte(password)) // for its work only
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

// hash refuses nothing: check does.
func (p *passwords) hash(ctx context.Context, password string) (string, error) {
	var hash []byte
	var err error
	if busy := p.run(ctx, func() { hash, err = p.generate([]byte(password), p.cost) }); busy != nil {
		return "", busy
	}
	if err != nil {
		return "", fmt.Errorf("hash password: %w", err)
	}
	return string(hash), nil
}

// outdated says whether the hash was made at a lower cost than today's.
func (p *passwords) outdated(hash string) bool {
	cost, err := bcrypt.Cost([]byte(hash))
	return err == nil && cost < p.cost
}

// ready returns nil when one more of the caller's address may wait for a worker
// at this moment, and otherwise BUSY. Ask before doing anything for a sign-in: then one of too many
// costs nothing but its answer.
func (p *passwords) ready(ctx context.Context) error {
	if p.waiting.Fits(client(ctx)) {
		return nil
	}
	return p.refuse(ctx)
}

// run calls work when a worker is free, or returns Unavailable, BUSY, when too
// many wait already or the wait gets too long.
func (p *passwords) run(ctx context.Context, work func()) error {
	from := client(ctx)
	if !p.waiting.Acquire(from, 1) {
		return p.refuse(ctx)
	}
	defer p.waiting.Release(from, 1)
	timer := time.NewTimer(p.wait)
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
func (p *passwords) refuse(ctx context.Context) error {
	p.refused.Add(1)
	select {
	case p.held <- struct{}{}:
		defer func() { <-p.held }()
	default:
		return busy()
	}
	timer := time.NewTimer(p.delay)
	defer timer.Stop()
	select {
	case <-timer.C:
		return busy()
	case <-ctx.Done():
		return fmt.Errorf("wait to be told that it is busy: %w", ctx.Err())
	}
}

// client is whom the queue shares its places among: one address cannot keep
// others from signing in.
func client(ctx context.Context) netip.Addr { return inflight.Address(caller.From(ctx).IP) }

func busy() error {
	return fault.New(fault.Unavailable, "BUSY", "too many sign-ins at the moment; try again").After(time.Second)
}

// checkPassword refuses a new password that is too short or too long, the name
// of its user, or one of the 30,000 most common ones in any case, the first
// that are tried. There are no rules about kinds of characters: they make
// passwords worse (NIST SP 800-63B §3.1.1).
func checkPassword(field, username, password string) error {
	switch {
	case utf8.RuneCountInString(password) < minPassword:
		return fault.Field(field, "must have at least %d characters", minPassword)
	case len(password) > maxPassword:
		return fault.Field(field, "must have at most %d bytes; letters beyond ASCII have several", maxPassword)
	case holdsNUL(password):
		return fault.Field(field, "must not contain the character NUL (U+0000)")
	case fold(strings.TrimSpace(password)) == username:
		return fault.Field(field, "must not be the user name; choose another")
	case common(password):
		return fault.Field(field, "is one of the most common passwords, which are tried first; choose another")
	}
	return nil
}

// holdsNUL: bcrypt fills its key by repeating the password and a NUL, so P and
// P, NUL, P have one hash. Passwords with a NUL are neither set nor right.
func holdsNUL(password string) bool { return strings.IndexByte(password, 0) >= 0 }

// common looks through the list, which lies in the program's file: that takes
// no memory and, beside bcrypt, no time.
func common(password string) bool {
	return slices.Contains(frequency.FrequencyLists["passwords"], strings.ToLower(password))
}

// newOneTimePassword has 100 random bits, in characters that are hard to mix
// up (Crockford's base32).
func newOneTimePassword() string {
	const alphabet = "0123456789abcdefghjkmnpqrstvwxyz"
	text := make([]byte, 20)
	rand.Read(text)
	for i, b := range text {
		text[i] = alphabet[b&31]
	}
	return string(text)
}
