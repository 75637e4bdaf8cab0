package auth

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/tollgatehq/tollgate/internal/jose"
	"github.com/tollgatehq/tollgate/server/internal/audit"
	"github.com/tollgatehq/tollgate/server/internal/auth/apikey"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/clock"
	"github.com/tollgatehq/tollgate/server/internal/database"
	"github.com/tollgatehq/tollgate/server/internal/fault"
	"github.com/tollgatehq/tollgate/server/internal/fault/faulttest"
)

// TestRevokeClientToken: a client revokes one of its tokens, which every
// instance refuses from then on, one that starts later too, and the feed sends
// until the token expires.
func TestRevokeClientToken(t *testing.T) {
	t.Parallel()
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		d := newFixture(t, db)
		key, secret := d.client("robot", []string{"orders:*"}, nil, time.Time{})
		one, other := d.clientToken(secret, "").AccessToken, d.clientToken(secret, "").AccessToken
		claims, _ := d.SigningKeys.Verify(one, d.clock.Now())
		second := fixtureAt(t, db, d.clock)
		second.wantReason(one, caller.ReasonOK) // remembered as good
		watcher := d.feed.Join()
		defer d.feed.Leave(watcher)

		robot := d.as(Credential{APIKey: secret})
		for range 2 { // again is no error
			if err := d.RevokeToken(robot, one); err != nil {
				t.Fatal(err)
			}
		}
		if err := second.log.Sync(t.Context()); err != nil {
			t.Fatal(err)
		}
		late := fixtureAt(t, db, clock.NewFake(d.clock.Now()))
		for _, instance := range []*fixture{d, second, late} {
			instance.wantReason(one, caller.ReasonCredentialRevoked)
			instance.wantReason(other, caller.ReasonOK)
			if i, err := instance.Introspect(d.visitor(), one); err != nil || i.Active {
				t.Errorf("introspection: %+v, error %v", i, err)
			}
			all, err := instance.listRevoked(t.Context())
			if err != nil || !slices.Equal(all.Tokens, []string{claims.ID}) {
				t.Errorf("a snapshot: %+v, error %v", all, err)
			}
		}
		if len(watcher) != 1 {
			t.Fatalf("%d messages, want 1", len(watcher))
		}
		if sent := <-watcher; !slices.Equal(sent.Tokens, []string{claims.ID}) || sent.Snapshot {
			t.Errorf("sent %+v", sent)
		}
		events := d.recorded(audit.TokenRevoke)
		if len(events) != 1 || events[0].Outcome != audit.Success || events[0].APIKeyID != key.ID ||
			events[0].Resource != "api_keys/"+key.ID || events[0].Details["token_id"] != claims.ID {
			t.Errorf("recorded %+v", events)
		}

		// An instance whose clock is late still takes the token for unexpired.
		d.clock.Advance(testTTL + jose.ClockSkew - time.Second)
		if err := d.Prune(t.Context()); err != nil {
			t.Fatal(err)
		}
		late = fixtureAt(t, db, clock.NewFake(d.clock.Now().Add(-jose.ClockSkew)))
		late.wantReason(one, caller.ReasonCredentialRevoked)
		d.clock.Advance(time.Second)
		if err := d.Prune(t.Context()); err != nil {
			t.Fatal(err)
		}
		if all, err := d.listRevoked(t.Context()); err != nil || len(all.Tokens) > 0 {
			t.Errorf("after the token's end: %+v, error %v", all, err)
		}
		if n := d.revokedTokens(); n != 0 {
			t.Errorf("%d rows are left", n)
		}
	})
}

func (d *fixture) revokedTokens() (n int) {
	d.t.Helper()
	if err := d.db.Get(context.Background(), &n, `SELECT COUNT(*) FROM revoked_tokens`); err != nil {
		d.t.Fatal(err)
	}
	return n
}

// TestRevokeClientToken_refused: only the client that a token was issued to
// revokes it.
func TestRevokeClientToken_refused(t *testing.T) {
	t.Parallel()
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		d := newFixture(t, db)
		d.user("ann")
		key, secret := d.client("robot", []string{"orders:*"}, nil, time.Time{})
		sibling := d.createKey(d.system(), apikey.New{UserID: key.UserID, Name: "sibling"})
		_, stranger := d.client("stranger", []string{"*"}, nil, time.Time{})
		token := d.clientToken(secret, "").AccessToken
		for _, other := range []string{sibling.Secret, stranger} {
			for _, c := range []Credential{{APIKey: other}, {AccessToken: d.clientToken(other, "").AccessToken}} {
				faulttest.Want(t, d.RevokeToken(d.as(c), token), fault.Denied, "WRONG_CLIENT")
			}
		}
		for _, ctx := range []context.Context{d.visitor(), d.as(Credential{AccessToken: d.login("ann").AccessToken})} {
			faulttest.Want(t, d.RevokeToken(ctx, token), fault.Invalid, "UNSUPPORTED_TOKEN_TYPE")
		}
		d.wantReason(token, caller.ReasonOK)
		events := d.recorded(audit.TokenRevoke)
		if refusals(events) != 4 || events[0].Outcome != audit.Denied || events[0].Reason != "wrong_client" {
			t.Errorf("recorded %+v", events)
		}

		// What is no token, or not good any more, is no error, and leaves no row.
		robot := d.as(Credential{APIKey: secret})
		d.clock.Advance(testTTL)
		for _, bad := range []string{"x", "a.b.c", token + "x", token} {
			if err := d.RevokeToken(robot, bad); err != nil {
				t.Errorf("%q: %v", bad, err)
			}
		}
		if n := d.revokedTokens(); n != 0 {
			t.Errorf("%d rows of tokens that are not good", n)
		}
	})
}

// TestRevokeClientToken_bounded: an account has a bounded number of revoked tokens
// that are remembered, whatever its keys; those of others and expired ones do not count.
func TestRevokeClientToken_bounded(t *testing.T) {
	t.Parallel()
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		d := newFixture(t, db)
		key, secret := d.client("robot", []string{"orders:*"}, nil, time.Time{})
		_, other := d.client("other", []string{"orders:*"}, nil, time.Time{})
		if _, err := db.Exec(t.Context(), `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < $1)
			INSERT INTO revoked_tokens (id, api_key_id, expires_at) SELECT 'token-' || i, $2, $3 FROM n`,
			maxRevokedTokens, key.ID, d.clock.Now().Add(time.Minute).UnixMicro()); err != nil {
			t.Fatal(err)
		}
		token, others := d.clientToken(secret, "").AccessToken, d.clientToken(other, "").AccessToken
		faulttest.Want(t, d.RevokeToken(d.as(Credential{APIKey: secret}), token), fault.Limited, "LIMITED")
		second := d.createKey(d.system(), apikey.New{UserID: key.UserID, Name: "second"}).Secret
		faulttest.Want(t, d.RevokeToken(d.as(Credential{APIKey: second}), d.clientToken(second, "").AccessToken), fault.Limited, "LIMITED")
		d.wantReason(token, caller.ReasonOK)
		if err := d.RevokeToken(d.as(Credential{APIKey: other}), others); err != nil {
			t.Error(err)
		}
		d.clock.Advance(time.Minute)
		if err := d.RevokeToken(d.as(Credential{APIKey: secret}), token); err != nil {
			t.Error(err)
		}
		d.wantReason(token, caller.ReasonCredentialRevoked)
	})
}
