package roles

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tollgatehq/tollgate/internal/perm"
	"github.com/tollgatehq/tollgate/server/internal/audit"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/changes"
)

// comparison has an instance and the model with the same roles and members, which
// change as it goes on.
type comparison struct {
	*instance
	model

	r     *rand.Rand
	users []string
	seen  map[caller.Reason]int
}

var (
	roleNames   = []string{"a", "a-b", "a.b", "a_b", "b", "b1", "c", "d"}
	patterns    = []string{"a", "a:b", "a:b:*", "a:*", "a:b:c", "b:*", "b", "b:c", "*", "tollgate:*", "tollgate:users:read", "tollgate"}
	permissions = []string{
		"a", "a:b", "a:b:c", "a:b:c:d", "b", "b:c", "ab", "c", "tollgate", "tollgate:users:read", "tollgate:users:write", "tollgateb:c",
		"", "a:", ":a", "a::b", "A", "a:*", "*", "a\x00", "a:b\x00", "a|b", "a b", "a:b:c:d:e:f:g:h:i", strings.Repeat("a", 129), "ä",
	}
	scopes = []string{"a:*", "*", "a:b", "b:*", "tollgate:*", "a", "", "a*", "*:a", "a:*:b", "a\x00", "a|*"}
	ids    = []string{"u", "u:1", "u|1", "u\x001", "u*", "*", "u1"}
)

func compare(t testing.TB, seed uint64) *comparison {
	t.Helper()
	c := &comparison{
		instance: onSQLite(t), model: model{roles: map[string]modelRole{}, members: map[string][]member{}},
		r: rand.New(rand.NewPCG(seed, 0)), seen: map[caller.Reason]int{}, users: ids,
	}
	for _, name := range []string{Administrator, Auditor, ServiceRole} { // only what the model knows
		c.must(deleteRole(t.Context(), c.db, name))
	}
	for n, id := range ids {
		_, err := c.db.Exec(t.Context(), `INSERT INTO users (id, username, kind, created_at, updated_at) VALUES ($1,$2,'person',0,0)`, id, fmt.Sprint("name", n))
		c.must(err)
	}
	c.must(c.Reset(t.Context()))
	return c
}

func (c *comparison) randomRole(name string) modelRole {
	var role modelRole
	for range c.r.IntN(3) {
		role.permissions = append(role.permissions, of(c.r, patterns))
	}
	for range c.r.IntN(4) {
		g := modelGrant{pattern: of(c.r, patterns), deny: c.r.IntN(3) == 0, broken: c.r.IntN(30) == 0}
		if !g.broken && c.r.IntN(5) > 0 {
			g.condition = randomCondition(c.r)
		}
		role.grants = append(role.grants, g)
	}
	for range c.r.IntN(3) {
		other := of(c.r, roleNames)
		if other > name || c.r.IntN(20) == 0 { // now and then a circle
			role.inherits = append(role.inherits, other)
		}
	}
	role.inherits = perm.Tidy(role.inherits)
	return role
}

// change changes some roles and who holds them, in the model and here.
func (c *comparison) change() {
	_, err := c.log.Write(c.system(), func(ctx context.Context, tx *changes.Tx) error {
		for range 1 + c.r.IntN(3) {
			name := of(c.r, roleNames)
			_, exists := c.roles[name]
			tx.Changed(changes.Role, name)
			tx.Record(audit.New(ctx, audit.RoleUpdate, audit.Success, "roles/"+name))
			switch {
			case exists && c.r.IntN(6) == 0:
				delete(c.roles, name)
				for user, held := range c.members {
					c.members[user] = slices.DeleteFunc(held, func(m member) bool { return m.role == name })
				}
				c.must(deleteRole(ctx, tx, name))
				tx.Changed(changes.Membership, "")
			case exists:
				c.roles[name] = c.randomRole(name)
				c.must(updateRole(ctx, tx, c.roles[name].stored(name)))
			default:
				c.roles[name] = c.randomRole(name)
				c.must(insertRole(ctx, tx, c.roles[name].stored(name)))
			}
		}
		for range 8 {
			if len(c.roles) > 0 {
				c.changeMember(ctx, tx, of(c.r, c.users), of(c.r, slices.Sorted(maps.Keys(c.roles))))
			}
		}
		return nil
	})
	c.must(err)
}

func (c *comparison) changeMember(ctx context.Context, tx *changes.Tx, user, role string) {
	now := c.clock.Now()
	others := slices.DeleteFunc(c.members[user], func(m member) bool { return m.role == role })
	c.members[user] = others
	tx.Changed(changes.Membership, user)
	if c.r.IntN(4) == 0 {
		c.must(func() error { _, err := deleteMember(ctx, tx, role, user, 0); return err }())
		return
	}
	var ends *int64
	m := member{role: role}
	if c.r.IntN(2) == 0 {
		m.ends = now.Add(time.Duration(1+c.r.IntN(900)) * time.Minute)
		ends = new(m.ends.UnixMicro())
	}
	c.members[user] = append(others, m)
	_, err := upsertMember(ctx, tx, role, user, now.UnixMicro(), ends)
	c.must(err)
}

// request draws a call; the principal is as the engine has it.
func (c *comparison) request() (*caller.Principal, string, *facts) {
	if c.r.IntN(8) == 0 {
		c.clock.Advance(time.Duration(c.r.IntN(40)) * time.Minute)
	}
	user := of(c.r, c.users)
	names, err := c.RolesOf(c.t.Context(), user)
	c.must(err)
	p := &caller.Principal{UserID: user, Username: of(c.r, texts), Kind: caller.Person, Roles: names, Attributes: randomAttributes(c.r)}
	if c.r.IntN(3) == 0 {
		p.APIKeyID = of(c.r, texts)
		for range c.r.IntN(3) {
			p.Scopes = append(p.Scopes, of(c.r, scopes))
		}
	}
	permission := of(c.r, permissions)
	if c.r.IntN(4) > 0 {
		permission = of(c.r, permissions[:12])
	}
	f := &facts{
		user: user, name: p.Username, kind: string(p.Kind), key: p.APIKeyID, roles: names, mine: p.Attributes,
		its: randomAttributes(c.r), given: randomAttributes(c.r), context: randomAttributes(c.r),
		resource: of(c.r, texts), id: of(c.r, texts), action: permission, ip: of(c.r, []string{"", "10.0.0.1", "10.0.0.2"}), now: c.clock.Now(),
	}
	return p, permission, f
}

// engine is what is compared with the model.
type engine func(c *comparison, who *caller.Principal, permission string, in Input) (Verdict, error)

func judge(c *comparison, who *caller.Principal, permission string, in Input) (Verdict, error) {
	return c.Judge(who, permission, in)
}

// difference compares one request; empty: none.
func (c *comparison) difference(judge engine) string {
	who, permission, f := c.request()
	held := c.model.rolesOf(who.UserID, c.clock.Now())
	if !slices.Equal(held, who.Roles) {
		return fmt.Sprintf("user %q holds %q, the model says %q", who.UserID, who.Roles, held)
	}
	v, err := judge(c, who, permission, f.asInput())
	c.must(err)
	want := c.decide(held, who.Scopes, permission, f)
	c.seen[v.Reason]++
	got := decided{reason: v.Reason}
	if v.Grant != nil {
		got.role, got.text = v.Role, v.Grant.Condition
	}
	if got != want {
		return fmt.Sprintf("%+v asks for %q with %+v: %+v, the model says %+v; the roles are %+v", who, permission, f, got, want, c.stored())
	}
	return c.unexplained(who, permission, f)
}

// unexplained compares Explain with Judge, its traces as well; empty: they agree.
func (c *comparison) unexplained(who *caller.Principal, permission string, f *facts) string {
	v, err := c.Judge(who, permission, f.asInput())
	c.must(err)
	explained, traces, truncated, err := c.Policy().Explain(who, permission, f.asInput())
	c.must(err)
	told := caller.ReasonPermissionMissing
	if perm.ValidPermission(permission) == nil {
		told = concluded(traces)
	}
	if told == caller.ReasonOK && v.Reason == caller.ReasonScopeMissing {
		told = v.Reason
	}
	if truncated || explained.Reason != v.Reason || explained.String() != v.String() || told != v.Reason {
		return fmt.Sprintf("%+v asks for %q with %+v: %s %s; explained: %s %s, by traces that say %s: %+v", who, permission, f, v.Reason, v, explained.Reason, explained, told, traces)
	}
	return ""
}

// concluded is the reason that traces come to.
func concluded(traces []Trace) caller.Reason {
	reason := caller.ReasonPermissionMissing
	for _, t := range traces {
		switch {
		case t.Verdict == Denies:
			return caller.ReasonDeniedByGrant
		case t.Verdict == ConditionError && t.Grant.Effect == Deny:
			return caller.ReasonConditionFailed
		}
	}
	for _, t := range traces {
		switch {
		case t.Grant.Effect == Deny || reason == caller.ReasonOK:
		case t.Verdict == Matched:
			reason = caller.ReasonOK
		case t.Verdict == ConditionError:
			reason = caller.ReasonConditionFailed
		case t.Verdict == ConditionFalse && reason == caller.ReasonPermissionMissing:
			reason = caller.ReasonConditionFalse
		}
	}
	return reason
}

// runs is how often, in pairs or tuples; a few in `make test`.
func runs(t testing.TB) int {
	t.Helper()
	value := os.Getenv("TOLLGATE_POLICY_RUNS")
	if value == "" {
		return 4000
	}
	n, err := strconv.Atoi(value)
	backendtest.Must(t, err)
	return n
}

// eachState is how many requests come between two changes.
const eachState = 100

// TestEngineAgreesWithNaiveModel compares what a user holds and may, and how it is
// explained, over roles that inherit, denies, conditions that fail, assignments that
// end and scopes.
func TestEngineAgreesWithNaiveModel(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	c, n := compare(t, seed), runs(t)
	for pair := range n {
		if pair%eachState == 0 {
			c.change()
		}
		if text := c.difference(judge); text != "" {
			t.Fatalf("seed %d, pair %d: %s", seed, pair, text)
		}
	}
	t.Logf("%d pairs; verdicts: %v", n, c.seen)
	for _, reason := range []caller.Reason{
		caller.ReasonOK, caller.ReasonPermissionMissing, caller.ReasonScopeMissing,
		caller.ReasonDeniedByGrant, caller.ReasonConditionFalse, caller.ReasonConditionFailed,
	} { // a comparison of one kind of verdict would show little
		if c.seen[reason] < n/2000 {
			t.Errorf("only %d of %d verdicts are %s", c.seen[reason], n, reason)
		}
	}
}
