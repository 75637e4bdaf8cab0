package telemetry

import (
	"context"
	"log/slog"
	"time"

	"connectrpc.com/connect"
	"github.com/tollgatehq/tollgate/server/internal/caller"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
)

// slow is how long a call takes at least to be logged.
const slow = time.Second

// Interceptors returns the interceptors, the outermost first. They belong outside
// of the guard, whose error is the one that the caller gets.
func (t *Telemetry) Interceptors() []connect.Interceptor {
	if t.calls == nil {
		return []connect.Interceptor{&calls{t.log}}
	}
	return []connect.Interceptor{t.calls, &calls{t.log}}
}

// calls sets the request id on the call's span, which connects log lines, audit
// events and traces, and logs slow calls.
type calls struct{ log *slog.Logger }

func (c *calls) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
		setRequestID(ctx)
		began := time.Now()
		res, err := next(ctx, req)
		if took := time.Since(began); took > slow {
			code := "ok"
			if err != nil {
				code = connect.CodeOf(err).String()
			}
			c.log.WarnContext(ctx, "slow call", "procedure", req.Spec().Procedure, "code", code, "took_ms", took.Milliseconds())
		}
		return res, err
	}
}

func (c *calls) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return func(ctx context.Context, conn connect.StreamingHandlerConn) error {
		setRequestID(ctx)
		return next(ctx, conn)
	}
}

func (c *calls) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return next
}

func setRequestID(ctx context.Context) {
	if span := trace.SpanFromContext(ctx); span.IsRecording() {
		span.SetAttributes(attribute.String("tollgate.request_id", caller.From(ctx).RequestID))
	}
}
