package changes

import (
	"context"
	"time"

	"github.com/redis/go-redis/v9"
)

// RedisAnnouncer tells other instances over Redis Pub/Sub that the log has
// something new. Messages are empty and may be lost: tails poll as well.
type RedisAnnouncer struct {
	client  redis.UniversalClient
	channel string
	pending chan struct{}
}

// NewRedisAnnouncer uses a channel of the prefix's own.
func NewRedisAnnouncer(client redis.UniversalClient, prefix string) *RedisAnnouncer {
	return &RedisAnnouncer{client: client, channel: prefix + "changes", pending: make(chan struct{}, 1)}
}

// Announce has a message sent soon. Calls that come faster than messages go
// out share one.
func (a *RedisAnnouncer) Announce() {
	select {
	case a.pending <- struct{}{}:
	default:
	}
}

// Listen sends what is announced here and wakes for what is announced
// elsewhere, until ctx ends. The client subscribes again by itself after an
// outage.
func (a *RedisAnnouncer) Listen(ctx context.Context, wake func()) {
	subscription := a.client.Subscribe(ctx, a.channel)
	defer subscription.Close()
	messages := subscription.Channel()
	for {
		select {
		case <-ctx.Done():
			return
		case <-a.pending:
			// Bounded, so that a Redis that hangs delays only announcements.
			send, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
			a.client.Publish(send, a.channel, "")
			cancel()
		case _, open := <-messages:
			if !open {
				return
			}
			wake()
		}
	}
}
