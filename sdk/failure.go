package tollgate

import (
	"context"
	"crypto/sha256"
	"errors"
	"log/slog"
	"sync"
	"time"

	"connectrpc.com/connect"
	"github.com/tollgatehq/tollgate/internal/jose"
)

// FailureMode says what becomes of a call that Tollgate does not answer about, an
// [ErrUnavailable]. Every other error refuses the call.
type FailureMode uint8

// The failure modes. The zero FailureMode of an [AuthorizeRequest] is that of the
// client, see [WithFailureMode].
const (
	// FailClosed refuses the call: there is an error. It is the default.
	FailClosed FailureMode = iota + 1
	// FailOpen allows the call, with [ReasonUnavailable] and without a Principal:
	// nobody has verified the credential, looked for a revocation or a permission,
	// counted the call or recorded it, and a handler finds nil with [FromContext].
	//
	// Whoever can cut this service off from Tollgate, overload either, or wait for an
	// outage, then gets in with anything that looks like a credential. Choose it only
	// for what may be public, such as reading a catalog, and keep everything else
	// closed, by the call.
	//
	// It never allows a call without a credential, with one that is malformed, has
	// expired by its own word or was refused by Tollgate a short while ago, a call that
	// Tollgate could not record, one with a MinRevision, which its caller may
	// have chosen, and one whose own deadline ends before [WithTimeout] does: a caller
	// could choose one that is too short. With a timeout of less than a second, slowness
	// alone allows nothing.
	FailOpen
)

// ReasonUnavailable is the reason of a [Decision] that nobody made: see [FailOpen].
const ReasonUnavailable Reason = "UNAVAILABLE"

// WithFailureMode sets the [FailureMode] of calls that do not choose one.
//
// Each call that is allowed without a decision counts, see
// [Client.FailedOpen], goes to report unless that is nil, and the log has
// their number at most once a second. report must not block. It is also called
// when mode is FailClosed and a call by itself is open.
func WithFailureMode(mode FailureMode, report func(context.Context, AuthorizeRequest, error)) Option {
	if mode != FailClosed && mode != FailOpen {
		return bad("the failure mode must be FailClosed or FailOpen")
	}
	return func(c *config) { c.failure, c.reportOpen = mode, report }
}

// FailedOpen returns how many calls were allowed because Tollgate did not answer.
func (c *Client) FailedOpen() uint64 {
	c.open.mu.Lock()
	defer c.open.mu.Unlock()
	return c.open.count
}

// maxRefused is how many credentials that Tollgate refused are remembered.
const maxRefused = 20_000

// open is what a client keeps for calls that fail open.
type open struct {
	mu      sync.Mutex
	count   uint64
	logged  time.Time
	refused generations[tokenHash, struct{}]
}

// mode returns the failure mode of a call.
func (c *Client) mode(r AuthorizeRequest) FailureMode {
	if r.OnUnavailable != 0 {
		return r.OnUnavailable
	}
	return c.failure
}

// failed returns what becomes of a call that failed with err; ctx is its caller's, and
// bounded the one that ends with the timeout as well.
func (c *Client) failed(ctx, bounded context.Context, r AuthorizeRequest, err error) (*Decision, error) {
	if c.mode(r) != FailOpen || !c.mayOpen(ctx, bounded, r, err) || c.knownBad(r) {
		return nil, err
	}
	c.open.mu.Lock()
	c.open.count++
	count, now := c.open.count, time.Now()
	log := now.Sub(c.open.logged) >= time.Second
	if log {
		c.open.logged = now
	}
	c.open.mu.Unlock()
	if log {
		c.log.ErrorContext(ctx, "tollgate: calls are allowed without a decision, because Tollgate does not answer and they fail open",
			slog.Uint64("calls", count), slog.Any("error", err))
	}
	if c.reportOpen != nil {
		c.reportOpen(ctx, r, err)
	}
	return &Decision{Allowed: true, Reason: ReasonUnavailable}, nil
}

// mayOpen says whether a failure is Tollgate's, and not one that the caller can bring
// about: with a deadline that is too short, as grpc-timeout says one, or a revision
// that does not exist.
func (c *Client) mayOpen(ctx, bounded context.Context, r AuthorizeRequest, err error) bool {
	failed, ok := errors.AsType[*Error](err)
	if !ok || !errors.Is(failed, ErrUnavailable) || !undecided(failed) || ctx.Err() != nil || r.MinRevision != 0 {
		return false
	}
	if failed.Code == connect.CodeDeadlineExceeded && c.timeout < maxRecording {
		return false
	}
	end, _ := bounded.Deadline()
	callers, ok := ctx.Deadline()
	return !ok || callers.After(end)
}

// maxRecording is how long Tollgate tries to record a refusal before it says that it
// cannot: a call that it has refused does not run out of time first.
const maxRecording = time.Second

// undecided says whether Tollgate cannot have decided. It also fails when it has
// refused a call and cannot record that, AUDIT_BUSY for one, which a flood of calls
// that are refused can bring about.
func undecided(failed *Error) bool {
	switch failed.Reason {
	case "", "DEADLINE_EXCEEDED", "DEPENDENCY_DOWN", "OVERLOADED", "STARTING", "DRAINING":
		return true
	default:
		return false
	}
}

// knownBad says whether a call's credential is not good, as far as this process knows.
func (c *Client) knownBad(r AuthorizeRequest) bool {
	switch {
	case r.UserID != "":
		return false
	case kindOf(r.Credential) == notCredential:
		return true
	}
	c.open.mu.Lock()
	refused := c.open.refused.has(sha256.Sum256([]byte(r.Credential)))
	c.open.mu.Unlock()
	return refused || kindOf(r.Credential) == accessToken && !c.mayBeGood(r.Credential)
}

// mayBeGood says whether an access token is one by its form, and has not expired.
func (c *Client) mayBeGood(token string) bool {
	t, ok := jose.Cut(token)
	if !ok {
		return false
	}
	claims, ok := t.ReadClaims()
	if !ok {
		return false
	}
	now := c.now()
	_, expires := claims.Period(now)
	return now.Before(expires)
}

// learn remembers a credential that Tollgate refused, and forgets one that is good
// again, for calls that fail open.
func (c *Client) learn(r AuthorizeRequest, d *Decision) {
	if c.mode(r) != FailOpen || r.Credential == "" || d.Reason == ReasonLimited {
		return
	}
	hash := tokenHash(sha256.Sum256([]byte(r.Credential)))
	c.open.mu.Lock()
	defer c.open.mu.Unlock()
	switch d.Reason {
	case ReasonCredentialInvalid, ReasonCredentialExpired, ReasonCredentialRevoked, ReasonUserDisabled, ReasonUserUnknown, ReasonWrongAudience:
		if len(c.open.refused.young) >= maxRefused/2 {
			c.open.refused.rotate()
		}
		c.open.refused.set(hash, struct{}{})
	default:
		c.open.refused.delete(hash)
	}
}
