package auth

import (
	"cmp"
	"github.com/tollgatehq/tollgate/server/internal/roles"
	"reflect"
	"slices"
	"strconv"
	"strings"
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

// client makes a service account that holds a role with these patterns, and a
// key of it with these scopes.
func (d *fixture) client(name string, patterns, scopes []string, expires time.Time) (apikey.Key, string) {
	d.t.Helper()
	if _, _, err := d.roles.Create(d.system(), roles.Role{Name: "role-of-" + name, Permissions: patterns}); err != nil {
		d.t.Fatal(err)
	}
	u, _, err := d.CreateUser(d.system(), NewUser{Username: name, Kind: caller.Service, Roles: []string{"role-of-" + name}})
	if err != nil {
		d.t.Fatal(err)
	}
	made := d.createKey(d.system(), apikey.New{UserID: u.ID, Name: "key", Scopes: scopes, ExpiresAt: expires})
	key, secret := made.Key, made.Secret
	return key, secret
}

func (d *fixture) clientToken(secret, scope string) ClientGrant {
	d.t.Helper()
	g, err := d.ClientToken(d.as(Credential{APIKey: secret}), scope)
	if err != nil {
		d.t.Fatal(err)
	}
	return g
}

func TestClientToken(t *testing.T) {
	t.Parallel()
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		d := newFixture(t, db)
		end := d.clock.Now().Add(time.Hour)
		key, secret := d.client("robot", []string{"orders:*", "stock:read"}, []string{"orders:*"}, end)

		g := d.clientToken(secret, "orders:write orders:read")
		if g.ExpiresIn != testTTL || g.Scope != "orders:read orders:write" {
			t.Errorf("granted %+v", g)
		}
		v, err := d.Verify(t.Context(), Credential{AccessToken: g.AccessToken})
		if err != nil || v.Reason != caller.ReasonOK {
			t.Fatal(v, err)
		}
		p := v.Principal
		if p.UserID != key.UserID || p.APIKeyID != key.ID || p.SessionID != "" || p.Kind != caller.Service || !slices.Equal(p.Scopes, []string{"orders:read", "orders:write"}) {
			t.Errorf("principal %+v", p)
		}
		for permission, want := range map[string]caller.Reason{
			"orders:read": caller.ReasonOK, "orders:delete": caller.ReasonScopeMissing,
			"stock:read": caller.ReasonScopeMissing, "stock:write": caller.ReasonPermissionMissing,
		} {
			if got := d.roles.Check(p, permission); got != want {
				t.Errorf("%s: %s, want %s", permission, got, want)
			}
		}
		if g := d.clientToken(secret, ""); g.Scope != "orders:*" {
			t.Errorf("granted %+v", g)
		}

		// Nothing widens what the key may.
		refused := []string{"*", "stock:read", "orders:read stock:read", "stock:*", "unknown:read", "orders:read  orders:write", " ", "orders:read ", "Orders", "orders:read\torders:write", strings.Repeat("x", 200)}
		for _, scope := range refused {
			_, err := d.ClientToken(d.as(Credential{APIKey: secret}), scope)
			faulttest.Want(t, err, fault.Invalid, "INVALID_SCOPE")
		}
		denied := 0
		for _, e := range d.recorded(audit.TokenIssue) {
			if e.Outcome == audit.Denied {
				denied++
			} else if e.APIKeyID != key.ID || e.ActorID != key.UserID {
				t.Errorf("recorded %+v", e)
			}
		}
		if denied != len(refused) {
			t.Errorf("%d denials recorded, want %d", denied, len(refused))
		}

		// The token does not outlive the key.
		d.clock.Advance(time.Hour - 5*time.Minute)
		g = d.clientToken(secret, "")
		if g.ExpiresIn != 5*time.Minute {
			t.Errorf("lives %v, want 5m", g.ExpiresIn)
		}
		d.wantReason(g.AccessToken, caller.ReasonOK)
		if _, err := d.APIKeys.Revoke(d.system(), key.ID); err != nil {
			t.Fatal(err)
		}
		d.wantReason(g.AccessToken, caller.ReasonCredentialRevoked)
	})
}

// TestClientTokenOfAll: a key without scopes grows with its owner, and so do
// its tokens; they cannot hand out more than that.
func TestClientTokenOfAll(t *testing.T) {
	t.Parallel()
	d := newFixture(t, backendtest.SQLite(t))
	key, secret := d.client("robot", []string{"orders:*"}, nil, time.Time{})
	g := d.clientToken(secret, "")
	// Issued, introspected and asked for, the scope is the same text.
	if g.Scope != "orders:*" {
		t.Errorf("scope %q", g.Scope)
	}
	if again := d.clientToken(secret, g.Scope); again.Scope != g.Scope {
		t.Errorf("asked for %q, got %q", g.Scope, again.Scope)
	}
	if i, err := d.Introspect(d.visitor(), g.AccessToken); err != nil || i.Scope != g.Scope {
		t.Errorf("introspected as %q, %v", i.Scope, err)
	}
	p := caller.From(d.as(Credential{AccessToken: g.AccessToken})).Principal
	if len(p.Scopes) != 0 || d.roles.Check(p, "orders:read") != caller.ReasonOK || d.roles.Check(p, "stock:read") == caller.ReasonOK {
		t.Errorf("principal %+v", p)
	}
	narrowed := d.as(Credential{AccessToken: d.clientToken(secret, "orders:read").AccessToken})
	_, err := d.APIKeys.Create(narrowed, apikey.New{Name: "more"})
	faulttest.Want(t, err, fault.Denied, "GRANT_EXCEEDS_OWN")
	_, err = d.APIKeys.Create(narrowed, apikey.New{Name: "more", Scopes: []string{"orders:write"}})
	faulttest.Want(t, err, fault.Denied, "GRANT_EXCEEDS_OWN")
	_, err = d.ClientToken(narrowed, "orders:write")
	faulttest.Want(t, err, fault.Invalid, "INVALID_SCOPE")

	// A disabled owner's tokens stop.
	if _, _, err := d.UpdateUser(d.system(), key.UserID, UserUpdate{Disabled: new(true)}); err != nil {
		t.Fatal(err)
	}
	d.wantReason(g.AccessToken, caller.ReasonUserDisabled)
	if _, err := d.DeleteUser(d.system(), key.UserID); err != nil {
		t.Fatal(err)
	}
	if got := d.reason(g.AccessToken); got == caller.ReasonOK {
		t.Error("a deleted user's token is good")
	}
	_, err = d.ClientToken(d.visitor(), "")
	faulttest.Want(t, err, fault.Unauthenticated, "NOT_A_CLIENT")
}

func TestIntrospect(t *testing.T) {
	t.Parallel()
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		d := newFixture(t, db)
		ann := d.user("ann")
		key, secret := d.client("robot", []string{"orders:*"}, []string{"orders:read"}, time.Time{})
		first := d.login("ann")
		g := d.refresh(first.RefreshToken)
		robot := d.clientToken(secret, "")
		look := func(token string) Introspection {
			t.Helper()
			i, err := d.Introspect(t.Context(), token)
			if err != nil {
				t.Fatal(err)
			}
			if !i.Active && !reflect.DeepEqual(i, Introspection{}) {
				t.Errorf("tells of a bad token: %+v", i)
			}
			return i
		}
		if i := look(g.AccessToken); i.TokenType != "Bearer" || i.Subject != ann.ID || i.Username != "ann" || i.SessionID != g.SessionID ||
			i.ClientID != "tollgate" || i.Audience != "tollgate" || i.Issuer != "https://tollgate.test" || i.ID == "" || i.IssuedAt.IsZero() || i.ExpiresAt.IsZero() {
			t.Errorf("access token: %+v", i)
		}
		if i := look(g.RefreshToken); i.TokenType != "refresh_token" || i.Subject != ann.ID || i.SessionID != g.SessionID || i.Audience != "" || i.Scope != "" {
			t.Errorf("refresh token: %+v", i)
		}
		for _, token := range []string{secret, robot.AccessToken} {
			if i := look(token); i.TokenType != "Bearer" || i.Subject != key.UserID || i.ClientID != key.ID || i.Scope != "orders:read" || i.SessionID != "" {
				t.Errorf("a client's: %+v", i)
			}
		}
		unknown, _ := newRefreshToken()
		for _, token := range []string{"", "x", "a.b.c", "tg_", "tgr_", unknown, first.RefreshToken, g.AccessToken + "x", secret[:len(secret)-1] + "!"} {
			if look(token).Active {
				t.Errorf("%q is active", token)
			}
		}
		g = d.refresh(g.RefreshToken) // looking has spent nothing

		if err := d.RevokeToken(d.visitor(), g.RefreshToken); err != nil {
			t.Fatal(err)
		}
		if _, err := d.APIKeys.Revoke(d.system(), key.ID); err != nil {
			t.Fatal(err)
		}
		for _, token := range []string{g.AccessToken, g.RefreshToken, secret, robot.AccessToken} {
			if look(token).Active {
				t.Errorf("active though revoked: %q", token)
			}
		}
		g = d.login("ann")
		d.clock.Advance(testIdle)
		if look(g.RefreshToken).Active || look(g.AccessToken).Active {
			t.Error("active though over")
		}
	})
}

func TestRevokeToken(t *testing.T) {
	t.Parallel()
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		d := newFixture(t, db)
		ann := d.user("ann")
		_, secret := d.client("robot", []string{"orders:*"}, nil, time.Time{})
		other := d.login("ann")
		for name, token := range map[string]func(first, second Grant) string{
			"refresh token":       func(_, second Grant) string { return second.RefreshToken },
			"spent refresh token": func(first, _ Grant) string { return first.RefreshToken },
			"access token":        func(_, second Grant) string { return second.AccessToken },
			"older access token":  func(first, _ Grant) string { return first.AccessToken },
		} {
			first := d.login("ann")
			second := d.refresh(first.RefreshToken)
			for range 2 { // again is no error
				if err := d.RevokeToken(d.visitor(), token(first, second)); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
			d.wantReason(first.AccessToken, caller.ReasonCredentialRevoked)
			d.wantReason(second.AccessToken, caller.ReasonCredentialRevoked)
		}
		events := d.recorded(audit.SessionRevoke)
		if len(events) != 4 {
			t.Errorf("%d recorded, want 4", len(events))
		}
		for _, e := range events {
			if e.ActorID != ann.ID || e.Details["by"] != "token" {
				t.Errorf("recorded %+v", e)
			}
		}
		unknown, _ := newRefreshToken()
		for _, token := range []string{"", "x", "a.b.c", unknown, other.AccessToken + "x"} {
			if err := d.RevokeToken(d.visitor(), token); err != nil {
				t.Errorf("%q: %v", token, err)
			}
		}
		robot := d.clientToken(secret, "")
		for _, token := range []string{secret, "tg_x", robot.AccessToken} {
			faulttest.Want(t, d.RevokeToken(d.visitor(), token), fault.Invalid, "UNSUPPORTED_TOKEN_TYPE")
		}
		d.wantReason(robot.AccessToken, caller.ReasonOK)
		d.wantReason(other.AccessToken, caller.ReasonOK)
	})
}

// TestTokensOfAnotherClient: a client that has an API key neither spends nor
// ends the sessions of people, and learns nothing about their refresh tokens.
func TestTokensOfAnotherClient(t *testing.T) {
	t.Parallel()
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		d := newFixture(t, db)
		ann := d.user("ann")
		key, secret := d.client("robot", []string{"orders:*"}, nil, time.Time{})
		spent := d.login("ann")
		g := d.refresh(spent.RefreshToken)
		unknown, _ := newRefreshToken()
		clients := []Credential{{APIKey: secret}, {AccessToken: d.clientToken(secret, "").AccessToken}}
		for _, client := range clients {
			ctx := d.as(client)
			for _, token := range []string{g.RefreshToken, spent.RefreshToken, unknown, "x"} {
				_, err := d.Refresh(ctx, token)
				faulttest.Want(t, err, fault.Denied, "WRONG_CLIENT")
			}
			for _, token := range []string{g.RefreshToken, spent.RefreshToken, unknown, g.AccessToken} {
				faulttest.Want(t, d.RevokeToken(ctx, token), fault.Denied, "WRONG_CLIENT")
			}
		}
		d.wantReason(g.AccessToken, caller.ReasonOK)
		d.refresh(g.RefreshToken) // not spent
		if n := d.live(ann.ID); n != 1 {
			t.Errorf("%d sessions live, want 1", n)
		}
		refused := 0
		for _, e := range append(d.recorded(audit.Refresh), d.recorded(audit.SessionRevoke)...) {
			if e.Outcome == audit.Denied && e.Reason == "wrong_client" && e.APIKeyID == key.ID {
				more, err := strconv.Atoi(cmp.Or(e.Details["refused"], "1"))
				if err != nil {
					t.Fatal(err)
				}
				refused += more
			}
		}
		if refused != 16 {
			t.Errorf("%d refusals on record, want 16", refused)
		}
	})
}
