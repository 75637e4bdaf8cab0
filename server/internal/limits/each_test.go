package limits

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/fault"
	"github.com/tollgatehq/tollgate/server/internal/fault/faulttest"
)

// calls counts the round trips to a backend.
type calls struct {
	Backend
	n int
}

func (c *calls) Take(ctx context.Context, counts []Count, peek bool) ([]Outcome, error) {
	c.n++
	return c.Backend.Take(ctx, counts, peek)
}

func (i *instance) each(parts ...Part) (results []Result, whole Result) {
	i.t.Helper()
	results, whole, err := i.TakeEach(i.system(), parts)
	i.must(err)
	if len(results) != len(parts) {
		i.t.Fatalf("%d results of %d parts", len(results), len(parts))
	}
	return results, whole
}

// wantEach checks which parts were allowed, and what is left of each.
func wantEach(t testing.TB, results []Result, want, what string) {
	t.Helper()
	got := ""
	for _, r := range results {
		left := "-"
		if len(r.Limits) > 0 {
			left = fmt.Sprint(r.Limits[0].Remaining)
		}
		if !r.Allowed {
			left += "!"
		}
		got += " " + left
	}
	backendtest.Equal(t, got, want, "%s", what)
}

func named(limit, key string, cost int64) Part {
	return Part{Limit: limit, Key: key, Request: Request{Cost: cost}}
}

func look(p Part) Part {
	p.Look = true
	return p
}

// TestTakeEach: what is counted together is counted in one round trip, all or
// nothing, and none of it is lost.
func TestTakeEach(t *testing.T) {
	t.Parallel()
	backends(t, func(t *testing.T, b Backend) {
		counted := &calls{Backend: b}
		i := onSQLite(t, counted)
		for _, l := range []Limit{
			{Name: "a", Subject: SubjectCustom, ContextKey: "tenant", Rate: 10, Period: 31 * 24 * time.Hour, Algorithm: FixedWindow, Permission: "a:*"},
			{Name: "b", Subject: SubjectUser, Rate: 3, Period: 31 * 24 * time.Hour, Algorithm: FixedWindow, Permission: "b:*"},
			{Name: "wide", Subject: SubjectGlobal, Rate: 100, Period: 31 * 24 * time.Hour, Algorithm: FixedWindow, Permission: "b:*"},
			{Name: "watching", Subject: SubjectUser, Rate: 1, Period: 31 * 24 * time.Hour, Algorithm: FixedWindow, Mode: Shadow, Permission: "c:*"},
			{Name: "slowly", Subject: SubjectUser, Rate: 1, Burst: 3, Period: time.Hour, Algorithm: Backoff, Permission: "d:*"},
		} {
			i.create(l)
		}
		each := func(want, what string, parts ...Part) (results []Result, whole Result) {
			t.Helper()
			before := counted.n
			results, whole = i.each(parts...)
			wantEach(t, results, want, what)
			backendtest.Equal(t, counted.n-before, 1, "round trips, %s", what)
			return results, whole
		}
		byUser := Part{Request: Request{Permission: "b:x", UserID: "u"}}
		each(" 9 2", "by name and as they apply", named("a", "k", 1), byUser)
		each(" 4 4", "one counter twice takes both", named("a", "k", 2), named("a", "k", 3))
		_, whole := each(" 4 2!", "one is over, so neither is counted", named("a", "k", 1), named("b", "u", 3))
		if whole.Allowed || whole.Name != "b" || whole.RetryAfter <= 0 {
			t.Errorf("all together: %+v", whole)
		}
		each(" 4! 4! 2", "two that fit alone and not together", named("a", "k", 2), named("a", "k", 3), byUser)
		each(" 3 - 1", "a limit that there is not", named("a", "k", 1), named("c", "k", 1), byUser)
		each(" 2 1", "a look takes nothing", named("a", "k", 1), look(named("b", "u", 1)))
		each(" 1 1", "a look beside a take", look(named("a", "k", 7)), named("a", "k", 1))
		each(" 1 0", "the last of it", look(named("a", "k", 1)), byUser)
		each(" 1 0!", "a look at what is used up refuses", named("a", "k", 1), look(named("b", "u", 1)))
		each(" 0 1 1", "what only watches refuses nothing", named("a", "k", 1), named("watching", "u", 1), named("watching", "u", 5))
		each(" 2", "backoff counts calls", named("slowly", "u", 5))
		each(" 1 1", "one call, whatever names it", named("slowly", "u", 5), named("slowly", "u", 1))
		each(" 1", "a look at backoff", look(named("slowly", "u", 1)))
		each(" 2", "another user", Part{Request: Request{Permission: "b:x", UserID: "v", Cost: 1}})
	})
}

// A limit that covers Tollgate's own API is not for everybody to use up.
func TestTakeEachOfTollgate(t *testing.T) {
	t.Parallel()
	i := onSQLite(t, nil)
	i.must(i.EnsureBuiltins(t.Context()))
	service := caller.With(t.Context(), caller.Caller{Principal: &caller.Principal{UserID: "s", Roles: []string{"service"}}})
	proxy := caller.With(t.Context(), caller.Caller{TrustedPeer: true})
	i.create(Limit{Name: "mine", Subject: SubjectUser, Rate: 10})
	for _, ctx := range []context.Context{service, proxy} {
		_, _, err := i.TakeEach(ctx, []Part{named("mine", "k", 1), named("sign-in-per-user", "admin", 100)})
		faulttest.Want(t, err, fault.Denied, "LIMITS_TOLLGATE")
		i.wantRemaining("sign-in-per-user", "admin", 100, "of the sign-ins")
		i.wantRemaining("mine", "k", 10, "beside it")
	}
	many := make([]Part, maxEach+1)
	for n := range many {
		many[n] = named("mine", fmt.Sprint(n), 1)
	}
	_, _, err := i.TakeEach(service, many)
	faulttest.Want(t, err, fault.Precondition, "TOO_MANY_LIMITS_APPLY")
	_, _, err = i.TakeEach(service, many[1:])
	i.must(err)
	_, _, err = (&Service{log: i.log}).TakeEach(service, many)
	faulttest.Want(t, err, fault.Unavailable, "STARTING")
}
