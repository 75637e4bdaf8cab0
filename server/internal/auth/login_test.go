package auth

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/audit"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/changes"
	"github.com/tollgatehq/tollgate/server/internal/database"
	"github.com/tollgatehq/tollgate/server/internal/fault"
	"github.com/tollgatehq/tollgate/server/internal/fault/faulttest"
	"golang.org/x/crypto/bcrypt"
)

func TestLogin(t *testing.T) {
	t.Parallel()
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		d := newFixture(t, db)
		ann := d.user("ann")
		g, err := d.Login(d.visitor(), " ANN ", goodPassword, "")
		backendtest.Must(t, err)
		if g.UserID != ann.ID || g.ExpiresIn != testTTL || !strings.HasPrefix(g.RefreshToken, refreshPrefix) || g.PasswordChangeRequired {
			t.Errorf("granted %+v", g)
		}
		v, err := d.Verify(t.Context(), Credential{AccessToken: g.AccessToken})
		if err != nil || v.Reason != caller.ReasonOK {
			t.Fatal(v, err)
		}
		if p := v.Principal; p.UserID != ann.ID || p.Username != "ann" || p.Kind != caller.Person || p.SessionID != g.SessionID ||
			!p.ExpiresAt.Equal(d.clock.Now().Add(testTTL)) {
			t.Errorf("the principal is %+v", p)
		}
		events := d.recorded(audit.Login)
		if len(events) != 1 {
			t.Fatalf("recorded %+v", events)
		}
		if e := events[0]; e.Outcome != audit.Success || e.ActorID != ann.ID || e.ActorName != "ann" ||
			e.SessionID != g.SessionID || e.IP != "192.0.2.7" || e.RequestID != "request-1" {
			t.Errorf("recorded %+v", e)
		}
		sessions, _, err := d.ListSessions(t.Context(), ann.ID, 0, "")
		if err != nil || len(sessions) != 1 || sessions[0].IP != "192.0.2.7" || !strings.HasPrefix(sessions[0].UserAgent, "test/1 ") {
			t.Errorf("sessions %+v, %v", sessions, err)
		}
	})
}

// TestLoginRefusalsAreAlike: nothing in the answer, nor the work, tells which
// names exist.
func TestLoginRefusalsAreAlike(t *testing.T) {
	t.Parallel()
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		d, ctx := newFixture(t, db), caller.System(t.Context())
		d.user("ann")
		gone := d.user("gone")
		backendtest.Must(t, faulttest.Err(d.UpdateUser(ctx, gone.ID, UserUpdate{Disabled: new(true)})))
		for _, n := range []NewUser{{Username: "robot", Kind: caller.Service}, {Username: "later"}} {
			backendtest.Must(t, faulttest.Err(d.CreateUser(ctx, n)))
		}
		var costs []int
		real := d.Passwords.Compare
		d.Passwords.Compare = func(hash, password []byte) error {
			cost, _ := bcrypt.Cost(hash)
			costs = append(costs, cost)
			return real(hash, password)
		}
		want := fault.From(badCredentials())
		for _, test := range []struct{ what, name, password, reason string }{
			{"wrong password", "ann", "not the password", reasonWrongPassword},
			{"empty password", "ann", "", reasonWrongPassword},
			{"long password", "ann", strings.Repeat("a", 80), reasonWrongPassword},
			{"unknown user", "nobody", goodPassword, reasonUnknownUser},
			{"impossible name", "two words", goodPassword, reasonUnknownUser},
			{"name of zeros", "\x00", goodPassword, reasonUnknownUser},
			{"disabled user", "gone", goodPassword, reasonDisabled},
			{"disabled user, wrong password", "gone", "not the password", reasonDisabled},
			{"service account", "robot", goodPassword, reasonNoPassword},
			{"no password yet", "later", "", reasonNoPassword},
		} {
			costs = nil
			d.clock.Advance(time.Millisecond) // events sort by time
			_, err := d.Login(d.visitor(), test.name, test.password, "")
			got := fault.From(err)
			if got == nil || got.Kind != want.Kind || got.Reason != want.Reason || got.Message != want.Message ||
				len(got.Violations) != 0 || got.RetryAfter != 0 {
				t.Errorf("%s: %+v, want %+v", test.what, got, want)
			}
			if len(costs) != 1 || costs[0] != 4 {
				t.Errorf("%s: compared at the costs %v, want one of 4", test.what, costs)
			}
			events := d.recorded(audit.Login)
			e := events[len(events)-1]
			if e.Outcome != audit.Failure || e.Reason != test.reason || e.ActorID != "" || e.SessionID != "" {
				t.Errorf("%s: recorded %+v, want the reason %s", test.what, e, test.reason)
			}
		}
	})
}

// TestParallelGuesses: attempts count before they are compared, so many at
// once get no further than one after another.
func TestParallelGuesses(t *testing.T) {
	t.Parallel()
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		d := newFixture(t, db)
		d.user("ann")
		var all sync.WaitGroup
		var limited atomic.Int64
		for range 200 {
			all.Go(func() {
				_, err := d.Login(d.visitor(), "Ann", "a wrong guess", "")
				switch f := fault.From(err); {
				case f == nil:
					t.Error("a wrong guess was right")
				case f.Reason == "TOO_MANY_ATTEMPTS":
					limited.Add(1)
				case f.Reason == "BAD_CREDENTIALS":
				case f.Kind == fault.Unavailable: // a slow machine records less than this in a second
				default:
					t.Error(err)
				}
			})
		}
		all.Wait()
		if n := d.compares.Load(); n == 0 || n > 10 {
			t.Errorf("%d guesses were compared, want 1 to 10", n)
		}
		_, err := d.Login(d.visitor(), "ann", goodPassword, "")
		faulttest.Want(t, err, fault.Limited, "TOO_MANY_ATTEMPTS")
		if fault.From(err).RetryAfter <= 0 {
			t.Error("the refusal does not say when to try again")
		}
		denied := int64(0)
		for _, e := range d.recorded(audit.Login) {
			if e.Outcome == audit.Denied && e.Reason == reasonLimited {
				denied += int64(refusals([]audit.Event{e}))
			}
		}
		if refused := limited.Load() + 1; denied < refused || denied > 191 {
			t.Errorf("%d refusals recorded, %d refused; want 191 recorded at most, and all that were refused", denied, refused)
		}
		d.clock.Advance(2 * time.Minute)
		d.login("ann")
	})
}

// TestLoginForgets: those who know the password start afresh.
func TestLoginForgets(t *testing.T) {
	t.Parallel()
	d := newFixture(t, backendtest.SQLite(t))
	d.user("ann")
	for range 3 {
		for range 9 {
			faulttest.Want(t, faulttest.Err(d.Login(d.visitor(), "ann", "a wrong guess", "")), fault.Unauthenticated, "BAD_CREDENTIALS")
		}
		d.login("ann")
	}
}

// TestLoginRehashes: a sign-in brings a hash of a lower cost up to today's,
// also when several do at once.
func TestLoginRehashes(t *testing.T) {
	t.Parallel()
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		d := newFixture(t, db)
		ann := d.user("ann")
		d.Passwords.Cost = 5
		var all sync.WaitGroup
		for range 5 {
			all.Go(func() {
				if _, err := d.Login(d.visitor(), "ann", goodPassword, ""); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		row, err := getUser(t.Context(), db, ann.ID)
		if err != nil || d.Passwords.Outdated(row.PasswordHash) {
			t.Errorf("the hash is still outdated, %v", err)
		}
		d.wantLive(ann.ID, 5)
		d.login("ann")
	})
}

// TestLoginDuringChange: a user who is disabled, or whose password is replaced,
// between the comparison and the commit gets no session.
func TestLoginDuringChange(t *testing.T) {
	t.Parallel()
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		for what, change := range map[string]func(*fixture, string) error{
			"disable": func(d *fixture, id string) error {
				return faulttest.Err(d.UpdateUser(d.system(), id, UserUpdate{Disabled: new(true)}))
			},
			"password": func(d *fixture, id string) error {
				return faulttest.Err(d.ResetPassword(d.system(), "ann", "another password", false))
			},
			"delete": func(d *fixture, id string) error { _, err := d.DeleteUser(d.system(), id); return err },
		} {
			t.Run(what, func(t *testing.T) {
				d := newFixture(t, db)
				ann := d.user("ann")
				t.Cleanup(func() { _, _ = d.DeleteUser(d.system(), ann.ID) })
				d.afterCompare(func() error { return change(d, ann.ID) })
				faulttest.Want(t, faulttest.Err(d.Login(d.visitor(), "ann", goodPassword, "")), fault.Unauthenticated, "BAD_CREDENTIALS")
				d.wantLive(ann.ID, 0)
			})
		}
	})
}

// TestLoginHoldsTheUser: from its check to its commit a sign-in holds back who
// would disable the user, so that its session is there to be ended.
func TestLoginHoldsTheUser(t *testing.T) {
	t.Parallel()
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		d := newFixture(t, db)
		ann := d.user("ann")
		d.login("ann") // a session that is known to work
		now := d.clock.Now()
		row := sessionRow{
			ID: d.clock.Clock().NewID(), UserID: ann.ID, TokenHash: []byte("hash"),
			CreatedAt: now.UnixMicro(), RefreshedAt: now.UnixMicro(),
			IdleExpiresAt: now.Add(testIdle).UnixMicro(), ExpiresAt: now.Add(testMax).UnixMicro(),
		}
		user, err := getUser(t.Context(), db, ann.ID)
		backendtest.Must(t, err)
		disabled := make(chan error, 1)
		_, err = d.log.Write(t.Context(), func(ctx context.Context, tx *changes.Tx) error {
			if same, err := lockUserForLogin(ctx, tx, ann.ID, user.PasswordHash, user.PasswordHash); err != nil || !same {
				t.Errorf("not locked: %v, %v", same, err)
			}
			go func() {
				_, _, err := d.UpdateUser(d.system(), ann.ID, UserUpdate{Disabled: new(true)})
				disabled <- err
			}()
			select {
			case err := <-disabled:
				t.Errorf("disabled during the sign-in: %v", err)
				disabled <- err
			case <-time.After(200 * time.Millisecond):
			}
			return insertSession(ctx, tx, row)
		})
		backendtest.Must(t, err)
		backendtest.Must(t, <-disabled)
		d.wantLive(ann.ID, 0)
	})
}

// TestLoginAgainstDisable has them run at the same time, again and again.
func TestLoginAgainstDisable(t *testing.T) {
	t.Parallel()
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		d := newFixture(t, db)
		ann := d.user("ann")
		for range 15 {
			var both sync.WaitGroup
			for range 3 {
				both.Go(func() {
					if _, err := d.Login(d.visitor(), "ann", goodPassword, ""); err != nil && !fault.Is(err, fault.Unauthenticated) && !fault.Is(err, fault.Conflict) {
						t.Error(err)
					}
				})
			}
			both.Go(func() {
				if _, _, err := d.UpdateUser(d.system(), ann.ID, UserUpdate{Disabled: new(true)}); err != nil {
					t.Error(err)
				}
			})
			both.Wait()
			d.wantLive(ann.ID, 0)
			backendtest.Must(t, faulttest.Err(d.UpdateUser(d.system(), ann.ID, UserUpdate{Disabled: new(false)})))
			d.clock.Advance(time.Hour) // the attempts count
		}
	})
}

// TestSessionsAreCapped: a user has at most 100 live sessions; the oldest ends
// for a new one.
func TestSessionsAreCapped(t *testing.T) {
	t.Parallel()
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		d := newFixture(t, db)
		ann := d.user("ann")
		first := d.login("ann")
		second := d.login("ann")
		d.clock.Advance(time.Second)
		for range maxSessions - 1 {
			d.login("ann")
		}
		d.wantLive(ann.ID, maxSessions)
		d.clock.Advance(time.Second)
		last := d.login("ann")
		d.wantReason(first.AccessToken, caller.ReasonCredentialRevoked)
		d.wantReason(second.AccessToken, caller.ReasonCredentialRevoked)
		d.wantReason(last.AccessToken, caller.ReasonOK)
		d.wantLive(ann.ID, maxSessions)
	})
}

// TestASignInOfTooManyCostsNothing: when as many wait for a password check as
// may, one more is refused before anything is read, counted or recorded for it.
func TestASignInOfTooManyCostsNothing(t *testing.T) {
	t.Parallel()
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		d := newFixture(t, db, func(o *Options) {
			o.Passwords.Workers, o.Passwords.MaxWaiting, o.Passwords.BusyDelay = 1, 1, time.Nanosecond
		})
		d.user("ann")
		// One wrong sign-in takes the only place and waits.
		running, end := make(chan struct{}), make(chan struct{})
		compare := d.Passwords.Compare
		d.Passwords.Compare = func(_, _ []byte) error { close(running); <-end; return bcrypt.ErrMismatchedHashAndPassword }
		var first sync.WaitGroup
		first.Go(func() { d.Login(d.visitor(), "ann", "a wrong guess", "") }) // it only takes the place
		<-running
		before, recorded := d.compares.Load(), len(d.recorded(audit.Login))
		for range 200 { // far more than the limits allow
			faulttest.Want(t, faulttest.Err(d.Login(d.visitor(), "ann", "a wrong guess", "")), fault.Unavailable, "BUSY")
		}
		if n := len(d.recorded(audit.Login)) - recorded; n != 0 || d.compares.Load() != before {
			t.Errorf("%d events and %d comparisons of sign-ins that were refused", n, d.compares.Load()-before)
		}
		close(end)
		first.Wait()
		d.Passwords.Compare = compare
		d.login("ann") // they did not count as attempts
	})
}
