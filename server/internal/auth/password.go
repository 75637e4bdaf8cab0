package auth

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/tollgatehq/tollgate/server/internal/fault"
	"github.com/tollgatehq/tollgate/server/internal/world"
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
)

// passwords hashes and compares. At most a fixed number of bcrypt runs are
// under way at once, so that sign-ins leave the other work its processors.
type passwords struct {
	cost    int
	dummy   string        // a hash that costs as much as a real one to compare with, and fits no password
	running chan struct{} // holds a token per run
	waiting chan struct{} // holds a token per call, those that run included
	wait    time.Duration
	refused atomic.Uint64
	compare func(hash, password []byte) error // bcrypt's, but for tests
}

// newPasswords takes a cost and a number of workers; 0 means the default.
func newPasswords(cost, workers int) *passwords {
	if cost == 0 {
		cost = defaultCost
	}
	cost = min(max(cost, bcrypt.MinCost), bcrypt.MaxCost)
	if workers <= 0 {
		workers = max(1, runtime.GOMAXPROCS(0)/2)
	}
	return &passwords{
		cost: cost,
		// Salt and sum in bcrypt's base64, where "." is 0.
		dummy:   fmt.Sprintf("$2a$%02d$%s", cost, strings.Repeat(".", 53)),
		running: make(chan struct{}, workers),
		waiting: make(chan struct{}, workers*(1+queuePerWorker)),
		wait:    maxWait,
		compare: bcrypt.CompareHashAndPassword,
	}
}

// matches says whether the password is the one that was hashed. With an empty
// hash, or a password that no hash was ever made of, the answer is no, after
// the same work.
func (p *passwords) matches(ctx context.Context, hash, password string) (bool, error) {
	possible := hash != "" && password != "" && len(password) <= maxPassword
	if !possible {
		hash = p.dummy
	}
	var err error
	if busy := p.run(ctx, func() { err = p.compare([]byte(hash), []byte(password)) }); busy != nil {
		return false, busy
	}
	return possible && err == nil, nil
}

// hash refuses nothing: check does.
func (p *passwords) hash(ctx context.Context, password string) (string, error) {
	var hash []byte
	var err error
	if busy := p.run(ctx, func() { hash, err = bcrypt.GenerateFromPassword([]byte(password), p.cost) }); busy != nil {
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

// run calls work when a worker is free, or returns Unavailable when too many
// wait already or the wait gets too long.
func (p *passwords) run(ctx context.Context, work func()) error {
	select {
	case p.waiting <- struct{}{}:
		defer func() { <-p.waiting }()
	default:
		p.refused.Add(1)
		return busy()
	}
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

func busy() error {
	return fault.New(fault.Unavailable, "BUSY", "too many sign-ins at the moment; try again").After(time.Second)
}

// checkPassword refuses a new password that is too short or too long.
func checkPassword(field, password string) error {
	switch {
	case utf8.RuneCountInString(password) < minPassword:
		return fault.Field(field, "must have at least %d characters", minPassword)
	case len(password) > maxPassword:
		return fault.Field(field, "must have at most %d bytes", maxPassword)
	}
	return nil
}

// newOneTimePassword has 100 random bits, in characters that are hard to mix
// up (Crockford's base32).
func newOneTimePassword(w world.World) string {
	const alphabet = "0123456789abcdefghjkmnpqrstvwxyz"
	text := w.Bytes(20)
	for i, b := range text {
		text[i] = alphabet[b&31]
	}
	return string(text)
}
