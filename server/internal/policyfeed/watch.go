package policyfeed

import (
	"context"
	"slices"

	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/contract"
	"github.com/tollgatehq/tollgate/server/internal/fault"
)

// partSize is about how many bytes one message of a snapshot has.
const partSize = 256 << 10

// Watch sends all roles and limits, then what changes, and at least every second
// that nothing did. Roles have grants with conditions only when they are asked for;
// it is Denied to, and ends with that for, who may not see them. Its other errors are
// those of changes.Feed.
func (s *Service) Watch(ctx context.Context, conditions bool, send func(Message) error) error {
	tell := send
	send = func(m Message) error {
		if !conditions {
			return tell(m.withoutConditions())
		}
		if err := s.maySeeConditions(ctx); err != nil {
			return err
		}
		return tell(m)
	}
	asker := caller.From(ctx).UserID()
	var begun int64
	return s.feed.Watch(ctx, s.log, func(revision int64) error {
		begun = revision
		return s.snapshot(revision, send)
	}, func(m Message) error {
		if m.Revision <= begun {
			return nil // older than the snapshot: it would bring an older role back
		}
		// Whose tokens the caller accepts is in the caller's account.
		m.Everybody = m.Everybody || slices.Contains(m.Users, asker)
		return send(m)
	}, func(revision int64) error { return send(Message{Revision: revision}) })
}

// maySeeConditions returns nil when the caller may, by the roles of now: a stream is
// older than they are.
func (s *Service) maySeeConditions(ctx context.Context) error {
	c := caller.From(ctx)
	if c.System {
		return nil
	}
	if c.Principal != nil {
		now := *c.Principal
		var err error
		if now.Roles, err = s.roles.RolesOf(ctx, now.UserID); err != nil {
			return err
		}
		if s.roles.Check(&now, contract.PermissionConditions) == caller.ReasonOK {
			return nil
		}
	}
	return fault.New(fault.Denied, "PERMISSION_MISSING",
		"to be told conditions takes the permission %s besides; get it, or watch without them", contract.PermissionConditions)
}

// withoutConditions is the message for who has not asked for conditions.
func (m Message) withoutConditions() Message {
	if len(m.Roles) > 0 { // shared with other watchers
		m.Roles = slices.Clone(m.Roles)
		for i, o := range m.Roles {
			m.Roles[i] = o.WithoutConditions()
		}
	}
	return m
}

// snapshot sends everything in parts. What it reads is at least as new as revision.
func (s *Service) snapshot(revision int64, send func(Message) error) error {
	m, size := Message{Snapshot: true, Partial: true}, 0
	add := func(bytes int) error {
		if size += bytes; size < partSize {
			return nil
		}
		part := m
		m, size = Message{Partial: true}, 0
		return send(part)
	}
	for o := range s.roles.Policy().Outlines() {
		m.Roles = append(m.Roles, o)
		size := bytesOf(o.Name) + bytesOf(o.Allows...) + bytesOf(o.Denies...) + bytesOf(o.Inherits...)
		for _, g := range o.Conditional {
			size += bytesOf(g.Permission, g.Condition)
		}
		if err := add(size); err != nil {
			return err
		}
	}
	counted := s.limits.Outlines()
	for _, r := range s.record.All() {
		counted = append(counted, asked(r))
	}
	for _, o := range counted {
		m.Limits = append(m.Limits, o)
		if err := add(bytesOf(o.Name, o.Permission, string(o.Subject), o.ContextKey)); err != nil {
			return err
		}
	}
	m.Partial, m.Revision = false, revision
	return send(m)
}

// bytesOf is about how long strings are on the wire.
func bytesOf(list ...string) (n int) {
	for _, s := range list {
		n += len(s) + 4
	}
	return n
}
