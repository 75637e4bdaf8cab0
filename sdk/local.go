package tollgate

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/tollgatehq/tollgate/internal/perm"
)

// LocalConfig says how a client decides calls by itself; see [WithLocalDecisions].
// The zero value of a field is its default.
type LocalConfig struct {
	// FeedBound is how long ago the policy feed may have been heard last: 3 s by
	// default, and more than 1 s, because Tollgate sends a message every second. What
	// was taken away may still be allowed for so long after the connection is lost.
	FeedBound time.Duration
	// FailClosed makes Authorize fail with ErrUnavailable while the feed is older than
	// FeedBound. By default it asks Tollgate about each call then.
	FailClosed bool
	// MaxPrincipals is how many credentials are remembered: 50,000 by default. Each
	// takes about 1 KiB, more for users with many roles.
	MaxPrincipals int
	// Conditions has calls that grants with conditions decide allowed here, too, where
	// the answer is sure to be Tollgate's: conditions.Evaluator() of package
	// [github.com/tollgatehq/tollgate/sdk/conditions]. By default Tollgate is asked
	// about each. It takes the permission tollgate:policy:conditions: without it, all
	// calls are asked about.
	//
	// Known here are the principal but for its attributes, the action, the resource's
	// type and id, the attributes in the request, the context and the address. A
	// condition that reads anything else has Tollgate asked: the principal's
	// attributes, those of the resource that are not in the request, and the time,
	// since clocks differ. So has one that fails or cannot be compiled here. A decision
	// names the grant that allowed it, as Tollgate's does.
	Conditions Conditions
}

func (c *LocalConfig) check() error {
	if c.FeedBound == 0 {
		c.FeedBound = 3 * time.Second
	}
	if c.MaxPrincipals == 0 {
		c.MaxPrincipals = 50_000
	}
	switch {
	case c.FeedBound <= time.Second:
		return errors.New("tollgate: FeedBound must be longer than 1s")
	case c.MaxPrincipals < 100 || c.MaxPrincipals > 10_000_000:
		return errors.New("tollgate: MaxPrincipals must be from 100 to 10000000")
	}
	return nil
}

// WithLocalDecisions has [Client.Authorize], and what is built on it, allow calls in
// this process when they are sure to be allowed: about a caller whom Tollgate has
// verified within the last 5 minutes, by roles that need no condition (but see
// [LocalConfig]'s Conditions), within all limits that count the call. Everything else, and so every refusal, goes to Tollgate,
// which decides and records it, and so does each call that a recording (CreateRecording)
// matches. A change is in force here within a second.
//
// Limits let a call pass here when all that count it have lease set: the client leases
// calls of each key that had 8 within a second, as [Client.LeaseLimit] does, in the
// background, and lets those pass. The limits hold exactly as they do without. The
// Limits of such a decision are nil. At most 16,384 keys are remembered.
//
// From [New] on the client follows Tollgate's policy, for which it needs the
// permission tollgate:policy:watch besides tollgate:authorize; without it, it asks
// about each call. Without tollgate:limits:check it asks about each call that a limit
// counts. [Client.Close] ends that. The policy takes memory in proportion to
// the roles.
//
// Decisions about the same caller may be one value: do not change a [Decision] or its
// Principal.
//
// The client must have one account for as long as it lives: an API key, an access
// token or a [Session], and no other [TokenSource], which may give each call another
// credential.
func WithLocalDecisions(how LocalConfig) Option {
	err := how.check()
	return func(c *config) {
		c.local = &how
		if c.err == nil {
			c.err = err
		}
	}
}

// local decides calls by what it knows of Tollgate's policy.
type local struct {
	client *Client
	config LocalConfig

	*replica
	principals *principals
	leases     *leases

	stop    context.CancelFunc
	running sync.WaitGroup
}

func newLocal(client *Client, config LocalConfig) *local {
	ctx, stop := context.WithCancel(context.Background())
	l := &local{client: client, config: config, principals: newPrincipals(config.MaxPrincipals), stop: stop}
	l.leases = newLeases(ctx, client, l.running.Go)
	l.replica = newReplica(client, config, l.principals, l.leases)
	l.running.Go(func() { l.replica.run(ctx) })
	return l
}

func (l *local) close() {
	l.stop()
	l.leases.close()
	l.running.Wait()
	l.replica.lose()
}

// authorize decides, or asks and learns from the answer.
func (l *local) authorize(ctx context.Context, r AuthorizeRequest) (*Decision, error) {
	now := l.client.now()
	d, known := l.decide(&r, now)
	switch {
	case d != nil:
		return d, nil
	case !known && l.config.FailClosed:
		return nil, noAnswer("the feed of the policy is lost", nil)
	}
	asked := l.principals.begin(now)
	d, err := l.client.ask(ctx, r)
	if err == nil {
		l.principals.learn(&r, d, asked)
	}
	return d, err
}

// decide returns the decision when the call is sure to be allowed; known is false
// when the feed is lost.
func (l *local) decide(r *AuthorizeRequest, now time.Time) (d *Decision, known bool) {
	// The policy first: whom it concerns was dropped before it was stored.
	p := l.policy.Load()
	if p == nil || p.heard.age(now) > l.config.FeedBound {
		return nil, false
	}
	if !r.simple() || r.MinRevision > p.revision {
		return nil, true
	}
	who := l.principals.find(r)
	if who == nil || who.revision > p.revision || who.learnt.age(now) >= who.goodFor {
		return nil, true
	}
	q := question{who: who}
	if len(r.ResourceAttributes)+len(r.ActionProperties) > 0 && (l.config.Conditions == nil || !q.describe(r)) {
		return nil, true
	}
	// The limits last: what was taken is not given back.
	by, sure := p.may(&q, r)
	if !sure || !r.Recheck && !l.within(p, who, r, now) {
		return nil, true
	}
	return who.decisionBy(p.revision, by), true
}

// within reports whether the limits that count the call let it pass here, and counts
// it then.
func (l *local) within(p *policy, who *known, r *AuthorizeRequest, now time.Time) bool {
	of := p.countingOf(who, r)
	return l.leases.pass(&of, who, r, now)
}

const (
	maxCost      = 1_000_000
	maxNamed     = 16
	maxPairs     = 32
	maxPairKey   = 64
	maxPairValue = 256
	anyAction    = "authenticated" // what limits match when a call names no permission
)

// simple reports whether Tollgate would take the request, but for its attributes. It
// is stricter than Tollgate where that is cheaper.
func (r *AuthorizeRequest) simple() bool {
	if (r.Credential == "") == (r.UserID == "") || r.Cost < 0 || r.Cost > maxCost || r.MinRevision < 0 ||
		len(r.Context) > maxPairs {
		return false
	}
	for key, value := range r.Context {
		if key == "" || len(key) > maxPairKey || len(value) > maxPairValue || !utf8.ValidString(key) || !utf8.ValidString(value) {
			return false
		}
	}
	named := len(r.AnyOf) + len(r.AllOf)
	if named == 0 {
		return r.Permission == "" && (r.Authenticated || r.SelfOnly) || asks(r.Permission)
	}
	if r.Permission != "" || r.Authenticated || r.SelfOnly || len(r.AnyOf) > 0 && len(r.AllOf) > 0 || named > maxNamed {
		return false
	}
	for _, list := range [...][]string{r.AnyOf, r.AllOf} {
		for i, permission := range list {
			if !asks(permission) || slices.Contains(list[:i], permission) {
				return false
			}
		}
	}
	return true
}

// asks reports whether Authorize may be asked about a permission.
func asks(permission string) bool {
	return perm.IsPermission(permission) && !strings.HasPrefix(permission, "tollgate:")
}

// WaitPolicy returns when this client decides by everything up to this revision of
// the change log, the one in the answer of the call that changed something; 0 waits
// until it decides calls by itself at all. The error is that of ctx. Without
// [WithLocalDecisions] it returns at once.
func (c *Client) WaitPolicy(ctx context.Context, revision int64) error {
	if c.local == nil {
		return nil
	}
	return c.local.wait(ctx, revision)
}

// Close ends what [WithLocalDecisions] began: from then on the client asks about each
// call.
func (c *Client) Close() {
	if c.local != nil {
		c.local.close()
	}
}
