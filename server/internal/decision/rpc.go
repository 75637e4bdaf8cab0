package decision

import (
	"cmp"
	"context"
	"net/netip"

	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
	"github.com/tollgatehq/tollgate/server/internal/auth"
	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/limits"
	"google.golang.org/protobuf/types/known/durationpb"
)

// Authorizer serves the two RPCs of RolesService that decide.
type Authorizer struct{ service *Service }

// NewAuthorizer serves s.
func NewAuthorizer(s *Service) *Authorizer { return &Authorizer{s} }

// Authorize decides one call.
func (a *Authorizer) Authorize(ctx context.Context, req *tollgatev1.AuthorizeRequest) (*tollgatev1.AuthorizeResponse, error) {
	return a.decide(ctx, req)
}

// BatchAuthorize decides several calls in order. The guard has validated all of
// them before the first is decided, so that a bad one costs nothing.
func (a *Authorizer) BatchAuthorize(ctx context.Context, req *tollgatev1.BatchAuthorizeRequest) (*tollgatev1.BatchAuthorizeResponse, error) {
	res := &tollgatev1.BatchAuthorizeResponse{Responses: make([]*tollgatev1.AuthorizeResponse, 0, len(req.GetRequests()))}
	for _, r := range req.GetRequests() {
		decided, err := a.decide(ctx, r)
		if err != nil {
			return nil, err
		}
		res.Responses = append(res.Responses, decided)
	}
	return res, nil
}

// unnamed is what limits match of a call that any good credential may make and
// that says no more.
const unnamed = "authenticated"

// ruleOf is what the call asks of its caller, as the option guard says it.
func ruleOf(req *tollgatev1.AuthorizeRequest) Rule {
	switch {
	case req.GetSelfOnly():
		return Rule{SelfOnly: true, Self: req.GetSelf(), Action: cmp.Or(req.GetPermission(), unnamed)}
	case req.GetAuthenticated():
		return Rule{AnyUser: true, Action: cmp.Or(req.GetPermission(), unnamed)}
	}
	return Rule{Permission: req.GetPermission(), Self: req.GetSelf()}
}

func (a *Authorizer) decide(ctx context.Context, req *tollgatev1.AuthorizeRequest) (*tollgatev1.AuthorizeResponse, error) {
	// protovalidate has checked the address; an empty one stays the zero Addr.
	ip, _ := netip.ParseAddr(req.GetClient().GetIp())
	d, err := a.service.Decide(ctx, Request{
		Credential: auth.Credential{
			AccessToken: req.GetAccessToken(), APIKey: req.GetApiKey(), UserID: req.GetUserId(),
			Audience: caller.From(ctx).Accepts(),
		},
		Rule:     ruleOf(req),
		Resource: req.GetResource(), Context: req.GetContext(),
		IP: ip, UserAgent: req.GetClient().GetUserAgent(), RequestID: req.GetClient().GetRequestId(),
		Cost: req.GetCost(), Recheck: req.GetRecheck(), MinRevision: req.GetMinRevision(), Source: SourceService,
	})
	if err != nil {
		return nil, err
	}
	res := &tollgatev1.AuthorizeResponse{
		Allowed: d.Allowed, Reason: auth.ReasonProto(d.Reason),
		Principal: auth.PrincipalProto(d.Principal), Revision: d.Revision,
	}
	for _, status := range d.Limits {
		res.Limits = append(res.Limits, limits.StatusProto(status))
	}
	if d.RetryAfter > 0 {
		res.RetryAfter = durationpb.New(d.RetryAfter)
	}
	return res, nil
}
