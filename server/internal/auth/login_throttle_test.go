package auth

import (
	"fmt"
	"math"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/audit"
	"github.com/tollgatehq/tollgate/server/internal/auth/password"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/clock"
	"github.com/tollgatehq/tollgate/server/internal/database"
	"github.com/tollgatehq/tollgate/server/internal/fault"
	"github.com/tollgatehq/tollgate/server/internal/fault/faulttest"
	"github.com/tollgatehq/tollgate/server/internal/limits"
)

// TestParallelGuessesOverInstances: of 200 wrong guesses at the same time no
// more are compared than the limit has free, over however many instances.
func TestParallelGuessesOverInstances(t *testing.T) {
	t.Parallel()
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		for _, n := range []int{1, 3} {
			t.Run(fmt.Sprint(n), func(t *testing.T) {
				client, prefix := backendtest.Redis(t)
				fake := newClock()
				instances := make([]*fixture, n)
				for i := range instances {
					instances[i] = fixtureOn(t, db, fake, limits.NewRedis(client, prefix, clock.Real(), nil))
					if i == 0 { // a busy machine's Redis may be slow: then no guess is made
						instances[0].limit(limits.Edit{Outage: new(limits.Closed)})
					}
				}
				name := fmt.Sprintf("victim-%d", n)
				instances[0].user(name)
				began := time.Now()
				var all sync.WaitGroup
				for i := range 200 {
					all.Go(func() {
						_, err := instances[i%n].Login(instances[0].visitor(), name, "a wrong guess", "")
						switch f := fault.From(err); {
						case f == nil:
							t.Error("a wrong guess was right")
						case f.Kind == fault.Unavailable, f.Reason == "TOO_MANY_ATTEMPTS", f.Reason == "BAD_CREDENTIALS":
						default:
							t.Error(err)
						}
					})
				}
				all.Wait()
				// Redis's clock goes on: on a slow machine waits of 1 s, 2 s, … end.
				most := 10 + int64(math.Log2(1+time.Since(began).Seconds()))
				compared := int64(0)
				for _, d := range instances {
					compared += d.compares.Load()
				}
				if compared == 0 || compared > most {
					t.Errorf("%d guesses were compared, want 1 to %d", compared, most)
				}
			})
		}
	})
}

// limit changes the limits on sign-ins as one user, at one address and at all.
func (d *fixture) limit(edit limits.Edit) {
	d.t.Helper()
	d.change("sign-in-per-user", edit)
	d.change("sign-in-per-user-and-ip", edit)
}

func (d *fixture) change(limit string, edit limits.Edit) {
	d.t.Helper()
	backendtest.Must(d.t, faulttest.Err(d.limits.Update(d.system(), limit, edit)))
}

// TestLockedSignInLeavesSessions: guesses at a user's password lock the sign-in
// for longer and longer, and never touch the sessions there are.
func TestLockedSignInLeavesSessions(t *testing.T) {
	t.Parallel()
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		d := newFixture(t, db)
		ann := d.user("ann")
		session := d.login("ann")
		for range 10 {
			faulttest.Want(t, faulttest.Err(d.Login(d.visitor(), "ann", "a wrong guess", "")), fault.Unauthenticated, "BAD_CREDENTIALS")
		}
		for _, wait := range []time.Duration{time.Second, 2 * time.Second, 4 * time.Second} {
			_, err := d.Login(d.visitor(), "ann", goodPassword, "")
			faulttest.Want(t, err, fault.Limited, "TOO_MANY_ATTEMPTS")
			if after := fault.From(err).RetryAfter; after != wait {
				t.Errorf("try again after %s, want %s", after, wait)
			}
			if session, err = d.Refresh(d.visitor(), session.RefreshToken); err != nil {
				t.Fatalf("the session ended: %v", err)
			}
			d.wantReason(session.AccessToken, caller.ReasonOK)
			d.clock.Advance(wait)
			faulttest.Want(t, faulttest.Err(d.Login(d.visitor(), "ann", "a wrong guess", "")), fault.Unauthenticated, "BAD_CREDENTIALS")
		}
		d.wantLive(ann.ID, 1)
		d.clock.Advance(8 * time.Second)
		d.login("ann")
		for range 10 { // afresh
			faulttest.Want(t, faulttest.Err(d.Login(d.visitor(), "ann", "a wrong guess", "")), fault.Unauthenticated, "BAD_CREDENTIALS")
		}
	})
}

// TestRefusalsTakeTheSameTime measures sign-ins that fail, one kind after the
// other, and prints Welch's t of each against a wrong password: beyond ±4.5
// there would be something to learn. Machines under test are too noisy to fail
// by it. What is checked is that the answers are the same to the last byte.
func TestRefusalsTakeTheSameTime(t *testing.T) {
	rounds, cost := 30, 5
	if os.Getenv("TOLLGATE_CHAOS") == "1" {
		rounds, cost = 1000, 7
	}
	d := newFixture(t, backendtest.SQLite(t))
	d.limit(limits.Edit{Burst: new(int64(1_000_000))})
	d.user("old") // at the cost of the tests, 4
	d.Passwords = password.NewPool(password.Options{Cost: cost, Workers: 2})
	d.user("ann")
	gone := d.user("gone")
	backendtest.Must(t, faulttest.Err(d.UpdateUser(d.system(), gone.ID, UserUpdate{Disabled: new(true)})))
	kinds := []struct{ what, name, password string }{
		{"wrong password", "ann", "a wrong guess"},
		{"unknown user", "nobody", "a wrong guess"},
		{"disabled user", "gone", goodPassword},
		{"a hash of an old cost", "old", "a wrong guess"},
	}
	took := make([][]float64, len(kinds))
	answer := ""
	for range rounds {
		for i, kind := range kinds {
			began := time.Now()
			_, err := d.Login(d.visitor(), kind.name, kind.password, "")
			took[i] = append(took[i], float64(time.Since(began)))
			if err == nil {
				t.Fatalf("%s: signed in", kind.what)
			}
			given := fault.Connect(fault.From(err), "request-1")
			text := fmt.Sprint(given.Code(), given.Message(), given.Meta())
			for _, detail := range given.Details() {
				text += fmt.Sprintf(" %s %x", detail.Type(), detail.Bytes())
			}
			if answer == "" {
				answer = text
			}
			if text != answer {
				t.Fatalf("%s: %s\nwant %s", kind.what, text, answer)
			}
		}
	}
	for i, kind := range kinds {
		mean, _ := moments(took[i])
		t.Logf("%-22s %d times, mean %s, t = %+.2f", kind.what, rounds, time.Duration(mean).Round(time.Microsecond), welch(took[i], took[0]))
	}
	if n := len(d.recorded(audit.Login)); n == 0 {
		t.Error("nothing was recorded")
	}
}

func moments(x []float64) (mean, variance float64) {
	for _, v := range x {
		mean += v / float64(len(x))
	}
	for _, v := range x {
		variance += (v - mean) * (v - mean) / float64(len(x)-1)
	}
	return mean, variance
}

// welch is Welch's t of two samples.
func welch(a, b []float64) float64 {
	meanA, varA := moments(a)
	meanB, varB := moments(b)
	spread := math.Sqrt(varA/float64(len(a)) + varB/float64(len(b)))
	if spread == 0 {
		return 0
	}
	return (meanA - meanB) / spread
}
