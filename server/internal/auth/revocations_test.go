package auth

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/clock"
	"github.com/tollgatehq/tollgate/server/internal/database"
)

// TestWatchRevocations: a watcher gets what is revoked already, then each
// revocation, and the revision that all before it are got at.
func TestWatchRevocations(t *testing.T) {
	t.Parallel()
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		s := newFixture(t, db)
		ctx := s.system()
		alice, bob := s.user("alice").ID, s.user("bob").ID
		before := s.login("alice").SessionID
		if _, err := s.RevokeSession(ctx, alice, before); err != nil {
			t.Fatal(err)
		}
		after := s.login("alice").SessionID

		watching, hangUp := context.WithCancelCause(t.Context())
		messages := make(chan Revoked)
		ended := make(chan error, 1)
		go func() {
			ended <- s.WatchRevocations(watching, func(r Revoked) error {
				select {
				case messages <- r:
					return nil
				case <-watching.Done():
					return context.Cause(watching)
				}
			})
		}()

		first := <-messages
		if !first.Snapshot || first.Revision == 0 || !slices.Equal(first.Sessions, []string{before}) || len(first.Users) > 0 {
			t.Errorf("the first message is %+v; want a snapshot with session %s", first, before)
		}
		revision, err := s.RevokeSession(ctx, alice, after)
		if err != nil {
			t.Fatal(err)
		}
		got := Revoked{}
		for got.Revision < revision {
			next := <-messages
			got.Sessions = append(got.Sessions, next.Sessions...)
			got.Revision = max(got.Revision, next.Revision)
		}
		if !slices.Equal(got.Sessions, []string{after}) {
			t.Errorf("at the revision of its end, got %v, want %s", got.Sessions, after)
		}

		yes, no := true, false
		if _, _, err := s.UpdateUser(ctx, bob, UserUpdate{Disabled: &yes}); err != nil {
			t.Fatal(err)
		}
		if next := nextRevoked(messages); !slices.Equal(next.Users, []string{bob}) {
			t.Errorf("a disabled user: %+v", next)
		}
		if _, _, err := s.UpdateUser(ctx, bob, UserUpdate{Disabled: &no}); err != nil {
			t.Fatal(err)
		}
		if next := nextRevoked(messages); !slices.Equal(next.Restored, []string{bob}) {
			t.Errorf("an enabled user: %+v", next)
		}
		if _, err := s.DeleteUser(ctx, bob); err != nil {
			t.Fatal(err)
		}
		if next := nextRevoked(messages); !slices.Equal(next.Users, []string{bob}) {
			t.Errorf("a deleted user: %+v", next)
		}
		hangUp(context.Canceled)
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("ended with %v", err)
		}
		// A watcher who comes later is got of the deleted user too.
		all, err := s.listRevoked(t.Context())
		if err != nil || !slices.Equal(all.Users, []string{bob}) {
			t.Errorf("a later snapshot: %+v, %v", all, err)
		}
	})
}

// TestWatchRemovedSigningKeys: a watcher is got of a signing key that was
// removed as it happens, on every instance, one that comes later at the
// beginning, and none of a rotation.
func TestWatchRemovedSigningKeys(t *testing.T) {
	t.Parallel()
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		s := newFixture(t, db)
		ctx := s.system()
		removed := func() []string {
			t.Helper()
			all, err := s.listRevoked(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			return all.SigningKeys
		}
		watcher := s.feed.Join()
		defer s.feed.Leave(watcher)

		leaked := s.active()
		if _, _, err := s.SigningKeys.Rotate(ctx, ""); err != nil {
			t.Fatal(err)
		}
		if len(watcher) > 0 || len(removed()) > 0 {
			t.Errorf("after a rotation: %d messages, %v removed", len(watcher), removed())
		}
		if _, err := s.SigningKeys.Remove(ctx, leaked); err != nil {
			t.Fatal(err)
		}
		if len(watcher) != 1 {
			t.Fatalf("%d messages about a removed key", len(watcher))
		}
		if got := <-watcher; !slices.Equal(got.SigningKeys, []string{leaked}) || got.Snapshot {
			t.Errorf("a removed key: %+v", got)
		}
		// Who has the key signs tokens of today with it: also a watcher of the
		// last day that the key is listed is got.
		s.clock.Advance(30*24*time.Hour - time.Hour)
		if err := s.Prune(ctx); err != nil {
			t.Fatal(err)
		}
		if ids := removed(); !slices.Equal(ids, []string{leaked}) {
			t.Errorf("a later snapshot: %v", ids)
		}
		s.clock.Advance(2 * time.Hour)
		if err := s.Prune(ctx); err != nil {
			t.Fatal(err)
		}
		if ids := removed(); len(ids) > 0 {
			t.Errorf("for ever: %v", ids)
		}
	})
}

// TestRemovedSigningKeyForASlowClock: an instance whose clock is behind sends a
// key that another has just removed.
func TestRemovedSigningKeyForASlowClock(t *testing.T) {
	t.Parallel()
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		s := newFixture(t, db)
		late := fixtureAt(t, db, clock.NewFake(s.clock.Now().Add(-time.Second)))
		leaked := s.active()
		if _, _, err := s.SigningKeys.Rotate(s.system(), ""); err != nil {
			t.Fatal(err)
		}
		if _, err := s.SigningKeys.Remove(s.system(), leaked); err != nil {
			t.Fatal(err)
		}
		ids, err := late.SigningKeys.ListRemoved(t.Context())
		if err != nil || !slices.Equal(ids, []string{leaked}) {
			t.Errorf("removed %v, error %v", ids, err)
		}
	})
}

// active is the id of the only signing key.
func (d *fixture) active() string {
	d.t.Helper()
	keys, err := d.SigningKeys.List(d.system())
	if err != nil || len(keys) != 1 {
		d.t.Fatal(keys, err)
	}
	return keys[0].ID
}

// TestWatchAfterReset: a watcher of an instance that has lost its place in the log
// is dropped, for what was revoked meanwhile would never be sent.
func TestWatchAfterReset(t *testing.T) {
	t.Parallel()
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		here := newFixture(t, db)
		there := fixtureAt(t, db, here.clock)
		alice := here.user("alice").ID
		session := here.login("alice").SessionID
		watcher := here.feed.Join()
		defer here.feed.Leave(watcher)
		if _, err := there.RevokeSession(there.system(), alice, session); err != nil {
			t.Fatal(err)
		}
		if _, err := db.Exec(t.Context(), `DELETE FROM changes`); err != nil {
			t.Fatal(err)
		}
		if err := here.log.Sync(t.Context()); err != nil {
			t.Fatal(err)
		}
		if here.feed.Watched() {
			t.Error("its watcher goes on, and was sent nothing of what it missed")
		}
	})
}

func nextRevoked(messages <-chan Revoked) Revoked {
	for {
		if next := <-messages; !next.empty() {
			return next
		}
	}
}
