package export

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/audit"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/clock"
	"github.com/tollgatehq/tollgate/server/internal/database"
	"github.com/tollgatehq/tollgate/server/internal/page"
)

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// fixture is a log whose events are in the tree as soon as add returns.
type fixture struct {
	db      *database.DB
	log     *audit.Service
	export  *Service
	clock   clock.Clock
	written int
}

func newFixture(db *database.DB) *fixture {
	clk := clock.NewFake(start).Clock()
	log := audit.NewService(db, clk, page.NewTokens([]byte("a secret of at least 32 bytes....")), nil)
	return &fixture{db: db, log: log, export: New(log, "1.2.3"), clock: clk}
}

func onDatabases(t *testing.T, test func(t *testing.T, f *fixture)) {
	t.Helper()
	t.Parallel()
	backendtest.Databases(t, func(t *testing.T, db *database.DB) { test(t, newFixture(db)) })
}

// add commits events and gives each a leaf, as the sequencer does.
func (f *fixture) add(t testing.TB, events ...audit.Event) {
	t.Helper()
	for i := range events {
		if events[i].Time.IsZero() {
			events[i].Time = start.Add(time.Duration(f.written+i) * time.Second)
		}
	}
	backendtest.Must(t, f.db.Write(t.Context(), func(ctx context.Context, tx *database.Tx) error {
		if err := audit.Append(ctx, tx, f.clock, events...); err != nil {
			return err
		}
		for i := range events {
			if _, err := tx.Exec(ctx, `INSERT INTO audit_leaves (leaf, event_id, time, salt) VALUES ($1, $2, $3, $4)`,
				f.written+i, events[i].ID, events[i].Time.UnixMicro(), []byte("0123456789abcdef")); err != nil {
				return err
			}
		}
		_, err := tx.Exec(ctx, `UPDATE audit_head SET size = $1`, f.written+len(events))
		return err
	}))
	f.written += len(events)
}

// got is what an export sent.
type got struct {
	text     bytes.Buffer
	parts    int
	next     int64
	complete bool
}

func (g *got) lines() []string {
	return strings.Split(strings.TrimSuffix(g.text.String(), "\n"), "\n")
}

func (f *fixture) run(t testing.TB, q Query) *got {
	t.Helper()
	g := &got{}
	backendtest.Must(t, f.export.Export(as(t.Context(), "u1"), q, func(p Part) error {
		if g.complete || p.Next < g.next {
			t.Errorf("a part at %d after one at %d, complete: %t", p.Next, g.next, g.complete)
		}
		g.text.Write(p.Lines)
		g.parts++
		g.next, g.complete = p.Next, p.Complete
		return nil
	}))
	if !g.complete {
		t.Error("the last part does not say that the export is complete")
	}
	return g
}

// as is a call of a user.
func as(ctx context.Context, user string) context.Context {
	return caller.With(ctx, caller.Caller{Principal: &caller.Principal{UserID: user}})
}

// awkward are texts that a careless writer breaks on.
var awkward = []string{
	"", "anna", `a "quoted" \ one`, "<script>&'", "line\nbreak\r\n\ttab", "=1+1", "+1", "-1", "@SUM(A1)", "\tx", "a,b;c",
	"\u0001\u001f\u007f\u0080", "\u2028\u2029\ufeff", "ünï 漢字 🦉", "\ufffd", "bad \xff utf-8 \xc3", "nul \x00 here", strings.Repeat("x", 300),
	"＝1", "\b\f",
}

// random is an event of awkward texts.
func random(r *rand.Rand) audit.Event {
	word := func() string { return awkward[r.IntN(len(awkward))] }
	e := audit.Event{
		Time:    start.Add(time.Duration(r.Int64N(int64(time.Hour)))).Truncate([]time.Duration{1, 1000, 1e6, 1e9}[r.IntN(4)]),
		ActorID: word(), ActorName: word(), SessionID: word(), APIKeyID: word(), Action: audit.Action(word()),
		Outcome: []audit.Outcome{audit.Success, audit.Denied, audit.Failure, "odd"}[r.IntN(4)], Reason: word(), Resource: word(),
		IP: word(), UserAgent: word(), RequestID: word(), RecordedBy: word(), Details: map[string]string{},
	}
	for range r.IntN(4) {
		e.Details[word()] = word()
	}
	return e
}

// of is an event on the n-th thing.
func of(n int) audit.Event {
	return audit.Event{Action: "test.event", Outcome: audit.Success, Resource: fmt.Sprint("things/", n)}
}

func things(n int) (events []audit.Event) {
	for i := range n {
		events = append(events, of(i))
	}
	return events
}
