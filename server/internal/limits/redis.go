package limits

import (
	"context"
	_ "embed" // for redis.lua
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/tollgatehq/tollgate/server/internal/clock"
)

//go:embed redis.lua
var takeScript string

const (
	// redisTimeout is how long Redis may take before it counts as down.
	redisTimeout = 50 * time.Millisecond
	// redisCalls is how many calls may be under way at once.
	redisCalls = 1024
)

// errOpen is the answer while the breaker is open.
var errOpen = errors.New("redis failed a moment ago and is not called for a short while")

// Redis keeps the counters in Redis, for all instances together. A Take is one
// script, at Redis's own time, in a round trip that it shares with the Takes
// that come at the same time. Every key has a time to live.
//
// In a Redis Cluster (and a Ring) the keys of one Take are on several nodes, so
// each is taken by itself, in one pipeline; when one refuses, what the others
// took is given back in a second. All or nothing is then best effort: between
// the two, other calls may be refused that would have passed, and what cannot
// be given back stays counted. More than allowed never passes.
//
// A call that takes longer than 50 ms fails. After three in a row, or one that
// is refused, the breaker opens: all calls fail for the next 250 ms, and up to
// 2 s while Redis stays down. A single call then tries again.
type Redis struct {
	client  redis.UniversalClient
	prefix  string
	log     *slog.Logger
	split   bool // a script may touch one key only
	timeout time.Duration
	slots   chan struct{}
	batch   batcher
	reserve batcher // with the script of reservations
	breaker breaker
}

// NewRedis keeps counters under the prefix. A client with
// ContextTimeoutEnabled gives its connections back soonest when Redis hangs.
func NewRedis(client redis.UniversalClient, prefix string, clk clock.Clock, log *slog.Logger) *Redis {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	r := &Redis{
		client: client, prefix: prefix + "limit:", log: log,
		batch:   batcher{client: client, script: redis.NewScript(takeScript)},
		reserve: batcher{client: client, script: redis.NewScript(reserveSource())},
		timeout: redisTimeout, slots: make(chan struct{}, redisCalls), breaker: breaker{now: clk.Now},
	}
	switch client.(type) {
	case *redis.ClusterClient, *redis.Ring:
		r.split = true
	}
	return r
}

// Down says whether the breaker is open.
func (r *Redis) Down() bool { return r.breaker.IsOpen() }

// Take implements Backend.
func (r *Redis) Take(ctx context.Context, counts []Count, peek bool) ([]Outcome, error) {
	if len(counts) == 0 {
		return nil, nil
	}
	mode := "take"
	if peek {
		mode = "peek"
	}
	replies, err := r.call(ctx, func(ctx context.Context) ([]reply, error) {
		if r.split {
			return r.within(ctx, func(ctx context.Context) ([]reply, error) { return r.takeSplit(ctx, counts, mode) })
		}
		call := r.script(mode, counts, r.keys(counts), markOf(counts))
		numbers, err := r.batch.run(ctx, call.keys, call.args)
		if err != nil {
			return nil, err
		}
		return read(numbers, counts)
	})
	if err != nil {
		return nil, fmt.Errorf("count in Redis: %w", err)
	}
	outcomes := make([]Outcome, len(counts))
	for i, c := range counts {
		r := replies[i]
		outcomes[i] = c.outcome(r.state, r.now, r.exceeded)
		if c.Algorithm == Calendar {
			outcomes[i].Reached, r.more = r.more, 0
		}
		if outcomes[i].More = r.more; c.Lease > 0 {
			outcomes[i].state, outcomes[i].now = r.state, r.now
		}
	}
	return outcomes, nil
}

// Forget implements Backend.
func (r *Redis) Forget(ctx context.Context, counts []Count) error {
	if len(counts) == 0 {
		return nil
	}
	_, err := r.call(ctx, func(ctx context.Context) ([]reply, error) {
		return r.within(ctx, func(ctx context.Context) ([]reply, error) {
			pipe := r.client.Pipeline()
			for _, key := range r.keys(counts) {
				pipe.Del(ctx, key, r.openKey(key))
			}
			_, err := pipe.Exec(ctx)
			return nil, err
		})
	})
	if err != nil {
		return fmt.Errorf("forget counts in Redis: %w", err)
	}
	return nil
}

// takeSplit takes from each counter by itself and gives back when one refused.
func (r *Redis) takeSplit(ctx context.Context, counts []Count, mode string) ([]reply, error) {
	call := markOf(counts)
	replies, err := r.each(ctx, counts, mode, call)
	if err != nil || mode != "take" {
		return replies, err
	}
	refused := false
	for i, c := range counts {
		refused = refused || replies[i].exceeded && !c.Shadow
	}
	if !refused {
		return replies, nil
	}
	var back []Count
	var places []int
	for i, c := range counts {
		if !c.Shadow && !replies[i].exceeded {
			back, places = append(back, c), append(places, i)
		}
	}
	given, err := r.each(ctx, back, "refund", call)
	if err != nil {
		r.log.WarnContext(ctx, "what a refused call took from its other limits could not be given back", "error", err)
		return replies, nil
	}
	for i, place := range places {
		given[i].more = replies[place].more // taken, for whoever holds the lease
		replies[place] = given[i]
		replies[place].exceeded = false
	}
	return replies, nil
}

// each runs the script once for each counter, in one pipeline.
func (r *Redis) each(ctx context.Context, counts []Count, mode string, m mark) ([]reply, error) {
	if len(counts) == 0 {
		return nil, nil
	}
	keys := r.keys(counts)
	calls := make([]scriptCall, len(counts))
	for i := range counts {
		calls[i] = r.script(mode, counts[i:i+1], keys[i:i+1:i+1], m)
	}
	var replies []reply
	for i, command := range r.batch.pipeline(ctx, calls) {
		numbers, err := command.Int64Slice()
		if err != nil {
			return nil, err
		}
		one, err := read(numbers, counts[i:i+1])
		if err != nil {
			return nil, err
		}
		replies = append(replies, one...)
	}
	return replies, nil
}

// call runs fn, which ends with its context, unless the breaker is open.
func (r *Redis) call(ctx context.Context, fn func(context.Context) ([]reply, error)) ([]reply, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	ok, probe := r.breaker.Allow()
	if !ok {
		return nil, errOpen
	}
	bounded, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	replies, err := fn(bounded)
	verdict := up
	switch {
	case err != nil && ctx.Err() != nil:
		verdict, err = unknown, ctx.Err()
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, errTooManyWaiting):
		verdict = late
	case err != nil:
		verdict = down
	}
	if r.breaker.Record(probe, verdict) {
		if verdict != up {
			r.log.WarnContext(ctx, "Redis does not answer; limits go by their outage mode", "error", err)
		} else {
			r.log.InfoContext(ctx, "Redis answers again; limits are counted there")
		}
	}
	return replies, err
}

// within runs fn and returns when ctx ends whatever the client does: with some
// settings it ignores the context while it waits for an answer.
func (r *Redis) within(ctx context.Context, fn func(context.Context) ([]reply, error)) ([]reply, error) {
	select {
	case r.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	type result struct {
		replies []reply
		err     error
	}
	done := make(chan result, 1)
	go func() {
		defer func() { <-r.slots }()
		replies, err := fn(ctx)
		done <- result{replies, err}
	}()
	select {
	case d := <-done:
		return d.replies, d.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// keys are the counters' names in Redis. A Counter holds no colon, so no two
// counters share a name.
func (r *Redis) keys(counts []Count) []string {
	keys := make([]string, len(counts))
	for i, c := range counts {
		keys[i] = r.prefix + c.Counter + ":" + shorten(c.Key)
	}
	return keys
}

// script is what to run for counters with these keys; m is the mark of the whole
// call, whose counters they may be only some of.
func (r *Redis) script(mode string, counts []Count, keys []string, m mark) scriptCall {
	if m != (mark{}) && mode != "peek" {
		return scriptCall{append(keys, r.markKey(m, keys[0])), args(mode+" once", counts)}
	}
	return scriptCall{keys, args(mode, counts)}
}

// algorithmText is the algorithm as the scripts read it.
func (c Count) algorithmText() string {
	if c.Algorithm != Calendar {
		return string(c.Algorithm)
	}
	return fmt.Sprintf("%s %d %d %d %d", c.Algorithm, c.Starts[0], c.Starts[1], c.Starts[2], c.Starts[3])
}

// args are the script's, see redis.lua.
func args(mode string, counts []Count) []any {
	list := make([]any, 0, 1+8*len(counts))
	list = append(list, mode)
	for _, c := range counts {
		flags := ""
		if c.Shadow {
			flags += "s"
		}
		if c.Look {
			flags += "l"
		}
		list = append(list, c.algorithmText(), c.Rate, c.Burst, c.Period, c.Cost, c.More, c.Sure, flags)
	}
	return list
}

// reply is what the script says about one counter.
type reply struct {
	state
	now      int64
	exceeded bool
	more     int64
}

func read(numbers []int64, counts []Count) ([]reply, error) {
	if len(numbers) != 1+5*len(counts) {
		return nil, fmt.Errorf("the script answered with %d numbers for %d counters", len(numbers), len(counts))
	}
	replies := make([]reply, len(counts))
	for i, c := range counts {
		n := numbers[1+5*i:]
		replies[i] = reply{
			now: numbers[0], exceeded: n[0] == 1, more: n[4],
			state: state{at: n[1], count: n[2], rest: n[3], period: c.Period},
		}
	}
	return replies, nil
}
