package app

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"unicode/utf8"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	rlsv3 "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"github.com/tollgatehq/tollgate/server/internal/apitest"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/clock"
)

// envoyed is go-control-plane's own clients of an instance.
type envoyed struct {
	*proxied
	authv3.AuthorizationClient
	rlsv3.RateLimitServiceClient
}

func startEnvoy(t testing.TB) *envoyed {
	t.Helper()
	return dial(t, startProxied(t))
}

func dial(t testing.TB, p *proxied) *envoyed {
	t.Helper()
	address, err := url.Parse(p.URL)
	backendtest.Must(t, err)
	connection, err := grpc.NewClient(address.Host, grpc.WithTransportCredentials(insecure.NewCredentials()))
	backendtest.Must(t, err)
	t.Cleanup(func() { connection.Close() })
	return &envoyed{p, authv3.NewAuthorizationClient(connection), rlsv3.NewRateLimitServiceClient(connection)}
}

// with is a context with Envoy's initial_metadata.
func with(t testing.TB, pairs ...string) context.Context {
	t.Helper()
	return metadata.AppendToOutgoingContext(t.Context(), pairs...)
}

// keyed is with the key of the proxy.
func (e *envoyed) keyed(t testing.TB) context.Context {
	t.Helper()
	return with(t, "x-tollgate-key", e.key)
}

// sent is a client's request at Envoy.
type sent struct {
	method, host, target string
	header               http.Header
	from                 string // the address of the connection
	extensions           map[string]string
	raw                  bool // encode_raw_headers
}

// fetch is a GET with a bearer token, unless that is empty.
func fetch(target, token string, extensions ...string) sent {
	s := sent{method: "GET", host: "orders.example", target: target, from: "192.0.2.7", header: http.Header{}, raw: true, extensions: map[string]string{}}
	if token != "" {
		s.header.Set("Authorization", "Bearer "+token)
	}
	for i := 0; i < len(extensions); i += 2 {
		s.extensions[extensions[i]] = extensions[i+1]
	}
	return s
}

// with adds a header to those there are.
func (s sent) with(pairs ...string) sent {
	s.header = s.header.Clone()
	for i := 0; i < len(pairs); i += 2 {
		s.header[pairs[i]] = append(s.header[pairs[i]], pairs[i+1]) // the name as it is
	}
	return s
}

// request is what Envoy asks, whose path is without what is not UTF-8: the values of a header joined with a comma in its
// map, or each by itself with its bytes.
func (s sent) request() *authv3.CheckRequest {
	described := &authv3.AttributeContext_HttpRequest{Id: "1234567890", Method: s.method, Host: s.host, Path: strings.ToValidUTF8(s.target, "!"), Scheme: "https", Protocol: "HTTP/2"}
	if s.raw {
		described.HeaderMap = &corev3.HeaderMap{Headers: []*corev3.HeaderValue{{Key: ":path", RawValue: []byte(s.target)}}}
		for name, values := range s.header {
			for _, value := range values {
				described.HeaderMap.Headers = append(described.HeaderMap.Headers, &corev3.HeaderValue{Key: strings.ToLower(name), RawValue: []byte(value)})
			}
		}
	} else {
		described.Headers = map[string]string{":path": s.target, ":method": s.method}
		for name, values := range s.header {
			described.Headers[strings.ToLower(name)] = strings.Join(values, ",")
		}
	}
	return &authv3.CheckRequest{Attributes: &authv3.AttributeContext{
		Source: &authv3.AttributeContext_Peer{Address: &corev3.Address{Address: &corev3.Address_SocketAddress{
			SocketAddress: &corev3.SocketAddress{Address: s.from, PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: 4711}},
		}}},
		Request:           &authv3.AttributeContext_Request{Http: described},
		ContextExtensions: s.extensions,
	}}
}

func (e *envoyed) judge(t testing.TB, s sent) verdict {
	t.Helper()
	res, err := e.Check(e.keyed(t), s.request())
	return judge(res, err, s.header)
}

// TestExtAuthz is the table of the contract, row by row.
func TestExtAuthz(t *testing.T) {
	t.Parallel()
	e := startEnvoy(t)
	admin := e.As(e.admin)
	id, gone := e.newUser(t, "gone", "orders:read")
	admin.Call(t, "DELETE", "/v1/users/"+id+"/sessions", nil).Want(t, 200)
	admin.Post(t, "/v1/limits", apitest.Object{"name": "few", "subject": "SUBJECT_CUSTOM", "contextKey": "tenant", "permission": "few:*", "rate": 4, "period": "3600s", "algorithm": "ALGORITHM_FIXED_WINDOW"})
	e.route(t, "order", "/orders/{id}", apitest.Object{"permission": "orders:read", "resource": "orders/{id}"})
	e.route(t, "assets", "/assets/{rest...}", apitest.Object{"public": true})
	limited := fetch("/", e.alice, "authenticated", "true", "permission", "few:x", "tenant", "acme", "cost", "4")
	if v := e.judge(t, limited); v.kind != "allowed" || !strings.Contains(v.client.Get("Ratelimit"), `"few";r=0`) || v.client.Get("Ratelimit-Policy") == "" {
		t.Errorf("what uses the limit up: %+v", v)
	}
	read := []string{"permission", "orders:read"}
	for name, test := range map[string]struct {
		sent      sent
		code      int32 // of google.rpc
		status    int   // 0: allowed
		reason    string
		challenge string
	}{
		"allowed":                  {fetch("/", e.alice, read...), 0, 0, "", ""},
		"allowed by a route":       {fetch("/orders/7?page=2", e.alice), 0, 0, "", ""},
		"public":                   {fetch("/assets/a.css", ""), 0, 0, "", ""},
		"any good credential":      {fetch("/", e.alice, "authenticated", "true"), 0, 0, "", ""},
		"an API key":               {fetch("/", "", "authenticated", "true").with("x-api-key", e.key), 0, 0, "", ""},
		"another tenant's limit":   {fetch("/", e.alice, "authenticated", "true", "permission", "few:x", "tenant", "other"), 0, 0, "", ""},
		"no credential":            {fetch("/", "", read...), 16, 401, "CREDENTIAL_MISSING", `Bearer realm="tollgate"`},
		"a bad one":                {fetch("/", "a.b.c", read...), 16, 401, "CREDENTIAL_INVALID", `Bearer realm="tollgate", error="invalid_token"`},
		"a revoked one":            {fetch("/", gone, read...), 16, 401, "CREDENTIAL_REVOKED", `Bearer realm="tollgate", error="invalid_token"`},
		"another scheme":           {fetch("/", "", read...).with("authorization", "Basic YTpi"), 16, 401, "CREDENTIAL_INVALID", `Bearer realm="tollgate", error="invalid_token"`},
		"two":                      {fetch("/", e.alice, read...).with("Authorization", "Bearer "+e.alice), 16, 401, "CREDENTIAL_INVALID", `Bearer realm="tollgate", error="invalid_token"`},
		"two kinds":                {fetch("/", e.alice, read...).with("x-api-key", e.key), 16, 401, "CREDENTIAL_INVALID", `Bearer realm="tollgate", error="invalid_token"`},
		"joined":                   {fetch("/", "", read...).with("authorization", "Bearer "+e.alice+",Bearer "+e.alice), 16, 401, "CREDENTIAL_INVALID", `Bearer realm="tollgate", error="invalid_token"`},
		"an empty header":          {fetch("/", "", read...).with("authorization", ""), 16, 401, "CREDENTIAL_INVALID", `Bearer realm="tollgate", error="invalid_token"`},
		"not hers":                 {fetch("/", e.alice, "permission", "orders:write"), 7, 403, "PERMISSION_MISSING", ""},
		"no route":                 {fetch("/other", e.alice), 7, 403, "ROUTE_MISSING", ""},
		"no route and nobody":      {fetch("/other", ""), 7, 403, "ROUTE_MISSING", ""},
		"over the limit":           {limited, 8, 429, "LIMITED", ""},
		"a path in two ways":       {fetch("/assets/%2e%2e/orders/7", e.alice), 3, 400, "PATH_REFUSED", ""},
		"no path":                  {fetch("", e.alice), 3, 400, "BAD_PROXY_REQUEST", ""},
		"a query alone":            {fetch("?/../x", e.alice, read...), 3, 400, "BAD_PROXY_REQUEST", ""},
		"and by a permission":      {fetch("/assets/..;/x", e.alice, read...), 3, 400, "PATH_REFUSED", ""},
		"a path that is not UTF-8": {fetch("/assets/\xff", ""), 3, 400, "BAD_PROXY_REQUEST", ""},
	} {
		for _, raw := range []bool{true, false} {
			if test.sent.raw = raw; !raw && !utf8.ValidString(test.sent.target) {
				continue
			}
			res, err := e.Check(e.keyed(t), test.sent.request())
			v := judge(res, err, test.sent.header)
			if got := res.GetStatus().GetCode(); got != test.code || v.status != test.status || v.kind == "error" || (v.kind == "allowed") != (test.code == 0) {
				t.Errorf("%s (raw: %t): code %d, %+v, want %d and %d", name, raw, got, v, test.code, test.status)
				continue
			}
			if test.code == 0 {
				if v.upstream.Get("Tollgate-Principal") == "" || strings.Count(v.upstream.Get("Tollgate-Assertion"), ".") != 2 || v.body != "" {
					t.Errorf("%s: the service gets %v", name, v.upstream)
				}
				continue
			}
			a := apitest.Answer{Raw: []byte(v.body)}
			backendtest.Must(t, json.Unmarshal(a.Raw, &a.Body))
			if a.Reason() != test.reason || v.client.Get("Www-Authenticate") != test.challenge || v.client.Get("Content-Type") != "application/json" ||
				a.Detail("google.rpc.ErrorInfo")["metadata"].(map[string]any)["request_id"] != v.client.Get("X-Request-Id") {
				t.Errorf("%s: %s and %v, want %s and %s", name, v.body, v.client, test.reason, test.challenge)
			}
			if limited := test.status == 429; (v.client.Get("Retry-After") != "") != limited || (v.client.Get("Ratelimit") != "") != limited || (v.client.Get("Ratelimit-Policy") != "") != limited {
				t.Errorf("%s: %v", name, v.client)
			}
		}
	}
}

// A configuration that cannot be is an error, whatever the client sends.
func TestExtAuthzMisconfigured(t *testing.T) {
	t.Parallel()
	e := startEnvoy(t)
	e.route(t, "all", "/{rest...}", apitest.Object{"public": true})
	many := map[string]string{"permission": "orders:read"}
	for n := range 33 {
		many[strings.Repeat("k", n+1)] = "v"
	}
	for name, extensions := range map[string]map[string]string{
		"Tollgate's own":       {"permission": "tollgate:users:read"},
		"a pattern":            {"permission": "orders:*"},
		"an empty permission":  {"permission": ""},
		"authenticated: no":    {"authenticated": "false"},
		"a resource alone":     {"resource": "orders"},
		"context alone":        {"tenant": "acme"},
		"a cost of 0":          {"permission": "orders:read", "cost": "0"},
		"an unknown flavor":    {"permission": "orders:read", "headers": "other"},
		"a long resource":      {"permission": "orders:read", "resource": strings.Repeat("r", 257)},
		"a long audience":      {"permission": "orders:read", "audience": strings.Repeat("r", 256)},
		"a long context value": {"permission": "orders:read", "tenant": strings.Repeat("ü", 257)},
		"a long context name":  {"permission": "orders:read", strings.Repeat("ü", 65): "x"},
		"no context name":      {"permission": "orders:read", "": "x"},
		"much context":         many,
	} {
		s := fetch("/", e.alice)
		s.extensions = extensions
		if v := e.judge(t, s); v.kind != "error" || !strings.Contains(v.why, "InvalidArgument") {
			t.Errorf("%s: %+v", name, v)
		}
	}
	for name, request := range map[string]*authv3.CheckRequest{
		"nothing": {}, "no request": {Attributes: &authv3.AttributeContext{ContextExtensions: map[string]string{"permission": "orders:read"}}},
	} {
		res, err := e.Check(e.keyed(t), request)
		if v := judge(res, err, nil); v.kind != "error" || !strings.Contains(v.why, "InvalidArgument") {
			t.Errorf("%s: %+v", name, v)
		}
	}
	res, err := e.Check(e.keyed(t), &authv3.CheckRequest{Attributes: &authv3.AttributeContext{Request: &authv3.AttributeContext_Request{Http: &authv3.AttributeContext_HttpRequest{}}}})
	if v := judge(res, err, nil); v.kind != "denied" || v.status != 400 {
		t.Errorf("an empty request, which a client may bring about: %+v", v)
	}
}

// Only a proxy may ask.
func TestEnvoyIsAProxy(t *testing.T) {
	t.Parallel()
	e := startEnvoy(t)
	other := e.As(e.admin).Post(t, "/v1/api-keys", map[string]any{"userId": e.id, "name": "k"}).Str("secret")
	limit := &rlsv3.RateLimitRequest{Domain: "d", Descriptors: descriptors("limit", "few")}
	ask := func(e *envoyed, pairs ...string) (errs [2]string) {
		t.Helper()
		_, err := e.Check(with(t, pairs...), fetch("/", e.admin, "authenticated", "true").request())
		_, err2 := e.ShouldRateLimit(with(t, pairs...), limit)
		for i, err := range []error{err, err2} {
			if err != nil {
				errs[i] = err.Error()
			}
		}
		return errs
	}
	for name, pairs := range map[string][]string{
		"nothing":                      nil,
		"an empty key":                 {"x-tollgate-key", ""},
		"rubbish":                      {"x-tollgate-key", "rubbish"},
		"a token of an administrator":  {"x-tollgate-key", e.admin},
		"the key as authorization":     {"authorization", "Bearer " + e.key},
		"an administrator's token":     {"authorization", "Bearer " + e.admin},
		"a key without the permission": {"x-tollgate-key", other},
		"two keys":                     {"x-tollgate-key", e.key, "x-tollgate-key", e.key},
		"the headers of a proxy":       {"x-forwarded-for", "127.0.0.1"},
	} {
		for _, err := range ask(e, pairs...) {
			if !strings.Contains(err, "PermissionDenied") || !strings.Contains(err, "only a proxy") && !strings.Contains(err, "2 times") {
				t.Errorf("%s: %q", name, err)
			}
		}
	}
	backendtest.Equal(t, ask(e, "x-tollgate-key", e.key), [2]string{}, "with the key")

	config := testConfig(backendtest.SQLiteURL(t))
	config.TrustedProxies = []string{"127.0.0.1"}
	trusted := dial(t, &proxied{instance: start(t, config, clock.Real())})
	backendtest.Equal(t, ask(trusted), [2]string{}, "from a trusted address")
	for _, err := range ask(trusted, "x-tollgate-key", "tg_rubbish") {
		if !strings.Contains(err, "PermissionDenied") {
			t.Errorf("a bad key from a trusted address: %q", err)
		}
	}
}
