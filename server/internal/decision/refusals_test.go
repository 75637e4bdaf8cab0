package decision

import (
	"strconv"
	"testing"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/audit"
	"github.com/tollgatehq/tollgate/server/internal/world"
)

// TestRefusals: a flood makes one event at once and then one every ten
// seconds, which says how many there were.
func TestRefusals(t *testing.T) {
	clock := world.NewClock(time.Unix(1_700_000_000, 0))
	r := newRefusals(world.World{Now: clock.Now})
	event := audit.Event{Action: audit.AccessDenied}

	if _, worth := r.note(event, "limit", "alice"); !worth {
		t.Fatal("the first refusal is not recorded")
	}
	for range 41 {
		if _, worth := r.note(event, "limit", "alice"); worth {
			t.Fatal("recorded again within ten seconds")
		}
	}
	if _, worth := r.note(event, "limit", "bob"); !worth {
		t.Error("another key's first refusal is not recorded")
	}
	if _, worth := r.note(event, "other", "alice"); !worth {
		t.Error("another limit's first refusal is not recorded")
	}
	clock.Advance(quiet)
	next, worth := r.note(event, "limit", "alice")
	if !worth || next.Details["refused_before"] != "41" {
		t.Errorf("after ten seconds: %v, %v; want the 41 before", worth, next.Details)
	}
	clock.Advance(quiet)
	next, worth = r.note(event, "limit", "alice")
	if !worth || next.Details["refused_before"] != "" {
		t.Errorf("after a silence: %v, %v", worth, next.Details)
	}
}

// TestRefusalsAreBounded: a flood from more keys than are told apart is
// recorded together, and forgotten when it is over.
func TestRefusalsAreBounded(t *testing.T) {
	clock := world.NewClock(time.Unix(1_700_000_000, 0))
	r := newRefusals(world.World{Now: clock.Now})
	recorded := 0
	for n := range remembered + 1000 {
		if _, worth := r.note(audit.Event{}, "limit", strconv.Itoa(n)); worth {
			recorded++
		}
	}
	if recorded != remembered+1 || len(r.seen) > remembered+1 {
		t.Errorf("%d recorded, %d remembered; want at most %d", recorded, len(r.seen), remembered+1)
	}
	clock.Advance(quiet)
	r.note(audit.Event{}, "limit", "new")
	if len(r.seen) > 3 {
		t.Errorf("%d remembered after the flood", len(r.seen))
	}
}
