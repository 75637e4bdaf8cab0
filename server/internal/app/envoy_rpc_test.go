package app

import (
	"net/http"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"connectrpc.com/grpcreflect"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/tollgatehq/tollgate/server/internal/apitest"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/clock"
	"github.com/tollgatehq/tollgate/server/internal/contract"
)

// TestEveryProxyRPC walks the RPCs of Envoy's contracts, which have no guard option:
// only the key of a proxy, or its address, lets a caller pass.
func TestEveryProxyRPC(t *testing.T) {
	t.Parallel()
	p := startProxied(t)
	_, without := p.newUser(t, "without", "something:else")
	post := func(key string, scopes ...string) string {
		return p.As(key).Post(t, "/v1/api-keys", apitest.Object{"name": "k", "scopes": scopes}).Str("secret")
	}
	keyWithout := p.As(p.admin).Post(t, "/v1/api-keys", apitest.Object{"userId": p.id, "name": "k"}).Str("secret")
	narrow, whole := post(p.admin, "tollgate:verify"), post(p.admin, "tollgate:authorize")
	config := testConfig(backendtest.SQLiteURL(t))
	config.TrustedProxies = []string{"127.0.0.1"}
	trusted := &proxied{instance: start(t, config, clock.Real())}
	ask := func(p *proxied, procedure, body string, header ...string) apitest.Answer {
		return p.call(t, "POST", procedure, "", body, append(header, "Content-Type", "application/json")...)
	}
	bodies := map[string]string{
		contract.ExtAuthzCheck:   `{"attributes":{"request":{"http":{"method":"GET","path":"/"}},"contextExtensions":{"authenticated":"true"}}}`,
		contract.ShouldRateLimit: `{"domain":"d","descriptors":[{"entries":[{"key":"limit","value":"none"}]}]}`,
	}
	for _, procedure := range contract.ProxyProcedures() {
		body := bodies[procedure]
		if body == "" {
			t.Fatalf("%s: this test has no request for it", procedure)
		}
		for name, header := range map[string][]string{
			"nobody":                       nil,
			"an empty key":                 {"X-Tollgate-Key", ""},
			"rubbish":                      {"X-Tollgate-Key", "rubbish"},
			"no key of ours":               {"X-Tollgate-Key", "tg_" + strings.Repeat("0", 67)},
			"an access token":              {"X-Tollgate-Key", p.admin},
			"another's access token":       {"X-Tollgate-Key", without},
			"an administrator's token":     {"Authorization", "Bearer " + p.admin},
			"the key in its place":         {"Authorization", "Bearer " + p.key},
			"the key, twice":               {"X-Tollgate-Key", p.key, "X-Tollgate-Key", p.key},
			"a key without the permission": {"X-Tollgate-Key", keyWithout},
			"scopes that leave it out":     {"X-Tollgate-Key", narrow},
			"an address of its own":        {"X-Forwarded-For", "127.0.0.1"},
		} {
			for _, sent := range []string{body, "{}"} {
				if a := ask(p, procedure, sent, header...); a.Status != http.StatusForbidden || a.Reason() != "UNTRUSTED_PROXY" {
					t.Errorf("%s, %s: %d %s", procedure, name, a.Status, a.Raw)
				}
			}
		}
		for name, a := range map[string]apitest.Answer{
			"the key":                   ask(p, procedure, body, "X-Tollgate-Key", p.key),
			"a key with the scope":      ask(p, procedure, body, "X-Tollgate-Key", whole),
			"a key, and somebody's own": ask(p, procedure, body, "X-Tollgate-Key", p.key, "Authorization", "Bearer rubbish"),
			"a trusted address":         ask(trusted, procedure, body),
		} {
			if a.Status != http.StatusOK {
				t.Errorf("%s, %s: %d %s", procedure, name, a.Status, a.Raw)
			}
		}
		if a := ask(p, procedure, "{}", "X-Tollgate-Key", p.key); a.Status != http.StatusBadRequest || a.Reason() != "BAD_PROXY_REQUEST" {
			t.Errorf("%s, an empty message: %d %s", procedure, a.Status, a.Raw)
		}
		if a := ask(p, procedure, `{"domain":"`+strings.Repeat("x", 300<<10)+`"}`, "X-Tollgate-Key", p.key); a.Status < 400 {
			t.Errorf("%s, a large message: %d", procedure, a.Status)
		}
		if a := p.call(t, "GET", procedure+"?encoding=json&message=%7B%7D", "", nil, "X-Tollgate-Key", p.key); a.Status < 400 {
			t.Errorf("%s by GET: %d", procedure, a.Status)
		}
	}
}

// TestProxyServicesAreListed: reflection describes Envoy's services with every file
// that they need, and gRPC's health knows them.
func TestProxyServicesAreListed(t *testing.T) {
	t.Parallel()
	i := startEmbedded(t)
	client := &http.Client{Transport: &http.Transport{Protocols: new(http.Protocols)}}
	client.Transport.(*http.Transport).Protocols.SetUnencryptedHTTP2(true)
	stream := grpcreflect.NewClient(client, i.URL, connect.WithGRPC()).NewStream(t.Context())
	defer stream.Close()
	for _, symbol := range []string{
		"envoy.service.auth.v3.Authorization", "envoy.service.auth.v3.Authorization.Check", "google.rpc.Status",
		"envoy.service.ratelimit.v3.RateLimitService", "envoy.extensions.common.ratelimit.v3.RateLimitDescriptor",
	} {
		files, err := stream.FileContainingSymbol(protoreflect.FullName(symbol))
		if err != nil || len(files) == 0 {
			t.Errorf("%s: %d files, %v", symbol, len(files), err)
		}
		have := map[string]bool{}
		for _, file := range files {
			have[file.GetName()] = true
		}
		for _, file := range files {
			for _, needs := range file.GetDependency() {
				if _, err := stream.FileByFilename(needs); err != nil {
					t.Errorf("%s: %s needs %s: %v", symbol, file.GetName(), needs, err)
				}
			}
		}
	}
	names, err := stream.ListServices()
	backendtest.Must(t, err)
	connection, err := grpc.NewClient(strings.TrimPrefix(i.URL, "http://"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	backendtest.Must(t, err)
	defer connection.Close()
	for _, name := range contract.ServiceNames() {
		listed := false
		for _, n := range names {
			listed = listed || string(n) == name
		}
		health, err := healthv1.NewHealthClient(connection).Check(t.Context(), &healthv1.HealthCheckRequest{Service: name})
		if !listed || err != nil || health.GetStatus() != healthv1.HealthCheckResponse_SERVING {
			t.Errorf("%s: listed: %t; %v, %v", name, listed, health, err)
		}
	}
}
