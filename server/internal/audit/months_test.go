package audit

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/database"
	"github.com/tollgatehq/tollgate/server/internal/fault/faulttest"
)

// monthsOf are the names of the log's partitions, without what they have in common.
func monthsOf(t *testing.T, s *Service) (names []string) {
	t.Helper()
	list, err := listPartitions(t.Context(), s.db)
	backendtest.Must(t, err)
	for _, p := range list {
		names = append(names, strings.TrimPrefix(p.name, "audit_events_"))
	}
	return names
}

// inPartition counts what a partition holds.
func inPartition(t *testing.T, s *Service, name string) int {
	t.Helper()
	return backendtest.Count(t, s.db, `SELECT COUNT(*) FROM audit_events_`+name)
}

// ahead is a month that no partition is there for after the migration.
func ahead(t *testing.T, s *Service) time.Time {
	t.Helper()
	list, err := listPartitions(t.Context(), s.db)
	backendtest.Must(t, err)
	i := slices.IndexFunc(list, func(p partition) bool { return p.name == "audit_events_start" })
	return time.UnixMicro(list[i].to).UTC()
}

// Instances that start at once make the months that lack, each once, and move there what
// the default partition has of them; events of any other time find a partition, too.
func TestMakeMonths(t *testing.T) {
	t.Parallel()
	onPostgres(t, func(t *testing.T, s *Service, _ func() openTx) {
		at := ahead(t, s)
		add(t, s, Event{Action: "test.event", Resource: "early", Time: at.Add(time.Hour)},
			Event{Action: "test.event", Resource: "last", Time: at.AddDate(0, 1, 0).Add(-time.Microsecond)},
			Event{Action: "test.event", Resource: "far", Time: at.AddDate(0, 5, 0)})
		backendtest.Equal(t, inPartition(t, s, "default"), 3, "events without a month")

		s.clock.Now = func() time.Time { return at.Add(-time.Hour) } // the month before
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() {
				if err := s.MakeMonths(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		first, second := at.Format("2006_01"), at.AddDate(0, 1, 0).Format("2006_01")
		backendtest.Equal(t, monthsOf(t, s), []string{first, second, "default", "start"}, "partitions")
		backendtest.Equal(t, inPartition(t, s, first), 2, "events of the first month")
		backendtest.Equal(t, inPartition(t, s, "default"), 1, "events without a month")
		add(t, s, Event{Action: "test.event", Resource: "second", Time: at.AddDate(0, 1, 0)})
		backendtest.Equal(t, inPartition(t, s, second), 1, "events of the second month")
		listed, _, err := s.List(t.Context(), Filter{Action: "test.*"}, 10, "")
		backendtest.Must(t, err)
		backendtest.Equal(t, resources(listed), []string{"far", "second", "last", "early"}, "events")
		lacking, err := lackingIndexes(t.Context(), s.db)
		backendtest.Must(t, err)
		backendtest.Equal(t, lacking, nil, "indexes that are not there")
	})
}

// A reader that stays holds up the making of a month, and nobody who records events.
func TestMakeMonthsBehindALock(t *testing.T) {
	t.Parallel()
	onPostgres(t, func(t *testing.T, s *Service, begin func() openTx) {
		at := ahead(t, s)
		s.clock.Now = func() time.Time { return at }
		reader := begin()
		backendtest.Must(t, faulttest.Err(reader.Exec(t.Context(), `SELECT COUNT(*) FROM audit_events`)))
		made := make(chan error, 1)
		go func() { made <- s.MakeMonths(t.Context()) }()
		var longest time.Duration
		for n, began := 0, time.Now(); time.Since(began) < time.Second; n++ {
			at := time.Now()
			add(t, s, of(n))
			longest = max(longest, time.Since(at))
		}
		if longest > 700*time.Millisecond {
			t.Errorf("an event waited %s", longest)
		}
		backendtest.Must(t, reader.Rollback())
		backendtest.Must(t, <-made)
		backendtest.Equal(t, len(monthsOf(t, s)), 5, "partitions")
	})
}

// What a table that was large at the migration lacks is built while events are recorded,
// also after a build that was interrupted.
func TestBuildIndexes(t *testing.T) {
	t.Parallel()
	onPostgres(t, func(t *testing.T, s *Service, _ func() openTx) {
		downTo0010(t, s)
		events := things(2000)
		for i := range events {
			events[i].UserAgent = fmt.Sprintf("%0500d", i)
		}
		add(t, s, events...)
		backendtest.Must(t, faulttest.Err(s.db.MigrateUp(t.Context())))
		lacking, err := lackingIndexes(t.Context(), s.db)
		if err != nil || len(lacking) != 5 {
			t.Fatalf("%d indexes are not there, %v; want 5", len(lacking), err)
		}
		// As an interrupted build leaves it.
		backendtest.Must(t, lacking[0].build(t.Context(), s.db))
		backendtest.Must(t, faulttest.Err(s.db.Exec(t.Context(),
			`UPDATE pg_index SET indisvalid = false WHERE indexrelid = to_regclass($1)`, lacking[0].name())))

		built, err := s.BuildIndexes(t.Context())
		if err != nil || len(built) != 5 {
			t.Errorf("built %q, %v", built, err)
		}
		if again, err := s.BuildIndexes(t.Context()); err != nil || again != nil {
			t.Errorf("built again: %q, %v", again, err)
		}
		backendtest.WantCount(t, s.db, 0, `SELECT COUNT(*) FROM pg_index JOIN pg_class c ON c.oid = indexrelid
			WHERE relnamespace = current_schema()::regnamespace AND (NOT indisvalid OR relname = 'audit_events_start_by_resource')`)
	})
}

// downTo0010 undoes the months.
func downTo0010(t *testing.T, s *Service) {
	t.Helper()
	status, err := s.db.MigrationStatus(t.Context())
	backendtest.Must(t, err)
	i := slices.IndexFunc(status, func(m database.Migration) bool { return m.ID >= "0011" })
	backendtest.Must(t, faulttest.Err(s.db.MigrateDown(t.Context(), len(status)-i)))
}
