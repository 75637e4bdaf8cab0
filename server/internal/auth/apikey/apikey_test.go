package apikey

import (
	"github.com/tollgatehq/tollgate/server/internal/roles"

	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/cryptotest"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/auth/authority"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/changes"
	"github.com/tollgatehq/tollgate/server/internal/clock"
	"github.com/tollgatehq/tollgate/server/internal/database"
	"github.com/tollgatehq/tollgate/server/internal/fault"
	"github.com/tollgatehq/tollgate/server/internal/fault/faulttest"
	"github.com/tollgatehq/tollgate/server/internal/page"
)

// issued is when the tests begin.
var issued = time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)

// instance is one running Tollgate, as far as API keys go.
type instance struct {
	*Service
	roles *roles.Service
	clock *clock.Fake
}

// follower forgets keys when one changed.
type follower struct{ *Service }

func (f follower) Reset(context.Context) error { f.ForgetAll(); return nil }

func (f follower) Apply(_ context.Context, list []changes.Change) error {
	for _, c := range list {
		f.Forget(c.Subject)
	}
	return nil
}

func startInstance(t *testing.T, db *database.DB, fake *clock.Fake) instance {
	t.Helper()
	log := changes.New(db, changes.Options{Clock: fake.Clock()})
	pages := page.NewTokens([]byte(strings.Repeat("p", 32)))
	grants := roles.New(db, log, fake.Clock(), pages)
	s := NewService(db, log, grants, authority.New(grants, fake.Clock()), fake.Clock(), pages)
	log.Follow(grants)
	log.Follow(follower{s})
	if err := log.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return instance{s, grants, fake}
}

// sync makes the instance read everything that was committed. Its clock goes on
// a little first, as clocks do.
func (i instance) sync(t *testing.T) {
	t.Helper()
	i.clock.Advance(time.Millisecond)
	if err := i.log.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func count(t *testing.T, db *database.DB, query string, args ...any) (n int) {
	t.Helper()
	if err := db.Get(t.Context(), &n, query, args...); err != nil {
		t.Fatal(err)
	}
	return n
}

// onKeys runs test on each database with an instance and a user, "owner", who
// holds orders:* and tollgate:keys:*.
func onKeys(t *testing.T, test func(t *testing.T, i instance, db *database.DB)) {
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		i := startInstance(t, db, clock.NewFake(issued))
		i.addUser(t, "owner", "clerk", "orders:*", "tollgate:keys:*")
		test(t, i, db)
	})
}

// addUser adds a user whose id is name, who holds a role with the patterns.
func (i instance) addUser(t *testing.T, name, role string, patterns ...string) {
	t.Helper()
	ctx := caller.System(t.Context())
	if _, err := i.db.Exec(ctx, `INSERT INTO users (id, username, kind, created_at, updated_at) VALUES ($1, $1, 'service', 1, 1)`, name); err != nil {
		t.Fatal(err)
	}
	if len(patterns) == 0 {
		return
	}
	if _, _, err := i.roles.Create(ctx, role, "", patterns); err != nil {
		t.Fatal(err)
	}
	if _, _, err := i.roles.Assign(ctx, role, name, time.Time{}); err != nil {
		t.Fatal(err)
	}
}

// as is the context of a call by a user, with an API key when there are scopes.
func (i instance) as(t *testing.T, user string, scopes ...string) context.Context {
	t.Helper()
	roles, err := i.roles.RolesOf(t.Context(), user)
	if err != nil {
		t.Fatal(err)
	}
	p := &caller.Principal{UserID: user, Username: user, Roles: roles, Scopes: scopes}
	if len(scopes) > 0 {
		p.APIKeyID = "a key of " + user
		if _, err := i.db.Exec(t.Context(), `INSERT INTO api_keys (id, user_id, name, hash, scopes, created_at)
			VALUES ($1, $2, 'a key', $3, '[]', 1) ON CONFLICT DO NOTHING`, p.APIKeyID, user, []byte{1}); err != nil {
			t.Fatal(err)
		}
	}
	return caller.With(t.Context(), caller.Caller{Principal: p})
}

// issue makes a key of the owner's.
func (i instance) issue(t *testing.T, in New) (Key, string) {
	t.Helper()
	in.Name = "a key"
	made, err := i.Create(i.as(t, "owner"), in)
	if err != nil {
		t.Fatal(err)
	}
	return made.Key, made.Secret
}

func (i instance) expect(t *testing.T, what, key string, want caller.Reason) {
	t.Helper()
	p, got, err := i.Verify(t.Context(), key)
	if err != nil || got != want {
		t.Errorf("%s: %s (%v), want %s", what, got, err, want)
	}
	if got != caller.ReasonOK && p != nil {
		t.Errorf("%s: refused, but says %+v", what, p)
	}
}

func TestCreate(t *testing.T) {
	onKeys(t, func(t *testing.T, i instance, db *database.DB) {
		end := issued.Add(time.Hour)
		made, err := i.Create(i.as(t, "owner"), New{
			Name: " Deploys ", Scopes: []string{"orders:write", "orders:read", "orders:write"}, ExpiresAt: end,
		})
		if err != nil {
			t.Fatal(err)
		}
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
		if got := count(t, db, `SELECT COUNT(*) FROM audit_events WHERE action = 'api_key.create' AND resource = $1 AND actor_id = 'owner'`, "api_keys/"+key.ID); got != 1 {
			t.Errorf("%d audit events", got)
		}
		for _, table := range []string{"SELECT COUNT(*) FROM audit_events WHERE details LIKE $1", "SELECT COUNT(*) FROM api_keys WHERE CAST(hash AS TEXT) LIKE $1"} {
			if got := count(t, db, table, "%"+secret[20:63]+"%"); got != 0 {
				t.Error("the secret is stored")
			}
		}
		i.expect(t, "in time", secret, caller.ReasonOK)
		i.clock.Advance(time.Hour)
		i.expect(t, "over", secret, caller.ReasonCredentialExpired)
	})
}

// A key that is not whole is refused without asking the database, here closed.
func TestVerifyTypo(t *testing.T) {
	db := backendtest.SQLite(t)
	i := startInstance(t, db, clock.NewFake(issued))
	db.Close()
	key, _ := newSecret(randomBase62(idSize))
	if _, _, err := i.Verify(t.Context(), key); err == nil {
		t.Fatal("a whole key was not looked up")
	}
	for at := range len(key) {
		i.expect(t, "prefix", key[:at], caller.ReasonCredentialInvalid)
		for bit := range 8 {
			typo := []byte(key)
			typo[at] ^= 1 << bit
			i.expect(t, "flipped bit", string(typo), caller.ReasonCredentialInvalid)
		}
		if at+1 < len(key) && key[at] != key[at+1] {
			i.expect(t, "swapped", key[:at]+key[at+1:at+2]+key[at:at+1]+key[at+2:], caller.ReasonCredentialInvalid)
		}
	}
	for _, other := range []string{"", key + "0", " " + key, key + "\n", "TG_" + key[3:], strings.Repeat("_", len(key))} {
		i.expect(t, other, other, caller.ReasonCredentialInvalid)
	}
	body := strings.Replace(key[:len(key)-7], key[30:31], "-", 1)
	i.expect(t, "another letter", body+"_"+checksum(body), caller.ReasonCredentialInvalid)
}

func TestVerifyForged(t *testing.T) {
	onKeys(t, func(t *testing.T, i instance, _ *database.DB) {
		key, secret := i.issue(t, New{})
		another, _ := newSecret(key.ID)
		unknown, _ := newSecret(randomBase62(idSize))
		i.expect(t, "positive control", secret, caller.ReasonOK)
		i.expect(t, "our id with another secret", another, caller.ReasonCredentialInvalid)
		i.expect(t, "no such id", unknown, caller.ReasonCredentialInvalid)
		if _, err := i.Revoke(i.as(t, "owner"), key.ID); err != nil {
			t.Fatal(err)
		}
		i.expect(t, "revoked, another secret", another, caller.ReasonCredentialInvalid)
	})
}

func TestRandomBase62(t *testing.T) {
	seen := map[rune]bool{}
	ids := map[string]bool{}
	for range 200 {
		id := randomBase62(idSize)
		if !isBase62(id, idSize) || ids[id] {
			t.Fatalf("id %q", id)
		}
		ids[id] = true
		for _, r := range id {
			seen[r] = true
		}
	}
	if len(seen) != 62 {
		t.Errorf("%d letters in use", len(seen))
	}
}

// A revocation is in force when its answer is there, on this instance, and
// after the tail's next look on every other, though both remember the key.
func TestRevoke(t *testing.T) {
	onKeys(t, func(t *testing.T, i instance, db *database.DB) {
		other := startInstance(t, db, clock.NewFake(issued))
		key, secret := i.issue(t, New{})
		other.sync(t)
		i.expect(t, "here", secret, caller.ReasonOK)
		other.expect(t, "there", secret, caller.ReasonOK)
		i.clock.Advance(time.Millisecond)
		revision, err := i.Revoke(i.as(t, "owner"), key.ID)
		if err != nil {
			t.Fatal(err)
		}
		i.expect(t, "revoked here", secret, caller.ReasonCredentialRevoked)
		other.clock.Advance(time.Millisecond)
		again, err := other.Revoke(other.as(t, "owner"), key.ID)
		if err != nil || again < revision {
			t.Errorf("revoked again: revision %d after %d, %v", again, revision, err)
		}
		other.expect(t, "revoked there", secret, caller.ReasonCredentialRevoked)
		if got := count(t, db, `SELECT COUNT(*) FROM audit_events WHERE action = 'api_key.revoke'`); got != 1 {
			t.Errorf("%d audit events", got)
		}
		for _, unknown := range []string{randomBase62(idSize), "", "x", "\x00", strings.Repeat("x", 64)} {
			_, err := i.Revoke(i.as(t, "owner"), unknown)
			faulttest.Want(t, err, fault.NotFound, "API_KEY_NOT_FOUND")
		}
	})
}

// That an id belongs to no key is remembered, but not beyond the key's making.
func TestVerifyUnknownBefore(t *testing.T) {
	onKeys(t, func(t *testing.T, i instance, db *database.DB) {
		other := startInstance(t, db, clock.NewFake(issued))
		cryptotest.SetGlobalRandom(t, 7)
		secret, _ := newSecret(randomBase62(idSize))
		i.expect(t, "not yet made", secret, caller.ReasonCredentialInvalid)
		other.expect(t, "not yet made, elsewhere", secret, caller.ReasonCredentialInvalid)
		cryptotest.SetGlobalRandom(t, 7)
		if _, made := i.issue(t, New{}); made != secret {
			t.Fatal("the test does not make the same key")
		}
		i.expect(t, "made", secret, caller.ReasonOK)
		other.sync(t)
		other.expect(t, "made elsewhere", secret, caller.ReasonOK)
	})
}

func TestCreateRefusals(t *testing.T) {
	onKeys(t, func(t *testing.T, i instance, db *database.DB) {
		i.addUser(t, "boss", "boss", "*")
		i.addUser(t, "peer", "peer", "orders:read")
		i.addUser(t, "gone", "")
		if _, err := db.Exec(t.Context(), `UPDATE users SET disabled_at = 1 WHERE id = 'gone'`); err != nil {
			t.Fatal(err)
		}
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
			"by the system, for nobody":  {caller.System(t.Context()), New{}, fault.Invalid, "INVALID_FIELD"},
			"by nobody":                  {t.Context(), New{UserID: "peer"}, fault.Denied, "GRANT_EXCEEDS_OWN"},
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
			"scope that nobody can hold": {owner, New{Scopes: []string{""}}, fault.Invalid, "INVALID_FIELD"},
		}
		for name, test := range tests {
			if test.in.Name == "" {
				test.in.Name = "a key"
			}
			before := count(t, db, `SELECT COUNT(*) FROM api_keys`)
			created, err := i.Create(test.ctx, test.in)
			made := count(t, db, `SELECT COUNT(*) FROM api_keys`) - before
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
	onKeys(t, func(t *testing.T, i instance, _ *database.DB) {
		i.addUser(t, "boss", "boss", "*")
		i.addUser(t, "peer", "peer", "orders:read")
		system := caller.System(t.Context())
		keys := map[string]string{}
		for _, user := range []string{"boss", "peer"} {
			made, err := i.Create(system, New{UserID: user, Name: "a key"})
			if err != nil {
				t.Fatal(err)
			}
			key, secret := made.Key, made.Secret
			keys[user] = key.ID
			defer i.expect(t, user, secret, caller.ReasonCredentialRevoked)
		}
		_, err := i.Revoke(i.as(t, "owner"), keys["boss"])
		faulttest.Want(t, err, fault.Denied, "GRANT_EXCEEDS_OWN")
		if _, err := i.Revoke(i.as(t, "owner"), keys["peer"]); err != nil {
			t.Errorf("of one with less: %v", err)
		}
		if _, err := i.Revoke(i.as(t, "boss"), keys["boss"]); err != nil {
			t.Errorf("one's own: %v", err)
		}
	})
}

func TestCreateTooMany(t *testing.T) {
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
			t.Errorf("%d of %d keys made at once where there was room for 2", made, n)
		}
	})
}

func TestList(t *testing.T) {
	onKeys(t, func(t *testing.T, i instance, _ *database.DB) {
		i.addUser(t, "peer", "peer", "orders:read")
		var all, owners []string
		for n := range 7 {
			user := []string{"owner", "peer"}[n%2]
			made, err := i.Create(caller.System(t.Context()), New{UserID: user, Name: "a key"})
			if err != nil {
				t.Fatal(err)
			}
			key := made.Key
			all = append(all, key.ID)
			if user == "owner" {
				owners = append(owners, key.ID)
			}
			i.clock.Advance(time.Millisecond)
		}
		if _, err := i.Revoke(i.as(t, "owner"), all[0]); err != nil {
			t.Fatal(err)
		}
		read := func(user string) (ids []string) {
			token := ""
			for {
				keys, next, err := i.List(t.Context(), user, 2, token)
				if err != nil || len(keys) > 2 {
					t.Fatalf("%d keys, %v", len(keys), err)
				}
				for _, key := range keys {
					ids = append(ids, key.ID)
					if key.RevokedAt.IsZero() == (key.ID == all[0]) || !key.ExpiresAt.IsZero() || !key.LastUsedAt.IsZero() {
						t.Errorf("%+v", key)
					}
				}
				if next == "" {
					return ids
				}
				token = next
			}
		}
		if got := read(""); !slices.Equal(got, all) {
			t.Errorf("all: %v, want %v", got, all)
		}
		if got := read("owner"); !slices.Equal(got, owners) {
			t.Errorf("owner's: %v, want %v", got, owners)
		}
		if got := read("nobody"); len(got) != 0 {
			t.Errorf("nobody's: %v", got)
		}
		_, token, err := i.List(t.Context(), "owner", 2, "")
		if err != nil {
			t.Fatal(err)
		}
		_, _, err = i.List(t.Context(), "peer", 2, token)
		faulttest.Want(t, err, fault.Invalid, "INVALID_FIELD")
	})
}

func TestFlushLastUsed(t *testing.T) {
	onKeys(t, func(t *testing.T, i instance, db *database.DB) {
		other := startInstance(t, db, i.clock)
		key, secret := i.issue(t, New{})
		_, never := i.issue(t, New{})
		last := func() time.Duration {
			t.Helper()
			var at *int64
			if err := db.Get(t.Context(), &at, `SELECT last_used_at FROM api_keys WHERE id = $1`, key.ID); err != nil {
				t.Fatal(err)
			}
			if at == nil {
				return -1
			}
			return database.Time(at).Sub(issued)
		}
		flush := func() {
			t.Helper()
			for _, i := range []instance{i, other} {
				if err := i.FlushLastUsed(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
		}
		flush()
		revision := i.log.Revision()
		i.expect(t, "use", secret, caller.ReasonOK)
		i.expect(t, "no use", never[:len(never)-1], caller.ReasonCredentialInvalid)
		if got := last(); got != -1 {
			t.Errorf("written before the flush: %v", got)
		}
		flush()
		if got := last(); got != 0 {
			t.Errorf("first use at %v", got)
		}
		for range 3 {
			i.clock.Advance(19 * time.Second)
			i.expect(t, "use", secret, caller.ReasonOK)
			other.expect(t, "use elsewhere", secret, caller.ReasonOK)
		}
		flush()
		if got := last(); got != 0 {
			t.Errorf("written again after %v, within the minute", got)
		}
		i.clock.Advance(3 * time.Second)
		other.expect(t, "use elsewhere", secret, caller.ReasonOK)
		flush()
		if got := last(); got != time.Minute {
			t.Errorf("second use at %v, want one minute", got)
		}
		if i.log.Revision() != revision {
			t.Error("a use was written to the change log")
		}
		if got := count(t, db, `SELECT COUNT(*) FROM api_keys WHERE last_used_at IS NOT NULL`); got != 1 {
			t.Errorf("%d keys used", got)
		}
	})
}

// What a failed flush could not write waits for the next, and what waits is
// bounded.
func TestFlushLastUsedOutage(t *testing.T) {
	onKeys(t, func(t *testing.T, i instance, db *database.DB) {
		key, secret := i.issue(t, New{})
		i.expect(t, "use", secret, caller.ReasonOK)
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		if err := i.FlushLastUsed(ended); err == nil {
			t.Fatal("flushed without a database")
		}
		for n := range maxUses + 500 {
			i.uses.record(&knownKey{id: fmt.Sprint(n)}, issued)
		}
		if got := len(i.uses.at); got != maxUses {
			t.Errorf("%d uses wait", got)
		}
		for n := range maxUses - 3*usesAtOnce { // some parts are enough
			delete(i.uses.at, fmt.Sprint(n))
		}
		if err := i.FlushLastUsed(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := count(t, db, `SELECT COUNT(*) FROM api_keys WHERE id = $1 AND last_used_at IS NOT NULL`, key.ID); got != 1 {
			t.Error("the use was lost")
		}
	})
}

func BenchmarkVerifyCached(b *testing.B) {
	s := NewService(nil, nil, nil, nil, clock.Real(), page.Tokens{})
	id := randomBase62(idSize)
	secret, hash := newSecret(id)
	if _, err := s.known.Get(b.Context(), id, func(context.Context) (*knownKey, error) {
		return &knownKey{id: id, userID: "owner", hash: hash}, nil
	}); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, reason, err := s.Verify(b.Context(), secret); err != nil || reason != caller.ReasonOK {
			b.Fatal(reason, err)
		}
	}
}
