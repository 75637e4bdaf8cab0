// Package telemetry sends traces and metrics by OTLP when the standard OTEL_*
// variables ask for it, and ties log lines to the calls that they are about.
// Nothing that it sends or logs holds a header, a body or a query.
package telemetry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"strings"
	"time"

	"connectrpc.com/connect"
	"connectrpc.com/otelconnect"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/propagation"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	tracenoop "go.opentelemetry.io/otel/trace/noop"
)

// flushTime is how long Close waits for the collector.
const flushTime = 2 * time.Second

// Telemetry observes calls from outside of the guard.
type Telemetry struct {
	calls  connect.Interceptor // nil: not enabled
	log    *slog.Logger
	closes []func(context.Context) error
}

// Open reads the environment, as
// https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/
// has it. Without an endpoint or an exporter in it nothing is sent, and nothing
// is allocated for it. Close when done.
//
// A call's span is part of its caller's trace when the request says so
// (https://www.w3.org/TR/trace-context/): a decision belongs to the request
// that it was made for.
func Open(ctx context.Context, version string, log *slog.Logger) (*Telemetry, error) {
	t := &Telemetry{log: log}
	traces, err := signalEnabled("TRACES")
	if err != nil {
		return nil, err
	}
	metrics, err := signalEnabled("METRICS")
	if err != nil {
		return nil, err
	}
	if !traces && !metrics {
		return t, nil
	}
	// The SDK reports that a collector is down through this one, process-wide.
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) {
		log.Warn("telemetry is not sent", "error", err)
	}))
	// Neither the process's arguments nor its environment belong here: they may
	// hold passwords.
	about, err := resource.New(ctx,
		resource.WithAttributes(attribute.String("service.name", "tollgate"), attribute.String("service.version", version)),
		resource.WithTelemetrySDK(), resource.WithHost(), resource.WithFromEnv(),
	)
	if err != nil {
		return nil, fmt.Errorf("telemetry: OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	options := []otelconnect.Option{
		otelconnect.WithPropagator(propagation.TraceContext{}), otelconnect.WithTrustRemote(),
		otelconnect.WithTracerProvider(tracenoop.NewTracerProvider()),
		otelconnect.WithMeterProvider(metricnoop.NewMeterProvider()),
	}
	if traces {
		exporter, err := otlptracehttp.New(ctx)
		if err != nil {
			return nil, fmt.Errorf("telemetry: export traces: %w", err)
		}
		provider := sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter), sdktrace.WithResource(about))
		t.closes = append(t.closes, provider.Shutdown)
		options = append(options, otelconnect.WithTracerProvider(provider))
	}
	if metrics {
		exporter, err := otlpmetrichttp.New(ctx)
		if err != nil {
			t.Close()
			return nil, fmt.Errorf("telemetry: export metrics: %w", err)
		}
		provider := sdkmetric.NewMeterProvider(sdkmetric.WithReader(sdkmetric.NewPeriodicReader(exporter)), sdkmetric.WithResource(about))
		t.closes = append(t.closes, provider.Shutdown)
		options = append(options, otelconnect.WithMeterProvider(provider))
	}
	if t.calls, err = otelconnect.NewInterceptor(options...); err != nil {
		t.Close()
		return nil, fmt.Errorf("telemetry: %w", err)
	}
	return t, nil
}

// signalEnabled says whether the environment enables sending this signal.
func signalEnabled(signal string) (bool, error) {
	if strings.EqualFold(os.Getenv("OTEL_SDK_DISABLED"), "true") {
		return false, nil
	}
	first := func(names ...string) (name, value string) {
		for _, name := range names {
			if value := os.Getenv(name); value != "" {
				return name, value
			}
		}
		return "", ""
	}
	where, endpoint := first("OTEL_EXPORTER_OTLP_"+signal+"_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
	switch name, exporter := first("OTEL_" + signal + "_EXPORTER"); exporter {
	case "none":
		return false, nil
	case "otlp":
	case "":
		if endpoint == "" {
			return false, nil
		}
	default:
		return false, fmt.Errorf("%s=%s: only otlp and none are known", name, exporter)
	}
	name, protocol := first("OTEL_EXPORTER_OTLP_"+signal+"_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
	if protocol != "" && protocol != "http/protobuf" {
		return false, fmt.Errorf("%s=%s: only http/protobuf is known; collectors take it at port 4318", name, protocol)
	}
	if u, err := url.Parse(endpoint); endpoint != "" && (err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "") {
		return false, fmt.Errorf("%s=%s: must be a URL, such as http://localhost:4318", where, endpoint)
	}
	return true, nil
}

// Close sends what is left, for at most two seconds. That it cannot be sent is
// logged and no error: stopping does not fail for it.
func (t *Telemetry) Close() {
	ctx, cancel := context.WithTimeout(context.Background(), flushTime)
	defer cancel()
	var failed error
	for _, end := range t.closes {
		failed = errors.Join(failed, end(ctx))
	}
	t.closes = nil
	if failed != nil {
		t.log.Warn("the last telemetry was not sent", "error", failed)
	}
}
