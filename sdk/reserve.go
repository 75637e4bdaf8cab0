package tollgate

import (
	"context"
	"time"

	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
)

// Reservation is the answer of [Client.Reserve].
type Reservation struct {
	Allowed    bool
	ID         string // for [Client.Settle]; empty when not allowed
	Status     LimitStatus
	RetryAfter time.Duration // set when not allowed, unless waiting never helps
}

// Err returns nil when the call is allowed, and a [*DeniedError] when it is not.
func (r *Reservation) Err() error {
	if r.Allowed {
		return nil
	}
	return &DeniedError{Reason: ReasonLimited, RetryAfter: r.RetryAfter}
}

// Reserve counts what a call is expected to cost against one limit under a key
// of your choice, when the cost is known only afterwards, such as a language
// model's tokens; a cost of 0 means 1. What is never settled stays counted. It is
// not asked again when the answer is lost: that would count twice. The error is
// an [*Error].
func (c *Client) Reserve(ctx context.Context, limit, key string, cost int64) (*Reservation, error) {
	res, err := c.limits.Reserve(ctx, &tollgatev1.ReserveRequest{Limit: limit, Key: key, Cost: cost})
	if err != nil {
		return nil, err
	}
	return &Reservation{
		Allowed: res.GetAllowed(), ID: res.GetReservationId(), Status: statusOf(res.GetStatus()), RetryAfter: res.GetRetryAfter().AsDuration(),
	}, nil
}

// Settle says what a reservation did cost in all, once, within 24 hours and with
// the same user's key. More than was reserved counts, too, and is never refused;
// what was not used is given back as far as it still counts, all of it for a cost
// of 0. The error is an [*Error]: its Reason is RESERVATION_NOT_FOUND when it was
// settled already.
func (c *Client) Settle(ctx context.Context, reservationID string, cost int64) (*LimitStatus, error) {
	res, err := c.limits.Settle(ctx, &tollgatev1.SettleRequest{ReservationId: reservationID, Cost: cost})
	if err != nil {
		return nil, err
	}
	status := statusOf(res.GetStatus())
	return &status, nil
}
