package apikey

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/cryptotest"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/clock"
	"github.com/tollgatehq/tollgate/server/internal/database"
	"github.com/tollgatehq/tollgate/server/internal/fault/faulttest"
	"github.com/tollgatehq/tollgate/server/internal/page"
)

// A key that is not whole is refused without asking the database, here closed.
func TestVerifyTypo(t *testing.T) {
	t.Parallel()
	db := backendtest.SQLite(t)
	i := startInstance(t, db, clock.NewFake(issued))
	db.Close()
	key, _ := newSecret(randomBase62(idSize))
	if _, _, err := i.Verify(t.Context(), key); err == nil {
		t.Fatal("a whole key was not looked up")
	}
	for at := range len(key) {
		i.expect(t, "prefix", key[:at], caller.ReasonCredentialInvalid)
		for bit := range 8 {
			typo := []byte(key)
			typo[at] ^= 1 << bit
			i.expect(t, "flipped bit", string(typo), caller.ReasonCredentialInvalid)
		}
		if at+1 < len(key) && key[at] != key[at+1] {
			i.expect(t, "swapped", key[:at]+key[at+1:at+2]+key[at:at+1]+key[at+2:], caller.ReasonCredentialInvalid)
		}
	}
	for _, other := range []string{"", key + "0", " " + key, key + "\n", "TG_" + key[3:], strings.Repeat("_", len(key))} {
		i.expect(t, other, other, caller.ReasonCredentialInvalid)
	}
	body := strings.Replace(key[:len(key)-7], key[30:31], "-", 1)
	i.expect(t, "another letter", body+"_"+checksum(body), caller.ReasonCredentialInvalid)
}

func TestVerifyForged(t *testing.T) {
	t.Parallel()
	onKeys(t, func(t *testing.T, i instance, _ *database.DB) {
		key, secret := i.issue(t, New{})
		another, _ := newSecret(key.ID)
		unknown, _ := newSecret(randomBase62(idSize))
		i.expect(t, "positive control", secret, caller.ReasonOK)
		i.expect(t, "our id with another secret", another, caller.ReasonCredentialInvalid)
		i.expect(t, "no such id", unknown, caller.ReasonCredentialInvalid)
		backendtest.Must(t, faulttest.Err(i.Revoke(i.as(t, "owner"), key.ID)))
		i.expect(t, "revoked, another secret", another, caller.ReasonCredentialInvalid)
	})
}

// That an id belongs to no key is remembered, but not beyond the key's making.
func TestVerifyUnknownBefore(t *testing.T) {
	onKeys(t, func(t *testing.T, i instance, db *database.DB) {
		other := startInstance(t, db, clock.NewFake(issued))
		cryptotest.SetGlobalRandom(t, 7)
		secret, _ := newSecret(randomBase62(idSize))
		i.expect(t, "not yet made", secret, caller.ReasonCredentialInvalid)
		other.expect(t, "not yet made, elsewhere", secret, caller.ReasonCredentialInvalid)
		cryptotest.SetGlobalRandom(t, 7)
		if _, made := i.issue(t, New{}); made != secret {
			t.Fatal("the test does not make the same key")
		}
		i.expect(t, "made", secret, caller.ReasonOK)
		other.sync(t)
		other.expect(t, "made elsewhere", secret, caller.ReasonOK)
	})
}

func TestFlushLastUsed(t *testing.T) {
	t.Parallel()
	onKeys(t, func(t *testing.T, i instance, db *database.DB) {
		other := startInstance(t, db, i.clock)
		key, secret := i.issue(t, New{})
		_, never := i.issue(t, New{})
		last := func() time.Duration {
			t.Helper()
			var at *int64
			backendtest.Must(t, db.Get(t.Context(), &at, `SELECT last_used_at FROM api_keys WHERE id = $1`, key.ID))
			if at == nil {
				return -1
			}
			return database.Time(at).Sub(issued)
		}
		flush := func() {
			t.Helper()
			for _, i := range []instance{i, other} {
				backendtest.Must(t, i.FlushLastUsed(t.Context()))
			}
		}
		flush()
		revision := i.log.Revision()
		i.expect(t, "use", secret, caller.ReasonOK)
		i.expect(t, "no use", never[:len(never)-1], caller.ReasonCredentialInvalid)
		if got := last(); got != -1 {
			t.Errorf("written before the flush: %v", got)
		}
		flush()
		if got := last(); got != 0 {
			t.Errorf("first use at %v", got)
		}
		for range 3 {
			i.clock.Advance(19 * time.Second)
			i.expect(t, "use", secret, caller.ReasonOK)
			other.expect(t, "use elsewhere", secret, caller.ReasonOK)
		}
		flush()
		if got := last(); got != 0 {
			t.Errorf("written again after %v, within the minute", got)
		}
		i.clock.Advance(3 * time.Second)
		other.expect(t, "use elsewhere", secret, caller.ReasonOK)
		flush()
		if got := last(); got != time.Minute {
			t.Errorf("second use at %v, want one minute", got)
		}
		if i.log.Revision() != revision {
			t.Error("a use was written to the change log")
		}
		backendtest.WantCount(t, db, 1, `SELECT COUNT(*) FROM api_keys WHERE last_used_at IS NOT NULL`)
	})
}

// What a failed flush could not write waits for the next, and what waits is
// bounded.
func TestFlushLastUsedOutage(t *testing.T) {
	t.Parallel()
	onKeys(t, func(t *testing.T, i instance, db *database.DB) {
		key, secret := i.issue(t, New{})
		i.expect(t, "use", secret, caller.ReasonOK)
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		if err := i.FlushLastUsed(ended); err == nil {
			t.Fatal("flushed without a database")
		}
		for n := range maxUses + 500 {
			i.uses.record(&knownKey{id: fmt.Sprint(n)}, issued)
		}
		if got := len(i.uses.at); got != maxUses {
			t.Errorf("%d uses wait", got)
		}
		for n := range maxUses - 3*usesAtOnce { // some parts are enough
			delete(i.uses.at, fmt.Sprint(n))
		}
		backendtest.Must(t, i.FlushLastUsed(t.Context()))
		backendtest.WantCount(t, db, 1, `SELECT COUNT(*) FROM api_keys WHERE id = $1 AND last_used_at IS NOT NULL`, key.ID)
	})
}

func BenchmarkVerifyCached(b *testing.B) {
	s := NewService(nil, nil, nil, nil, clock.Real(), page.Tokens{})
	id := randomBase62(idSize)
	secret, hash := newSecret(id)
	if _, err := s.known.Get(b.Context(), id, func(context.Context) (*knownKey, error) {
		return &knownKey{id: id, userID: "owner", hash: hash}, nil
	}); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, reason, err := s.Verify(b.Context(), secret); err != nil || reason != caller.ReasonOK {
			b.Fatal(reason, err)
		}
	}
}
