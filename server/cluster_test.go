package main_test

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/apitest"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
)

// TestClusterRefreshOnce checks that of many refreshes with one token at
// several instances one succeeds, and that the session is then revoked.
func TestClusterRefreshOnce(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3)
	rounds, calls := often(5, 200), 100
	var none, more, revived, refused, busy int
	for round := range rounds {
		login := c.on(round).Login(t, "admin", adminPassword)
		statuses := make([]int, calls)
		tokens := make([]apitest.Answer, calls)
		together(calls, func(i int) {
			a, err := c.on(i).As("").Try(t.Context(), "POST", "/v1/auth/refresh", object{"refreshToken": login.Str("refreshToken")})
			if err != nil {
				t.Error(err)
			}
			statuses[i], tokens[i] = a.Status, a
		})
		won, before := 0, busy
		for i, status := range statuses {
			switch status {
			case http.StatusOK:
				won++
				for j := range c.servers {
					a := c.on(j).As("").Call(t, "POST", "/v1/auth/refresh", object{"refreshToken": tokens[i].Str("refreshToken")})
					if a.Status == http.StatusOK {
						revived++
					}
				}
			case http.StatusUnauthorized:
				refused++
			case http.StatusServiceUnavailable:
				busy++
			default:
				t.Errorf("a refresh answered %s", tokens[i].Raw)
			}
		}
		switch {
		case won == 0 && busy == before: // who was told unavailable may have won
			none++
		case won > 1:
			more++
		}
	}
	promise(t, "one token refreshed "+strconv.Itoa(calls)+" times at once at 3 instances: one success, and the session is revoked",
		none == 0 && more == 0 && revived == 0,
		"%d rounds: none succeeded in %d, more than one in %d, session alive in %d; refused %d, unavailable %d", rounds, none, more, revived, refused, busy)
}

// TestClusterLimit checks that in every window of time all instances together
// allow at most the burst and what the rate adds.
func TestClusterLimit(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3)
	const rate, burst = 50, 20
	c.on(0).Post(t, "/v1/limits", object{"name": "shared", "subject": "SUBJECT_CUSTOM", "contextKey": "who", "permission": "orders:*",
		"rate": rate, "period": "1s", "burst": burst,
		// Otherwise each instance admits by itself while Redis takes over 50 ms,
		// as it does on a machine that is busy with other tests.
		"outage": "OUTAGE_CLOSED"})
	for i := range c.servers {
		apitest.Eventually(t, "the limit is known", func() bool {
			return c.on(i).Call(t, "POST", "/v1/limits/check", object{"limit": "shared", "key": "warm", "peek": true}).Status == http.StatusOK
		})
	}
	began := time.Now()
	until := began.Add(time.Duration(often(2, 20)) * time.Second)
	each := make([][]admission, 12)
	var asked atomic.Int64
	together(len(each), func(w int) {
		for n := w; time.Now().Before(until); n++ {
			from := time.Since(began)
			a, err := c.on(n).Try(t.Context(), "POST", "/v1/limits/check", object{"limit": "shared", "key": "one"})
			if err != nil || a.Status != http.StatusOK {
				t.Errorf("a check answered %d %s, %v", a.Status, a.Raw, err)
				return
			}
			asked.Add(1)
			if a.At("allowed") == true {
				each[w] = append(each[w], admission{from, time.Since(began)})
			}
		}
	})
	all := slices.Concat(each...)
	windows, broken, tightest := fullest(all, rate, burst)
	if int(asked.Load()) < 2*len(all) {
		t.Errorf("only %d questions for %d admissions: the limit was not under pressure", asked.Load(), len(all))
	}
	promise(t, "a limit over 3 instances: in every window of length t at most burst + rate·t pass", broken == 0 && len(all) > often(0, burst),
		"%d of %d calls admitted in %s; %d windows, broken %d, the fullest at %.1f%%",
		len(all), asked.Load(), time.Since(began).Round(time.Second), windows, broken, 100*tightest)
}

// TestClusterRevocation checks that a revocation that one instance has
// acknowledged is in force on the others within the bound.
func TestClusterRevocation(t *testing.T) {
	t.Parallel()
	database := newBackends(t)
	c := startCluster(t, 3, settings(database.postgres, database.redisProxy.URL))
	n := often(20, 1000)
	bound(t, "a revocation is in force on the other instances (Redis up)", revocations(t, c, n, 4), time.Second)
	database.redisProxy.Set(t, backendtest.Refuse)
	bound(t, "a revocation is in force on the other instances (Redis down)", revocations(t, c, n, 8), time.Second)
}

// revocations signs in and out, and returns for how long after the
// acknowledgment another instance still accepted the token.
func revocations(t *testing.T, c *cluster, n, workers int) []time.Duration {
	t.Helper()
	late := make([]time.Duration, 2*n)
	shared(workers, n, func(i int) {
		token := c.on(i).As("").Insist(t, "POST", "/v1/auth/login", object{"username": "admin", "password": adminPassword}).Str("accessToken")
		for j := range c.servers { // remembered as good everywhere
			c.on(j).As(token).Insist(t, "GET", "/v1/auth/whoami", nil)
		}
		c.on(i).As(token).Insist(t, "POST", "/v1/auth/logout", object{})
		acknowledged := time.Now()
		together(2, func(other int) {
			ticker := time.NewTicker(5 * time.Millisecond)
			defer ticker.Stop()
			for {
				asked := time.Since(acknowledged)
				a, err := c.on(i+1+other).As(token).Try(t.Context(), "GET", "/v1/auth/whoami", nil)
				if err != nil || a.Status == http.StatusUnauthorized || asked > apitest.Timeout {
					late[2*i+other] = asked
					return
				}
				<-ticker.C
			}
		})
	})
	return late
}

// TestClusterReadYourWrites checks that an answer for the revision of a write
// is at least as new as the write, at every instance.
func TestClusterReadYourWrites(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3)
	mia := c.on(0).NewUser(t, "mia", "a password of mia")
	c.on(0).Post(t, "/v1/roles", object{"name": "packer", "permissions": []string{"orders:pack"}})
	writes, stale := often(30, 500), 0
	var revision string
	for i := range writes {
		assign := i%2 == 0
		var a apitest.Answer
		if assign {
			a = c.on(i).Insist(t, "PUT", "/v1/roles/packer/members/"+mia, object{})
		} else {
			a = c.on(i).Insist(t, "DELETE", "/v1/roles/packer/members/"+mia, nil)
		}
		revision = a.Str("revision")
		if revision == "" {
			t.Fatalf("a write returned no revision: %s", a.Raw)
		}
		for j := range c.servers {
			d := c.on(i+j).Insist(t, "POST", "/v1/authorize", object{"userId": mia, "permission": "orders:pack", "minRevision": revision})
			if allowed := d.At("allowed") == true; allowed != assign {
				stale++
			}
		}
	}
	promise(t, "an answer with min_revision is as new as the write, at every instance", stale == 0,
		"%d writes, each asked about at 3 instances at once: %d stale answers", writes, stale)

	newest, err := strconv.Atoi(revision)
	backendtest.Must(t, err)
	a := c.on(1).Call(t, "POST", "/v1/authorize", object{"userId": mia, "permission": "orders:pack", "minRevision": strconv.Itoa(newest + 1000)})
	if a.Status != http.StatusServiceUnavailable || a.Reason() != "REVISION_NOT_REACHED" || a.Header.Get("Retry-After") == "" {
		t.Errorf("a revision of the future: %d %s", a.Status, a.Raw)
	}
}

// TestClusterStartsAtOnce checks that instances that start together on an empty
// database create one schema, one key and one administrator.
func TestClusterStartsAtOnce(t *testing.T) {
	t.Parallel()
	n := often(4, 10)
	database := newBackends(t)
	env := settings(database.postgres, database.redis)
	if _, err := tollgateBinary(); err != nil {
		t.Fatal(err)
	}
	processes := make([]*process, n)
	for i := range processes {
		processes[i] = run(t, tollgateBinary, t.TempDir(), env, "", "--listen", "127.0.0.1:0", "--metrics-listen=")
	}
	var tokens []string
	clients := make([]apitest.Client, n)
	for i, p := range processes {
		clients[i] = apitest.New(t, p.says(t, greeting)[1])
		tokens = append(tokens, clients[i].Login(t, "admin", adminPassword).Str("accessToken"))
	}
	good, keys := 0, map[string]bool{}
	for _, c := range clients {
		keys[string(c.Get(t, "/.well-known/jwks.json").Raw)] = true
		for _, token := range tokens {
			if c.As(token).Call(t, "GET", "/v1/auth/whoami", nil).Status == http.StatusOK {
				good++
			}
		}
	}
	var sets []string
	for set := range keys {
		sets = append(sets, set)
	}
	admins := len(clients[0].As(tokens[0]).All(t, "/v1/users?", "users"))
	made := len(clients[0].As(tokens[0]).Events(t, "action=user.create"))
	one := len(sets) == 1 && strings.Count(sets[0], `"kid"`) == 1
	promise(t, fmt.Sprintf("%d instances started at once on an empty PostgreSQL: one schema, one signing key, one administrator, all serve", n),
		one && admins == 1 && made == 1 && good == n*n,
		"key sets %d with %d keys, users %d, events of their making %d, tokens good at instances %d of %d",
		len(sets), strings.Count(strings.Join(sets, ""), `"kid"`), admins, made, good, n*n)
}
