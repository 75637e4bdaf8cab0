package app

import (
	"flag"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tollgatehq/tollgate/internal/perm"
	"github.com/tollgatehq/tollgate/server/internal/auth"
	"github.com/tollgatehq/tollgate/server/internal/auth/apikey"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/clock"
	"github.com/tollgatehq/tollgate/server/internal/roles"
	"pgregory.net/rapid"
)

// TestNothingBeyondWhatWasGranted has a limited administrator, with the rights
// of a person or of an API key and with ends, do random things by every
// administrative RPC, and compares with a model of what was granted:
//
//   - no credential that they came by ever has a right that was not granted to
//     them then;
//   - none acts as a person who holds more than was granted to them;
//   - who holds more keeps password, name, API keys and the last role;
//   - by grants with conditions, denies, inherited roles, tags, names and attributes,
//     nobody comes to pass where the attacker may not: see checkReach.
//
// TOLLGATE_PROPERTY_RUNS is how many sequences there are.
func TestNothingBeyondWhatWasGranted(t *testing.T) {
	t.Parallel()
	runs := os.Getenv("TOLLGATE_PROPERTY_RUNS")
	if runs == "" {
		runs = "8" // under the race detector, each takes a second or two
	}
	for name, value := range map[string]string{"rapid.checks": runs, "rapid.steps": "50"} {
		before := flag.Lookup(name).Value.String()
		backendtest.Must(t, flag.Set(name, value))
		defer flag.Set(name, before)
	}
	backendtest.DatabaseURLs(t, func(t *testing.T, address string) {
		clk, fake := fakeClock(time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC))
		i := start(t, testConfig(address), clk)
		handler, err := i.Handler()
		backendtest.Must(t, err)
		done := map[string]int{}
		sequences := 0
		rapid.Check(t, func(t *rapid.T) {
			sequences++
			m := &reach{i: i, t: t, clock: fake, handler: handler, number: sequences, done: done}
			m.begin()
			t.Repeat(m.actions())
			m.t = t
			m.end()
		})
		t.Logf("%d sequences; what was allowed: %v", sequences, done)
		if sequences < 1000 {
			return
		}
		for action := range (&reach{}).actions() { // a model that is refused everything shows nothing
			if done[action] == 0 && action != "" {
				t.Errorf("%q was never allowed", action)
			}
		}
	})
}

// right is a pattern that was granted until a time; zero is for good.
type right struct {
	pattern   string
	ends      time.Time
	condition string // empty: everywhere
	denies    bool
}

// loot is a credential that the attacker came by.
type loot struct {
	user     string
	password string // of a person
	hash     string // of the password, as stored; another one: it was changed since
	key      string // an API key's secret
	token    string // an API key's access token

	bearer string // for calls with a password
}

// victim is somebody whom the attacker is not.
type victim struct {
	id      string
	keys    []apikey.Key // that they had before
	reaches map[probe]bool
}

// reach is one sequence.
type reach struct {
	i       *instance
	t       *rapid.T
	clock   *clock.Fake
	handler http.Handler
	number  int
	calls   int
	done    map[string]int

	granted []right
	loot    []*loot
	own     map[string]bool // users whom the attacker is or made
	victims []victim
	people  []string // all users, for drawing
	roles   []string // the sequence's, for drawing
	keys    []string // ids, for drawing
	scopes  []string // of the attacker's API key, when that is all they have
	tag     string   // a role without permissions, which conditions ask for
	boss    string   // a name that conditions ask for
}

var (
	rights   = []string{"a:read", "a:write", "a:*", "b:read", "tollgate:users:write", "tollgate:keys:write", "tollgate:roles:write", "tollgate:*"}
	helpdesk = []string{"tollgate:users:write", "tollgate:keys:write", "tollgate:roles:write", "a:read"}
	ends     = []time.Duration{0, time.Hour, 3 * time.Hour, 12 * time.Hour}
)

const lootPassword = "an attacker's password"

func (m *reach) must(err error) {
	m.t.Helper()
	if err != nil {
		m.t.Fatal(err)
	}
}

func (m *reach) name(kind string) string {
	m.calls++
	return fmt.Sprintf("%s-%d-%d", kind, m.number, m.calls)
}

func (m *reach) patterns(label string) []string {
	from := rights
	if rapid.Bool().Draw(m.t, "of what the attacker has") { // or little would be allowed
		from = helpdesk
	}
	return rapid.SliceOfNDistinct(rapid.SampledFrom(from), 0, 2, rapid.ID[string]).Draw(m.t, label)
}

// until draws an end; zero is never.
func (m *reach) until() time.Time {
	if d := rapid.SampledFrom(ends).Draw(m.t, "ends in"); d > 0 {
		return m.clock.Now().Add(d)
	}
	return time.Time{}
}

// grant gives a user a new role for some time, as the system does.
func (m *reach) grant(user string, patterns []string) time.Time {
	return m.give(user, roles.Role{Permissions: patterns}, true)
}

func (m *reach) give(user string, r roles.Role, ending bool) (ends time.Time) {
	ctx := caller.System(m.i.draining)
	r.Name = m.name("role")
	_, _, err := m.i.roles.Create(ctx, r)
	m.must(err)
	if ending {
		ends = m.until()
	}
	_, _, err = m.i.roles.Assign(ctx, r.Name, user, ends)
	m.must(err)
	m.roles = append(m.roles, r.Name)
	return ends
}

func (m *reach) user(kind caller.Kind) string {
	n := auth.NewUser{Username: m.name("user"), Kind: kind}
	if kind == caller.Person {
		n.Password = "the right password"
	}
	user, _, err := m.i.Auth.CreateUser(caller.System(m.i.draining), n)
	m.must(err)
	m.people = append(m.people, user.ID)
	return user.ID
}

func (m *reach) issue(user string, scopes []string, ends time.Time) (apikey.Key, string) {
	made, err := m.i.Auth.APIKeys.Create(caller.System(m.i.draining),
		apikey.New{UserID: user, Name: "a key", Scopes: scopes, ExpiresAt: ends})
	m.must(err)
	m.keys = append(m.keys, made.Key.ID)
	return made.Key, made.Secret
}

// begin makes the attacker and the others.
func (m *reach) begin() {
	m.people, m.roles, m.own = []string{m.i.user}, []string{roles.Administrator}, map[string]bool{}
	m.tag, m.boss = m.name("tag"), m.name("boss")
	_, _, err := m.i.roles.Create(caller.System(m.i.draining), roles.Role{Name: m.tag})
	m.must(err)
	m.roles = append(m.roles, m.tag)
	addVictim := func(id string, keys ...apikey.Key) {
		m.victims = append(m.victims, victim{id, keys, m.reaches(m.principal(id))})
	}
	all, _ := m.issue(m.i.user, nil, time.Time{})
	some, _ := m.issue(m.i.user, []string{"tollgate:keys:write"}, time.Time{})
	addVictim(m.i.user, all, some)
	for _, kind := range []caller.Kind{caller.Person, caller.Service} {
		id := m.user(kind)
		m.grant(id, m.patterns("of "+string(kind)))
		m.grantAlso(id, m.grants("grants of "+string(kind)))
		key, _ := m.issue(id, m.patterns("scopes of "+string(kind)), m.until())
		addVictim(id, key)
		if kind == caller.Person && rapid.Bool().Draw(m.t, "with a second factor") {
			_, err := m.i.db.Exec(m.i.draining, `INSERT INTO second_factors (user_id, secret, created_at, confirmed_at) VALUES ($1, $2, 1, 1)`, id, []byte{1})
			m.must(err)
		}
	}

	kind := caller.Person
	byKey := rapid.Bool().Draw(m.t, "attacker has an API key")
	if byKey && rapid.Bool().Draw(m.t, "of a service account") {
		kind = caller.Service
	}
	eve := m.user(kind)
	m.own[eve] = true
	for _, patterns := range [][]string{helpdesk, m.patterns("of the attacker"), m.patterns("of the attacker, too")} {
		ends := m.grant(eve, patterns)
		for _, p := range patterns {
			m.granted = append(m.granted, right{pattern: p, ends: ends})
		}
	}
	m.granted = append(m.granted, m.grantAlso(eve, m.grants("grants of the attacker"))...)
	if !byKey {
		m.take(&loot{user: eve, password: "the right password"})
		return
	}
	home, _ := m.issue(eve, nil, time.Time{})
	addVictim(eve, home)
	if rapid.Bool().Draw(m.t, "narrowed") {
		m.scopes = append(m.patterns("scopes of the attacker"), "tollgate:keys:write", "tollgate:roles:write")
		slices.Sort(m.scopes)
		m.scopes = slices.Compact(m.scopes)
	}
	limit := m.until()
	_, secret := m.issue(eve, m.scopes, limit)
	var narrowed []right
	for _, r := range m.granted {
		if r.denies {
			narrowed = append(narrowed, r)
			continue
		}
		if !limit.IsZero() && (r.ends.IsZero() || limit.Before(r.ends)) {
			r.ends = limit
		}
		patterns := []string{r.pattern}
		if len(m.scopes) > 0 {
			patterns = perm.Intersect(patterns, m.scopes)
		}
		for _, p := range patterns {
			narrowed = append(narrowed, right{pattern: p, ends: r.ends, condition: r.condition})
		}
	}
	m.granted = narrowed
	m.take(&loot{user: eve, key: secret})
}

// end removes what the sequence made, and what it granted ends: what is left
// may still do no more.
func (m *reach) end() {
	for _, d := range []time.Duration{time.Hour, 3 * time.Hour, 12 * time.Hour} {
		m.clock.Advance(d)
		m.check()
	}
	ctx := caller.System(m.i.draining)
	for _, role := range m.roles[1:] {
		_, _ = m.i.roles.Delete(ctx, role) // perhaps gone already
	}
	for _, user := range m.people[1:] {
		_, _ = m.i.Auth.DeleteUser(ctx, user)
	}
	for _, key := range m.keys {
		_, _ = m.i.Auth.APIKeys.Revoke(ctx, key)
	}
}

// covered says whether the pattern was granted to the attacker until a time;
// zero is for good.
func (m *reach) covered(pattern string, until time.Time) bool {
	return slices.ContainsFunc(m.granted, func(r right) bool {
		lasts := r.ends.IsZero() || !until.IsZero() && !r.ends.Before(until)
		return lasts && !r.denies && r.condition == "" && perm.Within([]string{pattern}, []string{r.pattern})
	})
}

// holds is what a user holds now, as the database has it; not what they are denied.
func (m *reach) holds(user string) (list []right) {
	var rows []struct {
		Role      string `db:"role"`
		ExpiresAt *int64 `db:"expires_at"`
	}
	m.must(m.i.db.Select(m.i.draining, &rows, `SELECT role, expires_at FROM memberships
		WHERE user_id = $1 AND (expires_at IS NULL OR expires_at > $2)`, user, m.clock.Now().UnixMicro()))
	var table []roleRow
	m.must(m.i.db.Select(m.i.draining, &table, `SELECT name, permissions, grants, inherits FROM roles`))
	for _, row := range rows {
		for _, r := range m.closure(table, row.Role) {
			if row.ExpiresAt != nil {
				r.ends = time.UnixMicro(*row.ExpiresAt)
			}
			if !r.denies {
				list = append(list, r)
			}
		}
	}
	return list
}

// beyond says whether a user holds what was not granted to the attacker, now or,
// with lasting, for as long.
func (m *reach) beyond(user string, lasting bool) bool {
	soon := m.clock.Now().Add(time.Microsecond)
	return slices.ContainsFunc(m.holds(user), func(r right) bool {
		return !m.allowedEverywhere(user, r, soon) || lasting && !m.allowedEverywhere(user, r, r.ends)
	})
}

// works returns who a credential stands for now; nil: nobody.
func (m *reach) works(l *loot) *caller.Principal {
	c := auth.Credential{APIKey: l.key, AccessToken: l.token}
	if l.password != "" {
		if m.hash(l.user) != l.hash {
			return nil
		}
		c = auth.Credential{UserID: l.user}
	}
	v, err := m.i.Auth.Verify(m.i.draining, c)
	m.must(err)
	if v.Reason != caller.ReasonOK {
		return nil
	}
	return v.Principal
}

func (m *reach) hash(user string) string {
	var hash []string
	m.must(m.i.db.Select(m.i.draining, &hash, `SELECT password_hash FROM users WHERE id = $1`, user))
	return strings.Join(hash, "")
}

// wayIn is what signing in as a user takes; empty for one who is gone.
func (m *reach) wayIn(user string) string {
	var factors []int
	m.must(m.i.db.Select(m.i.draining, &factors, `SELECT COUNT(f.user_id) FROM users u LEFT JOIN second_factors f ON f.user_id = u.id
		WHERE u.id = $1 GROUP BY u.id`, user))
	if len(factors) == 0 {
		return ""
	}
	return fmt.Sprint(m.hash(user), factors)
}

// take adds a credential.
func (m *reach) take(l *loot) {
	if l.password != "" {
		l.hash = m.hash(l.user)
	}
	if p := m.works(l); p != nil && !m.own[l.user] && p.Kind == caller.Person &&
		!m.covered("tollgate:users:write", m.clock.Now().Add(time.Microsecond)) {
		m.t.Fatalf("a credential of another person, without the right to manage users: %+v", p)
	}
	m.loot = append(m.loot, l)
}

// check is the model's claim.
func (m *reach) check() {
	now := m.clock.Now().Add(time.Microsecond)
	for _, l := range m.loot {
		p := m.works(l)
		if p == nil {
			continue
		}
		for _, pattern := range m.i.roles.Patterns(p) {
			if !m.covered(pattern, now) {
				m.t.Fatalf("%+v reaches %q, which was not granted: %+v", p, pattern, m.granted)
			}
		}
		if p.Kind == caller.Person && !m.own[p.UserID] && m.beyond(p.UserID, false) {
			m.t.Fatalf("%+v acts as a person who holds %+v; granted was %+v", p, m.holds(p.UserID), m.granted)
		}
	}
	m.checkReach()
}
