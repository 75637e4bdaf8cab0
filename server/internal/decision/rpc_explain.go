package decision

import (
	"context"

	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
	"github.com/tollgatehq/tollgate/server/internal/auth"
	"github.com/tollgatehq/tollgate/server/internal/limits"
	"github.com/tollgatehq/tollgate/server/internal/protoconv"
	"github.com/tollgatehq/tollgate/server/internal/roles"
)

var verdicts = protoconv.NewEnum[roles.TraceVerdict, tollgatev1.Verdict](tollgatev1.Verdict_name)

// Explain says how a call would be decided.
func (a *Authorizer) Explain(ctx context.Context, req *tollgatev1.ExplainRequest) (*tollgatev1.ExplainResponse, error) {
	asked, err := RequestOf(ctx, req.GetRequest())
	if err != nil {
		return nil, err
	}
	x, err := a.service.Explain(ctx, asked)
	if err != nil {
		return nil, err
	}
	res := &tollgatev1.ExplainResponse{
		Allowed: x.Allowed, Reason: auth.ReasonProto(x.Reason), Principal: auth.PrincipalProto(x.Principal),
		Grants: protoconv.List(x.Traces, traceProto), Truncated: x.Truncated,
		Limits: protoconv.List(x.Limits, limits.StatusProto), Revision: x.Revision,
	}
	if x.Principal != nil {
		res.Scopes = x.Principal.Scopes
	}
	return res, nil
}

func traceProto(t Trace) *tollgatev1.GrantTrace {
	g := roles.GrantProto(t.Grant)
	return &tollgatev1.GrantTrace{
		Role: t.Role, From: t.From, Permission: g.GetPermission(), Condition: g.GetCondition(), Effect: g.GetEffect(),
		Verdict: verdicts.Proto(t.Verdict), Detail: t.Detail, Read: t.Read,
		ExpiresAt: protoconv.Timestamp(t.ExpiresAt), Asked: t.Asked,
	}
}

// ListHolders returns the users who may make a call.
func (a *Authorizer) ListHolders(ctx context.Context, req *tollgatev1.ListHoldersRequest) (*tollgatev1.ListHoldersResponse, error) {
	given, err := attributesOf("resourceAttributes", req.GetResourceAttributes())
	if err != nil {
		return nil, err
	}
	list, next, err := a.service.Holders(ctx, a.pages, req.GetPermission(), req.GetResource(), given, req.GetPageSize(), req.GetPageToken())
	if err != nil {
		return nil, err
	}
	return &tollgatev1.ListHoldersResponse{Holders: protoconv.List(list, holderProto), NextPageToken: next}, nil
}

func holderProto(h Holder) *tollgatev1.Holder {
	v := roles.Verdict{Role: h.Possible.Role, Grant: &h.Possible.Grant}
	return &tollgatev1.Holder{UserId: h.UserID, Username: h.Username, DependsOn: h.Possible.DependsOn, Grant: v.String()}
}

// PreviewRole says what an update would change.
func (a *Authorizer) PreviewRole(ctx context.Context, req *tollgatev1.PreviewRoleRequest) (*tollgatev1.PreviewRoleResponse, error) {
	p, err := a.service.Preview(ctx, a.pages, req.GetUpdate().GetName(), roles.EditOf(req.GetUpdate()), req.GetPageSize(), req.GetPageToken(), int(req.GetReplay()))
	if err != nil {
		return nil, err
	}
	return &tollgatev1.PreviewRoleResponse{
		Role: roles.RoleProto(p.Role), Changes: protoconv.List(p.Changes, changeProto), NextPageToken: p.Next,
		Replayed: protoconv.List(p.Replayed.Otherwise, replayedProto), ReplayedRefusals: int32(p.Replayed.Refusals), ReplayedAllows: int32(p.Replayed.Allows),
	}, nil
}

func changeProto(c roles.Change) *tollgatev1.RoleChange {
	return &tollgatev1.RoleChange{
		UserId: c.UserID, Username: c.Username,
		Gains: protoconv.List(c.Gains, roles.GrantProto), Losses: protoconv.List(c.Losses, roles.GrantProto),
	}
}

func replayedProto(r Replayed) *tollgatev1.ReplayedDecision {
	return &tollgatev1.ReplayedDecision{
		EventId: r.Event.ID, Time: protoconv.Timestamp(r.Event.Time), UserId: r.Event.ActorID, Permission: r.Permission,
		Resource: r.Event.Resource, Before: auth.ReasonProto(r.Before), After: auth.ReasonProto(r.After),
	}
}
