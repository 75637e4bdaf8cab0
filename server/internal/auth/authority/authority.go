package auth

import (
	"context"
	"errors"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/changes"
	"github.com/tollgatehq/tollgate/server/internal/database"
	"github.com/tollgatehq/tollgate/server/internal/fault"
	"github.com/tollgatehq/tollgate/server/internal/roles"
)

// What a caller may do to users and keys. These checks read the truth through
// q: what is refused early, to save work, is asked again in the transaction,
// with the row of the user in question locked.

// isSelf says whether the caller is this user in person. An API key is not:
// its rights are its scopes.
func isSelf(ctx context.Context, userID string) bool {
	p := caller.From(ctx).Principal
	return p != nil && p.UserID == userID && p.APIKeyID == ""
}

// actsAs says whether the caller is this user in person or an API key of
// theirs.
func actsAs(ctx context.Context, userID string) bool {
	return userID != "" && caller.From(ctx).UserID() == userID
}

// mayManage refuses to act on a user who holds more than the caller: whoever
// could rename, disable or sign out an administrator would be one.
func (s *Service) mayManage(ctx context.Context, q database.Queries, userID string) error {
	if isSelf(ctx, userID) {
		return nil
	}
	return s.roles.MayActAs(ctx, q, userID, s.clock.Now())
}

// mayBecome refuses to open a way to sign in as a user who holds more than the
// caller, or holds it for longer: it would outlast the caller's own rights.
func (s *Service) mayBecome(ctx context.Context, q database.Queries, userID string) error {
	if isSelf(ctx, userID) {
		return nil
	}
	return s.roles.MayActAs(ctx, q, userID, time.Time{})
}

// lockManaged locks a user whom the caller may manage, as the user is now.
func (s *Service) lockManaged(ctx context.Context, tx *changes.Tx, userID string) (userRow, error) {
	user, err := lockUser(ctx, tx, userID)
	if err != nil {
		return userRow{}, err
	}
	return user, s.mayManage(ctx, tx, userID)
}

// mayCreate says whether the caller may hand out a key, whose owner is locked,
// that works until a time; zero is never.
//
// The caller holds what the key may do for as long. A key without scopes grows
// with its owner, so no caller who is narrowed to scopes makes one, and only
// those who hold everything make one for somebody else. A key of another person
// acts as that person wherever services go by who calls, so it takes somebody
// who may reset the person's password.
func (s *Service) mayCreate(ctx context.Context, q database.Queries, key APIKey, owner caller.Kind, until time.Time) error {
	own := actsAs(ctx, key.UserID)
	p := caller.From(ctx).Principal
	switch {
	case len(key.Scopes) == 0 && p != nil && len(p.Scopes) > 0:
		return fault.New(fault.Denied, "GRANT_EXCEEDS_OWN",
			"the key that makes this call is narrowed to scopes; give the new key scopes within them")
	case len(key.Scopes) == 0 && !own:
		if err := s.roles.MayGrantIn(ctx, q, []string{"*"}, until); fault.Is(err, fault.Denied) {
			return fault.New(fault.Denied, "GRANT_EXCEEDS_OWN",
				"a key for somebody else that grows with its owner takes an administrator, and ends when the administrator's role does; give the key scopes that you hold")
		} else if err != nil {
			return err
		}
	default:
		if err := s.roles.MayGrantIn(ctx, q, key.Scopes, until); err != nil {
			return err
		}
	}
	if own || owner == caller.Service {
		return nil
	}
	if err := s.roles.MayGrantIn(ctx, q, []string{"tollgate:users:write"}, until); fault.Is(err, fault.Denied) {
		return fault.New(fault.Denied, "GRANT_EXCEEDS_OWN",
			"a key of another person acts as that person, so it takes tollgate:users:write until the key ends; make the key for a service account, or ask somebody who manages users")
	} else if err != nil {
		return err
	}
	return s.roles.MayActAs(ctx, q, key.UserID, until)
}

// mayEnd says whether the caller may end a key: people their own, and who may
// manage its owner. A key ends those of its owner that may do no more than it.
func (s *Service) mayEnd(ctx context.Context, q database.Queries, key APIKey) error {
	if !actsAs(ctx, key.UserID) {
		return s.mayManage(ctx, q, key.UserID)
	}
	own := caller.From(ctx).Principal.Scopes
	if len(own) == 0 || len(key.Scopes) > 0 && roles.Within(key.Scopes, own) {
		return nil
	}
	return fault.New(fault.Denied, "GRANT_EXCEEDS_OWN",
		"the key may do more than the key that makes this call; sign in as its owner, or use a key that may do as much")
}

// stands refuses a caller whose session or API key has ended in the meantime,
// which this instance may not have heard of yet: nothing that outlives a
// credential is made with one that has ended.
func (s *Service) stands(ctx context.Context, q database.Queries) error {
	p := caller.From(ctx).Principal
	if p == nil {
		return nil // the system; nobody else gets here without one
	}
	var ended bool
	var err error
	switch {
	case p.APIKeyID != "":
		ended, err = apiKeyRevoked(ctx, q, p.APIKeyID)
	case p.SessionID != "":
		ended, err = sessionEnded(ctx, q, p.SessionID)
	}
	if errors.Is(err, database.ErrNoRows) {
		ended, err = true, nil // gone with its owner
	}
	if err != nil {
		return err
	}
	if ended {
		return fault.New(fault.Unauthenticated, "CREDENTIAL_REVOKED", "the session or key of this call has just ended; sign in again")
	}
	return nil
}
