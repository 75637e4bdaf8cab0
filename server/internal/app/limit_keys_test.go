package app

import (
	"net/http"
	"strings"
	"testing"

	"github.com/tollgatehq/tollgate/server/internal/apitest"
)

// TestLimitKeysOfUsers: a user's key may be written as the id or the name,
// whichever of the two the limit counts.
func TestLimitKeysOfUsers(t *testing.T) {
	i := startEmbedded(t)
	admin := i.As(i.admin)
	limit := func(name, permission string) string {
		admin.Post(t, "/v1/limits", apitest.Object{
			"name": name, "subject": "SUBJECT_USER", "permission": permission, "rate": 3, "period": "600s",
		})
		return name
	}
	id := admin.NewUser(t, "Ann", "a password of ann")
	i.login(t, "ann")
	few, wide := limit("few", "orders:*"), limit("wide", "tollgate:*")
	attempt := func() int {
		return i.call(t, "POST", "/v1/auth/login", "", apitest.Object{"username": "ann", "password": "a wrong one"}).Status
	}
	use := func(limit, key string) {
		admin.Post(t, "/v1/limits/check", apitest.Object{"limit": limit, "key": key})
	}
	used := func(limit, key string) bool {
		a := admin.Post(t, "/v1/limits/check", apitest.Object{"limit": limit, "key": key, "peek": true})
		return a.Str("status", "remaining") != a.Str("status", "limit")
	}
	reset := func(limit, key string, status int) string {
		return admin.Call(t, "POST", "/v1/limits/"+limit+"/reset", apitest.Object{"key": key}).Want(t, status).Str("message")
	}

	attempt()
	for _, key := range []string{id, "ann", " ANN"} {
		for _, c := range []struct{ limit, counts string }{
			{"sign-in-per-user", "ann"}, {"second-factor-per-user", "ann"}, {few, id}, {wide, id}, {wide, "ann"},
		} {
			use(c.limit, c.counts)
			reset(c.limit, key, http.StatusOK)
			if used(c.limit, c.counts) {
				t.Errorf("%s of %s: the reset of %q left what was counted", c.limit, c.counts, key)
			}
		}
		use("sign-in-per-user-and-ip", "ann@192.0.2.7")
		reset("sign-in-per-user-and-ip", key+"@::ffff:192.0.2.7", http.StatusOK)
		if used("sign-in-per-user-and-ip", "ann@192.0.2.7") {
			t.Errorf("the reset of %q at an address left what was counted", key)
		}
	}
	if said := reset(few, "anna", http.StatusNotFound); !strings.Contains(said, `"anna"`) {
		t.Errorf("a reset of no user: %s", said)
	}
	use(few, "a key of one's own")
	reset(few, "a key of one's own", http.StatusOK)

	for _, c := range []struct{ limit, key, want string }{
		{few, "ann", id}, {few, id, id}, {wide, "ANN", "ann"}, {wide, id, id},
		{"sign-in-per-user", id, "ann"}, {"sign-in-per-user-and-ip", id + "@192.0.2.7", "ann@192.0.2.7"},
	} {
		path := "/v1/limits/" + c.limit
		admin.Patch(t, path, apitest.Object{"overrides": []apitest.Object{{"key": c.key, "rate": 50}}})
		if got := admin.Get(t, path).List("limit", "overrides")[0]["key"]; got != c.want {
			t.Errorf("%s: an override for %q is one for %v, want %s", c.limit, c.key, got, c.want)
		}
	}
	refused := admin.Call(t, "PATCH", "/v1/limits/few", apitest.Object{"overrides": []apitest.Object{{"key": "user99", "rate": 50}}}).
		Want(t, http.StatusBadRequest)
	if said := refused.Str("message"); !strings.HasPrefix(said, "overrides[0].key: ") {
		t.Errorf("an override for no user: %s", said)
	}
	admin.Call(t, "PATCH", "/v1/limits/few", apitest.Object{"overrides": []apitest.Object{{"key": "ann", "rate": 5}, {"key": id, "rate": 6}}}).
		Want(t, http.StatusBadRequest)

	admin.Call(t, "DELETE", "/v1/limits/wide", nil).Want(t, http.StatusOK)

	// One whose user has gone may stay, and be given again.
	admin.Call(t, "DELETE", "/v1/users/"+id, nil).Want(t, http.StatusOK)
	admin.Patch(t, "/v1/limits/few", apitest.Object{"description": "for orders"})
	admin.Patch(t, "/v1/limits/few", apitest.Object{"overrides": []apitest.Object{{"key": id, "rate": 60}}})
}

// TestLimitKeysWithoutUsersRead: who may manage limits and not read users finds
// out neither who exists nor anybody's id.
func TestLimitKeysWithoutUsersRead(t *testing.T) {
	i := startEmbedded(t)
	admin := i.As(i.admin)
	admin.NewUser(t, "ann", "a password of ann")
	admin.Post(t, "/v1/roles", apitest.Object{"name": "limiter", "permissions": []string{"tollgate:limits:*"}})
	admin.NewUser(t, "mallory", "a password of mallory", "limiter")
	mallory := i.As(i.login(t, "mallory"))
	for _, key := range []string{"ann", "nobody"} {
		mallory.Post(t, "/v1/limits", apitest.Object{"name": "few-" + key, "subject": "SUBJECT_USER", "permission": "orders:*",
			"rate": 3, "period": "60s", "overrides": []apitest.Object{{"key": key, "rate": 5}}})
		if got := mallory.Get(t, "/v1/limits/few-"+key).List("limit", "overrides")[0]["key"]; got != key {
			t.Errorf("the override for %q is one for %v", key, got)
		}
		mallory.Call(t, "POST", "/v1/limits/few-"+key+"/reset", apitest.Object{"key": key}).Want(t, http.StatusOK)
	}
}

// TestBurstFollowsRate: a burst that is the rate stays so when the rate changes;
// any other stays what it is.
func TestBurstFollowsRate(t *testing.T) {
	i := startEmbedded(t)
	admin := i.As(i.admin)
	for _, c := range []struct {
		burst int
		edit  apitest.Object
		want  string
	}{
		{0, apitest.Object{"rate": 100}, "100"},
		{30, apitest.Object{"rate": 100}, "100"},
		{30, apitest.Object{"rate": 10}, "10"},
		{60, apitest.Object{"rate": 100}, "60"},
		{10, apitest.Object{"rate": 100}, "10"},
		{30, apitest.Object{"rate": 100, "burst": 30}, "30"},
		{60, apitest.Object{"burst": 0}, "30"},
		{60, apitest.Object{"rate": 100, "burst": 0}, "100"},
	} {
		admin.Post(t, "/v1/limits", apitest.Object{"name": "few", "subject": "SUBJECT_USER", "permission": "orders:*",
			"rate": 30, "period": "60s", "burst": c.burst})
		if got := admin.Patch(t, "/v1/limits/few", c.edit).Str("limit", "burst"); got != c.want {
			t.Errorf("burst %d, rate 30, then %v: burst %s, want %s", c.burst, c.edit, got, c.want)
		}
		admin.Call(t, "DELETE", "/v1/limits/few", nil).Want(t, http.StatusOK)
	}
}
