package audit

import (
	"context"
	"fmt"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/database"
)

// Span is a part of the tree: leaves From to Until, which is not in it, of events at or
// after After and before Before, each unless it is zero.
type Span struct {
	From, Until   int64
	After, Before time.Time
}

// spanAtOnce is how many leaves one statement looks at: finding few events by their time
// among many stays far below a statement's deadline.
const spanAtOnce = 50_000

// Size is how many events the tree holds.
func (s *Service) Size(ctx context.Context) (int64, error) {
	var size int64
	if err := s.db.Get(ctx, &size, `SELECT size FROM audit_head`); err != nil {
		return 0, fmt.Errorf("read the size of the audit tree: %w", err)
	}
	return size, nil
}

// Between returns the first events of a span in the order of their leaves, at most
// limit, and the leaf that the next call begins at, Until when there are no more. Events
// that were removed are left out.
func (s *Service) Between(ctx context.Context, span Span, limit int) (entries []Entry, next int64, err error) {
	next = min(span.From+spanAtOnce, span.Until)
	var q query
	where := "leaf >= " + q.arg(span.From) + " AND leaf < " + q.arg(next)
	if at := bound(span.After); at != nil {
		where += " AND time >= " + q.arg(*at)
	}
	if at := bound(span.Before); at != nil {
		where += " AND time < " + q.arg(*at)
	}
	// No statement looks for the events of more leaves, also when they are all gone.
	leaves := `(SELECT leaf, salt, event_id, time FROM audit_leaves WHERE ` + where + ` ORDER BY leaf LIMIT ` + q.arg(limit) + `)`
	entries, err = database.Select(ctx, s.db, func(r entryRow) (Entry, error) {
		return Entry{r.Leaf, r.Salt, r.event()}, nil
	}, `SELECT `+entryColumns+` FROM `+entriesFrom(s.db.Dialect, leaves)+` ORDER BY l.leaf`, q.args...)
	if err == nil && len(entries) < limit {
		next, err = s.lastOf(ctx, leaves, q.args, limit, next)
	}
	if err != nil {
		return nil, span.From, fmt.Errorf("read the audit log from leaf %d on: %w", span.From, err)
	}
	if len(entries) == limit {
		next = entries[limit-1].Leaf + 1
	}
	return entries, next, nil
}

// lastOf is the leaf after those of which some have no event any more, or end when they
// are all there are.
func (s *Service) lastOf(ctx context.Context, leaves string, args []any, limit int, end int64) (int64, error) {
	var read struct {
		Count int   `db:"count"`
		Next  int64 `db:"next"`
	}
	err := s.db.Get(ctx, &read, `SELECT COUNT(*) AS count, COALESCE(MAX(l.leaf), 0) + 1 AS next FROM `+leaves+` AS l`, args...)
	if err != nil || read.Count < limit {
		return end, err
	}
	return read.Next, nil
}
