package sdktest

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"connectrpc.com/connect"
	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
)

// send puts a message on the feed of revocations, and on that of the policy whom it
// is about, and these users. The lock is held here and in what follows.
func (s *Server) send(message *tollgatev1.WatchRevocationsResponse, users ...string) int64 {
	revision := s.sendPolicy(&tollgatev1.WatchPolicyResponse{
		UserIds:    slices.Concat(message.GetUserIds(), message.GetRestoredUserIds(), users),
		SessionIds: message.GetSessionIds(), ApiKeyIds: message.GetApiKeyIds(), TokenIds: message.GetTokenIds(),
		Everybody: len(message.GetSigningKeyIds()) > 0,
	})
	message.Revision = revision
	s.feed = append(s.feed, message)
	return revision
}

// sendPolicy puts a message on the feed of the policy.
func (s *Server) sendPolicy(message *tollgatev1.WatchPolicyResponse) int64 {
	s.revision++
	message.Revision = s.revision
	s.policy = append(s.policy, message)
	s.notify()
	return s.revision
}

// policySnapshot returns all roles and limits.
func (s *Server) policySnapshot() *tollgatev1.WatchPolicyResponse {
	message := &tollgatev1.WatchPolicyResponse{Snapshot: true, Revision: s.revision}
	for _, name := range slices.Sorted(maps.Keys(s.roles)) {
		message.Roles = append(message.Roles, s.policyRole(name))
	}
	for _, name := range slices.Sorted(maps.Keys(s.limits)) {
		message.Limits = append(message.Limits, s.limits[name].policy())
	}
	return message
}

// policy is the limit as it is told of: one that only CheckLimit counts matches no
// permission.
func (l Limit) policy() *tollgatev1.PolicyLimit {
	return &tollgatev1.PolicyLimit{
		Name: l.Name, Permission: l.Permission, Subject: tollgatev1.Subject_SUBJECT_USER, Lease: l.Lease > 0,
	}
}

// WatchRevocations sends a snapshot and then what changes.
func (h handler) WatchRevocations(ctx context.Context, _ *tollgatev1.WatchRevocationsRequest, stream *connect.ServerStream[tollgatev1.WatchRevocationsResponse]) error {
	s := h.server
	return watch(ctx, s, stream.Send, s.snapshot, func() *[]*tollgatev1.WatchRevocationsResponse { return &s.feed },
		func(revision int64) *tollgatev1.WatchRevocationsResponse {
			return &tollgatev1.WatchRevocationsResponse{Revision: revision}
		})
}

// WatchPolicy sends a snapshot and then what changes.
func (h handler) WatchPolicy(ctx context.Context, req *tollgatev1.WatchPolicyRequest, stream *connect.ServerStream[tollgatev1.WatchPolicyResponse]) error {
	s := h.server
	send := stream.Send
	if !req.GetConditions() {
		send = func(m *tollgatev1.WatchPolicyResponse) error { return stream.Send(withoutConditions(m)) }
	}
	return watch(ctx, s, send, s.policySnapshot, func() *[]*tollgatev1.WatchPolicyResponse { return &s.policy },
		func(revision int64) *tollgatev1.WatchPolicyResponse {
			return &tollgatev1.WatchPolicyResponse{Revision: revision}
		})
}

// watch sends a snapshot, what is put on a feed, and a message with the revision when
// there is nothing else.
func watch[T any](ctx context.Context, s *Server, send func(*T) error, snapshot func() *T, feed func() *[]*T, silent func(int64) *T) error {
	beat := time.NewTicker(s.keepAlive)
	defer beat.Stop()
	s.mu.Lock()
	pending, sent := []*T{snapshot()}, len(*feed())
	s.mu.Unlock()
	for {
		for _, message := range pending {
			if err := send(message); err != nil {
				return err
			}
		}
		s.mu.Lock()
		pending, sent = slices.Clone((*feed())[sent:]), len(*feed())
		changed, down, revision := s.changed, s.down, s.revision
		s.mu.Unlock()
		if down {
			return connect.NewError(connect.CodeUnavailable, errors.New("down"))
		}
		if len(pending) > 0 {
			continue
		}
		select {
		case <-changed:
		case <-beat.C:
			pending = append(pending, silent(revision))
		case <-ctx.Done():
			return ctx.Err()
		case <-s.ended:
			return connect.NewError(connect.CodeUnavailable, errors.New("closed"))
		}
	}
}
