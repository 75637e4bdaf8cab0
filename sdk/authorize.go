package tollgate

import (
	"context"
	"net/netip"
	"strings"
	"unicode/utf8"

	"connectrpc.com/connect"
	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
)

// Verify reports whether credential, an access token or an API key, is good now
// and whose it is. A bad one is an answer, not an error; one that is malformed
// is answered without a call. The error is an [*Error].
func (c *Client) Verify(ctx context.Context, credential string) (*Verification, error) {
	req := &tollgatev1.VerifyRequest{}
	switch kindOf(credential) {
	case accessToken:
		req.Credential = &tollgatev1.VerifyRequest_AccessToken{AccessToken: credential}
	case apiKey:
		req.Credential = &tollgatev1.VerifyRequest_ApiKey{ApiKey: credential}
	default:
		if credential == "" {
			return &Verification{Reason: ReasonCredentialMissing}, nil
		}
		return &Verification{Reason: ReasonCredentialInvalid}, nil
	}
	res, err := c.auth.Verify(ctx, req)
	if err != nil {
		return nil, err
	}
	if res.GetActive() && res.GetPrincipal() == nil {
		return nil, incomplete("the principal")
	}
	return &Verification{
		Active: res.GetActive(), Reason: reasonOf(res.GetReason()),
		Principal: principalOf(res.GetPrincipal()), Revision: res.GetRevision(),
	}, nil
}

// Authorize decides whether a call may go ahead. Tollgate verifies the
// credential, counts the call against the limits that apply, checks the
// permission, and records a refusal. A refusal is an answer, not an error; see
// [Decision.Err]. The error is an [*Error], and then the call must not go ahead;
// [FailOpen] is for calls that may nevertheless.
//
// Calls that are made while others are under way share requests, each with its own
// deadline, decision and error; see [WithoutBatching].
func (c *Client) Authorize(ctx context.Context, r AuthorizeRequest) (*Decision, error) {
	if c.local != nil {
		return c.local.authorize(ctx, r)
	}
	return c.ask(ctx, r)
}

// ask has Tollgate decide.
func (c *Client) ask(ctx context.Context, r AuthorizeRequest) (*Decision, error) {
	req, wellFormed, err := c.request(r)
	if err != nil {
		return nil, err
	}
	size := proto.Size(req)
	if size > maxMessage {
		return nil, tooLarge()
	}
	bounded, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	var res *tollgatev1.AuthorizeResponse
	if c.batch != nil {
		res, err = c.batch.authorize(bounded, req, size)
	} else {
		res, err = c.roles.Authorize(bounded, req)
	}
	if err != nil {
		return c.failed(ctx, bounded, r, err)
	}
	d, err := decisionOf(res, wellFormed)
	if err == nil {
		c.learn(r, d)
	}
	return d, err
}

// BatchAuthorize decides up to 100 calls in one round trip, each as
// [Client.Authorize] does: all count against limits. The decisions are in the
// order of the requests. The error is an [*Error], whatever the failure mode.
func (c *Client) BatchAuthorize(ctx context.Context, requests []AuthorizeRequest) ([]*Decision, error) {
	batch := &tollgatev1.BatchAuthorizeRequest{Requests: make([]*tollgatev1.AuthorizeRequest, len(requests))}
	wellFormed := make([]bool, len(requests))
	for i, r := range requests {
		var err error
		if batch.Requests[i], wellFormed[i], err = c.request(r); err != nil {
			return nil, err
		}
	}
	if proto.Size(batch) > maxMessage {
		return nil, tooLarge()
	}
	res, err := c.roles.BatchAuthorize(ctx, batch)
	if err != nil {
		return nil, err
	}
	if len(res.GetResponses()) != len(requests) {
		return nil, incomplete("a decision for each request")
	}
	decisions := make([]*Decision, len(requests))
	for i, r := range res.GetResponses() {
		if decisions[i], err = decisionOf(r, wellFormed[i]); err != nil {
			return nil, err
		}
	}
	return decisions, nil
}

// CheckLimit counts one call against one limit under a key of your choice. A
// refusal is an answer, not an error; see [CheckLimitResult.Err]. The error is
// an [*Error].
func (c *Client) CheckLimit(ctx context.Context, r CheckLimitRequest) (*CheckLimitResult, error) {
	res, err := c.limits.CheckLimit(ctx, &tollgatev1.CheckLimitRequest{
		Limit: r.Limit, Key: r.Key, Cost: r.Cost, Peek: r.Peek, IdempotencyKey: c.callKey(!r.Peek),
	})
	if err != nil {
		return nil, err
	}
	return &CheckLimitResult{
		Allowed: res.GetAllowed(), Status: statusOf(res.GetStatus()), RetryAfter: res.GetRetryAfter().AsDuration(),
	}, nil
}

// RecordEvent adds an event to Tollgate's audit log. The event is durable when
// the error is nil; otherwise it may or may not have been recorded.
func (c *Client) RecordEvent(ctx context.Context, e Event) error {
	_, err := c.audit.RecordEvent(ctx, e.proto())
	return err
}

// RecordEvents adds up to 1,000 events in one commit. All are durable when the
// error is nil; otherwise either all or none may have been recorded. All
// together may have 256 KiB.
func (c *Client) RecordEvents(ctx context.Context, events []Event) error {
	req := &tollgatev1.RecordEventsRequest{Events: make([]*tollgatev1.RecordEventRequest, len(events))}
	for i, e := range events {
		req.Events[i] = e.proto()
	}
	_, err := c.audit.RecordEvents(ctx, req)
	return err
}

func (e Event) proto() *tollgatev1.RecordEventRequest {
	req := &tollgatev1.RecordEventRequest{
		Action: e.Action, Outcome: tollgatev1.Outcome(tollgatev1.Outcome_value["OUTCOME_"+string(e.Outcome)]),
		Reason: e.Reason, Resource: e.Resource, Ip: ipText(e.IP),
		UserAgent: clip(e.UserAgent, 512), RequestId: clip(e.RequestID, 128), Details: e.Details,
	}
	if p := e.Actor; p != nil {
		req.Actor = &tollgatev1.Actor{
			UserId: p.UserID, Username: p.Username, SessionId: p.SessionID, ApiKeyId: p.APIKeyID,
		}
	}
	return req
}

const (
	maxUserID   = 64  // how many bytes Tollgate accepts of a user's id
	maxResource = 256 // and of a resource
)

// request returns a request for the wire, with the name of a call that counts.
func (c *Client) request(r AuthorizeRequest) (*tollgatev1.AuthorizeRequest, bool, error) {
	req, wellFormed, err := r.proto()
	if err == nil {
		req.IdempotencyKey = c.callKey(!r.Recheck)
	}
	return req, wellFormed, err
}

// callKey returns a name for a call, which is for calls that count and may be retried.
func (c *Client) callKey(counts bool) string {
	if !counts || c.retries == 0 {
		return ""
	}
	return c.keys.next()
}

// maxMessage is how many bytes a request may have. Tollgate hangs up on a larger
// one, which would look like an outage.
const maxMessage = 256 << 10

func tooLarge() *Error {
	return &Error{
		Code: connect.CodeResourceExhausted, Reason: "TOO_LARGE",
		Message: "the request has more than 256 KiB; shorten the context or the attributes, or send fewer requests at once",
	}
}

// proto returns the request for the wire. A malformed credential is left out, so
// that the call still counts against the limits of its IP address.
func (r AuthorizeRequest) proto() (req *tollgatev1.AuthorizeRequest, wellFormed bool, err error) {
	if r.Credential != "" && r.UserID != "" {
		return nil, false, &Error{
			Code: connect.CodeInvalidArgument, Reason: "INVALID_FIELD",
			Message: "an AuthorizeRequest has a Credential or a UserID, not both",
		}
	}
	resource, err := structOf("ResourceAttributes", r.ResourceAttributes)
	if err != nil {
		return nil, false, err
	}
	action, err := structOf("ActionProperties", r.ActionProperties)
	if err != nil {
		return nil, false, err
	}
	req = &tollgatev1.AuthorizeRequest{
		AnyOf: r.AnyOf, AllOf: r.AllOf, ResourceAttributes: resource, ActionProperties: action,
		Permission: r.Permission, Resource: clip(r.Resource, maxResource), Context: r.Context,
		Client: &tollgatev1.Client{
			Ip: ipText(r.IP), UserAgent: clip(r.UserAgent, 512), RequestId: clip(r.RequestID, 128),
		},
		Cost: r.Cost, MinRevision: r.MinRevision, Authenticated: r.Authenticated, SelfOnly: r.SelfOnly, Recheck: r.Recheck,
	}
	if len(r.Self) <= maxUserID && utf8.ValidString(r.Self) { // no user has another id
		req.Self = r.Self
	}
	return req, r.setCredential(req), nil
}

func decisionOf(res *tollgatev1.AuthorizeResponse, wellFormed bool) (*Decision, error) {
	d := &Decision{
		Allowed: res.GetAllowed(), Reason: reasonOf(res.GetReason()), Principal: principalOf(res.GetPrincipal()),
		RetryAfter: res.GetRetryAfter().AsDuration(), Revision: res.GetRevision(),
		Grant: res.GetGrant(), goodFor: res.GetGoodFor().AsDuration(),
	}
	for _, s := range res.GetLimits() {
		d.Limits = append(d.Limits, statusOf(s))
	}
	if !wellFormed {
		d.Allowed = false
		if d.Reason == ReasonCredentialMissing {
			d.Reason = ReasonCredentialInvalid
		}
	}
	if d.Allowed && d.Principal == nil {
		return nil, incomplete("the principal")
	}
	return d, nil
}

// named is what the call needs, for people.
func (r AuthorizeRequest) named() string {
	switch {
	case len(r.AnyOf) > 0:
		return strings.Join(r.AnyOf, " or ")
	case len(r.AllOf) > 0:
		return strings.Join(r.AllOf, " and ")
	default:
		return r.Permission
	}
}

// structOf is attributes for the wire; nil for none.
func structOf(field string, attributes map[string]any) (*structpb.Struct, error) {
	if len(attributes) == 0 {
		return nil, nil
	}
	s, err := structpb.NewStruct(attributes)
	if err != nil {
		return nil, &Error{
			Code: connect.CodeInvalidArgument, Reason: "INVALID_FIELD",
			Message: field + " must be what JSON can say: " + err.Error(),
		}
	}
	return s, nil
}

const reasonIncomplete = "INCOMPLETE_ANSWER"

func incomplete(what string) *Error {
	return &Error{
		Code: connect.CodeInternal, Reason: reasonIncomplete,
		Message: "the answer lacks " + what + "; check that the base URL leads to Tollgate",
	}
}

func ipText(ip netip.Addr) string {
	if !ip.IsValid() {
		return ""
	}
	return ip.Unmap().WithZone("").String()
}

// clip cuts text to n bytes of UTF-8. Callers choose the text, and it must not
// make a decision fail.
func clip(s string, n int) string {
	if len(s) > n {
		s = s[:n]
	}
	return strings.ToValidUTF8(s, "")
}
