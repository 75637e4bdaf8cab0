package auth

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
	"github.com/tollgatehq/tollgate/internal/jose"
	"github.com/tollgatehq/tollgate/server/internal/audit"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/clock"
	"github.com/tollgatehq/tollgate/server/internal/database"
	"github.com/tollgatehq/tollgate/server/internal/fault"
	"github.com/tollgatehq/tollgate/server/internal/seal"
)

// sqlite is a new SQLite database.
func sqlite(t *testing.T) *database.DB {
	t.Helper()
	db, err := database.Open(backendtest.SQLiteURL(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	if _, err := db.MigrateUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	return db
}

// published are the ids in an instance's key set.
func (i instance) published(t *testing.T) string {
	t.Helper()
	var set struct{ Keys []map[string]string }
	if err := json.Unmarshal(i.JWKS(), &set); err != nil {
		t.Fatal(err)
	}
	var ids strings.Builder
	for _, key := range set.Keys {
		ids.WriteString(key["kid"] + " ")
	}
	return ids.String()
}

// mint signs a token that lives from the instance's now on.
func (i instance) mint(t *testing.T) string {
	t.Helper()
	claims, now := testClaims(), i.clock.Now()
	claims.IssuedAt, claims.ExpiresAt = now, now.Add(15*time.Minute)
	return mustSign(t, i.keys, claims)
}

func (i instance) states(t *testing.T) (all []string) {
	t.Helper()
	keys, err := i.SigningKeys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range keys {
		all = append(all, string(key.State))
	}
	return all
}

func (i instance) wantStates(t *testing.T, want ...string) {
	t.Helper()
	if got := i.states(t); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("at %s the keys are %v, want %v", i.clock.Now().Format(time.TimeOnly), got, want)
	}
}

func (i instance) newest() *signingKey { return i.keys.set.Load().newest[0] }

// While keys of all algorithms follow each other, every token that any
// instance signs is good on every instance until it expires, although one
// clock is a minute behind; its key was published at least the key set's
// max-age before.
func TestRotation(t *testing.T) {
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		fake, behind := clock.NewFake(issued), clock.NewFake(issued.Add(-time.Minute))
		a, b := startInstance(t, db, fake, 'm'), startInstance(t, db, behind, 'm')
		if err := a.EnsureSigningKey(t.Context()); err != nil {
			t.Fatal(err)
		}
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
				if err := i.log.Sync(t.Context()); err != nil {
					t.Fatal(err)
				}
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
				key := i.keys.set.Load().byHeader[head]
				if early := fake.Now().Sub(since[key.id]); early < 5*time.Minute && key.id != first {
					t.Errorf("signs with a key that was published %s ago", early)
				}
			}
			for _, i := range both {
				for _, token := range tokens {
					_, reason := i.keys.verify(token.text, i.clock.Now())
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
			made, revision, err := b.RotateSigningKey(caller.System(t.Context()), algorithm)
			if err != nil || revision == 0 || made.State != KeyPending {
				t.Fatal(made, err)
			}
			_, _, err = a.RotateSigningKey(t.Context(), "")
			wantRefusal(t, err, fault.Precondition, "ROTATION_PENDING")
			for range 35 {
				step(13 * time.Second)
			}
			step(time.Minute) // the clock that is behind is there, too
			if got := b.keys.set.Load().signer(behind.Now()).id; got != made.ID {
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
		if err := a.Prune(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := count(t, db, `SELECT COUNT(*) FROM signing_keys`); n != 1 {
			t.Errorf("%d rows left", n)
		}
		if n := count(t, db, `SELECT COUNT(*) FROM audit_events WHERE action = 'signing_key.rotate'`); n != 3 {
			t.Errorf("%d rotations recorded", n)
		}
	})
}

// A token remains good until its end when its key retires the moment after.
func TestRotationKeepsTheLastToken(t *testing.T) {
	i := startInstance(t, sqlite(t), clock.NewFake(issued), 'm')
	if err := i.EnsureSigningKey(t.Context()); err != nil {
		t.Fatal(err)
	}
	i.sync(t)
	old := i.newest()
	if _, _, err := i.RotateSigningKey(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	i.clock.Advance(jose.KeyLeadTime - time.Microsecond)
	token := i.mint(t)
	if !strings.HasPrefix(token, old.header+".") {
		t.Fatal("the next key signs before its time")
	}
	i.clock.Advance(15*time.Minute - time.Second)
	i.keys.expect(t, "the old key's last token", token, caller.ReasonOK)
	if token := i.mint(t); strings.HasPrefix(token, old.header+".") {
		t.Error("a retired key signs")
	}
}

// However many instances find a rotation due at once, one rotates.
func TestRotateIfDue(t *testing.T) {
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		const n, every = 8, 24 * time.Hour
		fake := clock.NewFake(issued)
		instances := make([]instance, n)
		for i := range instances {
			instances[i] = startInstance(t, db, fake, 'm')
			instances[i].keys.rotation = every
		}
		if err := instances[0].EnsureSigningKey(t.Context()); err != nil {
			t.Fatal(err)
		}
		want := 1
		for _, wait := range []time.Duration{0, every - time.Second, time.Second, time.Minute, every - time.Minute, every} {
			fake.Advance(wait)
			if wait >= time.Second && fake.Now().Sub(issued)%every == 0 {
				want++
			}
			for _, i := range instances {
				if err := i.log.Sync(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			var all sync.WaitGroup
			errs := make([]error, n)
			for i := range instances {
				all.Go(func() { errs[i] = instances[i].RotateIfDue(context.Background()) })
			}
			all.Wait()
			if err := errors.Join(errs...); err != nil {
				t.Fatal(err)
			}
			if got := count(t, db, `SELECT COUNT(*) FROM signing_keys`); got != want {
				t.Errorf("%s after the start there were %d keys, want %d", fake.Now().Sub(issued), got, want)
			}
		}
		off := instances[0]
		off.keys.rotation = 0
		fake.Advance(10 * every)
		if err := off.RotateIfDue(t.Context()); err != nil || count(t, db, `SELECT COUNT(*) FROM signing_keys`) != want {
			t.Errorf("rotated though it is off: %v", err)
		}
	})
}

// Keys that follow each other every five seconds, with tokens signed and
// verified by two instances all the while: none is refused.
func TestRotationUnderLoad(t *testing.T) {
	db := sqlite(t)
	fake := clock.NewFake(issued)
	a, b := startInstance(t, db, fake, 'm'), startInstance(t, db, fake, 'm')
	for _, i := range []instance{a, b} {
		i.keys.rotation, i.keys.ahead, i.keys.keep = 5*time.Second, 3*time.Second, 4*time.Second
	}
	if err := a.EnsureSigningKey(t.Context()); err != nil {
		t.Fatal(err)
	}
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
				token, err := a.keys.sign(claims)
				if _, reason := b.keys.verify(token, fake.Now()); err != nil || reason != caller.ReasonOK {
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
			if err := i.RotateIfDue(t.Context()); err != nil {
				t.Error(err)
			}
		}
		for _, i := range []instance{a, b} {
			if err := i.log.Sync(t.Context()); err != nil {
				t.Error(err)
			}
		}
		kept = append(kept, b.mint(t))
		for _, token := range kept[max(0, len(kept)-4):] { // keys are kept for 4 s here
			if _, reason := a.keys.verify(token, fake.Now()); reason != caller.ReasonOK {
				t.Errorf("a token of the last 4 s is %s", reason)
			}
		}
	}
	stop()
	load.Wait()
	if n := count(t, db, `SELECT COUNT(*) FROM signing_keys`); n < 20 || n > 25 {
		t.Errorf("%d keys in two minutes", n)
	}
}

// A key that leaked is refused at once, also what was verified before, and by
// an instance whose clock is behind. There is always one that signs.
func TestRemoveSigningKey(t *testing.T) {
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		fake := clock.NewFake(issued)
		a, b := startInstance(t, db, fake, 'm'), startInstance(t, db, clock.NewFake(issued.Add(-time.Minute)), 'm')
		if err := a.EnsureSigningKey(t.Context()); err != nil {
			t.Fatal(err)
		}
		sync := func() { t.Helper(); a.sync(t); b.sync(t) }
		sync()
		_, err := a.RemoveSigningKey(t.Context(), "unknown")
		wantRefusal(t, err, fault.NotFound, "SIGNING_KEY_NOT_FOUND")
		first := a.newest().id
		_, err = a.RemoveSigningKey(t.Context(), first)
		wantRefusal(t, err, fault.Precondition, "LAST_SIGNING_KEY")

		// The key that waits leaks: the first one stays in force for good.
		pending, _, err := a.RotateSigningKey(t.Context(), jose.ES256)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := a.RemoveSigningKey(t.Context(), pending.ID); err != nil {
			t.Fatal(err)
		}
		sync()
		a.wantStates(t, "removed", "active")
		for _, i := range []instance{a, b} {
			i.clock.Advance(time.Hour)
			if got := i.keys.set.Load().signer(i.clock.Now()); got == nil || got.id != first {
				t.Fatalf("the first key does not sign: %v", got)
			}
		}
		sync()

		// The one in force leaks while another waits: that one signs now.
		pending, _, err = a.RotateSigningKey(t.Context(), jose.ES256)
		if err != nil {
			t.Fatal(err)
		}
		sync()
		tokens := map[instance]string{a: a.mint(t), b: b.mint(t)}
		for i := range tokens {
			for _, token := range tokens {
				i.keys.expect(t, "before", token, caller.ReasonOK)
			}
		}
		if _, err := a.RemoveSigningKey(t.Context(), first); err != nil {
			t.Fatal(err)
		}
		sync()
		a.wantStates(t, "active", "removed", "removed")
		for i := range tokens {
			for _, token := range tokens {
				i.keys.expect(t, "of the removed key", token, caller.ReasonCredentialInvalid)
			}
			next := i.mint(t)
			if !strings.HasPrefix(next, jose.EncodeHeader(jose.ES256, pending.ID)+".") {
				t.Error("not signed by the key that was waiting")
			}
			a.keys.expect(t, "of the next key", next, caller.ReasonOK)
			b.keys.expect(t, "of the next key", next, caller.ReasonOK)
			if ids := i.published(t); ids != pending.ID+" " {
				t.Errorf("published: %s", ids)
			}
		}
		_, err = a.RemoveSigningKey(t.Context(), first)
		wantRefusal(t, err, fault.NotFound, "SIGNING_KEY_NOT_FOUND")
		if n := count(t, db, `SELECT COUNT(*) FROM signing_keys WHERE length(private_key) > 0`); n != 1 {
			t.Errorf("%d private keys left, want that of the key in force", n)
		}
		if n := count(t, db, `SELECT COUNT(*) FROM audit_events WHERE action = $1`, audit.SigningRemove); n != 2 {
			t.Errorf("%d removals recorded", n)
		}

		// One that has retired goes without more ado.
		if _, _, err := a.RotateSigningKey(t.Context(), ""); err != nil {
			t.Fatal(err)
		}
		a.clock.Advance(10 * time.Minute)
		if _, err := a.RemoveSigningKey(t.Context(), pending.ID); err != nil {
			t.Error(err)
		}
		a.wantStates(t, "active", "removed", "removed", "removed")
	})
}

// Two who remove both usable keys at once cannot leave none.
func TestRemoveAllAtOnce(t *testing.T) {
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		i := startInstance(t, db, clock.NewFake(issued), 'm')
		if err := i.EnsureSigningKey(t.Context()); err != nil {
			t.Fatal(err)
		}
		for range 5 {
			i.sync(t)
			present := i.keys.set.Load().signer(i.clock.Now())
			next, _, err := i.RotateSigningKey(t.Context(), "")
			if err != nil {
				t.Fatal(err)
			}
			var both sync.WaitGroup
			var errs [2]error
			for n, id := range []string{present.id, next.ID} {
				both.Go(func() { _, errs[n] = i.RemoveSigningKey(context.Background(), id) })
			}
			both.Wait()
			if (errs[0] == nil) == (errs[1] == nil) {
				t.Fatalf("removed both or none: %v, %v", errs[0], errs[1])
			}
			wantRefusal(t, errors.Join(errs[:]...), fault.Precondition, "LAST_SIGNING_KEY")
			i.sync(t)
			i.keys.expect(t, "a token", i.mint(t), caller.ReasonOK)
		}
	})
}

// TestSigningKeyRPCs goes through the RPCs as a client would.
func TestSigningKeyRPCs(t *testing.T) {
	d := newDeskOnSQLite(t)
	h := NewHandler(d.Service)
	d.clock.Advance(time.Millisecond)
	rotated, err := h.RotateSigningKey(d.system(), &tollgatev1.RotateSigningKeyRequest{Algorithm: "ES256"})
	if err != nil || rotated.Revision == 0 || rotated.SigningKey.Algorithm != "ES256" || rotated.SigningKey.RetiredAt != nil ||
		rotated.SigningKey.State != tollgatev1.SigningKeyState_SIGNING_KEY_STATE_PENDING {
		t.Fatal(rotated, err)
	}
	states := func(want ...tollgatev1.SigningKeyState) []*tollgatev1.SigningKey {
		t.Helper()
		list, err := h.ListSigningKeys(d.system(), &tollgatev1.ListSigningKeysRequest{})
		if err != nil || len(list.SigningKeys) != len(want) {
			t.Fatal(list, err)
		}
		for i, key := range list.SigningKeys {
			if key.State != want[i] {
				t.Errorf("key %d is %s, want %s", i, key.State, want[i])
			}
		}
		return list.SigningKeys
	}
	first := states(tollgatev1.SigningKeyState_SIGNING_KEY_STATE_PENDING, tollgatev1.SigningKeyState_SIGNING_KEY_STATE_ACTIVE)[1]
	if !first.RetiredAt.AsTime().Equal(rotated.SigningKey.ActiveAt.AsTime()) || !first.RemovedAt.AsTime().After(first.RetiredAt.AsTime().Add(testTTL)) {
		t.Errorf("the first key is now %+v", first)
	}
	d.clock.Advance(jose.KeyLeadTime)
	states(tollgatev1.SigningKeyState_SIGNING_KEY_STATE_ACTIVE, tollgatev1.SigningKeyState_SIGNING_KEY_STATE_RETIRING)
	if removed, err := h.RemoveSigningKey(d.system(), &tollgatev1.RemoveSigningKeyRequest{Id: first.Id}); err != nil || removed.Revision <= rotated.Revision {
		t.Error(removed, err)
	}
	states(tollgatev1.SigningKeyState_SIGNING_KEY_STATE_ACTIVE, tollgatev1.SigningKeyState_SIGNING_KEY_STATE_REMOVED)
	_, _, err = d.RotateSigningKey(d.system(), "HS256")
	wantField(t, err, "algorithm")
}

func masterOf(t *testing.T, fill byte) *seal.Master {
	t.Helper()
	m, err := seal.New(bytes.Repeat([]byte{fill}, seal.KeySize))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestReseal(t *testing.T) {
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		d := newDesk(t, db)
		fake := d.clock
		running := d
		for _, algorithm := range []string{jose.ES256, jose.RS256} {
			if _, _, err := d.RotateSigningKey(d.system(), algorithm); err != nil {
				t.Fatal(err)
			}
			fake.Advance(jose.KeyLeadTime)
		}
		ann := d.user("ann")
		grant := d.login("ann")
		old, next := masterOf(t, 'm'), masterOf(t, 'n')
		secret := old.Seal([]byte("twenty bytes of otp"), secondFactorName(ann.ID))
		if _, err := db.Exec(t.Context(), `INSERT INTO second_factors (user_id, secret, created_at) VALUES ($1, $2, 1)`, ann.ID, secret); err != nil {
			t.Fatal(err)
		}
		clk := d.clock.Clock()
		snapshot := func() (all []sealedRow) {
			t.Helper()
			if err := db.Select(t.Context(), &all, `SELECT id, private_key AS sealed FROM signing_keys
				UNION ALL SELECT user_id AS id, secret AS sealed FROM second_factors ORDER BY id`); err != nil {
				t.Fatal(err)
			}
			return all
		}
		before := fmt.Sprint(snapshot())

		if _, err := Reseal(t.Context(), db, clk, masterOf(t, 'x'), next); !errors.Is(err, seal.ErrWrongKey) {
			t.Errorf("with a wrong present key: %v", err)
		}
		// All or nothing: the second factor, which comes last, does not open.
		if _, err := db.Exec(t.Context(), `UPDATE second_factors SET secret = $1`, []byte("something that was never sealed")); err != nil {
			t.Fatal(err)
		}
		broken := fmt.Sprint(snapshot())
		if _, err := Reseal(t.Context(), db, clk, old, next); !errors.Is(err, seal.ErrWrongKey) {
			t.Errorf("with a broken row: %v", err)
		}
		if fmt.Sprint(snapshot()) != broken {
			t.Fatal("a failed reseal changed something")
		}
		if _, err := db.Exec(t.Context(), `UPDATE second_factors SET secret = $1`, secret); err != nil {
			t.Fatal(err)
		}
		if fmt.Sprint(snapshot()) != before {
			t.Fatal("a failed reseal changed something")
		}

		done, err := Reseal(t.Context(), db, clk, old, next)
		if err != nil || done != (Resealed{SigningKeys: 3, SecondFactors: 1}) {
			t.Fatal(done, err)
		}
		for _, row := range snapshot() {
			name := signingKeyName(row.ID)
			if row.ID == ann.ID {
				name = secondFactorName(row.ID)
			}
			if _, err := old.Open(row.Sealed, name); !errors.Is(err, seal.ErrWrongKey) {
				t.Errorf("%s opens under the old key: %v", name, err)
			}
			if plain, err := next.Open(row.Sealed, name); err != nil || row.ID == ann.ID && string(plain) != "twenty bytes of otp" {
				t.Errorf("%s does not open under the new key: %v", name, err)
			}
		}
		if n := len(d.recorded(audit.SigningReseal)); n != 1 {
			t.Errorf("%d reseals recorded", n)
		}

		// The instance that runs goes on, also when it reads its keys again,
		// but makes no key that nobody could open later.
		if err := running.Reset(t.Context()); err != nil {
			t.Errorf("the running instance: %v", err)
		}
		running.wantReason(grant.AccessToken, caller.ReasonOK)
		running.login("ann")
		_, _, err = running.RotateSigningKey(d.system(), "")
		wantRefusal(t, err, fault.Precondition, "MASTER_KEY_CHANGED")

		if _, err := newInstance(t, db, fake, 'm'); !errors.Is(err, seal.ErrWrongKey) {
			t.Errorf("a start with the old key: %v", err)
		}
		started, err := newInstance(t, db, fake, 'n')
		if err != nil {
			t.Fatal(err)
		}
		started.keys.expect(t, "a token of before", grant.AccessToken, caller.ReasonOK)
		running.keys.expect(t, "a token of the new start", started.mint(t), caller.ReasonOK)
	})
}
