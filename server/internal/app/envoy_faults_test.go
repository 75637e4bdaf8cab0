package app

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	rlsv3 "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"

	"github.com/tollgatehq/tollgate/server/internal/apitest"
	"github.com/tollgatehq/tollgate/server/internal/auth/token"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/contract"
	"github.com/tollgatehq/tollgate/server/internal/decision"
	"github.com/tollgatehq/tollgate/server/internal/enforce"
	"github.com/tollgatehq/tollgate/server/internal/envoy"
	"github.com/tollgatehq/tollgate/server/internal/fault"
	"github.com/tollgatehq/tollgate/server/internal/guard"
	"github.com/tollgatehq/tollgate/server/internal/limits"
	"github.com/tollgatehq/tollgate/server/internal/page"
	"github.com/tollgatehq/tollgate/server/internal/routes"
)

// inProcess is a transport to a handler in this process.
type inProcess struct{ http.Handler }

func (p inProcess) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.RemoteAddr = "127.0.0.1:4711"
	out := httptest.NewRecorder()
	p.ServeHTTP(out, r)
	return out.Result(), nil
}

// check is a client of ext_authz at a handler.
func check(handler http.Handler) func(context.Context, *authv3.CheckRequest) (*authv3.CheckResponse, error) {
	client := connect.NewClient[authv3.CheckRequest, authv3.CheckResponse](&http.Client{Transport: inProcess{handler}}, "http://tollgate.test"+contract.ExtAuthzCheck)
	return func(ctx context.Context, r *authv3.CheckRequest) (*authv3.CheckResponse, error) {
		res, err := client.CallUnary(ctx, connect.NewRequest(r))
		if err != nil {
			return nil, err
		}
		return res.Msg, nil
	}
}

func should(handler http.Handler) func(context.Context, *rlsv3.RateLimitRequest) (*rlsv3.RateLimitResponse, error) {
	client := connect.NewClient[rlsv3.RateLimitRequest, rlsv3.RateLimitResponse](&http.Client{Transport: inProcess{handler}}, "http://tollgate.test"+contract.ShouldRateLimit)
	return func(ctx context.Context, r *rlsv3.RateLimitRequest) (*rlsv3.RateLimitResponse, error) {
		res, err := client.CallUnary(ctx, connect.NewRequest(r))
		if err != nil {
			return nil, err
		}
		return res.Msg, nil
	}
}

// parts are what a fault can be put into; the zero value has none.
type parts struct {
	sign    func(token.Assertion) (string, error)
	routes  func() (*routes.Table, error)
	counted limits.Backend
	unread  bool // the limits
}

// faulty serves both services of Envoy's, behind the guard, with parts of them
// replaced.
func (i *instance) faulty(t *testing.T, p parts) http.Handler {
	t.Helper()
	counters := i.Limits
	if p.counted != nil || p.unread {
		counters = limits.New(i.db, i.log, i.roles, i.clock, page.NewTokens([]byte(strings.Repeat("k", 32))), p.counted)
		if !p.unread {
			backendtest.Must(t, counters.Reset(t.Context()))
		}
	}
	if p.sign == nil {
		p.sign = i.Auth.SigningKeys.SignAssertion
	}
	if p.routes == nil {
		p.routes = i.App.routes.Table
	}
	decisions := decision.New(i.log, i.Auth, i.roles, nil, counters, i.audit, i.recorded, i.clock, i.stepUp(), decision.Watch{Decided: i.overview.Decided})
	g, err := guard.New(guard.Options{Decisions: decisions, Audit: i.audit, Log: slog.New(slog.DiscardHandler), Draining: i.draining, Refused: i.refused.count})
	backendtest.Must(t, err)
	h := envoy.New(envoy.Options{
		Enforce: enforce.New(enforce.Options{Decisions: decisions, Routes: p.routes, Sign: p.sign, Clock: i.clock, Audience: "tollgate"}),
		Limits:  counters, Clock: i.clock, Log: slog.New(slog.DiscardHandler),
	})
	mux := http.NewServeMux()
	with := connect.WithInterceptors(g)
	mux.Handle(contract.ExtAuthzCheck, connect.NewUnaryHandlerSimple(contract.ExtAuthzCheck, h.Check, with))
	mux.Handle(contract.ShouldRateLimit, connect.NewUnaryHandlerSimple(contract.ShouldRateLimit, h.ShouldRateLimit, with))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mux.ServeHTTP(w, r.WithContext(caller.With(r.Context(), caller.Caller{TrustedPeer: true, RequestID: "r"})))
	})
}

// brokenCounters fails, or panics.
type brokenCounters struct {
	limits.Backend // not there: only Take and Forget are
	panics         bool
}

func (b brokenCounters) Take(context.Context, []limits.Count, bool) ([]limits.Outcome, error) {
	if b.panics {
		panic("the counters")
	}
	return nil, errors.New("the counters are gone")
}

func (b brokenCounters) Forget(context.Context, []limits.Count) error { return errors.New("gone") }

// TestExtAuthzFaults: whatever fails inside is an error, and never an allow.
func TestExtAuthzFaults(t *testing.T) {
	t.Parallel()
	p := startProxied(t)
	p.route(t, "order", "/orders/{id}", apitest.Object{"permission": "orders:read"})
	for name, outage := range map[string]string{"local": "OUTAGE_LOCAL", "open": "OUTAGE_OPEN", "closed": "OUTAGE_CLOSED"} {
		p.As(p.admin).Post(t, "/v1/limits", apitest.Object{"name": name, "subject": "SUBJECT_GLOBAL", "permission": name + ":*", "rate": 100, "period": "60s", "outage": outage})
	}
	p.As(p.admin).Post(t, "/v1/roles", apitest.Object{"name": "all", "permissions": []string{"local:*", "open:*", "closed:*"}})
	p.As(p.admin).Assign(t, "all", p.id)
	by := func(permission string) sent { return fetch("/", p.alice, "permission", permission) }
	panics := func() (*routes.Table, error) { panic("the routes") }
	for name, test := range map[string]struct {
		parts parts
		sent  sent
		want  string
	}{
		"none":                        {parts{}, by("orders:read"), "allowed"},
		"none, by route":              {parts{}, fetch("/orders/7", p.alice), "allowed"},
		"the signature fails":         {parts{sign: func(token.Assertion) (string, error) { return "", errors.New("no key") }}, by("orders:read"), "error"},
		"it fails as a refusal":       {parts{sign: func(token.Assertion) (string, error) { return "", fault.New(fault.Denied, "NO", "no") }}, by("orders:read"), "error"},
		"it panics":                   {parts{sign: func(token.Assertion) (string, error) { panic("the key") }}, by("orders:read"), "error"},
		"it is empty":                 {parts{sign: func(token.Assertion) (string, error) { return "", nil }}, by("orders:read"), "error"},
		"routes that are not read":    {parts{routes: func() (*routes.Table, error) { return nil, errors.New("not read") }}, fetch("/orders/7", p.alice), "error"},
		"routes that panic":           {parts{routes: panics}, fetch("/orders/7", p.alice), "error"},
		"limits that are not read":    {parts{unread: true}, by("orders:read"), "error"},
		"counters that panic":         {parts{counted: brokenCounters{panics: true}}, by("local:x"), "error"},
		"counters gone, counted here": {parts{counted: brokenCounters{}}, by("local:x"), "allowed"},
		"counters gone, open":         {parts{counted: brokenCounters{}}, by("open:x"), "allowed"},
		"counters gone, closed":       {parts{counted: brokenCounters{}}, by("closed:x"), "denied"},
	} {
		res, err := check(p.faulty(t, test.parts))(t.Context(), test.sent.request())
		if v := judge(res, err, test.sent.header); v.kind != test.want {
			t.Errorf("%s: %+v, want %s", name, v, test.want)
		}
	}

	gone, leave := context.WithCancel(t.Context())
	leave()
	denied := by("orders:write")
	if res, err := check(p.faulty(t, parts{}))(gone, denied.request()); judge(res, err, nil).kind == "allowed" {
		t.Errorf("a call that was given up: %v", res)
	}
	// What cannot be recorded is not a refusal either.
	backendtest.Must(t, p.db.Close())
	handler := p.faulty(t, parts{})
	for _, s := range []sent{denied, by("other:x"), fetch("/", "", "permission", "orders:read"), fetch("/", "tg_"+strings.Repeat("0", 67), "permission", "orders:read")} {
		res, err := check(handler)(t.Context(), s.request())
		if v := judge(res, err, nil); v.kind == "allowed" || v.kind == "denied" && v.status != 401 {
			t.Errorf("without a database: %+v", v)
		}
	}
	res, err := check(handler)(t.Context(), denied.request())
	if v := judge(res, err, nil); v.kind != "error" || connect.CodeOf(err) != connect.CodeUnavailable {
		t.Errorf("a refusal that cannot be recorded: %+v", v)
	}
}

// TestExtAuthzStale: who does not know what has changed decides nothing.
func TestExtAuthzStale(t *testing.T) {
	t.Parallel()
	clk, fake := fakeClock(time.Now())
	p := &proxied{instance: start(t, testConfig(backendtest.SQLiteURL(t)), clk)}
	_, p.alice = p.newUser(t, "alice", "orders:read")
	ask, count := check(p.faulty(t, parts{})), should(p.faulty(t, parts{}))
	s := fetch("/", p.alice, "permission", "orders:read")
	res, err := ask(t.Context(), s.request())
	backendtest.Equal(t, judge(res, err, nil).kind, "allowed", "before")
	backendtest.Must(t, p.db.Close())
	fake.Advance(time.Minute)
	res, err = ask(t.Context(), s.request())
	if v := judge(res, err, nil); v.kind != "error" || connect.CodeOf(err) != connect.CodeUnavailable {
		t.Errorf("afterwards: %+v", v)
	}
	if _, err := count(t.Context(), &rlsv3.RateLimitRequest{Domain: "d", Descriptors: each("limit=x")}); connect.CodeOf(err) != connect.CodeUnavailable {
		t.Errorf("afterwards: %v", err)
	}
}

// TestShouldRateLimitFaults: limits go by their outage mode; what cannot be known
// is an error.
func TestShouldRateLimitFaults(t *testing.T) {
	t.Parallel()
	p := startProxied(t)
	for name, outage := range map[string]string{"local": "OUTAGE_LOCAL", "open": "OUTAGE_OPEN", "closed": "OUTAGE_CLOSED"} {
		p.As(p.admin).Post(t, "/v1/limits", apitest.Object{"name": name, "subject": "SUBJECT_GLOBAL", "permission": name + ":*", "rate": 100, "period": "60s", "outage": outage})
	}
	for name, test := range map[string]struct {
		parts parts
		code  connect.Code
		want  rlsv3.RateLimitResponse_Code
	}{
		"local":  {parts{counted: brokenCounters{}}, 0, rlsv3.RateLimitResponse_OK},
		"open":   {parts{counted: brokenCounters{}}, 0, rlsv3.RateLimitResponse_OK},
		"closed": {parts{counted: brokenCounters{}}, 0, rlsv3.RateLimitResponse_OVER_LIMIT},
		"panic":  {parts{counted: brokenCounters{panics: true}}, connect.CodeInternal, 0},
		"unread": {parts{unread: true}, connect.CodeUnavailable, 0},
	} {
		limit := name
		if test.code != 0 {
			limit = "local"
		}
		res, err := should(p.faulty(t, test.parts))(t.Context(), &rlsv3.RateLimitRequest{Domain: "d", Descriptors: each("limit=" + limit)})
		if err != nil && connect.CodeOf(err) != test.code || err == nil && (test.code != 0 || res.GetOverallCode() != test.want || res.GetStatuses()[0].GetCode() != test.want) {
			t.Errorf("%s: %v, %v", name, res, err)
		}
	}
}
