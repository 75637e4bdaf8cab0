package audit

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/database"
)

// explained keeps the plan of each statement that reads several rows.
type explained struct {
	database.Queries
	t       testing.TB
	dialect database.Dialect
	plans   []plan
	timed   bool // time statements instead
	slowest time.Duration
}

// plan is what EXPLAIN says of a statement.
type plan struct {
	statement string
	scans     []string // the tables and indexes that it reads
	read      int      // how many of their rows; PostgreSQL's only
	sorted    int      // how many rows the largest sort gets; PostgreSQL's only
	whole     int      // how many rows of a table are read without an index; PostgreSQL's only
}

func (e *explained) Select(ctx context.Context, dest any, statement string, args ...any) error {
	if !e.timed {
		e.explain(ctx, statement, args)
	}
	defer func(began time.Time) { e.slowest = max(e.slowest, time.Since(began)) }(time.Now())
	return e.Queries.Select(ctx, dest, statement, args...)
}

func (e *explained) Get(ctx context.Context, dest any, statement string, args ...any) error {
	if !e.timed {
		e.explain(ctx, statement, args)
	}
	return e.Queries.Get(ctx, dest, statement, args...)
}

func (e *explained) explain(ctx context.Context, statement string, args []any) {
	e.t.Helper()
	p := plan{statement: statement}
	if e.dialect == database.SQLite {
		var steps []struct {
			ID      int    `db:"id"`
			Parent  int    `db:"parent"`
			NotUsed int    `db:"notused"`
			Detail  string `db:"detail"`
		}
		backendtest.Must(e.t, e.Queries.Select(ctx, &steps, `EXPLAIN QUERY PLAN `+statement, args...))
		for _, s := range steps {
			if strings.Contains(s.Detail, "audit_") || strings.Contains(s.Detail, "SEARCH e ") || strings.Contains(s.Detail, "SCAN e ") {
				p.scans = append(p.scans, s.Detail)
			}
		}
	} else {
		var text string
		backendtest.Must(e.t, e.Queries.Get(ctx, &text, `EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) `+statement, args...))
		var roots []struct{ Plan node }
		backendtest.Must(e.t, json.Unmarshal([]byte(text), &roots))
		roots[0].Plan.into(&p)
	}
	e.plans = append(e.plans, p)
}

// node is a node of PostgreSQL's plan.
type node struct {
	Type    string  `json:"Node Type"`
	Table   string  `json:"Relation Name"`
	Index   string  `json:"Index Name"`
	Rows    float64 `json:"Actual Rows"` // in each loop
	Loops   float64 `json:"Actual Loops"`
	Removed float64 `json:"Rows Removed by Filter"`
	Plans   []node
}

func (n *node) into(p *plan) {
	rows := int((n.Rows + n.Removed) * n.Loops)
	if n.Type == "Seq Scan" {
		p.whole = max(p.whole, rows)
	}
	if strings.HasSuffix(n.Type, "Scan") && n.Table+n.Index != "" && n.Loops > 0 {
		if n.Type != "Bitmap Index Scan" { // its rows are those of the Bitmap Heap Scan above it
			p.read += rows
		}
		p.scans = append(p.scans, fmt.Sprintf("%s %s %s", n.Type, n.Table, n.Index))
	}
	if n.Type == "Sort" || n.Type == "Incremental Sort" {
		p.sorted = max(p.sorted, int(n.Plans[0].Rows*n.Plans[0].Loops))
	}
	for i := range n.Plans {
		n.Plans[i].into(p)
	}
}

// onePage is about what a page of 50 reads: its places in an index, of a join in two, and
// its events, by which other filters choose with the next ones.
const onePage = 6 * 51

// searches are filters, the indexes that their pages are read by, and how many rows of
// tables and indexes one page's statements read at most, together.
func searches(t testing.TB, n int) map[string]struct {
	filter Filter
	index  string
	most   int
} {
	t.Helper()
	network := func(text string) Filter {
		prefix, err := ParseNetwork(text)
		backendtest.Must(t, err)
		return Filter{Network: prefix}
	}
	ago := func(events int) time.Time { return manyEnd.Add(-time.Duration(events) * manyApart) }
	both := func(f Filter, change func(*Filter)) Filter {
		change(&f)
		return f
	}
	return map[string]struct {
		filter Filter
		index  string
		most   int
	}{
		"everything":          {Filter{}, "by_time", onePage},
		"a time":              {Filter{After: ago(n / 2), Before: ago(n / 3)}, "by_time", onePage},
		"actor by id":         {Filter{Actor: "id-of-user-7"}, "by_actor", onePage},
		"actor by name":       {Filter{Actor: "user-7"}, "by_actor_name", onePage},
		"action":              {Filter{Action: "auth.login"}, "by_action", onePage},
		"rare action":         {Filter{Action: "role.create"}, "by_action", onePage},
		"actions by prefix":   {Filter{Action: "order.*"}, "by_action", 4 * onePage},
		"outcome":             {Filter{Outcome: Failure}, "by_outcome", onePage},
		"reason":              {Filter{Reason: "permission_missing"}, "by_reason", onePage},
		"resource":            {Filter{Resource: "users/17"}, "by_resource", onePage},
		"resources, few":      {Filter{Resource: "roles/*"}, "by_resource", 9 * onePage},
		"resources, rare":     {Filter{Resource: "rare/*"}, "by_resource", 12_000},
		"resources, most":     {Filter{Resource: "orders/*"}, "by_time", 20_000},
		"resources, old":      {Filter{Resource: "old/*"}, "by_time", 250_000},
		"address":             {network("203.0.113.7"), "leaves_by_address", onePage},
		"network, rare":       {network("203.0.113.0/24"), "leaves_by_address", 15_000},
		"network, most":       {network("10.0.0.0/8"), "by_time", 20_000},
		"network, some":       {network("10.32.0.0/11"), "by_time", 20_000},
		"session":             {Filter{SessionID: "session-777"}, "by_session", onePage},
		"API key":             {Filter{APIKeyID: "key-7"}, "by_api_key", onePage},
		"request":             {Filter{RequestID: "request-777"}, "by_request", onePage},
		"recorder":            {Filter{RecordedBy: "id-of-service-3"}, "by_time", 20_000},
		"actor and outcome":   {Filter{Actor: "id-of-user-7", Outcome: Denied}, "by_actor", 10_000},
		"reason and resource": {Filter{Reason: "wrong_password", Resource: "users/*"}, "by_reason", 20_000},
		"network and action":  {both(network("203.0.113.0/24"), func(f *Filter) { f.Action = "auth.login" }), "leaves_by_address", 20_000},
		"outcome in a time":   {Filter{Outcome: Denied, After: ago(5000), Before: ago(4000)}, "by_", 1500},
		"session and network": {both(network("10.0.0.0/8"), func(f *Filter) { f.SessionID = "session-777" }), "by_session", 10_000},
	}
}

// TestManyEvents: in a large log each filter's pages are read by an index of its own, and
// read about as many rows as they need, wherever what is wanted lies; and a summary's
// statements count a bounded number. With -v it prints how long they took.
func TestManyEvents(t *testing.T) {
	t.Parallel()
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		n := manyEvents(t)
		began := time.Now()
		fillWithMany(t, db, n)
		t.Logf("%d events in %v", n, time.Since(began).Round(time.Millisecond))
		s, _ := newService(db)
		if n < 500_000 { // as much smaller, or reading a whole table would be cheap
			s.bounds = bounds{read: 10_000, step: 500, first: 50, joined: 100, values: 32, span: 500, count: 100, counted: 2500, summary: n, counts: 10_000}
		}
		summarizeMany(t, s, n)
		readTheEnd(t, db)
		for _, name := range slices.Sorted(func(yield func(string) bool) {
			for name := range searches(t, n) {
				if !yield(name) {
					return
				}
			}
		}) {
			c := searches(t, n)[name]
			e := &explained{Queries: db, t: t, dialect: db.Dialect}
			look := s.search(c.filter.stored())
			var slowest time.Duration
			var found int
			below := cursor{}
			for range 5 { // pages
				began := time.Now()
				events, at, more, err := look.events(t.Context(), below, 50)
				backendtest.Must(t, err)
				slowest = max(slowest, time.Since(began))
				look.db = e
				_, _, _, err = look.events(t.Context(), below, 50)
				backendtest.Must(t, err)
				look.db = db
				e.check(name, c.index, c.most, s.bounds)
				found += len(events)
				if below = at; !more {
					break
				}
			}
			t.Logf("%-20s %3d events, slowest page %v", name, found, slowest.Round(100*time.Microsecond))
		}
	})
}

// readTheEnd reads the last events as the tree and watchers do: by their places alone.
func readTheEnd(t *testing.T, db *database.DB) {
	t.Helper()
	const last = 10
	var begin place
	backendtest.Must(t, db.Get(t.Context(), &begin, `SELECT writer, position FROM audit_events ORDER BY writer DESC, position DESC LIMIT 1 OFFSET 10`))
	e := &explained{Queries: db, t: t, dialect: db.Dialect}
	rows, err := since(t.Context(), e, db.Dialect, begin.next(), 0, 2*last)
	backendtest.Must(t, err)
	backendtest.Equal(t, len(rows), last, "events at the end")
	scans := e.plans[0].scans
	if db.Dialect == database.SQLite && !strings.Contains(strings.Join(scans, ", "), "position>") && !strings.Contains(scans[0], "rowid>") || e.plans[0].read > 2*last {
		t.Errorf("the last %d events are read by %q, %d rows", last, scans, e.plans[0].read)
	}
}

// summarizeMany counts all events, by the day and of a part of them by the hour.
func summarizeMany(t *testing.T, s *Service, n int) {
	t.Helper()
	e := &explained{Queries: s.db, t: t, dialect: s.db.Dialect, timed: true}
	for name, c := range map[string]struct {
		filter Filter
		by     Bucket
		want   int
	}{
		"all by day":           {Filter{After: manyEnd.Add(-365 * 24 * time.Hour), Before: manyEnd}, Daily, n},
		"a day by the hour":    {Filter{}, Hourly, 24 * 3600 / int(manyApart.Seconds())},
		"an action by day":     {Filter{Action: "order.*", After: manyEnd.Add(-365 * 24 * time.Hour), Before: manyEnd}, Daily, 0},
		"a network by day":     {Filter{Network: netip.MustParsePrefix("10.32.0.0/11"), After: manyEnd.Add(-365 * 24 * time.Hour), Before: manyEnd}, Daily, 0},
		"a person by the hour": {Filter{Actor: "user-7", After: manyEnd.Add(-31 * 24 * time.Hour), Before: manyEnd}, Hourly, 0},
	} {
		began := time.Now()
		e.slowest = 0
		look := s.search(c.filter)
		look.db = e
		if c.filter.After.IsZero() {
			look.filter.After, look.filter.Before = manyEnd.Add(-24*time.Hour), manyEnd
		}
		counts, err := look.summary(t.Context(), time.Duration(c.by))
		backendtest.Must(t, err)
		total := 0
		for _, count := range counts {
			total += int(count.Events)
		}
		if c.want > 0 && total != c.want {
			t.Errorf("%s: counts %d events, want %d", name, total, c.want)
		}
		t.Logf("%-22s %7d events, %4d counts in %v, slowest statement %v", name, total, len(counts), time.Since(began).Round(time.Millisecond), e.slowest.Round(time.Millisecond))
	}
}

func (e *explained) check(name, index string, most int, b bounds) {
	e.t.Helper()
	var scans []string
	read, used := 0, false
	if most > 10*onePage {
		most = most * b.span / 5000
	}
	for _, p := range e.plans {
		read += p.read
		if p.whole > 2*b.step { // a month that has only just begun may be in one step
			e.t.Errorf("%s: reads %d rows of a table without an index: %s", name, p.whole, p.statement)
		}
		if p.sorted > b.span {
			e.t.Errorf("%s: sorts %d rows: %s", name, p.sorted, p.statement)
		}
		for _, scan := range p.scans {
			scans = append(scans, scan)
			// A month's indexes have names of their columns.
			columns := strings.Replace(strings.TrimPrefix(index, "by_"), "time", "", 1)
			used = used || strings.Contains(scan, index) || strings.Contains(scan, columns) && strings.HasSuffix(scan, "time_id_idx")
			if strings.HasPrefix(scan, "SCAN") && !strings.Contains(scan, "INDEX") {
				e.t.Errorf("%s: reads a whole table: %s: %s", name, scan, p.statement)
			}
		}
	}
	if !used || read > most {
		e.t.Errorf("%s: reads %d rows (at most %d), by %q, want %s", name, read, most, scans, index)
	}
	e.plans = nil
}
