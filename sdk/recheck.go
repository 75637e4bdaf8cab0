package tollgate

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"connectrpc.com/connect"
)

// watch returns a context for a stream that ends, with a *connect.Error as its
// cause, when the caller may no longer have the stream. Call stop at its end.
func (i *interceptor) watch(ctx context.Context, q AuthorizeRequest, p *Principal) (watched context.Context, stop func()) {
	watched, cancel := context.WithCancelCause(ctx)
	go func() {
		if err := i.follow(watched, q, p); err != nil {
			cancel(err)
		}
	}()
	return watched, func() { cancel(context.Canceled) }
}

// follow returns why the caller of a stream may no longer have it, and nil when
// ctx ends before. It asks when half of the time between checks has passed, which
// leaves time for another try.
func (i *interceptor) follow(ctx context.Context, q AuthorizeRequest, p *Principal) error {
	q.Recheck = true
	every := i.client.recheck
	answered, wait := time.Now(), every/2
	// The jitter keeps the streams of a service from asking all at once.
	timer := time.NewTimer(wait - rand.N(wait/4+1))
	defer timer.Stop()
	for {
		var news <-chan struct{}
		if i.verifier != nil {
			news = i.verifier.feed.next() // first, so that no message is missed in between
			if reason := i.verifier.recheck(ctx, q.Credential, p); reason != ReasonOK {
				return refusal(i.verifier.client.report(ctx, q, reason), q.named())
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-news:
			continue
		case <-timer.C:
		}
		asked := time.Now()
		d, err := i.authorize(ctx, q)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil && time.Since(answered) >= every:
			return i.client.unavailableError(ctx, err)
		case err != nil:
			wait = every / 8
		case !d.Allowed:
			return refusal(d, q.named())
		default:
			answered, wait = asked, every/2
		}
		timer.Reset(wait)
	}
}

// watchedConn sends and receives nothing once a refusal has ended its context: a
// handler may wait for a message instead of the context.
type watchedConn struct {
	connect.StreamingHandlerConn
	ctx context.Context
}

func (c watchedConn) Receive(message any) error {
	if err := refusedBy(c.ctx); err != nil {
		return err
	}
	err := c.StreamingHandlerConn.Receive(message)
	if refused := refusedBy(c.ctx); refused != nil {
		return refused
	}
	return err
}

func (c watchedConn) Send(message any) error {
	if err := refusedBy(c.ctx); err != nil {
		return err
	}
	return c.StreamingHandlerConn.Send(message)
}

// refusedBy returns the refusal that ended a stream's context; nil when none did.
func refusedBy(ctx context.Context) error {
	if refused, ok := errors.AsType[*connect.Error](context.Cause(ctx)); ok {
		return refused
	}
	return nil
}
