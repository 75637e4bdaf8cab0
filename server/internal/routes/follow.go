package routes

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/changes"
	"github.com/tollgatehq/tollgate/server/internal/database"
	"github.com/tollgatehq/tollgate/server/internal/fault"
)

// reloadAll is how many changed routes take as long to read as all.
const reloadAll = 50

// present is what the database held when it was last read.
type present struct {
	table *Table
	err   error // why there is no table
}

// Table is all routes. The error is Unavailable before the log has started, and
// Internal when what is stored cannot be compiled: then nothing can be decided by a
// route.
func (s *Service) Table() (*Table, error) {
	p := s.present.Load()
	if p == nil {
		return nil, fault.New(fault.Unavailable, "STARTING", "the routes are not read yet; try again").After(time.Second)
	}
	return p.table, p.err
}

// Reset reads all routes again.
func (s *Service) Reset(ctx context.Context) error {
	list, err := allRoutes(ctx, s.db)
	if err != nil {
		return fmt.Errorf("read all routes: %w", err)
	}
	stored := make(map[string]Route, len(list))
	for _, r := range list {
		stored[r.Name] = r
	}
	s.stored = stored
	table, err := NewTable(list)
	if err != nil {
		// Only rows that another program wrote. Leaving a route out could give its
		// requests to a wider one. An error here would keep the whole instance from
		// answering, also those calls that mend it.
		err = fmt.Errorf("compile the routes: %v", err) //nolint:errorlint // not a fault of whoever asks for a decision
	}
	s.present.Store(&present{table, err})
	return nil
}

// Apply reads the routes that changed.
func (s *Service) Apply(ctx context.Context, list []changes.Change) error {
	var names []string
	for _, c := range list {
		if c.Kind == changes.Route {
			names = append(names, c.Subject)
		}
	}
	slices.Sort(names)
	names = slices.Compact(names)
	if len(names) == 0 {
		return nil
	}
	if len(names) >= reloadAll {
		return s.Reset(ctx)
	}
	stored := maps.Clone(s.stored)
	for _, name := range names {
		r, err := getRoute(ctx, s.db, name)
		switch {
		case errors.Is(err, database.ErrNoRows):
			delete(stored, name)
		case err != nil:
			return fmt.Errorf("read route %q again: %w", name, err)
		default:
			stored[name] = r
		}
	}
	table, err := NewTable(slices.Collect(maps.Values(stored)))
	if err != nil {
		// One of them may be newer than the changes, and in the place of a route
		// that has since left it.
		return s.Reset(ctx)
	}
	s.stored = stored
	s.present.Store(&present{table: table})
	return nil
}
