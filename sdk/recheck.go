package tollgate

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"connectrpc.com/connect"
)

// defaultRecheck is how old what is known of a stream's caller may get.
const defaultRecheck = 30 * time.Second

// watch returns a context for a stream that ends, with a *connect.Error as its
// cause, when the caller may no longer have it. Call done at the stream's end.
func (i *interceptor) watch(ctx context.Context, q AuthorizeRequest, who *Principal) (watched context.Context, done func()) {
	watched, cancel := context.WithCancelCause(ctx)
	go func() {
		if err := i.follow(watched, q, who); err != nil {
			cancel(err)
		}
	}()
	return watched, func() { cancel(context.Canceled) }
}

// follow returns why the caller of a stream may no longer have it, and nil when
// ctx ends before. It asks again when half of the time has passed that an answer
// is good for, so that one that is not answered can be asked again.
func (i *interceptor) follow(ctx context.Context, q AuthorizeRequest, who *Principal) error {
	q.Recheck = true
	answered, wait := time.Now(), i.every/2
	// Not all streams of a service begin to ask at the same moment.
	timer := time.NewTimer(wait - rand.N(wait/4+1))
	defer timer.Stop()
	for {
		var news <-chan struct{}
		if i.verifier != nil {
			news = i.verifier.feed.next() // before the look, so that nothing falls between
			if reason := i.verifier.revoked(ctx, q.Credential, who); reason != ReasonOK {
				return refusal(i.verifier.client.report(ctx, q, reason), q.Permission)
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
		d, err := i.ask(ctx, q)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil && time.Since(answered) >= i.every:
			return i.client.undecided(ctx, err)
		case err != nil:
			wait = i.every / 8
		case !d.Allowed:
			return refusal(d, q.Permission)
		default:
			answered, wait = asked, i.every/2
		}
		timer.Reset(wait)
	}
}

// watchedConn lets nothing through, in either direction, once its context has
// ended for a refusal: a handler may wait for a message rather than for the
// context.
type watchedConn struct {
	connect.StreamingHandlerConn
	ctx context.Context
}

func (c watchedConn) Receive(message any) error {
	if err := ended(c.ctx); err != nil {
		return err
	}
	err := c.StreamingHandlerConn.Receive(message)
	if refused := ended(c.ctx); refused != nil {
		return refused
	}
	return err
}

func (c watchedConn) Send(message any) error {
	if err := ended(c.ctx); err != nil {
		return err
	}
	return c.StreamingHandlerConn.Send(message)
}

// ended is the refusal that ended a stream's context; nil when none did.
func ended(ctx context.Context) error {
	var refused *connect.Error
	if errors.As(context.Cause(ctx), &refused) {
		return refused
	}
	return nil
}
