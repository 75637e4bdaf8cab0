package auth

import (
	"slices"
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

func (d *fixture) keyReason(secret string) caller.Reason {
	d.t.Helper()
	v, err := d.Verify(d.t.Context(), Credential{APIKey: secret})
	backendtest.Must(d.t, err)
	return v.Reason
}

func TestRotateAPIKey(t *testing.T) {
	t.Parallel()
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		d := newFixture(t, db)
		end := d.clock.Now().Add(30 * 24 * time.Hour).Truncate(time.Microsecond)
		key, secret := d.client("robot", []string{"orders:*"}, []string{"orders:read"}, end)
		token := d.clientToken(secret, "").AccessToken

		r, err := d.APIKeys.Rotate(d.system(), key.ID, time.Minute)
		backendtest.Must(t, err)
		if r.Key.ID == key.ID || r.Key.UserID != key.UserID || r.Key.Name != key.Name || !slices.Equal(r.Key.Scopes, key.Scopes) || !r.Key.ExpiresAt.Equal(end) {
			t.Errorf("the new key is %+v", r.Key)
		}
		if r.Replaced.ID != key.ID || !r.Replaced.ExpiresAt.Equal(d.clock.Now().Add(time.Minute).Truncate(time.Microsecond)) || !r.Replaced.RevokedAt.IsZero() {
			t.Errorf("the old key is %+v", r.Replaced)
		}
		for _, s := range []string{secret, r.Secret} {
			if got := d.keyReason(s); got != caller.ReasonOK {
				t.Errorf("during the overlap: %s", got)
			}
		}
		faulttest.Want(t, faulttest.Err(d.APIKeys.Rotate(d.system(), key.ID, 0)), fault.Precondition, "API_KEY_ROTATED")
		d.wantReason(token, caller.ReasonOK)
		d.clock.Advance(time.Minute)
		d.wantReason(token, caller.ReasonCredentialExpired)
		if got := d.keyReason(secret); got != caller.ReasonCredentialExpired {
			t.Errorf("after the overlap: %s", got)
		}

		// Without overlap the old one ends at once.
		next, err := d.APIKeys.Rotate(d.system(), r.Key.ID, 0)
		if err != nil || next.Replaced.RevokedAt.IsZero() || !next.Replaced.ExpiresAt.Equal(end) {
			t.Fatal(next, err)
		}
		if got := d.keyReason(r.Secret); got != caller.ReasonCredentialRevoked {
			t.Errorf("rotated without overlap: %s", got)
		}
		// The overlap does not prolong a key.
		d.clock.Advance(end.Sub(d.clock.Now()) - time.Hour)
		last, err := d.APIKeys.Rotate(d.system(), next.Key.ID, 24*time.Hour)
		if err != nil || !last.Replaced.ExpiresAt.Equal(end) || !last.Key.ExpiresAt.Equal(end) {
			t.Fatal(last, err)
		}
		if events := d.recorded(audit.APIKeyRotate); len(events) != 3 || events[0].Resource != "api_keys/"+key.ID || events[0].Details["new_key"] != r.Key.ID {
			t.Errorf("recorded %+v", events)
		}
		d.clock.Advance(time.Hour)
		faulttest.Want(t, faulttest.Err(d.APIKeys.Rotate(d.system(), last.Key.ID, 0)), fault.Precondition, "API_KEY_EXPIRED")
		for _, id := range []string{"", "x", "0000000000000000"} {
			faulttest.Want(t, faulttest.Err(d.APIKeys.Rotate(d.system(), id, 0)), fault.NotFound, "API_KEY_NOT_FOUND")
		}
		for _, overlap := range []time.Duration{-1, 7*24*time.Hour + 1} {
			faulttest.WantField(t, faulttest.Err(d.APIKeys.Rotate(d.system(), last.Key.ID, overlap)), "overlap")
		}
	})
}

// TestRotateAPIKeyNeedsTheRights: no caller gets a key, or ends one, that does
// more than they may.
func TestRotateAPIKeyNeedsTheRights(t *testing.T) {
	t.Parallel()
	d := newFixture(t, backendtest.SQLite(t))
	narrow, narrowSecret := d.client("narrow", []string{"orders:*"}, []string{"orders:read"}, time.Time{})
	all, allSecret := d.client("all", []string{"orders:*", "stock:*"}, nil, time.Time{})
	_, reader := d.client("reader", []string{"orders:read"}, nil, time.Time{})
	for name, c := range map[string]struct {
		as  string
		key string
		may bool
	}{
		"its own":                   {narrowSecret, narrow.ID, true},
		"one that grows, narrowed":  {narrowSecret, all.ID, false},
		"one that grows, by others": {reader, all.ID, false},
		"of an owner with more":     {reader, narrow.ID, false},
		"its own that grows":        {allSecret, all.ID, true},
	} {
		_, err := d.APIKeys.Rotate(d.as(Credential{APIKey: c.as}), c.key, time.Hour)
		switch {
		case !c.may:
			faulttest.Want(t, err, fault.Denied, "GRANT_EXCEEDS_OWN")
		case err != nil && fault.From(err).Reason != "API_KEY_ROTATED":
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestRotateAPIKeyAtOnce: one rotation of many wins, and one key results.
func TestRotateAPIKeyAtOnce(t *testing.T) {
	t.Parallel()
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		d := newFixture(t, db)
		key, _ := d.client("robot", []string{"orders:*"}, nil, time.Time{})
		var all sync.WaitGroup
		var wins atomic.Int64
		for i := range 10 {
			all.Go(func() {
				_, err := d.APIKeys.Rotate(d.system(), key.ID, time.Duration(i%2)*time.Hour)
				if err == nil {
					wins.Add(1)
				} else if fault.From(err).Reason != "API_KEY_ROTATED" {
					t.Error(err)
				}
			})
		}
		all.Wait()
		keys, _, err := d.APIKeys.List(d.system(), key.UserID, 0, "")
		if err != nil || wins.Load() != 1 || len(keys) != 2 {
			t.Errorf("%d won, %d keys, %v", wins.Load(), len(keys), err)
		}
	})
}
