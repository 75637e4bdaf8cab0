package roles

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/tollgatehq/tollgate/internal/condition"
)

// facts are what a request says, as the naive model has it.
type facts struct {
	user, name, kind, key     string
	roles                     []string
	mine, its, given, context map[string]any
	resource, id, action, ip  string // ip empty: not known
	now                       time.Time
}

func (f *facts) input() *condition.Input {
	ip, _ := netip.ParseAddr(f.ip)
	return &condition.Input{
		PrincipalID: f.user, Username: f.name, Kind: f.kind, Roles: f.roles, APIKeyID: f.key, Attributes: f.mine,
		ResourceType: f.resource, ResourceID: f.id, ResourceAttributes: f.its,
		Action: f.action, ActionProperties: f.given, Context: f.context, IP: ip, Now: f.now,
	}
}

func (f *facts) asInput() Input {
	return func(*condition.Condition) (*condition.Input, error) { return f.input(), nil }
}

// answer is what a condition says: CEL's errors are values.
type answer int

const (
	no answer = iota
	yes
	failure
	stopped // it costs too much: nothing that comes after counts
)

func answered(b bool) answer {
	if b {
		return yes
	}
	return no
}

// expr is a condition of the model: what is written as CEL, and what the model makes
// of it without CEL.
type expr interface {
	cel() string
	eval(f *facts) answer
}

// term is a part that has a value; false: reading it fails.
type term interface {
	cel() string
	value(f *facts) (any, bool)
}

type (
	text      string
	number    int
	named     string // a variable that is a text
	attribute struct{ of, name string }

	equal  struct{ a, b term }
	less   struct{ a term }   // than 3
	inList struct{ s string } // of the principal's roles
	has    struct{ a attribute }
	some   struct { // of a list's elements is s
		a attribute
		s string
	}
	before struct{ hour int }
	not    struct{ a expr }
	both   struct{ a, b expr }
	either struct{ a, b expr }
)

func (t text) cel() string                { return fmt.Sprintf("%q", string(t)) }
func (t text) value(*facts) (any, bool)   { return string(t), true }
func (n number) cel() string              { return fmt.Sprint(int(n)) }
func (n number) value(*facts) (any, bool) { return float64(n), true }

func (n named) cel() string { return string(n) }

func (n named) value(f *facts) (any, bool) {
	switch n {
	case "principal.id":
		return f.user, true
	case "principal.username":
		return f.name, true
	case "principal.kind":
		return f.kind, true
	case "principal.api_key_id":
		return f.key, true
	case "resource.type":
		return f.resource, true
	case "resource.id":
		return f.id, true
	case "action.name":
		return f.action, true
	default:
		return f.ip, f.ip != ""
	}
}

func (a attribute) cel() string { return a.of + "." + a.name }

func (a attribute) value(f *facts) (any, bool) {
	m := f.context
	switch a.of {
	case "principal.attributes":
		m = f.mine
	case "resource.attributes":
		m = f.its
	case "action.properties":
		m = f.given
	}
	v, ok := m[a.name]
	return v, ok
}

func (e equal) cel() string { return e.a.cel() + " == " + e.b.cel() }

func (e equal) eval(f *facts) answer {
	a, ok := e.a.value(f)
	b, also := e.b.value(f)
	if !ok || !also {
		return failure
	}
	if list, ok := a.([]any); ok {
		other, ok := b.([]any)
		return answered(ok && slices.Equal(list, other))
	}
	if _, ok := b.([]any); ok {
		return no
	}
	return answered(a == b) // of one type: the model's numbers are all float64
}

func (e less) cel() string { return e.a.cel() + " < 3" }

func (e less) eval(f *facts) answer {
	v, _ := e.a.value(f)
	n, ok := v.(float64)
	if !ok {
		return failure // missing, or nothing that can be compared with a number
	}
	return answered(n < 3)
}

func (e inList) cel() string          { return fmt.Sprintf("%q in principal.roles", e.s) }
func (e inList) eval(f *facts) answer { return answered(slices.Contains(f.roles, e.s)) }
func (e has) cel() string             { return "has(" + e.a.cel() + ")" }

func (e has) eval(f *facts) answer {
	_, ok := e.a.value(f)
	return answered(ok)
}

func (e some) cel() string { return fmt.Sprintf("%s.exists(g, g == %q)", e.a.cel(), e.s) }

func (e some) eval(f *facts) answer {
	v, _ := e.a.value(f)
	list, ok := v.([]any)
	switch {
	case !ok:
		return failure
	case len(list) == len(longList):
		return stopped
	}
	return answered(slices.Contains(list, any(e.s)))
}

func (e before) cel() string          { return fmt.Sprintf("now.getHours() < %d", e.hour) }
func (e before) eval(f *facts) answer { return answered(f.now.UTC().Hour() < e.hour) }

func (e not) cel() string { return "!(" + e.a.cel() + ")" }

func (e not) eval(f *facts) answer {
	return [...]answer{no: yes, yes: no, failure: failure, stopped: stopped}[e.a.eval(f)]
}

func (e both) cel() string { return "(" + e.a.cel() + ") && (" + e.b.cel() + ")" }

// A no of either side makes it no, whatever the other says (CEL's logical operators).
func (e both) eval(f *facts) answer {
	a := e.a.eval(f)
	if a == no || a == stopped {
		return a
	}
	switch b := e.b.eval(f); {
	case b == no || b == stopped:
		return b
	case a == failure || b == failure:
		return failure
	}
	return yes
}

func (e either) cel() string          { return "(" + e.a.cel() + ") || (" + e.b.cel() + ")" }
func (e either) eval(f *facts) answer { return not{both{not{e.a}, not{e.b}}}.eval(f) }

var (
	namedTerms = []named{"principal.id", "principal.username", "principal.kind", "principal.api_key_id", "resource.type", "resource.id", "action.name", "ip"}
	holders    = []string{"principal.attributes", "resource.attributes", "action.properties", "context"}
	fields     = []string{"owner", "level", "groups", "flag", "missing"}
	texts      = []string{"u1", "u2", "person", "doc", "read", "10.0.0.1", "", "a\x00b", "a:b|c", "*"}
)

func of[T any](r *rand.Rand, list []T) T { return list[r.IntN(len(list))] }

func randomAttribute(r *rand.Rand) attribute { return attribute{of(r, holders), of(r, fields)} }

// randomCondition is one that compiles.
func randomCondition(r *rand.Rand) expr {
	for {
		e := randomExpr(r, 2)
		if _, err := condition.Compile(e.cel()); err == nil {
			return e
		} else if !strings.Contains(err.Error(), "may cost") {
			panic(e.cel() + ": " + err.Error())
		}
	}
}

func randomExpr(r *rand.Rand, deep int) expr {
	if deep > 0 && r.IntN(2) == 0 {
		switch a := randomExpr(r, deep-1); r.IntN(3) {
		case 0:
			return not{a}
		case 1:
			return both{a, randomExpr(r, deep-1)}
		default:
			return either{a, randomExpr(r, deep-1)}
		}
	}
	switch r.IntN(11) {
	case 0:
		return equal{of(r, namedTerms), text(of(r, texts))}
	case 1, 2:
		return equal{randomAttribute(r), of(r, namedTerms)}
	case 3:
		return equal{randomAttribute(r), text(of(r, texts))}
	case 4:
		return equal{randomAttribute(r), randomAttribute(r)}
	case 5:
		return less{randomAttribute(r)}
	case 6:
		return inList{of(r, roleNames)}
	case 7:
		return has{randomAttribute(r)}
	case 8:
		return some{randomAttribute(r), of(r, texts)}
	case 9:
		return equal{randomAttribute(r), number(r.IntN(6))}
	default:
		return before{r.IntN(24)}
	}
}

var longList = func() []any {
	list := make([]any, 4000)
	for i := range list {
		list[i] = "x"
	}
	return list
}()

func randomAttributes(r *rand.Rand) map[string]any {
	if r.IntN(8) == 0 {
		return nil
	}
	m := map[string]any{}
	for _, name := range fields[:4] {
		switch r.IntN(8) {
		case 0, 1, 2:
			m[name] = of(r, texts)
		case 3:
			m[name] = float64(r.IntN(6))
		case 4:
			m[name] = r.IntN(2) == 0
		case 5:
			m[name] = []any{of(r, texts), of(r, texts)}
		case 6:
			if r.IntN(200) == 0 {
				m[name] = longList
			}
		}
	}
	return m
}
