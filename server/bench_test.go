package main_test

import (
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"testing"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/backendtest"
)

// benchSize is how much to measure.
type benchSize struct {
	rounds int           // of each case; their median counts
	each   time.Duration // of one load; 0: only judge the answers to each request
	all    bool          // every operation over every wire
	bcrypt int           // cost of passwords
	routes int
	cold   int // users that are each used once
	turns  int // of the cold users

	// Of the curves: how many roles there are, and points on the axes.
	roles               int
	users, keys, events []int
	pointRounds         int // of keys and events
}

var benchSizes = map[string]benchSize{
	"": {rounds: 1, all: true, bcrypt: 4, routes: 10, cold: 10, turns: 1,
		roles: 10, users: []int{5, 10}, keys: []int{5, 10}, events: []int{200, 400}, pointRounds: 1},
	"quick": {rounds: 3, each: 500 * time.Millisecond, bcrypt: 12, routes: 100, cold: 60_000, turns: 3,
		roles: 10_000, users: []int{100, 10_000, 1_000_000}, keys: []int{100, 10_000, 100_000}, events: []int{10_000, 100_000}, pointRounds: 1},
	"full": {rounds: 5, each: 2 * time.Second, all: true, bcrypt: 12, routes: 1000, cold: 200_000, turns: 10,
		roles: 10_000, users: powers(2, 6), keys: powers(2, 6), events: powers(4, 6), pointRounds: 3},
}

// powers are those of ten.
func powers(from, to int) (list []int) {
	for n, x := 0, 1; n <= to; n, x = n+1, x*10 {
		if n >= from {
			list = append(list, x)
		}
	}
	return list
}

// TestBench is "make bench" when TOLLGATE_BENCH is "quick" or "full". Without it
// the same requests are sent once each, and their answers judged.
func TestBench(t *testing.T) {
	size, known := benchSizes[os.Getenv("TOLLGATE_BENCH")]
	if !known {
		t.Fatalf(`TOLLGATE_BENCH must be "quick" or "full"`)
	}
	if size.each == 0 {
		t.Parallel()
	}
	ctx, stop := signal.NotifyContext(t.Context(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	h1 := &http.Transport{MaxIdleConnsPerHost: benchCallers}
	t.Cleanup(h1.CloseIdleConnections)
	b := &bench{benchSize: size, ctx: ctx, null: newNullServer(t), dir: t.TempDir(), http1: &http.Client{Transport: h1}, h2: h2c(t), began: time.Now()}
	b.busy, _ = os.ReadFile("/proc/loadavg")
	wires := []wire{overREST, overConnect, overConnectH2, overGRPC, overGRPCListener, overForwarding}
	none := new(measured)
	b.total = b.loads(none.operations(), wires) + b.loads(none.stored(), wires) + b.sdkLoads() + b.curveLoads()

	var f figures
	for _, part := range []struct {
		name    string
		measure func(*testing.T)
	}{
		{"embedded", func(t *testing.T) {
			m := newMeasured(t, b.benchSize, backendtest.SQLiteURL(t), "")
			f.embedded = b.section(t, m.operations(), wires, m)
			f.sdk = b.sdk(t, m)
		}},
		{"backends", func(t *testing.T) {
			m := newMeasured(t, b.benchSize, backendtest.PostgreSQLURL(t), backendtest.EmptyRedisURL(t))
			f.backends = b.section(t, m.stored(), wires, m)
		}},
		{"users", func(t *testing.T) { f.curves = append(f.curves, b.byUsers(t)) }},
		{"keys", func(t *testing.T) { f.curves = append(f.curves, b.byKeys(t)) }},
		{"events", func(t *testing.T) { f.curves = append(f.curves, b.byEvents(t)) }},
		{"memory", func(t *testing.T) { f.principal = b.principals(t) }},
	} {
		if !t.Run(part.name, part.measure) {
			return
		}
	}
	b.report(t, f)
}
