package roles

import (
	"context"
	"errors"
	"fmt"
	"strings"
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
)

// Service keeps roles and who holds them. It is a changes.Follower: until the
// log has started it grants nothing.
type Service struct {
	db    *database.DB
	log   *changes.Log
	clock clock.Clock
	pages page.Tokens

	declared Declared

	policy atomic.Pointer[Policy]
	held   *changes.Cache[string, held]
}

// New makes the service. Follow it with the log.
func New(db *database.DB, log *changes.Log, clk clock.Clock, pages page.Tokens) *Service {
	s := &Service{db: db, log: log, clock: clk, pages: pages, held: changes.NewCache[string, held](cachedUsers)}
	s.policy.Store(NewPolicy(nil))
	return s
}

// EnsureBuiltins makes the built-in roles what this version says they are. It
// writes only what differs, and any number of instances may call it at once.
func (s *Service) EnsureBuiltins(ctx context.Context) error {
	_, err := s.log.Write(caller.System(ctx), func(ctx context.Context, tx *changes.Tx) error {
		for _, r := range builtins {
			changed, err := upsertBuiltin(ctx, tx, r, s.clock.Micros())
			if err != nil {
				return fmt.Errorf("write built-in role %q: %w", r.Name, err)
			}
			if changed {
				tx.Record(audit.New(ctx, audit.RoleCreate, audit.Success, "roles/"+r.Name).
					With("permissions", database.JSON(r.Permissions)).With("builtin", "true"))
				tx.Changed(changes.Role, r.Name)
			}
		}
		return nil
	})
	return err
}

// Create adds a role with a name, a description, permissions, grants and roles that
// it inherits. The caller must hold all of them, and without an end: a role has
// none. Names that start with "tollgate" are refused.
func (s *Service) Create(ctx context.Context, r Role) (Role, int64, error) {
	name := r.Name
	if err := s.checkNew(r); err != nil {
		return Role{}, 0, err
	}
	r.Permissions, r.Inherits, r.Builtin = perm.Tidy(r.Permissions), perm.Tidy(r.Inherits), false
	r.CreatedAt = s.clock.Stored()
	r.UpdatedAt = r.CreatedAt
	revision, err := s.log.Write(ctx, func(ctx context.Context, tx *changes.Tx) error {
		// Creations wait for each other, so that the count is exact.
		if _, err := lockRole(ctx, tx, Administrator); err != nil && !errors.Is(err, database.ErrNoRows) {
			return fmt.Errorf("wait for other creations: %w", err)
		}
		whole, err := s.inheritIn(ctx, tx, r)
		if err != nil {
			return err
		}
		if err := s.mayPutIn(ctx, tx, whole); err != nil {
			return err
		}
		n, err := countRoles(ctx, tx)
		if err != nil {
			return fmt.Errorf("count roles: %w", err)
		}
		if n >= maxRoles {
			return fault.New(fault.Precondition, "TOO_MANY_ROLES",
				"there are %d roles, the most there can be; remove one that is not needed first", n)
		}
		err = insertRole(ctx, tx, r)
		if errors.Is(err, database.ErrExists) {
			return fault.New(fault.Exists, "ROLE_EXISTS", "a role %q exists already; choose another name or update it", name)
		}
		if err != nil {
			return fmt.Errorf("create role %q: %w", name, err)
		}
		tx.Record(described(audit.New(ctx, audit.RoleCreate, audit.Success, "roles/"+name), r))
		tx.Changed(changes.Role, name)
		return nil
	})
	return r, revision, err
}

// Get reads a role from the database.
func (s *Service) Get(ctx context.Context, name string) (Role, error) {
	r, err := getRole(ctx, s.db, name)
	return r, roleError("read", name, err)
}

// List returns a page of roles by name, and the next page's token, empty on
// the last.
func (s *Service) List(ctx context.Context, size int32, token string) ([]Role, string, error) {
	return page.List(s.pages, "roles", size, token, func(after string, n int) ([]Role, error) {
		return listRoles(ctx, s.db, after, n)
	}, func(r Role) string { return r.Name })
}

// Update changes a role. The caller must hold the permissions that it has and,
// without an end, those that it gets: a role has none. Built-in roles are
// refused.
func (s *Service) Update(ctx context.Context, name string, edit Edit) (Role, int64, error) {
	if err := edit.check(); err != nil {
		return Role{}, 0, err
	}
	var r Role
	revision, err := s.log.Write(ctx, func(ctx context.Context, tx *changes.Tx) (err error) {
		if len(edit.Inherits) > 0 { // those who change what inherits what wait for each other
			if _, err := lockRole(ctx, tx, Administrator); err != nil && !errors.Is(err, database.ErrNoRows) {
				return fmt.Errorf("wait for other updates: %w", err)
			}
		}
		before, err := lockRole(ctx, tx, name)
		if err != nil {
			return roleError("update", name, err)
		}
		if before.Builtin {
			return builtin(name)
		}
		if err := s.checkPatterns(edit.Permissions, before.Permissions); err != nil {
			return err
		}
		if err := s.checkGrants(edit.Grants, before.Grants); err != nil {
			return err
		}
		r = edit.apply(before)
		had, err := giftsIn(ctx, tx, name)
		if err != nil {
			return err
		}
		if err := s.mayGiveIn(ctx, tx, had, s.clock.Micros(), sooner); err != nil {
			return err
		}
		has, err := s.inheritIn(ctx, tx, r)
		if err != nil {
			return err
		}
		if err := s.mayPutIn(ctx, tx, more(has, had)); err != nil {
			return err
		}
		event := changed(audit.New(ctx, audit.RoleUpdate, audit.Success, "roles/"+name), before, r)
		r.UpdatedAt = s.clock.Stored()
		if err := updateRole(ctx, tx, r); err != nil {
			return fmt.Errorf("update role %q: %w", name, err)
		}
		tx.Record(event)
		tx.Changed(changes.Role, name)
		return nil
	})
	return r, revision, err
}

// Delete removes a role and takes it from its members. The caller must hold its
// permissions; built-in roles are refused.
func (s *Service) Delete(ctx context.Context, name string) (int64, error) {
	return s.log.Write(ctx, func(ctx context.Context, tx *changes.Tx) error {
		r, err := lockRole(ctx, tx, name)
		if err != nil {
			return roleError("delete", name, err)
		}
		if r.Builtin {
			return builtin(name)
		}
		if err := mayGoIn(ctx, tx, name); err != nil {
			return err
		}
		given, err := giftsIn(ctx, tx, name)
		if err != nil {
			return err
		}
		if err := s.mayGiveIn(ctx, tx, given, s.clock.Micros(), sooner); err != nil {
			return err
		}
		if err := s.mayRemoveNameIn(ctx, tx); err != nil {
			return err
		}
		if err := deleteRole(ctx, tx, name); err != nil {
			return fmt.Errorf("delete role %q: %w", name, err)
		}
		tx.Record(described(audit.New(ctx, audit.RoleDelete, audit.Success, "roles/"+name), r))
		tx.Changed(changes.Role, name)
		// Otherwise a cached membership would count for a new role of the
		// same name.
		tx.Changed(changes.Membership, "")
		return nil
	})
}

// Assign gives a role to a user until expires, or for good when that is zero;
// a user who holds it already gets the new end. The caller must hold the
// role's permissions for as long.
func (s *Service) Assign(ctx context.Context, role, userID string, expires time.Time) (Member, int64, error) {
	var member Member
	revision, err := s.log.Write(ctx, func(ctx context.Context, tx *changes.Tx) (err error) {
		member, err = s.AssignIn(ctx, tx, role, userID, expires)
		return err
	})
	return member, revision, err
}

// AssignIn is Assign inside the transaction that makes the user, so that there
// is never one without the other.
func (s *Service) AssignIn(ctx context.Context, tx *changes.Tx, role, userID string, expires time.Time) (Member, error) {
	end := database.Micros(expires)
	if end != nil && *end <= s.clock.Micros() {
		return Member{}, fault.Field("expiresAt", "must be in the future; leave it out for no end")
	}
	if _, err := lockRole(ctx, tx, role); err != nil {
		return Member{}, roleError("assign", role, err)
	}
	given, err := giftsIn(ctx, tx, role)
	if err != nil {
		return Member{}, err
	}
	if err := s.mayGiveIn(ctx, tx, given, endOf(expires), sooner); err != nil {
		return Member{}, err
	}
	if role == Administrator && end != nil {
		if err := s.EnsureAdministratorRemains(ctx, tx, userID); err != nil {
			return Member{}, err
		}
	}
	username, err := lockUser(ctx, tx, userID)
	if errors.Is(err, database.ErrNoRows) {
		return Member{}, fault.New(fault.NotFound, "USER_NOT_FOUND", "there is no user with the id %q", userID)
	}
	if err != nil {
		return Member{}, fmt.Errorf("assign role %q to user %q: %w", role, userID, err)
	}
	if err := s.mayAlterIn(ctx, tx, userID, aboutRoles); err != nil {
		return Member{}, err
	}
	now := s.clock.Micros()
	others, err := deleteEndedMembers(ctx, tx, userID, role, now)
	if err != nil {
		return Member{}, fmt.Errorf("count the roles of user %q: %w", userID, err)
	}
	if others >= maxOfAUser {
		return Member{}, fault.New(fault.Precondition, "TOO_MANY_ROLES_OF_USER",
			"user %q holds %d roles, the most there can be; take one away first", userID, others)
	}
	assigned, err := upsertMember(ctx, tx, role, userID, now, end)
	if err != nil {
		return Member{}, fmt.Errorf("assign role %q to user %q: %w", role, userID, err)
	}
	event := audit.New(ctx, audit.RoleAssign, audit.Success, "roles/"+role).
		With("user_id", userID).With("username", username)
	if end != nil {
		event = event.With("expires_at", micros(*end))
	}
	tx.Record(event)
	tx.Changed(changes.Membership, userID)
	return memberRow{Role: role, UserID: userID, Username: username, AssignedAt: assigned, ExpiresAt: end}.member()
}

// Unassign takes a role from a user. The caller must hold the role's
// permissions; the last administrator keeps theirs.
func (s *Service) Unassign(ctx context.Context, role, userID string) (int64, error) {
	return s.log.Write(ctx, func(ctx context.Context, tx *changes.Tx) error {
		if _, err := lockRole(ctx, tx, role); err != nil {
			return roleError("unassign", role, err)
		}
		given, err := giftsIn(ctx, tx, role)
		if err != nil {
			return err
		}
		if err := s.mayGiveIn(ctx, tx, given, s.clock.Micros(), sooner); err != nil {
			return err
		}
		if role == Administrator {
			if err := s.EnsureAdministratorRemains(ctx, tx, userID); err != nil {
				return err
			}
		}
		if err := s.mayAlterIn(ctx, tx, userID, aboutRoles); err != nil {
			return err
		}
		held, err := deleteMember(ctx, tx, role, userID, s.clock.Micros())
		if err != nil {
			return fmt.Errorf("unassign role %q from user %q: %w", role, userID, err)
		}
		if !held {
			return fault.New(fault.NotFound, "ROLE_NOT_ASSIGNED", "there is no user with the id %q who holds the role %q", userID, role)
		}
		tx.Record(audit.New(ctx, audit.RoleUnassign, audit.Success, "roles/"+role).With("user_id", userID))
		tx.Changed(changes.Membership, userID)
		return nil
	})
}

// EnsureAdministratorRemains is to be called in the transaction that removes or
// disables a user or ends their administrator role, before it touches the
// user. It is a Precondition fault, LAST_ADMINISTRATOR, when the user is an
// administrator without an end and no other is a person who can sign in: a
// service account cannot sign in, nor can a person without a password or who
// is disabled. Concurrent callers wait for each other's transactions, so that
// two cannot each count on the other.
func (s *Service) EnsureAdministratorRemains(ctx context.Context, tx *changes.Tx, leaving string) error {
	last, err := lockAdministrators(ctx, tx, leaving)
	if err != nil {
		return fmt.Errorf("count the administrators besides user %q: %w", leaving, err)
	}
	if last {
		return fault.New(fault.Precondition, "LAST_ADMINISTRATOR",
			"this is the last administrator who can sign in; give the role %q, without an end, to another person with a password first", Administrator)
	}
	return nil
}

// Members returns a page of the users who hold a role now, by user id, and the
// next page's token, empty on the last.
func (s *Service) Members(ctx context.Context, role string, size int32, token string) ([]Member, string, error) {
	if _, err := s.Get(ctx, role); err != nil {
		return nil, "", err
	}
	return page.List(s.pages, "members of role "+role, size, token, func(after string, n int) ([]Member, error) {
		return listMembers(ctx, s.db, role, after, s.clock.Micros(), n)
	}, func(m Member) string { return m.UserID })
}

// validDescription refuses what PostgreSQL cannot store.
func validDescription(text string) error {
	if strings.ContainsRune(text, 0) {
		return fault.Field("description", "must not hold a NUL character")
	}
	return nil
}

// roleError wraps the store's error about one role; no rows are ROLE_NOT_FOUND.
func roleError(verb, name string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, database.ErrNoRows):
		return fault.New(fault.NotFound, "ROLE_NOT_FOUND", "there is no role %q", name)
	default:
		return fmt.Errorf("%s role %q: %w", verb, name, err)
	}
}

func builtin(name string) error {
	return fault.New(fault.Precondition, "BUILTIN_ROLE",
		"role %q is built in and cannot be changed; create a role of your own instead", name)
}
