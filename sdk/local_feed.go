package tollgate

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"
	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
)

const (
	maxPolicyMessage = 4 << 20  // bytes; Tollgate sends much less
	maxPolicy        = 64 << 20 // bytes of all roles and limits that are kept
)

// instant is a time by two clocks: one that nobody sets, and one that goes on while
// the machine sleeps.
type instant struct {
	at   time.Time
	wall int64
}

func instantOf(now time.Time) instant { return instant{now, now.UnixNano()} }

// age is the longer of the two ways to measure.
func (i instant) age(now time.Time) time.Duration {
	return max(now.Sub(i.at), time.Duration(now.UnixNano()-i.wall))
}

// replica follows Tollgate's policy.
type replica struct {
	client     *Client
	bound      time.Duration
	engine     Conditions // nil: conditions are not asked for
	principals *principals
	leases     *leases

	policy atomic.Pointer[policy] // nil: not known

	mu      sync.Mutex
	changed chan struct{} // closed by the next message
}

func newReplica(client *Client, config LocalConfig, p *principals, l *leases) *replica {
	return &replica{client: client, bound: config.FeedBound, engine: config.Conditions, principals: p, leases: l, changed: make(chan struct{})}
}

// lose forgets the policy.
func (f *replica) lose() { f.policy.Store(nil) }

// wait returns when everything up to revision is known.
func (f *replica) wait(ctx context.Context, revision int64) error {
	for {
		f.mu.Lock()
		changed := f.changed
		f.mu.Unlock()
		if p := f.policy.Load(); p != nil && p.revision >= revision {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// run follows the feed until ctx ends.
func (f *replica) run(ctx context.Context) {
	keepFollowing(ctx, f.client.log, "the feed of the policy", f.follow)
}

// follow applies the messages of one stream until it ends or is silent for too long.
func (f *replica) follow(ctx context.Context) (received bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	watchdog := time.AfterFunc(f.bound, cancel)
	defer watchdog.Stop()
	stream, err := f.client.policies.WatchPolicy(ctx, &tollgatev1.WatchPolicyRequest{Conditions: f.engine != nil})
	if err != nil {
		return false, f.ended(err)
	}
	defer stream.Close()
	var next *policy // nil: the snapshot has not begun
	fresh := false   // the snapshot is not in force yet
	for stream.Receive() {
		m := stream.Msg()
		switch {
		case m.GetSnapshot():
			next, fresh = &policy{engine: f.engine}, true
		case next == nil:
			return received, errors.New("the stream does not begin with a snapshot")
		}
		if next = next.with(m); next.size > maxPolicy {
			f.lose()
			return received, errors.New("the policy is more than can be kept; each call is asked about")
		}
		watchdog.Reset(f.bound)
		if !m.GetPartial() {
			f.publish(next, m, fresh)
			received, fresh = true, false
		}
	}
	return received, f.ended(stream.Err())
}

// ended is why a stream ended. Who may not watch knows nothing from then on.
func (f *replica) ended(err error) error {
	switch connect.CodeOf(err) {
	case connect.CodePermissionDenied, connect.CodeUnauthenticated, connect.CodeUnimplemented:
		f.lose()
	}
	if err == nil {
		return errFeedEnded
	}
	return err
}

// publish puts a policy in force after everybody whom the message is about was
// dropped.
func (f *replica) publish(next *policy, m *tollgatev1.WatchPolicyResponse, first bool) {
	next.heard = instantOf(f.client.now())
	if next.revision = m.GetRevision(); first {
		f.policy.Store(nil) // the new one may be older
		f.principals.restart(next.revision)
	} else {
		f.principals.forget(m)
	}
	f.policy.Store(next)
	if first || len(m.GetLimits())+len(m.GetRemovedLimits()) > 0 {
		f.leases.keep(next, first)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	close(f.changed)
	f.changed = make(chan struct{})
}
