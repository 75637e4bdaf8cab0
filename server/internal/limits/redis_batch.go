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

var errTooManyWaiting = errors.New("too many calls wait for Redis")

// batcher sends calls that come at the same time in one pipeline. No call waits
// for others to join it: it goes out at once unless all pipelines are under way,
// and those that gather meanwhile go together in the next. Its goroutines last
// only as long as there are calls.
type batcher struct {
	client redis.UniversalClient
	script *redis.Script

	mu      sync.Mutex
	waiting []*ask
	sending int
}

// scriptCall is one run of the script.
type scriptCall struct {
	keys []string
	args []any
}

// ask is a scriptCall that a caller waits for.
type ask struct {
	scriptCall
	ctx context.Context // has a deadline

	done    chan struct{} // closed when numbers and err are set
	numbers []int64
	err     error
}

// run runs the script and returns its numbers, and no later than ctx ends.
func (b *batcher) run(ctx context.Context, keys []string, args []any) ([]int64, error) {
	a := &ask{ctx: ctx, scriptCall: scriptCall{keys, args}, done: make(chan struct{})}
	b.mu.Lock()
	if len(b.waiting) >= maxWaiting {
		b.mu.Unlock()
		return nil, errTooManyWaiting
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

// next takes the calls that wait, except those whose callers have left. When it
// returns none, the sender ends.
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

// exchange sends a batch and waits no longer than the caller with the latest
// deadline.
func (b *batcher) exchange(batch []*ask) {
	var latest time.Time
	calls := make([]scriptCall, len(batch))
	for i, a := range batch {
		calls[i] = a.scriptCall
		if deadline, _ := a.ctx.Deadline(); deadline.After(latest) {
			latest = deadline
		}
	}
	ctx, cancel := context.WithDeadline(context.Background(), latest)
	defer cancel()
	for i, command := range b.pipeline(ctx, calls) {
		batch[i].numbers, batch[i].err = command.Int64Slice()
		close(batch[i].done)
	}
}

// pipeline sends the calls in one pipeline, and once more those whose server
// does not know the script yet. Each command has its own error.
func (b *batcher) pipeline(ctx context.Context, calls []scriptCall) []*redis.Cmd {
	commands := make([]*redis.Cmd, len(calls))
	pipe := b.client.Pipeline()
	for i, c := range calls {
		commands[i] = b.script.EvalSha(ctx, pipe, c.keys, c.args...)
	}
	if _, err := pipe.Exec(ctx); err == nil {
		return commands
	}
	again := b.client.Pipeline()
	for i, c := range calls {
		if redis.HasErrorPrefix(commands[i].Err(), "NOSCRIPT") {
			commands[i] = b.script.Eval(ctx, again, c.keys, c.args...)
		}
	}
	if again.Len() > 0 {
		_, _ = again.Exec(ctx)
	}
	return commands
}
