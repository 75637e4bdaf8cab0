package auth

import (
	"fmt"
	"testing"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/fault"
	"pgregory.net/rapid"
)

// modelSession is what a session should be.
type modelSession struct {
	id            string
	refresh       []string // all its refresh tokens, the newest last
	access        []modelToken
	idle, absolut time.Time
	revoked       bool
}

type modelToken struct {
	text string
	ends time.Time
}

func (m *modelSession) live(now time.Time) bool { return !m.revoked && now.Before(m.idle) }

// TestSessionModel does random things to a user's sessions and compares each
// answer with a model's.
func TestSessionModel(t *testing.T) {
	t.Parallel()
	d := newFixture(t, backendtest.SQLite(t))
	users := 0
	rapid.Check(t, func(t *rapid.T) {
		users++
		name := fmt.Sprintf("user-%d", users)
		user := d.user(name)
		var sessions []*modelSession
		granted := func(m *modelSession, g Grant) {
			now := d.clock.Now()
			m.idle = earlier(now.Add(testIdle), m.absolut)
			m.refresh = append(m.refresh, g.RefreshToken)
			m.access = append(m.access, modelToken{g.AccessToken, earlier(now.Add(testTTL), m.idle)})
		}
		pick := func(t *rapid.T) *modelSession {
			if len(sessions) == 0 {
				t.Skip("no sessions")
			}
			return rapid.SampledFrom(sessions).Draw(t, "session")
		}
		t.Repeat(map[string]func(*rapid.T){
			"login": func(t *rapid.T) {
				if len(sessions) >= 5 {
					t.Skip("enough sessions")
				}
				g := d.login(name)
				m := &modelSession{id: g.SessionID, absolut: d.clock.Now().Add(testMax)}
				granted(m, g)
				sessions = append(sessions, m)
			},
			"refresh": func(t *rapid.T) {
				m := pick(t)
				i := rapid.IntRange(0, len(m.refresh)-1).Draw(t, "token")
				if rapid.IntRange(0, 3).Draw(t, "mostly the newest") > 0 {
					i = len(m.refresh) - 1
				}
				g, err := d.Refresh(d.visitor(), m.refresh[i])
				want := ""
				switch {
				case i < len(m.refresh)-1:
					want = "REFRESH_TOKEN_REUSED"
					m.revoked = true
				case !m.live(d.clock.Now()):
					want = "BAD_REFRESH_TOKEN"
				}
				switch {
				case want == "" && err != nil:
					t.Fatal(err)
				case want == "":
					granted(m, g)
				case err == nil || fault.From(err).Reason != want:
					t.Fatalf("refreshed with token %d of %d: %v, want %s", i, len(m.refresh), err, want)
				}
			},
			"revoke": func(t *rapid.T) {
				m := pick(t)
				if _, err := d.RevokeSession(d.system(), user.ID, m.id); err != nil {
					t.Fatal(err)
				}
				m.revoked = true
			},
			"revoke all": func(t *rapid.T) {
				want := 0
				for _, m := range sessions {
					if m.live(d.clock.Now()) {
						want++
					}
					m.revoked = true
				}
				if n, _, err := d.RevokeSessions(d.system(), user.ID); err != nil || n != want {
					t.Fatalf("revoked %d, %v, want %d", n, err, want)
				}
			},
			"wait": func(t *rapid.T) {
				steps := []time.Duration{time.Second, time.Minute, 14 * time.Minute, time.Hour, testIdle - time.Hour, testIdle}
				d.clock.Advance(rapid.SampledFrom(steps).Draw(t, "time"))
			},
			"": func(t *rapid.T) {
				now, live := d.clock.Now(), 0
				for _, m := range sessions {
					if m.live(now) {
						live++
					}
					for _, token := range m.access {
						got := d.reason(token.text)
						switch {
						case !now.Before(token.ends):
							if got != caller.ReasonCredentialExpired {
								t.Fatalf("a token that has run out is verified as %s", got)
							}
						case m.revoked:
							if got != caller.ReasonCredentialRevoked {
								t.Fatalf("a token of an ended session is verified as %s", got)
							}
						case got != caller.ReasonOK:
							t.Fatalf("a good token is verified as %s", got)
						}
					}
				}
				if n := d.live(user.ID); n != live {
					t.Fatalf("%d live sessions, want %d", n, live)
				}
			},
		})
	})
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
