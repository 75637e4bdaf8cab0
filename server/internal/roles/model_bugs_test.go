package roles

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tollgatehq/tollgate/internal/condition"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/caller"
)

// altered is an engine that judges by roles which were altered first.
func altered(alter func(*Role)) engine {
	var from, policy *Policy
	return func(c *comparison, who *caller.Principal, permission string, in Input) (Verdict, error) {
		if from != c.Policy() {
			list := c.stored()
			for i := range list {
				alter(&list[i])
			}
			from, policy = c.Policy(), NewPolicy(list)
		}
		return policy.Judge(who, permission, in)
	}
}

func without(effect Effect, conditional bool) func(*Role) {
	return func(r *Role) {
		r.Grants = slices.DeleteFunc(r.Grants, func(g Grant) bool { return g.Effect == effect && (g.Condition != "" || !conditional) })
	}
}

// TestModelFindsPlantedBugs has engines with one bug each compared with the model,
// which finds every one of them.
func TestModelFindsPlantedBugs(t *testing.T) {
	t.Parallel()
	noDenies, noDeniesToo := altered(without(Deny, false)), altered(without(Deny, false))
	noHeirs := altered(func(r *Role) { r.Inherits = nil })
	for what, bug := range map[string]engine{
		"a deny counts only where nothing allows": func(c *comparison, who *caller.Principal, permission string, in Input) (Verdict, error) {
			if v, err := noDenies(c, who, permission, in); err != nil || v.Reason == caller.ReasonOK {
				return v, err
			}
			return c.Judge(who, permission, in)
		},
		"a deny with a condition does not count": altered(without(Deny, true)),
		"a condition is always true": altered(func(r *Role) {
			for i := range r.Grants {
				r.Grants[i].Condition = ""
			}
		}),
		"nothing is inherited": altered(func(r *Role) { r.Inherits = nil }),
		"only one level is inherited": func(c *comparison, who *caller.Principal, permission string, in Input) (Verdict, error) {
			flat := *who
			for _, name := range who.Roles {
				flat.Roles = append(slices.Clone(flat.Roles), c.roles[name].inherits...)
			}
			return noHeirs(c, &flat, permission, in)
		},
		"scopes do not count": func(c *comparison, who *caller.Principal, permission string, in Input) (Verdict, error) {
			wide := *who
			wide.Scopes = nil
			return c.Judge(&wide, permission, in)
		},
		"a wildcard matches its own prefix": func(c *comparison, who *caller.Principal, permission string, in Input) (Verdict, error) {
			if v, err := c.Judge(who, permission, in); err != nil || v.Reason != caller.ReasonPermissionMissing || permission == "" {
				return v, err
			}
			return c.Judge(who, permission+":x", in)
		},
		"a deny that fails is one that is false": func(c *comparison, who *caller.Principal, permission string, in Input) (Verdict, error) {
			v, err := c.Judge(who, permission, in)
			if v.Reason == caller.ReasonConditionFailed && v.Grant.Effect == Deny {
				return noDeniesToo(c, who, permission, in)
			}
			return v, err
		},
		"an assignment that ended counts": func(c *comparison, who *caller.Principal, permission string, in Input) (Verdict, error) {
			late := *who
			late.Roles = c.model.rolesOf(who.UserID, time.Time{})
			return c.Judge(&late, permission, in)
		},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			c := compare(t, 1)
			for pair := range 20 * eachState {
				if pair%eachState == 0 {
					c.change()
				}
				if c.difference(bug) != "" {
					return
				}
			}
			t.Error("the comparison does not find it")
		})
	}
}

// TestCachedAnswersEqualUncached: what is kept in memory and changed step by step
// answers as what is read and compiled anew, for names with colons, bars, NUL and "*".
func TestCachedAnswersEqualUncached(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	c, n := compare(t, seed), runs(t)
	var fresh *instance
	for tuple := range n {
		if tuple%eachState == 0 {
			c.change()
			fresh = newInstance(t, c.db, c.instance.clock)
			c.must(fresh.Reset(t.Context()))
		}
		who, permission, f := c.request()
		fresh.held.Clear()
		names, err := fresh.RolesOf(t.Context(), who.UserID)
		c.must(err)
		backendtest.Equal(t, who.Roles, names, "seed %d, tuple %d: roles of %q", seed, tuple, who.UserID)
		for range c.r.IntN(3) { // what nobody can hold
			who.Roles = append(who.Roles, of(c.r, []string{"", "a:b", "a|b", "a\x00", "*", "a*", "A", strings.Repeat("a", 1000)}))
		}
		cached, err := c.Judge(who, permission, f.asInput())
		c.must(err)
		uncached, err := fresh.Judge(who, permission, f.asInput())
		c.must(err)
		if cached.Reason != uncached.Reason || cached.String() != uncached.String() {
			t.Fatalf("seed %d, tuple %d: %+v asks for %q: %s %q, uncached %s %q", seed, tuple, who, permission, cached.Reason, cached, uncached.Reason, uncached)
		}
		if a, b := fmt.Sprint(c.Patterns(who), c.HoldsAll(who)), fmt.Sprint(fresh.Patterns(who), fresh.HoldsAll(who)); a != b {
			t.Fatalf("seed %d, tuple %d: %+v has %s, uncached %s", seed, tuple, who, a, b)
		}
	}
}

// TestImpliedConditionsHold: what condition.Implies says of two conditions is so
// wherever the model looks. Grants under conditions count as held by it.
func TestImpliedConditionsHold(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	c := compare(t, seed)
	parsed := func(e expr) *condition.Condition {
		compiled, err := condition.Compile(e.cel())
		if err != nil && strings.Contains(err.Error(), "may cost") {
			compiled, err = condition.Compile("true")
		}
		c.must(err)
		return compiled
	}
	implied, held := 0, 0
	for range 200 + runs(t)/200 {
		parts := []expr{randomExpr(c.r, 1), randomExpr(c.r, 1), randomExpr(c.r, 1)}
		random := func() expr {
			e := of(c.r, parts)
			for range c.r.IntN(3) {
				switch other := of(c.r, parts); c.r.IntN(4) {
				case 0:
					e = either{e, other}
				case 1:
					e = not{both{e, other}}
				default:
					e = both{other, e}
				}
			}
			return e
		}
		for range 10 {
			a, b := random(), random()
			if !parsed(a).Implies(parsed(b)) {
				continue
			}
			implied++
			for range 10 {
				_, _, f := c.request()
				if a.eval(f) != yes {
					continue
				}
				held++
				if b.eval(f) != yes {
					t.Fatalf("seed %d: %s implies %s, and with %+v does not", seed, a.cel(), b.cel(), f)
				}
			}
		}
	}
	if implied < 5 || held < 5 {
		t.Errorf("%d conditions imply others, and %d times they are true", implied, held)
	}
}
