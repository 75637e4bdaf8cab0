package app

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/tollgatehq/tollgate/server/internal/apitest"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/clock"
	"github.com/tollgatehq/tollgate/server/internal/enforce"
)

// forgedHeaders are what a client may send to pass for somebody else.
var forgedHeaders = []string{
	"Tollgate-Principal", "tollgate-principal", "TOLLGATE-PRINCIPAL", "Tollgate_Principal", "tollgate_principal",
	"Tollgate-Assertion", "tollgate_assertion", "TOLLGATE_assertion", "Tollgate-Status", "tollgate_status", "Tollgate-Anything",
	"X-Tollgate-Key", "x_tollgate_key", "x-tollgate_key", "X-Tollgate-User",
	"Remote-User", "remote_user", "Remote_User", "REMOTE-USER", "Remote-Groups", "remote_groups", "Remote-Name", "Remote-Email", "remote_email",
	"X-Auth-Request-User", "x_auth_request_user", "x-auth_request-user", "X-Auth-Request-Groups", "X-Auth-Request-Email", "X-Auth-Request-Preferred-Username",
	"X-Auth-Request-Access-Token", "X-Forwarded-User", "x_forwarded_user", "X-Forwarded-Groups", "X-Forwarded-Email", "X-Forwarded-Preferred-Username",
}

// TestExtAuthzForgedHeaders: of a client's identity headers the service gets none,
// in whatever flavor, and of ours each once.
func TestExtAuthzForgedHeaders(t *testing.T) {
	t.Parallel()
	e := startEnvoy(t)
	e.route(t, "assets", "/assets/{rest...}", apitest.Object{"public": true})
	for flavor, want := range map[string][]string{
		"":               {"Tollgate-Principal", "Tollgate-Assertion"},
		"remote":         {"Tollgate-Principal", "Tollgate-Assertion", "Remote-User", "Remote-Groups"},
		"x-auth-request": {"Tollgate-Principal", "Tollgate-Assertion", "X-Auth-Request-User", "X-Auth-Request-Groups", "X-Auth-Request-Preferred-Username"},
	} {
		for _, raw := range []bool{true, false} {
			for _, s := range []sent{fetch("/", e.alice, "permission", "orders:read"), fetch("/assets/a", "")} {
				if s.raw = raw; flavor != "" {
					s.extensions["headers"] = flavor
				}
				s.header.Set("X-Other", "stays")
				for _, name := range forgedHeaders {
					s = s.with(name, "forged", name, "forged twice")
				}
				v := e.judge(t, s)
				if v.kind != "allowed" {
					t.Fatalf("%s: %+v", flavor, v)
				}
				var identity []string
				for name, values := range v.upstream {
					if slices.Contains(values, "forged") || slices.Contains(values, "forged twice") || len(values) != 1 {
						t.Errorf("%s (raw: %t): the service gets %s: %v", flavor, raw, name, values)
					}
					if enforce.IsIdentity(name) {
						identity = append(identity, name)
					}
				}
				if slices.Sort(identity); !slices.Equal(identity, slices.Sorted(slices.Values(want))) || v.upstream.Get("X-Other") != "stays" {
					t.Errorf("%s (raw: %t): the service gets %v, want %v", flavor, raw, identity, want)
				}
			}
		}
	}
	// Envoy may not tell what else was sent (allowed_headers).
	res, err := e.Check(e.keyed(t), fetch("/", e.alice, "permission", "orders:read").request())
	backendtest.Must(t, err)
	forged := http.Header{}
	for _, name := range append(enforce.IdentityNames(), "X-Tollgate-Key") {
		forged[name] = []string{"forged"}
	}
	v := judge(res, err, forged)
	for name, values := range v.upstream {
		if values[0] == "forged" {
			t.Errorf("the service gets %s: %v", name, values)
		}
	}
	backendtest.Equal(t, len(v.upstream), 2, "headers")
}

// TestExtAuthzRecords: what is on record, and counted, is the client's.
func TestExtAuthzRecords(t *testing.T) {
	t.Parallel()
	config := testConfig(backendtest.SQLiteURL(t))
	config.TrustedProxies = []string{"10.0.0.0/8"}
	p := &proxied{instance: start(t, config, clock.Real())}
	p.key = p.As(p.admin).NewService(t, "edge")
	p.id, p.alice = p.newUser(t, "alice", "orders:read")
	e := dial(t, p)
	asked := func(from string, pairs ...string) sent {
		s := fetch("/", e.alice, "permission", "orders:write", "resource", "orders/7").with(pairs...)
		s.from = from
		return s
	}
	for name, test := range map[string]struct {
		sent                   sent
		ip, userAgent, request string
	}{
		"straight":               {asked("192.0.2.7", "user-agent", "curl/8", "x-request-id", "r-1"), "192.0.2.7", "curl/8", "r-1"},
		"a stranger's chain":     {asked("192.0.2.8", "x-forwarded-for", "198.51.100.1"), "192.0.2.8", "", "1234567890"},
		"behind a proxy":         {asked("10.0.0.1", "x-forwarded-for", "203.0.113.9, 198.51.100.1", "x-forwarded-for", "10.0.0.2", "x-request-id", "r-2"), "198.51.100.1", "", "r-2"},
		"IPv4 in IPv6":           {asked("::ffff:192.0.2.9", "x-request-id", "r-3"), "192.0.2.9", "", "r-3"},
		"no address":             {asked("", "x-request-id", "r-4"), "", "", "r-4"},
		"an id that is none":     {asked("192.0.2.10", "x-request-id", "a b\x00"), "192.0.2.10", "", "1234567890"},
		"bytes that are no text": {asked("192.0.2.11", "user-agent", "\xff\xfe\x00", "x-request-id", "r-5"), "192.0.2.11", "\uFFFD\uFFFD", "r-5"},
		"a long user agent":      {asked("192.0.2.12", "user-agent", strings.Repeat("a", 600), "x-request-id", "r-6"), "192.0.2.12", strings.Repeat("a", 512), "r-6"},
	} {
		v := e.judge(t, test.sent)
		event := e.As(e.admin).Events(t, "action=access.denied")[0]
		actor, _ := event["actor"].(map[string]any)
		ip, _ := event["ip"].(string)
		agent, _ := event["userAgent"].(string)
		if v.status != 403 || ip != test.ip || !strings.HasPrefix(agent, test.userAgent) || event["requestId"] != test.request || v.client.Get("X-Request-Id") != test.request ||
			event["resource"] != "orders/7" || actor["userId"] != e.id || event["reason"] != "permission_missing" {
			t.Errorf("%s: %d, on record %v", name, v.status, event)
		}
	}
	text, _ := e.scrape(t)
	for _, want := range []string{
		`tollgate_decisions_total{reason="permission_missing",source="ext_authz"} 8`,
		`tollgate_requests_total{code="ok",procedure="/envoy.service.auth.v3.Authorization/Check"} 8`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("/metrics lacks %s", want)
		}
	}
}
