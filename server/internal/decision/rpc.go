package decision

import (
	"cmp"
	"context"
	"net/netip"

	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
	"github.com/tollgatehq/tollgate/server/internal/auth"
	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/contract"
	"github.com/tollgatehq/tollgate/server/internal/fault"
	"github.com/tollgatehq/tollgate/server/internal/limits"
	"github.com/tollgatehq/tollgate/server/internal/page"
	"github.com/tollgatehq/tollgate/server/internal/protoconv"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
)

// Authorizer serves the RPCs of RolesService that decide, or say how it would be
// decided.
type Authorizer struct {
	service *Service
	pages   page.Tokens
	each    Each
}

// Each runs one of the things that a call asks for together, and returns the error
// that a call that asks for this thing alone would have failed with.
type Each func(ctx context.Context, procedure string, do func() error) *fault.Error

// NewAuthorizer serves s.
func NewAuthorizer(s *Service, pages page.Tokens, each Each) *Authorizer {
	return &Authorizer{s, pages, each}
}

// Authorize decides one call.
func (a *Authorizer) Authorize(ctx context.Context, req *tollgatev1.AuthorizeRequest) (*tollgatev1.AuthorizeResponse, error) {
	res, written, err := a.decide(ctx, req)
	if err == nil && written != nil {
		err = written(ctx)
	}
	if err != nil {
		return nil, err
	}
	return res, nil
}

// BatchAuthorize decides several calls in order, or at the same time when they are
// independent. The guard has validated all of them before the first is decided, so
// that a bad one costs nothing.
func (a *Authorizer) BatchAuthorize(ctx context.Context, req *tollgatev1.BatchAuthorizeRequest) (*tollgatev1.BatchAuthorizeResponse, error) {
	if req.GetIndependent() {
		return a.decideEach(ctx, req.GetRequests())
	}
	res := &tollgatev1.BatchAuthorizeResponse{Responses: make([]*tollgatev1.AuthorizeResponse, 0, len(req.GetRequests()))}
	var recorded []func(context.Context) error // waited for at the end: they share commits
	for _, r := range req.GetRequests() {
		decided, written, err := a.decide(ctx, r)
		if err != nil {
			return nil, err
		}
		res.Responses = append(res.Responses, decided)
		if written != nil {
			recorded = append(recorded, written)
		}
	}
	for _, written := range recorded {
		if err := written(ctx); err != nil {
			return nil, err
		}
	}
	return res, nil
}

// ruleOf is what the call asks of its caller, as the option guard says it.
func ruleOf(req *tollgatev1.AuthorizeRequest) Rule {
	switch {
	case req.GetSelfOnly():
		return Rule{SelfOnly: true, Self: req.GetSelf(), Action: cmp.Or(req.GetPermission(), contract.ActionAuthenticated)}
	case req.GetAuthenticated():
		return Rule{AnyUser: true, Action: cmp.Or(req.GetPermission(), contract.ActionAuthenticated)}
	}
	return Rule{Permission: req.GetPermission(), AnyOf: req.GetAnyOf(), AllOf: req.GetAllOf(), Self: req.GetSelf()}
}

// decide returns an answer, which must not be given before written, unless that is nil,
// has returned nil.
func (a *Authorizer) decide(ctx context.Context, req *tollgatev1.AuthorizeRequest) (res *tollgatev1.AuthorizeResponse, written func(context.Context) error, err error) {
	asked, err := RequestOf(ctx, req)
	if err != nil {
		return nil, nil, err
	}
	d, written, err := a.service.decide(ctx, asked)
	if err != nil {
		return nil, nil, err
	}
	return &tollgatev1.AuthorizeResponse{
		Allowed: d.Allowed, Reason: auth.ReasonProto(d.Reason), Principal: auth.PrincipalProto(d.Principal),
		Limits: protoconv.List(d.Limits, limits.StatusProto), RetryAfter: protoconv.Duration(d.RetryAfter),
		Revision: d.Revision, Grant: d.Verdict.String(), GoodFor: protoconv.Duration(d.GoodFor),
	}, written, nil
}

// RequestOf is the call that a service asks about. The message is valid.
func RequestOf(ctx context.Context, req *tollgatev1.AuthorizeRequest) (Request, error) {
	asker := caller.From(ctx)
	// protovalidate has checked the address; an empty one stays the zero Addr.
	ip, _ := netip.ParseAddr(req.GetClient().GetIp())
	resourceAttributes, err := attributesOf("resourceAttributes", req.GetResourceAttributes())
	if err != nil {
		return Request{}, err
	}
	actionProperties, err := attributesOf("actionProperties", req.GetActionProperties())
	if err != nil {
		return Request{}, err
	}
	return Request{
		Credential: auth.Credential{
			AccessToken: req.GetAccessToken(), APIKey: req.GetApiKey(), UserID: req.GetUserId(),
			Audience: asker.Accepts(),
		},
		Rule:     ruleOf(req),
		Resource: req.GetResource(), Context: req.GetContext(),
		ResourceAttributes: resourceAttributes, ActionProperties: actionProperties,
		IP: ip, UserAgent: req.GetClient().GetUserAgent(), RequestID: req.GetClient().GetRequestId(),
		Cost: req.GetCost(), Recheck: req.GetRecheck(), MinRevision: req.GetMinRevision(), Source: SourceService,
		Once: asker.Once(req.GetIdempotencyKey()),
	}, nil
}

// attributesOf are a request's attributes; nil for none. The error names the field.
func attributesOf(field string, s *structpb.Struct) (map[string]any, error) {
	if s == nil {
		return nil, nil
	}
	if size := proto.Size(s); size > maxAttributes {
		return nil, fault.Field(field, "must be at most %d bytes", maxAttributes)
	}
	return s.AsMap(), nil
}

// maxAttributes is how large the attributes of one thing may be, in bytes.
const maxAttributes = 8 << 10
