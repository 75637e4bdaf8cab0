package sinks

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"

	collectorv1 "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	commonv1 "go.opentelemetry.io/proto/otlp/common/v1"
	logsv1 "go.opentelemetry.io/proto/otlp/logs/v1"
	resourcev1 "go.opentelemetry.io/proto/otlp/resource/v1"
	"google.golang.org/protobuf/proto"

	"github.com/tollgatehq/tollgate/server/internal/audit"
	"github.com/tollgatehq/tollgate/server/internal/clock"
)

// otlpSink posts batches as OTLP log records
// (https://opentelemetry.io/docs/specs/otlp/#otlphttp). It is not OpenTelemetry's exporter,
// which returns no error when a collector takes a part of a batch only.
type otlpSink struct {
	url     string
	headers map[string]string
	version string
	client  *http.Client
	clock   clock.Clock
}

// rejected says that a receiver has the batch but for some events, which it will never
// take: to send them again is in vain.
type rejected struct {
	events int64
	reason string
}

func (r rejected) Error() string {
	return fmt.Sprintf("%d events are rejected: %s", r.events, r.reason)
}

// maxReason bounds what is logged of a collector's reason, in bytes.
const maxReason = 256

// Deliver implements Sink.
func (o *otlpSink) Deliver(ctx context.Context, b Batch) error {
	body, err := proto.Marshal(o.request(b))
	if err != nil {
		return fmt.Errorf("encode the log records: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, o.url, bytes.NewReader(body))
	if err != nil {
		return withoutURL(err)
	}
	for name, value := range o.headers {
		req.Header.Set(name, value)
	}
	req.Header.Set("Content-Type", "application/x-protobuf")
	req.Header.Set("User-Agent", "tollgate")
	res, err := o.client.Do(req)
	if err != nil {
		return withoutURL(err)
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(res.Body, 64<<10))
	if failed := answered(res, o.clock.Now()); failed != nil {
		return failed
	}
	if err != nil {
		return fmt.Errorf("read the collector's answer: %w", err)
	}
	said := &collectorv1.ExportLogsServiceResponse{}
	if err := proto.Unmarshal(answer, said); err != nil {
		return fmt.Errorf("the receiver answers with something else than a collector: %w", err)
	}
	if n := said.GetPartialSuccess().GetRejectedLogRecords(); n > 0 {
		reason := said.GetPartialSuccess().GetErrorMessage()
		return rejected{min(n, int64(len(b.Entries))), fmt.Sprintf("%.*q", maxReason, reason)}
	}
	return nil
}

func (o *otlpSink) request(b Batch) *collectorv1.ExportLogsServiceRequest {
	now := uint64(o.clock.Now().UnixNano())
	records := make([]*logsv1.LogRecord, len(b.Entries))
	for i := range b.Entries {
		records[i] = record(&b.Entries[i])
		records[i].ObservedTimeUnixNano = now
	}
	return &collectorv1.ExportLogsServiceRequest{ResourceLogs: []*logsv1.ResourceLogs{{
		Resource:  &resourcev1.Resource{Attributes: []*commonv1.KeyValue{text("service.name", "tollgate"), text("service.version", o.version)}},
		ScopeLogs: []*logsv1.ScopeLogs{{Scope: &commonv1.InstrumentationScope{Name: "tollgate/audit", Version: o.version}, LogRecords: records}},
	}}}
}

// record is an event with the names of OpenTelemetry's semantic conventions, where they
// have one (https://opentelemetry.io/docs/specs/semconv/registry/attributes/). Names that
// are empty are left out.
func record(entry *audit.Entry) *logsv1.LogRecord {
	e := &entry.Event
	r := &logsv1.LogRecord{
		TimeUnixNano: uint64(e.Time.UnixNano()), EventName: "tollgate.audit." + string(e.Action),
		SeverityNumber: logsv1.SeverityNumber_SEVERITY_NUMBER_INFO, SeverityText: "INFO",
		Body:       &commonv1.AnyValue{Value: &commonv1.AnyValue_StringValue{StringValue: string(e.Action) + ": " + string(e.Outcome)}},
		Attributes: []*commonv1.KeyValue{{Key: "tollgate.leaf", Value: &commonv1.AnyValue{Value: &commonv1.AnyValue_IntValue{IntValue: entry.Leaf}}}},
	}
	if e.Outcome != audit.Success {
		r.SeverityNumber, r.SeverityText = logsv1.SeverityNumber_SEVERITY_NUMBER_WARN, "WARN"
	}
	for _, a := range [...]struct{ name, value string }{
		{"log.record.uid", e.ID}, {"user.id", e.ActorID}, {"user.name", e.ActorName}, {"session.id", e.SessionID},
		{"client.address", e.IP}, {"user_agent.original", e.UserAgent},
		{"tollgate.action", string(e.Action)}, {"tollgate.outcome", string(e.Outcome)}, {"tollgate.reason", e.Reason}, {"tollgate.resource", e.Resource},
		{"tollgate.api_key_id", e.APIKeyID}, {"tollgate.request_id", e.RequestID}, {"tollgate.recorded_by", e.RecordedBy},
	} {
		if a.value != "" {
			r.Attributes = append(r.Attributes, text(a.name, a.value))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(e.Details)) {
		r.Attributes = append(r.Attributes, text("tollgate.details."+name, e.Details[name]))
	}
	return r
}

func text(name, value string) *commonv1.KeyValue {
	return &commonv1.KeyValue{Key: name, Value: &commonv1.AnyValue{Value: &commonv1.AnyValue_StringValue{StringValue: value}}}
}

// Close implements Sink.
func (o *otlpSink) Close() error {
	o.client.CloseIdleConnections()
	return nil
}
