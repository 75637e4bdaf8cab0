// Package hold changes what the audit log keeps whatever its age. audit itself goes by it.
package hold

import (
	"context"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/tollgatehq/tollgate/server/internal/audit"
	"github.com/tollgatehq/tollgate/server/internal/changes"
	"github.com/tollgatehq/tollgate/server/internal/clock"
	"github.com/tollgatehq/tollgate/server/internal/database"
	"github.com/tollgatehq/tollgate/server/internal/fault"
	"github.com/tollgatehq/tollgate/server/internal/page"
	"github.com/tollgatehq/tollgate/server/internal/roles"
)

// Service makes, lists and deletes holds.
type Service struct {
	db    *database.DB
	log   *changes.Log
	clock clock.Clock
	pages page.Tokens
}

// New makes the service.
func New(db *database.DB, log *changes.Log, clk clock.Clock, pages page.Tokens) *Service {
	return &Service{db: db, log: log, clock: clk, pages: pages}
}

// The bounds of a hold's texts, in bytes, as events' texts have them; of its reason in
// characters.
const (
	nameSize     = 128
	resourceSize = 256
	reasonSize   = 256
)

// check returns the error of the first field that no hold can have. A text that is longer
// than that of any event would keep none.
func check(h audit.Hold) error {
	f := h.Filter
	switch {
	case !roles.ValidName(h.Name):
		return fault.Field("name", `must be a lower-case letter, then letters, digits, "-", "_" or ".", at most 64 in all`)
	case len(f.Actor) > nameSize:
		return fault.Field("actor", "must be at most %d bytes", nameSize)
	case len(f.Action) > nameSize:
		return fault.Field("action", "must be at most %d bytes", nameSize)
	case len(f.Resource) > resourceSize:
		return fault.Field("resource", "must be at most %d bytes", resourceSize)
	case utf8.RuneCountInString(h.Reason) > reasonSize:
		return fault.Field("reason", "must be at most %d characters", reasonSize)
	case !f.After.IsZero() && !f.Before.IsZero() && !f.After.Before(f.Before):
		return fault.Field("before", "must be later than after, or the hold keeps nothing")
	}
	return nil
}

// Create makes a hold. No event that it lets through is deleted after Create has returned.
func (s *Service) Create(ctx context.Context, h audit.Hold) (audit.Hold, error) {
	if err := check(h); err != nil {
		return audit.Hold{}, err
	}
	h.CreatedAt = s.clock.Stored()
	_, err := s.log.Write(ctx, func(ctx context.Context, tx *changes.Tx) error {
		e := event(ctx, audit.HoldCreate, h)
		if h.CreatedBy = e.ActorID; h.CreatedBy == "" {
			h.CreatedBy = e.ActorName
		}
		if err := audit.LockPruning(ctx, tx); err != nil {
			return err
		}
		err := audit.CreateHold(ctx, tx, h)
		switch {
		case errors.Is(err, database.ErrExists):
			return fault.New(fault.Exists, "HOLD_EXISTS", "a hold %q exists already; choose another name", h.Name)
		case errors.Is(err, audit.ErrTooManyHolds):
			return fault.New(fault.Precondition, "TOO_MANY_HOLDS", "there are as many holds as there may be; delete one that is not needed first")
		case err != nil:
			return fmt.Errorf("create hold %q: %w", h.Name, err)
		}
		tx.Record(e)
		return nil
	})
	return h, err
}

// List returns a page of holds by name, and the next page's token, empty on the last.
func (s *Service) List(ctx context.Context, size int32, token string) ([]audit.Hold, string, error) {
	return page.List(s.pages, "audit/holds", size, token, func(after string, n int) ([]audit.Hold, error) {
		return audit.ListHolds(ctx, s.db, after, n)
	}, func(h audit.Hold) string { return h.Name })
}

// Delete releases what a hold keeps.
func (s *Service) Delete(ctx context.Context, name string) error {
	_, err := s.log.Write(ctx, func(ctx context.Context, tx *changes.Tx) error {
		if err := audit.LockPruning(ctx, tx); err != nil {
			return err
		}
		h, err := audit.DeleteHold(ctx, tx, name)
		if errors.Is(err, database.ErrNoRows) {
			return fault.New(fault.NotFound, "HOLD_NOT_FOUND", "there is no hold %q; list the holds to see their names", name)
		}
		if err != nil {
			return fmt.Errorf("delete hold %q: %w", name, err)
		}
		tx.Record(event(ctx, audit.HoldDelete, h))
		return nil
	})
	return err
}

// event has what the hold says, so that it is on record after the hold is gone.
func event(ctx context.Context, action audit.Action, h audit.Hold) audit.Event {
	e := audit.New(ctx, action, audit.Success, "holds/"+h.Name)
	for key, value := range map[string]string{
		"actor": h.Filter.Actor, "action": h.Filter.Action, "resource": h.Filter.Resource,
		"after": text(h.Filter.After), "before": text(h.Filter.Before), "reason": h.Reason,
	} {
		if value != "" {
			e = e.With(key, value)
		}
	}
	return e
}

func text(at time.Time) string {
	if at.IsZero() {
		return ""
	}
	return at.UTC().Format(time.RFC3339Nano)
}
