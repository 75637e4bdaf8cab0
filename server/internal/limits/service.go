package limits

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/tollgatehq/tollgate/internal/perm"
	"github.com/tollgatehq/tollgate/server/internal/audit"
	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/changes"
	"github.com/tollgatehq/tollgate/server/internal/clock"
	"github.com/tollgatehq/tollgate/server/internal/database"
	"github.com/tollgatehq/tollgate/server/internal/fault"
	"github.com/tollgatehq/tollgate/server/internal/page"
	"github.com/tollgatehq/tollgate/server/internal/roles"
)

// Service keeps limits and counts calls against them. It is a
// changes.Follower: until the log has started it counts nothing and lets
// nothing pass.
type Service struct {
	db      *database.DB
	log     *changes.Log
	roles   *roles.Service
	clock   clock.Clock
	pages   page.Tokens
	backend Backend
	local   *Memory // counts while the backend cannot be reached

	observe func(where Counted, took time.Duration) // may be nil

	note func(audit.Event) bool // records without waiting; nil: not

	nearEnd func(Use) // may be nil

	findUser FindUser // nil: keys are taken as they are

	rules atomic.Pointer[rules]
}

// New makes the service. The caller has the log follow it.
func New(db *database.DB, log *changes.Log, r *roles.Service, clk clock.Clock, pages page.Tokens, backend Backend) *Service {
	return &Service{db: db, log: log, roles: r, clock: clk, pages: pages, backend: backend, local: NewMemory(clk)}
}

// Reset reads all limits again.
func (s *Service) Reset(ctx context.Context) error {
	list, err := allLimits(ctx, s.db)
	if err != nil {
		return fmt.Errorf("read all limits: %w", err)
	}
	all := compile(list)
	for _, r := range all.list {
		if r.windows != nil {
			r.windows.now = s.clock.Now
		}
	}
	s.rules.Store(all)
	return nil
}

// Apply reads all limits again when one of them changed: there are few, and
// they change seldom.
func (s *Service) Apply(ctx context.Context, list []changes.Change) error {
	if slices.ContainsFunc(list, func(c changes.Change) bool { return c.Kind == changes.Limit }) {
		return s.Reset(ctx)
	}
	return nil
}

// EnsureBuiltins adds the built-in limits that are missing and leaves the others
// as they are. Any number of instances may call it at once.
func (s *Service) EnsureBuiltins(ctx context.Context) error {
	_, err := s.log.Write(caller.System(ctx), func(ctx context.Context, tx *changes.Tx) error {
		for _, l := range builtins() {
			l.CreatedAt = s.clock.Stored()
			l.UpdatedAt = l.CreatedAt
			inserted, err := insertLimit(ctx, tx, l)
			if err != nil {
				return fmt.Errorf("add built-in limit %q: %w", l.Name, err)
			}
			if inserted {
				tx.Record(event(ctx, audit.LimitCreate, l).With("builtin", "true"))
				tx.Changed(changes.Limit, l.Name)
			}
		}
		return nil
	})
	return err
}

// Create adds a limit. It is in force on this instance when Create returns.
// Creating, changing, removing, checking or resetting one that covers calls of
// Tollgate's own API needs "*".
func (s *Service) Create(ctx context.Context, l Limit) (Limit, int64, error) {
	l, err := l.normal()
	if err != nil {
		return Limit{}, 0, err
	}
	if err := l.check(); err != nil {
		return Limit{}, 0, err
	}
	if err := s.roles.CheckCounted("permission", l.Permission); err != nil {
		return Limit{}, 0, err
	}
	l.Builtin = false
	l.CreatedAt = s.clock.Stored()
	l.UpdatedAt = l.CreatedAt
	revision, err := s.log.Write(ctx, func(ctx context.Context, tx *changes.Tx) (err error) {
		if err := s.mayManage(ctx, tx, l.Permission); err != nil {
			return err
		}
		if l.Overrides, err = s.resolveOverrides(ctx, tx, l, nil); err != nil {
			return err
		}
		others, err := lockOthers(ctx, tx, l.Name)
		if err != nil {
			return err
		}
		if len(others) >= maxLimits {
			return fault.New(fault.Precondition, "TOO_MANY_LIMITS",
				"there are %d limits, the most there can be; remove one that is not needed first", maxLimits)
		}
		if err := checkApplying(l, others); err != nil {
			return err
		}
		inserted, err := insertLimit(ctx, tx, l)
		if err != nil {
			return fmt.Errorf("create limit %q: %w", l.Name, err)
		}
		if !inserted {
			return fault.New(fault.Exists, "LIMIT_EXISTS", "a limit %q exists already; choose another name or update it", l.Name)
		}
		tx.Record(event(ctx, audit.LimitCreate, l))
		tx.Changed(changes.Limit, l.Name)
		return nil
	})
	return l, revision, err
}

// Get reads a limit from the database.
func (s *Service) Get(ctx context.Context, name string) (Limit, error) {
	l, err := getLimit(ctx, s.db, name)
	return l, limitError("read", name, err)
}

// List returns a page of limits by name, and the next page's token, empty on
// the last.
func (s *Service) List(ctx context.Context, size int32, token string) ([]Limit, string, error) {
	return page.List(s.pages, "limits", size, token, func(after string, n int) ([]Limit, error) {
		return listLimits(ctx, s.db, after, n)
	}, func(l Limit) string { return l.Name })
}

// Update changes a limit, built-in or not. What was counted stays counted
// unless the algorithm changes. A change to a window drops the bursts, which
// windows do not have.
func (s *Service) Update(ctx context.Context, name string, edit Edit) (Limit, int64, error) {
	if edit.ClearOverrides && len(edit.Overrides) > 0 {
		return Limit{}, 0, fault.Field("clearOverrides", "cannot be combined with overrides; give one of them")
	}
	if edit.empty() {
		return Limit{}, 0, fault.NothingToUpdate()
	}
	var l Limit
	revision, err := s.log.Write(ctx, func(ctx context.Context, tx *changes.Tx) error {
		others, err := lockOthers(ctx, tx, name)
		if err != nil {
			return err
		}
		before, err := lockLimit(ctx, tx, name)
		if err != nil {
			return limitError("update", name, err)
		}
		l, err = edit.apply(before).normal()
		if err != nil {
			return err
		}
		if err := s.mayManage(ctx, tx, before.Permission, l.Permission); err != nil {
			return err
		}
		if err := l.check(); err != nil {
			return err
		}
		if l.Overrides, err = s.resolveOverrides(ctx, tx, l, before.Overrides); err != nil {
			return err
		}
		if l.Permission != before.Permission {
			if err := s.roles.CheckCounted("permission", l.Permission); err != nil {
				return err
			}
			if err := checkApplying(l, others); err != nil {
				return err
			}
		}
		l.UpdatedAt = s.clock.Stored()
		if err := updateLimit(ctx, tx, l); err != nil {
			return fmt.Errorf("update limit %q: %w", name, err)
		}
		tx.Record(event(ctx, audit.LimitUpdate, l).With("before", allowance(before)))
		tx.Changed(changes.Limit, name)
		return nil
	})
	return l, revision, err
}

// Delete removes a limit and what it counted. Built-in ones are refused.
func (s *Service) Delete(ctx context.Context, name string) (int64, error) {
	return s.log.Write(ctx, func(ctx context.Context, tx *changes.Tx) error {
		l, err := lockLimit(ctx, tx, name)
		if err != nil {
			return limitError("delete", name, err)
		}
		if err := s.mayManage(ctx, tx, l.Permission); err != nil {
			return err
		}
		if l.Builtin {
			return fault.New(fault.Precondition, "BUILTIN_LIMIT",
				"the limit %q is built in and cannot be removed; update it instead, or restore it to its original values: tollgate recover limits restore %s", name, name)
		}
		if err := deleteLimit(ctx, tx, name); err != nil {
			return fmt.Errorf("delete limit %q: %w", name, err)
		}
		tx.Record(event(ctx, audit.LimitDelete, l))
		tx.Changed(changes.Limit, name)
		return nil
	})
}

// ResetAll forgets what a limit has counted, for every key and wherever it is
// counted: from now on it counts under another name.
func (s *Service) ResetAll(ctx context.Context, name string) (int64, error) {
	return s.log.Write(ctx, func(ctx context.Context, tx *changes.Tx) error {
		l, err := lockLimit(ctx, tx, name)
		if err != nil {
			return limitError("reset", name, err)
		}
		if err := s.mayManage(ctx, tx, l.Permission); err != nil {
			return err
		}
		if err := resetLimit(ctx, tx, name, s.clock.Micros()); err != nil {
			return fmt.Errorf("reset limit %q: %w", name, err)
		}
		tx.Record(audit.New(ctx, audit.LimitReset, audit.Success, "limits/"+name).With("keys", "all"))
		tx.Changed(changes.Limit, name)
		return nil
	})
}

// Restore gives a built-in limit its original values. What it has counted stays.
func (s *Service) Restore(ctx context.Context, name string) (Limit, error) {
	list := builtins()
	i := slices.IndexFunc(list, func(l Limit) bool { return l.Name == name })
	_, err := s.log.Write(ctx, func(ctx context.Context, tx *changes.Tx) error {
		before, err := lockLimit(ctx, tx, name)
		if err != nil {
			return limitError("restore", name, err)
		}
		if i < 0 || !before.Builtin {
			return fault.New(fault.Precondition, "NOT_BUILTIN",
				"the limit %q is not built in; remove it instead: tollgate recover limits delete %s", name, name)
		}
		if err := s.mayManage(ctx, tx, before.Permission, list[i].Permission); err != nil {
			return err
		}
		list[i].CreatedAt, list[i].UpdatedAt = before.CreatedAt, s.clock.Stored()
		if err := updateLimit(ctx, tx, list[i]); err != nil {
			return fmt.Errorf("restore limit %q: %w", name, err)
		}
		tx.Record(event(ctx, audit.LimitUpdate, list[i]).With("before", allowance(before)).With("restored", "true"))
		tx.Changed(changes.Limit, name)
		return nil
	})
	if err != nil {
		return Limit{}, err
	}
	return list[i], nil
}

// lockOthers returns all limits but one, and makes writers of limits wait for
// each other, so that the result holds until the commit.
func lockOthers(ctx context.Context, tx *changes.Tx, name string) ([]Limit, error) {
	if _, err := lockLimit(ctx, tx, firstBuiltin); err != nil && !errors.Is(err, database.ErrNoRows) {
		return nil, fmt.Errorf("wait for other writers of limits: %w", err)
	}
	list, err := allLimits(ctx, tx)
	if err != nil {
		return nil, fmt.Errorf("read all limits: %w", err)
	}
	rest := make([]Limit, 0, len(list))
	for _, l := range list {
		if l.Name != name {
			rest = append(rest, l)
		}
	}
	return rest, nil
}

// checkApplying refuses a limit with which more than maxApplying would count some
// call. The limits on one call cover each other like prefixes, so it is enough to
// check each limit's own pattern.
func checkApplying(l Limit, others []Limit) error {
	all := append([]Limit{l}, others...)
	for _, narrow := range all {
		if !perm.Covers(l.Permission, narrow.Permission) {
			continue
		}
		n := 0
		for _, wide := range all {
			if perm.Covers(wide.Permission, narrow.Permission) {
				n++
			}
		}
		if n > maxApplying {
			return fault.New(fault.Precondition, "TOO_MANY_LIMITS_APPLY",
				"more than %d limits would count calls of %q; remove one or narrow its permission", maxApplying, narrow.Permission)
		}
	}
	return nil
}

// event records what a limit is, or was.
func event(ctx context.Context, action audit.Action, l Limit) audit.Event {
	return audit.New(ctx, action, audit.Success, "limits/"+l.Name).
		With("subject", string(l.Subject)).With("allowance", allowance(l))
}

// allowance is a limit's terms in one line.
func allowance(l Limit) string {
	text := fmt.Sprintf("%s: %d per %s, burst %d, %s, %s, outage %s, %d overrides", l.Permission, l.Rate, l.Per(),
		l.AtOnce(), l.Algorithm, l.Mode, l.Outage, len(l.Overrides))
	if l.Lease {
		text += ", leases of " + l.LeaseTime.String()
	}
	return text
}

// limitError wraps the store's error about one limit; no rows are
// LIMIT_NOT_FOUND.
func limitError(verb, name string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, database.ErrNoRows):
		return missing(name)
	default:
		return fmt.Errorf("%s limit %q: %w", verb, name, err)
	}
}

func missing(name string) error {
	return fault.New(fault.NotFound, "LIMIT_NOT_FOUND", "there is no limit %q; list the limits to see their names", name)
}
