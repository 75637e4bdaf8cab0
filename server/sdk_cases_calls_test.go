package main_test

import (
	"encoding/json"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
	sdk "github.com/tollgatehq/tollgate/sdk"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"google.golang.org/protobuf/encoding/protojson"
)

// sdkRequest are the arguments of authorize and explain.
type sdkRequest struct {
	Credential, UserID, Permission           string
	AnyOf, AllOf                             []string
	Authenticated, SelfOnly, Recheck         bool
	Self, Resource, IP, UserAgent, RequestID string
	ResourceAttributes, ActionProperties     map[string]any
	Context                                  map[string]string
	Cost, MinRevision                        json.Number
	OnUnavailable                            string
}

type sdkLimitCheck struct {
	Limit, Key string
	Cost       json.Number
	Peek       bool
}

type sdkEvent struct {
	Actor                                                       *sdk.Principal
	Action, Outcome, Reason, Resource, IP, UserAgent, RequestID string
	Details                                                     map[string]string
}

func read[T any](t *testing.T, args any) (into T) {
	t.Helper()
	text, err := json.Marshal(args)
	backendtest.Must(t, err)
	decoder := json.NewDecoder(strings.NewReader(string(text)))
	decoder.DisallowUnknownFields()
	backendtest.Must(t, decoder.Decode(&into))
	return into
}

func number(n json.Number) int64 {
	value, _ := n.Int64()
	return value
}

func address(text string) netip.Addr {
	ip, _ := netip.ParseAddr(text)
	return ip
}

func (r sdkRequest) request() sdk.AuthorizeRequest {
	return sdk.AuthorizeRequest{
		Credential: r.Credential, UserID: r.UserID, Permission: r.Permission, AnyOf: r.AnyOf, AllOf: r.AllOf,
		Authenticated: r.Authenticated, Self: r.Self, SelfOnly: r.SelfOnly, Resource: r.Resource,
		ResourceAttributes: r.ResourceAttributes, ActionProperties: r.ActionProperties, Context: r.Context,
		IP: address(r.IP), UserAgent: r.UserAgent, RequestID: r.RequestID, Cost: number(r.Cost), Recheck: r.Recheck,
		MinRevision: number(r.MinRevision), OnUnavailable: sdkFailureMode(r.OnUnavailable),
	}
}

func (e sdkEvent) event() sdk.Event {
	return sdk.Event{
		Actor: e.Actor, Action: e.Action, Outcome: sdk.Outcome(e.Outcome), Reason: e.Reason, Resource: e.Resource,
		IP: address(e.IP), UserAgent: e.UserAgent, RequestID: e.RequestID, Details: e.Details,
	}
}

// callSDK makes a call by name, and returns its result in the names of the cases.
func callSDK(t *testing.T, c *sdk.Client, name string, args object) (any, error) {
	t.Helper()
	switch name {
	case "authorize":
		d, err := c.Authorize(t.Context(), read[sdkRequest](t, args).request())
		if err != nil {
			return nil, err
		}
		limits := make([]object, len(d.Limits))
		for i, l := range d.Limits {
			limits[i] = limitObject(l)
		}
		return object{
			"allowed": d.Allowed, "reason": d.Reason, "principal": principalObject(d.Principal), "limits": limits,
			"retryAfter": d.RetryAfter.Seconds(), "revision": d.Revision, "grant": d.Grant,
		}, nil
	case "verify":
		v, err := c.Verify(t.Context(), read[sdkRequest](t, args).Credential)
		if err != nil {
			return nil, err
		}
		return object{"active": v.Active, "reason": v.Reason, "principal": principalObject(v.Principal), "revision": v.Revision}, nil
	case "checkLimit":
		r := read[sdkLimitCheck](t, args)
		res, err := c.CheckLimit(t.Context(), sdk.CheckLimitRequest{Limit: r.Limit, Key: r.Key, Cost: number(r.Cost), Peek: r.Peek})
		if err != nil {
			return nil, err
		}
		return object{"allowed": res.Allowed, "status": limitObject(res.Status), "retryAfter": res.RetryAfter.Seconds()}, nil
	case "recordEvent":
		return object{}, c.RecordEvent(t.Context(), read[sdkEvent](t, args).event())
	case "recordEvents":
		var events []sdk.Event
		for _, e := range read[struct{ Events []sdkEvent }](t, args).Events {
			events = append(events, e.event())
		}
		return object{}, c.RecordEvents(t.Context(), events)
	case "explain":
		return explain(t, c, args)
	}
	t.Fatalf("there is no call %q", name)
	return nil, nil
}

// explain asks with the generated client, whose names for enums are longer.
func explain(t *testing.T, c *sdk.Client, args object) (any, error) {
	t.Helper()
	r := read[sdkRequest](t, args)
	req := &tollgatev1.AuthorizeRequest{Permission: r.Permission, Resource: r.Resource, Context: r.Context}
	if r.UserID != "" {
		req.Credential = &tollgatev1.AuthorizeRequest_UserId{UserId: r.UserID}
	} else {
		req.Credential = &tollgatev1.AuthorizeRequest_AccessToken{AccessToken: r.Credential}
	}
	res, err := c.Roles().Explain(t.Context(), &tollgatev1.ExplainRequest{Request: req})
	if err != nil {
		return nil, err
	}
	text, err := protojson.MarshalOptions{EmitUnpopulated: true}.Marshal(res)
	backendtest.Must(t, err)
	return json.RawMessage(strings.NewReplacer(`"REASON_`, `"`, `"VERDICT_`, `"`, `"EFFECT_`, `"`).Replace(string(text))), nil
}

func principalObject(p *sdk.Principal) any {
	if p == nil {
		return nil
	}
	return object{
		"userId": p.UserID, "username": p.Username, "service": p.Service, "roles": p.Roles, "sessionId": p.SessionID,
		"apiKeyId": p.APIKeyID, "scopes": p.Scopes, "audience": p.Audience, "amr": p.Amr,
		"expiresAt": timeText(p.ExpiresAt), "authTime": timeText(p.AuthTime),
	}
}

func timeText(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.Format(time.RFC3339)
}

func limitObject(l sdk.LimitStatus) object {
	return object{
		"name": l.Name, "limit": l.Limit, "remaining": l.Remaining, "reset": l.Reset.Seconds(), "exceeded": l.Exceeded, "shadow": l.Shadow,
	}
}

// sdkError is an error in the names of the cases: no answer in time is unavailable.
func sdkError(err error) object {
	failed, ok := errors.AsType[*sdk.Error](err)
	if !ok {
		return object{"text": err.Error()}
	}
	e := object{"code": failed.Code.String(), "reason": failed.Reason, "retryAfter": failed.RetryAfter.Seconds()}
	if errors.Is(err, sdk.ErrUnavailable) {
		e["code"] = "unavailable"
	}
	if len(failed.Violations) > 0 {
		e["field"] = failed.Violations[0].Field
	}
	return e
}
