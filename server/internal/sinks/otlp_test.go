package sinks

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	collectorv1 "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	logsv1 "go.opentelemetry.io/proto/otlp/logs/v1"
	"google.golang.org/protobuf/proto"

	"github.com/tollgatehq/tollgate/server/internal/audit"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/clock"
)

// collector is one of OpenTelemetry's.
type collector struct {
	*httptest.Server

	mu       sync.Mutex
	requests []*http.Request
	received []*collectorv1.ExportLogsServiceRequest
	answer   []byte // with 200
}

func newCollector(t *testing.T) *collector {
	t.Helper()
	c := &collector{}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		message := &collectorv1.ExportLogsServiceRequest{}
		backendtest.Must(t, proto.Unmarshal(body, message))
		c.mu.Lock()
		defer c.mu.Unlock()
		c.requests, c.received = append(c.requests, r), append(c.received, message)
		w.Write(c.answer)
	}))
	t.Cleanup(c.Close)
	return c
}

// records are all that came.
func (c *collector) records() (all []*logsv1.LogRecord) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, message := range c.received {
		all = append(all, message.GetResourceLogs()[0].GetScopeLogs()[0].GetLogRecords()...)
	}
	return all
}

// attributes are a record's, in order, as name=value.
func attributes(r *logsv1.LogRecord) (all []string) {
	for _, a := range r.GetAttributes() {
		value := a.GetValue().GetStringValue()
		if n := a.GetValue().GetIntValue(); n != 0 {
			value = fmt.Sprint(n)
		}
		all = append(all, a.GetKey()+"="+value)
	}
	slices.Sort(all)
	return all
}

func otlpTarget(t *testing.T, clk clock.Clock, url, options string) Target {
	t.Helper()
	targets, err := Parse([]string{"test=otlp:" + url + "/v1/logs#batch=100" + options}, env(clk))
	backendtest.Must(t, err)
	return targets[0]
}

func TestOTLP(t *testing.T) {
	t.Parallel()
	c := newCollector(t)
	sink, err := otlpTarget(t, clock.NewFake(start).Clock(), c.URL, "&headers=file:"+secretFile(t, "api-key=a%20b, x-other=1")).Open()
	backendtest.Must(t, err)
	backendtest.Must(t, sink.Deliver(t.Context(), Batch{Sink: "test", From: 7, Until: 8, Entries: []audit.Entry{{Leaf: 7, Event: audit.Event{
		ID: "e1", Time: start, ActorID: "u1", ActorName: "anna", SessionID: "s1", Action: audit.AccessDenied, Outcome: audit.Denied, Reason: "permission_missing",
		Resource: "orders/7", IP: "192.0.2.1", UserAgent: "curl", RequestID: "r1", Details: map[string]string{"permission": "orders:read"},
	}}}}))
	r, record := c.requests[0], c.records()[0]
	for name, want := range map[string]string{"Content-Type": "application/x-protobuf", "Api-Key": "a b", "X-Other": "1"} {
		backendtest.Equal(t, r.Header.Get(name), want, "%s", name)
	}
	backendtest.Equal(t, r.URL.Path, "/v1/logs", "path")
	backendtest.Equal(t, strings.Join(attributes(record), " "), "client.address=192.0.2.1 log.record.uid=e1 session.id=s1 tollgate.action=access.denied "+
		"tollgate.details.permission=orders:read tollgate.leaf=7 tollgate.outcome=denied tollgate.reason=permission_missing tollgate.request_id=r1 "+
		"tollgate.resource=orders/7 user.id=u1 user.name=anna user_agent.original=curl", "attributes")
	if record.GetTimeUnixNano() != uint64(start.UnixNano()) || record.GetSeverityText() != "WARN" || record.GetEventName() != "tollgate.audit.access.denied" ||
		record.GetBody().GetStringValue() != "access.denied: denied" {
		t.Errorf("record %v", record)
	}
	c.mu.Lock()
	c.answer = []byte("<html>")
	c.mu.Unlock()
	if err := sink.Deliver(t.Context(), batch(8, 9)); err == nil || !strings.Contains(err.Error(), "something else than a collector") {
		t.Errorf("an answer of another server: %v", err)
	}
}

// TestOTLPRejects has a collector that takes a part of each batch: the rest is counted,
// logged, and not sent again for ever.
func TestOTLPRejects(t *testing.T) {
	onDatabases(t, func(t *testing.T, f *fixture) {
		c := newCollector(t)
		var err error
		c.answer, err = proto.Marshal(&collectorv1.ExportLogsServiceResponse{PartialSuccess: &collectorv1.ExportLogsPartialSuccess{
			RejectedLogRecords: 3, ErrorMessage: "too old\n" + strings.Repeat("x", 1000),
		}})
		backendtest.Must(t, err)
		f.add(t, 200)
		r := f.instance(otlpTarget(t, f.fake.Clock(), c.URL, ""))
		drain(t, r)
		drain(t, r)
		if s := r.status(); s.Skipped != 6 || s.Lag != 0 || s.Failing {
			t.Errorf("status %+v", s)
		}
		backendtest.Equal(t, len(c.records()), 200, "records")
		if said := f.logged.String(); strings.Count(said, "rejects events") != 2 || !strings.Contains(said, "too old") || len(said) > 1500 {
			t.Errorf("log: %s", said)
		}
	})
}

func TestOTLPAddresses(t *testing.T) {
	for _, name := range []string{"OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_LOGS_HEADERS"} {
		t.Setenv(name, "")
	}
	open := func(text string) (*otlpSink, error) {
		targets, err := Parse([]string{text}, env(clock.Real()))
		if err != nil {
			return nil, err
		}
		sink, err := targets[0].Open()
		return sink.(*otlpSink), err
	}
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "https://collector:4318/")
	t.Setenv("OTEL_EXPORTER_OTLP_HEADERS", "api-key=k")
	sink, err := open("a=otlp:")
	backendtest.Must(t, err)
	backendtest.Equal(t, sink.url, "https://collector:4318/v1/logs", "URL")
	backendtest.Equal(t, sink.headers["Api-Key"], "k", "header")
	for bad, says := range map[string]string{
		"a=otlp:collector:4318": "must be otlp:", "a=otlp:http://collector:4318/v1/logs": "http:// is for this machine", "a=otlp:https://u:hunter2@collector/": "must be otlp:",
		"a=otlp:https://c/#format=ocsf": "no option", "a=otlp:https://c/#headers=file:" + secretFile(t, "bad name=hunter2"): "headers must be", "a=otlp:https://c/#headers=hunter2": "who lists",
	} {
		if _, err := open(bad); err == nil || !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", bad, err)
		}
	}
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "")
	if _, err := open("a=otlp:"); err == nil {
		t.Error("it needs no collector")
	}
}
