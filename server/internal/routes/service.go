package routes

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/tollgatehq/tollgate/server/internal/audit"
	"github.com/tollgatehq/tollgate/server/internal/changes"
	"github.com/tollgatehq/tollgate/server/internal/clock"
	"github.com/tollgatehq/tollgate/server/internal/database"
	"github.com/tollgatehq/tollgate/server/internal/fault"
	"github.com/tollgatehq/tollgate/server/internal/page"
)

// Service keeps the routes. It is a changes.Follower: until the log has started it
// matches nothing.
type Service struct {
	db    database.Queries
	log   *changes.Log
	clock clock.Clock
	pages page.Tokens

	stored  map[string]Route // as last read; only Reset and Apply use it
	present atomic.Pointer[present]
}

// New makes the service. The caller has the log follow it.
func New(db *database.DB, log *changes.Log, clk clock.Clock, pages page.Tokens) *Service {
	return &Service{db: db, log: log, clock: clk, pages: pages}
}

// Edit is a change of a route: what is set.
type Edit struct {
	Description   *string
	Host          *string
	Methods       []string // replace all, when not empty
	ClearMethods  bool
	Path          *string
	Permission    *string
	Authenticated *bool
	Public        *bool
	Resource      *string
	Cost          *int64
	Upstream      *string
	Context       map[string]string // replaces all, when not empty
	ClearContext  bool
}

// Create adds a route. It is in force on this instance when Create returns.
func (s *Service) Create(ctx context.Context, r Route) (Route, int64, error) {
	r, err := r.Normal()
	if err != nil {
		return Route{}, 0, err
	}
	r.CreatedAt = s.clock.Stored()
	r.UpdatedAt = r.CreatedAt
	revision, err := s.log.Write(ctx, func(ctx context.Context, tx *changes.Tx) error {
		if err := lockWriters(ctx, tx); err != nil {
			return err
		}
		if err := checkTotal(ctx, tx, r); err != nil {
			return err
		}
		shape, err := checkAlone(ctx, tx, r)
		if err != nil {
			return err
		}
		err = insertRoute(ctx, tx, r, shape)
		if errors.Is(err, database.ErrExists) {
			return fault.New(fault.Exists, "ROUTE_EXISTS", "a route %q exists already; choose another name or update it", r.Name)
		}
		if err != nil {
			return fmt.Errorf("create route %q: %w", r.Name, err)
		}
		tx.Record(event(ctx, audit.RouteCreate, r))
		tx.Changed(changes.Route, r.Name)
		return nil
	})
	return r, revision, err
}

// checkTotal refuses a route that does not fit beside the others: every
// instance must be able to read all in the time that a statement may take. The
// transaction holds the writers' lock.
func checkTotal(ctx context.Context, tx *changes.Tx, r Route) error {
	n, size, err := total(ctx, tx, r.Name)
	switch {
	case err != nil:
		return fmt.Errorf("count routes: %w", err)
	case n >= maxRoutes:
		return fault.New(fault.Precondition, "TOO_MANY_ROUTES",
			"there are %d routes, the most there can be; remove one that is not needed first", n)
	case size+r.size() > maxTotal:
		return fault.New(fault.Precondition, "TOO_MANY_ROUTES",
			"all routes together may have %d characters; shorten descriptions and contexts, or remove a route that is not needed", maxTotal)
	}
	return nil
}

// checkAlone refuses a route that takes requests of another one, in a transaction
// that holds the writers' lock. It returns the route's shape.
func checkAlone(ctx context.Context, tx *changes.Tx, r Route) (shape string, err error) {
	path, err := parseTemplate(r.Path)
	if err != nil {
		return "", err
	}
	shape = r.Host + path.shape()
	others, err := shapedRoutes(ctx, tx, shape, r.Name)
	if err != nil {
		return "", fmt.Errorf("read the routes of a shape: %w", err)
	}
	for i := range others {
		o := &others[i]
		if len(r.Methods) == 0 && len(o.Methods) == 0 ||
			slices.ContainsFunc(r.Methods, func(m string) bool { return slices.Contains(o.Methods, m) }) {
			return "", conflict(&r, o)
		}
	}
	return shape, nil
}

// Get reads a route from the database.
func (s *Service) Get(ctx context.Context, name string) (Route, error) {
	r, err := getRoute(ctx, s.db, name)
	return r, routeError("read", name, err)
}

// List returns a page of routes by name, and the next page's token, empty on the
// last.
func (s *Service) List(ctx context.Context, size int32, token string) ([]Route, string, error) {
	return page.List(s.pages, "routes", size, token, func(after string, n int) ([]Route, error) {
		return listRoutes(ctx, s.db, after, n)
	}, func(r Route) string { return r.Name })
}

// Update changes a route. The route that results must be one that Create takes.
func (s *Service) Update(ctx context.Context, name string, edit Edit) (Route, int64, error) {
	switch {
	case edit.ClearMethods && len(edit.Methods) > 0:
		return Route{}, 0, fault.Field("clearMethods", "cannot be combined with methods; give one of them")
	case edit.ClearContext && len(edit.Context) > 0:
		return Route{}, 0, fault.Field("clearContext", "cannot be combined with context; give one of them")
	case edit.empty():
		return Route{}, 0, fault.NothingToUpdate()
	}
	var r Route
	revision, err := s.log.Write(ctx, func(ctx context.Context, tx *changes.Tx) error {
		if err := lockWriters(ctx, tx); err != nil {
			return err
		}
		before, err := getRoute(ctx, tx, name)
		if err != nil {
			return routeError("update", name, err)
		}
		if r, err = edit.apply(before).Normal(); err != nil {
			return err
		}
		shape, err := checkAlone(ctx, tx, r)
		if err != nil {
			return err
		}
		if r.size() > before.size() {
			if err := checkTotal(ctx, tx, r); err != nil {
				return err
			}
		}
		r.UpdatedAt = s.clock.Stored()
		if err := updateRoute(ctx, tx, r, shape); err != nil {
			return fmt.Errorf("update route %q: %w", name, err)
		}
		e, was := event(ctx, audit.RouteUpdate, r), details(before)
		for _, key := range slices.Sorted(maps.Keys(was)) {
			if was[key] != e.Details[key] {
				e = e.With(key+"_before", was[key])
			}
		}
		tx.Record(e)
		tx.Changed(changes.Route, name)
		return nil
	})
	return r, revision, err
}

func (e Edit) empty() bool {
	return e.Description == nil && e.Host == nil && len(e.Methods) == 0 && !e.ClearMethods && e.Path == nil &&
		e.Permission == nil && e.Authenticated == nil && e.Public == nil && e.Resource == nil && e.Cost == nil &&
		e.Upstream == nil && len(e.Context) == 0 && !e.ClearContext
}

func (e Edit) apply(r Route) Route {
	set(&r.Description, e.Description)
	set(&r.Host, e.Host)
	set(&r.Path, e.Path)
	set(&r.Permission, e.Permission)
	set(&r.Authenticated, e.Authenticated)
	set(&r.Public, e.Public)
	set(&r.Resource, e.Resource)
	set(&r.Cost, e.Cost)
	set(&r.Upstream, e.Upstream)
	if len(e.Methods) > 0 || e.ClearMethods {
		r.Methods = e.Methods
	}
	if len(e.Context) > 0 || e.ClearContext {
		r.Context = e.Context
	}
	return r
}

func set[T any](field *T, value *T) {
	if value != nil {
		*field = *value
	}
}

// Delete removes a route.
func (s *Service) Delete(ctx context.Context, name string) (int64, error) {
	return s.log.Write(ctx, func(ctx context.Context, tx *changes.Tx) error {
		if err := lockWriters(ctx, tx); err != nil {
			return err
		}
		r, err := getRoute(ctx, tx, name)
		if err != nil {
			return routeError("delete", name, err)
		}
		if err := deleteRoute(ctx, tx, name); err != nil {
			return fmt.Errorf("delete route %q: %w", name, err)
		}
		tx.Record(event(ctx, audit.RouteDelete, r))
		tx.Changed(changes.Route, name)
		return nil
	})
}

// event records what a route is, or was.
func event(ctx context.Context, action audit.Action, r Route) audit.Event {
	e := audit.New(ctx, action, audit.Success, "routes/"+r.Name)
	e.Details = details(r)
	return e
}

// details are everything about a route that matching and deciding go by.
func details(r Route) map[string]string {
	methods := "all"
	if len(r.Methods) > 0 {
		methods = strings.Join(r.Methods, ",")
	}
	needs := "permission"
	switch {
	case r.Public:
		needs = "nothing"
	case r.Authenticated:
		needs = "credential"
	}
	d := map[string]string{"host": r.Host, "methods": methods, "path": r.Path, "needs": needs, "permission": r.Permission}
	for key, value := range map[string]string{"resource": r.Resource, "upstream": r.Upstream} {
		if value != "" {
			d[key] = value
		}
	}
	if r.Cost > 0 {
		d["cost"] = strconv.FormatInt(r.Cost, 10)
	}
	if len(r.Context) > 0 {
		d["context"] = facts(r.Context)
	}
	return d
}

// routeError wraps the store's error about one route; no rows are ROUTE_NOT_FOUND.
func routeError(verb, name string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, database.ErrNoRows):
		return fault.New(fault.NotFound, "ROUTE_NOT_FOUND", "there is no route %q; list the routes to see their names", name)
	default:
		return fmt.Errorf("%s route %q: %w", verb, name, err)
	}
}
