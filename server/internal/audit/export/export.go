// Package export writes the audit log as lines for other programs: NDJSON, CSV and
// OCSF, in the order of the log, with each event's leaf.
package export

import (
	"context"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/audit"
	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/fault"
	"github.com/tollgatehq/tollgate/server/internal/inflight"
)

// Format is what an event looks like.
type Format string

// The formats.
const (
	NDJSON Format = "ndjson" // a JSON object a line, as the API shows an event, and its leaf
	CSV    Format = "csv"    // RFC 4180, with a header
	OCSF   Format = "ocsf"   // a JSON object a line, an event of OCSF
)

// Formats are all there are.
func Formats() []Format { return []Format{NDJSON, CSV, OCSF} }

// ContentType is the media type of lines of the format; headed says whether the header
// is among them.
func (f Format) ContentType(headed bool) string {
	switch {
	case f == CSV && headed: // RFC 4180 §3
		return "text/csv; charset=utf-8; header=present"
	case f == CSV:
		return "text/csv; charset=utf-8; header=absent"
	default:
		return "application/x-ndjson"
	}
}

// Query says which events, in which form.
type Query struct {
	Format Format // "": NDJSON
	After  time.Time
	Before time.Time
	From   int64 // the first leaf; more than 0: no header
}

// Part is a part of an export.
type Part struct {
	Lines    []byte // whole ones; the receiver does not keep them
	Next     int64  // every wanted event before this leaf has been sent
	End      int64  // the leaf before which the export ends
	Complete bool   // this is the last part, and nothing is missing
}

// Log is what is exported.
type Log interface {
	// Size is how many events the tree holds.
	Size(ctx context.Context) (int64, error)
	// Between returns the first events of a span, at most limit, and the leaf that
	// the next call begins at.
	Between(ctx context.Context, span audit.Span, limit int) (entries []audit.Entry, next int64, err error)
}

const (
	// partSize is about how many bytes of lines go out at once.
	partSize = 64 << 10
	// readAtOnce is how many events are read at once. Two such lists are in memory.
	readAtOnce = 500
	// atOnce is how many exports run on one instance. One caller gets half of them.
	atOnce = 4
)

// Service exports a log.
type Service struct {
	log     Log
	running *inflight.Limiter[string] // by user id
	version string
}

// New makes a Service. The version is the program's, which OCSF events name.
func New(log Log, version string) *Service {
	return &Service{log: log, running: inflight.New[string](atOnce), version: version}
}

// list is what one read gave.
type list struct {
	entries []audit.Entry
	next    int64
	err     error
}

// Export sends the events of the query that the tree holds now, in the order of the
// log. It stops at the first error of send, and when ctx ends with its cause. It is
// Limited, TOO_MANY_EXPORTS, when as many run as may.
func (s *Service) Export(ctx context.Context, q Query, send func(Part) error) error {
	user := caller.From(ctx).UserID()
	if !s.running.Acquire(user, 1) {
		return fault.New(fault.Limited, "TOO_MANY_EXPORTS",
			"this instance has as many exports of yours under way as it takes; wait for one, or ask another instance").After(5 * time.Second)
	}
	defer s.running.Release(user, 1)

	end, err := s.log.Size(ctx)
	if err != nil {
		return fault.Down("the audit log", err)
	}
	part := Part{Next: q.From, End: end}
	write := Writer(q.Format, s.version)
	if q.Format == CSV && q.From == 0 {
		part.Lines = append(part.Lines, csvHeader...)
	}
	flush := func() error {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		err := send(part)
		part.Lines = part.Lines[:0]
		return err
	}
	// The first part goes out before anything is read: the export has begun.
	if err := flush(); err != nil {
		return err
	}
	part.Lines = make([]byte, 0, partSize+partSize/4)
	for l := range s.read(ctx, audit.Span{From: q.From, Until: end, After: q.After, Before: q.Before}) {
		if l.err != nil {
			return l.err
		}
		for i := range l.entries {
			part.Lines = write(part.Lines, &l.entries[i])
			part.Next = l.entries[i].Leaf + 1
			if len(part.Lines) < partSize {
				continue
			}
			if err := flush(); err != nil {
				return err
			}
		}
		part.Next = l.next
		if len(l.entries) == 0 { // nothing was wanted there: that is known, too
			if err := flush(); err != nil {
				return err
			}
		}
	}
	part.Next, part.Complete = max(end, q.From), true
	return flush()
}

// read gives the lists of a span, and reads the next one meanwhile.
func (s *Service) read(ctx context.Context, span audit.Span) func(yield func(list) bool) {
	return func(yield func(list) bool) {
		ctx, cancel := context.WithCancel(ctx)
		lists := make(chan list)
		go func() {
			defer close(lists)
			for span.From < span.Until {
				var l list
				if l.entries, l.next, l.err = s.log.Between(ctx, span, readAtOnce); l.err != nil && ctx.Err() == nil {
					l.err = fault.Down("the audit log", l.err)
				}
				span.From = l.next
				select {
				case lists <- l:
				case <-ctx.Done():
					return
				}
				if l.err != nil {
					return
				}
			}
		}()
		defer func() {
			cancel()
			for range lists { // the reader has ended when this does
			}
		}()
		for l := range lists {
			if ctx.Err() != nil || !yield(l) {
				return
			}
		}
	}
}

// Writer returns what appends an event's line in a format. The version is the program's.
func Writer(f Format, version string) func(out []byte, e *audit.Entry) []byte {
	switch f {
	case CSV:
		return appendCSV
	case OCSF:
		product := appendProduct(nil, version)
		return func(out []byte, e *audit.Entry) []byte { return appendOCSF(out, e, product) }
	default:
		return AppendNDJSON
	}
}
