package policyfeed

import (
	"context"
	"slices"

	"github.com/tollgatehq/tollgate/server/internal/caller"
)

// partSize is about how many bytes one message of a snapshot has.
const partSize = 256 << 10

// Watch sends all roles and limits, then what changes, and at least every second
// that nothing did. Its errors are those of changes.Feed.
func (s *Service) Watch(ctx context.Context, send func(Message) error) error {
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
		if err := add(bytesOf(o.Name) + bytesOf(o.Allows...) + bytesOf(o.Denies...) + bytesOf(o.Inherits...)); err != nil {
			return err
		}
	}
	for _, o := range s.limits.Outlines() {
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
