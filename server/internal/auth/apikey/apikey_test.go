package apikey

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/backendtest"

	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/clock"
	"github.com/tollgatehq/tollgate/server/internal/database"
	"github.com/tollgatehq/tollgate/server/internal/fault"
	"github.com/tollgatehq/tollgate/server/internal/fault/faulttest"
)

func TestCreate(t *testing.T) {
	t.Parallel()
	onKeys(t, func(t *testing.T, i instance, db *database.DB) {
		end := issued.Add(time.Hour)
		made, err := i.Create(i.as(t, "owner"), New{
			Name: " Deploys ", Scopes: []string{"orders:write", "orders:read", "orders:write"}, ExpiresAt: end,
		})
		backendtest.Must(t, err)
		key, secret := made.Key, made.Secret
		if !regexp.MustCompile(`^tg_[0-9A-Za-z]{16}_[0-9A-Za-z]{43}_[0-9A-Za-z]{6}$`).MatchString(secret) {
			t.Errorf("key %q", secret)
		}
		if made.Revision == 0 || made.Revision > i.log.Revision() {
			t.Errorf("revision %d is not in force, which is %d", made.Revision, i.log.Revision())
		}
		if key.ID != secret[3:19] || key.UserID != "owner" || key.Name != "Deploys" || !key.CreatedAt.Equal(issued) ||
			!key.ExpiresAt.Equal(end) || !slices.Equal(key.Scopes, []string{"orders:read", "orders:write"}) {
			t.Errorf("%+v", key)
		}
		p, reason, err := i.Verify(t.Context(), secret)
		if err != nil || reason != caller.ReasonOK || p.UserID != "owner" || p.APIKeyID != key.ID || !p.ExpiresAt.Equal(end) ||
			!slices.Equal(p.Scopes, key.Scopes) {
			t.Errorf("verify = %+v %s, %v", p, reason, err)
		}
		backendtest.WantCount(t, db, 1, `SELECT COUNT(*) FROM audit_events WHERE action = 'api_key.create' AND resource = $1 AND actor_id = 'owner'`, "api_keys/"+key.ID)
		for _, table := range []string{"SELECT COUNT(*) FROM audit_events WHERE details LIKE $1", "SELECT COUNT(*) FROM api_keys WHERE CAST(hash AS TEXT) LIKE $1"} {
			backendtest.WantCount(t, db, 0, table, "%"+secret[20:63]+"%")
		}
		i.expect(t, "in time", secret, caller.ReasonOK)
		i.clock.Advance(time.Hour)
		i.expect(t, "over", secret, caller.ReasonCredentialExpired)
	})
}

// A revocation is in force when its answer is there, on this instance, and
// after the tail's next look on every other, though both remember the key.
func TestRevoke(t *testing.T) {
	t.Parallel()
	onKeys(t, func(t *testing.T, i instance, db *database.DB) {
		other := startInstance(t, db, clock.NewFake(issued))
		key, secret := i.issue(t, New{})
		other.sync(t)
		i.expect(t, "here", secret, caller.ReasonOK)
		other.expect(t, "there", secret, caller.ReasonOK)
		i.clock.Advance(time.Millisecond)
		revision, err := i.Revoke(i.as(t, "owner"), key.ID)
		backendtest.Must(t, err)
		i.expect(t, "revoked here", secret, caller.ReasonCredentialRevoked)
		other.clock.Advance(time.Millisecond)
		again, err := other.Revoke(other.as(t, "owner"), key.ID)
		if err != nil || again < revision {
			t.Errorf("revoked again: revision %d after %d, %v", again, revision, err)
		}
		other.expect(t, "revoked there", secret, caller.ReasonCredentialRevoked)
		backendtest.WantCount(t, db, 1, `SELECT COUNT(*) FROM audit_events WHERE action = 'api_key.revoke'`)
		for _, unknown := range []string{randomBase62(idSize), "", "x", "\x00", strings.Repeat("x", 64)} {
			faulttest.Want(t, faulttest.Err(i.Revoke(i.as(t, "owner"), unknown)), fault.NotFound, "API_KEY_NOT_FOUND")
		}
	})
}

func TestCreateRefusals(t *testing.T) {
	t.Parallel()
	onKeys(t, func(t *testing.T, i instance, db *database.DB) {
		i.addUser(t, "boss", "boss", "*")
		i.addUser(t, "peer", "peer", "orders:read")
		i.addUser(t, "gone", "")
		backendtest.Must(t, faulttest.Err(db.Exec(t.Context(), `UPDATE users SET disabled_at = 1 WHERE id = 'gone'`)))
		owner, narrowed := i.as(t, "owner"), i.as(t, "owner", "orders:read", "tollgate:keys:write")
		tests := map[string]struct {
			ctx    context.Context
			in     New
			kind   fault.Kind
			reason string // empty: allowed
		}{
			"own, all":                   {owner, New{}, 0, ""},
			"own, narrowed":              {owner, New{Scopes: []string{"orders:write"}}, 0, ""},
			"own, more than held":        {owner, New{Scopes: []string{"billing:read"}}, fault.Denied, "GRANT_EXCEEDS_OWN"},
			"own, everything":            {owner, New{Scopes: []string{"*"}}, fault.Denied, "GRANT_EXCEEDS_OWN"},
			"by key, within":             {narrowed, New{Scopes: []string{"orders:read"}}, 0, ""},
			"by key, broader":            {narrowed, New{Scopes: []string{"orders:*"}}, fault.Denied, "GRANT_EXCEEDS_OWN"},
			"by key, all":                {narrowed, New{}, fault.Denied, "GRANT_EXCEEDS_OWN"},
			"by key as broad, unscoped":  {i.as(t, "owner", "orders:*", "tollgate:keys:*"), New{}, fault.Denied, "GRANT_EXCEEDS_OWN"},
			"by key, for another":        {narrowed, New{UserID: "peer"}, fault.Denied, "GRANT_EXCEEDS_OWN"},
			"for one with less":          {owner, New{UserID: "peer", Scopes: []string{"orders:read"}}, 0, ""},
			"for one with less, growing": {owner, New{UserID: "peer"}, fault.Denied, "GRANT_EXCEEDS_OWN"},
			"by an administrator":        {i.as(t, "boss"), New{UserID: "peer"}, 0, ""},
			"for one with more":          {owner, New{UserID: "boss"}, fault.Denied, "GRANT_EXCEEDS_OWN"},
			"for one with more, within":  {owner, New{UserID: "boss", Scopes: []string{"orders:read"}}, 0, ""},
			"for one with more, scopes":  {owner, New{UserID: "boss", Scopes: []string{"billing:*"}}, fault.Denied, "GRANT_EXCEEDS_OWN"},
			"by the system":              {caller.System(t.Context()), New{UserID: "boss"}, 0, ""},
			"by the system, no owner":    {caller.System(t.Context()), New{}, fault.Invalid, "INVALID_FIELD"},
			"by an anonymous caller":     {t.Context(), New{UserID: "peer"}, fault.Denied, "GRANT_EXCEEDS_OWN"},
			"for a disabled user":        {i.as(t, "boss"), New{UserID: "gone"}, fault.Precondition, "USER_DISABLED"},
			"for an unknown user":        {i.as(t, "boss"), New{UserID: "nobody"}, fault.NotFound, "USER_NOT_FOUND"},
			"bad scope":                  {owner, New{Scopes: []string{"orders:read", "Or ders"}}, fault.Invalid, "INVALID_FIELD"},
			"bad scope, star inside":     {owner, New{Scopes: []string{"orders:*:read"}}, fault.Invalid, "INVALID_FIELD"},
			"over before it began":       {owner, New{ExpiresAt: issued}, fault.Invalid, "INVALID_FIELD"},
			"over, long ago":             {owner, New{ExpiresAt: time.Unix(1, 0)}, fault.Invalid, "INVALID_FIELD"},
			"no name":                    {owner, New{Name: " "}, fault.Invalid, "INVALID_FIELD"},
			"name with a line break":     {owner, New{Name: "a\nb"}, fault.Invalid, "INVALID_FIELD"},
			"name with a NUL":            {owner, New{Name: "a\x00b"}, fault.Invalid, "INVALID_FIELD"},
			"name that is not UTF-8":     {owner, New{Name: "a\xff"}, fault.Invalid, "INVALID_FIELD"},
			"an empty scope":             {owner, New{Scopes: []string{""}}, fault.Invalid, "INVALID_FIELD"},
		}
		for name, test := range tests {
			if test.in.Name == "" {
				test.in.Name = "a key"
			}
			before := backendtest.Count(t, db, `SELECT COUNT(*) FROM api_keys`)
			created, err := i.Create(test.ctx, test.in)
			made := backendtest.Count(t, db, `SELECT COUNT(*) FROM api_keys`) - before
			if test.reason == "" {
				if err != nil || made != 1 {
					t.Errorf("%s: %v, %d keys", name, err, made)
				}
				continue
			}
			faulttest.Want(t, err, test.kind, test.reason)
			if made != 0 || created.Secret != "" {
				t.Errorf("%s: refused, but %d keys made", name, made)
			}
		}
	})
}

func TestRevokeNeedsTheOwnersRights(t *testing.T) {
	t.Parallel()
	onKeys(t, func(t *testing.T, i instance, _ *database.DB) {
		i.addUser(t, "boss", "boss", "*")
		i.addUser(t, "peer", "peer", "orders:read")
		system := caller.System(t.Context())
		keys := map[string]string{}
		for _, user := range []string{"boss", "peer"} {
			made, err := i.Create(system, New{UserID: user, Name: "a key"})
			backendtest.Must(t, err)
			key, secret := made.Key, made.Secret
			keys[user] = key.ID
			defer i.expect(t, user, secret, caller.ReasonCredentialRevoked)
		}
		faulttest.Want(t, faulttest.Err(i.Revoke(i.as(t, "owner"), keys["boss"])), fault.Denied, "GRANT_EXCEEDS_OWN")
		backendtest.Must(t, faulttest.Err(i.Revoke(i.as(t, "owner"), keys["peer"]))) // of one who holds less
		backendtest.Must(t, faulttest.Err(i.Revoke(i.as(t, "boss"), keys["boss"])))  // one's own
	})
}

func TestCreateTooMany(t *testing.T) {
	t.Parallel()
	onKeys(t, func(t *testing.T, i instance, db *database.DB) {
		over := issued.Add(-time.Second).UnixMicro()
		for n := range maxLive - 2 + 20 {
			var revoked, expires *int64
			switch {
			case n >= maxLive+8:
				revoked = &over
			case n >= maxLive-2:
				expires = &over
			}
			if _, err := db.Exec(t.Context(), `INSERT INTO api_keys (id, user_id, name, hash, scopes, created_at, expires_at, revoked_at)
				VALUES ($1, 'owner', 'old', $2, '[]', 1, $3, $4)`, fmt.Sprintf("%016d", n), []byte{1}, expires, revoked); err != nil {
				t.Fatal(err)
			}
		}
		const n = 6
		ctx := i.as(t, "owner")
		var wait sync.WaitGroup
		errs := make([]error, n)
		for k := range errs {
			wait.Go(func() { _, errs[k] = i.Create(ctx, New{Name: "a key"}) })
		}
		wait.Wait()
		made := 0
		for _, err := range errs {
			if err == nil {
				made++
				continue
			}
			faulttest.Want(t, err, fault.Precondition, "TOO_MANY_API_KEYS")
		}
		if made != 2 {
			t.Errorf("%d of %d keys made at once where 2 were allowed", made, n)
		}
	})
}

func TestList(t *testing.T) {
	t.Parallel()
	onKeys(t, func(t *testing.T, i instance, _ *database.DB) {
		i.addUser(t, "peer", "peer", "orders:read")
		var all, owners []string
		for n := range 7 {
			user := []string{"owner", "peer"}[n%2]
			made, err := i.Create(caller.System(t.Context()), New{UserID: user, Name: "a key"})
			backendtest.Must(t, err)
			key := made.Key
			all = append(all, key.ID)
			if user == "owner" {
				owners = append(owners, key.ID)
			}
			i.clock.Advance(time.Millisecond)
		}
		backendtest.Must(t, faulttest.Err(i.Revoke(i.as(t, "owner"), all[0])))
		read := func(user string) (ids []string) {
			for _, key := range slices.Concat(backendtest.Pages(t, func(token string) ([]Key, string, error) {
				return i.List(t.Context(), user, 2, token)
			})...) {
				ids = append(ids, key.ID)
				if key.RevokedAt.IsZero() == (key.ID == all[0]) || !key.ExpiresAt.IsZero() || !key.LastUsedAt.IsZero() {
					t.Errorf("%+v", key)
				}
			}
			return ids
		}
		if got := read(""); !slices.Equal(got, all) {
			t.Errorf("all: %v, want %v", got, all)
		}
		if got := read("owner"); !slices.Equal(got, owners) {
			t.Errorf("owner's: %v, want %v", got, owners)
		}
		if got := read("nobody"); len(got) != 0 {
			t.Errorf("an unknown user's: %v", got)
		}
		_, token, err := i.List(t.Context(), "owner", 2, "")
		backendtest.Must(t, err)
		faulttest.Want(t, faulttest.Err(i.List(t.Context(), "peer", 2, token)), fault.Invalid, "INVALID_FIELD")
	})
}
