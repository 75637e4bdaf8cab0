package auth

import (
	"slices"
	"testing"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/auth/token"
	"github.com/tollgatehq/tollgate/server/internal/fault/faulttest"

	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/database"
)

// principal is whose the access token is.
func (d *fixture) principal(token string) *caller.Principal {
	d.t.Helper()
	return caller.From(d.as(Credential{AccessToken: token})).Principal
}

// TestSignInStaysKnown: how and when somebody signed in is in every access
// token of the session, whenever it is refreshed, and in what is shown of it.
func TestSignInStaysKnown(t *testing.T) {
	t.Parallel()
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		d := newFixture(t, db)
		ann, bob := d.user("ann"), d.user("bob")
		made := d.factor(ann)
		with := func(code string) Grant {
			t.Helper()
			g, err := d.Login(d.visitor(), "ann", goodPassword, code)
			backendtest.Must(t, err)
			return g
		}
		for name, test := range map[string]struct {
			signIn func() Grant
			want   []string
		}{
			"password":      {func() Grant { return d.login("bob") }, []string{"pwd"}},
			"authenticator": {func() Grant { return with(d.code(made, 0)) }, []string{"pwd", "otp", "mfa"}},
			"recovery code": {func() Grant { return with(made.RecoveryCodes[0]) }, []string{"pwd", "otp", "mfa"}},
		} {
			began, g := d.clock.Now().Truncate(time.Second), test.signIn()
			for range 3 {
				p := d.principal(g.AccessToken)
				if !slices.Equal(p.AMR, test.want) || !p.AuthTime.Equal(began) || p.SecondFactor() != (len(test.want) > 1) {
					t.Errorf("%s: amr %v at %s, want %v at %s", name, p.AMR, p.AuthTime, test.want, began)
				}
				i, err := d.Introspect(t.Context(), g.AccessToken)
				if err != nil || !slices.Equal(i.AMR, test.want) || !i.AuthTime.Equal(began) {
					t.Errorf("%s: introspected %+v, %v", name, i, err)
				}
				d.clock.Advance(10 * time.Minute)
				g = d.refresh(g.RefreshToken)
			}
		}

		// A factor that is new since does not make an old sign-in a better one.
		g := d.login("bob")
		ctx := d.as(Credential{AccessToken: g.AccessToken})
		enrolled, err := d.EnrollSecondFactor(ctx, bob.ID, goodPassword)
		backendtest.Must(t, err)
		backendtest.Must(t, faulttest.Err(d.ConfirmSecondFactor(ctx, bob.ID, d.code(enrolled, 0))))
		if p := d.principal(d.refresh(g.RefreshToken).AccessToken); p.SecondFactor() {
			t.Error("a sign-in without a second factor has one")
		}
	})
}

// TestTokensOfBefore: what an earlier version issued says nothing about the
// sign-in, and its sessions are taken for signed in by password.
func TestTokensOfBefore(t *testing.T) {
	t.Parallel()
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		d := newFixture(t, db)
		ann := d.user("ann")
		now := d.clock.Now()
		_, err := db.Exec(t.Context(), `INSERT INTO sessions (id, user_id, generation, token_hash, created_at, refreshed_at, idle_expires_at, expires_at, ip, user_agent)
			VALUES ($1, $2, 0, $3, $4, $4, $5, $5, '', '')`, "old", ann.ID, hashToken("tgr_old"), now.UnixMicro(), now.Add(time.Hour).UnixMicro())
		backendtest.Must(t, err)
		accessToken, err := d.SigningKeys.Sign(token.Claims{
			Subject: ann.ID, SessionID: "old", ID: "t", ClientID: clientID, IssuedAt: now, ExpiresAt: now.Add(time.Minute),
		})
		backendtest.Must(t, err)
		if p := d.principal(accessToken); len(p.AMR) != 0 || !p.AuthTime.IsZero() || p.SecondFactor() || p.Audience != "tollgate" {
			t.Errorf("principal %+v", p)
		}
		var row sessionRow
		backendtest.Must(t, db.Get(t.Context(), &row, `SELECT `+sessionColumns+` FROM sessions WHERE id = 'old'`))
		g, err := d.grant(now, row, userRow{ID: ann.ID}, "", "")
		backendtest.Must(t, err)
		if p := d.principal(g.AccessToken); !slices.Equal(p.AMR, []string{"pwd"}) || !p.AuthTime.Equal(now) {
			t.Errorf("principal %+v", p)
		}
	})
}

// TestFactorRemovedDuringLogin: a sign-in that took no second factor does not
// say that it did, though there was one when the password was compared.
func TestFactorRemovedDuringLogin(t *testing.T) {
	t.Parallel()
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		d := newFixture(t, db)
		d.factor(d.user("ann"))
		d.afterCompare(func() error { return d.ResetSecondFactor(t.Context(), "ann") })
		if p := d.principal(d.login("ann").AccessToken); !slices.Equal(p.AMR, []string{"pwd"}) {
			t.Errorf("amr %v", p.AMR)
		}
	})
}
