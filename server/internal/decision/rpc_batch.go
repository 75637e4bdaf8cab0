package decision

import (
	"context"
	"sync"
	"sync/atomic"

	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
	"github.com/tollgatehq/tollgate/gen/tollgate/v1/tollgatev1connect"
	"github.com/tollgatehq/tollgate/server/internal/fault"
	"github.com/tollgatehq/tollgate/server/internal/protoconv"
)

// batchWorkers is how many calls of one batch are decided at the same time: where
// counters or resources are elsewhere, a batch waits for few round trips instead of
// as many as it has calls. A batch has one place among the calls in flight.
const batchWorkers = 8

// decideEach decides calls that have nothing to do with each other. What goes wrong
// with one, a panic included, is its own failure.
func (a *Authorizer) decideEach(ctx context.Context, requests []*tollgatev1.AuthorizeRequest) (*tollgatev1.BatchAuthorizeResponse, error) {
	responses := make([]*tollgatev1.AuthorizeResponse, len(requests))
	failures := make([]*fault.Error, len(requests))
	recorded := make([]func(context.Context) error, len(requests)) // nil: nothing is on its way
	var next atomic.Int64
	work := func() {
		for i := next.Add(1) - 1; i < int64(len(requests)); i = next.Add(1) - 1 {
			failures[i] = a.each(ctx, tollgatev1connect.RolesServiceAuthorizeProcedure, func() (err error) {
				responses[i], recorded[i], err = a.decide(ctx, requests[i])
				return err
			})
		}
	}
	var workers sync.WaitGroup
	for range min(batchWorkers, len(requests)) - 1 {
		workers.Go(work)
	}
	work()
	workers.Wait()
	for i, written := range recorded {
		if written != nil && failures[i] == nil {
			failures[i] = a.each(ctx, tollgatev1connect.RolesServiceAuthorizeProcedure, func() error { return written(ctx) })
		}
	}

	res := &tollgatev1.BatchAuthorizeResponse{Responses: responses}
	for i, f := range failures {
		if f == nil {
			continue
		}
		responses[i] = &tollgatev1.AuthorizeResponse{} // a refusal
		res.Failures = append(res.Failures, &tollgatev1.BatchFailure{
			Index: int32(i), Code: f.Kind.Code().String(),
			Reason:  tollgatev1.Reason(tollgatev1.Reason_value["REASON_"+f.Reason]),
			Message: f.Message, RetryAfter: protoconv.Duration(f.RetryAfter),
		})
	}
	return res, nil
}
