package sdktest

import (
	"context"

	"connectrpc.com/connect"
	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
	"google.golang.org/protobuf/types/known/durationpb"
)

func (h handler) LeaseLimit(_ context.Context, req *tollgatev1.LeaseLimitRequest) (*tollgatev1.LeaseLimitResponse, error) {
	s := h.server
	s.mu.Lock()
	defer s.mu.Unlock()
	l, known := s.limits[req.GetLimit()]
	switch {
	case !known:
		return nil, refuse(connect.CodeNotFound, "LIMIT_NOT_FOUND", "there is no limit "+req.GetLimit())
	case l.Lease == 0:
		return nil, refuse(connect.CodeFailedPrecondition, "LIMIT_NOT_LEASED", "the limit "+l.Name+" has no leases; set Lease on it")
	}
	c := counter{l.Name, req.GetKey()}
	granted := min(max(req.GetWant(), 1), max(l.Calls-s.used[c], 0))
	s.used[c] += granted
	res := &tollgatev1.LeaseLimitResponse{Granted: granted, Status: s.status(c, granted == 0)}
	switch {
	case granted > 0:
		res.ValidFor = durationpb.New(l.Lease - l.Lease/100)
	case l.RetryAfter > 0:
		res.RetryAfter = durationpb.New(l.RetryAfter)
	}
	return res, nil
}
