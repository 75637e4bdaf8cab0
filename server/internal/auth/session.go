package auth

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/audit"
	"github.com/tollgatehq/tollgate/server/internal/auth/authority"
	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/changes"
	"github.com/tollgatehq/tollgate/server/internal/database"
	"github.com/tollgatehq/tollgate/server/internal/fault"
	"github.com/tollgatehq/tollgate/server/internal/page"
)

const (
	// maxSessions is how many live sessions a user may have; a new one beyond
	// that revokes the oldest.
	maxSessions = 100

	// keepSessions is how long ended sessions, and with them the knowledge of
	// their spent tokens, are kept.
	keepSessions = 30 * 24 * time.Hour
)

// Session is one sign-in on one device: a family of refresh tokens.
type Session struct {
	ID          string
	UserID      string
	CreatedAt   time.Time
	RefreshedAt time.Time
	ExpiresAt   time.Time // the earlier of its idle and its absolute end
	IP          string
	UserAgent   string
}

// Grant is what a sign-in or a refresh hands out.
type Grant struct {
	AccessToken  string
	RefreshToken string
	ExpiresIn    time.Duration // of the access token, whole seconds
	SessionID    string
	UserID       string

	// PasswordChangeRequired: the access token is good for SetPassword only.
	PasswordChangeRequired bool
}

// Why a session was revoked, as stored and audited.
const (
	revokedByLogout   = "logout"
	revokedByRequest  = "revoked"
	revokedByReuse    = "refresh_token_reused"
	revokedByPassword = "password_changed"
	revokedByDisable  = "user_disabled"
	revokedByDelete   = "user_deleted"
	revokedByNewer    = "too_many_sessions"
	revokedByFactor   = "second_factor_confirmed"
)

// Logout revokes the caller's session, or all sessions of the caller, and
// returns how many. A caller without a session, such as an API key, has nothing
// to revoke: NOT_A_SESSION.
func (s *Service) Logout(ctx context.Context, everywhere bool) (count int, revision int64, err error) {
	p := caller.From(ctx).Principal
	switch {
	case p == nil:
		return 0, 0, notSignedIn()
	case p.SessionID == "":
		return 0, 0, fault.New(fault.Precondition, "NOT_A_SESSION",
			"this credential does not belong to a session; revoke an API key to end it")
	}
	revision, err = s.log.Write(ctx, func(ctx context.Context, tx *changes.Tx) (err error) {
		event := audit.New(ctx, audit.Logout, audit.Success, "sessions/"+p.SessionID)
		if everywhere {
			if count, err = s.revokeSessions(ctx, tx, p.UserID, "", revokedByLogout); err != nil {
				return err
			}
			tx.Record(event.With("everywhere", "true").With("sessions", strconv.Itoa(count)))
			return nil
		}
		count = 0
		_, revoked, err := s.revokeSession(ctx, tx, p.UserID, p.SessionID, revokedByLogout)
		if err != nil || !revoked {
			return err
		}
		count = 1
		tx.Record(event)
		return nil
	})
	if err != nil {
		return 0, 0, fmt.Errorf("log out: %w", err)
	}
	if count == 0 {
		revision, err = s.log.Current(ctx)
	}
	return count, revision, err
}

// cursor is a position in a list that is in the order of ids.
type cursor struct {
	ID string `json:"id"`
}

// ListSessions returns a user's live sessions, newest first.
func (s *Service) ListSessions(ctx context.Context, userID string, size int32, token string) ([]Session, string, error) {
	rows, next, err := page.List(s.pages, "sessions of "+userID, size, token, func(after cursor, n int) ([]sessionRow, error) {
		who, err := s.identity(ctx, userID)
		if err != nil {
			return nil, err
		}
		if who == (identity{}) {
			return nil, authority.UserUnknown()
		}
		return listSessions(ctx, s.db, userID, after.ID, s.clock.Micros(), n)
	}, func(row sessionRow) cursor { return cursor{row.ID} })
	if err != nil {
		return nil, "", err
	}
	sessions := make([]Session, len(rows))
	for i, row := range rows {
		sessions[i] = row.session()
	}
	return sessions, next, nil
}

// RevokeSession ends one session of a user and its access tokens. Revoking an
// ended session changes nothing.
func (s *Service) RevokeSession(ctx context.Context, userID, sessionID string) (int64, error) {
	var revoked bool
	revision, err := s.log.Write(ctx, func(ctx context.Context, tx *changes.Tx) (err error) {
		if _, err := s.authority.LockManaged(ctx, tx, userID); err != nil {
			return err
		}
		if _, revoked, err = s.revokeSession(ctx, tx, userID, sessionID, revokedByRequest); err != nil {
			return err
		}
		if revoked {
			tx.Record(audit.New(ctx, audit.SessionRevoke, audit.Success, "sessions/"+sessionID).With("user_id", userID))
			return nil
		}
		n, err := countSessions(ctx, tx, userID, sessionID)
		if err == nil && n == 0 {
			err = fault.New(fault.NotFound, "SESSION_NOT_FOUND", "the user has no session with this id; list the sessions to find it")
		}
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("revoke session %s: %w", sessionID, err)
	}
	if !revoked {
		return s.log.Current(ctx)
	}
	return revision, nil
}

// RevokeSessions ends every session of a user and returns how many were live.
func (s *Service) RevokeSessions(ctx context.Context, userID string) (count int, revision int64, err error) {
	revision, err = s.log.Write(ctx, func(ctx context.Context, tx *changes.Tx) (err error) {
		if _, err := s.authority.LockManaged(ctx, tx, userID); err != nil {
			return err
		}
		if count, err = s.revokeSessions(ctx, tx, userID, "", revokedByRequest); err != nil {
			return err
		}
		tx.Record(audit.New(ctx, audit.SessionRevoke, audit.Success, "users/"+userID).With("sessions", strconv.Itoa(count)))
		return nil
	})
	if err != nil {
		return 0, 0, fmt.Errorf("revoke the sessions of user %s: %w", userID, err)
	}
	if count == 0 {
		revision, err = s.log.Current(ctx)
	}
	return count, revision, err
}

// revokeSession revokes a session, of one user unless userID is empty, and says
// whose it is; not revoked when that was done before or there is none.
func (s *Service) revokeSession(ctx context.Context, tx *changes.Tx, userID, id, reason string) (owner string, revoked bool, err error) {
	owner, err = updateRevoked(ctx, tx, userID, id, reason, s.clock.Micros())
	if errors.Is(err, database.ErrNoRows) {
		return "", false, nil
	}
	if err != nil {
		return "", false, err
	}
	tx.Changed(changes.Session, id)
	return owner, true, nil
}

// revokeSessions revokes all sessions of a user but the one to keep, if any,
// and returns how many of them were live.
func (s *Service) revokeSessions(ctx context.Context, tx *changes.Tx, userID, keep, reason string) (int, error) {
	now := s.clock.Micros()
	rows, err := updateOthersRevoked(ctx, tx, userID, keep, reason, now)
	if err != nil {
		return 0, err
	}
	live := 0
	for _, row := range rows {
		tx.Changed(changes.Session, row.ID)
		if row.IdleExpiresAt > now {
			live++
		}
	}
	return live, nil
}
