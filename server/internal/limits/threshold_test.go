package limits

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/audit"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
)

// notes are the thresholds that an instance has announced.
type notes struct {
	mu   sync.Mutex
	list []string
}

func (n *notes) note(e audit.Event) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.list = append(n.list, fmt.Sprint(e.Resource, " ", e.Details["key"], " ", e.Details["percent"]))
	return true
}

// want wants what was announced since the last time, in any order.
func (n *notes) want(t *testing.T, what string, want ...string) {
	t.Helper()
	n.mu.Lock()
	defer n.mu.Unlock()
	slices.Sort(n.list)
	slices.Sort(want)
	backendtest.Equal(t, fmt.Sprint(n.list), fmt.Sprint(want), "announced, %s", what)
	n.list = nil
}

func (i *instance) quota(name string, mode Mode) {
	i.t.Helper()
	_, _, err := i.Create(i.system(), Limit{
		Name: name, Subject: SubjectCustom, ContextKey: "k", Permission: "tests:*", Rate: 10, Algorithm: Calendar, Calendar: Month, Mode: mode,
	})
	i.must(err)
}

func TestThresholds(t *testing.T) {
	onReserving(t, func(t *testing.T, i *instance) {
		var n notes
		i.Announce(n.note)
		i.quota("q", Enforce)
		i.quota("watched", Shadow)
		i.check("q", "a", 7, false)
		n.want(t, "with 7 of 10")
		i.check("q", "a", 1, true)
		n.want(t, "after a look")
		i.check("q", "a", 1, false)
		n.want(t, "with 8 of 10", "limits/q a 80")
		i.check("q", "a", 1, false)
		n.want(t, "with 9 of 10")
		i.check("q", "a", 2, false)
		n.want(t, "when a call is refused", "limits/q a 100")
		i.check("q", "a", 2, false)
		i.check("q", "a", 1, false)
		i.check("q", "a", 1, false)
		n.want(t, "with all of it, which was announced before")
		i.check("q", "b", 10, false)
		n.want(t, "with another key's all at once", "limits/q b 80", "limits/q b 100")
		i.check("q", "c", 11, false)
		n.want(t, "when a call costs more than all, and little is used")
		i.check("watched", "a", 10, false)
		i.check("watched", "a", 1, false)
		n.want(t, "in shadow mode", "limits/watched a 80", "limits/watched a 100")

		// What is given back and used again is no second threshold.
		id := i.reserve("u", "q", "d", 9).ID
		n.want(t, "with a reservation", "limits/q d 80")
		i.settle("u", id, 1, 9, "a settlement")
		i.check("q", "d", 8, false)
		n.want(t, "with 9 of 10 again")
		i.settle("u", i.reserve("u", "q", "d", 1).ID, 5, 0, "one of more")
		n.want(t, "with more than all", "limits/q d 100")
		i.settle("u", i.reserve("u", "q", "e", 1).ID, 9, 1, "one of more")
		n.want(t, "with a settlement of more", "limits/q e 80")

		i.must(i.ResetKey(i.system(), "q", "a"))
		i.check("q", "a", 8, false)
		n.want(t, "after a reset", "limits/q a 80")
	})
}

// TestThresholdsOnce: of calls at once, at two instances, one announces.
func TestThresholdsOnce(t *testing.T) {
	t.Parallel()
	r := testRedis(t)
	db := backendtest.SQLite(t)
	var n notes
	one, two := startOn(t, db, r), startOn(t, db, r)
	one.quota("q", Enforce)
	for _, i := range []*instance{one, two} {
		i.Announce(n.note)
	}
	for round := range 20 {
		var all sync.WaitGroup
		for c := range 12 {
			all.Go(func() { []*instance{one, two}[c%2].check("q", fmt.Sprint(round), 1, false) })
		}
		all.Wait()
		n.want(t, "by twelve calls", fmt.Sprintf("limits/q %d 80", round), fmt.Sprintf("limits/q %d 100", round))
	}
}

// TestThresholdsOfTheNextWindow: each window has its own.
func TestThresholdsOfTheNextWindow(t *testing.T) {
	t.Parallel()
	i := onSQLite(t, nil)
	var n notes
	i.Announce(n.note)
	i.quota("q", Enforce)
	for month := range 3 {
		i.check("q", "a", 9, false)
		n.want(t, fmt.Sprint("in month ", month), "limits/q a 80")
		i.clock.Advance(31 * 24 * time.Hour)
	}
}
