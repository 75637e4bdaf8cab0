package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"time"

	"github.com/redis/go-redis/v9"
)

// redisPrefix is what every key and channel of ours starts with.
const redisPrefix = "tollgate:"

// checkRedis refuses a Redis that refuses our user or password: no later call
// would do better. One that does not answer may do so later, and is warned of.
func checkRedis(ctx context.Context, client redis.UniversalClient, address string, log *slog.Logger) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	err := client.Ping(ctx).Err()
	switch {
	case err == nil:
		return nil
	case redis.IsAuthError(err):
		return fmt.Errorf("--redis-url: Redis at %s refuses the user or password: %w; give it one that it knows: redis://USER:PASSWORD@HOST:PORT", redactURL(address), err)
	default:
		log.WarnContext(ctx, "Redis does not answer; limits go by their outage modes until it does", "redis", redactURL(address), "error", err)
		return nil
	}
}

// openRedis makes the client for redis:// and rediss:// URLs: one server, a
// Cluster when the query names more (?addr=HOST:PORT&addr=…), or Sentinels when
// it names a master (?master_name=NAME). It does not connect.
func openRedis(address string) (redis.UniversalClient, error) {
	bad := errors.New("must be redis://HOST:PORT or rediss://HOST:PORT; for a Cluster add ?addr=HOST:PORT for each further node, for Sentinel ?master_name=NAME")
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.Scheme != "redis" && u.Scheme != "rediss" {
		return nil, bad
	}
	// Errors of the parsers are not passed on: they may quote the password.
	// Deadlines come from each call's context; nothing is tried twice, because
	// the limiter has its own answer to a Redis that fails.
	const dial = time.Second
	switch query := u.Query(); {
	case query.Has("master_name"):
		options, err := redis.ParseFailoverURL(address)
		if err != nil {
			return nil, bad
		}
		options.MaxRetries, options.ContextTimeoutEnabled, options.DialTimeout = -1, true, dial
		return redis.NewFailoverClient(options), nil
	case query.Has("addr"):
		options, err := redis.ParseClusterURL(address)
		if err != nil {
			return nil, bad
		}
		options.ContextTimeoutEnabled, options.DialTimeout = true, dial
		return redis.NewClusterClient(options), nil
	default:
		options, err := redis.ParseURL(address)
		if err != nil {
			return nil, bad
		}
		options.MaxRetries, options.ContextTimeoutEnabled, options.DialTimeout = -1, true, dial
		return redis.NewClient(options), nil
	}
}
