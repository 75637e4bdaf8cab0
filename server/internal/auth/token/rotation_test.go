package token

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tollgatehq/tollgate/internal/jose"
	"github.com/tollgatehq/tollgate/server/internal/audit"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/clock"
	"github.com/tollgatehq/tollgate/server/internal/database"
	"github.com/tollgatehq/tollgate/server/internal/fault"
	"github.com/tollgatehq/tollgate/server/internal/fault/faulttest"
)

// While keys of all algorithms follow each other, every token that any
// instance signs is good on every instance until it expires, although one
// clock is a minute behind; its key was published at least the key set's
// max-age before.
func TestRotate(t *testing.T) {
	t.Parallel()
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		fake, behind := clock.NewFake(issued), clock.NewFake(issued.Add(-time.Minute))
		a, b := startInstance(t, db, fake, 'm'), startInstance(t, db, behind, 'm')
		backendtest.Must(t, a.Ensure(t.Context()))
		both := []instance{a, b}
		type live struct {
			text string
			ends time.Time
		}
		var tokens []live
		first := ""
		since := map[string]time.Time{} // when others could see a key first
		step := func(d time.Duration) {
			t.Helper()
			for _, i := range both {
				i.clock.Advance(d)
			}
			for _, i := range both {
				backendtest.Must(t, i.Log.Sync(t.Context()))
				for id := range strings.FieldsSeq(i.published(t)) {
					if _, seen := since[id]; !seen {
						since[id] = fake.Now()
					}
				}
			}
			for _, i := range both {
				token := i.mint(t)
				tokens = append(tokens, live{token, i.clock.Now().Truncate(time.Second).Add(15 * time.Minute)})
				head, _, _ := strings.Cut(token, ".")
				key := i.set.Load().byHeader[head]
				if early := fake.Now().Sub(since[key.id]); early < 5*time.Minute && key.id != first {
					t.Errorf("signs with a key that was published %s ago", early)
				}
			}
			for _, i := range both {
				for _, token := range tokens {
					_, reason := i.Verify(token.text, i.clock.Now())
					if i.clock.Now().Before(token.ends) && reason != caller.ReasonOK {
						t.Fatalf("%s after the start a good token is %s", fake.Now().Sub(issued), reason)
					}
				}
			}
		}
		for _, i := range both {
			i.sync(t)
		}
		first = a.newest().id
		step(2 * time.Minute)
		a.wantStates(t, "active")
		for _, algorithm := range []string{jose.ES256, "", jose.EdDSA} {
			made, revision, err := b.Rotate(caller.System(t.Context()), algorithm)
			if err != nil || revision == 0 || made.State != Pending {
				t.Fatal(made, err)
			}
			faulttest.Want(t, faulttest.Err(a.Rotate(t.Context(), "")), fault.Precondition, "ROTATION_PENDING")
			for range 35 {
				step(13 * time.Second)
			}
			step(time.Minute) // the clock that is behind is there, too
			if got := b.set.Load().signer(behind.Now()).id; got != made.ID {
				t.Errorf("signs with %s, want %s", got, made.ID)
			}
			a.wantStates(t, append([]string{"active", "retiring"}, a.states(t)[2:]...)...)
		}
		for range 20 {
			step(time.Minute)
		}
		a.wantStates(t, "active", "removed", "removed", "removed")
		if n := strings.Count(a.published(t), " "); n != 1 {
			t.Errorf("%d keys are published", n)
		}
		fake.Advance(31 * 24 * time.Hour)
		backendtest.Must(t, a.Prune(t.Context()))
		backendtest.WantCount(t, db, 1, `SELECT COUNT(*) FROM signing_keys`)
		backendtest.WantCount(t, db, 3, `SELECT COUNT(*) FROM audit_events WHERE action = 'signing_key.rotate'`)
	})
}

// A token remains good until its end when its key retires the moment after.
func TestRotateKeepsTheLastToken(t *testing.T) {
	t.Parallel()
	i := startInstance(t, backendtest.SQLite(t), clock.NewFake(issued), 'm')
	backendtest.Must(t, i.Ensure(t.Context()))
	i.sync(t)
	old := i.newest()
	backendtest.Must(t, faulttest.Err(i.Rotate(t.Context(), "")))
	i.clock.Advance(jose.KeyLeadTime - time.Microsecond)
	token := i.mint(t)
	if !strings.HasPrefix(token, old.header+".") {
		t.Fatal("the next key signs before its time")
	}
	i.clock.Advance(15*time.Minute - time.Second)
	i.expect(t, "the old key's last token", token, caller.ReasonOK)
	if token := i.mint(t); strings.HasPrefix(token, old.header+".") {
		t.Error("a retired key signs")
	}
}

// However many instances find a rotation due at once, one rotates.
func TestRotateIfDue(t *testing.T) {
	t.Parallel()
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		const n, every = 8, 24 * time.Hour
		fake := clock.NewFake(issued)
		instances := make([]instance, n)
		for i := range instances {
			instances[i] = startInstance(t, db, fake, 'm')
			instances[i].Rotation = every
		}
		backendtest.Must(t, instances[0].Ensure(t.Context()))
		want := 1
		for _, wait := range []time.Duration{0, every - time.Second, time.Second, time.Minute, every - time.Minute, every} {
			fake.Advance(wait)
			if wait >= time.Second && fake.Now().Sub(issued)%every == 0 {
				want++
			}
			for _, i := range instances {
				backendtest.Must(t, i.Log.Sync(t.Context()))
			}
			var all sync.WaitGroup
			errs := make([]error, n)
			for i := range instances {
				all.Go(func() { errs[i] = instances[i].RotateIfDue(context.Background()) })
			}
			all.Wait()
			backendtest.Must(t, errors.Join(errs...))
			backendtest.WantCount(t, db, want, `SELECT COUNT(*) FROM signing_keys`)
		}
		off := instances[0]
		off.Rotation = 0
		fake.Advance(10 * every)
		if err := off.RotateIfDue(t.Context()); err != nil || backendtest.Count(t, db, `SELECT COUNT(*) FROM signing_keys`) != want {
			t.Errorf("rotated though it is off: %v", err)
		}
	})
}

// Keys that follow each other every five seconds, with tokens signed and
// verified by two instances all the while: none is refused.
func TestRotateUnderLoad(t *testing.T) {
	t.Parallel()
	db := backendtest.SQLite(t)
	fake := clock.NewFake(issued)
	a, b := startInstance(t, db, fake, 'm'), startInstance(t, db, fake, 'm')
	for _, i := range []instance{a, b} {
		i.Rotation, i.Ahead, i.keep = 5*time.Second, 3*time.Second, 4*time.Second
	}
	backendtest.Must(t, a.Ensure(t.Context()))
	a.sync(t)
	b.sync(t)
	ctx, stop := context.WithCancel(t.Context())
	var load sync.WaitGroup
	var pair sync.RWMutex // what is verified was signed before the clock went on
	for range 2 {
		load.Go(func() {
			for ctx.Err() == nil {
				pair.RLock()
				claims := testClaims()
				claims.ID, claims.IssuedAt = a.clock.Clock().NewID(), fake.Now()
				claims.ExpiresAt = claims.IssuedAt.Add(15 * time.Minute)
				token, err := a.Sign(claims)
				if _, reason := b.Verify(token, fake.Now()); err != nil || reason != caller.ReasonOK {
					t.Errorf("a token is refused: %v, %s", err, reason)
					stop()
				}
				pair.RUnlock()
			}
		})
	}
	var kept []string
	for range 120 { // two minutes
		pair.Lock()
		fake.Advance(time.Second)
		pair.Unlock()
		for _, i := range []instance{a, b} {
			backendtest.Must(t, i.RotateIfDue(t.Context()))
		}
		for _, i := range []instance{a, b} {
			backendtest.Must(t, i.Log.Sync(t.Context()))
		}
		kept = append(kept, b.mint(t))
		for _, token := range kept[max(0, len(kept)-4):] { // keys are kept for 4 s here
			if _, reason := a.Verify(token, fake.Now()); reason != caller.ReasonOK {
				t.Errorf("a token of the last 4 s is %s", reason)
			}
		}
	}
	stop()
	load.Wait()
	if n := backendtest.Count(t, db, `SELECT COUNT(*) FROM signing_keys`); n < 20 || n > 25 {
		t.Errorf("%d keys in two minutes", n)
	}
}

// A key that leaked is refused at once, also what was verified before, and by
// an instance whose clock is behind. There is always one that signs.
func TestRemove(t *testing.T) {
	t.Parallel()
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		fake := clock.NewFake(issued)
		a, b := startInstance(t, db, fake, 'm'), startInstance(t, db, clock.NewFake(issued.Add(-time.Minute)), 'm')
		backendtest.Must(t, a.Ensure(t.Context()))
		sync := func() { t.Helper(); a.sync(t); b.sync(t) }
		sync()
		faulttest.Want(t, faulttest.Err(a.Remove(t.Context(), "unknown")), fault.NotFound, "SIGNING_KEY_NOT_FOUND")
		first := a.newest().id
		faulttest.Want(t, faulttest.Err(a.Remove(t.Context(), first)), fault.Precondition, "LAST_SIGNING_KEY")

		// The key that waits leaks: the first one stays in force for good.
		pending, _, err := a.Rotate(t.Context(), jose.ES256)
		backendtest.Must(t, err)
		backendtest.Must(t, faulttest.Err(a.Remove(t.Context(), pending.ID)))
		sync()
		a.wantStates(t, "removed", "active")
		for _, i := range []instance{a, b} {
			i.clock.Advance(time.Hour)
			if got := i.set.Load().signer(i.clock.Now()); got == nil || got.id != first {
				t.Fatalf("the first key does not sign: %v", got)
			}
		}
		sync()

		// The one in force leaks while another waits: that one signs now.
		pending, _, err = a.Rotate(t.Context(), jose.ES256)
		backendtest.Must(t, err)
		sync()
		tokens := map[instance]string{a: a.mint(t), b: b.mint(t)}
		for i := range tokens {
			for _, token := range tokens {
				i.expect(t, "before", token, caller.ReasonOK)
			}
		}
		backendtest.Must(t, faulttest.Err(a.Remove(t.Context(), first)))
		sync()
		a.wantStates(t, "active", "removed", "removed")
		for i := range tokens {
			for _, token := range tokens {
				i.expect(t, "of the removed key", token, caller.ReasonCredentialInvalid)
			}
			next := i.mint(t)
			if !strings.HasPrefix(next, jose.EncodeHeader(jose.ES256, pending.ID, jose.TypeAccessToken)+".") {
				t.Error("not signed by the key that was waiting")
			}
			a.expect(t, "of the next key", next, caller.ReasonOK)
			b.expect(t, "of the next key", next, caller.ReasonOK)
			if ids := i.published(t); ids != pending.ID+" " {
				t.Errorf("published: %s", ids)
			}
		}
		faulttest.Want(t, faulttest.Err(a.Remove(t.Context(), first)), fault.NotFound, "SIGNING_KEY_NOT_FOUND")
		backendtest.WantCount(t, db, 1, `SELECT COUNT(*) FROM signing_keys WHERE length(private_key) > 0`)
		backendtest.WantCount(t, db, 2, `SELECT COUNT(*) FROM audit_events WHERE action = $1`, audit.SigningRemove)

		// One that has retired goes without more ado.
		backendtest.Must(t, faulttest.Err(a.Rotate(t.Context(), "")))
		a.clock.Advance(10 * time.Minute)
		backendtest.Must(t, faulttest.Err(a.Remove(t.Context(), pending.ID)))
		a.wantStates(t, "active", "removed", "removed", "removed")
	})
}

// Two who remove both usable keys at once cannot leave none.
func TestRemoveTogether(t *testing.T) {
	t.Parallel()
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		i := startInstance(t, db, clock.NewFake(issued), 'm')
		backendtest.Must(t, i.Ensure(t.Context()))
		for range 5 {
			i.sync(t)
			present := i.set.Load().signer(i.clock.Now())
			next, _, err := i.Rotate(t.Context(), "")
			backendtest.Must(t, err)
			var both sync.WaitGroup
			var errs [2]error
			for n, id := range []string{present.id, next.ID} {
				both.Go(func() { _, errs[n] = i.Remove(context.Background(), id) })
			}
			both.Wait()
			if (errs[0] == nil) == (errs[1] == nil) {
				t.Fatalf("removed both or none: %v, %v", errs[0], errs[1])
			}
			faulttest.Want(t, errors.Join(errs[:]...), fault.Precondition, "LAST_SIGNING_KEY")
			i.sync(t)
			i.expect(t, "a token", i.mint(t), caller.ReasonOK)
		}
	})
}
