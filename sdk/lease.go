package tollgate

import (
	"context"
	"time"

	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
)

// LeaseLimitRequest names a limit and how many calls to lease of it; see
// [Client.LeaseLimit].
type LeaseLimitRequest struct {
	Limit string // the limit's name
	Key   string // whom to count, as for CheckLimit
	Want  int64  // how many calls at most, up to 1,000,000; 0 means 1
}

// Lease is the answer of [Client.LeaseLimit].
type Lease struct {
	Granted    int64         // how many calls may pass; 0: refused
	ValidFor   time.Duration // from before it was asked for; set when Granted is
	Status     LimitStatus
	RetryAfter time.Duration // set when nothing was granted, unless waiting never helps

	began instant
	now   func() time.Time
}

// Valid reports whether calls of the lease may pass now. Ask right before each: later
// than ValidFor they would be more than the limit allows.
func (l *Lease) Valid() bool {
	return l.Granted > 0 && l.now != nil && l.began.age(l.now()) < l.ValidFor
}

// Err returns nil when something was granted, and a [*DeniedError] when not.
func (l *Lease) Err() error {
	if l.Granted > 0 {
		return nil
	}
	return &DeniedError{Reason: ReasonLimited, RetryAfter: l.RetryAfter}
}

// longestLease is what no limit exceeds.
const longestLease = time.Second

// LeaseLimit counts up to so many calls against one limit that has leases, all at
// once, and leaves them to this process, which may let each of them pass while
// [Lease.Valid]. What is not used by then is lost. All together stay within the
// limit's burst and rate, in any interval. With [WithLocalDecisions] Authorize does
// this by itself.
//
// It is not asked again when the answer is lost: that would count twice. The error is
// an [*Error]: its Reason is LIMIT_NOT_LEASED when the limit has no leases.
func (c *Client) LeaseLimit(ctx context.Context, r LeaseLimitRequest) (*Lease, error) {
	began := instantOf(c.now()) // it may be granted at once
	res, err := c.limits.LeaseLimit(ctx, &tollgatev1.LeaseLimitRequest{Limit: r.Limit, Key: r.Key, Want: r.Want})
	if err != nil {
		return nil, err
	}
	return &Lease{
		Granted: min(res.GetGranted(), max(1, r.Want)), ValidFor: min(res.GetValidFor().AsDuration(), longestLease),
		Status: statusOf(res.GetStatus()), RetryAfter: res.GetRetryAfter().AsDuration(), began: began, now: c.now,
	}, nil
}
