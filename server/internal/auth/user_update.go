package auth

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/tollgatehq/tollgate/server/internal/attributes"
	"github.com/tollgatehq/tollgate/server/internal/audit"
	"github.com/tollgatehq/tollgate/server/internal/auth/username"
	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/changes"
	"github.com/tollgatehq/tollgate/server/internal/database"
	"github.com/tollgatehq/tollgate/server/internal/fault"
)

// UserUpdate holds what to change of a user; nil leaves a field as it is.
type UserUpdate struct {
	Username    *string
	DisplayName *string
	Disabled    *bool
	Audience    *string // for a service only: see User
	Attributes  *map[string]any
}

// UpdateUser changes the fields that are set. Disabling revokes the user's
// sessions; the last administrator cannot be disabled. Users who hold more
// than the caller cannot be changed at all, and nobody changes attributes, also
// their own, that make true a condition of what they do not hold: GRANT_EXCEEDS_OWN.
func (s *Service) UpdateUser(ctx context.Context, id string, u UserUpdate) (User, int64, error) {
	if u == (UserUpdate{}) {
		return User{}, 0, fault.NothingToUpdate()
	}
	if u.Username != nil {
		name, err := username.Canonical(*u.Username)
		if err != nil {
			return User{}, 0, err
		}
		if err := username.CheckNew(name); err != nil {
			return User{}, 0, err
		}
		u.Username = &name
	}
	if u.DisplayName != nil {
		if err := checkDisplayName(*u.DisplayName); err != nil {
			return User{}, 0, err
		}
	}
	if u.Audience != nil {
		audience, err := s.audience(*u.Audience)
		if err != nil {
			return User{}, 0, err
		}
		u.Audience = &audience
	}
	var described *string // the attributes as stored
	if u.Attributes != nil {
		text, err := attributes.Encode("attributes", *u.Attributes)
		if err != nil {
			return User{}, 0, err
		}
		described = &text
	}
	disable := u.Disabled != nil && *u.Disabled
	var row userRow
	revision, err := s.log.Write(ctx, func(ctx context.Context, tx *changes.Tx) (err error) {
		var last error
		if disable { // which locks the role: roles come before users
			last = s.roles.EnsureAdministratorRemains(ctx, tx, id)
		}
		if _, err := s.authority.LockManaged(ctx, tx, id); err != nil {
			return err
		}
		if last != nil { // only for a caller who may manage the user
			return last
		}
		if u.Username != nil {
			if err := s.roles.MayRenameIn(ctx, tx, id); err != nil {
				return err
			}
		}
		if described != nil {
			if err := s.roles.MayDescribeIn(ctx, tx, id); err != nil {
				return err
			}
		}
		before, err := getUser(ctx, tx, id)
		if err != nil {
			return fmt.Errorf("read the user before: %w", err)
		}
		if row, err = updateUser(ctx, tx, id, u, described, s.clock.Micros()); err != nil {
			return err
		}
		if row.Audience != "" && row.Kind != caller.Service {
			return audienceOfPerson()
		}
		if disable {
			if _, err := s.revokeSessions(ctx, tx, id, "", revokedByDisable); err != nil {
				return err
			}
		}
		tx.Changed(changes.User, id)
		tx.Record(u.describe(audit.New(ctx, audit.UserUpdate, audit.Success, "users/"+id), before))
		return nil
	})
	if errors.Is(err, database.ErrExists) {
		return User{}, 0, userExists(*u.Username)
	}
	if err != nil {
		return User{}, 0, fmt.Errorf("update user %s: %w", id, err)
	}
	user, err := s.withRoles(ctx, row)
	return user, revision, err
}

// describe adds what is changed to the event, and what it was; of attributes only
// the names, for their values may be personal.
func (u UserUpdate) describe(e audit.Event, before userRow) audit.Event {
	if u.Username != nil {
		e = e.With("username", *u.Username).With("username_before", before.Username)
	}
	if u.DisplayName != nil {
		e = e.With("display_name", *u.DisplayName).With("display_name_before", before.DisplayName)
	}
	if u.Audience != nil {
		e = e.With("audience", *u.Audience).With("audience_before", before.Audience)
	}
	if u.Attributes != nil {
		e = e.With("attributes", attributes.Changed(before.attributes(), *u.Attributes))
	}
	if u.Disabled != nil {
		e = e.With("disabled", strconv.FormatBool(*u.Disabled)).With("disabled_before", strconv.FormatBool(before.DisabledAt != nil))
	}
	return e
}
