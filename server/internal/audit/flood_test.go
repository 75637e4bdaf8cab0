package audit

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/clock"
	"github.com/tollgatehq/tollgate/server/internal/database"
	"github.com/tollgatehq/tollgate/server/internal/fault"
	"github.com/tollgatehq/tollgate/server/internal/fault/faulttest"
)

// from is a refusal of somebody unknown.
func from(ip string) Event {
	return Event{Action: TollgateRefused, Outcome: Denied, Reason: "credential_missing", Resource: "/a/B", IP: ip}
}

// of a known caller.
func by(actor string) Event {
	e := from("192.0.2.1")
	e.ActorID, e.ActorName = actor, actor
	return e
}

func (s *Service) refuse(t *testing.T, e Event, kind string) {
	t.Helper()
	backendtest.Must(t, s.RecordRefusal(t.Context(), e, kind, e.Origin()))
}

// told is how many refusals the log tells of, and in how many events.
func told(t *testing.T, s *Service) (refused, events int) {
	t.Helper()
	for _, e := range all(t, s, Filter{}, 250) {
		n := 1
		if text := e.Details["refused"]; text != "" {
			var err error
			if n, err = strconv.Atoi(text); err != nil || n < 1 {
				t.Errorf("refused is %q", text)
			}
		}
		refused += n
		events++
	}
	return refused, events
}

func wantTold(t *testing.T, s *Service, refused, events int) {
	t.Helper()
	gotRefused, gotEvents := told(t, s)
	backendtest.Equal(t, [2]int{gotRefused, gotEvents}, [2]int{refused, events}, "refusals on record, and their events")
}

// newFloodService is newService that writes counts only when the test says so.
func newFloodService(db *database.DB) (*Service, *clock.Fake) {
	s, fake := newService(db)
	s.timeout, s.sweepEvery = time.Minute, time.Hour
	return s, fake
}

// onFloods is onDatabases with a newFloodService that runs.
func onFloods(t *testing.T, test func(t *testing.T, s *Service, fake *clock.Fake)) {
	t.Helper()
	t.Parallel()
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		s, fake := newFloodService(db)
		run(t, s)
		test(t, s, fake)
	})
}

// pass moves the clock and writes what is due then.
func pass(t *testing.T, s *Service, fake *clock.Fake, d time.Duration) {
	t.Helper()
	fake.Advance(d)
	if s.sweep(t.Context(), false) {
		t.Fatal("counts could not be written")
	}
}

// A flood is an event at once and then one a window with the number, also the
// last window's, when nothing comes any more.
func TestFloodIsAnEventAWindow(t *testing.T) {
	onFloods(t, func(t *testing.T, s *Service, fake *clock.Fake) {
		const windows, each = 3, 400
		for range windows {
			for range each {
				s.refuse(t, from("192.0.2.1"), "x")
			}
			pass(t, s, fake, floodWindow)
		}
		wantTold(t, s, windows*each, 1+windows)
		last := all(t, s, Filter{}, 1)[0]
		if last.Details["refused"] != strconv.Itoa(each) || last.Details["since"] != "2026-03-01T12:00:20Z" || last.IP != "192.0.2.1" ||
			!last.Time.Equal(fake.Now()) || last.Reason != "credential_missing" || last.Resource != "/a/B" {
			t.Errorf("the count's event is %+v", last)
		}
		pass(t, s, fake, floodWindow) // a quiet window
		if len(s.floods.open) != 0 || s.floods.order.Len() != 0 || len(s.floods.sizes) != 0 {
			t.Errorf("after a quiet window %d floods and %d origins are remembered", len(s.floods.open), len(s.floods.sizes))
		}
		s.refuse(t, from("192.0.2.1"), "x") // a new one
		wantTold(t, s, windows*each+1, 2+windows)
	})
}

// Different kinds and keys are different floods.
func TestFloodsByKindAndKey(t *testing.T) {
	onFloods(t, func(t *testing.T, s *Service, _ *clock.Fake) {
		for _, e := range []Event{from("192.0.2.1"), from("192.0.2.2"), from("::ffff:192.0.2.2"), from("2001:db8::1"), from("2001:db8::2"), from("2001:db8:0:1::1"), from(""), by("ann")} {
			s.refuse(t, e, "x")
			s.refuse(t, e, "y")
		}
		if _, events := told(t, s); events != 2*6 {
			t.Errorf("%d events, want 2 for each of 192.0.2.1, .2, two /64, no address, ann", events)
		}
	})
}

// After 10,000 callers were held off once, others are seen as before.
func TestFloodsOfOthersAreRecorded(t *testing.T) {
	onFloods(t, func(t *testing.T, s *Service, fake *clock.Fake) {
		shared(10_000, func(i int) {
			for range 2 {
				if err := s.RecordRefusal(t.Context(), by(fmt.Sprint("user-", i)), "limit x", fmt.Sprint("user-", i)); err != nil {
					t.Error(err)
				}
			}
		})
		pass(t, s, fake, 365*24*time.Hour)
		before, events := told(t, s)
		if before != 20_000 || events != 20_000 {
			t.Errorf("%d refusals in %d events, want the first and the second of each", before, events)
		}
		shared(500, func(i int) { s.refuse(t, by(fmt.Sprint("other-", i)), "limit x") })
		if _, after := told(t, s); after-events != 500 {
			t.Errorf("the first refusals of 500 other callers make %d events", after-events)
		}
	})
}

// While somebody with an IPv6 /48 floods, and 3,000 addresses do, the first
// refusal of every known caller is recorded, and of the flood every refusal is
// counted in few events.
func TestFloodFromManyAddresses(t *testing.T) {
	t.Parallel()
	s, fake := floodsOnSQLite(t)
	flood := 0
	for i := range 5000 {
		s.refuse(t, from(fmt.Sprintf("2001:db8:7:%x::1", i)), "x")
		flood++
	}
	if _, events := told(t, s); events > floodsPerNetwork+1 {
		t.Errorf("%d events of one /48, want at most %d", events, floodsPerNetwork+1)
	}
	for i := range 300 { // one address, with whatever kinds
		s.refuse(t, from("198.51.100.7"), fmt.Sprint("kind-", i))
		flood++
	}
	shared(3000, func(i int) { s.refuse(t, from(fmt.Sprintf("10.0.%d.%d", i/250, i%250)), "x") })
	flood += 3000
	_, events := told(t, s)
	if events > floodsAnonymous+4 {
		t.Errorf("%d events of everybody unknown, want at most %d", events, floodsAnonymous+4)
	}
	for i := range 200 {
		s.refuse(t, by(fmt.Sprint("user-", i)), "x")
	}
	if _, after := told(t, s); after-events != 200 {
		t.Errorf("the first refusals of 200 known callers make %d events", after-events)
	}
	pass(t, s, fake, floodWindow)
	if refused, _ := told(t, s); refused != flood+200 {
		t.Errorf("%d refusals are on record, want %d", refused, flood+200)
	}
	together := all(t, s, Filter{}, 250)
	found := map[string]bool{}
	for _, e := range together {
		if name := e.Details["from"]; name != "" {
			found[name] = true
			if e.IP != "" || e.Resource != "" || e.RequestID != "" {
				t.Errorf("an event of many names one: %+v", e)
			}
		}
	}
	for _, want := range []string{"network 2001:db8:7::/48", "address 198.51.100.7", "many addresses"} {
		if !found[want] {
			t.Errorf("no count is from %q, but from %v", want, found)
		}
	}
}

// Memory is bounded: the oldest flood is evicted, and its count is recorded.
func TestFloodEvictsTheOldest(t *testing.T) {
	t.Parallel()
	s, fake := floodsOnSQLite(t)
	s.refuse(t, by("first"), "x")
	s.refuse(t, by("first"), "x")
	fake.Advance(time.Second)
	shared(floodsOpen+500, func(i int) { s.refuse(t, by(fmt.Sprint("user-", i)), "x") })
	if n := len(s.floods.open); n != floodsOpen || s.floods.order.Len() != n {
		t.Errorf("%d floods are remembered, %d in order; want %d", n, s.floods.order.Len(), floodsOpen)
	}
	wantTold(t, s, floodsOpen+502, floodsOpen+502)
}

// Whatever comes in whatever order, and whenever the server stops: the log
// tells of every refusal, once.
func TestFloodCountsEveryRefusal(t *testing.T) {
	t.Parallel()
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		s, fake := newFloodService(db)
		stop := run(t, s)
		random := rand.New(rand.NewPCG(1, 2))
		total := 0
		for range 30 {
			var all sync.WaitGroup
			for range 8 {
				n, address, kind := random.IntN(40), random.IntN(20), random.IntN(3)
				total += n
				all.Go(func() {
					for range n {
						s.refuse(t, from(fmt.Sprint("192.0.2.", address)), fmt.Sprint(kind))
					}
				})
			}
			all.Wait()
			pass(t, s, fake, time.Duration(random.IntN(15_000))*time.Millisecond)
		}
		for range 1000 {
			s.refuse(t, from("192.0.2.1"), "at the end")
		}
		stop()
		if refused, events := told(t, s); refused != total+1000 || events > total/4 {
			t.Errorf("%d refusals are on record in %d events, want %d in few", refused, events, total+1000)
		}
	})
}

// Counts that cannot be written now are written later, once.
func TestFloodCountsOutliveAnOutage(t *testing.T) {
	t.Parallel()
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		s, fake := newFloodService(db)
		s.timeout = recordTimeout
		run(t, s)
		for range 5 {
			s.refuse(t, from("192.0.2.1"), "x")
		}
		rename := func(from, to string) {
			backendtest.Must(t, faulttest.Err(db.Exec(t.Context(), `ALTER TABLE `+from+` RENAME TO `+to)))
		}
		rename("audit_events", "lost")
		wantFault(t, s.RecordRefusal(t.Context(), from("192.0.2.2"), "x", "192.0.2.2"), fault.Unavailable, "AUDIT_UNAVAILABLE")
		fake.Advance(floodWindow)
		if !s.sweep(t.Context(), false) {
			t.Error("counts were written nowhere")
		}
		s.refuse(t, from("192.0.2.1"), "x")
		rename("lost", "audit_events")
		s.refuse(t, from("192.0.2.2"), "x") // the first that can be recorded
		pass(t, s, fake, floodWindow)
		wantTold(t, s, 7, 3)
	})
}

// Callers that hang up do not make each of their refusals the first, which would
// be an event each; and all are on record.
func TestFloodOfCanceledCalls(t *testing.T) {
	t.Parallel()
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		s, _ := newFloodService(db)
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		wantFault(t, s.RecordRefusal(gone, from("192.0.2.1"), "x", "192.0.2.1"), fault.Canceled, "CANCELED")
		for range 9 {
			backendtest.Must(t, s.RecordRefusal(gone, from("192.0.2.1"), "x", "192.0.2.1"))
		}
		run(t, s)() // to its end: everything is written
		wantTold(t, s, 10, 2)
	})
}

// A clock that was put back does not keep windows open.
func TestFloodWhenTheClockStepsBack(t *testing.T) {
	t.Parallel()
	s, fake := floodsOnSQLite(t)
	s.refuse(t, from("192.0.2.1"), "x")
	s.refuse(t, from("192.0.2.1"), "x")
	pass(t, s, fake, -24*time.Hour)
	wantTold(t, s, 2, 2)
}

func TestEventOrigin(t *testing.T) {
	t.Parallel()
	for e, want := range map[string]string{
		"192.0.2.1": "192.0.2.1", "::ffff:192.0.2.1": "192.0.2.1", "2001:db8::1": "2001:db8::/64",
		"fe80::1%eth0": "fe80::/64", "": "", strings.Repeat("x", 300): "",
	} {
		backendtest.Equal(t, from(e).Origin(), want, "origin of %s", e)
	}
	backendtest.Equal(t, by("ann").Origin(), "ann", "origin of a known caller")
}

// floodsOnSQLite is for tests that any database serves.
func floodsOnSQLite(t *testing.T) (*Service, *clock.Fake) {
	t.Helper()
	s, fake := newFloodService(backendtest.SQLite(t))
	run(t, s)
	return s, fake
}

// shared has 200 callers at once do n things.
func shared(n int, do func(i int)) {
	numbers := make(chan int)
	var all sync.WaitGroup
	for range 200 {
		all.Go(func() {
			for i := range numbers {
				do(i)
			}
		})
	}
	for i := range n {
		numbers <- i
	}
	close(numbers)
	all.Wait()
}

// The writer sees by itself that a window has ended.
func TestFloodCountsAreWritten(t *testing.T) {
	onDatabases(t, func(t *testing.T, s *Service, fake *clock.Fake) {
		s.sweepEvery = time.Millisecond
		run(t, s)
		for range 3 {
			s.refuse(t, from("192.0.2.1"), "x")
		}
		fake.Advance(floodWindow)
		for late := time.Now().Add(20 * time.Second); ; {
			if refused, events := told(t, s); refused == 3 && events == 2 {
				return
			}
			if time.Now().After(late) {
				t.Fatal("the count was not written")
			}
		}
	})
}
