package main_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/apitest"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
)

// chaos is whether this is the full run, "make chaos". Without it the same
// tests run with small numbers and do not judge times.
var chaos = os.Getenv("TOLLGATE_CHAOS") != ""

// often returns how many times to repeat something, in a short and in the full
// run.
func often(short, full int) int {
	if chaos {
		return full
	}
	return short
}

// promise writes a row of the table that "make chaos" prints, and fails the
// test when the promise is broken.
func promise(t *testing.T, what string, kept bool, format string, args ...any) {
	t.Helper()
	measured, verdict := fmt.Sprintf(format, args...), "kept"
	if !kept {
		verdict = "BROKEN"
		t.Errorf("broken: %s: %s", what, measured)
	}
	t.Logf("%s: %s", what, measured)
	file := os.Getenv("TOLLGATE_CHAOS_TABLE")
	if file == "" {
		return
	}
	table, err := os.OpenFile(file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	backendtest.Must(t, err)
	defer table.Close()
	fmt.Fprintf(table, "| %s | %s | %s |\n", what, measured, verdict)
}

// bound is promise for an upper bound on times, which only the full run judges.
func bound(t *testing.T, what string, measured []time.Duration, most time.Duration) {
	t.Helper()
	d := spread(measured)
	promise(t, what, !chaos || d.max <= most, "%s (bound %s)", d, most)
}

// distribution summarizes times.
type distribution struct {
	n             int
	p50, p99, max time.Duration
}

func spread(times []time.Duration) distribution {
	if len(times) == 0 {
		return distribution{}
	}
	sorted := slices.Sorted(slices.Values(times))
	n := len(sorted)
	return distribution{n, sorted[n/2], sorted[n*99/100], sorted[n-1]}
}

func (d distribution) String() string {
	short := func(t time.Duration) string { return t.Round(10 * time.Microsecond).String() }
	return fmt.Sprintf("n %d, p50 %s, p99 %s, max %s", d.n, short(d.p50), short(d.p99), short(d.max))
}

// cluster is a number of servers on one PostgreSQL and one Redis.
type cluster struct {
	env     []string
	servers []*tollgate
	admin   string // an access token, good at each
}

// settings returns the environment that the servers of a cluster share.
func settings(database, redis string, further ...string) []string {
	return append([]string{
		"TOLLGATE_DATABASE_URL=" + database, "TOLLGATE_REDIS_URL=" + redis,
		"TOLLGATE_MASTER_KEY=" + base64.StdEncoding.EncodeToString([]byte("a master key for tests, 32 bytes")),
		"TOLLGATE_ADMIN_PASSWORD=" + adminPassword,
	}, further...)
}

// newCluster starts n servers on an empty PostgreSQL schema and an empty Redis,
// without limits on sign-ins.
func newCluster(t *testing.T, n int, further ...string) *cluster {
	t.Helper()
	return startCluster(t, n, settings(backendtest.PostgreSQLURL(t), backendtest.EmptyRedisURL(t), further...))
}

func startCluster(t *testing.T, n int, env []string) *cluster {
	t.Helper()
	c := &cluster{env: env}
	for range n {
		c.add(t)
	}
	c.admin = c.on(0).Login(t, "admin", adminPassword).Str("accessToken")
	for _, s := range c.servers {
		s.Token = c.admin
	}
	for _, limit := range []string{"sign-in-per-ip", "sign-in-per-user", "sign-in-per-user-and-ip", "anonymous-refusals-per-ip"} {
		c.on(0).Patch(t, "/v1/limits/"+limit, object{"rate": 1000000, "burst": 1000000})
	}
	return c
}

// add starts another server.
func (c *cluster) add(t *testing.T) *tollgate {
	t.Helper()
	s := serve(t, t.TempDir(), c.env...)
	s.Token = c.admin
	c.servers = append(c.servers, s)
	return s
}

// on returns the client of server i modulo the number of servers.
func (c *cluster) on(i int) apitest.Client { return c.servers[i%len(c.servers)].Client }

// together calls do n times, all at the same time.
func together(n int, do func(i int)) {
	var all sync.WaitGroup
	start := make(chan struct{})
	for i := range n {
		all.Go(func() {
			<-start
			do(i)
		})
	}
	close(start)
	all.Wait()
}

// shared calls do for the numbers below n, shared by a number of workers.
func shared(workers, n int, do func(i int)) {
	numbers := make(chan int)
	go func() {
		defer close(numbers)
		for i := range n {
			numbers <- i
		}
	}()
	together(workers, func(int) {
		for i := range numbers {
			do(i)
		}
	})
}

// workers run until end.
type workers struct {
	stop context.CancelFunc
	ctx  context.Context
	all  sync.WaitGroup
}

func newWorkers(t *testing.T) *workers {
	ctx, stop := context.WithCancel(context.Background())
	c := &workers{stop: stop, ctx: ctx}
	t.Cleanup(c.end)
	return c
}

// work starts a worker that calls do again and again, once per interval.
func (c *workers) work(every time.Duration, do func(i int)) {
	c.all.Go(func() {
		ticker := time.NewTicker(max(every, 1))
		defer ticker.Stop()
		for i := 0; ; i++ {
			select {
			case <-c.ctx.Done():
				return
			case <-ticker.C:
				do(i)
			}
		}
	})
}

func (c *workers) end() {
	c.stop()
	c.all.Wait()
}
