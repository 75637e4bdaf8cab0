// Package sinks takes the audit log elsewhere: to a file, a webhook, an S3 bucket, an
// OpenTelemetry collector. Each sink follows the log in the order of its leaves, with a
// cursor in the database, and every event arrives at least once.
package sinks

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/audit"
	"github.com/tollgatehq/tollgate/server/internal/clock"
	"github.com/tollgatehq/tollgate/server/internal/database"
)

// Batch is what is delivered at once. Until it is confirmed, the same batch is delivered
// again, by whichever instance: the receiver may know it by its leaves.
type Batch struct {
	Sink        string
	From, Until int64 // the leaves; those between that are missing were removed from the log
	Entries     []audit.Entry
	Repeated    bool // it may have been delivered before
}

// First and Last are the leaves of the first and the last event.
func (b *Batch) First() int64 { return b.Entries[0].Leaf }
func (b *Batch) Last() int64  { return b.Entries[len(b.Entries)-1].Leaf } //nolint:revive // see First

// Sink is where batches go. Its methods are called by one goroutine.
type Sink interface {
	// Deliver returns nil when the receiver has the whole batch for good. Its errors hold
	// no secret: they are logged.
	Deliver(ctx context.Context, b Batch) error
	Close() error
}

// Size bounds a batch.
type Size struct {
	Events int
	Bytes  int
	Linger time.Duration // how long fewer events wait for more
}

// Log is what sinks follow.
type Log interface {
	// Size is how many events the tree holds.
	Size(ctx context.Context) (int64, error)
	// Between returns the first events of a span, at most limit, and the leaf that the
	// next call begins at.
	Between(ctx context.Context, span audit.Span, limit int) (entries []audit.Entry, next int64, err error)
}

// Target is a configured sink.
type Target struct {
	Name string
	Size Size
	// FromEnd has a new sink begin with what is recorded from now on; else it begins
	// with all that the log still has.
	FromEnd bool
	Open    func() (Sink, error)

	path string // of a file; empty: it is none
}

// Options are what a Service needs.
type Options struct {
	DB      *database.DB
	Log     Log
	Targets []Target
	Clock   clock.Clock
	Logger  *slog.Logger
}

// Service drives the sinks.
type Service struct{ runners []*runner }

// New makes a Service. Run drives the sinks.
func New(o Options) *Service {
	s := &Service{}
	for _, target := range o.Targets {
		s.runners = append(s.runners, newRunner(o, target))
	}
	return s
}

// Run drives the sinks until ctx ends, and lets others go on then.
func (s *Service) Run(ctx context.Context) {
	var all sync.WaitGroup
	for _, r := range s.runners {
		all.Go(func() { r.run(ctx) })
	}
	all.Wait()
}

// Status is how a sink does. All but Failures is the same on every instance.
type Status struct {
	Name      string
	Lag       int64     // events of the tree that are not confirmed
	Confirmed time.Time // when the sink last had confirmed, or had nothing to confirm
	Skipped   int64     // events that were removed from the log before the sink had them, or that its receiver rejects
	Failing   bool      // the last attempt failed
	Failures  uint64    // attempts of this instance that failed
}

// Status is that of each sink.
func (s *Service) Status() []Status {
	all := make([]Status, len(s.runners))
	for i, r := range s.runners {
		all[i] = r.status()
	}
	return all
}
