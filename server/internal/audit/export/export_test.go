package export

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protojson"

	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
	"github.com/tollgatehq/tollgate/server/internal/audit"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/fault"
	"github.com/tollgatehq/tollgate/server/internal/fault/faulttest"
)

// TestNDJSONIsWhatTheAPISays compares each line with the answer of ListEvents, byte by
// byte.
func TestNDJSONIsWhatTheAPISays(t *testing.T) {
	onDatabases(t, func(t *testing.T, f *fixture) {
		r := rand.New(rand.NewPCG(1, 2))
		for range 5 {
			var events []audit.Event
			for range 40 {
				events = append(events, random(r))
			}
			f.add(t, events...)
		}
		want := map[string]string{} // by id
		for token := ""; ; {
			page, err := audit.NewHandler(f.log).ListEvents(t.Context(), &tollgatev1.ListEventsRequest{PageSize: 250, PageToken: token})
			backendtest.Must(t, err)
			for _, e := range page.GetEvents() {
				loose, err := protojson.MarshalOptions{EmitDefaultValues: true}.Marshal(e)
				backendtest.Must(t, err)
				var compact bytes.Buffer
				backendtest.Must(t, json.Compact(&compact, loose))
				want[e.GetId()] = compact.String()
			}
			if token = page.GetNextPageToken(); token == "" {
				break
			}
		}
		lines := f.run(t, Query{}).lines()
		backendtest.Equal(t, len(lines), 200, "lines")
		for i, line := range lines {
			var event struct{ ID string }
			backendtest.Must(t, json.Unmarshal([]byte(line), &event))
			backendtest.Equal(t, line, fmt.Sprintf(`{"leaf":%d,`, i)+want[event.ID][1:], "line %d", i)
		}
	})
}

func TestCSV(t *testing.T) {
	onDatabases(t, func(t *testing.T, f *fixture) {
		r := rand.New(rand.NewPCG(3, 4))
		for range 100 {
			f.add(t, random(r))
		}
		text := f.run(t, Query{Format: CSV}).text.Bytes()
		records, err := csv.NewReader(bytes.NewReader(text)).ReadAll()
		backendtest.Must(t, err)
		backendtest.Equal(t, strings.Join(records[0], ",")+"\r\n", csvHeader, "header")
		entries, _, err := f.log.Between(t.Context(), audit.Span{Until: 100}, 100)
		backendtest.Must(t, err)
		for i, record := range records[1:] {
			e := entries[i].Event
			want := []string{
				strconv.Itoa(i), e.ID, string(appendTime(nil, e.Time)), e.ActorID, e.ActorName, e.SessionID, e.APIKeyID, string(e.Action), string(e.Outcome),
				e.Reason, e.Resource, e.IP, e.UserAgent, e.RequestID, string(appendDetails(nil, e.Details)), e.RecordedBy,
			}
			for c, value := range record {
				if value != "" && strings.ContainsRune("=+-@\t\r\n＝＋－＠", []rune(value)[0]) {
					t.Errorf("record %d, column %d: %q is a formula to a spreadsheet", i, c, value)
				}
				// encoding/csv reads \r\n in a field as \n.
				if plain := strings.ReplaceAll(want[c], "\r\n", "\n"); strings.TrimPrefix(value, "'") != plain {
					t.Errorf("record %d, column %d: %q, want %q", i, c, value, plain)
				}
			}
		}
		backendtest.Equal(t, f.run(t, Query{Format: CSV, From: 100}).text.String(), "", "what is resumed has no header")
	})
}

// TestExportResumes checks that wherever an export is cut, the rest has what is missing
// and nothing twice, also when leaves are gone.
func TestExportResumes(t *testing.T) {
	onDatabases(t, func(t *testing.T, f *fixture) {
		f.add(t, things(1700)...) // several lists and parts
		for _, leaf := range []int{0, 7, 8, 9, 500, 1699} {
			_, err := f.db.Exec(t.Context(), `DELETE FROM audit_events WHERE id IN (SELECT event_id FROM audit_leaves WHERE leaf = $1)`, leaf)
			backendtest.Must(t, err)
			_, err = f.db.Exec(t.Context(), `DELETE FROM audit_leaves WHERE leaf = $1`, leaf)
			backendtest.Must(t, err)
		}
		// Retention has dropped a month, and not yet come to its leaves.
		_, err := f.db.Exec(t.Context(), `DELETE FROM audit_events WHERE id IN (SELECT event_id FROM audit_leaves WHERE leaf >= 600 AND leaf < 1300)`)
		backendtest.Must(t, err)
		whole := f.run(t, Query{})
		backendtest.Equal(t, len(whole.lines()), 994, "lines")
		backendtest.Equal(t, whole.next, 1700, "where it ends")
		if whole.parts < 4 {
			t.Errorf("it came in %d parts", whole.parts)
		}
		broken := errors.New("the connection broke")
		for cut := range whole.parts {
			var text bytes.Buffer
			next := int64(0)
			err := f.export.Export(as(t.Context(), "u1"), Query{}, func(p Part) error {
				if cut--; cut < 0 {
					return broken
				}
				text.Write(p.Lines)
				next = p.Next
				return nil
			})
			if !errors.Is(err, broken) {
				t.Fatalf("cut: %v", err)
			}
			text.Write(f.run(t, Query{From: next}).text.Bytes())
			if text.String() != whole.text.String() {
				t.Errorf("cut before leaf %d: the two parts together differ from the whole", next)
			}
		}
		backendtest.Equal(t, f.run(t, Query{From: 5000}).next, 5000, "from beyond the end")
	})
}

func TestExportByTime(t *testing.T) {
	onDatabases(t, func(t *testing.T, f *fixture) {
		f.add(t, things(100)...) // one a second
		at := func(seconds float64) time.Time {
			return start.Add(time.Duration(seconds * float64(time.Second)))
		}
		for _, c := range []struct {
			after, before time.Time
			first, n      int
		}{
			{after: at(10), first: 10, n: 90},
			{after: at(9.5), before: at(20), first: 10, n: 10},
			{before: at(0.5), first: 0, n: 1},
			{after: at(200), n: 0},
			{after: at(10), before: at(10), n: 0},
		} {
			g := f.run(t, Query{After: c.after, Before: c.before})
			if g.next != 100 {
				t.Errorf("%v: ends at %d", c, g.next)
			}
			if c.n == 0 {
				backendtest.Equal(t, g.text.String(), "", "%v", c)
				continue
			}
			lines := g.lines()
			if len(lines) != c.n || !strings.HasPrefix(lines[0], fmt.Sprintf(`{"leaf":%d,`, c.first)) {
				t.Errorf("%v: %d lines, the first %s", c, len(lines), lines[0])
			}
		}
	})
}

// TestExportEndsAtItsBegin checks that an export of a log that grows ends.
func TestExportEndsAtItsBegin(t *testing.T) {
	onDatabases(t, func(t *testing.T, f *fixture) {
		f.add(t, things(10)...)
		var lines int
		backendtest.Must(t, f.export.Export(as(t.Context(), "u1"), Query{}, func(p Part) error {
			f.add(t, of(0))
			lines += bytes.Count(p.Lines, []byte("\n"))
			backendtest.Equal(t, p.End, 10, "end")
			return nil
		}))
		backendtest.Equal(t, lines, 10, "lines")
	})
}

// TestExportEnds checks that nothing is sent to a caller whose rights have ended.
func TestExportEnds(t *testing.T) {
	onDatabases(t, func(t *testing.T, f *fixture) {
		f.add(t, things(1700)...)
		ctx, cancel := context.WithCancelCause(as(t.Context(), "u1"))
		refused := fault.New(fault.Denied, "PERMISSION_MISSING", "no longer")
		parts := 0
		err := f.export.Export(ctx, Query{}, func(p Part) error {
			if parts++; parts == 2 {
				cancel(refused)
			}
			if p.Complete {
				t.Error("it was sent to the end")
			}
			return nil
		})
		faulttest.Want(t, err, fault.Denied, "PERMISSION_MISSING")
		backendtest.Equal(t, parts, 2, "parts")
	})
}

// TestExportsAtOnce checks that one caller cannot take the places of others.
func TestExportsAtOnce(t *testing.T) {
	f := newFixture(backendtest.SQLite(t))
	f.add(t, of(0))
	var nested func(users ...string) error
	nested = func(users ...string) error {
		return f.export.Export(as(t.Context(), users[0]), Query{}, func(p Part) error {
			if len(users) == 1 || !p.Complete {
				return nil
			}
			return nested(users[1:]...)
		})
	}
	backendtest.Must(t, nested("u1", "u1"))
	for _, users := range [][]string{{"u1", "u1", "u1"}, {"u1", "u2", "u3", "u4", "u5"}} {
		f := faulttest.Want(t, nested(users...), fault.Limited, "TOO_MANY_EXPORTS")
		if f.RetryAfter == 0 {
			t.Errorf("%v: it does not say when to try again", users)
		}
	}
	backendtest.Must(t, nested(slices.Repeat([]string{"u1"}, 2)...)) // places come back
}
