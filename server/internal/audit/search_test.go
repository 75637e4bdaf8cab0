package audit

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/audit/tree"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/clock"
	"github.com/tollgatehq/tollgate/server/internal/database"
	"github.com/tollgatehq/tollgate/server/internal/fault"
	"github.com/tollgatehq/tollgate/server/internal/fault/faulttest"
)

// find gives the events their rows of audit_leaves, by which addresses are found.
func find(t *testing.T, db *database.DB, events []Event) {
	t.Helper()
	for i, e := range events {
		_, err := db.Exec(t.Context(), `INSERT INTO audit_leaves (leaf, event_id, time, salt, address) VALUES ($1, $2, $3, $4, $5)`,
			i, e.ID, e.Time.UnixMicro(), []byte("0123456789abcdef"), tree.Address(e.IP))
		backendtest.Must(t, err)
	}
}

// narrow are bounds at which every way of a search is taken with few events.
func narrow(random *rand.Rand) bounds {
	return bounds{
		read: 1 + random.IntN(60), step: 1 + random.IntN(30), first: 1 + random.IntN(10), joined: 1 + random.IntN(10),
		values: random.IntN(5), span: 1 + random.IntN(40), count: 1 + random.IntN(20),
	}
}

// Texts that a filter takes apart, and that SQL would.
var (
	someTexts   = []string{"", "a", "b", "a.", "A", "a%", "a_", "'", "ä"}
	someActions = []string{"auth.login", "auth.logout", "auth", "auth.sub.x", "authority.make", "Auth.login", "order.cancel", "order.pay", "order%.x"}
	someThings  = []string{"", "orders/1", "orders/2", "orders/2/lines/7", "orders", "orders0", "Orders/1", "orders/", "orders/*", "users/1", "ordersx/1"}
	someIPs     = []string{"", "192.0.2.1", "192.0.2.130", "192.0.3.1", "::ffff:192.0.2.1", "2001:db8::1", "2001:DB8:0::1", "2001:db8:1::1", "fe80::1%eth0", "an address", "10.0.0.1"}
	someNets    = []string{
		"192.0.2.1", "192.0.2.0/24", "192.0.2.0/25", "192.0.2.128/25", "192.0.2.77/23", "0.0.0.0/0", "::/0", "2001:db8::/32", "2001:db8::/48",
		"2001:db8::1", "::ffff:192.0.2.1", "::ffff:192.0.2.0/120", "10.0.0.0/8", "fe80::/10", "198.51.100.0/24",
	}
)

func pick(random *rand.Rand, from []string) string { return from[random.IntN(len(from))] }

func randomEvents(random *rand.Rand, n int) (events []Event) {
	for i := range n {
		events = append(events, Event{
			ID: fmt.Sprintf("event-%04d", (i*37)%n), Time: start.Add(time.Duration(i/3) * time.Second), // several at a time
			ActorID: pick(random, someTexts), ActorName: pick(random, someTexts), SessionID: pick(random, someTexts), APIKeyID: pick(random, someTexts),
			Action: Action(pick(random, someActions)), Outcome: []Outcome{Success, Denied, Failure}[random.IntN(3)],
			Reason: pick(random, someTexts), Resource: pick(random, someThings), IP: pick(random, someIPs),
			RequestID: pick(random, someTexts), RecordedBy: pick(random, someTexts),
		})
	}
	return events
}

func randomFilter(random *rand.Rand, n int) (f Filter) {
	for range 1 + random.IntN(3) {
		at := start.Add(time.Duration(random.IntN(n/3)) * time.Second)
		switch random.IntN(12) {
		case 0:
			f.Actor = pick(random, someTexts)
		case 1:
			f.Action = pick(random, append(someActions, "auth.*", "auth.sub.*", "order.*", "none.*", "*", ".*"))
		case 2:
			f.Outcome = []Outcome{Success, Denied, Failure}[random.IntN(3)]
		case 3:
			f.Resource = pick(random, append(someThings, "orders/*", "orders/*", "orders/2/*", "users/*", "none/*", "/*", "*"))
		case 4:
			f.Reason = pick(random, someTexts)
		case 5, 6:
			f.Network, _ = ParseNetwork(pick(random, someNets))
		case 7:
			f.SessionID = pick(random, someTexts)
		case 8:
			f.APIKeyID = pick(random, someTexts)
		case 9:
			f.RequestID = pick(random, someTexts)
		case 10:
			f.RecordedBy = pick(random, someTexts)
		case 11:
			f.After, f.Before = at, at.Add(time.Duration(random.IntN(n))*time.Second)
		}
	}
	return f
}

// Whatever is asked for, and whichever way a search goes, its pages are what a watch
// would have given.
func TestSearchFindsWhatAWatchGives(t *testing.T) {
	t.Parallel()
	const seed, size = 7, 300
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		random := rand.New(rand.NewPCG(seed, 1))
		s, _ := newService(db)
		events := randomEvents(random, size)
		add(t, s, events...)
		find(t, db, events)
		slices.SortFunc(events, func(a, b Event) int { // as a list has them
			return -strings.Compare(fmt.Sprint(a.Time.UnixMicro(), a.ID), fmt.Sprint(b.Time.UnixMicro(), b.ID))
		})
		for i := range 300 {
			f := randomFilter(random, size)
			if s.bounds = searchBounds(); i%4 > 0 {
				s.bounds = narrow(random)
			}
			var want []string
			for _, e := range events {
				if f.stored().match(&e) {
					want = append(want, e.ID)
				}
			}
			var got []string
			for _, e := range all(t, s, f, int32(1+random.IntN(60))) {
				got = append(got, e.ID)
			}
			if !slices.Equal(got, want) {
				t.Fatalf("%+v with %+v:\ngot  %v\nwant %v", f, s.bounds, got, want)
			}
		}
	})
}

func TestParseNetwork(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"203.0.113.7": "203.0.113.7/32", "203.0.113.7/24": "203.0.113.0/24", "2001:DB8::1": "2001:db8::1/128", "2001:db8::/32": "2001:db8::/32",
		"::ffff:203.0.113.7": "203.0.113.7/32", "::ffff:203.0.113.7/120": "203.0.113.0/24", "::/0": "::/0", "0.0.0.0/0": "0.0.0.0/0",
	} {
		got, err := ParseNetwork(text)
		if err != nil || got.String() != want {
			t.Errorf("%s is %v, %v, want %s", text, got, err, want)
		}
	}
	if got, err := ParseNetwork(""); err != nil || got.IsValid() {
		t.Errorf("nothing is %v, %v", got, err)
	}
	for _, text := range []string{"example.com", "203.0.113", "203.0.113.7/33", "203.0.113.7/", "203.0.113.07", "::ffff:0:0/64", "fe80::1%eth0", "2001:db8::/129", " 10.0.0.1", "10.0.0.1-10.0.0.9"} {
		faulttest.WantField(t, faulttest.Err(ParseNetwork(text)), "address")
	}
}

func TestGetEvent(t *testing.T) {
	onDatabases(t, func(t *testing.T, s *Service, _ *clock.Fake) {
		e := of(7)
		add(t, s, e, of(8))
		listed := all(t, s, Filter{Resource: e.Resource}, 0)
		got, err := s.Get(t.Context(), listed[0].ID)
		if err != nil || got.Resource != e.Resource || got.ID != listed[0].ID {
			t.Errorf("got %+v, %v", got, err)
		}
		for _, id := range []string{"none", "\x00", strings.Repeat("x", 1000)} {
			wantFault(t, faulttest.Err(s.Get(t.Context(), id)), fault.NotFound, "EVENT_NOT_FOUND")
		}
	})
}
