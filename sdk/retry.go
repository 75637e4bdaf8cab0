package tollgate

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	mathrand "math/rand/v2"
	"net"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"
	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
)

const (
	defaultRetries = 2
	// firstBackoff is the longest wait before the first retry of a call to which
	// Tollgate did not say when; each further one is twice that.
	firstBackoff = 25 * time.Millisecond
	// A retry costs one of maxBudget, which each answer gives back retryShare of: in
	// an outage a client makes a tenth more requests, not several times as many.
	maxBudget, retryShare = 10.0, 0.1
	// keyLasts is how long after its first try a call is made again under its
	// idempotency key: Tollgate knows the key for 10 s.
	keyLasts = 8 * time.Second
)

// retries repeats calls that failed where that is safe.
type retries struct {
	most int // of one call; 0: none

	mu    sync.Mutex
	spent float64
}

// do makes a call, and again while it may and ctx lasts. The error is an *Error.
func (r *retries) do(ctx context.Context, req connect.AnyRequest, next connect.UnaryFunc) (connect.AnyResponse, error) {
	began, keyed := time.Now(), isKeyed(req.Any())
	for tried := 0; ; tried++ {
		res, err := next(ctx, req)
		if err == nil {
			r.answered()
			return res, nil
		}
		failed := toError(err)
		if tried >= r.most || ctx.Err() != nil || !repeatable(req, failed) {
			return nil, failed
		}
		wait := failed.RetryAfter + mathrand.N(firstBackoff<<tried)
		deadline, ok := ctx.Deadline()
		if ok && time.Until(deadline) <= wait || keyed && time.Since(began)+wait > keyLasts || !r.take() {
			return nil, failed
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil, failed
		}
	}
}

func (r *retries) take() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.spent > maxBudget-1 {
		return false
	}
	r.spent++
	return true
}

func (r *retries) answered() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.spent = max(0, r.spent-retryShare)
}

// repeatable says whether a call that failed may be made again: Tollgate says that
// it did nothing, was surely not reached, or may do the same again without doing
// more.
func repeatable(req connect.AnyRequest, failed *Error) bool {
	switch {
	case failed.Code != connect.CodeUnavailable:
		return false
	case failed.Reason == "OVERLOADED", failed.Reason == "DRAINING":
		return failed.RetryAfter > 0
	case neverSent(failed):
		return true
	}
	return req.Spec().IdempotencyLevel == connect.IdempotencyNoSideEffects || isRepeatable(req.Any())
}

// neverSent says whether no connection was made.
func neverSent(err error) bool {
	dial, ok := errors.AsType[*net.OpError](err)
	return ok && dial.Op == "dial"
}

// isRepeatable says whether Tollgate counts a message once however often it comes. A
// refusal is recorded each time.
func isRepeatable(message any) bool {
	switch m := message.(type) {
	case *tollgatev1.VerifyRequest:
		return true
	case *tollgatev1.AuthorizeRequest:
		return m.GetRecheck() || m.GetIdempotencyKey() != ""
	case *tollgatev1.CheckLimitRequest:
		return m.GetPeek() || m.GetIdempotencyKey() != ""
	case *tollgatev1.BatchAuthorizeRequest:
		for _, r := range m.GetRequests() {
			if !isRepeatable(r) {
				return false
			}
		}
		return true
	}
	return false
}

// isKeyed says whether a message has calls that count once by their key.
func isKeyed(message any) bool {
	switch m := message.(type) {
	case *tollgatev1.AuthorizeRequest:
		return m.GetIdempotencyKey() != ""
	case *tollgatev1.CheckLimitRequest:
		return m.GetIdempotencyKey() != ""
	case *tollgatev1.BatchAuthorizeRequest:
		return slices.ContainsFunc(m.GetRequests(), func(r *tollgatev1.AuthorizeRequest) bool { return r.GetIdempotencyKey() != "" })
	}
	return false
}

// callKeys gives each call that counts a name of its own, so that it does not count
// again when it is made again.
type callKeys struct {
	prefix string // at random, for each client
	last   atomic.Uint64
}

func newCallKeys() *callKeys {
	var random [12]byte
	_, _ = rand.Read(random[:]) // never fails
	return &callKeys{prefix: base64.RawURLEncoding.EncodeToString(random[:]) + "."}
}

func (k *callKeys) next() string { return k.prefix + strconv.FormatUint(k.last.Add(1), 36) }
