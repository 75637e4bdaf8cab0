package auth

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/audit"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/database"
	"github.com/tollgatehq/tollgate/server/internal/fault"
	"github.com/tollgatehq/tollgate/server/internal/fault/faulttest"
	"pgregory.net/rapid"
)

const testGrace = 10 * time.Second

func newGraceFixture(t *testing.T, db *database.DB) *fixture {
	d := newFixture(t, db)
	d.refreshGrace = testGrace
	return d
}

// TestGrace: a client that lost the answer to its refresh is not signed out;
// everything else that presents a spent token is.
func TestGrace(t *testing.T) {
	t.Parallel()
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		d := newGraceFixture(t, db)
		d.user("ann")
		reused := func(t *testing.T, token string) {
			t.Helper()
			faulttest.Want(t, faulttest.Err(d.Refresh(d.visitor(), token)), fault.Unauthenticated, "REFRESH_TOKEN_REUSED")
		}
		dead := func(t *testing.T, g Grant) {
			t.Helper()
			if got := d.reason(g.AccessToken); got != caller.ReasonCredentialRevoked {
				t.Errorf("the session is alive: %s", got)
			}
		}
		for name, test := range map[string]func(*testing.T, Grant){
			"retried until the end": func(t *testing.T, g Grant) {
				d.refresh(g.RefreshToken)
				d.clock.Advance(testGrace / 2)
				d.refresh(g.RefreshToken)
				d.clock.Advance(testGrace/2 - time.Microsecond)
				last := d.refresh(g.RefreshToken)
				if last.SessionID != g.SessionID {
					t.Errorf("session %s, want %s", last.SessionID, g.SessionID)
				}
				d.refresh(last.RefreshToken)
			},
			"over": func(t *testing.T, g Grant) {
				next := d.refresh(g.RefreshToken)
				d.clock.Advance(testGrace)
				reused(t, g.RefreshToken)
				dead(t, next)
			},
			"successor used": func(t *testing.T, g Grant) {
				last := d.refresh(d.refresh(g.RefreshToken).RefreshToken)
				reused(t, g.RefreshToken)
				dead(t, last)
			},
			"successor replaced": func(t *testing.T, g Grant) {
				lost := d.refresh(g.RefreshToken)
				got := d.refresh(g.RefreshToken)
				reused(t, lost.RefreshToken)
				dead(t, got)
			},
			// The one that was replaced never becomes the one spent last.
			"replaced, then the other used": func(t *testing.T, g Grant) {
				lost := d.refresh(g.RefreshToken)
				last := d.refresh(d.refresh(g.RefreshToken).RefreshToken)
				reused(t, lost.RefreshToken)
				dead(t, last)
			},
			"session revoked": func(t *testing.T, g Grant) {
				next := d.refresh(g.RefreshToken)
				backendtest.Must(t, faulttest.Err(d.RevokeSession(d.system(), g.UserID, g.SessionID)))
				reused(t, g.RefreshToken)
				dead(t, next)
			},
			"session over": func(t *testing.T, g Grant) {
				for range 3 {
					d.clock.Advance(testIdle - time.Minute)
					g = d.refresh(g.RefreshToken)
				}
				d.clock.Advance(3*time.Minute - 3*time.Second)
				d.refresh(g.RefreshToken)
				d.clock.Advance(3 * time.Second)
				reused(t, g.RefreshToken)
			},
		} {
			t.Run(name, func(t *testing.T) { test(t, d.login("ann")) })
		}
		retries := 0
		for _, e := range d.recorded(audit.Refresh) {
			if e.Details["grace"] == "true" && e.Outcome == audit.Success {
				retries++
			}
		}
		if retries != 4 {
			t.Errorf("%d retries recorded, want 4", retries)
		}

		// The user is read again, also when nothing has ended the session.
		g := d.login("ann")
		d.refresh(g.RefreshToken)
		backendtest.Must(t, faulttest.Err(db.Exec(t.Context(), `UPDATE users SET disabled_at = 1`)))
		if _, err := d.Refresh(d.visitor(), g.RefreshToken); err == nil {
			t.Error("a disabled user's token was retried")
		}
	})
}

// TestGraceRace: of a retry and a use of the successor at the same time one
// wins, and the other is reuse, which ends the session.
func TestGraceRace(t *testing.T) {
	t.Parallel()
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		d := newGraceFixture(t, db)
		ann := d.user("ann")
		for range 30 {
			first := d.login("ann")
			second := d.refresh(first.RefreshToken)
			var all sync.WaitGroup
			var retried, used atomic.Int64
			start := make(chan struct{})
			for _, try := range []struct {
				token string
				wins  *atomic.Int64
			}{{first.RefreshToken, &retried}, {second.RefreshToken, &used}} {
				all.Go(func() {
					<-start
					_, err := d.Refresh(d.visitor(), try.token)
					if err == nil {
						try.wins.Add(1)
					} else if f := fault.From(err); f.Reason != "REFRESH_TOKEN_REUSED" {
						t.Errorf("%v", err)
					}
				})
			}
			close(start)
			all.Wait()
			if retried.Load()+used.Load() != 1 {
				t.Fatalf("%d retries and %d uses succeeded, want one of all", retried.Load(), used.Load())
			}
			d.wantLive(ann.ID, 0)
		}
	})
}

// TestGraceRetriesAtOnce: retries at the same time do not end the session.
func TestGraceRetriesAtOnce(t *testing.T) {
	t.Parallel()
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		d := newGraceFixture(t, db)
		ann := d.user("ann")
		g := d.login("ann")
		d.refresh(g.RefreshToken)
		var all sync.WaitGroup
		for range 10 {
			all.Go(func() {
				if _, err := d.Refresh(d.visitor(), g.RefreshToken); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		d.wantLive(ann.ID, 1)
	})
}

// TestRefreshGraceModel sends random tokens of a session at random times and
// compares each answer with a model's: only the newest token, and the one it
// was traded for within the grace period, are taken.
func TestRefreshGraceModel(t *testing.T) {
	t.Parallel()
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		d := newGraceFixture(t, db)
		users := 0
		rapid.Check(t, func(t *rapid.T) {
			users++
			name := fmt.Sprintf("user-%d", users)
			user := d.user(name)
			g := d.login(name)
			tokens := []string{g.RefreshToken}
			newest, predecessor := 0, -1
			var spent time.Time
			dead := false
			t.Repeat(map[string]func(*rapid.T){
				"refresh": func(t *rapid.T) {
					i := rapid.IntRange(max(0, len(tokens)-4), len(tokens)-1).Draw(t, "token")
					g, err := d.Refresh(d.visitor(), tokens[i])
					now := d.clock.Now()
					switch {
					case !dead && i == newest:
						predecessor, spent = newest, now
					case !dead && i == predecessor && now.Before(spent.Add(testGrace)):
					default:
						want := "REFRESH_TOKEN_REUSED"
						if i == newest {
							want = "BAD_REFRESH_TOKEN"
						}
						if err == nil || fault.From(err).Reason != want {
							t.Fatalf("refreshed with token %d (newest %d, before it %d, dead %v): %v, want %s", i, newest, predecessor, dead, err, want)
						}
						dead = true
						return
					}
					if err != nil {
						t.Fatalf("refreshed with token %d (newest %d, before it %d): %v", i, newest, predecessor, err)
					}
					tokens = append(tokens, g.RefreshToken)
					newest = len(tokens) - 1
				},
				"wait": func(t *rapid.T) {
					d.clock.Advance(rapid.SampledFrom([]time.Duration{time.Second, testGrace / 2, testGrace}).Draw(t, "time"))
				},
				"": func(t *rapid.T) {
					if n := d.live(user.ID); (n == 1) == dead {
						t.Fatalf("%d live sessions, dead: %v", n, dead)
					}
				},
			})
		})
	})
}
