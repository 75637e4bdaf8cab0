package auth

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/audit"
	"github.com/tollgatehq/tollgate/server/internal/auth/apikey"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/database"
	"github.com/tollgatehq/tollgate/server/internal/fault"
	"github.com/tollgatehq/tollgate/server/internal/fault/faulttest"
)

func TestLogout(t *testing.T) {
	t.Parallel()
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		d := newFixture(t, db)
		ann := d.user("ann")
		bob := d.user("bob")
		one, two, three, bobs := d.login("ann"), d.login("ann"), d.login("ann"), d.login("bob")
		ctx := d.as(Credential{AccessToken: one.AccessToken})
		n, revision, err := d.Logout(ctx, false)
		if err != nil || n != 1 || revision == 0 {
			t.Fatal(n, revision, err)
		}
		d.wantReason(one.AccessToken, caller.ReasonCredentialRevoked)
		d.wantReason(two.AccessToken, caller.ReasonOK)
		faulttest.Want(t, faulttest.Err(d.Refresh(d.visitor(), one.RefreshToken)), fault.Unauthenticated, "BAD_REFRESH_TOKEN")
		if n, again, err := d.Logout(ctx, false); err != nil || n != 0 || again < revision {
			t.Errorf("once more: %d at %d, %v", n, again, err)
		}
		if n, _, err := d.Logout(d.as(Credential{AccessToken: two.AccessToken}), true); err != nil || n != 2 {
			t.Errorf("everywhere: %d, %v", n, err)
		}
		d.wantReason(three.AccessToken, caller.ReasonCredentialRevoked)
		d.wantReason(bobs.AccessToken, caller.ReasonOK)
		d.wantLive(ann.ID, 0)

		key := d.createKey(d.system(), apikey.New{UserID: bob.ID, Name: "key"}).Secret
		faulttest.Want(t, faulttest.Err(d.Logout(d.as(Credential{APIKey: key}), true)), fault.Precondition, "NOT_A_SESSION")
		faulttest.Want(t, faulttest.Err(d.Logout(context.Background(), true)), fault.Unauthenticated, "CREDENTIAL_MISSING")
		d.wantRecorded(audit.Logout, 2)
	})
}

func TestRevokeSession(t *testing.T) {
	t.Parallel()
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		d := newFixture(t, db)
		ann, bob := d.user("ann"), d.user("bob")
		first, second := d.login("ann"), d.login("ann")
		faulttest.Want(t, faulttest.Err(d.RevokeSession(d.system(), bob.ID, first.SessionID)), fault.NotFound, "SESSION_NOT_FOUND")
		faulttest.Want(t, faulttest.Err(d.RevokeSession(d.system(), ann.ID, nobodysID)), fault.NotFound, "SESSION_NOT_FOUND")
		backendtest.Must(t, faulttest.Err(d.RevokeSession(d.as(Credential{AccessToken: second.AccessToken}), ann.ID, first.SessionID)))
		d.wantReason(first.AccessToken, caller.ReasonCredentialRevoked)
		d.wantReason(second.AccessToken, caller.ReasonOK)
		if revision, err := d.RevokeSession(d.system(), ann.ID, first.SessionID); err != nil || revision == 0 {
			t.Errorf("once more: %d, %v", revision, err)
		}
		d.wantRecorded(audit.SessionRevoke, 1)
		if n, _, err := d.RevokeSessions(d.system(), ann.ID); err != nil || n != 1 {
			t.Errorf("all: %d, %v", n, err)
		}
		d.wantReason(second.AccessToken, caller.ReasonCredentialRevoked)
		if n, _, err := d.RevokeSessions(d.system(), ann.ID); err != nil || n != 0 {
			t.Errorf("none left: %d, %v", n, err)
		}
	})
}

func TestListSessions(t *testing.T) {
	t.Parallel()
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		d := newFixture(t, db)
		ann := d.user("ann")
		d.user("bob")
		d.login("bob")
		var want []string
		for range 5 {
			want = append(want, d.login("ann").SessionID)
			d.clock.Advance(time.Hour)
		}
		backendtest.Must(t, faulttest.Err(d.RevokeSession(d.system(), ann.ID, want[4])))
		d.clock.Advance(testIdle - 5*time.Hour + time.Minute) // the first has ended
		want = want[1:4]
		slices.Reverse(want)
		var got []string
		for _, s := range slices.Concat(backendtest.Pages(t, func(token string) ([]Session, string, error) {
			return d.ListSessions(t.Context(), ann.ID, 2, token)
		})...) {
			got = append(got, s.ID)
		}
		if !slices.Equal(got, want) {
			t.Errorf("listed %q, want %q", got, want)
		}
	})
}

// TestEndedSessionsOnEveryInstance: another instance learns of ends from the
// log, one that starts later from the table.
func TestEndedSessionsOnEveryInstance(t *testing.T) {
	t.Parallel()
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		here := newFixture(t, db)
		there := fixtureAt(t, db, here.clock)
		here.user("ann")
		g := here.login("ann")
		there.wantReason(g.AccessToken, caller.ReasonOK)
		backendtest.Must(t, faulttest.Err(here.Logout(here.as(Credential{AccessToken: g.AccessToken}), false)))
		here.clock.Advance(time.Minute)
		backendtest.Must(t, there.log.Sync(t.Context()))
		there.wantReason(g.AccessToken, caller.ReasonCredentialRevoked)
		late := fixtureAt(t, db, here.clock)
		late.wantReason(g.AccessToken, caller.ReasonCredentialRevoked)

		// The memory of it lasts as long as the token, and not much longer.
		here.clock.Advance(testTTL)
		here.wantReason(g.AccessToken, caller.ReasonCredentialExpired)
		here.clock.Advance(time.Hour)
		backendtest.Must(t, faulttest.Err(here.Logout(here.as(Credential{AccessToken: here.login("ann").AccessToken}), false)))
		if n := len(here.revoked.until); n != 1 {
			t.Errorf("%d revoked sessions are remembered, want 1", n)
		}
	})
}

// TestLoweredLifetime: an instance that is started with a shorter lifetime does
// not accept the older, longer-lived tokens of sessions whose end it no longer
// remembers.
func TestLoweredLifetime(t *testing.T) {
	t.Parallel()
	d := newFixture(t, backendtest.SQLite(t))
	long := fixtureAt(t, d.db, d.clock, func(o *Options) { o.AccessTokenTTL = 12 * time.Hour })
	long.user("ann")
	g := long.login("ann")
	backendtest.Must(t, faulttest.Err(long.Logout(long.as(Credential{AccessToken: g.AccessToken}), false)))
	d.clock.Advance(time.Hour)
	long.wantReason(g.AccessToken, caller.ReasonCredentialRevoked)
	fixtureAt(t, d.db, d.clock).wantReason(g.AccessToken, caller.ReasonCredentialExpired)
}

func TestPrune(t *testing.T) {
	t.Parallel()
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		d := newFixture(t, db)
		d.user("ann")
		d.refresh(d.login("ann").RefreshToken) // runs out
		revoked := d.login("ann")
		backendtest.Must(t, faulttest.Err(d.Logout(d.as(Credential{AccessToken: revoked.AccessToken}), false)))
		left := func() (sessions, tokens int) {
			for query, n := range map[string]*int{`SELECT COUNT(*) FROM sessions`: &sessions, `SELECT COUNT(*) FROM spent_tokens`: &tokens} {
				backendtest.Must(t, db.Get(t.Context(), n, query))
			}
			return sessions, tokens
		}
		for _, step := range []struct {
			after            time.Duration
			sessions, tokens int
		}{
			{keepSessions - time.Minute, 2, 1},
			{2 * time.Minute, 1, 1},
			{testIdle, 0, 0},
		} {
			d.clock.Advance(step.after)
			backendtest.Must(t, d.Prune(t.Context()))
			if sessions, tokens := left(); sessions != step.sessions || tokens != step.tokens {
				t.Errorf("%d sessions and %d spent tokens are left, want %d and %d", sessions, tokens, step.sessions, step.tokens)
			}
		}
	})
}
