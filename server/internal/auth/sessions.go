package auth

import (
	"context"
	"fmt"
	"strconv"

	"github.com/tollgatehq/tollgate/server/internal/audit"
	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/changes"
	"github.com/tollgatehq/tollgate/server/internal/fault"
	"github.com/tollgatehq/tollgate/server/internal/page"
)

// Logout ends the caller's session, or all sessions of the caller, and returns
// how many it ended. A caller without a session, such as an API key, has
// nothing to end: NOT_A_SESSION.
func (s *Service) Logout(ctx context.Context, everywhere bool) (count int, revision int64, err error) {
	p := caller.From(ctx).Principal
	switch {
	case p == nil:
		return 0, 0, nobody()
	case p.SessionID == "":
		return 0, 0, fault.New(fault.Precondition, "NOT_A_SESSION",
			"this credential does not belong to a session; revoke an API key to end it")
	}
	revision, err = s.log.Write(ctx, func(ctx context.Context, tx *changes.Tx) error {
		count = 0
		event := audit.New(ctx, audit.Logout, audit.Success, "sessions/"+p.SessionID)
		if everywhere {
			if count, err = s.endAll(ctx, tx, p.UserID, endedByLogout); err != nil {
				return err
			}
			tx.Record(event.With("everywhere", "true").With("sessions", strconv.Itoa(count)))
			return nil
		}
		_, ended, err := endSession(ctx, tx, p.SessionID, endedByLogout, s.clock.Micros())
		if err != nil || !ended {
			return err
		}
		count = 1
		tx.Changed(changes.Session, p.SessionID)
		tx.Record(event)
		return nil
	})
	if err != nil {
		return 0, 0, fmt.Errorf("log out: %w", err)
	}
	if count == 0 {
		revision, err = s.present(ctx)
	}
	return count, revision, err
}

// ListSessions returns a user's live sessions, newest first.
func (s *Service) ListSessions(ctx context.Context, userID string, size int32, token string) ([]Session, string, error) {
	var from listPlace
	list := "sessions of " + userID
	if _, err := s.pages.Read(token, list, &from); err != nil {
		return nil, "", err
	}
	who, err := s.identity(ctx, userID)
	if err != nil {
		return nil, "", fmt.Errorf("read user %s: %w", userID, err)
	}
	if who == (identity{}) {
		return nil, "", userUnknown()
	}
	n := page.Size(size)
	rows, err := listSessions(ctx, s.db, userID, from.ID, s.clock.Micros(), n+1)
	if err != nil {
		return nil, "", err
	}
	next := ""
	if len(rows) > n {
		rows = rows[:n]
		next = s.pages.Make(list, listPlace{rows[n-1].ID})
	}
	sessions := make([]Session, len(rows))
	for i, row := range rows {
		sessions[i] = row.session()
	}
	return sessions, next, nil
}

// listPlace is where a list was left off.
type listPlace struct {
	ID string `json:"id"`
}

// RevokeSession ends one session of a user and its access tokens. Ending an
// ended session changes nothing.
func (s *Service) RevokeSession(ctx context.Context, userID, sessionID string) (int64, error) {
	var ended bool
	revision, err := s.log.Write(ctx, func(ctx context.Context, tx *changes.Tx) (err error) {
		if _, err := s.lockManaged(ctx, tx, userID); err != nil {
			return err
		}
		ended, err = endSessionOf(ctx, tx, userID, sessionID, endedByRequest, s.clock.Micros())
		if err != nil {
			return err
		}
		if ended {
			tx.Changed(changes.Session, sessionID)
			tx.Record(audit.New(ctx, audit.SessionRevoke, audit.Success, "sessions/"+sessionID).With("user_id", userID))
			return nil
		}
		exists, err := sessionExists(ctx, tx, userID, sessionID)
		if err != nil {
			return err
		}
		if !exists {
			return sessionUnknown()
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("revoke session %s: %w", sessionID, err)
	}
	if !ended {
		return s.present(ctx)
	}
	return revision, nil
}

// present is the revision to answer with when somebody else has made the
// change already, perhaps on an instance that this one lags behind.
func (s *Service) present(ctx context.Context) (int64, error) {
	if err := s.log.Sync(ctx); err != nil {
		return 0, fault.Down("the database", err)
	}
	return s.log.Revision(), nil
}

// RevokeSessions ends every session of a user and returns how many were live.
func (s *Service) RevokeSessions(ctx context.Context, userID string) (count int, revision int64, err error) {
	revision, err = s.log.Write(ctx, func(ctx context.Context, tx *changes.Tx) error {
		if _, err := s.lockManaged(ctx, tx, userID); err != nil {
			return err
		}
		if count, err = s.endAll(ctx, tx, userID, endedByRequest); err != nil {
			return err
		}
		tx.Record(audit.New(ctx, audit.SessionRevoke, audit.Success, "users/"+userID).With("sessions", strconv.Itoa(count)))
		return nil
	})
	if err != nil {
		return 0, 0, fmt.Errorf("revoke the sessions of user %s: %w", userID, err)
	}
	if count == 0 {
		revision, err = s.present(ctx)
	}
	return count, revision, err
}

// endAll ends all sessions of a user inside a transaction, tells every
// instance, and returns how many of them were live.
func (s *Service) endAll(ctx context.Context, tx *changes.Tx, userID, reason string) (int, error) {
	return s.endOthers(ctx, tx, userID, "", reason)
}

// endOthers is endAll but for the session to keep.
func (s *Service) endOthers(ctx context.Context, tx *changes.Tx, userID, keep, reason string) (int, error) {
	now := s.clock.Micros()
	rows, err := endSessions(ctx, tx, userID, keep, reason, now)
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
