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

// slow is when a call is worth a line in the log.
const slow = time.Second

// Interceptors watch calls, the outermost first. They belong outside of the
// guard, whose error is the one that the caller gets.
func (t *Telemetry) Interceptors() []connect.Interceptor {
	if t.calls == nil {
		return []connect.Interceptor{&calls{t.log}}
	}
	return []connect.Interceptor{t.calls, &calls{t.log}}
}

// calls notes the request id on the call's span, which is how a log line, an
// audit event and a trace are found from one another, and logs slow calls.
type calls struct{ log *slog.Logger }

func (c *calls) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
		note(ctx)
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
		note(ctx)
		return next(ctx, conn)
	}
}

func (c *calls) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return next
}

func note(ctx context.Context) {
	if span := trace.SpanFromContext(ctx); span.IsRecording() {
		span.SetAttributes(attribute.String("tollgate.request_id", caller.From(ctx).RequestID))
	}
}
