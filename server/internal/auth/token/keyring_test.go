package auth

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tollgatehq/tollgate/internal/jose"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/changes"
	"github.com/tollgatehq/tollgate/server/internal/clock"
	"github.com/tollgatehq/tollgate/server/internal/database"
	"github.com/tollgatehq/tollgate/server/internal/page"
	"github.com/tollgatehq/tollgate/server/internal/roles"
	"github.com/tollgatehq/tollgate/server/internal/seal"
)

// instance is one running Tollgate, as far as keys go.
type instance struct {
	*Service
	clock *clock.Fake
}

// startInstance makes an instance on db, under the master key made of one byte.
func startInstance(t *testing.T, db *database.DB, fake *clock.Fake, master byte) instance {
	t.Helper()
	i, err := newInstance(t, db, fake, master)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func newInstance(t *testing.T, db *database.DB, fake *clock.Fake, master byte) (instance, error) {
	clk := clock.Real()
	clk.Now = fake.Now
	sealer, err := seal.New([]byte(strings.Repeat(string(rune(master)), seal.KeySize)))
	if err != nil {
		t.Fatal(err)
	}
	log := changes.New(db, changes.Options{Clock: clk})
	pages := page.NewTokens([]byte(strings.Repeat("p", 32)))
	grants := roles.New(db, log, clk, pages)
	s := New(Options{
		DB: db, Log: log, Roles: grants, Clock: clk, Pages: pages, Master: sealer,
		Issuer: "https://tollgate.test", Audience: "tollgate",
		AccessTokenTTL: 15 * time.Minute, SessionIdle: time.Hour, SessionMax: time.Hour,
	})
	log.Follow(grants)
	log.Follow(s)
	return instance{s, fake}, log.Start(t.Context())
}

// sync has the instance see everything that was committed. Its clock goes on a
// little first, as clocks do.
func (i instance) sync(t *testing.T) {
	t.Helper()
	i.clock.Advance(time.Millisecond)
	if err := i.log.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func count(t *testing.T, db *database.DB, query string, args ...any) (n int) {
	t.Helper()
	if err := db.Get(t.Context(), &n, query, args...); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestFirstSigningKeyOfManyInstances(t *testing.T) {
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		const n = 10
		instances := make([]instance, n)
		for i := range instances {
			instances[i] = startInstance(t, db, clock.NewFake(issued), 'm')
		}
		const rounds = 10 // one alone often goes well by luck
		for range rounds {
			if _, err := db.Exec(t.Context(), `DELETE FROM signing_keys`); err != nil {
				t.Fatal(err)
			}
			var wait sync.WaitGroup
			errs := make([]error, n)
			for i := range instances {
				wait.Go(func() { errs[i] = instances[i].EnsureSigningKey(context.Background()) })
			}
			wait.Wait()
			if err := errors.Join(errs...); err != nil {
				t.Fatal(err)
			}
			if got := count(t, db, `SELECT COUNT(*) FROM signing_keys`); got != 1 {
				t.Fatalf("%d signing keys", got)
			}
		}
		if got := count(t, db, `SELECT COUNT(*) FROM audit_events WHERE action = 'signing_key.create' AND actor_name = 'system'`); got != rounds {
			t.Errorf("%d audit events in %d rounds", got, rounds)
		}
		for _, i := range instances {
			i.sync(t)
		}
		token := mustSign(t, instances[0].keys, testClaims())
		for _, i := range instances {
			i.keys.expect(t, "another instance's token", token, caller.ReasonOK)
			if string(i.JWKS()) != string(instances[0].JWKS()) {
				t.Error("instances publish different key sets")
			}
		}
	})
}

func TestSigningKeyAtRest(t *testing.T) {
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		fake := clock.NewFake(issued)
		first := startInstance(t, db, fake, 'm')
		if err := first.EnsureSigningKey(t.Context()); err != nil {
			t.Fatal(err)
		}
		key := first.keys.set.Load().newest[0]
		var row struct {
			ID      string `db:"id"`
			Private []byte `db:"private_key"`
		}
		if err := db.Get(t.Context(), &row, `SELECT id, private_key FROM signing_keys`); err != nil {
			t.Fatal(err)
		}
		if id, err := jose.Thumbprint(key.public); err != nil || row.ID != id {
			t.Errorf("the id is not the thumbprint: %v", err)
		}
		if strings.Contains(string(row.Private), string(key.private.(ed25519.PrivateKey).Seed())) {
			t.Error("the private key is stored in the clear")
		}

		_, err := newInstance(t, db, fake, 'x')
		if !errors.Is(err, seal.ErrWrongKey) || !strings.Contains(err.Error(), "TOLLGATE_MASTER_KEY") {
			t.Errorf("with another master key: %v", err)
		}
		if _, err := newInstance(t, db, fake, 'm'); err != nil {
			t.Errorf("with the same master key: %v", err)
		}
		foreign := testKey(9)
		if _, err := db.Exec(t.Context(), `UPDATE signing_keys SET public_key = $1`, []byte(foreign.public.(ed25519.PublicKey))); err != nil {
			t.Fatal(err)
		}
		if _, err := newInstance(t, db, fake, 'm'); err == nil {
			t.Error("a public key put into the database was taken in")
		}
		if _, err := db.Exec(t.Context(), `UPDATE signing_keys SET algorithm = 'HS256', public_key = $1`, []byte(key.public.(ed25519.PublicKey))); err != nil {
			t.Fatal(err)
		}
		if _, err := newInstance(t, db, fake, 'm'); err == nil {
			t.Error("an unknown algorithm was taken in")
		}
	})
}

func TestSigningKeysByTime(t *testing.T) {
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		fake := clock.NewFake(issued)
		i, other := startInstance(t, db, fake, 'm'), startInstance(t, db, fake, 'm')
		add := func(change func(*signingKeyRow)) string {
			t.Helper()
			row, err := i.newSigningKeyRow(jose.EdDSA)
			if err != nil {
				t.Fatal(err)
			}
			row.CreatedAt, row.ActiveAt = issued.UnixMicro(), issued.UnixMicro()
			change(&row)
			if _, err := i.log.Write(t.Context(), func(ctx context.Context, tx *changes.Tx) error {
				tx.Changed(changes.SigningKey, row.ID)
				return insertSigningKey(ctx, tx, row)
			}); err != nil {
				t.Fatal(err)
			}
			fake.Advance(time.Millisecond)
			return row.ID
		}
		at := func(d time.Duration) int64 { return issued.Add(d).UnixMicro() }
		gone := at(-time.Hour)
		add(func(r *signingKeyRow) { r.ActiveAt, r.RetiredAt, r.RemovedAt = at(-3*time.Hour), &gone, &gone })
		if got := len(other.keys.set.Load().newest) + len(i.keys.set.Load().newest); got != 0 {
			t.Errorf("%d removed keys were loaded", got)
		}
		coming := add(func(r *signingKeyRow) { r.ActiveAt = at(time.Hour) })
		if err := i.EnsureSigningKey(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := len(i.keys.set.Load().newest); got != 1 {
			t.Errorf("%d keys, want only the one that is coming", got)
		}
		retired, removed := at(time.Hour), at(2*time.Hour)
		present := add(func(r *signingKeyRow) { r.RetiredAt, r.RemovedAt = &retired, &removed })
		other.sync(t)

		signs := func(want string, ids ...string) {
			t.Helper()
			if token := mustSign(t, i.keys, testClaims()); !strings.HasPrefix(token, jose.EncodeHeader(jose.EdDSA, want)+".") {
				t.Errorf("%s: not signed by %s", fake.Now(), want)
			}
			for _, i := range []instance{i, other} {
				var set struct{ Keys []map[string]string }
				if err := json.Unmarshal(i.JWKS(), &set); err != nil {
					t.Fatal(err)
				}
				var got []string
				for _, key := range set.Keys {
					if key["kty"] != "OKP" || key["crv"] != "Ed25519" || key["alg"] != "EdDSA" || key["use"] != "sig" {
						t.Errorf("key %+v", key)
					}
					got = append(got, key["kid"])
				}
				if strings.Join(got, " ") != strings.Join(ids, " ") {
					t.Errorf("%s: key set %v, want %v", fake.Now(), got, ids)
				}
			}
		}
		signs(present, coming, present)
		fake.Advance(time.Hour)
		signs(coming, coming, present)
		fake.Advance(time.Hour)
		signs(coming, coming)
	})
}
