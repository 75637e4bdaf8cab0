package limits

import (
	"context"
	_ "embed" // for redis_reserve.lua
	"errors"
	"fmt"
	"strings"
)

//go:embed redis_reserve.lua
var reserveScript string

// reserveSource is the script with the functions of the other one before it.
func reserveSource() string {
	functions, _, found := strings.Cut(takeScript, "-- End of what redis_reserve.lua begins with, too.")
	if !found {
		panic("limits: redis.lua does not say where its functions end")
	}
	return functions + reserveScript
}

// openKey is the set of a counter's open reservations; see markKey.
func (r *Redis) openKey(counter string) string { return r.prefix + "open:{" + counter + "}" }

// Reserve implements Backend. Whose a reservation is plays no part: Redis holds
// as many as its maxmemory allows.
func (r *Redis) Reserve(ctx context.Context, c Count, open, _ string) (Outcome, error) {
	o, err := r.change(ctx, c, "reserve", open, c.Cost, openFor.Microseconds(), mostOpen, openFor.Milliseconds())
	if errors.Is(err, errRefused) {
		return Outcome{}, errTooManyOpen
	}
	return o, err
}

// Settle implements Backend.
func (r *Redis) Settle(ctx context.Context, c Count, t settlement) (Outcome, error) {
	keep := 0
	if t.keep {
		keep = 1
	}
	o, err := r.change(ctx, c, "settle", t.open, t.charged, t.cost, t.at, keep, int64(maxDebt))
	if errors.Is(err, errRefused) {
		return Outcome{}, errNotOpen
	}
	return o, err
}

// errRefused is the script's answer that is no outcome.
var errRefused = errors.New("refused")

func (r *Redis) change(ctx context.Context, c Count, mode, open string, more ...any) (Outcome, error) {
	key := r.keys([]Count{c})[0]
	call := scriptCall{
		[]string{key, r.openKey(key)},
		append([]any{mode, open, c.algorithmText(), c.Rate, c.Burst, c.Period}, more...),
	}
	replies, err := r.call(ctx, func(ctx context.Context) ([]reply, error) {
		return r.within(ctx, func(ctx context.Context) ([]reply, error) {
			numbers, err := r.reserve.pipeline(ctx, []scriptCall{call})[0].Int64Slice()
			switch {
			case err != nil:
				return nil, err
			case len(numbers) == 1:
				return nil, nil
			case len(numbers) != 6:
				return nil, fmt.Errorf("the script answered with %d numbers", len(numbers))
			}
			state := state{at: numbers[2], count: numbers[3], rest: numbers[4], period: c.Period}
			return []reply{{state: state, now: numbers[0], exceeded: numbers[1] == 1, more: numbers[5]}}, nil
		})
	})
	if err != nil {
		return Outcome{}, fmt.Errorf("%s in Redis: %w", mode, err)
	}
	if len(replies) == 0 {
		return Outcome{}, errRefused
	}
	o := c.outcome(replies[0].state, replies[0].now, replies[0].exceeded)
	o.state, o.now, o.Reached = replies[0].state, replies[0].now, replies[0].more
	return o, nil
}
