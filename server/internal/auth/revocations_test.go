package auth

import (
	"context"
	"slices"
	"testing"

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
		if err := <-ended; err != context.Canceled {
			t.Errorf("ended with %v", err)
		}
		// A watcher who comes later is told of the deleted user too.
		all, err := s.revoked(t.Context())
		if err != nil || !slices.Equal(all.Users, []string{bob}) {
			t.Errorf("a later snapshot: %+v, %v", all, err)
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
