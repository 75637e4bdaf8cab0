package overview

import (
	"context"

	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/decision"
	"github.com/tollgatehq/tollgate/server/internal/limits"
	"github.com/tollgatehq/tollgate/server/internal/protoconv"
)

// Handler serves OverviewService.
type Handler struct{ service *Service }

// NewHandler serves the overview.
func NewHandler(s *Service) *Handler { return &Handler{s} }

var (
	sourceEnum  = protoconv.NewEnum[decision.Source, tollgatev1.DecisionSource](tollgatev1.DecisionSource_name)
	reasonEnum  = protoconv.NewEnum[caller.Reason, tollgatev1.Reason](tollgatev1.Reason_name)
	stateEnum   = protoconv.NewEnum[State, tollgatev1.PartState](tollgatev1.PartState_name)
	subjectEnum = protoconv.NewEnum[limits.Subject, tollgatev1.Subject](tollgatev1.Subject_name)
)

// GetOverview returns what the instance has been doing.
func (h *Handler) GetOverview(ctx context.Context, r *tollgatev1.GetOverviewRequest) (*tollgatev1.GetOverviewResponse, error) {
	since, err := protoconv.Time("since", r.GetSince())
	if err != nil {
		return nil, err
	}
	o := h.service.Get(ctx, since)
	return &tollgatev1.GetOverviewResponse{
		Instance: &tollgatev1.Instance{
			Id: o.Instance.ID, Host: o.Instance.Host, Version: o.Instance.Version, StartedAt: protoconv.Timestamp(o.Instance.StartedAt),
		},
		Time: protoconv.Timestamp(o.Time), BucketLength: protoconv.Duration(BucketLength),
		Buckets:            protoconv.List(o.Buckets, bucketProto),
		RefusedPermissions: protoconv.List(o.Permissions, permissionProto),
		RefusedCallers:     protoconv.List(o.Callers, callerProto),
		Refused:            int64(o.Refused),
		Limits:             protoconv.List(o.Limits, useProto),
		Parts: protoconv.List(o.Parts, func(p Part) *tollgatev1.Part {
			return &tollgatev1.Part{Name: p.Name, State: stateEnum.Proto(p.State), Detail: p.Detail}
		}),
	}, nil
}

func bucketProto(b Bucket) *tollgatev1.OverviewBucket {
	return &tollgatev1.OverviewBucket{
		StartsAt: protoconv.Timestamp(b.StartsAt),
		Decisions: protoconv.List(b.Decisions, func(d DecisionCount) *tollgatev1.DecisionCount {
			return &tollgatev1.DecisionCount{Source: sourceEnum.Proto(d.Source), Reason: reasonEnum.Proto(d.Reason), Count: int64(d.Count)}
		}),
		SignIns: int64(b.SignIns[SignedIn]), SignInsFailed: int64(b.SignIns[SignInFailed]), SignInsLimited: int64(b.SignIns[SignInLimited]),
	}
}

func permissionProto(p RefusedPermission) *tollgatev1.RefusedPermission {
	return &tollgatev1.RefusedPermission{
		Permission: p.Permission, Source: sourceEnum.Proto(p.Source), AskedBy: p.AskedBy, Count: int64(p.Count), MaybeMore: int64(p.MaybeMore),
	}
}

func callerProto(c RefusedCaller) *tollgatev1.RefusedCaller {
	return &tollgatev1.RefusedCaller{
		UserId: c.UserID, Username: c.Username, ApiKeyId: c.APIKeyID, Ip: c.IP, Count: int64(c.Count), MaybeMore: int64(c.MaybeMore),
	}
}

func useProto(u LimitUse) *tollgatev1.LimitUse {
	return &tollgatev1.LimitUse{
		Limit: u.Limit, Subject: subjectEnum.Proto(u.Subject), Key: u.Key, Quota: u.Quota, Remaining: u.Remaining,
		Exceeded: u.Exceeded, Shadow: u.Shadow, CountedAt: protoconv.Timestamp(u.CountedAt), ResetsAt: protoconv.Timestamp(u.ResetsAt),
	}
}
