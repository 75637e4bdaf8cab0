package auth

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"github.com/tollgatehq/tollgate/internal/jose"
	"github.com/tollgatehq/tollgate/server/internal/audit"
	"github.com/tollgatehq/tollgate/server/internal/auth/token"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/database"
	"github.com/tollgatehq/tollgate/server/internal/fault"
	"github.com/tollgatehq/tollgate/server/internal/fault/faulttest"
	"github.com/tollgatehq/tollgate/server/internal/seal"
)

func masterOf(t *testing.T, fill byte) *seal.Master {
	t.Helper()
	m, err := seal.New(bytes.Repeat([]byte{fill}, seal.KeySize))
	backendtest.Must(t, err)
	return m
}

func TestRewrap(t *testing.T) {
	t.Parallel()
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		d := newFixture(t, db)
		fake := d.clock
		running := d
		for _, algorithm := range []string{jose.ES256, jose.RS256} {
			backendtest.Must(t, faulttest.Err(d.SigningKeys.Rotate(d.system(), algorithm)))
			fake.Advance(jose.KeyLeadTime)
		}
		ann := d.user("ann")
		grant := d.login("ann")
		old, next := masterOf(t, 'm'), masterOf(t, 'n')
		secret := old.Seal([]byte("twenty bytes of otp"), secondFactorName(ann.ID))
		backendtest.Must(t, faulttest.Err(db.Exec(t.Context(), `INSERT INTO second_factors (user_id, secret, created_at) VALUES ($1, $2, 1)`, ann.ID, secret)))
		clk := d.clock.Clock()
		type sealedRow struct {
			ID     string `db:"id"`
			Sealed []byte `db:"sealed"`
		}
		snapshot := func() (all []sealedRow) {
			t.Helper()
			if err := db.Select(t.Context(), &all, `SELECT id, private_key AS sealed FROM signing_keys
				UNION ALL SELECT user_id AS id, secret AS sealed FROM second_factors ORDER BY id`); err != nil {
				t.Fatal(err)
			}
			return all
		}
		before := fmt.Sprint(snapshot())

		if _, err := Rewrap(t.Context(), db, clk, masterOf(t, 'x'), next); !errors.Is(err, seal.ErrWrongKey) {
			t.Errorf("with a wrong present key: %v", err)
		}
		// All or nothing: the second factor, which comes last, does not open.
		backendtest.Must(t, faulttest.Err(db.Exec(t.Context(), `UPDATE second_factors SET secret = $1`, []byte("something that was never sealed"))))
		broken := fmt.Sprint(snapshot())
		if _, err := Rewrap(t.Context(), db, clk, old, next); !errors.Is(err, seal.ErrWrongKey) {
			t.Errorf("with a broken row: %v", err)
		}
		if fmt.Sprint(snapshot()) != broken {
			t.Fatal("a failed rewrap changed something")
		}
		backendtest.Must(t, faulttest.Err(db.Exec(t.Context(), `UPDATE second_factors SET secret = $1`, secret)))
		if fmt.Sprint(snapshot()) != before {
			t.Fatal("a failed rewrap changed something")
		}

		done, err := Rewrap(t.Context(), db, clk, old, next)
		if err != nil || done != (Rewrapped{SigningKeys: 3, SecondFactors: 1}) {
			t.Fatal(done, err)
		}
		for _, row := range snapshot() {
			name := "signing_keys/" + row.ID
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
		d.wantRecorded(audit.SigningRewrap, 1)

		// The instance that runs goes on, also when it reads its keys again,
		// but makes no key that could not be opened later.
		backendtest.Must(t, running.Reset(t.Context())) // the running instance
		running.wantReason(grant.AccessToken, caller.ReasonOK)
		running.login("ann")
		faulttest.Want(t, faulttest.Err(running.SigningKeys.Rotate(d.system(), "")), fault.Precondition, "MASTER_KEY_CHANGED")

		keys := func(master *seal.Master) (*token.Keys, error) {
			k := token.New(token.Options{DB: db, Clock: fake.Clock(), Master: master, Issuer: "https://tollgate.test", Audience: "tollgate", TTL: testTTL})
			return k, k.Load(t.Context())
		}
		if _, err := keys(old); !errors.Is(err, seal.ErrWrongKey) {
			t.Errorf("a start with the old key: %v", err)
		}
		started, err := keys(next)
		backendtest.Must(t, err)
		if _, reason := started.Verify(grant.AccessToken, fake.Now()); reason != caller.ReasonOK {
			t.Errorf("a token of before: %s", reason)
		}
	})
}
