package main_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/apitest"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
)

// packSize is how many events a batch of the ledger's has.
const packSize = 20

// ledger records what a cluster acknowledged, by resource.
type ledger struct {
	mu          sync.Mutex
	users       map[string]string // id -> name
	deleted     map[string]bool   // users whose deletion was acknowledged
	roles       map[string]bool
	recorded    map[string]bool // ids of events of a downstream service
	packs       map[string]bool // resources of a downstream service's batches of events
	chains      []*chain
	acted, read atomic.Int64
	unavailable atomic.Int64
}

// chain is a session that is refreshed again and again.
type chain struct {
	session, refresh string
	refreshed        int
}

// workers starts workers that write and read at the servers that run.
func (l *ledger) workers(t *testing.T, c *roster, w *workers) {
	post := func(i int, method, path string, body any) (apitest.Answer, bool) {
		to, ok := c.pick(i)
		if !ok {
			return apitest.Answer{}, false
		}
		a, err := to.Try(context.Background(), method, path, body)
		switch {
		case err != nil:
			return a, false
		case a.Status == http.StatusServiceUnavailable:
			l.unavailable.Add(1)
		case a.Status == http.StatusOK, a.Status == http.StatusForbidden:
			return a, true
		default:
			t.Errorf("%s %s: %d %s", method, path, a.Status, a.Raw)
		}
		return a, false
	}
	did := func(do func()) {
		l.mu.Lock()
		defer l.mu.Unlock()
		do()
		l.acted.Add(1)
	}
	for side := range 4 {
		w.work(15*time.Millisecond, func(i int) {
			name := fmt.Sprintf("user-%d-%d", side, i)
			made, ok := post(i+side, "POST", "/v1/users", object{"username": name, "kind": "USER_KIND_SERVICE"})
			if !ok {
				return
			}
			id := made.Str("user", "id")
			did(func() { l.users[id] = name })
			if i%3 != 0 {
				return
			}
			if _, ok := post(i+side+1, "DELETE", "/v1/users/"+id, nil); ok {
				did(func() { l.deleted[id] = true })
			} else {
				did(func() { delete(l.users, id) }) // it may be deleted
			}
		})
		w.work(25*time.Millisecond, func(i int) {
			name := fmt.Sprintf("role-%d-%d", side, i)
			if _, ok := post(i+side, "POST", "/v1/roles", object{"name": name, "permissions": []string{"orders:read"}}); ok {
				did(func() { l.roles[name] = true })
			}
		})
		w.work(25*time.Millisecond, func(i int) {
			a, ok := post(i+side, "POST", "/v1/audit/events", object{"action": "orders.ship", "resource": fmt.Sprintf("orders/%d-%d", side, i), "outcome": "OUTCOME_SUCCESS"})
			if ok {
				did(func() { l.recorded[a.Str("event", "id")] = true })
			}
		})
		w.work(30*time.Millisecond, func(i int) {
			name := fmt.Sprintf("packs/%d-%d", side, i)
			events := slices.Repeat([]object{{"action": "orders.pack", "resource": name, "outcome": "OUTCOME_SUCCESS"}}, packSize)
			if _, ok := post(i+side, "POST", "/v1/audit/events/batch", object{"events": events}); ok {
				did(func() { l.packs[name] = true })
			}
		})
		w.work(8*time.Millisecond, func(i int) {
			if _, ok := post(i+side, "POST", "/v1/authorize", object{"accessToken": c.admin, "permission": "orders:read"}); ok {
				l.read.Add(1)
			}
		})
	}
	for n, chain := range l.chains {
		w.work(20*time.Millisecond, func(i int) {
			if chain.refresh == "" {
				return
			}
			to, ok := c.pick(i + n)
			if !ok {
				return
			}
			a, err := to.As("").Try(context.Background(), "POST", "/v1/auth/refresh", object{"refreshToken": chain.refresh})
			switch {
			case err == nil && a.Status == http.StatusOK:
				chain.refresh, chain.refreshed = a.Str("refreshToken"), chain.refreshed+1
				l.acted.Add(1)
			case err == nil && a.Status == http.StatusServiceUnavailable && a.Reason() != "DEPENDENCY_DOWN":
				l.unavailable.Add(1)
			default:
				chain.unsure() // it may have happened
			}
		})
	}
}

// unsure marks that the outcome of the last refresh is unknown; check finds it
// out.
func (c *chain) unsure() { c.session, c.refresh = c.session+"?", "" }

// roster lists the servers that run.
type roster struct {
	mu      sync.Mutex
	servers []*tollgate
	admin   string
}

func (r *roster) pick(i int) (apitest.Client, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.servers[i%len(r.servers)]
	select {
	case <-s.exited:
		return apitest.Client{}, false
	default:
		return s.Client, true
	}
}

func (r *roster) replace(i int, s *tollgate) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.servers[i] = s
}

func newLedger(t *testing.T, c apitest.Client) *ledger {
	l := &ledger{users: map[string]string{}, deleted: map[string]bool{}, roles: map[string]bool{}, recorded: map[string]bool{}, packs: map[string]bool{}}
	for range 4 {
		login := c.Login(t, "admin", adminPassword)
		l.chains = append(l.chains, &chain{session: login.Str("sessionId"), refresh: login.Str("refreshToken")})
	}
	return l
}

// check counts acknowledged changes that are lost or not in the audit log, and
// changes in the audit log that did not happen.
func (l *ledger) check(t *testing.T, s apitest.Client) (lost, silent, untrue int) {
	t.Helper()
	events := func(action string) map[string]int {
		found := map[string]int{}
		for _, e := range s.Events(t, "action="+action+"&outcome=OUTCOME_SUCCESS") {
			resource, _ := e["resource"].(string)
			found[resource]++
		}
		return found
	}
	created, removed, roles := events("user.create"), events("user.delete"), events("role.create")
	there := map[string]bool{}
	for _, u := range s.All(t, "/v1/users?", "users") {
		id := u["id"].(string)
		there[id] = true
		if created["users/"+id] != 1 {
			silent++
		}
	}
	for id := range l.users {
		if there[id] == l.deleted[id] {
			lost++
		}
		if created["users/"+id] != 1 || l.deleted[id] && removed["users/"+id] != 1 {
			silent++
		}
	}
	for resource := range created {
		if id := strings.TrimPrefix(resource, "users/"); !there[id] && removed[resource] == 0 {
			untrue++
		}
	}
	for resource := range removed {
		if there[strings.TrimPrefix(resource, "users/")] {
			untrue++
		}
	}
	known := map[string]bool{}
	for _, r := range s.All(t, "/v1/roles?", "roles") {
		known[r["name"].(string)] = true
	}
	for name := range l.roles {
		if !known[name] {
			lost++
		}
		if roles["roles/"+name] != 1 {
			silent++
		}
	}
	for resource := range roles {
		if !known[strings.TrimPrefix(resource, "roles/")] {
			untrue++
		}
	}
	ids := map[string]bool{}
	for _, e := range s.Events(t, "action=orders.ship") {
		ids[e["id"].(string)] = true
	}
	for id := range l.recorded {
		if !ids[id] {
			silent++
		}
	}
	packs := events("orders.pack")
	for name := range l.packs {
		if packs[name] != packSize {
			silent++
		}
	}
	for _, n := range packs {
		if n != packSize { // a batch is written as a whole
			untrue++
		}
	}
	for _, c := range l.chains {
		session, unsure := strings.CutSuffix(c.session, "?")
		recorded := len(s.Events(t, "action=auth.refresh&outcome=OUTCOME_SUCCESS&resource=sessions/"+session))
		switch {
		case recorded < c.refreshed:
			silent++
		case recorded > c.refreshed+1, !unsure && recorded > c.refreshed:
			untrue++
		case !unsure:
			if a := s.As("").Call(t, "POST", "/v1/auth/refresh", object{"refreshToken": c.refresh}); a.Status != http.StatusOK {
				lost++
			}
		}
	}
	return lost, silent, untrue
}

// TestChaosKillServers checks that killed servers lose no acknowledged change
// and record none that did not happen.
func TestChaosKillServers(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3)
	l := newLedger(t, c.on(0))
	r := &roster{servers: append([]*tollgate(nil), c.servers...), admin: c.admin}
	w := newWorkers(t)
	began := time.Now()
	l.workers(t, r, w)
	kills := often(2, 50)
	for n := range kills {
		before := l.acted.Load()
		apitest.Eventually(t, "work goes on", func() bool { return l.acted.Load() > before+20 })
		r.servers[n%len(r.servers)].kill(t)
		r.replace(n%len(r.servers), c.add(t))
	}
	w.end()
	took := time.Since(began)
	l.judge(t, fmt.Sprintf("kill -9 of an instance, %d times", kills), r.servers[0].Client, took)
}

// TestChaosKillPostgreSQL checks that killing PostgreSQL loses no acknowledged
// change.
func TestChaosKillPostgreSQL(t *testing.T) {
	t.Parallel()
	m := newKillable(t)
	c := startCluster(t, 3, settings(m.url, backendtest.EmptyRedisURL(t)))
	l := newLedger(t, c.on(0))
	r := &roster{servers: c.servers, admin: c.admin}
	w := newWorkers(t)
	began := time.Now()
	l.workers(t, r, w)
	kills := often(1, 5)
	var back []time.Duration
	for range kills {
		before := l.acted.Load()
		apitest.Eventually(t, "work goes on", func() bool { return l.acted.Load() > before+20 })
		m.kill(t)
		down := l.unavailable.Load()
		apitest.Eventually(t, "the servers say that it is down", func() bool { return l.unavailable.Load() > down })
		m.start(t)
		up, before := time.Now(), l.acted.Load()
		apitest.Eventually(t, "work goes on after PostgreSQL is back", func() bool { return l.acted.Load() > before })
		back = append(back, time.Since(up))
	}
	w.end()
	took := time.Since(began)
	bound(t, "work goes on after PostgreSQL is back, without a restart", back, 5*time.Second)
	l.judge(t, fmt.Sprintf("kill -9 of PostgreSQL, %d times", kills), r.servers[0].Client, took)
}

func (l *ledger) judge(t *testing.T, what string, s apitest.Client, took time.Duration) {
	t.Helper()
	lost, silent, untrue := l.check(t, s)
	rate := float64(l.acted.Load()+l.read.Load()) / took.Seconds()
	promise(t, what+": what was acknowledged has its effect and its event, and no event stands without its effect",
		lost+silent+untrue == 0 && l.acted.Load() > 0,
		"%d writes and %d decisions acknowledged in %s (%.0f/s), %d unavailable: lost %d, not recorded %d, recorded but not so %d",
		l.acted.Load(), l.read.Load(), took.Round(time.Second), rate, l.unavailable.Load(), lost, silent, untrue)
}
