package auth

import (
	"encoding/base32"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/audit"
	"github.com/tollgatehq/tollgate/server/internal/auth/totp"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/database"
	"github.com/tollgatehq/tollgate/server/internal/fault"
	"github.com/tollgatehq/tollgate/server/internal/fault/faulttest"
)

// TestEnrollingTakesThePassword: a stolen access token alone binds no factor to
// the account; guesses count as sign-ins do and are on record.
func TestEnrollingTakesThePassword(t *testing.T) {
	t.Parallel()
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		d := newFixture(t, db)
		ann := d.user("ann")
		stolen := d.inPerson("ann")
		for _, guess := range []string{"", "a wrong guess"} {
			faulttest.WantField(t, faulttest.Err(d.EnrollSecondFactor(stolen, ann.ID, guess)), "currentPassword")
		}
		var pending int
		if err := d.db.Get(t.Context(), &pending, `SELECT COUNT(*) FROM second_factors`); err != nil || pending != 0 {
			t.Errorf("%d factors without the password, %v", pending, err)
		}
		events := d.recorded(audit.SecondFactorEnroll)
		if len(events) != 2 || events[1].Outcome != audit.Failure || events[1].Reason != reasonWrongPassword || events[1].ActorID != ann.ID {
			t.Errorf("recorded %+v", events)
		}
		for range 8 {
			faulttest.WantField(t, faulttest.Err(d.EnrollSecondFactor(stolen, ann.ID, "a wrong guess")), "currentPassword")
		}
		compares := d.compares.Load()
		faulttest.Want(t, faulttest.Err(d.EnrollSecondFactor(stolen, ann.ID, goodPassword)), fault.Limited, "TOO_MANY_ATTEMPTS")
		if n := d.compares.Load(); n != compares {
			t.Errorf("%d passwords compared over the limit", n-compares)
		}
		d.resetAttempts(stolen, "ann")
		backendtest.Must(t, faulttest.Err(d.EnrollSecondFactor(stolen, ann.ID, goodPassword)))
	})
}

// TestEnrollingWhileThePasswordChanges: the old password enrolls nothing once
// another was set, though it was compared before.
func TestEnrollingWhileThePasswordChanges(t *testing.T) {
	t.Parallel()
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		d := newFixture(t, db)
		ann := d.user("ann")
		ctx := d.inPerson("ann")
		d.afterCompare(func() error {
			return faulttest.Err(d.ResetPassword(t.Context(), "ann", "another password", false))
		})
		faulttest.Want(t, faulttest.Err(d.EnrollSecondFactor(ctx, ann.ID, goodPassword)), fault.Conflict, "USER_CHANGED")
	})
}

// TestConfirmingEndsOtherSessions: sessions that began without the factor do
// not outlive its confirmation, but for the one that confirmed it.
func TestConfirmingEndsOtherSessions(t *testing.T) {
	t.Parallel()
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		d := newFixture(t, db)
		ann, bob := d.user("ann"), d.user("bob")
		mine, thief, other := d.login("ann"), d.login("ann"), d.login("bob")
		d.login("ann")
		ctx := d.as(Credential{AccessToken: mine.AccessToken})
		made, err := d.EnrollSecondFactor(ctx, ann.ID, goodPassword)
		backendtest.Must(t, err)
		faulttest.WantField(t, faulttest.Err(d.ConfirmSecondFactor(ctx, ann.ID, "000000")), "code")
		d.clock.Advance(time.Millisecond) // events sort by time
		d.wantReason(thief.AccessToken, caller.ReasonOK)
		ended, revision, err := d.ConfirmSecondFactor(ctx, ann.ID, d.code(made, 0))
		if err != nil || ended != 2 || revision == 0 {
			t.Fatalf("ended %d sessions at %d, %v; want 2", ended, revision, err)
		}
		d.wantReason(mine.AccessToken, caller.ReasonOK)
		d.wantReason(other.AccessToken, caller.ReasonOK)
		d.wantReason(thief.AccessToken, caller.ReasonCredentialRevoked)
		faulttest.Want(t, faulttest.Err(d.Refresh(d.visitor(), thief.RefreshToken)), fault.Unauthenticated, "BAD_REFRESH_TOKEN")
		d.refresh(mine.RefreshToken)
		if d.live(ann.ID) != 1 || d.live(bob.ID) != 1 {
			t.Errorf("%d and %d sessions live, want 1 and 1", d.live(ann.ID), d.live(bob.ID))
		}
		events := d.recorded(audit.SecondFactorOn)
		if last := events[len(events)-1]; last.Details["revoked_sessions"] != "2" {
			t.Errorf("recorded %+v", last)
		}
	})
}

// TestEnrollSecondFactor: the secret has 160 bits and is sealed, the codes are hashed,
// and the QR code holds what an authenticator needs.
func TestEnrollSecondFactor(t *testing.T) {
	t.Parallel()
	d := newFixture(t, backendtest.SQLite(t))
	ann := d.user("ann@example.com")
	made, err := d.EnrollSecondFactor(d.inPerson(ann.Username), ann.ID, goodPassword)
	backendtest.Must(t, err)
	secret, err := base32.StdEncoding.DecodeString(made.Secret)
	if err != nil || len(secret) != 20 {
		t.Errorf("the secret has %d bytes, %v", len(secret), err)
	}
	u, err := url.Parse(made.URI)
	if err != nil || u.Scheme != "otpauth" || u.Host != "totp" || u.Path != "/tollgate.test:ann@example.com" ||
		u.Query().Get("secret") != made.Secret || u.Query().Get("issuer") != "tollgate.test" ||
		u.Query().Get("digits") != "6" || u.Query().Get("period") != "30" || u.Query().Get("algorithm") != "SHA1" {
		t.Errorf("the URI is %s, %v", made.URI, err)
	}
	if len(made.RecoveryCodes) != 10 {
		t.Errorf("%d recovery codes", len(made.RecoveryCodes))
	}
	seen := map[string]bool{}
	for _, code := range made.RecoveryCodes {
		if seen[code] || len(code) != 19 || len(code) > 32 || len(totp.Plain(code)) != 16 {
			t.Errorf("recovery code %q", code)
		}
		seen[code] = true
	}
	var stored []struct {
		Secret []byte `db:"secret"`
		Hash   []byte `db:"hash"`
	}
	err = d.db.Select(t.Context(), &stored, `SELECT f.secret, c.hash FROM second_factors f JOIN recovery_codes c ON c.user_id = f.user_id`)
	if err != nil || len(stored) != 10 {
		t.Fatal(len(stored), err)
	}
	for _, row := range stored {
		if strings.Contains(string(row.Secret), string(secret)) || len(row.Hash) != 32 {
			t.Errorf("stored %+v", row)
		}
	}
	if _, err := d.master.Open(stored[0].Secret, secondFactorName("another user")); err == nil {
		t.Error("the secret is not bound to its user")
	}
}
