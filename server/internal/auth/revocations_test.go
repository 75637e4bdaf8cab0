package auth

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/database"
)

// TestWatchRevocations: a watcher gets what is revoked already, then each
// revocation, and the revision that all before it are told at.
func TestWatchRevocations(t *testing.T) {
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		s := newDesk(t, db)
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
		told := Revoked{}
		for told.Revision < revision {
			next := <-messages
			told.Sessions = append(told.Sessions, next.Sessions...)
			told.Revision = max(told.Revision, next.Revision)
		}
		if !slices.Equal(told.Sessions, []string{after}) {
			t.Errorf("at the revision of its end, told %v, want %s", told.Sessions, after)
		}

		yes, no := true, false
		if _, _, err := s.UpdateUser(ctx, bob, UserUpdate{Disabled: &yes}); err != nil {
			t.Fatal(err)
		}
		if next := nextTold(messages); !slices.Equal(next.Users, []string{bob}) {
			t.Errorf("a disabled user: %+v", next)
		}
		if _, _, err := s.UpdateUser(ctx, bob, UserUpdate{Disabled: &no}); err != nil {
			t.Fatal(err)
		}
		if next := nextTold(messages); !slices.Equal(next.Restored, []string{bob}) {
			t.Errorf("an enabled user: %+v", next)
		}
		if _, err := s.DeleteUser(ctx, bob); err != nil {
			t.Fatal(err)
		}
		if next := nextTold(messages); !slices.Equal(next.Users, []string{bob}) {
			t.Errorf("a deleted user: %+v", next)
		}
		hangUp(context.Canceled)
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("ended with %v", err)
		}
		// A watcher who comes later is told of the deleted user too.
		all, err := s.revoked(t.Context())
		if err != nil || !slices.Equal(all.Users, []string{bob}) {
			t.Errorf("a later snapshot: %+v, %v", all, err)
		}
	})
}

// TestWatchRemovedSigningKeys: a watcher is told of a signing key that was
// removed as it happens, on every instance, one who comes later at the
// beginning, and nobody of a rotation.
func TestWatchRemovedSigningKeys(t *testing.T) {
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		s := newDesk(t, db)
		ctx := s.system()
		removed := func() []string {
			t.Helper()
			all, err := s.revoked(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			return all.SigningKeys
		}
		watcher := s.revocations.join()
		defer s.revocations.leave(watcher)

		leaked := s.keys.set.Load().newest[0].id
		if _, _, err := s.RotateSigningKey(ctx, ""); err != nil {
			t.Fatal(err)
		}
		if len(watcher) > 0 || len(removed()) > 0 {
			t.Errorf("after a rotation: %d messages, %v removed", len(watcher), removed())
		}
		if _, err := s.RemoveSigningKey(ctx, leaked); err != nil {
			t.Fatal(err)
		}
		if len(watcher) != 1 {
			t.Fatalf("%d messages about a removed key", len(watcher))
		}
		if told := <-watcher; !slices.Equal(told.SigningKeys, []string{leaked}) || told.Snapshot {
			t.Errorf("a removed key: %+v", told)
		}
		// Who has the key signs tokens of today with it: also a watcher of the
		// last day that the key is listed is told.
		s.clock.Advance(keepSigningKeyRows - time.Hour)
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

// TestRemovedSigningKeyForASlowClock: an instance whose clock is behind tells of
// a key that another has just removed.
func TestRemovedSigningKeyForASlowClock(t *testing.T) {
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		s := newDesk(t, db)
		leaked := s.keys.set.Load().newest[0].id
		if _, _, err := s.RotateSigningKey(s.system(), ""); err != nil {
			t.Fatal(err)
		}
		if _, err := s.RemoveSigningKey(s.system(), leaked); err != nil {
			t.Fatal(err)
		}
		before := s.clock.Now().Add(-time.Second)
		live, err := signingKeyLive(t.Context(), db, leaked, before)
		if err != nil || live {
			t.Errorf("live %v, error %v", live, err)
		}
		ids, err := signingKeysRemoved(t.Context(), db, before)
		if err != nil || !slices.Equal(ids, []string{leaked}) {
			t.Errorf("removed %v, error %v", ids, err)
		}
	})
}

// TestSlowWatcher: one that does not read is let go, and holds up nobody.
func TestSlowWatcher(t *testing.T) {
	var r revocations
	slow := r.join()
	for range watcherBuffer + 1 {
		r.tell(Revoked{Sessions: []string{"one"}})
	}
	if r.watched() {
		t.Error("it is still watched")
	}
	n := 0
	for range slow {
		n++
	}
	if n != watcherBuffer {
		t.Errorf("%d batches before the end, want %d", n, watcherBuffer)
	}
	r.leave(slow) // once more is no harm
}

func nextTold(messages <-chan Revoked) Revoked {
	for {
		if next := <-messages; !next.empty() {
			return next
		}
	}
}
