package changes

import (
	"context"
	"time"

	"github.com/redis/go-redis/v9"
)

// RedisNotifier is a Notifier over Redis Pub/Sub. Messages are empty and may be
// lost: tails poll as well.
type RedisNotifier struct {
	client  redis.UniversalClient
	channel string
	pending chan struct{}
}

// NewRedisNotifier uses a channel of the prefix's own.
func NewRedisNotifier(client redis.UniversalClient, prefix string) *RedisNotifier {
	return &RedisNotifier{client: client, channel: prefix + "changes", pending: make(chan struct{}, 1)}
}

// Notify schedules a message. Calls that come faster than messages go out share
// one.
func (n *RedisNotifier) Notify() {
	select {
	case n.pending <- struct{}{}:
	default:
	}
}

// Listen sends the scheduled messages, and calls wake for those of other
// instances, until ctx ends. The client subscribes again by itself after an
// outage.
func (n *RedisNotifier) Listen(ctx context.Context, wake func()) {
	subscription := n.client.Subscribe(ctx, n.channel)
	defer subscription.Close()
	messages := subscription.Channel()
	for {
		select {
		case <-ctx.Done():
			return
		case <-n.pending:
			// Bounded, so that a Redis that hangs delays only messages.
			send, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
			n.client.Publish(send, n.channel, "") // the tails poll as well
			cancel()
		case _, open := <-messages:
			if !open {
				return
			}
			wake()
		}
	}
}
