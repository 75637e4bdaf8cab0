package sdktest

import (
	"context"
	"strconv"

	"connectrpc.com/connect"
	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
)

// reservation is what a call was expected to cost.
type reservation struct {
	counter
	cost int64
}

func (h handler) Reserve(ctx context.Context, req *tollgatev1.ReserveRequest) (*tollgatev1.ReserveResponse, error) {
	checked, err := h.CheckLimit(ctx, &tollgatev1.CheckLimitRequest{Limit: req.GetLimit(), Key: req.GetKey(), Cost: req.GetCost()})
	if err != nil {
		return nil, err
	}
	res := &tollgatev1.ReserveResponse{Allowed: checked.GetAllowed(), Status: checked.GetStatus(), RetryAfter: checked.GetRetryAfter()}
	if res.GetAllowed() {
		s := h.server
		s.mu.Lock()
		defer s.mu.Unlock()
		s.reserved++
		res.ReservationId = "reservation-" + strconv.Itoa(s.reserved)
		s.reservations[res.GetReservationId()] = reservation{counter{req.GetLimit(), req.GetKey()}, max(req.GetCost(), 1)}
	}
	return res, nil
}

func (h handler) Settle(_ context.Context, req *tollgatev1.SettleRequest) (*tollgatev1.SettleResponse, error) {
	s := h.server
	s.mu.Lock()
	defer s.mu.Unlock()
	made, open := s.reservations[req.GetReservationId()]
	if !open {
		return nil, refuse(connect.CodeNotFound, "RESERVATION_NOT_FOUND", "there is no open reservation "+req.GetReservationId())
	}
	delete(s.reservations, req.GetReservationId())
	s.used[made.counter] = max(0, s.used[made.counter]+req.GetCost()-made.cost)
	return &tollgatev1.SettleResponse{Status: s.status(made.counter, false)}, nil
}
