package policyfeed

import (
	"context"

	"connectrpc.com/connect"
	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
	"github.com/tollgatehq/tollgate/server/internal/limits"
	"github.com/tollgatehq/tollgate/server/internal/protoconv"
	"github.com/tollgatehq/tollgate/server/internal/roles"
)

var subjects = protoconv.NewEnum[limits.Subject, tollgatev1.Subject](tollgatev1.Subject_name)

// Watcher serves the RPC of RolesService that watches.
type Watcher struct{ service *Service }

// NewWatcher serves s.
func NewWatcher(s *Service) *Watcher { return &Watcher{s} }

// WatchPolicy implements RolesService.
func (w *Watcher) WatchPolicy(ctx context.Context, r *tollgatev1.WatchPolicyRequest, stream *connect.ServerStream[tollgatev1.WatchPolicyResponse]) error {
	return w.Policy(ctx, r, stream.Send)
}

// Policy is WatchPolicy for any stream.
func (w *Watcher) Policy(ctx context.Context, r *tollgatev1.WatchPolicyRequest, send func(*tollgatev1.WatchPolicyResponse) error) error {
	return w.service.Watch(ctx, r.GetConditions(), func(m Message) error {
		return send(&tollgatev1.WatchPolicyResponse{
			Snapshot: m.Snapshot, Partial: m.Partial, Revision: m.Revision,
			Roles: protoconv.List(m.Roles, roleProto), RemovedRoles: m.RemovedRoles,
			Limits: protoconv.List(m.Limits, limitProto), RemovedLimits: m.RemovedLimits,
			UserIds: m.Users, SessionIds: m.Sessions, ApiKeyIds: m.APIKeys, TokenIds: m.Tokens, Everybody: m.Everybody,
		})
	})
}

func roleProto(o roles.Outline) *tollgatev1.PolicyRole {
	return &tollgatev1.PolicyRole{
		Name: o.Name, Allows: o.Allows, Denies: o.Denies, Inherits: o.Inherits,
		Grants: protoconv.List(o.Conditional, roles.GrantProto),
	}
}

func limitProto(o limits.Outline) *tollgatev1.PolicyLimit {
	return &tollgatev1.PolicyLimit{
		Name: o.Name, Permission: o.Permission, Subject: subjects.Proto(o.Subject), ContextKey: o.ContextKey, Lease: o.Lease,
	}
}
