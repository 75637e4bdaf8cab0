package audit

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/clock"
	"github.com/tollgatehq/tollgate/server/internal/database"
	"github.com/tollgatehq/tollgate/server/internal/fault"
	"github.com/tollgatehq/tollgate/server/internal/fault/faulttest"
)

func TestListReturnsWhatWasAppended(t *testing.T) {
	onDatabases(t, func(t *testing.T, s *Service, _ *clock.Fake) {
		want := Event{
			ID: "0197-id", Time: start.Add(123 * time.Microsecond), ActorID: "u1", ActorName: "Zoë", SessionID: "s1", APIKeyID: "k1",
			Action: RoleAssign, Outcome: Denied, Reason: "permission_missing", Resource: "roles/clerk",
			IP: "2001:db8::1", UserAgent: `curl/8 "<&>'`, RequestID: "r1",
			Details: map[string]string{"user": "u2", "quote": `"\ % _ <`}, RecordedBy: "svc",
		}
		add(t, s, want)
		got := all(t, s, Filter{}, 0)
		if len(got) != 1 || !reflect.DeepEqual(got[0], want) {
			t.Fatalf("got  %+v\nwant %+v", got, want)
		}
	})
}

func TestAppendTwiceTheSameID(t *testing.T) {
	onDatabases(t, func(t *testing.T, s *Service, _ *clock.Fake) {
		run(t, s)
		first := of(1)
		first.ID = "the same"
		add(t, s, first)
		second := of(2)
		second.ID = "the same"
		if err := commit(s, second); !errors.Is(err, database.ErrExists) {
			t.Errorf("append again: %v", err)
		}
		wantFault(t, s.Record(t.Context(), second), fault.Unavailable, "AUDIT_UNAVAILABLE")
		backendtest.Equal(t, resources(all(t, s, Filter{}, 0)), []string{"things/1"}, "the log holds")
		if err := s.Record(t.Context(), of(3)); err != nil {
			t.Errorf("after a failed batch: %v", err)
		}
	})
}

func TestAppendCutsTexts(t *testing.T) {
	t.Parallel()
	nasty := map[string]string{
		"huge":          strings.Repeat("x", 1<<20),
		"huge and wide": strings.Repeat("€", 1<<18),
		"NUL":           strings.Repeat("a\x00", 2000),
		"invalid":       strings.Repeat("\xff\xfeb", 2000),
		"cut character": "\x80\x80\x80" + strings.Repeat("𝄞", 500),
	}
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		s, _ := newService(db)
		for name, bad := range nasty {
			details := map[string]string{}
			for i := range 100 {
				details[fmt.Sprint(i, bad)] = bad
			}
			add(t, s, Event{
				ActorID: bad, ActorName: bad, SessionID: bad, APIKeyID: bad, Action: Action(bad), Outcome: Outcome(bad),
				Reason: bad, Resource: bad, IP: bad, UserAgent: bad, RequestID: bad, Details: details, RecordedBy: bad,
			})
			// The filter's texts are cut as the event's were: they find it.
			found := all(t, s, Filter{Actor: bad, Action: bad, Resource: bad}, 0)
			if len(found) != 1 {
				t.Fatalf("%s: %d events found by what was recorded", name, len(found))
			}
			e := found[0]
			for field, c := range map[string]struct {
				text  string
				limit int
			}{
				"actor id": {e.ActorID, 128}, "actor name": {e.ActorName, 128}, "session": {e.SessionID, 128},
				"key": {e.APIKeyID, 128}, "action": {string(e.Action), 128}, "outcome": {string(e.Outcome), 16},
				"reason": {e.Reason, 256}, "resource": {e.Resource, 256}, "ip": {e.IP, 64}, "agent": {e.UserAgent, 512},
				"request": {e.RequestID, 128}, "recorded by": {e.RecordedBy, 128},
			} {
				fits(t, name+" "+field, c.text, c.limit)
			}
			if len(e.Details) == 0 || len(e.Details) > 32 {
				t.Errorf("%s: %d details", name, len(e.Details))
			}
			for k, v := range e.Details {
				fits(t, name+" key", k, 64)
				fits(t, name+" value", v, 512)
			}
		}
	})
}

func fits(t *testing.T, name, s string, limit int) {
	t.Helper()
	if len(s) > limit || len(s) < limit-6 || !utf8.ValidString(s) || strings.Contains(s, "\x00") {
		t.Errorf("%s: %d bytes of at most %d, valid: %t: %.20q", name, len(s), limit, utf8.ValidString(s), s)
	}
}

func TestTextFits(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"", "plain", "Zoë", strings.Repeat("x", 128), strings.Repeat("€", 42)} {
		backendtest.Equal(t, text(s, 128), s, "text(%q)", s)
	}
}

func TestFilter(t *testing.T) {
	t.Parallel()
	at := func(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }
	events := []Event{
		{Resource: "0", Time: at(0), ActorID: "u1", ActorName: "anna", Action: "auth.login", Outcome: Success},
		{Resource: "1", Time: at(1), ActorID: "u2", ActorName: "u1", Action: "auth.logout", Outcome: Success},
		{Resource: "2", Time: at(2), ActorID: "u1", ActorName: "u1", Action: "authority.make", Outcome: Denied},
		{Resource: "3", Time: at(3), ActorName: "bob", Action: "auth.sub.deep", Outcome: Failure},
		{Resource: "4", Time: at(4), ActorName: "x' OR '1'='1", Action: "auth-x.login", Outcome: Denied},
		{Resource: "5", Time: at(5), Action: "AUTH.login", Outcome: Success},
		{Resource: "6", Time: at(6), Action: "order_x.pay", Outcome: Success},
		{Resource: "7", Time: at(7), Action: "orderax.pay", Outcome: Success},
		{Resource: "8", Time: at(8), Action: "order%.pay", Outcome: Success},
	}
	cases := map[string]struct {
		filter Filter
		want   string
	}{
		"all":                     {Filter{}, "876543210"},
		"actor by id or name":     {Filter{Actor: "u1"}, "210"},
		"actor by name":           {Filter{Actor: "anna"}, "0"},
		"actor is not a prefix":   {Filter{Actor: "ann"}, ""},
		"actor is not SQL":        {Filter{Actor: "x' OR '1'='1"}, "4"},
		"action":                  {Filter{Action: "auth.login"}, "0"},
		"actions by prefix":       {Filter{Action: "auth.*"}, "310"},
		"a deeper prefix":         {Filter{Action: "auth.sub.*"}, "3"},
		"case counts":             {Filter{Action: "AUTH.*"}, "5"},
		"an underscore is itself": {Filter{Action: "order_x.*"}, "6"},
		"a percent is itself":     {Filter{Action: "order%.*"}, "8"},
		"a star alone is not all": {Filter{Action: "*"}, ""},
		"a star in the middle":    {Filter{Action: "au*.login"}, ""},
		"outcome":                 {Filter{Outcome: Denied}, "42"},
		"resource":                {Filter{Resource: "3"}, "3"},
		"NUL":                     {Filter{Actor: "\x00", Resource: "\x00", Action: "\x00.*"}, ""},
		"after is inclusive":      {Filter{After: at(7)}, "87"},
		"after, finer than kept":  {Filter{After: at(7).Add(1)}, "8"},
		"before is exclusive":     {Filter{Before: at(2)}, "10"},
		"before, finer than kept": {Filter{Before: at(2).Add(1)}, "210"},
		"between":                 {Filter{After: at(2), Before: at(4)}, "32"},
		"nothing between":         {Filter{After: at(4), Before: at(2)}, ""},
		"everything at once":      {Filter{Actor: "u1", Action: "auth.*", Outcome: Success, Resource: "1", After: at(0), Before: at(9)}, "1"},
		"actor and action":        {Filter{Actor: "u1", Action: "authority.make"}, "2"},
	}
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		s, _ := newService(db)
		add(t, s, events...)
		for name, c := range cases {
			for _, size := range []int32{1, 2, 50} {
				backendtest.Equal(t, strings.Join(resources(all(t, s, c.filter, size)), ""), c.want, "%s, in pages of %d", name, size)
			}
			var watched string
			for _, e := range slices.Backward(events) {
				if c.filter.stored().match(&e) {
					watched += e.Resource
				}
			}
			backendtest.Equal(t, watched, c.want, "%s, in a watch", name)
		}
	})
}

func TestListWhileEventsArrive(t *testing.T) {
	onDatabases(t, func(t *testing.T, s *Service, fake *clock.Fake) {
		var want []string
		for i := range 100 {
			if i%7 == 0 { // many at the same microsecond
				fake.Advance(time.Millisecond)
			}
			add(t, s, of(i))
			want = append(want, of(i).Resource)
		}
		var writing sync.WaitGroup
		done := make(chan struct{})
		fake.Advance(time.Millisecond)
		writing.Go(func() {
			for i := 100; ; i++ {
				select {
				case <-done:
					return
				default:
				}
				fake.Advance(time.Microsecond)
				if err := commit(s, of(i)); err != nil {
					t.Error(err)
					return
				}
			}
		})
		got := resources(all(t, s, Filter{}, 7))
		close(done)
		writing.Wait()
		old := got[max(0, len(got)-100):]
		slices.Sort(old)
		slices.Sort(want)
		backendtest.Equal(t, old, want, "what pages gave")
		slices.Sort(got)
		backendtest.Equal(t, len(slices.Compact(slices.Clone(got))), len(got), "number of different events")
	})
}

func TestListTokenOfAnotherFilter(t *testing.T) {
	onDatabases(t, func(t *testing.T, s *Service, _ *clock.Fake) {
		add(t, s, of(1), of(2), of(3))
		_, token, err := s.List(t.Context(), Filter{Action: "test.*"}, 1, "")
		if err != nil || token == "" {
			t.Fatal(token, err)
		}
		for _, other := range []Filter{
			{}, {Action: "test.event"}, {Actor: "test.*"}, {Resource: "test.*"}, {Action: "test.*", Outcome: Success},
			{Action: "test.*", Actor: "a"}, {Action: "test.*", Resource: "a"}, {Action: "test.*", After: start}, {Action: "test.*", Before: start},
		} {
			wantFault(t, faulttest.Err(s.List(t.Context(), other, 1, token)), fault.Invalid, "INVALID_FIELD")
		}
		forged, _ := json.Marshal(cursor{Time: 1, ID: "x"})
		wantFault(t, faulttest.Err(s.List(t.Context(), Filter{}, 1, string(forged))), fault.Invalid, "INVALID_FIELD")
	})
}
