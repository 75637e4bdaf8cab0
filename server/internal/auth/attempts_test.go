package auth

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/audit"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/database"
	"github.com/tollgatehq/tollgate/server/internal/fault"
	"github.com/tollgatehq/tollgate/server/internal/fault/faulttest"
)

// Tokens that are unknown, or whose session is over, open no transaction: they
// are refused while another transaction keeps every writer of sessions waiting.
func TestBadTokensOpenNoTransaction(t *testing.T) {
	t.Parallel()
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		d := newFixture(t, db)
		d.user("ann")
		ended := d.login("ann")
		renewed := d.refresh(ended.RefreshToken)
		_, err := d.Refresh(d.visitor(), ended.RefreshToken) // ends the session
		faulttest.Want(t, err, fault.Unauthenticated, "REFRESH_TOKEN_REUSED")
		late := d.login("ann")
		d.clock.Advance(testIdle + time.Second)
		unknown, _ := newRefreshToken()
		_, err = d.Refresh(d.visitor(), unknown) // those that follow are counted
		faulttest.Want(t, err, fault.Unauthenticated, "BAD_REFRESH_TOKEN")
		faulttest.Want(t, faulttest.Err(d.Refresh(d.visitor(), ended.RefreshToken)), fault.Unauthenticated, "REFRESH_TOKEN_REUSED")

		err = db.Write(t.Context(), func(ctx context.Context, tx *database.Tx) error {
			if db.Dialect == database.PostgreSQL {
				if _, err := tx.Exec(ctx, `LOCK TABLE sessions, spent_tokens, audit_events IN EXCLUSIVE MODE`); err != nil {
					return err
				}
			}
			for range 3 {
				for token, want := range map[string]string{
					unknown: "BAD_REFRESH_TOKEN", "tgr_x": "BAD_REFRESH_TOKEN", late.RefreshToken: "BAD_REFRESH_TOKEN",
					renewed.RefreshToken: "BAD_REFRESH_TOKEN", ended.RefreshToken: "REFRESH_TOKEN_REUSED",
				} {
					faulttest.Want(t, faulttest.Err(d.Refresh(d.visitor(), token)), fault.Unauthenticated, want)
				}
				for _, token := range []string{unknown, "x", ended.RefreshToken, renewed.RefreshToken, ended.AccessToken} {
					if err := d.RevokeToken(d.visitor(), token); err != nil {
						t.Errorf("revoke: %v", err)
					}
				}
			}
			return nil
		})
		backendtest.Must(t, err)
		if n := refusals(d.recorded(audit.Refresh)); n != 1+2+15 {
			t.Errorf("%d refreshes on record, want the good one, 2 and 15 refusals", n)
		}
	})
}

// Calls with bad tokens are counted by their address, and a flood of them is a
// few events that tell how many there were; who has a good token is let through
// from the same address.
func TestBadTokensAreLimitedByAddress(t *testing.T) {
	t.Parallel()
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		d := newFixture(t, db)
		d.user("ann")
		g := d.login("ann")
		unknown, _ := newRefreshToken()
		const calls, free = 1500, 600
		limited := 0
		for i := range calls {
			var err error
			if i%3 == 0 { // the answer to a token that is no good is that it is not good now
				if err = d.RevokeToken(d.visitor(), unknown); err == nil {
					continue
				}
			} else {
				_, err = d.Refresh(d.visitor(), unknown)
			}
			if f := fault.From(err); f.Kind == fault.Limited {
				limited++
				if f.RetryAfter <= 0 {
					t.Error("does not say when to try again")
				}
			} else if i > free {
				t.Fatalf("call %d: %v", i, err)
			}
		}
		if limited != calls-free {
			t.Errorf("%d of %d calls were held off, want all but %d", limited, calls, free)
		}
		refreshes, revokes := d.recorded(audit.Refresh), d.recorded(audit.SessionRevoke)
		if n := refusals(refreshes) + refusals(revokes); n != calls-free/3 || len(refreshes)+len(revokes) > 8 {
			t.Errorf("%d calls on record in %d events, want %d in few", n, len(refreshes)+len(revokes), calls-free/3)
		}
		d.refresh(g.RefreshToken)

		elsewhere := caller.With(context.Background(), caller.Caller{IP: netip.MustParseAddr("192.0.2.8")})
		faulttest.Want(t, faulttest.Err(d.Refresh(elsewhere, unknown)), fault.Unauthenticated, "BAD_REFRESH_TOKEN")
		d.clock.Advance(time.Minute)
		faulttest.Want(t, faulttest.Err(d.Refresh(d.visitor(), unknown)), fault.Unauthenticated, "BAD_REFRESH_TOKEN")
	})
}

// A token that is spent between the look at it and the transaction is reuse as
// ever: the transaction decides by itself.
func TestRefreshDecidesInItsTransaction(t *testing.T) {
	t.Parallel()
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		d := newFixture(t, db)
		d.user("ann")
		g := d.login("ann")
		found, err := getTokenSession(t.Context(), db, hashToken(g.RefreshToken))
		if err != nil || found.Spent || found.ID != g.SessionID || found.RevokedAt != nil {
			t.Fatalf("%+v, %v", found, err)
		}
		next := d.refresh(g.RefreshToken)
		found, err = getTokenSession(t.Context(), db, hashToken(g.RefreshToken))
		if err != nil || !found.Spent || found.ID != g.SessionID {
			t.Fatalf("%+v, %v", found, err)
		}
		faulttest.Want(t, faulttest.Err(d.Refresh(d.visitor(), g.RefreshToken)), fault.Unauthenticated, "REFRESH_TOKEN_REUSED")
		if found, err = getTokenSession(t.Context(), db, hashToken(next.RefreshToken)); err != nil || found.RevokedAt == nil {
			t.Fatalf("%+v, %v", found, err)
		}
		unknown, _ := newRefreshToken()
		if _, err := getTokenSession(t.Context(), db, hashToken(unknown)); !errors.Is(err, database.ErrNoRows) {
			t.Errorf("an unknown token: %v", err)
		}
	})
}
