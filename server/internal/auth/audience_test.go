package auth

import (
	"context"
	"strings"
	"testing"
	"time"

	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
	"github.com/tollgatehq/tollgate/server/internal/audit"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/database"
	"github.com/tollgatehq/tollgate/server/internal/fault"
	"github.com/tollgatehq/tollgate/server/internal/fault/faulttest"
	"github.com/tollgatehq/tollgate/server/internal/roles"
)

// loginFor signs in for an audience.
func (d *fixture) loginFor(name, audience string) Grant {
	d.t.Helper()
	g, err := d.Service.Login(d.visitor(), SignIn{Username: name, Password: goodPassword, Audience: audience})
	backendtest.Must(d.t, err)
	return g
}

// refreshFor refreshes for an audience.
func (d *fixture) refreshFor(token, audience string) Grant {
	d.t.Helper()
	g, err := d.Service.Refresh(d.visitor(), token, audience)
	backendtest.Must(d.t, err)
	return g
}

// shown is how a token is verified that was presented to an audience.
func (d *fixture) shown(token, audience string) caller.Reason {
	d.t.Helper()
	v, err := d.Verify(context.Background(), Credential{AccessToken: token, Audience: audience})
	backendtest.Must(d.t, err)
	if (v.Principal != nil) != (v.Reason == caller.ReasonOK) || (v.Stray != nil) != (v.Reason == caller.ReasonWrongAudience) {
		d.t.Errorf("%s: principal %v, stray %v", v.Reason, v.Principal, v.Stray)
	}
	return v.Reason
}

// wantFor checks that a token is good for one audience only, however often and
// in whatever order it is shown: what is remembered of it is not for whom.
func (d *fixture) wantFor(token, audience string) {
	d.t.Helper()
	for range 2 {
		for _, to := range []string{"", "orders", "bills", "https://ship.example/v1", "tollgate2"} {
			want := caller.ReasonWrongAudience
			if to == audience {
				want = caller.ReasonOK
			}
			if got := d.shown(token, to); got != want {
				d.t.Errorf("a token for %q shown to %q: %s, want %s", audience, to, got, want)
			}
		}
	}
}

// TestAudience: an access token is good for its audience only, and a session
// that was begun for one never gets tokens for another.
func TestAudience(t *testing.T) {
	t.Parallel()
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		d := newFixture(t, db)
		d.user("ann")

		own := d.login("ann")
		d.wantFor(own.AccessToken, "")
		d.wantFor(d.loginFor("ann", "tollgate").AccessToken, "")
		d.clock.Advance(time.Millisecond) // events sort by time
		orders := d.loginFor("ann", "orders")
		d.wantFor(orders.AccessToken, "orders")

		// A session for one audience.
		for _, ask := range []string{"", "orders", ""} {
			orders = d.refreshFor(orders.RefreshToken, ask)
			d.wantFor(orders.AccessToken, "orders")
		}
		d.clock.Advance(time.Millisecond)
		for _, ask := range []string{"tollgate", "bills", "Orders"} {
			faulttest.Want(t, faulttest.Err(d.Service.Refresh(d.visitor(), orders.RefreshToken, ask)), fault.Invalid, "INVALID_AUDIENCE")
		}
		events := d.recorded(audit.Refresh)
		if last := events[len(events)-1]; last.Outcome != audit.Denied || last.Reason != "wrong_audience" ||
			last.Details["audience"] == "" || last.SessionID != orders.SessionID || last.ActorName != "ann" {
			t.Errorf("recorded %+v", last)
		}
		orders = d.refreshFor(orders.RefreshToken, "") // which spent nothing
		d.wantFor(orders.AccessToken, "orders")

		// A session for none in particular: for that one token.
		next := d.refreshFor(own.RefreshToken, "bills")
		d.wantFor(next.AccessToken, "bills")
		next = d.refreshFor(next.RefreshToken, "https://ship.example/v1")
		d.wantFor(next.AccessToken, "https://ship.example/v1")
		next = d.refreshFor(next.RefreshToken, "tollgate")
		d.wantFor(next.AccessToken, "")
		next = d.refreshFor(next.RefreshToken, "")
		d.wantFor(next.AccessToken, "")

		for _, bad := range []string{"a b", "é", "a\nb", "\x7f", strings.Repeat("a", maxAudience+1)} {
			faulttest.Want(t, faulttest.Err(d.Service.Login(d.visitor(), SignIn{Username: "ann", Password: goodPassword, Audience: bad})), fault.Invalid, "INVALID_AUDIENCE")
			faulttest.Want(t, faulttest.Err(d.Service.Refresh(d.visitor(), next.RefreshToken, bad)), fault.Invalid, "INVALID_AUDIENCE")
		}
		logins := d.recorded(audit.Login)
		if last := logins[len(logins)-1]; last.Details["audience"] != "orders" {
			t.Errorf("recorded %+v", last)
		}
		for _, e := range logins[:2] {
			if e.Details["audience"] != "" {
				t.Errorf("recorded %+v", e)
			}
		}

		// It ends as the others do.
		d.clock.Advance(testTTL)
		if got := d.shown(orders.AccessToken, "bills"); got != caller.ReasonCredentialExpired {
			t.Errorf("over and for others: %s", got)
		}
		orders = d.refreshFor(orders.RefreshToken, "")
		faulttest.Want(t, d.RevokeToken(d.visitor(), orders.AccessToken), fault.Invalid, "UNSUPPORTED_TOKEN_TYPE")
		if got := d.shown(orders.AccessToken, "orders"); got != caller.ReasonOK {
			t.Errorf("shown to Tollgate to revoke it: %s", got)
		}
		backendtest.Must(t, d.RevokeToken(d.visitor(), orders.RefreshToken))
		if got := d.shown(orders.AccessToken, "orders"); got != caller.ReasonCredentialRevoked {
			t.Errorf("revoked: %s", got)
		}
	})
}

// TestAudienceDuringGrace: the token that may be sent again gets no other
// audience than before.
func TestAudienceDuringGrace(t *testing.T) {
	t.Parallel()
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		d := newFixture(t, db)
		d.refreshGrace = 10 * time.Second
		d.user("ann")
		first := d.loginFor("ann", "orders")
		d.refreshFor(first.RefreshToken, "")
		faulttest.Want(t, faulttest.Err(d.Service.Refresh(d.visitor(), first.RefreshToken, "tollgate")), fault.Invalid, "INVALID_AUDIENCE")
		d.wantFor(d.refreshFor(first.RefreshToken, "").AccessToken, "orders")
	})
}

// TestClientTokenAudience: an API key gets tokens for an audience, and is not
// bound by one itself.
func TestClientTokenAudience(t *testing.T) {
	t.Parallel()
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		d := newFixture(t, db)
		_, secret := d.client("robot", []string{"orders:*"}, nil, time.Time{})
		ctx := d.as(Credential{APIKey: secret})
		for ask, want := range map[string]string{"": "", "tollgate": "", "orders": "orders"} {
			g, err := d.Service.ClientToken(ctx, "", ask)
			backendtest.Must(t, err)
			d.wantFor(g.AccessToken, want)
		}
		if events := d.recorded(audit.TokenIssue); len(events) != 3 {
			t.Errorf("recorded %+v", events)
		}
		faulttest.Want(t, faulttest.Err(d.Service.ClientToken(ctx, "", "a b")), fault.Invalid, "INVALID_AUDIENCE")
		v, err := d.Verify(t.Context(), Credential{APIKey: secret, Audience: "orders"})
		if err != nil || v.Reason != caller.ReasonOK {
			t.Errorf("a key shown to an audience: %s, %v", v.Reason, err)
		}
	})
}

// TestServiceAudience: a service account is given an audience, and then accepts
// tokens for it, whichever of its credentials it calls with; every other
// service and introspection do as before.
func TestServiceAudience(t *testing.T) {
	t.Parallel()
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		d := newFixture(t, db)
		root := d.user("root", roles.Administrator)
		asRoot := d.inPerson("root")
		_, secret := d.client("orders-service", []string{"tollgate:verify"}, nil, time.Time{})
		_, other := d.client("other-service", []string{"tollgate:verify"}, nil, time.Time{})
		service := caller.From(d.as(Credential{APIKey: secret})).Principal.UserID
		token := d.clientToken(secret, "").AccessToken
		h := NewHandler(d.Service)

		for _, audience := range []string{"orders", "bills", "", "tollgate"} {
			u, _, err := d.UpdateUser(asRoot, service, UserUpdate{Audience: new(audience)})
			if audience == "tollgate" {
				audience = ""
			}
			if err != nil || u.Audience != audience {
				t.Fatalf("audience %q, %v", u.Audience, err)
			}
			grants := map[string]Grant{"": d.login("root"), "orders": d.loginFor("root", "orders")}
			for of, g := range grants {
				for name, as := range map[string]struct {
					credential Credential
					accepts    string
				}{
					"key":     {Credential{APIKey: secret}, audience},
					"token":   {Credential{AccessToken: token}, audience},
					"other":   {Credential{APIKey: other}, ""},
					"a human": {Credential{AccessToken: grants[""].AccessToken}, ""},
				} {
					ctx := d.as(as.credential)
					res, err := h.Verify(ctx, verifyRequest(g.AccessToken))
					backendtest.Must(t, err)
					if want := of == as.accepts; res.Active != want || !want && ReasonProto(caller.ReasonWrongAudience) != res.Reason || (res.Principal != nil) != want {
						t.Errorf("%s of a service for %q, a token for %q: %v", name, as.accepts, of, res)
					}
					i, err := d.Introspect(ctx, g.AccessToken)
					if err != nil || i.Active != (of == as.accepts) || !i.Active && i.Subject != "" {
						t.Errorf("%s of a service for %q, a token for %q: introspected %+v, %v", name, as.accepts, of, i, err)
					}
				}
			}
		}
		strays := d.recorded(audit.AccessDenied)
		if len(strays) == 0 {
			t.Fatal("tokens for others are not on record")
		}
		if e := strays[0]; e.Reason != "wrong_audience" || e.ActorID != root.ID || e.Details["asked_by"] == "" || e.Details["audience"] == "" {
			t.Errorf("recorded %+v", e)
		}

		// Who may have one, and who may give it.
		faulttest.WantField(t, faulttest.Err(d.UpdateUser(asRoot, root.ID, UserUpdate{Audience: new("orders")})), "audience")
		backendtest.Must(t, faulttest.Err(d.UpdateUser(asRoot, root.ID, UserUpdate{Audience: new("")})))
		faulttest.WantField(t, faulttest.Err(d.CreateUser(d.system(), NewUser{Username: "person", Audience: "orders"})), "audience")
		faulttest.Want(t, faulttest.Err(d.UpdateUser(asRoot, service, UserUpdate{Audience: new("a b")})), fault.Invalid, "INVALID_AUDIENCE")
		made, _, err := d.CreateUser(d.system(), NewUser{Username: "made", Kind: caller.Service, Audience: "made"})
		backendtest.Must(t, err)
		if u, err := d.GetUser(d.system(), made.ID); err != nil || u.Audience != "made" {
			t.Errorf("made %+v, %v", u, err)
		}
		d.user("weak")
		faulttest.Want(t, faulttest.Err(d.UpdateUser(d.inPerson("weak"), service, UserUpdate{Audience: new("weak")})), fault.Denied, "GRANT_EXCEEDS_OWN")
	})
}

func verifyRequest(token string) *tollgatev1.VerifyRequest {
	return &tollgatev1.VerifyRequest{Credential: &tollgatev1.VerifyRequest_AccessToken{AccessToken: token}}
}
