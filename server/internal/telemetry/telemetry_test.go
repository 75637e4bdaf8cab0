package telemetry

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"

	"github.com/tollgatehq/tollgate/server/internal/caller"
	"go.opentelemetry.io/otel/trace"
)

func TestSignalEnabled(t *testing.T) {
	const at = "http://127.0.0.1:4318"
	for _, test := range []struct {
		name string
		env  map[string]string
		want bool
		err  string
	}{
		{name: "nothing is set"},
		{name: "an endpoint", env: map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": at}, want: true},
		{name: "an endpoint for this signal", env: map[string]string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": at}, want: true},
		{name: "an endpoint for another signal", env: map[string]string{"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": at}},
		{name: "an exporter", env: map[string]string{"OTEL_TRACES_EXPORTER": "otlp"}, want: true},
		{name: "no exporter", env: map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": at, "OTEL_TRACES_EXPORTER": "none"}},
		{name: "switched off", env: map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": at, "OTEL_SDK_DISABLED": "true"}},
		{name: "an unknown exporter", env: map[string]string{"OTEL_TRACES_EXPORTER": "zipkin"}, err: "OTEL_TRACES_EXPORTER=zipkin"},
		{name: "an endpoint without a scheme", env: map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "localhost:4318"}, err: "OTEL_EXPORTER_OTLP_ENDPOINT=localhost:4318"},
		{name: "one for this signal that is no URL", env: map[string]string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "collector"}, err: "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=collector"},
		{name: "an unknown protocol", env: map[string]string{"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, err: "port 4318"},
		{name: "the protocol of this signal", env: map[string]string{
			"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf"}, want: true},
	} {
		t.Run(test.name, func(t *testing.T) {
			for name, value := range test.env {
				t.Setenv(name, value)
			}
			got, err := signalEnabled("TRACES")
			if got != test.want || (err != nil) != (test.err != "") || err != nil && !strings.Contains(err.Error(), test.err) {
				t.Errorf("%v, %v; want %v, %q", got, err, test.want, test.err)
			}
		})
	}
}

func TestOpenWithoutEnvironment(t *testing.T) {
	t.Parallel()
	opened, err := Open(t.Context(), "1", slog.New(slog.DiscardHandler))
	if err != nil || opened.calls != nil || opened.closes != nil || len(opened.Interceptors()) != 1 {
		t.Errorf("%+v, %v", opened, err)
	}
	opened.Close()
}

func TestLogAddsRequestID(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	log := Log(slog.New(slog.NewTextHandler(&out, nil)))
	traced := trace.ContextWithSpanContext(t.Context(), trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2},
	}))
	for _, test := range []struct {
		ctx  context.Context
		want string
		not  string
	}{
		{t.Context(), "msg=hello", "_id="},
		{caller.With(t.Context(), caller.Caller{RequestID: "r-1"}), "request_id=r-1", "trace_id"},
		{caller.With(traced, caller.Caller{RequestID: "r-2"}), "request_id=r-2 trace_id=01000000000000000000000000000000 span_id=0200000000000000", "!"},
	} {
		for _, log := range []*slog.Logger{log, log.With("a", "b")} {
			out.Reset()
			log.InfoContext(test.ctx, "hello")
			if !strings.Contains(out.String(), test.want) || strings.Contains(out.String(), test.not) {
				t.Errorf("logged %s, want %s", out.String(), test.want)
			}
		}
	}
}
