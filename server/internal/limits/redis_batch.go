package limits

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// pipelines is how many may be under way at once.
	pipelines = 4
	// pipelineCalls is how many calls share one at most.
	pipelineCalls = 128
	// maxWaiting is how many calls may wait for one.
	maxWaiting = 1024
)

var errCrowded = errors.New("too many calls wait for Redis")

// batcher has calls that come at the same time share a pipeline. Nobody waits
// for company: a call goes out at once unless all pipelines are under way, and
// those that gather meanwhile go together in the next. Its goroutines last only
// as long as there are calls.
type batcher struct {
	client redis.UniversalClient
	script *redis.Script

	mu      sync.Mutex
	waiting []*ask
	sending int
}

// ask is one run of the script.
type ask struct {
	ctx  context.Context // has a deadline
	keys []string
	args []any

	done    chan struct{} // closed when numbers and err are set
	numbers []int64
	err     error
}

// run runs the script and returns its numbers, and no later than ctx ends.
func (b *batcher) run(ctx context.Context, keys []string, args []any) ([]int64, error) {
	a := &ask{ctx: ctx, keys: keys, args: args, done: make(chan struct{})}
	b.mu.Lock()
	if len(b.waiting) >= maxWaiting {
		b.mu.Unlock()
		return nil, errCrowded
	}
	b.waiting = append(b.waiting, a)
	begin := b.sending < pipelines
	if begin {
		b.sending++
	}
	b.mu.Unlock()
	if begin {
		go b.send()
	}
	select {
	case <-a.done:
		return a.numbers, a.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (b *batcher) send() {
	for batch := b.next(); len(batch) > 0; batch = b.next() {
		b.exchange(batch)
	}
}

// next takes the calls that wait, but for those whose callers have left. With
// none left it also gives the sender's place back.
func (b *batcher) next() []*ask {
	b.mu.Lock()
	defer b.mu.Unlock()
	var batch []*ask
	for len(b.waiting) > 0 && len(batch) < pipelineCalls {
		if first := b.waiting[0]; first.ctx.Err() == nil {
			batch = append(batch, first)
		}
		b.waiting[0] = nil
		b.waiting = b.waiting[1:]
	}
	if len(batch) == 0 {
		b.sending--
		b.waiting = nil
	}
	return batch
}

// exchange sends a pipeline, and once more those calls whose server does not
// know the script yet. It lasts no longer than the most patient caller.
func (b *batcher) exchange(batch []*ask) {
	var latest time.Time
	for _, a := range batch {
		if deadline, _ := a.ctx.Deadline(); deadline.After(latest) {
			latest = deadline
		}
	}
	ctx, cancel := context.WithDeadline(context.Background(), latest)
	defer cancel()
	commands := make([]*redis.Cmd, len(batch))
	pipe := b.client.Pipeline()
	for i, a := range batch {
		commands[i] = b.script.EvalSha(ctx, pipe, a.keys, a.args...)
	}
	if _, err := pipe.Exec(ctx); err != nil {
		again := b.client.Pipeline()
		for i, a := range batch {
			if redis.HasErrorPrefix(commands[i].Err(), "NOSCRIPT") {
				commands[i] = b.script.Eval(ctx, again, a.keys, a.args...)
			}
		}
		if again.Len() > 0 {
			_, _ = again.Exec(ctx) // each command has its error
		}
	}
	for i, a := range batch {
		a.numbers, a.err = commands[i].Int64Slice()
		close(a.done)
	}
}
