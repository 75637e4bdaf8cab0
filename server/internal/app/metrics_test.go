package app

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/clock"
	"github.com/tollgatehq/tollgate/server/internal/contract"
	metricspb "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	tracepb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
)

// scrape reads /metrics, as text and parsed.
func (i *instance) scrape(t *testing.T) (string, map[string]*dto.MetricFamily) {
	t.Helper()
	out := httptest.NewRecorder()
	i.metrics.Handler().ServeHTTP(out, httptest.NewRequest("GET", "/metrics", nil))
	text := out.Body.String()
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(text))
	backendtest.Must(t, err)
	return text, families
}

var (
	metricName = regexp.MustCompile(`\b(?:tollgate|process|go)_[a-z_]+\b`)
	inBraces   = regexp.MustCompile(`\{[^}]*\}`)
)

func TestDashboardAndAlertsAskForMetricsThatExist(t *testing.T) {
	t.Parallel()
	config := testConfig(backendtest.SQLiteURL(t))
	config.AuditSinks = []string{"archive=file:/not/written"}
	i := start(t, config, clock.Real())
	s, err := i.openSinks() // as a server does
	backendtest.Must(t, err)
	backendtest.Equal(t, len(s.Status()), 1, "sinks")
	i.call(t, "GET", "/v1/users", i.admin, nil).Want(t, http.StatusOK)
	_, families := i.scrape(t)

	asked := map[string][]string{} // by file
	var dashboard any
	backendtest.Must(t, json.Unmarshal([]byte(read(t, "deploy/grafana/tollgate.json")), &dashboard))
	collect(dashboard, "expr", func(expr string) { asked["dashboard"] = append(asked["dashboard"], expr) })

	var rules struct {
		Groups []struct {
			Rules []struct {
				Alert       string            `yaml:"alert"`
				Expr        string            `yaml:"expr"`
				Annotations map[string]string `yaml:"annotations"`
			} `yaml:"rules"`
		} `yaml:"groups"`
	}
	backendtest.Must(t, yaml.Unmarshal([]byte(read(t, "deploy/prometheus/alerts.yml")), &rules))
	for _, group := range rules.Groups {
		for _, rule := range group.Rules {
			asked["alerts"] = append(asked["alerts"], rule.Expr)
			if rule.Annotations["summary"] == "" || rule.Annotations["what_to_do"] == "" {
				t.Errorf("alert %s does not say what it is and what to do", rule.Alert)
			}
		}
	}

	for file, expressions := range asked {
		if len(expressions) < 5 {
			t.Errorf("%s has only %d expressions", file, len(expressions))
		}
		for _, expr := range expressions {
			for _, name := range metricName.FindAllString(inBraces.ReplaceAllString(expr, ""), -1) {
				family := families[name]
				if base, ok := strings.CutSuffix(name, "_bucket"); ok {
					family = families[base]
				}
				if family == nil {
					if name == "go_version" { // a label of tollgate_build_info
						continue
					}
					t.Errorf("%s: there is no metric %s", file, name)
					continue
				}
				counts := family.GetType() == dto.MetricType_COUNTER
				if counts != strings.HasSuffix(name, "_total") {
					t.Errorf("%s is a %s", name, family.GetType())
				}
				if strings.HasPrefix(name, "tollgate_") && family.GetHelp() == "" {
					t.Errorf("%s has no help", name)
				}
			}
		}
	}

	// And the other way round: what is measured is shown.
	shown := strings.Join(asked["dashboard"], "\n")
	for name := range families {
		if strings.HasPrefix(name, "tollgate_") && !strings.Contains(shown, name) {
			t.Errorf("the dashboard does not show %s", name)
		}
	}
}

// collect calls fn with every text under the key, anywhere in parsed JSON.
func collect(in any, key string, fn func(string)) {
	switch in := in.(type) {
	case map[string]any:
		for k, v := range in {
			if text, ok := v.(string); ok && k == key {
				fn(text)
			}
			collect(v, key, fn)
		}
	case []any:
		for _, v := range in {
			collect(v, key, fn)
		}
	}
}

// Nothing that a caller sends becomes a label: after one round of odd calls,
// rounds of others add no series.
func TestMetricLabelsAreClosed(t *testing.T) {
	t.Parallel()
	i := startEmbedded(t)
	odd := func(mark string) {
		for _, path := range []string{"/" + mark, "/v1/" + mark, "/v1/users/" + mark, "/tollgate.v1.AuthService/" + mark, "/" + mark + "/Login", "/v1/roles/" + mark} {
			for _, method := range []string{"GET", "POST", mark} {
				i.call(t, method, path, i.admin, nil)
				i.call(t, method, path, mark, map[string]any{mark: mark})
			}
		}
		i.call(t, "POST", "/v1/auth/login", "", map[string]any{"username": mark, "password": mark})
		i.call(t, "POST", "/v1/auth/refresh", "", map[string]any{"refreshToken": mark})
		i.call(t, "POST", "/v1/auth/verify", i.admin, map[string]any{"accessToken": mark})
		i.call(t, "POST", "/v1/authorize", i.admin, map[string]any{"userId": i.user, "permission": mark + ":read", "resource": mark, "context": map[string]any{mark: mark}})
		i.call(t, "POST", "/v1/authorize", i.admin, map[string]any{"apiKey": mark, "permission": mark + ":read"})
		var header []string
		for _, name := range []string{"X-Request-Id", "User-Agent", "Content-Type", "Authorization", "Connect-Protocol-Version", "X-" + mark} {
			header = append(header, name, mark)
		}
		for _, procedure := range contract.ProxyProcedures() {
			i.Call(t, "POST", procedure, "{}", "X-Tollgate-Key", mark)
		}
		i.Call(t, "POST", "/v1/auth/login?"+mark+"="+mark, "{", header...)
	}
	series := func() []string {
		text, _ := i.scrape(t)
		var all []string
		for line := range strings.Lines(text) {
			if strings.HasPrefix(line, "tollgate_") {
				all = append(all, line[:strings.LastIndex(line, " ")])
			}
		}
		slices.Sort(all)
		return all
	}
	odd("zebra")
	first := series()
	for n := range 3 {
		odd(fmt.Sprintf("okapi%d", n))
	}
	second := series()
	if !slices.Equal(first, second) {
		t.Errorf("new series:\n%s", strings.Join(slices.DeleteFunc(second, func(s string) bool { return slices.Contains(first, s) }), "\n"))
	}
	if all := strings.Join(first, "\n"); strings.Contains(all, "zebra") {
		t.Error("what a caller sent is in the metrics")
	}
}

// collector takes what OTLP exporters send.
type collector struct {
	*httptest.Server
	mu      sync.Mutex
	spans   []string // as text
	names   map[string]int
	metrics []string
}

func newCollector(t *testing.T) *collector {
	c := &collector{names: map[string]int{}}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		switch r.URL.Path {
		case "/v1/traces":
			var sent tracepb.ExportTraceServiceRequest
			if err := proto.Unmarshal(body, &sent); err != nil {
				t.Error(err)
			}
			c.spans = append(c.spans, prototext.Format(&sent))
			for _, of := range sent.GetResourceSpans() {
				for _, scope := range of.GetScopeSpans() {
					for _, span := range scope.GetSpans() {
						c.names[span.GetName()]++
					}
				}
			}
		case "/v1/metrics":
			var sent metricspb.ExportMetricsServiceRequest
			if err := proto.Unmarshal(body, &sent); err != nil {
				t.Error(err)
			}
			c.metrics = append(c.metrics, prototext.Format(&sent))
		}
	}))
	t.Cleanup(c.Close)
	return c
}

// A tour of calls, good and bad, with known secrets in every place where one
// can be: none of them gets into the log at its most talkative, the metrics,
// or what is sent to a collector.
func TestSecretsStayOutOfLogsMetricsAndTraces(t *testing.T) {
	to := newCollector(t)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", to.URL)
	var log lines
	config := testConfig(backendtest.SQLiteURL(t))
	i := startLogging(t, config, clock.Real(), slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug, AddSource: true})))
	secrets := map[string]string{"the master key": config.MasterKey, "the administrator's password": adminPassword, "an access token": i.admin}

	const wrong, next, fresh = "Wrong-Password-4711", "Next-Password-0815", "Fresh-Password-1234"
	secrets["a wrong password"], secrets["a new password"], secrets["a password that is too short for its rule"] = wrong, next, "Sh0rt+"
	secrets["a user's first password"] = fresh
	login := i.call(t, "POST", "/v1/auth/login", "", map[string]any{"username": FirstAdmin, "password": adminPassword}).Want(t, 200)
	refresh := login.Str("refreshToken")
	secrets["a refresh token"] = refresh
	renewed := i.call(t, "POST", "/v1/auth/refresh", "", map[string]any{"refreshToken": refresh}).Want(t, 200)
	secrets["a renewed refresh token"], secrets["a renewed access token"] = renewed.Str("refreshToken"), renewed.Str("accessToken")
	key := i.call(t, "POST", "/v1/api-keys", i.admin, map[string]any{"name": "tour"}).Want(t, 200).Str("secret")
	secrets["an API key"] = key

	i.call(t, "POST", "/v1/auth/refresh", "", map[string]any{"refreshToken": refresh})                                            // reuse
	i.call(t, "POST", "/v1/auth/login", "", map[string]any{"username": FirstAdmin, "password": wrong})                            // wrong
	i.call(t, "POST", "/tollgate.v1.AuthService/Login", "", map[string]any{"username": FirstAdmin, "password": wrong})            // Connect
	i.call(t, "POST", "/v1/auth/login", "", map[string]any{"username": FirstAdmin, "passwort": wrong})                            // a typo
	i.call(t, "POST", "/v1/auth/login", "", `{"username":"admin","password":"`+wrong)                                             // cut short
	i.call(t, "POST", "/v1/auth/login", "", map[string]any{"username": 1, "password": []string{wrong}})                           // other types
	i.call(t, "POST", "/v1/auth/login?password="+wrong, "", map[string]any{"username": FirstAdmin})                               // a query
	i.call(t, "GET", "/v1/auth/whoami?access_token="+i.admin, "", nil)                                                            // a token in a query
	i.call(t, "GET", "/v1/audit/events/watch?"+key+"="+key, i.admin, nil)                                                         // as a parameter
	i.call(t, "DELETE", "/v1/api-keys/"+key, i.admin, nil)                                                                        // a secret for an id
	i.call(t, "GET", "/v1/users/"+i.admin, i.admin, nil)                                                                          // a token for an id
	i.call(t, "GET", "/"+i.admin, key, nil)                                                                                       // nowhere
	i.call(t, "GET", "/v1/users", key+"x", nil)                                                                                   // a bad key
	i.call(t, "GET", "/v1/users", i.admin[:len(i.admin)-4]+"AAAA", nil)                                                           // a bad signature
	i.call(t, "POST", "/v1/auth/verify", i.admin, map[string]any{"apiKey": key})                                                  // data
	i.call(t, "POST", "/v1/authorize", key, map[string]any{"accessToken": i.admin, "permission": "orders:read"}).Want(t, 200)     // data
	i.call(t, "POST", "/v1/authorize", key, map[string]any{"apiKey": key + "x", "permission": "orders:read"})                     // bad data
	i.call(t, "POST", "/v1/users", i.admin, map[string]any{"username": "eve", "password": "Sh0rt+"})                              // a rule
	made := i.call(t, "POST", "/v1/users", i.admin, map[string]any{"username": "eve", "password": fresh}).Want(t, 200)            // made
	i.call(t, "POST", "/v1/users", i.admin, map[string]any{"username": "eve", "password": fresh})                                 // exists
	id := made.Str("user", "id")                                                                                                  //
	i.call(t, "POST", "/v1/users/"+id+"/password", i.admin, map[string]any{"newPassword": next}).Want(t, 200)                     // set
	i.call(t, "POST", "/v1/users/"+id+"/password", i.admin, map[string]any{"newPassword": strings.Repeat(next, 5)})               // too long
	i.call(t, "POST", "/v1/users/"+i.user+"/password", i.admin, map[string]any{"currentPassword": wrong, "newPassword": next})    // wrong
	i.call(t, "POST", "/v1/auth/logout", renewed.Str("accessToken"), map[string]any{"refreshToken": renewed.Str("refreshToken")}) // bye
	i.Call(t, "GET", "/v1/users", nil, "Authorization", basic(FirstAdmin, wrong), "Cookie", "token="+i.admin,
		"Traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")

	// Something goes wrong inside, and the log says so.
	for _, table := range []string{"users", "sessions"} {
		_, err := i.db.Exec(t.Context(), "ALTER TABLE "+table+" RENAME TO lost_"+table)
		backendtest.Must(t, err)
	}
	i.call(t, "POST", "/v1/auth/login", "", map[string]any{"username": FirstAdmin, "password": wrong})
	i.call(t, "POST", "/v1/auth/refresh", "", map[string]any{"refreshToken": renewed.Str("refreshToken")})
	i.call(t, "DELETE", "/v1/api-keys/"+key, i.admin, nil)
	i.telemetry.Close()

	metrics, _ := i.scrape(t)
	places := map[string]string{
		"the log": log.String(), "/metrics": metrics,
		"the traces": strings.Join(to.spans, "\n"), "the metrics that are sent": strings.Join(to.metrics, "\n"),
	}
	for place, text := range places {
		if len(text) < 1000 {
			t.Errorf("there is next to nothing in %s: %q", place, text)
		}
		for what, secret := range secrets {
			if secret == "" {
				t.Fatalf("there is no %s", what)
			}
			if at := strings.Index(text, secret); at >= 0 {
				t.Errorf("%s is in %s: %s", what, place, text[max(0, at-300):min(len(text), at+len(secret)+50)])
			}
		}
	}

	for _, want := range []string{"tollgate.v1.AuthService/Login", "tollgate.v1.RolesService/Authorize"} {
		if to.names[want] == 0 {
			t.Errorf("no span %s arrived, but %v", want, slices.Collect(maps.Keys(to.names)))
		}
	}
	for what, want := range map[string]string{
		"the traces":                places["the traces"],
		"the metrics that are sent": places["the metrics that are sent"],
	} {
		if !regexp.MustCompile(`string_value:\s+"tollgate"`).MatchString(want) {
			t.Errorf("%s do not name the service", what)
		}
	}
	if !strings.Contains(places["the traces"], "tollgate.request_id") {
		t.Error("no span has its request id")
	}
	if !regexp.MustCompile(`trace_id:\s+"\\n\\xf7e`).MatchString(places["the traces"]) {
		t.Error("no span is part of its caller's trace")
	}

	failed := 0
	for line := range strings.Lines(log.String()) {
		var entry map[string]any
		backendtest.Must(t, json.Unmarshal([]byte(line), &entry))
		if entry["msg"] == "request" || entry["msg"] == "call failed" {
			if id, _ := entry["request_id"].(string); id == "" || strings.Count(line, `"request_id"`) != 1 {
				t.Errorf("a line without one request id: %s", line)
			}
		}
		if entry["msg"] == "call failed" {
			failed++
			if id, _ := entry["trace_id"].(string); len(id) != 32 {
				t.Errorf("a line without its trace: %s", line)
			}
		}
	}
	if failed == 0 {
		t.Error("no call that failed by our fault is in the log")
	}
}

// A collector that is down holds up neither calls nor the end.
func TestCollectorThatIsDown(t *testing.T) {
	to := newCollector(t)
	to.Close()
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", to.URL)
	i := startEmbedded(t)
	i.call(t, "GET", "/v1/users", i.admin, nil).Want(t, http.StatusOK)
	began := clock.Real().Now()
	i.telemetry.Close()
	if took := clock.Real().Now().Sub(began); took > 3e9 {
		t.Errorf("closing took %s", took)
	}

	t.Setenv("OTEL_TRACES_EXPORTER", "zipkin") // telemetry's tests hold all mistakes
	if _, err := Open(t.Context(), testConfig(backendtest.SQLiteURL(t)), clock.Real(), Out{Log: slog.New(slog.DiscardHandler)}); err == nil {
		t.Error("an exporter that there is not is no error")
	}
}
