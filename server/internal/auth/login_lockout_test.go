package auth

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/clock"
	"github.com/tollgatehq/tollgate/server/internal/database"
	"github.com/tollgatehq/tollgate/server/internal/fault"
	"github.com/tollgatehq/tollgate/server/internal/fault/faulttest"
	"github.com/tollgatehq/tollgate/server/internal/limits"
)

// guess tries a wrong password for a user from an address.
func (d *fixture) guess(name, address string) error {
	d.t.Helper()
	_, err := d.Login(from(address), name, "a wrong guess", "")
	if f := fault.From(err); f == nil || f.Reason != "BAD_CREDENTIALS" && f.Reason != "TOO_MANY_ATTEMPTS" {
		d.t.Fatalf("a wrong guess: %v", err)
	}
	return err
}

// signOut ends all sessions of a user: who is signed in can wait.
func (d *fixture) signOut(id string) {
	d.t.Helper()
	backendtest.Must(d.t, faulttest.Err(d.RevokeSessions(d.system(), id)))
}

// strangers are n addresses.
func strangers(n int) []string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprintf("203.0.113.%d", i+1)
	}
	return list
}

// TestStrangersKeepNobodyOut: wrong passwords from some addresses, without a
// pause for two minutes, keep out neither somebody who signed in from their
// address before, nor somebody at a new address until there were 100 of them.
func TestStrangersKeepNobodyOut(t *testing.T) {
	t.Parallel()
	const each = 10 + 6 // ten at once, then after waits of 1 to 32 s
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		d := newFixture(t, db)
		admin := d.user("admin")
		d.login("admin")
		d.signOut(admin.ID)
		attack := func(addresses int, meanwhile func(second int)) {
			d.compares.Store(0)
			for second := range 120 {
				for _, address := range strangers(addresses) {
					for fault.From(d.guess("admin", address)).Reason == "BAD_CREDENTIALS" {
					}
				}
				if meanwhile != nil {
					guessed := d.compares.Load()
					meanwhile(second)
					d.compares.Store(guessed)
				}
				d.clock.Advance(time.Second)
			}
			if n, most := d.compares.Load(), int64(addresses*each); n < 90 || n > most {
				t.Errorf("%d guesses were compared, want 90 to %d", n, most)
			}
		}
		attack(8, func(second int) {
			if second%10 != 9 {
				return
			}
			if _, err := d.Login(d.visitor(), "admin", goodPassword, ""); err != nil {
				t.Errorf("the right password from a known address after %d s: %v", second, err)
			}
		})
		d.clock.Advance(time.Hour)
		attack(6, nil)
		backendtest.Must(t, faulttest.Err(d.Login(from("198.51.100.1"), "admin", goodPassword, ""))) // the right password from a new address
	})
}

// TestGuessesFromEverywhere: from however many addresses, who knows nothing but
// a name makes 109 guesses in a quarter of an hour: 100 and those after 1, 2, 4,
// … 256 seconds. Meanwhile a new address has to wait, and one that the user
// signed in from before does not.
func TestGuessesFromEverywhere(t *testing.T) {
	t.Parallel()
	d := newFixture(t, backendtest.SQLite(t))
	d.user("ann")
	d.login("ann")
	d.compares.Store(0)
	for left := 15 * time.Minute; left >= 0; {
		wait := left + 1
		for _, address := range strangers(40) {
			err := d.guess("ann", address)
			for fault.From(err).Reason == "BAD_CREDENTIALS" {
				err = d.guess("ann", address)
			}
			wait = min(wait, fault.From(err).RetryAfter)
		}
		left -= wait
		d.clock.Advance(wait)
	}
	if n := d.compares.Load(); n != 109 {
		t.Errorf("%d guesses were compared, want 109", n)
	}
	faulttest.Want(t, faulttest.Err(d.Login(from("198.51.100.1"), "ann", goodPassword, "")), fault.Limited, "TOO_MANY_ATTEMPTS")
	d.login("ann")
}

// TestAKnownAddress: what lets a user pass when strangers have used up what the
// user has everywhere, and what does not. Everywhere there are 12 here and one
// more in 15 minutes, because Redis's clock goes on.
func TestAKnownAddress(t *testing.T) {
	t.Parallel()
	counters := map[string]func(t *testing.T, clk clock.Clock) limits.Backend{
		"memory": func(_ *testing.T, clk clock.Clock) limits.Backend { return limits.NewMemory(clk) },
		"redis": func(t *testing.T, _ clock.Clock) limits.Backend {
			client, prefix := backendtest.Redis(t)
			return limits.NewRedis(client, prefix, clock.Real(), nil)
		},
	}
	for name, make := range counters {
		t.Run(name, func(t *testing.T) {
			backendtest.Databases(t, func(t *testing.T, db *database.DB) {
				fake := newClock()
				d := fixtureOn(t, db, fake, make(t, fake.Clock()))
				d.limit(limits.Edit{Outage: new(limits.Closed)}) // a slow Redis must not start anew
				d.change("sign-in-per-user", limits.Edit{
					Algorithm: new(limits.GCRA), Rate: new(int64(1)), Burst: new(int64(12)),
				})
				ann := d.user("ann")
				attack := func(name string) {
					t.Helper()
					for range 4 {
						for _, address := range strangers(3) {
							faulttest.Want(t, d.guess(name, address), fault.Unauthenticated, "BAD_CREDENTIALS")
						}
					}
				}
				signIn := func(ctx context.Context) error { _, err := d.Login(ctx, "ann", goodPassword, ""); return err }

				g, err := d.Login(from("2001:db8:1:2::3"), "ann", goodPassword, "")
				backendtest.Must(t, err)
				attack("ann")
				faulttest.Want(t, d.guess("ann", "203.0.113.1"), fault.Limited, "TOO_MANY_ATTEMPTS")
				faulttest.Want(t, signIn(from("2001:db8:1:3::3")), fault.Limited, "TOO_MANY_ATTEMPTS")
				faulttest.Want(t, signIn(d.visitor()), fault.Limited, "TOO_MANY_ATTEMPTS")

				// A session that moves makes its new address known, and its end
				// does not make that unknown.
				backendtest.Must(t, faulttest.Err(d.Refresh(d.visitor(), g.RefreshToken)))
				d.signOut(ann.ID)
				faulttest.Want(t, d.guess("ann", home.String()), fault.Unauthenticated, "BAD_CREDENTIALS")
				backendtest.Must(t, signIn(d.visitor())) // from a known address

				// It is bounded, and what is counted there is not what others used up.
				attack("ann")
				for range 10 {
					faulttest.Want(t, d.guess("ann", home.String()), fault.Unauthenticated, "BAD_CREDENTIALS")
				}
				faulttest.Want(t, signIn(d.visitor()), fault.Limited, "TOO_MANY_ATTEMPTS")
				d.resetAttempts(d.visitor(), "ann")

				// Who is signed in can change the password.
				self := d.inPerson("ann")
				attack2 := func() {
					t.Helper()
					for i := range 12 {
						d.guess("ann", fmt.Sprintf("198.51.100.%d", i+1)) // refused or not
					}
				}
				attack2()
				backendtest.Must(t, faulttest.Err(d.SetPassword(self, PasswordChange{UserID: ann.ID, Current: goodPassword, New: "another password"}))) // change the password at a known address
				backendtest.Must(t, faulttest.Err(d.ResetPassword(t.Context(), "ann", goodPassword, false)))

				// Without a limit in force for the user at the address there is
				// nothing to go by.
				attack2()
				d.change("sign-in-per-user-and-ip", limits.Edit{Mode: new(limits.Shadow)})
				faulttest.Want(t, signIn(d.visitor()), fault.Limited, "TOO_MANY_ATTEMPTS")
				d.change("sign-in-per-user-and-ip", limits.Edit{Mode: new(limits.Enforce)})
				backendtest.Must(t, signIn(d.visitor())) // from a known address
			})
		})
	}
}

// TestAnUnknownUserIsLimitedAlike: a stranger's address tells no names apart.
func TestAnUnknownUserIsLimitedAlike(t *testing.T) {
	t.Parallel()
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		d := newFixture(t, db)
		d.user("ann")
		d.login("ann")
		for i := range 130 {
			address := strangers(13)[i%13]
			known, unknown := d.guess("ann", address), d.guess("nobody", address)
			k, u := fault.From(known), fault.From(unknown)
			if k.Reason != u.Reason || k.Message != u.Message || k.RetryAfter != u.RetryAfter {
				t.Fatalf("guess %d: %v, and as an unknown user %v", i, known, unknown)
			}
			if limited := k.Reason == "TOO_MANY_ATTEMPTS"; limited != (i >= 100) {
				t.Fatalf("guess %d: %v", i, known)
			}
		}
	})
}
