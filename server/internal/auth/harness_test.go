package auth

import (
	"bytes"
	"context"
	"net/netip"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/audit"
	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/changes"
	"github.com/tollgatehq/tollgate/server/internal/clock"
	"github.com/tollgatehq/tollgate/server/internal/database"
	"github.com/tollgatehq/tollgate/server/internal/fault"
	"github.com/tollgatehq/tollgate/server/internal/inflight"
	"github.com/tollgatehq/tollgate/server/internal/limits"
	"github.com/tollgatehq/tollgate/server/internal/page"
	"github.com/tollgatehq/tollgate/server/internal/roles"
	"github.com/tollgatehq/tollgate/server/internal/seal"
)

const (
	testTTL  = 15 * time.Minute
	testIdle = 24 * time.Hour
	testMax  = 72 * time.Hour

	password = "correct horse battery"
)

// desk is a whole auth service with its neighbors, on a clock of its own.
type desk struct {
	*Service
	t        testing.TB
	clock    *clock.Fake
	events   *audit.Service
	compares atomic.Int64 // how many passwords were compared
}

func newDesk(t testing.TB, db *database.DB) *desk { return deskAt(t, db, newClock(), testTTL) }

func newClock() *clock.Fake { return clock.NewFake(time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)) }

// deskAt makes an instance; several may share a database and a clock.
func deskAt(t testing.TB, db *database.DB, fake *clock.Fake, ttl time.Duration) *desk {
	t.Helper()
	clk := clock.Real()
	clk.Now = fake.Now
	return deskOn(t, db, fake, ttl, limits.NewMemory(clk))
}

// deskOn makes an instance that counts attempts where it is told to.
func deskOn(t testing.TB, db *database.DB, fake *clock.Fake, ttl time.Duration, counters limits.Backend) *desk {
	t.Helper()
	clk := clock.Real()
	clk.Now = fake.Now
	master, err := seal.New(bytes.Repeat([]byte("m"), seal.KeySize))
	if err != nil {
		t.Fatal(err)
	}
	pages := page.NewTokens(bytes.Repeat([]byte("p"), 32))
	events := audit.NewService(db, clk, pages, nil)
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); events.Run(ctx) }()
	t.Cleanup(func() { stop(); <-done })

	log := changes.New(db, changes.Options{Clock: clk})
	grants := roles.New(db, log, clk, pages)
	counts := limits.New(db, log, grants, clk, pages, counters)
	s := New(Options{
		DB: db, Log: log, Audit: events, Roles: grants, Limits: counts, Clock: clk, Pages: pages, Master: master,
		Issuer: "https://tollgate.test", Audience: "tollgate",
		AccessTokenTTL: ttl, SessionIdle: testIdle, SessionMax: testMax, BcryptCost: 4, BcryptWorkers: 2,
	})
	// Races of hundreds are about atomicity here; the pool has tests of its own.
	s.passwords.waiting = inflight.New[netip.Addr](2000)
	s.passwords.wait = time.Minute
	d := &desk{Service: s, t: t, clock: fake, events: events}
	real := s.passwords.compare
	s.passwords.compare = func(hash, password []byte) error { d.compares.Add(1); return real(hash, password) }
	log.Follow(grants)
	log.Follow(counts)
	log.Follow(s)
	for _, ensure := range []func(context.Context) error{s.EnsureSigningKey, grants.EnsureBuiltins, counts.EnsureBuiltins, log.Start} {
		if err := ensure(caller.System(context.Background())); err != nil {
			t.Fatal(err)
		}
	}
	return d
}

// system is a context that may do everything.
func (d *desk) system() context.Context { return caller.System(context.Background()) }

// visitor is the context of somebody who has not signed in.
func (d *desk) visitor() context.Context {
	return caller.With(context.Background(), caller.Caller{
		IP: home, UserAgent: "test/1 \xff", RequestID: "request-1",
	})
}

// home is where people call from, unless a test says otherwise.
var home = netip.MustParseAddr("192.0.2.7")

// from is the context of somebody who has not signed in, elsewhere.
func from(address string) context.Context {
	return caller.With(context.Background(), caller.Caller{IP: netip.MustParseAddr(address)})
}

// as is the context of the caller with this credential, at home.
func (d *desk) as(c Credential) context.Context {
	d.t.Helper()
	v, err := d.Verify(context.Background(), c)
	if err != nil || v.Principal == nil {
		d.t.Fatalf("verify: %v, %v", v, err)
	}
	return caller.With(context.Background(), caller.Caller{Principal: v.Principal, IP: home})
}

// Login signs in for the server's own audience.
func (d *desk) Login(ctx context.Context, name, password, code string) (Grant, error) {
	return d.Service.Login(ctx, SignIn{Username: name, Password: password, SecondFactor: code})
}

// Refresh asks for the session's audience.
func (d *desk) Refresh(ctx context.Context, token string) (Grant, error) {
	return d.Service.Refresh(ctx, token, "")
}

// ClientToken is for the server's own audience.
func (d *desk) ClientToken(ctx context.Context, scope string) (ClientGrant, error) {
	return d.Service.ClientToken(ctx, scope, "")
}

func (d *desk) user(name string, roles ...string) User {
	d.t.Helper()
	u, _, err := d.CreateUser(d.system(), NewUser{Username: name, Password: password, Roles: roles})
	if err != nil {
		d.t.Fatal(err)
	}
	return u
}

func (d *desk) login(name string) Grant {
	d.t.Helper()
	g, err := d.Login(d.visitor(), name, password, "")
	if err != nil {
		d.t.Fatal(err)
	}
	return g
}

// reason is how the access token is verified now.
func (d *desk) reason(token string) caller.Reason {
	d.t.Helper()
	v, err := d.Verify(context.Background(), Credential{AccessToken: token})
	if err != nil {
		d.t.Fatal(err)
	}
	return v.Reason
}

func (d *desk) wantReason(token string, want caller.Reason) {
	d.t.Helper()
	if got := d.reason(token); got != want {
		d.t.Errorf("access token is verified as %q, want %q", got, want)
	}
}

// live counts the user's sessions that would still work.
func (d *desk) live(userID string) (n int) {
	d.t.Helper()
	err := d.db.Get(context.Background(), &n, `SELECT COUNT(*) FROM sessions
		WHERE user_id = $1 AND revoked_at IS NULL AND idle_expires_at > $2`, userID, d.clock.Clock().Micros())
	if err != nil {
		d.t.Fatal(err)
	}
	return n
}

// recorded returns the events of an action, the oldest first. What was counted
// of floods is written before.
func (d *desk) recorded(action audit.Action) []audit.Event {
	d.t.Helper()
	if err := d.events.Flush(context.Background()); err != nil {
		d.t.Fatal(err)
	}
	events, _, err := d.events.List(context.Background(), audit.Filter{Action: string(action)}, 250, "")
	if err != nil {
		d.t.Fatal(err)
	}
	slices.Reverse(events)
	return events
}

// refusals is how much events stand for.
func refusals(events []audit.Event) (n int) {
	for _, e := range events {
		counted, err := strconv.Atoi(e.Details["refused"])
		if err != nil {
			counted = 1
		}
		n += counted
	}
	return n
}

// wantRefusal checks an error's kind and reason.
func wantRefusal(t testing.TB, err error, kind fault.Kind, reason string) {
	t.Helper()
	if err == nil {
		t.Errorf("no error, want %v %s", kind, reason)
		return
	}
	if f := fault.From(err); f.Kind != kind || f.Reason != reason {
		t.Errorf("error %v %s (%v), want %v %s", f.Kind, f.Reason, err, kind, reason)
	}
}

// wantField checks that the error is about one field.
func wantField(t testing.TB, err error, field string) {
	t.Helper()
	f := fault.From(err)
	if f == nil || f.Kind != fault.Invalid || len(f.Violations) != 1 || f.Violations[0].Field != field {
		t.Errorf("error %v, want one about the field %q", err, field)
	}
}

//go:fix inline
func to[T any](v T) *T { return new(v) }
