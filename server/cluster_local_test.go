package main_test

import (
	"log/slog"
	"strconv"
	"testing"
	"time"

	sdk "github.com/tollgatehq/tollgate/sdk"
	"github.com/tollgatehq/tollgate/server/internal/apitest"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
)

// TestClusterLocalDecisions checks that services that decide calls by themselves, each
// at another instance, refuse what was taken away within the bound.
func TestClusterLocalDecisions(t *testing.T) {
	t.Parallel()
	database := newBackends(t)
	l := newLocalCluster(t, startCluster(t, 3, settings(database.postgres, database.redisProxy.URL, "TOLLGATE_ACCESS_TOKEN_TTL=2h")))
	n := often(takings, 1002)
	bound(t, "a change refuses a call that was decided in the caller before (Redis up)", l.changes(t, n), time.Second)
	database.redisProxy.Set(t, backendtest.Refuse)
	bound(t, "a change refuses a call that was decided in the caller before (Redis down)", l.changes(t, n), time.Second)
}

// localCluster is a cluster with a service at each instance, and a user.
type localCluster struct {
	*cluster
	services []*sdk.Client
	mia      string
}

func newLocalCluster(t *testing.T, c *cluster) *localCluster {
	t.Helper()
	l := &localCluster{cluster: c}
	id := c.on(0).Post(t, "/v1/users", object{"username": "orders", "kind": "USER_KIND_SERVICE"}).Str("user", "id")
	c.on(0).Post(t, "/v1/roles", object{"name": "decides", "permissions": []string{"tollgate:authorize", "tollgate:policy:watch"}})
	c.on(0).Assign(t, "decides", id)
	key := c.on(0).Post(t, "/v1/api-keys", object{"name": "orders", "userId": id}).Str("secret")
	l.mia = c.on(0).NewUser(t, "mia", "a password of mia")
	c.on(0).Post(t, "/v1/roles", object{"name": "packer", "permissions": []string{"orders:pack"}})
	for _, s := range c.servers {
		client, err := sdk.New(s.URL, sdk.WithAPIKey(key), sdk.WithTimeout(10*time.Second), sdk.WithLogger(slog.New(slog.DiscardHandler)),
			sdk.WithLocalDecisions(sdk.LocalConfig{}))
		backendtest.Must(t, err)
		t.Cleanup(client.Close)
		l.services = append(l.services, client)
	}
	l.inForce(t, c.on(0).Insist(t, "PUT", "/v1/roles/packer/members/"+l.mia, object{}))
	return l
}

// inForce waits until every service decides by a write.
func (l *localCluster) inForce(t *testing.T, written apitest.Answer) {
	t.Helper()
	revision, err := strconv.ParseInt(written.Str("revision"), 10, 64)
	backendtest.Must(t, err)
	for _, s := range l.services {
		backendtest.Must(t, s.WaitPolicy(t.Context(), revision))
	}
}

// taking is one way to take a call away, and to give it back; the former ends by
// itself.
type taking struct {
	what           string
	take, giveBack func(t *testing.T, at apitest.Client) apitest.Answer // giveBack may be nil
	key            bool                                                 // of a caller with an API key
}

const takings = 6

// taking is the i-th, for the caller with this session or key.
func (l *localCluster) taking(i int, session, key string) taking {
	call := func(method, path string, body any) func(t *testing.T, at apitest.Client) apitest.Answer {
		return func(t *testing.T, at apitest.Client) apitest.Answer { return at.Insist(t, method, path, body) }
	}
	mia := "/v1/users/" + l.mia
	return [takings]taking{
		{"a session", call("DELETE", mia+"/sessions/"+session, nil), nil, false},
		{"an API key", call("DELETE", "/v1/api-keys/"+key, nil), nil, true},
		{"a role", call("DELETE", "/v1/roles/packer/members/"+l.mia, nil), call("PUT", "/v1/roles/packer/members/"+l.mia, object{}), false},
		{"a user", call("PATCH", mia, object{"disabled": true}), call("PATCH", mia, object{"disabled": false}), true},
		{
			"a deny", call("PATCH", "/v1/roles/packer", object{"grants": []object{{"permission": "orders:*", "effect": "EFFECT_DENY"}}}),
			call("PATCH", "/v1/roles/packer", object{"clearGrants": true}), false,
		},
		{
			"a limit", call("POST", "/v1/limits", object{"name": "none", "permission": "orders:*", "subject": "SUBJECT_GLOBAL", "rate": 1, "period": "86400s", "algorithm": "ALGORITHM_FIXED_WINDOW"}),
			call("DELETE", "/v1/limits/none", nil), true,
		},
	}[i%takings]
}

// changes takes something away n times, and returns after how long each service
// refused.
func (l *localCluster) changes(t *testing.T, n int) []time.Duration {
	t.Helper()
	late := make([]time.Duration, n*len(l.services))
	for i := range n {
		login := l.on(i).Login(t, "mia", "a password of mia")
		made := l.on(i).Insist(t, "POST", "/v1/api-keys", object{"name": "k", "userId": l.mia})
		taken := l.taking(i, login.Str("sessionId"), made.Str("apiKey", "id"))
		call := sdk.AuthorizeRequest{Credential: login.Str("accessToken"), Permission: "orders:pack"}
		if taken.key {
			call.Credential = made.Str("secret")
		}
		l.inForce(t, made)
		for _, s := range l.services {
			for range 2 { // the second is decided there
				d, err := s.Authorize(t.Context(), call)
				if err != nil || !d.Allowed {
					t.Fatalf("before %s was taken away: %+v, %v", taken.what, d, err)
				}
			}
		}
		written := taken.take(t, l.on(i+1))
		acknowledged := time.Now()
		together(len(l.services), func(j int) {
			again := time.NewTicker(time.Millisecond)
			defer again.Stop()
			for ; ; <-again.C {
				asked := time.Since(acknowledged)
				d, err := l.services[j].Authorize(t.Context(), call)
				if err == nil && !d.Allowed || asked > apitest.Timeout {
					late[i*len(l.services)+j] = asked
					return
				}
			}
		})
		if taken.giveBack != nil {
			written = taken.giveBack(t, l.on(i+2))
		}
		l.inForce(t, written)
		l.on(i).Insist(t, "DELETE", "/v1/users/"+l.mia+"/sessions", nil)
		if taken.what != "an API key" {
			l.on(i).Insist(t, "DELETE", "/v1/api-keys/"+made.Str("apiKey", "id"), nil)
		}
	}
	return late
}
