package audit

import (
	"cmp"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/tollgatehq/tollgate/internal/auditlog"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/clock"
	"github.com/tollgatehq/tollgate/server/internal/fault/faulttest"
)

// removals are the leaves that the log says were removed.
func removals(t *testing.T, s *Service) (ranges []auditlog.Range) {
	t.Helper()
	keys := keysOf(t, s)
	for _, e := range all(t, s, Filter{Action: string(Retention)}, 250) {
		removal, signature, ok, err := auditlog.ReadRemoval(e.Details)
		if err != nil || !ok || removal.Verify(signature, keys) != nil || len(e.Details) > detailPairs {
			t.Fatalf("recorded %+v: %v", e, err)
		}
		ranges = append(removal.Leaves, ranges...)
	}
	return ranges
}

// What is deleted are leaves of the tree, signed; what is not in the tree stays, and what
// tells of deletions, for good. The rest of the log verifies.
func TestPruneWithTree(t *testing.T) {
	onTrees(t, func(t *testing.T, s *Service, fake *clock.Fake) {
		s.prunePause = 0
		events := things(2300)
		for i := range events {
			events[i].Time = start.Add(time.Duration(i) * time.Millisecond)
		}
		add(t, s, events...)
		grow(t, s, fake)
		saved, err := s.tree.Latest(t.Context())
		backendtest.Must(t, err)
		add(t, s, of(1), of(2))
		fake.Advance(1000 * time.Hour)
		keep := Retentions{Default: 24 * time.Hour}
		for _, want := range []int64{2300, 0} {
			if deleted, err := s.Prune(t.Context(), keep); err != nil || deleted != want {
				t.Errorf("deleted %d, %v; want %d", deleted, err, want)
			}
		}
		ranges := removals(t, s)
		slices.SortFunc(ranges, func(a, b auditlog.Range) int { return cmp.Compare(a.First, b.First) })
		if len(ranges) != 3 || ranges[0].First != 0 || ranges[1].First != ranges[0].Last+1 || ranges[2].First != ranges[1].Last+1 || ranges[2].Last != 2299 {
			t.Errorf("leaves that went: %v", ranges)
		}
		grow(t, s, fake)
		report := verify(t, s, saved.Note)
		if len(report.Findings) != 0 || report.Removed != 2300 {
			t.Errorf("found %v, removed %d", report.Findings, report.Removed)
		}
		backendtest.WantCount(t, s.db, 5, `SELECT COUNT(*) FROM audit_leaves`)

		// Years later the two go, and what tells of deletions does not.
		fake.Advance(100_000 * time.Hour)
		if deleted, err := s.Prune(t.Context(), keep); err != nil || deleted != 2 {
			t.Errorf("deleted %d, %v; want 2", deleted, err)
		}
		grow(t, s, fake)
		report = verify(t, s, saved.Note)
		if len(report.Findings) != 0 || report.Removed != 2302 {
			t.Errorf("found %v, removed %d", report.Findings, report.Removed)
		}
	})
}

// Each event is kept as long as the longest pattern says that its action matches.
func TestPruneByAction(t *testing.T) {
	const day = 24 * time.Hour
	keep := Retentions{Default: 100 * day, For: map[string]time.Duration{
		"auth.*": 10 * day, "auth.login": 20 * day, "auth.login.*": 30 * day, "role.*": 0, "order.cancel": 200 * day,
	}}
	for action, want := range map[string]time.Duration{
		"auth.refresh": 10 * day, "auth.login": 20 * day, "auth.login.x": 30 * day, "auth": 100 * day, "authx.y": 100 * day,
		"role.create": 0, "order.cancel": 200 * day, "order.cancel.x": 100 * day, "order.create": 100 * day,
	} {
		backendtest.Equal(t, keep.of(action), want, "how long %s is kept", action)
	}
	backendtest.Must(t, keep.Check())
	onTrees(t, func(t *testing.T, s *Service, fake *clock.Fake) {
		s.prunePause = 0
		actions := []string{"auth.refresh", "auth.login", "auth.login.x", "role.create", "order.cancel", "order.create"}
		for age := range 30 {
			for _, action := range actions {
				add(t, s, Event{Action: Action(action), Outcome: Success, Time: start.Add(time.Duration(age) * 10 * day)})
			}
		}
		grow(t, s, fake)
		end := start.Add(300*day + time.Hour)
		fake.Advance(end.Sub(fake.Now()))
		backendtest.Must(t, faulttest.Err(s.Prune(t.Context(), keep)))
		got := map[string]int{}
		for _, e := range all(t, s, Filter{}, 250) {
			got[string(e.Action)]++
		}
		retentions := got[string(Retention)]
		delete(got, string(Retention))
		backendtest.Equal(t, got, map[string]int{
			"auth.login": 1, "auth.login.x": 2, "role.create": 30, "order.cancel": 19, "order.create": 9,
		}, "events that are left")
		if retentions != 5 {
			t.Errorf("%d events tell of 5 retentions", retentions)
		}
		grow(t, s, fake)
		if report := verify(t, s, nil); len(report.Findings) != 0 {
			t.Errorf("found %v", report.Findings)
		}
	})
}

// Instances that prune at the same time say of each leaf once that it went.
func TestPruneWithTreeConcurrently(t *testing.T) {
	onTrees(t, func(t *testing.T, s *Service, fake *clock.Fake) {
		s.prunePause = 0
		add(t, s, things(2500)...)
		grow(t, s, fake)
		fake.Advance(1000 * time.Hour)
		var both sync.WaitGroup
		for range 3 {
			both.Go(func() {
				if _, err := s.Prune(t.Context(), Retentions{Default: 24 * time.Hour}); err != nil {
					t.Error(err)
				}
			})
		}
		both.Wait()
		wantEachOnce(t, s, 2500)
	})
}

// wantEachOnce checks that the log says of each of n leaves once that it went.
func wantEachOnce(t *testing.T, s *Service, n int) {
	t.Helper()
	seen := map[int64]bool{}
	for _, r := range removals(t, s) {
		for leaf := r.First; leaf <= r.Last; leaf++ {
			if seen[leaf] {
				t.Fatalf("leaf %d went twice", leaf)
			}
			seen[leaf] = true
		}
	}
	backendtest.Equal(t, len(seen), n, "number of leaves")
}

// Leaves that lie apart fit into one event.
func TestRangesFit(t *testing.T) {
	t.Parallel()
	leaves := make([]int64, pruneAtOnce)
	for i := range leaves {
		leaves[i] = 10_000_000_000 + 2*int64(i)
	}
	details := auditlog.Removal{Leaves: rangesOf(leaves)}.Details(make([]byte, 64))
	if text := auditlog.FormatRanges(rangesOf(leaves)); len(text) > rangesLength || len(details) > detailPairs-1 {
		t.Errorf("%d bytes in %d details", len(text), len(details))
	}
	backendtest.Equal(t, rangesOf([]int64{5, 1, 2, 3, 9}), []auditlog.Range{{First: 1, Last: 3}, {First: 5, Last: 5}, {First: 9, Last: 9}}, "ranges")
}
