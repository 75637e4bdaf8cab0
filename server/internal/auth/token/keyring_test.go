package token

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
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
	"github.com/tollgatehq/tollgate/server/internal/fault/faulttest"
	"github.com/tollgatehq/tollgate/server/internal/seal"
)

// instance is one running Tollgate, as far as its signing keys go.
type instance struct {
	*Keys
	clock *clock.Fake
}

// follower loads an instance's keys when one changed.
type follower struct{ *Keys }

func (f follower) Reset(ctx context.Context) error                     { return f.Load(ctx) }
func (f follower) Apply(ctx context.Context, _ []changes.Change) error { return f.Load(ctx) }

// startInstance makes an instance on db, under the master key made of one byte.
func startInstance(t *testing.T, db *database.DB, fake *clock.Fake, master byte) instance {
	t.Helper()
	i, err := newInstance(t, db, fake, master)
	backendtest.Must(t, err)
	return i
}

func newInstance(t *testing.T, db *database.DB, fake *clock.Fake, master byte) (instance, error) {
	sealer, err := seal.New(slices.Repeat([]byte{master}, seal.KeySize))
	backendtest.Must(t, err)
	log := changes.New(db, changes.Options{Clock: fake.Clock()})
	k := New(Options{
		DB: db, Log: log, Clock: fake.Clock(), Master: sealer,
		Issuer: "https://tollgate.test", Audience: "tollgate", TTL: 15 * time.Minute,
	})
	log.Follow(follower{k})
	return instance{k, fake}, log.Start(t.Context())
}

// sync makes the instance read everything that was committed. Its clock goes on
// a little first, as clocks do.
func (i instance) sync(t *testing.T) {
	t.Helper()
	i.clock.Advance(time.Millisecond)
	backendtest.Must(t, i.Log.Sync(t.Context()))
}

// published are the ids in an instance's key set.
func (i instance) published(t *testing.T) string {
	t.Helper()
	var set struct{ Keys []map[string]string }
	backendtest.Must(t, json.Unmarshal(i.JWKS(), &set))
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
	return mustSign(t, i.Keys, claims)
}

func (i instance) states(t *testing.T) (all []string) {
	t.Helper()
	keys, err := i.List(t.Context())
	backendtest.Must(t, err)
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

func (i instance) newest() *signingKey { return i.set.Load().newest[0] }

func TestEnsure(t *testing.T) {
	t.Parallel()
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		const n = 10
		instances := make([]instance, n)
		for i := range instances {
			instances[i] = startInstance(t, db, clock.NewFake(issued), 'm')
		}
		const rounds = 10 // one alone often goes well by luck
		for range rounds {
			backendtest.Must(t, faulttest.Err(db.Exec(t.Context(), `DELETE FROM signing_keys`)))
			var wait sync.WaitGroup
			errs := make([]error, n)
			for i := range instances {
				wait.Go(func() { errs[i] = instances[i].Ensure(context.Background()) })
			}
			wait.Wait()
			backendtest.Must(t, errors.Join(errs...))
			backendtest.WantCount(t, db, 1, `SELECT COUNT(*) FROM signing_keys`)
		}
		backendtest.WantCount(t, db, rounds, `SELECT COUNT(*) FROM audit_events WHERE action = 'signing_key.create' AND actor_name = 'system'`)
		for _, i := range instances {
			i.sync(t)
		}
		token := mustSign(t, instances[0].Keys, testClaims())
		for _, i := range instances {
			i.expect(t, "another instance's token", token, caller.ReasonOK)
			if string(i.JWKS()) != string(instances[0].JWKS()) {
				t.Error("instances publish different key sets")
			}
		}
	})
}

func TestLoad(t *testing.T) {
	t.Parallel()
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		fake := clock.NewFake(issued)
		first := startInstance(t, db, fake, 'm')
		backendtest.Must(t, first.Ensure(t.Context()))
		key := first.set.Load().newest[0]
		var row struct {
			ID      string `db:"id"`
			Private []byte `db:"private_key"`
		}
		backendtest.Must(t, db.Get(t.Context(), &row, `SELECT id, private_key FROM signing_keys`))
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
		backendtest.Must(t, faulttest.Err(newInstance(t, db, fake, 'm'))) // with the same master key
		foreign := testKey(9)
		backendtest.Must(t, faulttest.Err(db.Exec(t.Context(), `UPDATE signing_keys SET public_key = $1`, []byte(foreign.public.(ed25519.PublicKey)))))
		if _, err := newInstance(t, db, fake, 'm'); err == nil {
			t.Error("a public key put into the database was taken in")
		}
		backendtest.Must(t, faulttest.Err(db.Exec(t.Context(), `UPDATE signing_keys SET algorithm = 'HS256', public_key = $1`, []byte(key.public.(ed25519.PublicKey)))))
		if _, err := newInstance(t, db, fake, 'm'); err == nil {
			t.Error("an unknown algorithm was taken in")
		}
	})
}

func TestKeysByTime(t *testing.T) {
	t.Parallel()
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		fake := clock.NewFake(issued)
		i, other := startInstance(t, db, fake, 'm'), startInstance(t, db, fake, 'm')
		add := func(change func(*keyRow)) string {
			t.Helper()
			row, err := i.newKeyRow(jose.EdDSA)
			backendtest.Must(t, err)
			row.CreatedAt, row.ActiveAt = issued.UnixMicro(), issued.UnixMicro()
			change(&row)
			if _, err := i.Log.Write(t.Context(), func(ctx context.Context, tx *changes.Tx) error {
				tx.Changed(changes.SigningKey, row.ID)
				return insertKey(ctx, tx, row)
			}); err != nil {
				t.Fatal(err)
			}
			fake.Advance(time.Millisecond)
			return row.ID
		}
		at := func(d time.Duration) int64 { return issued.Add(d).UnixMicro() }
		gone := at(-time.Hour)
		add(func(r *keyRow) { r.ActiveAt, r.RetiredAt, r.RemovedAt = at(-3*time.Hour), &gone, &gone })
		if got := len(other.set.Load().newest) + len(i.set.Load().newest); got != 0 {
			t.Errorf("%d removed keys were loaded", got)
		}
		coming := add(func(r *keyRow) { r.ActiveAt = at(time.Hour) })
		backendtest.Must(t, i.Ensure(t.Context()))
		if got := len(i.set.Load().newest); got != 1 {
			t.Errorf("%d keys, want only the one that is coming", got)
		}
		retired, removed := at(time.Hour), at(2*time.Hour)
		present := add(func(r *keyRow) { r.RetiredAt, r.RemovedAt = &retired, &removed })
		other.sync(t)

		signs := func(want string, ids ...string) {
			t.Helper()
			if token := mustSign(t, i.Keys, testClaims()); !strings.HasPrefix(token, jose.EncodeHeader(jose.EdDSA, want, jose.TypeAccessToken)+".") {
				t.Errorf("%s: not signed by %s", fake.Now(), want)
			}
			for _, i := range []instance{i, other} {
				var set struct{ Keys []map[string]string }
				backendtest.Must(t, json.Unmarshal(i.JWKS(), &set))
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
