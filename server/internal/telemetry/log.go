package telemetry

import (
	"context"
	"log/slog"

	"github.com/tollgatehq/tollgate/server/internal/caller"
	"go.opentelemetry.io/otel/trace"
)

// Log returns a logger whose lines say which request they are about:
// request_id, and trace_id and span_id when it is traced. It knows that from
// the line's context.
func Log(log *slog.Logger) *slog.Logger { return slog.New(handler{log.Handler()}) }

type handler struct{ slog.Handler }

// Handle adds to the record what its context knows.
func (h handler) Handle(ctx context.Context, r slog.Record) error {
	if id := caller.From(ctx).RequestID; id != "" {
		r.AddAttrs(slog.String("request_id", id))
	}
	if span := trace.SpanContextFromContext(ctx); span.IsValid() {
		r.AddAttrs(slog.String("trace_id", span.TraceID().String()), slog.String("span_id", span.SpanID().String()))
	}
	return h.Handler.Handle(ctx, r)
}

// WithAttrs keeps the lines' requests.
func (h handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return handler{h.Handler.WithAttrs(attrs)}
}

// WithGroup keeps the lines' requests.
func (h handler) WithGroup(name string) slog.Handler { return handler{h.Handler.WithGroup(name)} }
