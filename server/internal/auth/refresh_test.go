package auth

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/audit"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/database"
	"github.com/tollgatehq/tollgate/server/internal/fault"
	"github.com/tollgatehq/tollgate/server/internal/fault/faulttest"
)

func (d *fixture) refresh(token string) Grant {
	d.t.Helper()
	g, err := d.Refresh(d.visitor(), token)
	backendtest.Must(d.t, err)
	return g
}

func TestRefreshLifecycle(t *testing.T) {
	t.Parallel()
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		d := newFixture(t, db)
		ann := d.user("ann")

		// Idle: the session ends a day after its last refresh.
		g := d.login("ann")
		d.clock.Advance(testIdle - time.Second)
		next := d.refresh(g.RefreshToken)
		if next.SessionID != g.SessionID || next.UserID != ann.ID || next.RefreshToken == g.RefreshToken || next.ExpiresIn != testTTL {
			t.Errorf("refreshed %+v to %+v", g, next)
		}
		d.wantReason(g.AccessToken, caller.ReasonCredentialExpired)
		d.wantReason(next.AccessToken, caller.ReasonOK)
		d.clock.Advance(testIdle)
		faulttest.Want(t, faulttest.Err(d.Refresh(d.visitor(), next.RefreshToken)), fault.Unauthenticated, "BAD_REFRESH_TOKEN")

		// Absolute: three days after the sign-in, however often it is refreshed;
		// access tokens do not outlive it.
		g = d.login("ann")
		for range 3 {
			d.clock.Advance(23 * time.Hour)
			g = d.refresh(g.RefreshToken)
		}
		d.clock.Advance(3*time.Hour - 10*time.Minute)
		g = d.refresh(g.RefreshToken)
		if g.ExpiresIn != 10*time.Minute {
			t.Errorf("the last access token lives %v, want 10m", g.ExpiresIn)
		}
		sessions, _, err := d.ListSessions(t.Context(), ann.ID, 0, "")
		if err != nil || len(sessions) != 1 || !sessions[0].ExpiresAt.Equal(d.clock.Now().Add(10*time.Minute)) {
			t.Errorf("sessions %+v, %v", sessions, err)
		}
		d.clock.Advance(10 * time.Minute)
		d.wantReason(g.AccessToken, caller.ReasonCredentialExpired)
		faulttest.Want(t, faulttest.Err(d.Refresh(d.visitor(), g.RefreshToken)), fault.Unauthenticated, "BAD_REFRESH_TOKEN")
		d.wantLive(ann.ID, 0)
	})
}

// TestRefreshInTheLastSecond: a session too short for an access token is over.
func TestRefreshInTheLastSecond(t *testing.T) {
	t.Parallel()
	d := newFixture(t, backendtest.SQLite(t))
	d.user("ann")
	g := d.login("ann")
	for range 3 {
		d.clock.Advance(23 * time.Hour)
		g = d.refresh(g.RefreshToken)
	}
	d.clock.Advance(3*time.Hour - time.Second)
	faulttest.Want(t, faulttest.Err(d.Refresh(d.visitor(), g.RefreshToken)), fault.Unauthenticated, "BAD_REFRESH_TOKEN")
}

// TestRefreshReuse: presenting any ancestor ends the family and its access
// tokens, once.
func TestRefreshReuse(t *testing.T) {
	t.Parallel()
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		d := newFixture(t, db)
		ann := d.user("ann")
		other := d.login("ann")
		for ancestor := range 4 {
			family := []Grant{d.login("ann")}
			for range 4 {
				family = append(family, d.refresh(family[len(family)-1].RefreshToken))
			}
			newest := family[len(family)-1]
			d.clock.Advance(time.Second)
			faulttest.Want(t, faulttest.Err(d.Refresh(d.visitor(), family[ancestor].RefreshToken)), fault.Unauthenticated, "REFRESH_TOKEN_REUSED")
			for _, g := range family {
				d.wantReason(g.AccessToken, caller.ReasonCredentialRevoked)
			}
			faulttest.Want(t, faulttest.Err(d.Refresh(d.visitor(), newest.RefreshToken)), fault.Unauthenticated, "BAD_REFRESH_TOKEN")
			faulttest.Want(t, faulttest.Err(d.Refresh(d.visitor(), family[ancestor].RefreshToken)), fault.Unauthenticated, "REFRESH_TOKEN_REUSED")
			events := d.recorded(audit.RefreshReuse)
			if len(events) != ancestor+1 {
				t.Fatalf("%d reuses recorded, want %d", len(events), ancestor+1)
			}
			if e := events[ancestor]; e.Outcome != audit.Denied || e.ActorID != ann.ID || e.SessionID != newest.SessionID {
				t.Errorf("recorded %+v", e)
			}
		}
		d.wantReason(other.AccessToken, caller.ReasonOK)
		d.refresh(other.RefreshToken)
	})
}

// TestRefreshAtOnce: of many refreshes with one token one succeeds, and the
// family is dead afterwards.
func TestRefreshAtOnce(t *testing.T) {
	t.Parallel()
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		d := newFixture(t, db)
		ann := d.user("ann")
		g := d.login("ann")
		var all sync.WaitGroup
		var won atomic.Pointer[Grant]
		var wins atomic.Int64
		start := make(chan struct{})
		for range 50 {
			all.Go(func() {
				<-start
				next, err := d.Refresh(d.visitor(), g.RefreshToken)
				if err == nil {
					wins.Add(1)
					won.Store(&next)
				} else if f := fault.From(err); f.Reason != "REFRESH_TOKEN_REUSED" {
					t.Errorf("%v", err)
				}
			})
		}
		close(start)
		all.Wait()
		if wins.Load() != 1 {
			t.Fatalf("%d refreshes succeeded, want 1", wins.Load())
		}
		d.wantReason(won.Load().AccessToken, caller.ReasonCredentialRevoked)
		d.wantReason(g.AccessToken, caller.ReasonCredentialRevoked)
		faulttest.Want(t, faulttest.Err(d.Refresh(d.visitor(), won.Load().RefreshToken)), fault.Unauthenticated, "BAD_REFRESH_TOKEN")
		d.wantLive(ann.ID, 0)
		d.wantRecorded(audit.RefreshReuse, 1)
		if n := refusals(d.recorded(audit.Refresh)); n != 50 { // the winner, 48 who came after the end, the winner again
			t.Errorf("%d refreshes recorded, want 50", n)
		}
	})
}

func TestRefreshRefusals(t *testing.T) {
	t.Parallel()
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		d := newFixture(t, db)
		ann := d.user("ann")
		g := d.login("ann")
		unknown, _ := newRefreshToken()
		tokens := []string{"", "tgr_", unknown, g.AccessToken, g.RefreshToken + "x", strings.ToUpper(g.RefreshToken), g.RefreshToken[4:], "\x00"}
		for _, token := range tokens {
			faulttest.Want(t, faulttest.Err(d.Refresh(d.visitor(), token)), fault.Unauthenticated, "BAD_REFRESH_TOKEN")
		}
		events := d.recorded(audit.Refresh)
		if n := refusals(events); n != len(tokens) || len(events) != 2 {
			t.Errorf("%d recorded in %d events, want %d in the first and the count", n, len(events), len(tokens))
		}
		for _, e := range events {
			if e.Outcome != audit.Failure {
				t.Errorf("recorded %+v", e)
			}
		}
		d.wantReason(g.AccessToken, caller.ReasonOK)

		// A disabled user's tokens stop, and do not come back to life.
		for _, disabled := range []bool{true, false} {
			backendtest.Must(t, faulttest.Err(d.UpdateUser(d.system(), ann.ID, UserUpdate{Disabled: &disabled})))
			faulttest.Want(t, faulttest.Err(d.Refresh(d.visitor(), g.RefreshToken)), fault.Unauthenticated, "BAD_REFRESH_TOKEN")
			if got := d.reason(g.AccessToken); got != caller.ReasonCredentialRevoked {
				t.Errorf("disabled=%v: verified as %s", disabled, got)
			}
		}
	})
}

// TestRefreshStoresNoToken: the database holds hashes only.
func TestRefreshStoresNoToken(t *testing.T) {
	t.Parallel()
	d := newFixture(t, backendtest.SQLite(t))
	d.user("ann")
	g := d.refresh(d.login("ann").RefreshToken)
	var hashes [][]byte
	err := d.db.Select(context.Background(), &hashes, `SELECT token_hash FROM sessions UNION SELECT hash FROM spent_tokens`)
	if err != nil || len(hashes) != 2 {
		t.Fatal(len(hashes), err)
	}
	for _, hash := range hashes {
		if len(hash) != 32 || strings.Contains(g.RefreshToken, string(hash)) {
			t.Errorf("stored %x", hash)
		}
	}
}
