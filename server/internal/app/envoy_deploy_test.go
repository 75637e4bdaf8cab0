package app

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	authzv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_authz/v3"
	mutationv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/header_mutation/v3"
	ratelimitv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ratelimit/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3" // the type of a filter
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	rlsv3 "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protopath"
	"google.golang.org/protobuf/reflect/protorange"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/tollgatehq/tollgate/server/internal/apitest"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/enforce"
)

// envoyConfig reads a configuration as Envoy does, every typed_config in it too, and
// returns its messages in their order. What Envoy would refuse fails the test.
func envoyConfig(t *testing.T, name string) (all []proto.Message) {
	t.Helper()
	var document any
	backendtest.Must(t, yaml.Unmarshal([]byte(read(t, name)), &document))
	text, err := json.Marshal(document)
	backendtest.Must(t, err)
	var config bootstrapv3.Bootstrap
	if err := protojson.Unmarshal(text, &config); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	visit := func(values protopath.Values) error {
		m, ok := values.Index(-1).Value.Interface().(protoreflect.Message)
		if !ok {
			return nil
		}
		message := m.Interface()
		all = append(all, message)
		if checked, ok := message.(interface{ ValidateAll() error }); ok {
			if err := checked.ValidateAll(); err != nil {
				t.Errorf("%s: %s: %v", name, m.Descriptor().FullName(), err)
			}
		}
		return nil
	}
	backendtest.Must(t, protorange.Options{Stable: true}.Range(config.ProtoReflect(), visit, nil))
	return all
}

// only are the messages of a type.
func only[T proto.Message](all []proto.Message) (list []T) {
	for _, m := range all {
		if of, ok := m.(T); ok {
			list = append(list, of)
		}
	}
	return list
}

// wantKeyed checks that a call of Tollgate carries the key from the environment.
func wantKeyed(t *testing.T, headers []*corev3.HeaderValue) {
	t.Helper()
	if len(headers) != 1 || headers[0].GetKey() != "x-tollgate-key" || headers[0].GetValue() != "%ENVIRONMENT(TOLLGATE_KEY)%" {
		t.Errorf("the key is not sent: %v", headers)
	}
}

// TestEnvoyConfiguration: what ships in deploy/envoy is what Envoy takes, fails
// closed, and asks what this server answers.
func TestEnvoyConfiguration(t *testing.T) {
	t.Parallel()
	e := startEnvoy(t)
	for _, name := range []string{"deploy/envoy/envoy.yaml", "deploy/envoy/envoy-http.yaml"} {
		all := envoyConfig(t, name)
		manager := only[*hcmv3.HttpConnectionManager](all)[0]
		var filters []string
		for _, f := range manager.GetHttpFilters() {
			filters = append(filters, strings.TrimPrefix(f.GetName(), "envoy.filters.http."))
		}
		if !slices.Equal(filters, []string{"header_mutation", "ext_authz", "ratelimit", "router"}) && !slices.Equal(filters, []string{"header_mutation", "ext_authz", "router"}) {
			t.Errorf("%s: the filters are %v", name, filters)
		}
		if !manager.GetUseRemoteAddress().GetValue() || manager.GetCommonHttpProtocolOptions().GetHeadersWithUnderscoresAction() != corev3.HttpProtocolOptions_DROP_HEADER {
			t.Errorf("%s: an address or a header is the client's to write", name)
		}
		removed := func(header string) bool {
			for _, m := range only[*mutationv3.HeaderMutation](all)[0].GetMutations().GetRequestMutations() {
				prefix := m.GetRemoveOnMatch().GetKeyMatcher().GetPrefix()
				if m.GetRemove() == header || prefix != "" && strings.HasPrefix(header, prefix) {
					return true
				}
			}
			return false
		}
		for _, header := range slices.Concat(forgedHeaders, enforce.IdentityNames()) {
			if header = strings.ToLower(header); !strings.Contains(header, "_") && enforce.IsIdentity(header) && !removed(header) {
				t.Errorf("%s: a client's %s is not removed", name, header)
			}
		}
		authz := only[*authzv3.ExtAuthz](all)[0]
		if authz.GetFailureModeAllow() || !authz.GetValidateMutations() || authz.GetStatusOnError().GetCode() != 503 || authz.GetWithRequestBody() != nil {
			t.Errorf("%s: %v", name, authz)
		}
		if http := authz.GetHttpService(); http != nil {
			wantKeyed(t, http.GetAuthorizationRequest().GetHeadersToAdd())
			backendtest.Equal(t, http.GetPathPrefix(), forwardAuth, "the path")
			backendtest.Equal(t, http.GetServerUri().GetTimeout().AsDuration(), 250*time.Millisecond, "the timeout")
			continue
		}
		wantKeyed(t, authz.GetGrpcService().GetInitialMetadata())
		backendtest.Equal(t, authz.GetGrpcService().GetTimeout().AsDuration(), 250*time.Millisecond, "the timeout of ext_authz")
		if !authz.GetEncodeRawHeaders() {
			t.Errorf("%s: the headers are not sent as they are", name)
		}
		if h2 := only[*httpv3.HttpProtocolOptions](all); len(h2) != 1 || h2[0].GetExplicitHttpConfig().GetHttp2ProtocolOptions() == nil {
			t.Errorf("%s: gRPC needs HTTP/2", name)
		}
		limiter := only[*ratelimitv3.RateLimit](all)[0]
		wantKeyed(t, limiter.GetRateLimitService().GetGrpcService().GetInitialMetadata())
		if !limiter.GetFailureModeDeny() || limiter.GetTimeout().AsDuration() != 100*time.Millisecond || limiter.GetStatusOnError().GetCode() != 503 {
			t.Errorf("%s: %v", name, limiter)
		}
		asksUs(t, e, all, limiter.GetDomain())
	}
}

// asksUs asks with what the routes say, which this server must understand.
func asksUs(t *testing.T, e *envoyed, all []proto.Message, domain string) {
	t.Helper()
	e.limit(t, "exports", "USER", "exports:*", nil)
	e.route(t, "all", "/{rest...}", apitest.Object{"authenticated": true})
	settings := only[*authzv3.CheckSettings](all)
	backendtest.Equal(t, len(settings), 2, "routes with settings")
	for _, s := range settings {
		asked := fetch("/x", e.alice)
		asked.extensions = s.GetContextExtensions()
		if v := e.judge(t, asked); v.kind == "error" {
			t.Errorf("%v: %+v", s, v)
		}
	}
	counted := 0
	for _, limit := range only[*routev3.RateLimit](all) {
		var entries []string
		for _, action := range limit.GetActions() {
			if key := action.GetGenericKey(); key != nil {
				entries = append(entries, key.GetDescriptorKey(), key.GetDescriptorValue())
			}
			if header := action.GetRequestHeaders(); header != nil {
				entries = append(entries, header.GetDescriptorKey(), "u")
			}
		}
		backendtest.Equal(t, len(entries), 2*len(limit.GetActions()), "entries of %v", limit)
		res, err := e.ShouldRateLimit(e.keyed(t), &rlsv3.RateLimitRequest{Domain: domain, Descriptors: descriptors(entries...)})
		if err != nil || res.GetStatuses()[0].GetCurrentLimit() == nil {
			t.Errorf("%v: %v, %v", entries, res, err)
		}
		counted++
	}
	if counted == 0 {
		t.Error("the configuration has no limits")
	}
}
