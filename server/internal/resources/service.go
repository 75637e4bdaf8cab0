package resources

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/attributes"
	"github.com/tollgatehq/tollgate/server/internal/audit"
	"github.com/tollgatehq/tollgate/server/internal/changes"
	"github.com/tollgatehq/tollgate/server/internal/clock"
	"github.com/tollgatehq/tollgate/server/internal/database"
	"github.com/tollgatehq/tollgate/server/internal/fault"
	"github.com/tollgatehq/tollgate/server/internal/page"
)

// Service keeps the resources. It is a changes.Follower.
type Service struct {
	db    *database.DB
	log   *changes.Log
	clock clock.Clock
	pages page.Tokens
	kept  *changes.Cache[key, *attributes.Kept] // nil also for a resource that there is not
}

// New makes the service. The caller has the log follow it.
func New(db *database.DB, log *changes.Log, clk clock.Clock, pages page.Tokens) *Service {
	return &Service{
		db: db, log: log, clock: clk, pages: pages,
		kept: changes.NewWeighedCache[key](cachedWeight, (*attributes.Kept).Weight),
	}
}

// Attributes are those of a resource, nil when there is none. They are shared: do not
// change them. When warm, it does no I/O; call changes.Log.Ensure before.
func (s *Service) Attributes(ctx context.Context, kind, id string) (map[string]any, error) {
	k := key{kind, id}
	if !k.valid() {
		return nil, nil
	}
	kept, err := s.kept.Get(ctx, k, func(ctx context.Context) (*attributes.Kept, error) {
		text, err := getAttributes(ctx, s.db, k)
		switch {
		case errors.Is(err, database.ErrNoRows):
			return nil, nil
		case err != nil:
			return nil, err
		}
		return attributes.Keep(text)
	})
	if err != nil {
		return nil, fmt.Errorf("read the attributes of a resource: %w", err)
	}
	return kept.Values(), nil
}

// Reset forgets all resources.
func (s *Service) Reset(context.Context) error {
	s.kept.Clear()
	return nil
}

// Apply forgets the resources that changed.
func (s *Service) Apply(_ context.Context, list []changes.Change) error {
	for _, c := range list {
		if c.Kind == changes.Resource {
			s.kept.Invalidate(keyOf(c.Subject))
		}
	}
	return nil
}

// Put registers a resource, or replaces all of its attributes, and says whether it
// was registered. They are in force on this instance when Put returns.
func (s *Service) Put(ctx context.Context, kind, id string, values map[string]any) (r Resource, created bool, revision int64, err error) {
	k := key{kind, id}
	if err := k.check(); err != nil {
		return Resource{}, false, 0, err
	}
	text, err := attributes.Encode("attributes", values)
	if err != nil {
		return Resource{}, false, 0, err
	}
	revision, err = s.log.Write(ctx, func(ctx context.Context, tx *changes.Tx) error {
		now := s.clock.Micros()
		was, err := lockResource(ctx, tx, k, now)
		if err != nil {
			return fmt.Errorf("lock resource: %w", err)
		}
		var before map[string]any
		if created = was.Attributes == ""; !created {
			if before, err = attributes.Decode(was.Attributes); err != nil {
				before = nil // what cannot be read can be replaced
			}
		}
		if err := updateResource(ctx, tx, k, text, now); err != nil {
			return fmt.Errorf("put resource: %w", err)
		}
		r = Resource{Type: kind, ID: id, Attributes: values, CreatedAt: micros(was.CreatedAt), UpdatedAt: micros(now)}
		e := event(ctx, audit.ResourcePut, r, before, values)
		if created {
			e = e.With("created", "true")
		}
		tx.Record(e)
		tx.Changed(changes.Resource, r.Name())
		return nil
	})
	return r, created, revision, err
}

// Get reads a resource from the database.
func (s *Service) Get(ctx context.Context, kind, id string) (Resource, error) {
	r, err := getResource(ctx, s.db, key{kind, id})
	return r, resourceError("read", kind, id, err)
}

// cursor is the last resource of a page.
type cursor struct{ Type, ID string }

// List returns a page of resources by type and id, of one type unless it is empty,
// and the next page's token, empty on the last.
func (s *Service) List(ctx context.Context, kind string, size int32, token string) ([]Resource, string, error) {
	if kind != "" && !validType(kind) {
		return nil, "", key{kind, "any"}.check()
	}
	return page.List(s.pages, "resources "+kind, size, token, func(after cursor, n int) ([]Resource, error) {
		return listResources(ctx, s.db, kind, after, n)
	}, func(r Resource) cursor { return cursor{r.Type, r.ID} })
}

// After returns up to n resources of a type after an id, by id.
func (s *Service) After(ctx context.Context, kind, id string, n int) ([]Resource, error) {
	if !validType(kind) {
		return nil, nil
	}
	return listResources(ctx, s.db, kind, cursor{kind, id}, n)
}

// Delete removes a resource.
func (s *Service) Delete(ctx context.Context, kind, id string) (int64, error) {
	return s.log.Write(ctx, func(ctx context.Context, tx *changes.Tx) error {
		r, err := deleteResource(ctx, tx, key{kind, id})
		if err != nil {
			return resourceError("delete", kind, id, err)
		}
		tx.Record(event(ctx, audit.ResourceDelete, r, r.Attributes, nil))
		tx.Changed(changes.Resource, r.Name())
		return nil
	})
}

func micros(at int64) time.Time { return time.UnixMicro(at).UTC() }

// event records which attributes of a resource changed, without their values.
func event(ctx context.Context, action audit.Action, r Resource, before, after map[string]any) audit.Event {
	return audit.New(ctx, action, audit.Success, "resources/"+r.Name()).
		With("id", r.ID). // the event's resource may be cut
		With("attributes", attributes.Changed(before, after))
}

// resourceError wraps the store's error about one resource; no rows are
// RESOURCE_NOT_FOUND.
func resourceError(verb, kind, id string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, database.ErrNoRows):
		return fault.New(fault.NotFound, "RESOURCE_NOT_FOUND",
			"there is no resource %q of the type %q; list the resources of the type to see their ids", id, kind)
	default:
		return fmt.Errorf("%s resource: %w", verb, err)
	}
}
