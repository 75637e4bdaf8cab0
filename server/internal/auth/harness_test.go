package auth

import (
	"bytes"
	"context"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/auth/password"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"golang.org/x/crypto/bcrypt"

	"github.com/tollgatehq/tollgate/server/internal/audit"
	"github.com/tollgatehq/tollgate/server/internal/auth/apikey"
	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/changes"
	"github.com/tollgatehq/tollgate/server/internal/clock"
	"github.com/tollgatehq/tollgate/server/internal/database"
	"github.com/tollgatehq/tollgate/server/internal/limits"
	"github.com/tollgatehq/tollgate/server/internal/page"
	"github.com/tollgatehq/tollgate/server/internal/roles"
	"github.com/tollgatehq/tollgate/server/internal/seal"
)

const (
	testTTL  = 15 * time.Minute
	testIdle = 24 * time.Hour
	testMax  = 72 * time.Hour

	goodPassword = "correct horse battery"
)

// fixture is a whole auth service with what it needs, on a fake clock.
type fixture struct {
	*Service
	t        testing.TB
	clock    *clock.Fake
	events   *audit.Service
	compares atomic.Int64 // how many passwords were compared
}

// newFixture makes a service on a clock of its own.
func newFixture(t testing.TB, db *database.DB, edits ...func(*Options)) *fixture {
	return fixtureAt(t, db, newClock(), edits...)
}

func newClock() *clock.Fake { return clock.NewFake(time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)) }

// fixtureAt makes an instance; several may share a database and a clock.
func fixtureAt(t testing.TB, db *database.DB, fake *clock.Fake, edits ...func(*Options)) *fixture {
	return fixtureOn(t, db, fake, limits.NewMemory(fake.Clock()), edits...)
}

// fixtureOn makes an instance that counts attempts in counters.
func fixtureOn(t testing.TB, db *database.DB, fake *clock.Fake, counters limits.Backend, edits ...func(*Options)) *fixture {
	t.Helper()
	clk := fake.Clock()
	master, err := seal.New(bytes.Repeat([]byte("m"), seal.KeySize))
	backendtest.Must(t, err)
	pages := page.NewTokens(bytes.Repeat([]byte("p"), 32))
	events := audit.NewService(db, clk, pages, nil)
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); events.Run(ctx) }()
	t.Cleanup(func() { stop(); <-done })

	log := changes.New(db, changes.Options{Clock: clk})
	grants := roles.New(db, log, clk, pages)
	counts := limits.New(db, log, grants, clk, pages, counters)
	d := &fixture{t: t, clock: fake, events: events}
	o := Options{
		DB: db, Log: log, Audit: events, Roles: grants, Limits: counts, Clock: clk, Pages: pages, Master: master,
		Issuer: "https://tollgate.test", Audience: "tollgate",
		AccessTokenTTL: testTTL, SessionIdle: testIdle, SessionMax: testMax,
		// Races of hundreds are about atomicity here; the pool has tests of its own.
		Passwords: password.Options{Cost: 4, Workers: 2, MaxWaiting: 2000, MaxWait: time.Minute, Compare: d.compare},
	}
	for _, edit := range edits {
		edit(&o)
	}
	s := New(o)
	d.Service = s
	log.Follow(grants)
	log.Follow(counts)
	log.Follow(s)
	for _, ensure := range []func(context.Context) error{s.SigningKeys.Ensure, grants.EnsureBuiltins, counts.EnsureBuiltins, log.Start} {
		backendtest.Must(t, ensure(caller.System(context.Background())))
	}
	return d
}

// compare counts.
func (d *fixture) compare(hash, password []byte) error {
	d.compares.Add(1)
	return bcrypt.CompareHashAndPassword(hash, password)
}

// afterCompare calls change once, when the next password was compared.
func (d *fixture) afterCompare(change func() error) {
	compare, once := d.Passwords.Compare, sync.Once{}
	d.Passwords.Compare = func(hash, password []byte) error {
		err := compare(hash, password)
		once.Do(func() {
			if err := change(); err != nil {
				d.t.Error(err)
			}
		})
		return err
	}
}

// system is a context that may do everything.
func (d *fixture) system() context.Context { return caller.System(context.Background()) }

// visitor is the context of a caller who has not signed in.
func (d *fixture) visitor() context.Context {
	return caller.With(context.Background(), caller.Caller{
		IP: home, UserAgent: "test/1 \xff", RequestID: "request-1",
	})
}

// home is where people call from, unless a test says otherwise.
var home = netip.MustParseAddr("192.0.2.7")

// from is the context of a caller who has not signed in, elsewhere.
func from(address string) context.Context {
	return caller.With(context.Background(), caller.Caller{IP: netip.MustParseAddr(address)})
}

// as is the context of the caller with this credential, at home.
func (d *fixture) as(c Credential) context.Context {
	d.t.Helper()
	v, err := d.Verify(context.Background(), c)
	if err != nil || v.Principal == nil {
		d.t.Fatalf("verify: %v, %v", v, err)
	}
	return caller.With(context.Background(), caller.Caller{Principal: v.Principal, IP: home})
}

// inPerson is the context of a call by a person who has just signed in.
func (d *fixture) inPerson(name string) context.Context {
	d.t.Helper()
	return d.as(Credential{AccessToken: d.login(name).AccessToken})
}

// Login signs in for the server's own audience.
func (d *fixture) Login(ctx context.Context, name, password, code string) (Grant, error) {
	return d.Service.Login(ctx, SignIn{Username: name, Password: password, SecondFactor: code})
}

// Refresh asks for the session's audience.
func (d *fixture) Refresh(ctx context.Context, token string) (Grant, error) {
	return d.Service.Refresh(ctx, token, "")
}

// ClientToken is for the server's own audience.
func (d *fixture) ClientToken(ctx context.Context, scope string) (ClientGrant, error) {
	return d.Service.ClientToken(ctx, scope, "")
}

// createKey makes an API key.
func (d *fixture) createKey(ctx context.Context, in apikey.New) apikey.Created {
	d.t.Helper()
	made, err := d.APIKeys.Create(ctx, in)
	backendtest.Must(d.t, err)
	return made
}

func (d *fixture) user(name string, roles ...string) User {
	d.t.Helper()
	u, _, err := d.CreateUser(d.system(), NewUser{Username: name, Password: goodPassword, Roles: roles})
	backendtest.Must(d.t, err)
	return u
}

func (d *fixture) login(name string) Grant {
	d.t.Helper()
	g, err := d.Login(d.visitor(), name, goodPassword, "")
	backendtest.Must(d.t, err)
	return g
}

// reason is how the access token is verified now.
func (d *fixture) reason(token string) caller.Reason {
	d.t.Helper()
	v, err := d.Verify(context.Background(), Credential{AccessToken: token})
	backendtest.Must(d.t, err)
	return v.Reason
}

func (d *fixture) wantReason(token string, want caller.Reason) {
	d.t.Helper()
	if got := d.reason(token); got != want {
		d.t.Errorf("access token is verified as %q, want %q", got, want)
	}
}

// live counts the user's sessions that would still work.
func (d *fixture) live(userID string) (n int) {
	d.t.Helper()
	err := d.db.Get(context.Background(), &n, `SELECT COUNT(*) FROM sessions
		WHERE user_id = $1 AND revoked_at IS NULL AND idle_expires_at > $2`, userID, d.clock.Clock().Micros())
	backendtest.Must(d.t, err)
	return n
}

func (d *fixture) wantLive(userID string, want int) {
	d.t.Helper()
	if n := d.live(userID); n != want {
		d.t.Errorf("%d live sessions, want %d", n, want)
	}
}

// recorded returns the events of an action, the oldest first. What was counted
// of floods is written before.
func (d *fixture) recorded(action audit.Action) []audit.Event {
	d.t.Helper()
	backendtest.Must(d.t, d.events.Flush(context.Background()))
	events, _, err := d.events.List(context.Background(), audit.Filter{Action: string(action)}, 250, "")
	backendtest.Must(d.t, err)
	slices.Reverse(events)
	return events
}

func (d *fixture) wantRecorded(action audit.Action, want int) {
	d.t.Helper()
	if n := len(d.recorded(action)); n != want {
		d.t.Errorf("%d events %s, want %d", n, action, want)
	}
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
