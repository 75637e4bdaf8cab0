package limits

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
)

// pipes is a hook that counts pipelines and their calls.
type pipes struct{ sent, calls atomic.Int64 }

func (p *pipes) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		return next(ctx, network, address)
	}
}

func (p *pipes) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func (p *pipes) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, commands []redis.Cmder) error {
		p.sent.Add(1)
		p.calls.Add(int64(len(commands)))
		return next(ctx, commands)
	}
}

// TestBatchSharesRoundTrips: calls that come at the same time share pipelines,
// and each gets its own answer.
func TestBatchSharesRoundTrips(t *testing.T) {
	t.Parallel()
	client, prefix := backendtest.Redis(t)
	script := redis.NewScript(`return {tonumber(ARGV[1])}`)
	backendtest.Must(t, script.Load(t.Context(), client).Err())
	counted := &pipes{}
	client.AddHook(counted)
	b := &batcher{client: client, script: script}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	const calls = 2000
	var all sync.WaitGroup
	for n := range int64(calls) {
		all.Go(func() {
			for range 3 {
				numbers, err := b.run(ctx, []string{prefix + "key"}, []any{n})
				if errors.Is(err, errTooManyWaiting) {
					continue // told at once, which is the promise
				}
				if err != nil || len(numbers) != 1 || numbers[0] != n {
					t.Errorf("call %d: %v, %v", n, numbers, err)
				}
			}
		})
	}
	all.Wait()
	sent, carried := counted.sent.Load(), counted.calls.Load()
	t.Logf("%d calls in %d pipelines", carried, sent)
	if sent*2 > carried {
		t.Errorf("%d pipelines for %d calls: they hardly share", sent, carried)
	}
}

// TestBatchTooManyWait: when Redis cannot keep up, a call is told at once; one whose
// caller has left is not sent.
func TestBatchTooManyWait(t *testing.T) {
	t.Parallel()
	b := &batcher{sending: pipelines, waiting: make([]*ask, maxWaiting)}
	if _, err := b.run(t.Context(), nil, nil); !errors.Is(err, errTooManyWaiting) {
		t.Errorf("%v, want %v", err, errTooManyWaiting)
	}
	left, leave := context.WithCancel(t.Context())
	leave()
	stays := &ask{ctx: t.Context()}
	b.waiting = []*ask{{ctx: left}, stays, {ctx: left}}
	if batch := b.next(); len(batch) != 1 || batch[0] != stays {
		t.Errorf("next are %v, want the one who stays", batch)
	}
	if batch := b.next(); len(batch) != 0 || b.sending != pipelines-1 {
		t.Errorf("then %v with %d senders, want none and one fewer", batch, b.sending)
	}
}
