package auth

import (
	"testing"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/auth/apikey"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
)

// TestGoodFor: a principal stays as it is until the first of what it is made of ends.
func TestGoodFor(t *testing.T) {
	t.Parallel()
	d := newFixture(t, backendtest.SQLite(t))
	goodFor := func(c Credential) time.Duration {
		t.Helper()
		v, err := d.Verify(t.Context(), c)
		backendtest.Must(t, err)
		if v.Principal == nil {
			t.Fatal(v.Reason)
		}
		return d.GoodFor(v.Principal)
	}
	alice := d.user("alice", "administrator")
	token := d.login("alice").AccessToken
	key := d.createKey(d.system(), apikey.New{UserID: alice.ID, Name: "forever"}).Secret
	brief := d.createKey(d.system(), apikey.New{UserID: alice.ID, Name: "brief", ExpiresAt: d.clock.Now().Add(2 * time.Minute)}).Secret
	backendtest.Equal(t, goodFor(Credential{AccessToken: token}), 5*time.Minute, "a token of 15 minutes")
	backendtest.Equal(t, goodFor(Credential{APIKey: key}), 5*time.Minute, "a key without an end")
	backendtest.Equal(t, goodFor(Credential{APIKey: brief}), 2*time.Minute, "a key with one")
	backendtest.Equal(t, goodFor(Credential{UserID: alice.ID}), 5*time.Minute, "a user")

	if _, _, err := d.roles.Assign(d.system(), "auditor", alice.ID, d.clock.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	for what, c := range map[string]Credential{"token": {AccessToken: token}, "key": {APIKey: brief}, "user": {UserID: alice.ID}} {
		backendtest.Equal(t, goodFor(c), time.Minute, "with a role that ends: %s", what)
	}
	d.clock.Advance(time.Minute)
	backendtest.Equal(t, goodFor(Credential{UserID: alice.ID}), 5*time.Minute, "after its end")
	backendtest.Equal(t, goodFor(Credential{APIKey: brief}), time.Minute, "after its end, a key")
	d.clock.Advance(13 * time.Minute)
	backendtest.Equal(t, goodFor(Credential{AccessToken: token}), time.Minute, "at the end of the token")
}
