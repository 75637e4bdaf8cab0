// Package authority decides what a caller may do to users and their API keys.
//
// Its checks read the truth through the queries they are given. What is refused
// early, to save work, is asked again in the transaction that acts, with the
// user's row locked.
package authority

import (
	"context"
	"errors"
	"time"

	"github.com/tollgatehq/tollgate/internal/perm"
	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/clock"
	"github.com/tollgatehq/tollgate/server/internal/database"
	"github.com/tollgatehq/tollgate/server/internal/fault"
	"github.com/tollgatehq/tollgate/server/internal/roles"
)

// Authority is safe for concurrent use.
type Authority struct {
	roles *roles.Service
	clock clock.Clock
}

// New makes an Authority.
func New(r *roles.Service, clk clock.Clock) *Authority { return &Authority{roles: r, clock: clk} }

// IsSelf says whether the caller is this user in person. An API key is not:
// its rights are its scopes.
func IsSelf(ctx context.Context, userID string) bool {
	p := caller.From(ctx).Principal
	return p != nil && p.UserID == userID && p.APIKeyID == ""
}

// ActsAs says whether the caller is this user in person or an API key of
// theirs.
func ActsAs(ctx context.Context, userID string) bool {
	return userID != "" && caller.From(ctx).UserID() == userID
}

// MayManage refuses to act on a user who holds more than the caller: a caller
// who could rename, disable or sign out an administrator would be one.
func (a *Authority) MayManage(ctx context.Context, q database.Queries, userID string) error {
	if IsSelf(ctx, userID) {
		return nil
	}
	return a.roles.MayActAs(ctx, q, userID, a.clock.Now())
}

// MayBecome refuses to open a way to sign in as a user who holds more than the
// caller, or holds it for longer: it would outlast the caller's own rights.
func (a *Authority) MayBecome(ctx context.Context, q database.Queries, userID string) error {
	if IsSelf(ctx, userID) {
		return nil
	}
	return a.roles.MayActAs(ctx, q, userID, time.Time{})
}

// LockManaged locks a user whom the caller may manage.
func (a *Authority) LockManaged(ctx context.Context, q database.Queries, userID string) (User, error) {
	user, err := Lock(ctx, q, userID)
	if err != nil {
		return User{}, err
	}
	return user, a.MayManage(ctx, q, userID)
}

// MayCreateKey says whether the caller may hand out an API key with these
// scopes, of an owner who is locked, that works until a time; zero is never.
//
// The caller holds what the key may do for as long. A key without scopes grows
// with its owner, so no caller who is narrowed to scopes makes one, and only
// those who hold everything make one for another user. A key of another person
// acts as that person wherever services go by who calls, so it takes somebody
// who may reset the person's password.
func (a *Authority) MayCreateKey(ctx context.Context, q database.Queries, owner User, scopes []string, until time.Time) error {
	own := ActsAs(ctx, owner.ID)
	p := caller.From(ctx).Principal
	switch {
	case len(scopes) == 0 && p != nil && len(p.Scopes) > 0:
		return exceeds("the key that makes this call is narrowed to scopes; give the new key scopes within them")
	case len(scopes) == 0 && !own:
		if err := a.roles.MayGrantIn(ctx, q, []string{"*"}, until); fault.Is(err, fault.Denied) {
			return exceeds("a key for another user that grows with its owner takes an administrator, and ends when the administrator's role does; give the key scopes that you hold")
		} else if err != nil {
			return err
		}
	case own: // a key's rights are its owner's, conditions and denies included
		if err := a.roles.MayKeepIn(ctx, q, scopes, until); err != nil {
			return err
		}
	default:
		if err := a.roles.MayGrantIn(ctx, q, scopes, until); err != nil {
			return err
		}
	}
	if own || owner.Kind == caller.Service {
		return nil
	}
	if err := a.roles.MayGrantIn(ctx, q, []string{"tollgate:users:write"}, until); fault.Is(err, fault.Denied) {
		return exceeds("a key of another person acts as that person, so it takes tollgate:users:write until the key ends; make the key for a service account, or ask somebody who manages users")
	} else if err != nil {
		return err
	}
	return a.roles.MayActAs(ctx, q, owner.ID, until)
}

// MayRevokeKey says whether the caller may revoke an owner's key with these
// scopes: people their own, and callers who may manage its owner. A key revokes
// those of its owner that may do no more than it.
func (a *Authority) MayRevokeKey(ctx context.Context, q database.Queries, ownerID string, scopes []string) error {
	if !ActsAs(ctx, ownerID) {
		return a.MayManage(ctx, q, ownerID)
	}
	own := caller.From(ctx).Principal.Scopes
	if len(own) == 0 || len(scopes) > 0 && perm.Within(scopes, own) {
		return nil
	}
	return exceeds("the key may do more than the key that makes this call; sign in as its owner, or use a key that may do as much")
}

func exceeds(message string) error {
	return fault.New(fault.Denied, "GRANT_EXCEEDS_OWN", "%s", message)
}

// Standing refuses a caller whose session, API key or client's token was revoked,
// which this instance may not know yet: nothing that outlives a credential is made with a
// revoked one.
func Standing(ctx context.Context, q database.Queries) error {
	p := caller.From(ctx).Principal
	if p == nil {
		return nil // the system; no other caller gets here without one
	}
	live, err := true, error(nil)
	switch {
	case p.APIKeyID != "":
		live, err = isLiveKey(ctx, q, p.APIKeyID, p.TokenID)
	case p.SessionID != "":
		live, err = isLiveSession(ctx, q, p.SessionID)
	}
	if err != nil {
		return err
	}
	if !live {
		return fault.New(fault.Unauthenticated, "CREDENTIAL_REVOKED", "the session, key or token of this call has just been revoked; sign in again")
	}
	return nil
}

// User is what actions on a user depend on.
type User struct {
	ID         string      `db:"id"`
	Username   string      `db:"username"`
	Kind       caller.Kind `db:"kind"`
	DisabledAt *int64      `db:"disabled_at"`
}

// Lock keeps a user, and what the user holds, unchanged until the commit;
// UserUnknown when there is none.
func Lock(ctx context.Context, q database.Queries, id string) (User, error) {
	user, err := lockUser(ctx, q, id)
	if errors.Is(err, database.ErrNoRows) {
		return User{}, UserUnknown()
	}
	return user, err
}

// UserUnknown is the error for a user id that there is not.
func UserUnknown() error {
	return fault.New(fault.NotFound, "USER_NOT_FOUND", "there is no user with this id; list the users to find it")
}
