// Package auth answers "who is this": it keeps users, their passwords and
// sessions, issues tokens and API keys, and verifies what callers present.
package auth

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/tollgatehq/tollgate/server/internal/attributes"
	"github.com/tollgatehq/tollgate/server/internal/audit"
	"github.com/tollgatehq/tollgate/server/internal/auth/authority"
	"github.com/tollgatehq/tollgate/server/internal/auth/password"
	"github.com/tollgatehq/tollgate/server/internal/auth/username"
	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/changes"
	"github.com/tollgatehq/tollgate/server/internal/database"
	"github.com/tollgatehq/tollgate/server/internal/fault"
	"github.com/tollgatehq/tollgate/server/internal/page"
)

const maxDisplayName = 256 // characters

// User is a person or a service account.
type User struct {
	ID                     string
	Username               string // unique, in canonical form
	DisplayName            string
	Kind                   caller.Kind
	Disabled               bool
	PasswordChangeRequired bool
	SecondFactor           bool // signing in takes one
	CreatedAt, UpdatedAt   time.Time
	Roles                  []string // names of the roles in force now, sorted
	Audience               string   // for a service: that of the access tokens it accepts; empty: the server's own
	Attributes             map[string]any
}

// NewUser describes a user to create.
type NewUser struct {
	Username    string
	Password    string // empty: cannot sign in; always so for a service
	DisplayName string
	Kind        caller.Kind // empty: a person
	Roles       []string    // names of the roles to begin with, for good
	Audience    string      // for a service only: see User

	PasswordChangeRequired bool // until they change it, the password is good for nothing else
}

// identity is what verifying needs to know about a user. The zero identity
// stands for a user who does not exist. It is comparable.
type identity struct {
	Username               string
	Kind                   caller.Kind
	Disabled               bool
	PasswordChangeRequired bool
	Audience               string
	attributes             *attributes.Kept
}

// CreateUser adds a person or a service account with its first roles, all or
// nothing. Its name must not be taken: USER_EXISTS. The caller must hold what
// the roles grant, and tollgate:roles:write to give any: GRANT_EXCEEDS_OWN.
func (s *Service) CreateUser(ctx context.Context, n NewUser) (User, int64, error) {
	name, err := username.Canonical(n.Username)
	if err != nil {
		return User{}, 0, err
	}
	if err := username.CheckNew(name); err != nil {
		return User{}, 0, err
	}
	if err := checkDisplayName(n.DisplayName); err != nil {
		return User{}, 0, err
	}
	switch n.Kind {
	case "":
		n.Kind = caller.Person
	case caller.Person:
	case caller.Service:
		if n.Password != "" {
			return User{}, 0, fault.Field("password", "must be empty for a service account; create an API key for it")
		}
	default:
		return User{}, 0, fault.Field("kind", "must be person or service")
	}
	if n.Audience, err = s.audience(n.Audience); err != nil {
		return User{}, 0, err
	}
	if n.Audience != "" && n.Kind != caller.Service {
		return User{}, 0, audienceOfPerson()
	}
	if n.PasswordChangeRequired && n.Password == "" {
		return User{}, 0, fault.Field("passwordChangeRequired", "is for a password to change: give one, or leave it out")
	}
	hash := ""
	if n.Password != "" {
		if err := password.Check("password", name, n.Password); err != nil {
			return User{}, 0, err
		}
		if hash, err = s.Passwords.Hash(ctx, n.Password); err != nil {
			return User{}, 0, fmt.Errorf("create user %q: %w", name, err)
		}
	}
	now := s.clock.Micros()
	row := userRow{
		ID: s.clock.NewID(), Username: name, DisplayName: n.DisplayName, Kind: n.Kind,
		PasswordHash: hash, PasswordChangeRequired: n.PasswordChangeRequired, CreatedAt: now, UpdatedAt: now,
		Audience: n.Audience,
	}
	// In one order, so that two who give the same roles do not wait for each other.
	first := slices.Compact(slices.Sorted(slices.Values(n.Roles)))
	revision, err := s.log.Write(ctx, func(ctx context.Context, tx *changes.Tx) error {
		if err := insertUser(ctx, tx, row); err != nil {
			return err
		}
		tx.Changed(changes.User, row.ID)
		tx.Record(withAudience(audit.New(ctx, audit.UserCreate, audit.Success, "users/"+row.ID).
			With("username", name).With("kind", string(n.Kind)), row.Audience))
		if len(first) > 0 { // as AssignRole asks
			if err := s.roles.MayGrantIn(ctx, tx, []string{"tollgate:roles:write"}, s.clock.Now()); err != nil {
				return err
			}
		}
		for _, role := range first {
			if _, err := s.roles.AssignIn(ctx, tx, role, row.ID, time.Time{}); err != nil {
				return err
			}
		}
		return nil
	})
	if errors.Is(err, database.ErrExists) {
		return User{}, 0, userExists(name)
	}
	if err != nil {
		return User{}, 0, fmt.Errorf("create user %q: %w", name, err)
	}
	user, err := s.withRoles(ctx, row)
	return user, revision, err
}

// GetUser returns a user with the roles in force now.
func (s *Service) GetUser(ctx context.Context, id string) (User, error) {
	row, err := getUser(ctx, s.db, id)
	if errors.Is(err, database.ErrNoRows) {
		return User{}, authority.UserUnknown()
	}
	if err != nil {
		return User{}, fmt.Errorf("read user %s: %w", id, err)
	}
	return s.withRoles(ctx, row)
}

// FindUser returns the user of a name, in whatever form it is written.
func (s *Service) FindUser(ctx context.Context, text string) (User, error) {
	name, err := username.Canonical(text)
	if err != nil {
		return User{}, err
	}
	row, err := getUserByName(ctx, s.db, name)
	if errors.Is(err, database.ErrNoRows) {
		return User{}, fault.New(fault.NotFound, "USER_NOT_FOUND", "there is no user %q", name)
	}
	if err != nil {
		return User{}, fmt.Errorf("read user %q: %w", name, err)
	}
	return s.withRoles(ctx, row)
}

// ResolveUser finds the id and the name of the user of an id or a name, in any
// form of the name; found is false when there is none.
func (s *Service) ResolveUser(ctx context.Context, q database.Queries, idOrName string) (id, name string, found bool, err error) {
	find := getUser
	if !username.IsID(idOrName) { // no name has the form of an id
		if idOrName, err = username.Canonical(idOrName); err != nil {
			return "", "", false, nil //nolint:nilerr // no user has what is no name
		}
		find = getUserByName
	}
	row, err := find(ctx, q, idOrName)
	if errors.Is(err, database.ErrNoRows) {
		return "", "", false, nil
	}
	return row.ID, row.Username, err == nil, err
}

func (s *Service) withRoles(ctx context.Context, row userRow) (User, error) {
	user := row.user()
	var err error
	if user.Roles, err = s.roles.RolesOf(ctx, user.ID); err != nil {
		return User{}, fmt.Errorf("read the roles of user %s: %w", user.ID, err)
	}
	return user, nil
}

// UserFilter says which users to list. Its zero fields let everybody through.
type UserFilter struct {
	Username string // the one of this name
	Prefix   string // those whose names start with it, in the order of their names
	Disabled *bool
}

// ListUsers returns users with their roles in the order of their creation, or
// as the filter says.
func (s *Service) ListUsers(ctx context.Context, f UserFilter, size int32, token string) ([]User, string, error) {
	var err error
	switch {
	case f.Username != "" && f.Prefix != "":
		return nil, "", fault.Field("usernamePrefix", "cannot be combined with username; give one of them")
	case f.Username != "":
		f.Username, err = username.Canonical(f.Username)
	case f.Prefix != "":
		if f.Prefix, err = username.Canonical(f.Prefix); err != nil {
			err = fault.Field("usernamePrefix", "no user name starts so: names are lower case, without spaces or invisible characters")
		}
	}
	if err != nil {
		return nil, "", err
	}
	list := fmt.Sprintf("users %q %q", f.Username, f.Prefix)
	if f.Disabled != nil {
		list += strconv.FormatBool(*f.Disabled)
	}
	rows, next, err := page.List(s.pages, list, size, token,
		func(after cursor, n int) ([]userRow, error) { return listUsers(ctx, s.db, f, after.ID, n) },
		func(row userRow) cursor {
			if f.Prefix != "" {
				return cursor{row.Username}
			}
			return cursor{row.ID}
		})
	if err != nil {
		return nil, "", err
	}
	users := make([]User, len(rows))
	for i, row := range rows {
		if users[i], err = s.withRoles(ctx, row); err != nil {
			return nil, "", err
		}
	}
	return users, next, nil
}

// DeleteUser removes a user with their sessions, API keys and roles. The last
// administrator stays, and so do users who hold more than the caller.
func (s *Service) DeleteUser(ctx context.Context, id string) (int64, error) {
	revision, err := s.log.Write(ctx, func(ctx context.Context, tx *changes.Tx) error {
		last := s.roles.EnsureAdministratorRemains(ctx, tx, id)
		user, err := s.authority.LockManaged(ctx, tx, id) // from here on the user cannot sign in
		if err != nil {
			return err
		}
		if last != nil {
			return last
		}
		if _, err := s.revokeSessions(ctx, tx, id, "", revokedByDelete); err != nil {
			return err
		}
		if err := deleteUser(ctx, tx, id); err != nil {
			return err
		}
		tx.Changed(changes.User, id)
		tx.Changed(changes.Membership, id)
		tx.Record(audit.New(ctx, audit.UserDelete, audit.Success, "users/"+id).With("username", user.Username))
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("delete user %s: %w", id, err)
	}
	return revision, nil
}

func checkDisplayName(name string) error {
	switch {
	case !utf8.ValidString(name):
		return fault.Field("displayName", "must be UTF-8")
	case utf8.RuneCountInString(name) > maxDisplayName:
		return fault.Field("displayName", "must have at most %d characters", maxDisplayName)
	case strings.ContainsFunc(name, unicode.IsControl):
		return fault.Field("displayName", "must not contain control characters")
	}
	return nil
}

func userExists(name string) error {
	return fault.New(fault.Exists, "USER_EXISTS", "the user name %q is taken; choose another", name)
}
