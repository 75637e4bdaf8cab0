package tollgate_test

import (
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/netip"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	tollgate "github.com/tollgatehq/tollgate/sdk"
	"github.com/tollgatehq/tollgate/sdk/conditions"
	"github.com/tollgatehq/tollgate/sdk/sdktest"
)

// newConditional is newLocal for a client that evaluates conditions, with alice known.
func newConditional(t testing.TB) *localFixture {
	t.Helper()
	f := newLocal(t, tollgate.LocalConfig{Conditions: conditions.Evaluator()})
	f.SetUser(sdktest.User{Name: "alice", Roles: []string{"clerk", "editor"}, Attributes: map[string]any{"team": "sales"}})
	f.heard(f.KeepAlive())
	f.want(tollgate.AuthorizeRequest{UserID: alicesUser, Permission: "orders:read"}, tollgate.ReasonOK, there)
	return f
}

// call is what the conditions below are about.
func call() tollgate.AuthorizeRequest {
	return tollgate.AuthorizeRequest{
		UserID: alicesUser, Permission: "docs:write", Resource: "docs/plan/7", IP: netip.MustParseAddr("::ffff:10.1.2.3"),
		Context:            map[string]string{"tenant": "acme", "at": "2026-01-01T00:00:00Z"},
		ResourceAttributes: map[string]any{"owner": "alice", "size": 3, "tags": []any{"a"}},
		ActionProperties:   map[string]any{"soft": true, "count": int64(2)},
	}
}

// decided is where an allow and a deny under each condition are decided.
var decided = map[string]struct{ allow, deny bool }{
	`context.tenant == "acme" && principal.username == "alice"`:                                        {here, there},
	`principal.id == "user-alice" && principal.kind == "person" && principal.api_key_id == ""`:         {here, there},
	`"editor" in principal.roles && action.name == "write"`:                                            {here, there},
	`resource.type == "docs" && resource.id.startsWith("plan/")`:                                       {here, there},
	`ip == "10.1.2.3" && cidr("10.0.0.0/8").containsIP(ip)`:                                            {here, there},
	`resource.attributes.owner == principal.username && resource.attributes.size == 3`:                 {here, there},
	`action.properties.soft == true && action.properties.count == 2.0 && size(action.properties) == 2`: {here, there},
	`true`:                                         {here, there},
	`context.tenant == "other"`:                    {there, here},
	`!cidr("10.0.0.0/8").containsIP(ip)`:           {there, here},
	`principal.kind == "service"`:                  {there, here},
	`resource.attributes.owner == "bob"`:           {there, here},
	`principal.attributes.team == "sales"`:         {there, there},
	`principal.attributes.team == "none"`:          {there, there},
	`principal.attributes.team == "sales" || true`: {there, there}, // what is read counts, not what matters
	`has(resource.attributes.hold)`:                {there, there},
	`!has(resource.attributes.hold)`:               {there, there},
	`size(resource.attributes) == 3`:               {there, there},
	`now > timestamp("2020-01-01T00:00:00Z")`:      {there, there},
	`now < timestamp("2020-01-01T00:00:00Z")`:      {there, there},
	`timestamp(context.at).getHours("UTC") == 0`:   {there, there},
	`context.missing == "x"`:                       {there, there}, // fails
	`this is no condition`:                         {there, there},
}

// TestLocalConditions: an allow whose condition is surely true is decided here, as
// is a call that a deny surely is not about; Tollgate decides everything else, and
// whatever is decided here comes out as it does there.
func TestLocalConditions(t *testing.T) {
	t.Parallel()
	for text, where := range decided {
		t.Run(text, func(t *testing.T) {
			t.Parallel()
			f := newConditional(t)
			for _, deny := range []bool{false, true} {
				grants, asked := []sdktest.Grant{{Permission: "docs:*", Condition: text, Deny: deny}}, where.allow
				if deny {
					grants, asked = append(grants, sdktest.Grant{Permission: "docs:write"}), where.deny
				}
				f.SetGrants("editor", grants...)
				f.heard(f.KeepAlive())
				plain, err := f.Client().Authorize(t.Context(), call())
				must(t, err)
				d := f.want(call(), plain.Reason, asked)
				if d.Grant != plain.Grant {
					t.Errorf("by %q, and Tollgate says %q", d.Grant, plain.Grant)
				}
			}
		})
	}
}

// TestLocalConditionsOrder: what Tollgate might allow by another grant, or by another
// permission, is asked about: services record uses of some grants.
func TestLocalConditionsOrder(t *testing.T) {
	t.Parallel()
	f := newConditional(t)
	const unknown, isTrue, isFalse = `principal.attributes.team == "sales"`, `context.tenant == "acme"`, `context.tenant == "x"`
	for name, c := range map[string]struct {
		grants  []sdktest.Grant
		request func(*tollgate.AuthorizeRequest)
		reason  tollgate.Reason
		asked   bool
	}{
		"one before is not known": {[]sdktest.Grant{{Permission: "docs:*", Condition: unknown}, {Permission: "docs:*", Condition: isTrue}}, nil, tollgate.ReasonOK, there},
		"one after is not known":  {[]sdktest.Grant{{Permission: "docs:*", Condition: isTrue}, {Permission: "docs:*", Condition: unknown}}, nil, tollgate.ReasonOK, here},
		"one before is false":     {[]sdktest.Grant{{Permission: "docs:*", Condition: isFalse}, {Permission: "docs:*", Condition: isTrue}}, nil, tollgate.ReasonOK, here},
		"a permission suffices":   {[]sdktest.Grant{{Permission: "docs:*", Condition: unknown}, {Permission: "docs:write"}}, nil, tollgate.ReasonOK, here},
		"one of another pattern":  {[]sdktest.Grant{{Permission: "bills:*", Condition: unknown, Deny: true}, {Permission: "docs:*", Condition: isTrue}}, nil, tollgate.ReasonOK, here},
		"a deny":                  {[]sdktest.Grant{{Permission: "docs:write", Deny: true}, {Permission: "docs:*", Condition: isTrue}}, nil, tollgate.ReasonDeniedByGrant, there},
		"any of, the first is not known": {
			[]sdktest.Grant{{Permission: "a", Condition: unknown}, {Permission: "b", Condition: isTrue}},
			func(r *tollgate.AuthorizeRequest) { r.Permission, r.AnyOf = "", []string{"a", "b"} }, tollgate.ReasonOK, there,
		},
		"any of, the first is false": {
			[]sdktest.Grant{{Permission: "a:x", Condition: `action.name == "y"`}, {Permission: "b:y", Condition: `action.name == "y"`}},
			func(r *tollgate.AuthorizeRequest) { r.Permission, r.AnyOf = "", []string{"a:x", "b:y"} }, tollgate.ReasonOK, here,
		},
		"all of": {
			[]sdktest.Grant{{Permission: "a:x", Condition: `action.name == "x"`}, {Permission: "b:y", Condition: `action.name == "y"`}},
			func(r *tollgate.AuthorizeRequest) { r.Permission, r.AllOf = "", []string{"b:y", "a:x", "orders:read"} }, tollgate.ReasonOK, here,
		},
		"attributes that Tollgate does not take": {
			[]sdktest.Grant{{Permission: "docs:*"}}, func(r *tollgate.AuthorizeRequest) {
				r.ResourceAttributes = map[string]any{"x": strings.Repeat("x", 9<<10)}
			}, tollgate.ReasonOK, there,
		},
		"a number that JSON has as text": {
			[]sdktest.Grant{{Permission: "docs:*", Condition: `resource.attributes.size == "NaN"`}},
			func(r *tollgate.AuthorizeRequest) { r.ResourceAttributes["size"] = math.NaN() }, tollgate.ReasonOK, here,
		},
		"no address": {
			[]sdktest.Grant{{Permission: "docs:*", Condition: `ip != "10.0.0.1"`}},
			func(r *tollgate.AuthorizeRequest) { r.IP = netip.Addr{} }, tollgate.ReasonConditionFailed, there,
		},
		"a resource that is cut": {
			[]sdktest.Grant{{Permission: "docs:*", Condition: `size(resource.id) == 251`}},
			func(r *tollgate.AuthorizeRequest) { r.Resource = "docs/" + strings.Repeat("x", 300) }, tollgate.ReasonOK, here,
		},
	} {
		f.SetGrants("editor", c.grants...)
		f.heard(f.KeepAlive())
		r := call()
		if c.request != nil {
			c.request(&r)
		}
		t.Log(name)
		plain, err := f.Client().Authorize(t.Context(), r)
		must(t, err)
		if d := f.want(r, c.reason, c.asked); d.Grant != plain.Grant {
			t.Errorf("by %q, and Tollgate says %q", d.Grant, plain.Grant)
		}
	}
	r := call()
	r.ResourceAttributes["size"] = make(chan int)
	if d, err := f.client.Authorize(t.Context(), r); err == nil {
		t.Errorf("attributes that JSON does not have: %+v", d)
	}
}

// TestLocalConditionsAsked: without an evaluator nothing that has a condition is
// allowed here, and a policy that may not be read has Tollgate decide.
func TestLocalConditionsAsked(t *testing.T) {
	t.Parallel()
	f := newConditional(t)
	f.SetGrants("editor", sdktest.Grant{Permission: "docs:*", Condition: "true"}, sdktest.Grant{Permission: "orders:*", Condition: "false", Deny: true})
	f.heard(f.KeepAlive())
	read := tollgate.AuthorizeRequest{UserID: alicesUser, Permission: "orders:read"}
	f.want(call(), tollgate.ReasonOK, here)
	f.want(read, tollgate.ReasonOK, here)

	without := newLocal(t, tollgate.LocalConfig{})
	without.SetUser(sdktest.User{Name: "alice", Roles: []string{"clerk", "editor"}})
	without.SetGrants("editor", sdktest.Grant{Permission: "docs:*", Condition: "true"}, sdktest.Grant{Permission: "orders:*", Condition: "false", Deny: true})
	without.heard(without.KeepAlive())
	for range 2 {
		without.want(call(), tollgate.ReasonOK, there)
		without.want(read, tollgate.ReasonOK, there)
	}

	f.reconnect(func(r *http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: http.StatusForbidden, Body: http.NoBody, Header: http.Header{}, Request: r}, nil
	}, func() {})
	f.want(call(), tollgate.ReasonOK, there)
	f.want(call(), tollgate.ReasonOK, there)
}

// engine counts what it compiles, and fails when it is told to.
type engine struct {
	mu       sync.Mutex
	compiled []string
}

func (e *engine) Compile(text string) (tollgate.Condition, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.compiled = append(e.compiled, text); strings.HasPrefix(text, "newer") {
		return nil, errors.New("not known here")
	}
	return conditions.Evaluator().Compile(text)
}

// TestLocalConditionsCompiled: a condition is compiled once, when it is needed, and
// what cannot be compiled here is asked about.
func TestLocalConditionsCompiled(t *testing.T) {
	t.Parallel()
	e := &engine{}
	f := newLocal(t, tollgate.LocalConfig{Conditions: e})
	f.SetUser(sdktest.User{Name: "alice", Roles: []string{"clerk", "editor"}})
	f.heard(f.KeepAlive())
	f.want(call(), tollgate.ReasonPermissionMissing, there)
	for i := range 3 {
		f.SetGrants("editor", sdktest.Grant{Permission: "docs:*", Condition: "true"}, sdktest.Grant{Permission: fmt.Sprint("other", i), Condition: "false"})
		f.heard(f.KeepAlive())
		f.want(call(), tollgate.ReasonOK, here)
	}
	f.SetGrants("editor", sdktest.Grant{Permission: "docs:*", Condition: "newer"}, sdktest.Grant{Permission: "docs:*", Condition: "true"})
	f.heard(f.KeepAlive())
	f.want(call(), tollgate.ReasonOK, there)
	f.want(call(), tollgate.ReasonOK, there)
	if got := strings.Join(e.compiled, " "); got != "true newer" {
		t.Errorf("compiled %s", got)
	}
}

// TestLocalConditionsChange: a condition that was changed counts as soon as the client
// has heard of it, whatever callers do meanwhile.
func TestLocalConditionsChange(t *testing.T) {
	t.Parallel()
	f := newConditional(t)
	done := make(chan struct{})
	var running sync.WaitGroup
	for range 4 {
		running.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
					if _, err := f.client.Authorize(t.Context(), call()); err != nil {
						t.Error(err)
						return
					}
				}
			}
		})
	}
	for i := range 30 {
		f.SetGrants("editor", sdktest.Grant{Permission: "docs:*", Condition: fmt.Sprintf(`context.tenant == "acme" && %d > 0`, i+1)})
		f.heard(f.KeepAlive())
		if d, err := f.client.Authorize(t.Context(), call()); err != nil || !d.Allowed {
			t.Fatalf("round %d: %+v, %v", i, d, err)
		}
		f.SetGrants("editor", sdktest.Grant{Permission: "docs:*", Condition: `context.tenant == "other"`})
		f.heard(f.KeepAlive())
		if d, err := f.client.Authorize(t.Context(), call()); err != nil || d.Allowed {
			t.Fatalf("round %d: %+v, %v", i, d, err)
		}
	}
	close(done)
	running.Wait()
}

// TestLinksCEL: who imports package tollgate, or its fake, does not link CEL.
func TestLinksCEL(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]bool{".": false, "./sdktest": false, "./conditions": true} {
		list, err := exec.CommandContext(t.Context(), "go", "list", "-deps", path).Output()
		must(t, err)
		if got := strings.Contains(string(list), "cel.dev/"); got != want {
			t.Errorf("%s links CEL: %v", path, got)
		}
	}
}

// BenchmarkAuthorizeConditional is a decision in this process by a condition.
func BenchmarkAuthorizeConditional(b *testing.B) {
	f := newConditional(b)
	real := f.Server.Client(tollgate.WithLocalDecisions(tollgate.LocalConfig{FeedBound: time.Hour, Conditions: conditions.Evaluator()}),
		tollgate.WithClock(time.Now), tollgate.WithHTTPClient(&http.Client{Transport: f.next}))
	defer real.Close()
	r := tollgate.AuthorizeRequest{
		Credential: f.Token("alice"), Permission: "docs:write", Resource: "docs/7", IP: netip.MustParseAddr("10.1.2.3"), Context: map[string]string{"tenant": "acme"},
	}
	for name, text := range map[string]string{
		"context":    `context.tenant == "acme"`,
		"four parts": `context.tenant == "acme" && resource.type == "docs" && "editor" in principal.roles && action.name == "write"`,
		"address":    `cidr("10.0.0.0/8").containsIP(ip)`,
	} {
		b.Run(name, func(b *testing.B) {
			f.SetGrants("editor", sdktest.Grant{Permission: "docs:*", Condition: text})
			must(b, real.WaitPolicy(b.Context(), f.KeepAlive()))
			for range 2 {
				if _, err := real.Authorize(b.Context(), r); err != nil {
					b.Fatal(err)
				}
			}
			before, ctx := len(f.Decisions()), b.Context()
			b.ReportAllocs()
			for b.Loop() {
				if d, err := real.Authorize(ctx, r); err != nil || !d.Allowed {
					b.Fatal(d, err)
				}
			}
			if n := len(f.Decisions()); n != before {
				b.Fatalf("asked %d times", n-before)
			}
		})
	}
}
