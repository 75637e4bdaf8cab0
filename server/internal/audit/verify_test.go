package audit

import (
	"fmt"
	"strings"
	"testing"

	"github.com/tollgatehq/tollgate/internal/auditlog"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/clock"
	"github.com/tollgatehq/tollgate/server/internal/fault"
	"github.com/tollgatehq/tollgate/server/internal/fault/faulttest"
	"golang.org/x/mod/sumdb/tlog"
)

func verify(t testing.TB, s *Service, saved []byte) *auditlog.Report {
	t.Helper()
	report, err := auditlog.Verification{Source: s.Source(), Keys: keysOf(t, s), Saved: saved}.Verify(t.Context())
	backendtest.Must(t, err)
	return report
}

func exec(t testing.TB, s *Service, statements ...string) {
	t.Helper()
	for _, statement := range statements {
		_, err := s.db.Exec(t.Context(), statement)
		backendtest.Must(t, err)
	}
}

// TestTampering changes the log behind the server's back, as the owner of the database
// can, and checks that each change is found and named.
func TestTampering(t *testing.T) {
	const event = `(SELECT event_id FROM audit_leaves WHERE leaf = 300)`
	for name, c := range map[string]struct {
		statements []string
		tamper     func(t *testing.T, s *Service)
		want       string // of the first finding; empty: none
		first      int64
	}{
		"nothing":                   {},
		"one byte of a resource":    {statements: []string{`UPDATE audit_events SET resource = 'things/30O' WHERE id = ` + event}, want: "edited", first: 300},
		"one byte of a time":        {statements: []string{`UPDATE audit_events SET time = time + 1 WHERE id = ` + event}, want: "edited", first: 300},
		"one byte of details":       {statements: []string{`UPDATE audit_events SET details = '{"a":"b"}' WHERE id = ` + event}, want: "edited", first: 300},
		"who recorded it":           {statements: []string{`UPDATE audit_events SET recorded_by = 'x' WHERE id = ` + event}, want: "edited", first: 300},
		"a salt":                    {statements: []string{`UPDATE audit_leaves SET salt = (SELECT salt FROM audit_leaves WHERE leaf = 1) WHERE leaf = 300`}, want: "edited", first: 300},
		"an event deleted":          {statements: []string{`DELETE FROM audit_events WHERE id = ` + event}, want: "deleted", first: 300},
		"an event and its leaf":     {statements: []string{`DELETE FROM audit_events WHERE id = ` + event, `DELETE FROM audit_leaves WHERE leaf = 300`}, want: "deleted", first: 300},
		"two changed places":        {statements: swap("event_id", 300, 301), want: "reordered", first: 300},
		"two with their salts":      {statements: append(swap("event_id", 300, 301), swap("salt", 300, 301)...), want: "reordered", first: 300},
		"a stored hash, too":        {tamper: editWithHash, want: "rewritten", first: 256},
		"the newest cut off":        {statements: cutOff(650, false), want: "cut off", first: 650},
		"cut off, and checkpoints":  {statements: cutOff(500, true), want: "cut off", first: 500},
		"all":                       {statements: []string{`DELETE FROM audit_events`, `DELETE FROM audit_leaves`, `DELETE FROM audit_tiles`, `DELETE FROM audit_checkpoints`}, want: "cut off", first: 0},
		"a checkpoint of their own": {statements: []string{`UPDATE audit_checkpoints SET note = replace(note, 'tollgate.example', 'tollgate.examp1e') WHERE size = 256`}, want: "not signed", first: 0},
		"a forked history":          {tamper: fork, want: "rewritten", first: 0},
	} {
		t.Run(name, func(t *testing.T) {
			onTrees(t, func(t *testing.T, s *Service, fake *clock.Fake) {
				for _, n := range []int{256, 244, 150, 50} {
					add(t, s, things(n)...)
					grow(t, s, fake)
				}
				saved, err := s.tree.Latest(t.Context())
				backendtest.Must(t, err)
				exec(t, s, c.statements...)
				if c.tamper != nil {
					c.tamper(t, s)
				}
				report := verify(t, s, saved.Note)
				switch {
				case c.want == "" && len(report.Findings) != 0:
					t.Errorf("found %v", report.Findings)
				case c.want == "":
					backendtest.Equal(t, report.Checkpoint, saved.Checkpoint, "checkpoint")
				case len(report.Findings) == 0:
					t.Error("nothing was found")
				default:
					first := report.Findings[0]
					if !strings.HasPrefix(first.Text, c.want) && !strings.Contains(first.Text, c.want) || first.First != c.first {
						t.Errorf("found %v", report.Findings)
					}
					t.Log(first)
				}
			})
		})
	}
}

func swap(column string, a, b int) []string {
	return []string{
		fmt.Sprintf(`CREATE TABLE swapped AS SELECT leaf, %s FROM audit_leaves WHERE leaf IN (%d, %d)`, column, a, b),
		fmt.Sprintf(`UPDATE audit_leaves SET event_id = event_id || 'x' WHERE leaf = %d AND 'event_id' = '%s'`, a, column),
		fmt.Sprintf(`UPDATE audit_leaves SET %[1]s = (SELECT %[1]s FROM swapped WHERE leaf = %[2]d) WHERE leaf = %[3]d`, column, a, b),
		fmt.Sprintf(`UPDATE audit_leaves SET %[1]s = (SELECT %[1]s FROM swapped WHERE leaf = %[3]d) WHERE leaf = %[2]d`, column, a, b),
		`DROP TABLE swapped`,
	}
}

func cutOff(at int, checkpoints bool) []string {
	statements := []string{
		fmt.Sprintf(`DELETE FROM audit_events WHERE id IN (SELECT event_id FROM audit_leaves WHERE leaf >= %d)`, at),
		fmt.Sprintf(`DELETE FROM audit_leaves WHERE leaf >= %d`, at),
		`DELETE FROM audit_tiles WHERE level = 0 AND n = 2`,
	}
	if checkpoints {
		return append(statements[:2], fmt.Sprintf(`DELETE FROM audit_checkpoints WHERE size > %d`, at), fmt.Sprintf(`UPDATE audit_head SET size = %d`, at))
	}
	return append(statements[:2], `UPDATE audit_tiles SET data = substr(data, 1, 138 * 32) WHERE level = 0 AND n = 2`)
}

// editWithHash edits an event and its stored hash.
func editWithHash(t *testing.T, s *Service) {
	exec(t, s, `UPDATE audit_events SET resource = 'other' WHERE id = (SELECT event_id FROM audit_leaves WHERE leaf = 300)`)
	rehash(t, s, 300, 301)
}

// rehash stores the hashes of events as they are now.
func rehash(t *testing.T, s *Service, from, to int64) {
	t.Helper()
	for leaf := from; leaf < to; leaf++ {
		entries, err := listEntries(t.Context(), s.db, leaf, 1)
		backendtest.Must(t, err)
		tile := auditlog.Tile{N: leaf / auditlog.TileWidth, Width: int(leaf%auditlog.TileWidth) + 1}
		var data []byte
		backendtest.Must(t, s.db.Get(t.Context(), &data, `SELECT data FROM audit_tiles WHERE level = 0 AND n = $1`, tile.N))
		hash := tlog.RecordHash(entries[0].Bytes())
		copy(data[(tile.Width-1)*tlog.HashSize:], hash[:])
		_, err = s.db.Exec(t.Context(), `UPDATE audit_tiles SET data = $1 WHERE level = 0 AND n = $2`, data, tile.N)
		backendtest.Must(t, err)
	}
}

// fork rewrites the first event and makes everything anew with a key of its own, but for
// the checkpoints, which it cannot sign.
func fork(t *testing.T, s *Service) {
	exec(t, s, `UPDATE audit_events SET resource = 'other' WHERE id = (SELECT event_id FROM audit_leaves WHERE leaf = 0)`)
	rehash(t, s, 0, 256)
	exec(t, s, `DELETE FROM audit_checkpoints WHERE size < 700`)
}

// TestForkWithTheKey checks that a whole history that was rewritten and signed anew with
// the log's own key, as who has the master key, too, can, is found by a saved checkpoint.
func TestForkWithTheKey(t *testing.T) {
	onTrees(t, func(t *testing.T, s *Service, fake *clock.Fake) {
		add(t, s, things(300)...)
		grow(t, s, fake)
		saved, err := s.tree.Latest(t.Context())
		backendtest.Must(t, err)
		exec(t, s, `UPDATE audit_events SET resource = 'other' WHERE id = (SELECT event_id FROM audit_leaves WHERE leaf = 7)`,
			`DELETE FROM audit_leaves`, `DELETE FROM audit_tiles`, `DELETE FROM audit_checkpoints`,
			`UPDATE audit_head SET size = 0, writer = 0, position = 0`)
		forger, _ := newService(s.db)
		forger.clock = s.clock
		newTree(t, forger) // has seen nothing
		add(t, forger, things(20)...)
		grow(t, forger, fake)
		if report := verify(t, forger, nil); len(report.Findings) != 0 {
			t.Errorf("the forged history by itself: %v", report.Findings)
		}
		report := verify(t, forger, saved.Note)
		if len(report.Findings) != 1 || !strings.Contains(report.Findings[0].Text, "rewritten") || !strings.Contains(report.Findings[0].Text, "saved") {
			t.Errorf("found %v", report.Findings)
		}
	})
}

// TestRemovalsAreExplained checks that what retention removed is no finding, and what
// somebody only claims that it removed is one.
func TestRemovalsAreExplained(t *testing.T) {
	onTrees(t, func(t *testing.T, s *Service, fake *clock.Fake) {
		add(t, s, things(20)...)
		grow(t, s, fake)
		removal := auditlog.Removal{Before: fake.Now(), Leaves: []auditlog.Range{{First: 2, Last: 4}, {First: 7, Last: 7}}}
		signature, err := s.tree.SignRemoval(t.Context(), s.db, removal)
		backendtest.Must(t, err)
		add(t, s, Event{Action: Retention, Outcome: Success, ActorName: SystemActor, Details: removal.Details(signature)})
		grow(t, s, fake)
		remove := func(leaves string) {
			exec(t, s, `DELETE FROM audit_events WHERE id IN (SELECT event_id FROM audit_leaves WHERE leaf IN (`+leaves+`))`,
				`DELETE FROM audit_leaves WHERE leaf IN (`+leaves+`)`)
		}
		remove("2, 3, 4, 7")
		report := verify(t, s, nil)
		if len(report.Findings) != 0 || report.Removed != 4 {
			t.Errorf("found %v, removed %d", report.Findings, report.Removed)
		}
		remove("8, 9")
		claim := auditlog.Removal{Before: fake.Now(), Leaves: []auditlog.Range{{First: 8, Last: 9}}}
		add(t, s, Event{Action: Retention, Outcome: Success, ActorName: SystemActor, Details: claim.Details(signature)})
		grow(t, s, fake)
		report = verify(t, s, nil)
		if len(report.Findings) != 2 || report.Findings[0].First != 8 || report.Findings[0].Last != 9 || report.Findings[1].First != 21 || report.Removed != 4 {
			t.Errorf("found %v, removed %d", report.Findings, report.Removed)
		}
	})
}

// TestBundlesAtOnce checks that one caller does not take all places for bundles.
func TestBundlesAtOnce(t *testing.T) {
	onTrees(t, func(t *testing.T, s *Service, fake *clock.Fake) {
		add(t, s, things(3)...)
		grow(t, s, fake)
		as := func(user string) error {
			ctx := caller.With(t.Context(), caller.Caller{Principal: &caller.Principal{UserID: user}})
			return faulttest.Err(s.Tile(ctx, "tile/entries/000.p/3"))
		}
		for range bundlesAtOnce / 2 {
			backendtest.Equal(t, s.bundles.Acquire("greedy", 1), true, "a place")
		}
		wantFault(t, as("greedy"), fault.Unavailable, "AUDIT_BUSY")
		backendtest.Must(t, as("another"))
		s.bundles.Release("greedy", 1)
		backendtest.Must(t, as("greedy"))
	})
}
