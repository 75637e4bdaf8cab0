package main_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/tollgatehq/tollgate/server/internal/apitest"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"golang.org/x/term"
)

// bench is one run of everything.
type bench struct {
	benchSize
	ctx         context.Context
	null        nullServer
	http1, h2   *http.Client
	dir         string
	done, total int // loads
	began       time.Time
	busy        []byte // the machine's load averages at the start
}

// sample is one load: what its generator saw and what it took of the server.
type sample struct {
	loaded
	cpu time.Duration // of the server, for one request
	own time.Duration // of the driver, for one request, if it is in this process

	scripts float64 // that Redis ran, for one request

	null *sample // that of the same wire, measured just before
}

func (s sample) rate() float64 { return float64(s.requests) / s.elapsed.Seconds() }

// row is a line of a table.
type row struct {
	wire, name string
	samples    []sample
}

// median is that of one figure of all samples.
func (r *row) median(figure func(sample) float64) float64 {
	var values []float64
	for _, s := range r.samples {
		values = append(values, figure(s))
	}
	slices.Sort(values)
	switch n := len(values); {
	case n == 0:
		return 0
	case n%2 == 0:
		return (values[n/2-1] + values[n/2]) / 2
	default:
		return values[n/2]
	}
}

// step says on standard error what is measured next, and how long the rest takes.
func (b *bench) step(format string, args ...any) {
	if b.each == 0 {
		return
	}
	left := "?"
	if b.done > 0 {
		left = (time.Since(b.began) / time.Duration(b.done) * time.Duration(max(0, b.total-b.done))).Round(time.Second).String()
	}
	line := fmt.Sprintf("%d of %d, %s left: %s", b.done+1, b.total, left, fmt.Sprintf(format, args...))
	if term.IsTerminal(int(os.Stderr.Fd())) {
		fmt.Fprintf(os.Stderr, "\r\x1b[K%.110s", line)
	} else {
		fmt.Fprintln(os.Stderr, line)
	}
	b.done++
}

// measure puts a server under a load and reads what it took of the server.
func (b *bench) measure(t *testing.T, pid int, load func() (loaded, error)) sample {
	t.Helper()
	before, err := cpuTime(pid)
	backendtest.Must(t, err)
	own, err := cpuTime(os.Getpid())
	backendtest.Must(t, err)
	l, err := load()
	if b.ctx.Err() != nil {
		t.Fatal("stopped")
	}
	backendtest.Must(t, err)
	after, err := cpuTime(pid)
	backendtest.Must(t, err)
	ownAfter, err := cpuTime(os.Getpid())
	backendtest.Must(t, err)
	n := time.Duration(l.requests)
	return sample{loaded: l, cpu: (after - before) / n, own: (ownAfter - own) / n}
}

// place is where a wire leads: to a server or to its null.
type place struct {
	address string
	pid     int
	key     string
	log     *output // of the server
	redis   redis.UniversalClient
}

var redisScripts = regexp.MustCompile(`cmdstat_eval(?:sha)?:calls=(\d+)`)

// scripts is how many scripts the server's Redis has run: the calls of the limits.
func (p place) scripts(ctx context.Context, t *testing.T) float64 {
	t.Helper()
	if p.redis == nil {
		return 0
	}
	info, err := p.redis.Info(ctx, "commandstats").Result()
	backendtest.Must(t, err)
	total := 0.0
	for _, m := range redisScripts.FindAllStringSubmatch(info, -1) {
		n, err := strconv.ParseFloat(m[1], 64)
		backendtest.Must(t, err)
		total += n
	}
	return total
}

func (b *bench) nullOf(w wire) (operation, place) {
	o, at := nullOperation, place{address: b.null.connect, pid: b.null.pid}
	switch w.name {
	case overGRPCListener.name:
		at.address = b.null.grpc
	case overForwarding.name:
		o.messages, o.request = nil, httpRequest{method: "GET", path: nullGet}
	}
	return o, at
}

func (b *bench) client(w wire) *http.Client {
	if w.http2 {
		return b.h2
	}
	return b.http1
}

// sure sends an operation's requests with Go's client and judges the answers. While
// Redis does not answer in time they are refused, and sent again.
func (b *bench) sure(t *testing.T, o operation, w wire, at place, n int) {
	t.Helper()
	requests, err := o.prepare(w, at.key, n)
	backendtest.Must(t, err)
	for _, r := range requests {
		err := b.ask(o, w, at, r)
		again := time.NewTicker(100 * time.Millisecond)
		for try := 0; err != nil && try < 50 && b.ctx.Err() == nil; try++ {
			<-again.C
			err = b.ask(o, w, at, r)
		}
		again.Stop()
		if err != nil {
			t.Fatalf("%s, %s: %v", w.name, o.name, err)
		}
	}
}

// ask sends a request with Go's client and judges the answer.
func (b *bench) ask(o operation, w wire, at place, r httpRequest) error {
	res, body, err := r.send(b.ctx, b.client(w), at.address)
	if err != nil {
		return err
	}
	return o.check(w, res, body)
}

// load measures an operation once. What was measured while Redis did not answer in
// time is thrown away: limits go by their outage mode then.
func (b *bench) load(t *testing.T, o operation, w wire, at place, again int) sample {
	t.Helper()
	b.step("%s, %s, run %d of %d", w.name, o.name, again+1, b.rounds)
	for range 10 {
		outages := at.outages(t)
		if s := b.loadOnce(t, o, w, at); at.outages(t) == outages {
			return s
		}
	}
	t.Fatalf("%s, %s: Redis does not answer in time: is the machine busy with something else?", w.name, o.name)
	return sample{}
}

// outages waits until Redis answers the server and counts how often it did not.
func (p place) outages(t *testing.T) (n int) {
	t.Helper()
	if p.log == nil {
		return 0
	}
	apitest.Eventually(t, "Redis answers", func() bool {
		text := p.log.String()
		n = strings.Count(text, "Redis does not answer")
		return n == strings.Count(text, "Redis answers again")
	})
	return n
}

func (b *bench) loadOnce(t *testing.T, o operation, w wire, at place) sample {
	t.Helper()
	b.sure(t, o, w, at, 1)
	callers, d, n := benchCallers, b.each, 1
	if o.callers > 0 {
		callers = o.callers
	}
	if o.many {
		d, n = min(d, time.Second), b.cold/b.turns
	}
	requests, err := o.prepare(w, at.key, n)
	backendtest.Must(t, err)
	before := at.scripts(b.ctx, t)
	s := b.measure(t, at.pid, func() (loaded, error) {
		if o.callers > 0 { // so few that the calls under way at the end would count
			return drive(b.ctx, callers, max(d, time.Second), func(context.Context) error { return b.ask(o, w, at, requests[0]) })
		}
		return w.load(b.ctx, b.dir, at.address, requests, callers, d)
	})
	s.scripts = (at.scripts(b.ctx, t) - before) / float64(s.requests)
	if o.many && s.requests > n {
		t.Fatalf("%s, %s: %d requests of %d that are new", w.name, o.name, s.requests, n)
	}
	b.sure(t, o, w, at, 1) // it still answers what was meant
	return s
}

// nullEvery is how many cases are compared with one measurement of the null RPC.
const nullEvery = 3

// over are the operations that are measured over a wire.
func (b *bench) over(operations []operation, w wire) []operation {
	return slices.DeleteFunc(slices.Clone(operations), func(o operation) bool {
		on := o.quick
		if b.all {
			on = o.over
			if on == nil {
				return w.name == overForwarding.name
			}
		}
		return !slices.ContainsFunc(on, func(other wire) bool { return other.name == w.name })
	})
}

// loads is how many loads section will make.
func (b *bench) loads(operations []operation, wires []wire) (n int) {
	for _, w := range wires {
		cases := len(b.over(operations, w))
		n += b.rounds * (cases + (cases+nullEvery-1)/nullEvery)
	}
	return n
}

// section measures operations over wires, round by round, the null RPC of the
// wire with every few of them. Without a time to load it only judges the answers.
func (b *bench) section(t *testing.T, operations []operation, wires []wire, m *measured) []*row {
	t.Helper()
	var rows []*row
	found := map[[2]string]*row{}
	keep := func(w wire, name string, s sample) {
		r := found[[2]string{w.name, name}]
		if r == nil {
			r = &row{wire: w.name, name: name}
			found[[2]string{w.name, name}], rows = r, append(rows, r)
		}
		r.samples = append(r.samples, s)
	}
	for again := range b.rounds {
		for _, w := range wires {
			var null *sample
			for i, o := range b.over(operations, w) {
				nothing, nowhere := b.nullOf(w)
				if b.each == 0 {
					b.sure(t, nothing, w, nowhere, 1)
					b.sure(t, o, w, m.place(w), 2)
					continue
				}
				if i%nullEvery == 0 {
					null = new(b.load(t, nothing, w, nowhere, again))
					keep(w, nothing.name, *null)
				}
				s := b.load(t, o, w, m.place(w), again)
				s.null = null
				keep(w, o.name, s)
			}
		}
	}
	return rows
}

// drive keeps callers in this process busy for a time. Calls that are under way
// at its end are finished and count.
func drive(ctx context.Context, callers int, d time.Duration, call func(context.Context) error) (loaded, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	took := make([][]time.Duration, callers)
	began := time.Now()
	var all sync.WaitGroup
	var over atomic.Bool
	timer := time.AfterFunc(d, func() { over.Store(true) })
	defer timer.Stop()
	for i := range callers {
		all.Go(func() {
			for !over.Load() && ctx.Err() == nil {
				before := time.Now()
				if err := call(ctx); err != nil {
					cancel(err)
					return
				}
				took[i] = append(took[i], time.Since(before))
			}
		})
	}
	all.Wait()
	elapsed := time.Since(began)
	if err := context.Cause(ctx); err != nil {
		return loaded{}, err
	}
	sorted := slices.Sorted(slices.Values(slices.Concat(took...)))
	return loaded{len(sorted), elapsed, sorted[len(sorted)/2], sorted[len(sorted)*99/100]}, nil
}

func hostOf(url string) string { return strings.TrimPrefix(url, "http://") }
